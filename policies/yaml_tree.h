// A YAML document as plain nodes with places, read by yaml-cpp's event parser under limits of our own.
//
// An alias is the node it names, shared: nothing is expanded. Documents that are too large, too deep, hold a
// NUL or are no UTF-8 are refused, as is a second document.
//
// Threads: reentrant. Ownership: the tree owns its nodes; pointers to them live as long as it does (moves
// included). Errors: one Fault; no exception leaves parse_yaml(). Lines and columns count from 1.
#pragma once

#include <deque>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <tl/expected.hpp>

namespace synfluid::policies {

struct Mark {
  int line = 0;
  int column = 0;
};

enum class NodeKind : uint8_t { kNull, kScalar, kSequence, kMap };

struct YamlNode {
  NodeKind kind = NodeKind::kNull;
  Mark mark;
  std::string text;                    ///< of a scalar
  std::vector<const YamlNode*> items;  ///< of a sequence
  std::vector<std::pair<const YamlNode*, const YamlNode*>>
      entries;  ///< of a map: key, value, in the file's order
};

struct YamlTree {
  std::deque<YamlNode> nodes;
  const YamlNode* root = nullptr;  ///< null for an empty document
};

struct YamlFault {
  Mark mark;
  std::string text;
};

inline constexpr size_t kMaxYamlNodes = 1'000'000;
/// The language needs five levels.
inline constexpr size_t kMaxYamlDepth = 32;

tl::expected<YamlTree, YamlFault> parse_yaml(std::string_view text);

}  // namespace synfluid::policies
