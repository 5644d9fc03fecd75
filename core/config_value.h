// SPDX-License-Identifier: Apache-2.0
// Owns the value of one setting: reading it from text, checking its bounds, printing it as TOML.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/config_keys.h"
#include "mempool/status.h"

namespace mempool {

using ConfigList = std::vector<std::string>;
using ConfigTable = std::map<std::string, std::string>;
/// kString, kInteger and kSize, kBool, kList, kTable.
using ConfigValue = std::variant<std::string, int64_t, bool, ConfigList, ConfigTable>;

/// Read "3GiB", "64KB" or "4096". Errors: kInvalidArgument.
Result<uint64_t> parse_size(std::string_view text);
/// Give the shortest exact form that parse_size() reads back.
std::string print_size(uint64_t bytes);

/// Read a value as flags and the environment say it; a list is "a,b". Not for a kTable, whose
/// entries are strings. Errors: kInvalidArgument.
Result<ConfigValue> parse_config_value(const ConfigKey& key, std::string_view text);
/// Check a value of the key's type against its choices and bounds. Errors: kInvalidArgument.
Status check_config_value(const ConfigKey& key, const ConfigValue& value);
/// Give the error for a value of another type.
Status wrong_config_type(const ConfigKey& key);

/// Give the value as TOML on one line; a secret as "***". Not for a kTable.
std::string print_config_value(const ConfigKey& key, const ConfigValue& value);
/// Give a name as TOML's key, quoted where it must be.
std::string print_config_name(std::string_view name);
/// Give `name = "text"` as TOML.
std::string print_config_entry(std::string_view name, std::string_view text);

}  // namespace mempool
