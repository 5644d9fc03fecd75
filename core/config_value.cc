// SPDX-License-Identifier: Apache-2.0
// Owns the conversions of one setting's value.
#include "core/config_value.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "core/check.h"

namespace mempool {
namespace {

struct SizeUnit {
  std::string_view name;
  uint64_t bytes;
  bool printed;
};
constexpr SizeUnit kSizeUnits[] = {
    {"TiB", uint64_t{1} << 40, true},
    {"GiB", uint64_t{1} << 30, true},
    {"MiB", uint64_t{1} << 20, true},
    {"KiB", uint64_t{1} << 10, true},
    {"TB", 1'000'000'000'000, false},
    {"GB", 1'000'000'000, false},
    {"MB", 1'000'000, false},
    {"KB", 1'000, false},
    {"B", 1, false},
};

std::string_view type_words(ConfigType type) {
  switch (type) {
    case ConfigType::kString:
      return "a string";
    case ConfigType::kInteger:
      return "an integer";
    case ConfigType::kBool:
      return "true or false";
    case ConfigType::kList:
      return "a list of strings";
    case ConfigType::kSize:
      return "a size such as \"3GiB\"";
    case ConfigType::kTable:
      return "entries such as name = \"host:port\"";
  }
  MEMPOOL_CHECK(false);
}

ConfigList split(std::string_view text, char separator) {
  ConfigList parts;
  while (!text.empty()) {
    const size_t end = std::min(text.find(separator), text.size());
    if (end > 0) parts.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parts;
}

/// Write a string as TOML's basic string.
std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      out += fmt::format("\\u{:04X}", static_cast<unsigned>(c));
    } else {
      out += c;
    }
  }
  return out + '"';
}

bool is_bare_key(std::string_view name) {
  return std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
  });
}

}  // namespace

Result<uint64_t> parse_size(std::string_view text) {
  uint64_t count = 0;
  const char* const last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, count);
  const std::string_view unit(end, last - end);
  uint64_t scale = unit.empty() ? 1 : 0;
  for (const SizeUnit& known : kSizeUnits) {
    if (unit == known.name) scale = known.bytes;
  }
  if (error != std::errc() || scale == 0 || count > std::numeric_limits<int64_t>::max() / scale) {
    return invalid_argument(
        fmt::format("\"{}\" is no size; write one like \"3GiB\" or 4096", text));
  }
  return count * scale;
}

std::string print_size(uint64_t bytes) {
  for (const SizeUnit& unit : kSizeUnits) {
    if (unit.printed && bytes != 0 && bytes % unit.bytes == 0) {
      return fmt::format("{}{}", bytes / unit.bytes, unit.name);
    }
  }
  return fmt::format("{}", bytes);
}

Status wrong_config_type(const ConfigKey& key) {
  return invalid_argument(fmt::format("{} takes {}", key.name, type_words(key.type)));
}

Result<ConfigValue> parse_config_value(const ConfigKey& key, std::string_view text) {
  switch (key.type) {
    case ConfigType::kInteger: {
      int64_t number = 0;
      const char* const last = text.data() + text.size();
      const auto [end, error] = std::from_chars(text.data(), last, number);
      if (error != std::errc() || end != last) return wrong_config_type(key);
      return ConfigValue(number);
    }
    case ConfigType::kBool:
      if (text != "true" && text != "false") return wrong_config_type(key);
      return ConfigValue(text == "true");
    case ConfigType::kList:
      return ConfigValue(split(text, ','));
    case ConfigType::kSize: {
      const Result<uint64_t> bytes = parse_size(text);
      if (!bytes.ok()) return bytes.status().with_context(key.name);
      return ConfigValue(static_cast<int64_t>(*bytes));
    }
    case ConfigType::kString:
    case ConfigType::kTable:
      return ConfigValue(std::string(text));
  }
  MEMPOOL_CHECK(false);
}

Status check_config_value(const ConfigKey& key, const ConfigValue& value) {
  if (const auto* text = std::get_if<std::string>(&value); text && !key.choices.empty()) {
    const ConfigList choices = split(key.choices, '|');
    if (std::ranges::find(choices, *text) == choices.end()) {
      return invalid_argument(
          fmt::format("{} takes one of {}, not \"{}\"", key.name, key.choices, *text));
    }
  }
  if (const auto* number = std::get_if<int64_t>(&value)) {
    if (*number < key.least || *number > key.most) {
      return invalid_argument(fmt::format("{} takes a number from {} to {}, not {}", key.name,
                                          key.least, key.most, *number));
    }
  }
  return Status();
}

std::string print_config_value(const ConfigKey& key, const ConfigValue& value) {
  switch (key.type) {
    case ConfigType::kString:
    case ConfigType::kTable: {
      const auto& text = std::get<std::string>(value);
      return quoted(key.secret && !text.empty() ? "***" : text);
    }
    case ConfigType::kInteger:
      return fmt::format("{}", std::get<int64_t>(value));
    case ConfigType::kBool:
      return std::get<bool>(value) ? "true" : "false";
    case ConfigType::kSize:
      return quoted(print_size(std::get<int64_t>(value)));
    case ConfigType::kList: {
      std::string out;
      for (const std::string& part : std::get<ConfigList>(value)) {
        out += (out.empty() ? "" : ", ") + quoted(part);
      }
      return '[' + out + ']';
    }
  }
  MEMPOOL_CHECK(false);
}

std::string print_config_name(std::string_view name) {
  return is_bare_key(name) ? std::string(name) : quoted(name);
}

std::string print_config_entry(std::string_view name, std::string_view text) {
  return print_config_name(name) + " = " + quoted(text);
}

}  // namespace mempool
