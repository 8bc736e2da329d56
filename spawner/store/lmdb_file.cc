#include "spawner/store/lmdb_file.h"

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <utility>

#include <fcntl.h>
#include <lmdb.h>
#include <sys/file.h>

namespace synfluid::spawner::store {

namespace {

/// Address space, not memory: the file grows with what is in it.
constexpr size_t kMapBytes = size_t{64} << 30;
constexpr const char* kTableNames[kLmdbTables] = {"meta", "nodes", "domains", "watches", "rings"};

Error failed(std::string_view what, int code) {
  if (code == ENOSPC || code == MDB_MAP_FULL)
    return Error(ErrorCode::kExhausted, std::string(what) + ": no space", ENOSPC);
  return Error(ErrorCode::kSystem, std::string(what) + ": " + mdb_strerror(code), code > 0 ? code : EIO);
}

MDB_val val_of(std::string_view text) {
  // LMDB does not write to what it is given here.
  return {text.size(), const_cast<char*>(text.data())};
}

std::string_view text_of(const MDB_val& val) {
  return {static_cast<const char*>(val.mv_data), val.mv_size};
}

struct CursorCloser {
  void operator()(MDB_cursor* cursor) const { mdb_cursor_close(cursor); }
};
using Cursor = std::unique_ptr<MDB_cursor, CursorCloser>;

Result<Cursor> open_cursor(MDB_txn* txn, MDB_dbi table) {
  MDB_cursor* cursor = nullptr;
  if (const int code = mdb_cursor_open(txn, table, &cursor); code != 0)
    return failed("looking through a table", code);
  return Cursor(cursor);
}

std::string this_boot() {
  std::string id;
  std::getline(std::ifstream("/proc/sys/kernel/random/boot_id"), id);
  return id;
}

}  // namespace

LmdbFile::Transaction::Transaction(Transaction&& other) noexcept
    : file_(other.file_), txn_(std::exchange(other.txn_, nullptr)) {}

LmdbFile::Transaction::~Transaction() {
  if (txn_ != nullptr) mdb_txn_abort(txn_);
}

Status LmdbFile::Transaction::put(LmdbTable table, std::string_view key, std::string_view value) {
  MDB_val name = val_of(key), data = val_of(value);
  const int code = mdb_put(txn_, file_->tables_[static_cast<size_t>(table)], &name, &data, 0);
  if (code != 0) return failed("writing", code);
  return {};
}

Status LmdbFile::Transaction::erase(LmdbTable table, std::string_view key) {
  MDB_val name = val_of(key);
  const int code = mdb_del(txn_, file_->tables_[static_cast<size_t>(table)], &name, nullptr);
  if (code != 0 && code != MDB_NOTFOUND) return failed("erasing", code);
  return {};
}

Status LmdbFile::Transaction::erase_beginning(LmdbTable table, std::string_view prefix) {
  auto cursor = open_cursor(txn_, file_->tables_[static_cast<size_t>(table)]);
  if (!cursor) return cursor.error();
  MDB_val key = val_of(prefix), data{};
  int code = mdb_cursor_get(cursor->get(), &key, &data, MDB_SET_RANGE);
  while (code == 0 && text_of(key).starts_with(prefix)) {
    if (code = mdb_cursor_del(cursor->get(), 0); code != 0) break;
    code = mdb_cursor_get(cursor->get(), &key, &data, MDB_GET_CURRENT);
    if (code == EINVAL) code = MDB_NOTFOUND;  // that was the table's last
  }
  if (code != 0 && code != MDB_NOTFOUND) return failed("erasing", code);
  return {};
}

std::optional<std::string_view> LmdbFile::Transaction::get(LmdbTable table, std::string_view key) {
  MDB_val name = val_of(key), data{};
  if (mdb_get(txn_, file_->tables_[static_cast<size_t>(table)], &name, &data) != 0) return std::nullopt;
  return text_of(data);
}

Status LmdbFile::Transaction::for_each(LmdbTable table,
                                       const std::function<void(std::string_view, std::string_view)>& visit) {
  auto cursor = open_cursor(txn_, file_->tables_[static_cast<size_t>(table)]);
  if (!cursor) return cursor.error();
  MDB_val key{}, data{};
  int code = 0;
  while ((code = mdb_cursor_get(cursor->get(), &key, &data, MDB_NEXT)) == 0)
    visit(text_of(key), text_of(data));
  if (code != MDB_NOTFOUND) return failed("looking through a table", code);
  return {};
}

Status LmdbFile::Transaction::commit() {
  const int code = mdb_txn_commit(std::exchange(txn_, nullptr));
  if (code != 0) return failed("committing", code);
  return {};
}

Result<std::unique_ptr<LmdbFile>> LmdbFile::open(const std::string& path) {
  std::unique_ptr<LmdbFile> file(new LmdbFile);
  std::error_code ignored;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), ignored);
  file->lock_ = UniqueFd(::open((path + "-lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!file->lock_) return Error::from_errno(errno, path + "-lock");
  if (::flock(file->lock_.get(), LOCK_EX | LOCK_NB) != 0)
    return Error(ErrorCode::kConflict, path + ": another process has it open");
  int code = mdb_env_create(&file->env_);
  if (code == 0) code = mdb_env_set_maxdbs(file->env_, kLmdbTables);
  if (code == 0) code = mdb_env_set_mapsize(file->env_, kMapBytes);
  // Its own locks are for readers beside us; there are none.
  constexpr unsigned kFlags = MDB_NOSUBDIR | MDB_NOSYNC | MDB_NOLOCK | MDB_NOTLS | MDB_NORDAHEAD;
  if (code == 0) code = mdb_env_open(file->env_, path.c_str(), kFlags, 0600);
  if (code != 0) return failed(path, code);
  if (Status opened = file->open_tables(); !opened) return opened.error().within(path);
  if (Status emptied = file->empty_if_of_another_boot(); !emptied) return emptied.error().within(path);
  return file;
}

LmdbFile::~LmdbFile() {
  if (env_ != nullptr) mdb_env_close(env_);
}

Result<LmdbFile::Transaction> LmdbFile::begin() {
  MDB_txn* txn = nullptr;
  if (const int code = mdb_txn_begin(env_, nullptr, 0, &txn); code != 0) return failed("a transaction", code);
  return Transaction(*this, txn);
}

Status LmdbFile::open_tables() {
  auto transaction = begin();
  if (!transaction) return transaction.error();
  for (size_t i = 0; i < kLmdbTables; ++i) {
    const int code = mdb_dbi_open(transaction->txn_, kTableNames[i], MDB_CREATE, &tables_[i]);
    if (code != 0) return failed(kTableNames[i], code);
  }
  return transaction->commit();
}

Status LmdbFile::empty_if_of_another_boot() {
  auto transaction = begin();
  if (!transaction) return transaction.error();
  const std::string boot = this_boot();
  if (transaction->get(LmdbTable::kMeta, "boot") == boot) return {};
  for (const unsigned table : tables_)
    if (const int code = mdb_drop(transaction->txn_, table, 0); code != 0) return failed("emptying", code);
  if (Status put = transaction->put(LmdbTable::kMeta, "boot", boot); !put) return put;
  return transaction->commit();
}

}  // namespace synfluid::spawner::store
