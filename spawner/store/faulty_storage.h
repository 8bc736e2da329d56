// Any storage, made to fail its changes on demand; for tests.
//
// Threads: one. Ownership: refers to the storage that it stands in front of. A change that fails does not
// reach it.
#pragma once

#include <cerrno>
#include <cstdint>

#include "spawner/store/storage.h"

namespace synfluid::spawner::store {

class FaultyStorage final : public Storage {
 public:
  explicit FaultyStorage(Storage& behind) : behind_(behind) {}

  /// The next `count` changes fail.
  void fail(uint32_t count) { failures_ = count; }

  std::optional<NodeView> find(std::string_view path) const override { return behind_.find(path); }
  bool list_children(std::string_view path, size_t offset, size_t max_bytes,
                     std::string& out) const override {
    return behind_.list_children(path, offset, max_bytes, out);
  }
  Status apply(std::span<const Change> changes) override {
    if (failures_ == 0) return behind_.apply(changes);
    --failures_;
    return Error::from_errno(ENOSPC, "a change of the store");
  }
  void for_each(const Visitor& visit) const override { behind_.for_each(visit); }
  void for_each_below(std::string_view path, const Visitor& visit) const override {
    behind_.for_each_below(path, visit);
  }
  Usage usage(DomId owner) const override { return behind_.usage(owner); }
  std::vector<std::string> paths_naming(DomId domid) const override { return behind_.paths_naming(domid); }
  size_t size() const override { return behind_.size(); }

 private:
  Storage& behind_;
  uint32_t failures_ = 0;
};

}  // namespace synfluid::spawner::store
