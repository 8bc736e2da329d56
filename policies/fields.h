// Reading maps and values out of the YAML tree, and complaining in the same words everywhere.
//
// Threads: none. Ownership: nodes belong to their tree, which must outlive what is here. Errors: to the
// Report; a reader that has complained returns nothing, and its caller goes on with the next field.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "policies/report.h"
#include "policies/values.h"
#include "policies/yaml_tree.h"

namespace synfluid::policies {

/// "a, b, c"
std::string join(std::span<const std::string_view> words);

/// A map whose keys are known. Complains about keys that are not, and about those that come twice.
class MapReader {
 public:
  /// `what` goes behind "is no": "map of limits". A node that is no map counts as an empty one.
  MapReader(const YamlNode& node, std::string_view what, std::span<const std::string_view> keys,
            Report& report);

  /// The value, or null if the key is not there. A key with nothing behind it is complained about, and null.
  const YamlNode* find(std::string_view key) const;
  /// The same, but the key must be there.
  const YamlNode* require(std::string_view key) const;

 private:
  struct Field {
    std::string_view key;
    Mark mark;  ///< of the key
    const YamlNode* value;
  };

  void read_entry(const YamlNode& key, const YamlNode& value, std::span<const std::string_view> keys);

  const YamlNode& node_;
  std::string_view what_;
  Report& report_;
  std::vector<Field> fields_;
  bool is_map_ = false;
};

/// The key of a map's entry, if it is text and its first; else complains.
bool check_key(const YamlNode& key, std::span<const std::string_view> before, Report& report);

/// Complains unless the node is a scalar or a list that is not empty.
bool check_list(const YamlNode& node, std::string_view what, Report& report);

/// Calls `use` with each element of a list, or with the value itself where there is only one, until it
/// returns false. Nothing is copied: by aliases, a small file can name a long list often.
template <class Use>
void for_each_item(const YamlNode& node, std::string_view what, Report& report, Use use) {
  if (!check_list(node, what, report)) return;
  if (node.kind == NodeKind::kScalar) {
    use(node);
    return;
  }
  for (const YamlNode* item : node.items)
    if (!use(*item)) return;
}

/// A scalar by one of the parse_… functions. `what` is for a node that is no scalar.
template <class Parse>
auto read_value(const YamlNode* node, std::string_view what, Report& report, Parse parse)
    -> std::optional<typename decltype(parse(std::string_view()))::value_type> {
  if (node == nullptr) return std::nullopt;
  if (node->kind != NodeKind::kScalar) {
    report.error_no(*node, what, {});
    return std::nullopt;
  }
  auto parsed = parse(node->text);
  if (parsed) return std::move(*parsed);
  report.error(node->mark, node->text, fmt::format("{} {}", describe(*node), parsed.error().what),
               parsed.error().allowed);
  return std::nullopt;
}

template <class T>
struct Word {
  std::string_view text;
  T value;
};

/// One of a few words.
template <class T>
std::optional<T> read_word(const YamlNode* node, std::string_view what, Report& report,
                           std::span<const Word<T>> words) {
  if (node == nullptr) return std::nullopt;
  std::vector<std::string_view> texts;
  for (const Word<T>& word : words) {
    if (node->kind == NodeKind::kScalar && node->text == word.text) return word.value;
    texts.push_back(word.text);
  }
  report.error_no(*node, what, join(texts));
  return std::nullopt;
}

/// `*field = value`, if there is one.
template <class T, class Value>
void assign(T& field, const std::optional<Value>& value) {
  if (value) field = static_cast<T>(*value);
}

}  // namespace synfluid::policies
