// SPDX-License-Identifier: Apache-2.0
// Owns how settings are merged from their sources and printed.
#include "core/config.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "core/check.h"
#include "core/toml.h"

namespace mempool {
namespace {

constexpr size_t kFileBytesMost = 1 << 20;
constexpr std::string_view kVariablePrefix = "MEMPOOL_";

Status unknown_key(std::string_view name) {
  const std::string_view nearest = nearest_config_name(name);
  return invalid_argument(
      nearest.empty()
          ? fmt::format("unknown key \"{}\"; mempool agent --print-config lists them all", name)
          : fmt::format("unknown key \"{}\"; did you mean \"{}\"?", name, nearest));
}

Result<ConfigValue> list_from_array(const ConfigKey& key, const toml::array& array) {
  ConfigList list;
  for (const toml::node& element : array) {
    const auto* text = element.as_string();
    if (text == nullptr) return wrong_config_type(key);
    list.push_back(text->get());
  }
  return ConfigValue(std::move(list));
}

std::string_view section_of(std::string_view name) {
  return name.substr(0, name.find('.'));
}

bool has_named_tables(std::string_view section) {
  return std::ranges::any_of(config_keys(), [section](const ConfigKey& key) {
    return section_of(key.name) == section && is_named_table(key);
  });
}

struct Entry {
  std::string name;
  const toml::node* node;
  bool is_named = false;  // a table whose name is the user's; its own entries follow
};

/// Give the entries of a section, and those of its tables where users name them.
std::vector<Entry> entries_of(std::string_view section, const toml::table& table) {
  std::vector<Entry> entries;
  for (const auto& [leaf, node] : table) {
    const std::string name = fmt::format("{}.{}", section, leaf.str());
    const bool is_named = node.is_table() && has_named_tables(section);
    entries.push_back({name, &node, is_named});
    if (!is_named) continue;
    for (const auto& [inner, value] : *node.as_table()) {
      entries.push_back({fmt::format("{}.{}", name, inner.str()), &value});
    }
  }
  return entries;
}

/// Read a node whose TOML type is one that the key takes.
Result<ConfigValue> value_from_node(const ConfigKey& key, const toml::node& node) {
  const ConfigType type = key.type;
  if (const auto* text = node.as_string()) {
    if (type == ConfigType::kString || type == ConfigType::kTable) return ConfigValue(text->get());
    if (type == ConfigType::kSize) return parse_config_value(key, text->get());
  } else if (const auto* number = node.as_integer()) {
    if (type == ConfigType::kInteger || type == ConfigType::kSize)
      return ConfigValue(number->get());
  } else if (const auto* flag = node.as_boolean()) {
    if (type == ConfigType::kBool) return ConfigValue(flag->get());
  } else if (const auto* array = node.as_array()) {
    if (type == ConfigType::kList) return list_from_array(key, *array);
  }
  return wrong_config_type(key);
}

template <typename T>
const T& value_of(const std::map<std::string, ConfigValue, std::less<>>& values,
                  std::string_view key) {
  const auto place = values.find(key);
  MEMPOOL_CHECK(place != values.end() && std::holds_alternative<T>(place->second));
  return std::get<T>(place->second);
}

/// Turn "AGENT_TOKEN_FILE" into "agent.token_file"; empty when it starts with no section of ours.
std::string name_of_variable(std::string_view variable) {
  const size_t underscore = variable.find('_');
  if (underscore == std::string_view::npos) return {};
  std::string name(variable);
  std::ranges::transform(name, name.begin(), [](unsigned char c) { return std::tolower(c); });
  if (!is_config_section(std::string_view(name).substr(0, underscore))) return {};
  name[underscore] = '.';
  return name;
}

}  // namespace

std::vector<std::string> process_environment() {
  std::vector<std::string> all;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    all.emplace_back(*entry);
  }
  return all;
}

Config::Config() {
  for (const ConfigKey& key : config_keys()) {
    if (is_named_table(key)) {
      names_.try_emplace(std::string(section_of(key.name)));
      continue;
    }
    values_.emplace(key.name, key.type == ConfigType::kTable
                                  ? ConfigValue(ConfigTable())
                                  : parse_config_value(key, key.fallback).value());
  }
}

Result<Config> Config::load(const ConfigSources& sources) {
  Config config;
  if (!sources.file.empty()) MEMPOOL_RETURN_IF_ERROR(config.merge_file(sources.file));
  MEMPOOL_RETURN_IF_ERROR(config.merge_environment(sources.environment));
  MEMPOOL_RETURN_IF_ERROR(config.merge_flags(sources.flags));
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
  if (!stream.read(text.data(), static_cast<std::streamsize>(text.size())) && !stream.eof()) {
    return not_found(fmt::format("{}: cannot read it: {}", path, std::strerror(errno)));
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
    const toml::table* entries = node.as_table();
    if (entries == nullptr || (entries->empty() && !is_config_section(section.str()))) {
      return unknown_key(section.str()).with_context(at(node.source()));
    }
    for (const auto& [name, entry, is_named] : entries_of(section.str(), *entries)) {
      if (is_named) {
        add_name(section.str(), std::string_view(name).substr(section.length() + 1));
        continue;
      }
      const ConfigKey* key = is_config_section(section.str()) ? find_config_key(name) : nullptr;
      if (key == nullptr) return unknown_key(name).with_context(at(entry->source()));
      Result<ConfigValue> value = value_from_node(*key, *entry);
      const Status status = value.ok() ? set(name, *key, std::move(*value)) : value.status();
      if (!status.ok()) return status.with_context(at(entry->source()));
    }
  }
  return Status();
}

