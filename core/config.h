// SPDX-License-Identifier: Apache-2.0
// Owns the settings of a process: file < environment < flags, checked against one table of keys.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "mempool/status.h"

namespace mempool {

enum class ConfigType : uint8_t {
  kString,
  kInteger,
  kBool,
  kList,   // of strings
  kSize,   // bytes, as an integer or as text like "3GiB"
  kTable,  // a section whose keys the user names, each a string
};

/// One key as it is declared; core/config_keys.cc declares all of them.
struct ConfigKey {
  std::string_view name;  // "section.key", or the section of a kTable
  ConfigType type = ConfigType::kString;
  std::string_view fallback;  // the value when nobody gives one, as a flag would say it
  std::string_view help;
  std::string_view choices = {};  // the strings allowed, as "a|b"; empty: any
  int64_t least = 0;              // bounds of an integer
  int64_t most = std::numeric_limits<int64_t>::max();
  bool secret = false;  // print() hides it
};

/// Every key, in the order of print().
std::span<const ConfigKey> config_keys();
/// Find the key that a dotted name sets ("peers.decode0" sets "peers"), or null.
const ConfigKey* find_config_key(std::string_view name);
/// Give the known name that is nearest to an unknown one.
std::string_view nearest_config_name(std::string_view name);

/// Read "3GiB", "64KB" or "4096". Errors: kInvalidArgument.
Result<uint64_t> parse_size(std::string_view text);
/// Give the shortest exact form that parse_size() reads back.
std::string print_size(uint64_t bytes);

/// Where settings come from, the later over the earlier.
struct ConfigSources {
  std::string file;  // path of a TOML file; empty for none
  std::vector<std::string>
      environment;                 // "MEMPOOL_SECTION_KEY=value"; names of others are passed by
  std::vector<std::string> flags;  // "section.key=value"
};

/// Give the process's own environment in the form that ConfigSources takes.
std::vector<std::string> process_environment();

/// A complete set of settings: every declared key has a value of its type, within its bounds.
/// Thread: safe to read; has no setters.
class Config {
 public:
  /// Errors: kInvalidArgument naming the file and line, variable or flag, and the mend; kNotFound
  /// for a file that cannot be read.
  static Result<Config> load(const ConfigSources& sources);
  /// Read one TOML text over the defaults. `origin` stands for it in messages.
  static Result<Config> parse(std::string_view toml, std::string_view origin);

  // Requires of each: the key is declared, with that type.
  const std::string& get_string(std::string_view key) const;
  int64_t get_integer(std::string_view key) const;
  bool get_bool(std::string_view key) const;
  const std::vector<std::string>& get_list(std::string_view key) const;
  uint64_t get_size(std::string_view key) const;
  const std::map<std::string, std::string>& get_table(std::string_view section) const;

  /// Tell whether any source gave the key, be it the same value as the default.
  bool given(std::string_view key) const { return given_.contains(key); }
  /// Give every key with its help and effective value as TOML; secrets as "***".
  std::string print() const;

 private:
  using Table = std::map<std::string, std::string>;
  using Value = std::variant<std::string, int64_t, bool, std::vector<std::string>, Table>;

  Config();
  static Result<Value> value_from_text(const ConfigKey& key, std::string_view text);
  static std::string print_value(const ConfigKey& key, const Value& value);
  Status merge_file(const std::string& path);
  Status merge_toml(std::string_view toml, std::string_view origin);
  Status merge_text(std::string_view name, std::string_view text, std::string_view origin);
  Status set(std::string_view name, Value value, std::string_view origin);
  template <typename T>
  const T& get(std::string_view key, ConfigType type) const;

  std::map<std::string, Value, std::less<>> values_;
  std::set<std::string, std::less<>> given_;
};

}  // namespace mempool
