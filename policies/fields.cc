#include "policies/fields.h"

#include <algorithm>

namespace synfluid::policies {

std::string join(std::span<const std::string_view> words) {
  return fmt::format("{}", fmt::join(words, ", "));
}

bool check_key(const YamlNode& key, std::span<const std::string_view> before, Report& report) {
  if (key.kind != NodeKind::kScalar) {
    report.error_no(key, "key", "a word");
    return false;
  }
  if (std::ranges::find(before, key.text) == before.end()) return true;
  report.error(key.mark, key.text, fmt::format("{} is there twice in this map", describe(key)));
  return false;
}

MapReader::MapReader(const YamlNode& node, std::string_view what, std::span<const std::string_view> keys,
                     Report& report)
    : node_(node), what_(what), report_(report), is_map_(node.kind == NodeKind::kMap) {
  if (!is_map_) report.error_no(node, what, fmt::format("a map with {}", join(keys)));
  for (const auto& [key, value] : node.entries) read_entry(*key, *value, keys);
}

void MapReader::read_entry(const YamlNode& key, const YamlNode& value,
                           std::span<const std::string_view> keys) {
  std::vector<std::string_view> before;
  for (const Field& field : fields_) before.push_back(field.key);
  if (!check_key(key, before, report_)) return;
  if (std::ranges::find(keys, key.text) == keys.end()) {
    report_.error(key.mark, key.text,
                  fmt::format("{} is no key of a {}{}", describe(key), what_, did_you_mean(key.text, keys)),
                  join(keys));
    return;
  }
  fields_.push_back({key.text, key.mark, &value});
}

const YamlNode* MapReader::find(std::string_view key) const {
  const auto it = std::ranges::find(fields_, key, &Field::key);
  if (it == fields_.end()) return nullptr;
  if (it->value->kind != NodeKind::kNull) return it->value;
  report_.error(it->mark, key, fmt::format("'{}' has no value", key), "a value, or no such key");
  return nullptr;
}

const YamlNode* MapReader::require(std::string_view key) const {
  const bool there = std::ranges::find(fields_, key, &Field::key) != fields_.end();
  if (!there && is_map_) report_.error(node_.mark, {}, fmt::format("this {} lacks '{}'", what_, key));
  return find(key);
}

bool check_list(const YamlNode& node, std::string_view what, Report& report) {
  if (node.kind == NodeKind::kScalar || !node.items.empty()) return true;
  const std::string found = node.kind == NodeKind::kSequence ? "an empty list" : describe(node);
  report.error(node.mark, {}, fmt::format("{} is no list of {}", found, what),
               fmt::format("at least one of {}, or no such key", what));
  return false;
}

}  // namespace synfluid::policies
