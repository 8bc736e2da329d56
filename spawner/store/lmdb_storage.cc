#include "spawner/store/lmdb_storage.h"

#include <algorithm>
#include <cstring>

namespace synfluid::spawner::store {

namespace {

/// Changes applied at once while a whole tree is loaded.
constexpr size_t kLoadBatch = 1'000;

struct Record {
  uint64_t number = 0;
  std::vector<Permission> permissions;
  std::string_view path;  ///< empty where the key is the path
  std::string_view value;
};

struct RecordHead {
  uint64_t number;
  uint16_t permissions;
  uint16_t path_bytes;
};

std::string encoded(const Record& record) {
  const RecordHead head{record.number, static_cast<uint16_t>(record.permissions.size()),
                        static_cast<uint16_t>(record.path.size())};
  std::string bytes(reinterpret_cast<const char*>(&head), sizeof head);
  bytes.append(reinterpret_cast<const char*>(record.permissions.data()),
               record.permissions.size() * sizeof(Permission));
  bytes.append(record.path).append(record.value);
  return bytes;
}

std::optional<Record> decoded(std::string_view bytes) {
  RecordHead head;
  if (bytes.size() < sizeof head) return std::nullopt;
  std::memcpy(&head, bytes.data(), sizeof head);
  bytes.remove_prefix(sizeof head);
  const size_t permission_bytes = head.permissions * sizeof(Permission);
  if (head.permissions == 0 || bytes.size() < permission_bytes + head.path_bytes) return std::nullopt;
  // The memory that they are loaded into counts on the protocol's limits.
  if (head.path_bytes > kMaxAbsolutePath || bytes.size() - permission_bytes - head.path_bytes > kMaxPayload)
    return std::nullopt;
  Record record{.number = head.number,
                .permissions = std::vector<Permission>(head.permissions),
                .path = {},
                .value = {}};
  std::memcpy(static_cast<void*>(record.permissions.data()), bytes.data(), permission_bytes);
  record.path = bytes.substr(permission_bytes, head.path_bytes);
  record.value = bytes.substr(permission_bytes + head.path_bytes);
  return record;
}

std::string long_key(uint64_t number) {
  std::string key(1, '\0');
  return key.append(reinterpret_cast<const char*>(&number), sizeof number);
}

/// A node on its way between two storages.
struct Node {
  uint64_t number = 0;
  std::string path;
  std::string value;
  std::vector<Permission> permissions;
};

Status create_all(std::span<const Node> nodes, Storage& storage) {
  std::vector<Change> batch;
  for (size_t i = 0; i < nodes.size(); ++i) {
    batch.push_back({.kind = ChangeKind::kCreate,
                     .path = nodes[i].path,
                     .value = nodes[i].value,
                     .permissions = nodes[i].permissions});
    if (batch.size() < kLoadBatch && i + 1 < nodes.size()) continue;
    if (Status applied = storage.apply(batch); !applied) return applied;
    batch.clear();
  }
  return {};
}

Error damaged() {
  return Error(ErrorCode::kSystem, "a node's record is damaged");
}

}  // namespace

Result<std::unique_ptr<LmdbStorage>> LmdbStorage::open(LmdbFile& file, std::unique_ptr<Storage> memory) {
  std::unique_ptr<LmdbStorage> storage(new LmdbStorage(file, std::move(memory)));
  if (Status loaded = storage->load(); !loaded) return loaded.error().within("the nodes");
  return storage;
}

Status LmdbStorage::load() {
  auto transaction = file_.begin();
  if (!transaction) return transaction.error();
  std::vector<Node> nodes;
  bool whole = true;
  Status read = transaction->for_each(LmdbTable::kNodes, [&](std::string_view key, std::string_view value) {
    auto record = decoded(value);
    if (!record) {
      whole = false;
      return;
    }
    nodes.push_back({record->number, std::string(record->path.empty() ? key : record->path),
                     std::string(record->value), std::move(record->permissions)});
    if (!record->path.empty()) long_paths_.emplace(nodes.back().path, record->number);
  });
  if (!read) return read;
  if (!whole) return damaged();
  std::ranges::sort(nodes, {}, &Node::number);
  if (!nodes.empty()) next_number_ = nodes.back().number + 1;
  return create_all(nodes, *memory_);
}

std::string LmdbStorage::key_of(std::string_view path) const {
  if (path.size() <= kMaxKey) return std::string(path);
  const auto found = long_paths_.find(path);
  return long_key(found == long_paths_.end() ? 0 : found->second);
}

Status LmdbStorage::apply(std::span<const Change> changes) {
  auto transaction = file_.begin();
  if (!transaction) return transaction.error();
  for (const Change& change : changes)
    if (Status written = write(*transaction, change); !written) return written;
  if (Status committed = transaction->commit(); !committed) return committed;
  return memory_->apply(changes);
}

Status LmdbStorage::write(LmdbFile::Transaction& transaction, const Change& change) {
  if (change.kind == ChangeKind::kCreate) return create(transaction, change);
  if (change.kind == ChangeKind::kErase) return erase(transaction, change.path);
  const std::string key = key_of(change.path);
  const auto bytes = transaction.get(LmdbTable::kNodes, key);
  auto record = bytes ? decoded(*bytes) : std::nullopt;
  if (!record) return damaged();
  if (change.kind == ChangeKind::kSetValue)
    record->value = change.value;
  else
    record->permissions.assign(change.permissions.begin(), change.permissions.end());
  return transaction.put(LmdbTable::kNodes, key, encoded(*record));
}

Status LmdbStorage::create(LmdbFile::Transaction& transaction, const Change& change) {
  const uint64_t number = next_number_++;
  const bool is_long = change.path.size() > kMaxKey;
  if (is_long) long_paths_.insert_or_assign(std::string(change.path), number);
  const Record record{.number = number,
                      .permissions = {change.permissions.begin(), change.permissions.end()},
                      .path = is_long ? change.path : std::string_view(),
                      .value = change.value};
  return transaction.put(LmdbTable::kNodes, key_of(change.path), encoded(record));
}

Status LmdbStorage::erase(LmdbFile::Transaction& transaction, std::string_view path) {
  if (Status erased = transaction.erase(LmdbTable::kNodes, key_of(path)); !erased) return erased;
  const std::string below = std::string(path) + "/";
  if (below.size() <= kMaxKey)
    if (Status erased = transaction.erase_beginning(LmdbTable::kNodes, below); !erased) return erased;
  long_paths_.erase(std::string(path));
  auto node = long_paths_.lower_bound(below);
  while (node != long_paths_.end() && node->first.starts_with(below)) {
    if (Status erased = transaction.erase(LmdbTable::kNodes, long_key(node->second)); !erased) return erased;
    node = long_paths_.erase(node);
  }
  return {};
}

Status copy_nodes(const Storage& from, Storage& to) {
  std::vector<Node> nodes;
  from.for_each([&](std::string_view path, const NodeView& node) {
    nodes.push_back(
        {0, std::string(path), std::string(node.value), {node.permissions.begin(), node.permissions.end()}});
  });
  return create_all(nodes, to);
}

}  // namespace synfluid::spawner::store
