// Nodes in memory: at most 256 bytes a node of a XenStore's usual kind, all counted, and no allocation to
// read one.
//
//   slot table   path hashed ──▶ node number       open addressing, 8 bytes a slot
//   node         parent, siblings, first child, permissions, generations, text     in blocks that never move
//   text         name and value, in one allocation with a little room to grow
//   permissions  each different set once, with the list of its nodes: so a dead domain's nodes are found by
//                their number, and an owner's are counted without a walk
//
// A path is hashed whole; the node found is held to it name by name, upwards. Children are a ring of
// siblings: to add or remove one costs the same among 10,000 as among ten.
//
// Threads: one. Errors: none; out of memory ends the process, so quotas come before. See storage.h for the
// rest.
#pragma once

#include <memory>

#include "spawner/store/storage.h"

namespace synfluid::spawner::store {

class MemoryStorage final : public Storage {
 public:
  MemoryStorage();
  ~MemoryStorage() override;
  MemoryStorage(const MemoryStorage&) = delete;
  MemoryStorage& operator=(const MemoryStorage&) = delete;

  std::optional<NodeView> find(std::string_view path) const override;
  bool list_children(std::string_view path, size_t offset, size_t max_bytes, std::string& out) const override;
  Status apply(std::span<const Change> changes) override;
  void for_each(const Visitor& visit) const override;
  void for_each_below(std::string_view path, const Visitor& visit) const override;
  Usage usage(DomId owner) const override;
  std::vector<std::string> paths_naming(DomId domid) const override;
  size_t size() const override;

  /// What the nodes take: everything allocated, the allocator's own share estimated at 8 bytes an allocation.
  size_t bytes() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace synfluid::spawner::store
