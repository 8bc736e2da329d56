#include "policies/yaml_tree.h"

#include <algorithm>
#include <sstream>

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include "policies/utf8.h"

namespace synfluid::policies {

namespace {

Mark to_mark(const YAML::Mark& mark) {
  return mark.is_null() ? Mark{} : Mark{mark.line + 1, mark.column + 1};
}

/// Leaves yaml-cpp's parser through its own frames; never leaves this file.
struct Refused {
  YamlFault fault;
};

/// Builds the tree from the parser's events. Containers that are still open stand on a stack of their own.
class TreeBuilder final : public YAML::EventHandler {
 public:
  explicit TreeBuilder(YamlTree& tree) : tree_(tree) {}

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    place(make(NodeKind::kNull, mark, anchor));
  }
  void OnScalar(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                const std::string& value) override {
    YamlNode& node = make(NodeKind::kScalar, mark, anchor);
    node.text = value;
    place(node);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    if (++aliases_ > kMaxYamlNodes) throw Refused{{to_mark(mark), "the file has too many aliases"}};
    if (anchor == 0 || anchor > anchors_.size() || anchors_[anchor - 1] == nullptr)
      throw Refused{{to_mark(mark), "the alias names nothing"}};
    place(*anchors_[anchor - 1]);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(make(NodeKind::kSequence, mark, anchor));
  }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(make(NodeKind::kMap, mark, anchor));
  }
  void OnSequenceEnd() override { close(); }
  void OnMapEnd() override { close(); }

 private:
  struct Open {
    YamlNode* node;
    const YamlNode* key;  ///< of a map: its value comes next
  };

  YamlNode& make(NodeKind kind, const YAML::Mark& mark, YAML::anchor_t anchor) {
    if (tree_.nodes.size() == kMaxYamlNodes)
      throw Refused{{to_mark(mark), fmt::format("the file has more than {} YAML nodes", kMaxYamlNodes)}};
    YamlNode& node = tree_.nodes.emplace_back();
    node.kind = kind;
    node.mark = to_mark(mark);
    if (anchor != 0) remember(node, anchor);
    return node;
  }
  void remember(const YamlNode& node, YAML::anchor_t anchor) {
    if (anchor > anchors_.size()) anchors_.resize(anchor);  // they are numbered upwards by one
    anchors_[anchor - 1] = &node;
  }
  void open(YamlNode& node) {
    if (open_.size() == kMaxYamlDepth)
      throw Refused{{node.mark, fmt::format("the YAML is nested more than {} deep", kMaxYamlDepth)}};
    place(node);
    open_.push_back({&node, nullptr});
  }
  void close() {
    if (!open_.empty()) open_.pop_back();
  }
  void place(const YamlNode& node) {
    if (open_.empty()) {
      tree_.root = &node;
      return;
    }
    Open& parent = open_.back();
    if (parent.node->kind == NodeKind::kSequence) {
      parent.node->items.push_back(&node);
    } else if (parent.key == nullptr) {
      parent.key = &node;
    } else {
      parent.node->entries.emplace_back(parent.key, &node);
      parent.key = nullptr;
    }
  }

  YamlTree& tree_;
  std::vector<Open> open_;
  std::vector<const YamlNode*> anchors_;
  size_t aliases_ = 0;
};

/// Throws whatever yaml-cpp throws.
YamlTree build_tree(std::string_view text) {
  YamlTree tree;
  std::istringstream stream{std::string(text)};
  YAML::Parser parser(stream);
  TreeBuilder builder(tree);
  if (!parser.HandleNextDocument(builder)) return tree;
  YamlTree rest;
  TreeBuilder rest_builder(rest);
  if (parser.HandleNextDocument(rest_builder))
    throw Refused{
        {rest.root != nullptr ? rest.root->mark : Mark{}, "a second YAML document; a policy is one"}};
  return tree;
}

Mark mark_at(std::string_view text, size_t offset) {
  const std::string_view before = text.substr(0, offset);
  const size_t line_start = before.rfind('\n') == std::string_view::npos ? 0 : before.rfind('\n') + 1;
  return {static_cast<int>(std::ranges::count(before, '\n')) + 1, static_cast<int>(offset - line_start) + 1};
}

}  // namespace

tl::expected<YamlTree, YamlFault> parse_yaml(std::string_view text) {
  if (const auto bad = find_bad_text(text))
    return tl::unexpected(YamlFault{
        mark_at(text, *bad),
        fmt::format("byte 0x{:02x} is no text; a policy is UTF-8", static_cast<uint8_t>(text[*bad]))});
  try {
    return build_tree(text);
  } catch (const Refused& refused) {
    return tl::unexpected(refused.fault);
  } catch (const YAML::Exception& e) {
    return tl::unexpected(YamlFault{to_mark(e.mark), "YAML: " + e.msg});
  } catch (const std::exception& e) {
    return tl::unexpected(YamlFault{{}, std::string("YAML: ") + e.what()});
  }
}

}  // namespace synfluid::policies