Status Config::merge_environment(const std::vector<std::string>& environment) {
  for (const std::string_view entry : environment) {
    if (!entry.starts_with(kVariablePrefix)) continue;
    const size_t equals = std::min(entry.find('='), entry.size());
    const std::string_view variable = entry.substr(0, equals);
    const std::string name = name_of_variable(variable.substr(kVariablePrefix.size()));
    if (name.empty()) continue;
    const std::string_view text = entry.substr(std::min(equals + 1, entry.size()));
    const Status status = merge_text(name, text);
    if (!status.ok()) return status.with_context(fmt::format("environment {}", variable));
  }
  return Status();
}

Status Config::merge_flags(const std::vector<std::string>& flags) {
  for (const std::string_view flag : flags) {
    const size_t equals = flag.find('=');
    if (equals == std::string_view::npos) {
      return invalid_argument(fmt::format("flag {}: write it as section.key=value", flag));
    }
    const std::string_view name = flag.substr(0, equals);
    const Status status = merge_text(name, flag.substr(equals + 1));
    if (!status.ok()) return status.with_context(fmt::format("flag {}", name));
  }
  return Status();
}

Status Config::merge_text(std::string_view name, std::string_view text) {
  const ConfigKey* key = find_config_key(name);
  if (key == nullptr) return unknown_key(name);
  MEMPOOL_ASSIGN_OR_RETURN(ConfigValue value, parse_config_value(*key, text));
  return set(name, *key, std::move(value));
}

Status Config::set(std::string_view name, const ConfigKey& key, ConfigValue value) {
  MEMPOOL_RETURN_IF_ERROR(check_config_value(key, value));
  if (is_named_table(key)) {
    const size_t fixed = config_name(key, "").size();
    const size_t before = section_of(key.name).size() + 1;
    add_name(section_of(key.name), name.substr(before, name.size() - fixed));
    values_.insert_or_assign(std::string(name), std::move(value));
    return Status();
  }
  ConfigValue& place = values_.find(key.name)->second;
  if (key.type == ConfigType::kTable) {
    const std::string_view entry = name.substr(key.name.size() + 1);
    std::get<ConfigTable>(place)[std::string(entry)] = std::get<std::string>(value);
  } else {
    place = std::move(value);
  }
  given_.emplace(key.name);
  return Status();
}

void Config::add_name(std::string_view section, std::string_view name) {
  if (!names_.find(section)->second.emplace(name).second) return;
  for (const ConfigKey& key : config_keys()) {
    if (section_of(key.name) != section || !is_named_table(key)) continue;
    values_.emplace(config_name(key, name), parse_config_value(key, key.fallback).value());
  }
}

const std::set<std::string>& Config::names(std::string_view section) const {
  const auto found = names_.find(section);
  MEMPOOL_CHECK(found != names_.end());
  return found->second;
}

const std::string& Config::get_string(std::string_view key) const {
  return value_of<std::string>(values_, key);
}
int64_t Config::get_integer(std::string_view key) const {
  return value_of<int64_t>(values_, key);
}
bool Config::get_bool(std::string_view key) const {
  return value_of<bool>(values_, key);
}
const ConfigList& Config::get_list(std::string_view key) const {
  return value_of<ConfigList>(values_, key);
}
uint64_t Config::get_size(std::string_view key) const {
  return static_cast<uint64_t>(value_of<int64_t>(values_, key));
}
const ConfigTable& Config::get_table(std::string_view section) const {
  return value_of<ConfigTable>(values_, section);
}

std::string Config::print() const {
  std::string out;
  std::string_view section;
  for (const ConfigKey& key : config_keys()) {
    const std::string_view of = section_of(key.name);
    const bool first = of != section;
    section = of;
    if (is_named_table(key)) {
      if (first) out += print_named(of);
      continue;
    }
    if (first) out += fmt::format("{}[{}]\n", out.empty() ? "" : "\n", of);
    out += fmt::format("# {}\n", key.help);
    if (!key.choices.empty()) out += fmt::format("# One of {}.\n", key.choices);
    const ConfigValue& value = values_.find(key.name)->second;
    if (key.type == ConfigType::kTable) {
      for (const auto& [name, text] : std::get<ConfigTable>(value)) {
        out += print_config_entry(name, text) + '\n';
      }
    } else {
      const std::string_view leaf = key.name.substr(of.size() + 1);
      out += fmt::format("{} = {}\n", leaf, print_config_value(key, value));
    }
  }
  return out;
}

std::string Config::print_named(std::string_view section) const {
  std::string out;
  const std::set<std::string>& names = this->names(section);
  if (names.empty()) out += fmt::format("\n# [{}.NAME], as many as there are names\n", section);
  for (const std::string& name : names) {
    out += fmt::format("\n[{}.{}]\n", section, print_config_name(name));
    for (const ConfigKey& key : config_keys()) {
      if (section_of(key.name) != section) continue;
      const std::string full = config_name(key, name);
      out += fmt::format("# {}\n{} = {}\n", key.help, key.name.substr(key.name.rfind('.') + 1),
                         print_config_value(key, values_.find(full)->second));
    }
  }
  for (const ConfigKey& key : config_keys()) {
    if (!names.empty() || section_of(key.name) != section) continue;
    out += fmt::format("# {} = {}: {}\n", key.name.substr(key.name.rfind('.') + 1),
                       print_config_value(key, parse_config_value(key, key.fallback).value()),
                       key.help);
  }
  return out;
}

}  // namespace mempool
