// Nodes in a std::map by path: the plainest storage there is, which the others are compared with.
//
// Threads: one. Costs are its own affair: usage() and paths_naming() look at every node. See storage.h for
// the rest.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "spawner/store/storage.h"

namespace synfluid::spawner::store {

class MapStorage final : public Storage {
 public:
  std::optional<NodeView> find(std::string_view path) const override;
  bool list_children(std::string_view path, size_t offset, size_t max_bytes, std::string& out) const override;
  Status apply(std::span<const Change> changes) override;
  void for_each(const Visitor& visit) const override;
  void for_each_below(std::string_view path, const Visitor& visit) const override;
  Usage usage(DomId owner) const override;
  std::vector<std::string> paths_naming(DomId domid) const override;
  size_t size() const override { return nodes_.size(); }

 private:
  struct Node {
    std::string value;
    std::vector<Permission> permissions;
    std::vector<std::string> children;  ///< in the order of their creation
    Generations generations;
  };
  static NodeView view_of(const Node& node);
  void apply_one(const Change& change);
  void erase_below(const std::string& path);

  std::map<std::string, Node, std::less<>> nodes_;
  uint64_t generation_ = 0;
};

}  // namespace synfluid::spawner::store
