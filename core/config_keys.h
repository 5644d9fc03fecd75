// SPDX-License-Identifier: Apache-2.0
// Owns the declaration of settings: what a key is, and the one table of all of them.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>

namespace mempool {

enum class ConfigType : uint8_t {
  kString,
  kInteger,
  kBool,
  kList,   // of strings
  kSize,   // bytes, as an integer or as text like "3GiB"
  kTable,  // a section whose keys the user names, each a string
};

struct ConfigKey {
  // "section.key"; the section of a kTable; or "section.NAME.key" for tables that the user names.
  std::string_view name;
  ConfigType type = ConfigType::kString;
  std::string_view fallback;  // the value when nobody gives one, as a flag would say it
  std::string_view help;
  std::string_view choices;  // the strings allowed, as "a|b"; empty: any
  int64_t least = 0;         // bounds of an integer or a size
  int64_t most = std::numeric_limits<int64_t>::max();
  bool secret = false;  // never printed
};

/// Give every key, section by section.
std::span<const ConfigKey> config_keys();
/// Find the key that a dotted name sets ("peers.decode0" sets "peers"), or null.
const ConfigKey* find_config_key(std::string_view name);
/// Tell whether the tables of a key's section are named by the user.
bool is_named_table(const ConfigKey& key);
/// Give "section.key" or "section.NAME.key" with a user's name in its place.
std::string config_name(const ConfigKey& key, std::string_view name);
/// Tell whether any key lies in a section.
bool is_config_section(std::string_view section);
/// Give the known name that is nearest to an unknown one; empty when none is near.
std::string_view nearest_config_name(std::string_view name);

}  // namespace mempool
