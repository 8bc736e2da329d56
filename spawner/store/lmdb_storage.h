// Nodes in memory, each change written through to an LMDB file: reading costs what memory costs, and a store
// that is started again finds everything that was ever replied to.
//
//   key     the path; for one that is too long for a key, a NUL and the number in its record
//   record  number (ascends with creation), permissions, the path if the key is not it, the value
//
// A group of changes is one LMDB transaction, committed before memory changes.
//
// Threads: one. Ownership: owns the nodes in memory; the file is shared with whoever keeps other tables in
// it. Errors: those of the file; nothing has changed then.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "spawner/store/lmdb_file.h"
#include "spawner/store/storage.h"

namespace synfluid::spawner::store {

class LmdbStorage final : public Storage {
 public:
  /// Reads all nodes of the file into `memory`, which is empty.
  static Result<std::unique_ptr<LmdbStorage>> open(LmdbFile& file, std::unique_ptr<Storage> memory);

  std::optional<NodeView> find(std::string_view path) const override { return memory_->find(path); }
  bool list_children(std::string_view path, size_t offset, size_t max_bytes,
                     std::string& out) const override {
    return memory_->list_children(path, offset, max_bytes, out);
  }
  Status apply(std::span<const Change> changes) override;
  void for_each(const Visitor& visit) const override { memory_->for_each(visit); }
  void for_each_below(std::string_view path, const Visitor& visit) const override {
    memory_->for_each_below(path, visit);
  }
  Usage usage(DomId owner) const override { return memory_->usage(owner); }
  std::vector<std::string> paths_naming(DomId domid) const override { return memory_->paths_naming(domid); }
  size_t size() const override { return memory_->size(); }

 private:
  LmdbStorage(LmdbFile& file, std::unique_ptr<Storage> memory) : file_(file), memory_(std::move(memory)) {}

  Status load();
  Status write(LmdbFile::Transaction& transaction, const Change& change);
  Status create(LmdbFile::Transaction& transaction, const Change& change);
  Status erase(LmdbFile::Transaction& transaction, std::string_view path);
  std::string key_of(std::string_view path) const;

  LmdbFile& file_;
  std::unique_ptr<Storage> memory_;
  uint64_t next_number_ = 1;
  std::map<std::string, uint64_t, std::less<>> long_paths_;
};

/// Puts all nodes of one storage into another that is empty; and the way back, an LMDB file's.
Status copy_nodes(const Storage& from, Storage& to);

}  // namespace synfluid::spawner::store
