// SPDX-License-Identifier: Apache-2.0
// Owns how settings are read, checked, merged and printed.
#include "core/config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <fstream>
#include <sstream>

#include "core/check.h"

#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>

namespace mempool {
namespace {

constexpr size_t kFileBytesMost = 1 << 20;

struct SizeUnit {
  std::string_view name;
  uint64_t bytes;
};
constexpr SizeUnit kSizeUnits[] = {
    {"TiB", uint64_t{1} << 40},
    {"GiB", uint64_t{1} << 30},
    {"MiB", uint64_t{1} << 20},
    {"KiB", uint64_t{1} << 10},
    {"TB", 1000000000000},
    {"GB", 1000000000},
    {"MB", 1000000},
    {"KB", 1000},
    {"B", 1},
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
      return "a table of strings";
  }
  return "something else";
}

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
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

bool matches_choice(const ConfigKey& key, std::string_view text) {
  const std::vector<std::string> choices = split(key.choices, '|');
  return choices.empty() || std::ranges::find(choices, text) != choices.end();
}

Status wrong_type(const ConfigKey& key, std::string_view name) {
  return invalid_argument(fmt::format("{} takes {}", name, type_words(key.type)));
}

/// Read a node of the types that TOML and a key can share; a size may be either.
template <typename Value>
Result<Value> value_from_node(const ConfigKey& key, std::string_view name, const toml::node& node) {
  switch (key.type) {
    case ConfigType::kString:
    case ConfigType::kTable:
      if (const auto* text = node.as_string()) return Value(text->get());
      break;
    case ConfigType::kInteger:
      if (const auto* number = node.as_integer()) return Value(number->get());
      break;
    case ConfigType::kBool:
      if (const auto* flag = node.as_boolean()) return Value(flag->get());
      break;
    case ConfigType::kSize:
      if (const auto* number = node.as_integer()) return Value(number->get());
      if (const auto* text = node.as_string()) {
        MEMPOOL_ASSIGN_OR_RETURN(const uint64_t bytes, parse_size(text->get()));
        return Value(static_cast<int64_t>(bytes));
      }
      break;
    case ConfigType::kList:
      if (const auto* array = node.as_array()) {
        std::vector<std::string> list;
        for (const toml::node& element : *array) {
          const auto* text = element.as_string();
          if (text == nullptr) return wrong_type(key, name);
          list.push_back(text->get());
        }
        return Value(std::move(list));
      }
      break;
  }
  return wrong_type(key, name);
}

}  // namespace

Result<uint64_t> parse_size(std::string_view text) {
  const auto wrong = [text] {
    return invalid_argument(
        fmt::format("\"{}\" is no size; write one like \"3GiB\" or 4096", text));
  };
  uint64_t count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  if (error != std::errc()) return wrong();
  const std::string_view unit(end, text.data() + text.size() - end);
  uint64_t scale = unit.empty() ? 1 : 0;
  for (const SizeUnit& known : kSizeUnits) {
    if (unit == known.name) scale = known.bytes;
  }
  if (scale == 0 || count > std::numeric_limits<int64_t>::max() / scale) return wrong();
  return count * scale;
}

std::string print_size(uint64_t bytes) {
  for (const SizeUnit& unit : kSizeUnits) {
    const bool binary = unit.name.size() == 3;
    if (binary && bytes != 0 && bytes % unit.bytes == 0) {
      return fmt::format("{}{}", bytes / unit.bytes, unit.name);
    }
  }
  return fmt::format("{}", bytes);
}

std::vector<std::string> process_environment() {
  std::vector<std::string> all;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    all.emplace_back(*entry);
  }
  return all;
}

Config::Config() {
  for (const ConfigKey& key : config_keys()) {
    values_.emplace(key.name, value_from_text(key, key.fallback).value());
  }
}

Result<Config> Config::load(const ConfigSources& sources) {
  Config config;
  if (!sources.file.empty()) MEMPOOL_RETURN_IF_ERROR(config.merge_file(sources.file));
  MEMPOOL_RETURN_IF_ERROR(config.merge_environment(sources.environment));
  for (const std::string& flag : sources.flags) {
    const size_t equals = flag.find('=');
    if (equals == std::string::npos) {
      return invalid_argument(fmt::format("flag {}: write it as section.key=value", flag));
    }
    const std::string name = flag.substr(0, equals);
    MEMPOOL_RETURN_IF_ERROR(config.merge_text(name, flag.substr(equals + 1), "flag " + name));
  }
  return config;
}

Result<Config> Config::parse(std::string_view toml, std::string_view origin) {
  Config config;
  MEMPOOL_RETURN_IF_ERROR(config.merge_toml(toml, origin));
  return config;
}

Status Config::merge_file(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  std::string text(kFileBytesMost + 1, '\0');
  stream.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (stream.bad() || (stream.fail() && !stream.eof())) {
    return not_found(fmt::format("{}: cannot be read: {}", path, std::strerror(errno)));
  }
  text.resize(static_cast<size_t>(stream.gcount()));
  if (text.size() > kFileBytesMost) {
    return invalid_argument(fmt::format("{}: larger than {}", path, print_size(kFileBytesMost)));
  }
  return merge_toml(text, path);
}

Status Config::merge_toml(std::string_view toml, std::string_view origin) {
  const toml::parse_result parsed = toml::parse(toml, origin);
  const auto at = [origin](const toml::source_region& place) {
    return fmt::format("{}:{}", origin, place.begin.line);
  };
  if (!parsed) {
    const toml::parse_error& error = parsed.error();
    return invalid_argument(fmt::format("{}: {}", at(error.source()), error.description()));
  }
  for (const auto& [section, node] : parsed.table()) {
    const toml::table* table = node.as_table();
    if (table == nullptr) {
      MEMPOOL_RETURN_IF_ERROR(unknown_key(section.str()).with_context(at(node.source())));
    }
    for (const auto& [leaf, value] : *table) {
      const std::string name = fmt::format("{}.{}", section.str(), leaf.str());
      MEMPOOL_RETURN_IF_ERROR(merge_node(name, value).with_context(at(value.source())));
    }
  }
  return Status();
}
