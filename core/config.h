// SPDX-License-Identifier: Apache-2.0
// Owns the settings of a process: file < environment < flags, checked against the table of keys.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/config_keys.h"
#include "core/config_value.h"
#include "mempool/status.h"

namespace mempool {

/// Where settings come from, the later over the earlier.
struct ConfigSources {
  std::string file;                      // path of a TOML file; empty for none
  std::vector<std::string> environment;  // "MEMPOOL_SECTION_KEY=value" among any others
  std::vector<std::string> flags;        // "section.key=value"
};

/// Give the process's own environment in the form that ConfigSources takes.
std::vector<std::string> process_environment();

/// A complete set of settings: every declared key has a value of its type, within its bounds.
/// Thread: safe to read; has no setters.
class Config {
 public:
  /// Errors: kNotFound for a file that cannot be read; kInvalidArgument, naming the file and line,
  /// the variable or the flag, for a key nobody knows and a value its key does not take.
  static Result<Config> load(const ConfigSources& sources);
  /// Read one TOML text over the defaults; `origin` stands for it in messages.
  static Result<Config> parse(std::string_view toml, std::string_view origin);

  // Requires of each: the key is declared, with that type.
  const std::string& get_string(std::string_view key) const;
  int64_t get_integer(std::string_view key) const;
  bool get_bool(std::string_view key) const;
  const ConfigList& get_list(std::string_view key) const;
  uint64_t get_size(std::string_view key) const;
  const ConfigTable& get_table(std::string_view section) const;
  /// The names that the user gave tables of a section; each has every key of "section.NAME.key".
  const std::set<std::string>& names(std::string_view section) const;

  /// Tell whether any source gave the key, even where it gave the default.
  bool given(std::string_view key) const { return given_.contains(key); }
  /// Give every key with its help and effective value as TOML; secrets as "***".
  std::string print() const;

 private:
  Config();
  Status merge_file(const std::string& path);
  Status merge_toml(std::string_view toml, std::string_view origin);
  Status merge_environment(const std::vector<std::string>& environment);
  Status merge_flags(const std::vector<std::string>& flags);
  /// Set a key from the text of a flag or variable.
  Status merge_text(std::string_view name, std::string_view text);
  Status set(std::string_view name, const ConfigKey& key, ConfigValue value);
  /// Make a table of a section that the user names, with the defaults.
  void add_name(std::string_view section, std::string_view name);
  std::string print_named(std::string_view section) const;

  std::map<std::string, ConfigValue, std::less<>> values_;
  std::map<std::string, std::set<std::string>, std::less<>> names_;  // by section
  std::set<std::string, std::less<>> given_;
};

}  // namespace mempool
