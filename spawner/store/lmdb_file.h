// An LMDB file with the tables that the store keeps in it.
//
// A commit reaches the kernel before commit() returns, and no disk: it outlives this process however it ends,
// and not the machine. So a file of another boot is emptied when it is opened: the domains it speaks of are
// no more.
//
// Threads: one; another process that has the file open is refused. Ownership: the object owns the
// environment, a transaction must end before it goes. Units: bytes; a key has at most kMaxKey. Errors:
// Result, LMDB's own words.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"

struct MDB_env;
struct MDB_txn;

namespace synfluid::spawner::store {

enum class LmdbTable : uint8_t { kMeta, kNodes, kDomains, kWatches, kRings };
inline constexpr size_t kLmdbTables = 5;
inline constexpr size_t kMaxKey = 511;

class LmdbFile {
 public:
  class Transaction {
   public:
    Transaction(Transaction&& other) noexcept;
    Transaction& operator=(Transaction&&) = delete;
    ~Transaction();  ///< undone, unless committed

    Status put(LmdbTable table, std::string_view key, std::string_view value);
    /// A key that is not there is none to erase: no error.
    Status erase(LmdbTable table, std::string_view key);
    Status erase_beginning(LmdbTable table, std::string_view prefix);
    /// Valid until the next change.
    std::optional<std::string_view> get(LmdbTable table, std::string_view key);
    Status for_each(LmdbTable table,
                    const std::function<void(std::string_view key, std::string_view value)>& visit);
    Status commit();

   private:
    friend class LmdbFile;
    Transaction(LmdbFile& file, MDB_txn* txn) : file_(&file), txn_(txn) {}
    LmdbFile* file_;
    MDB_txn* txn_;
  };

  /// Makes the file, and the one beside it with "-lock" at its end, if they are not there. kConflict: another
  /// process has it open.
  static Result<std::unique_ptr<LmdbFile>> open(const std::string& path);
  ~LmdbFile();
  LmdbFile(const LmdbFile&) = delete;
  LmdbFile& operator=(const LmdbFile&) = delete;

  Result<Transaction> begin();

 private:
  LmdbFile() = default;
  Status open_tables();
  Status empty_if_of_another_boot();

  MDB_env* env_ = nullptr;
  unsigned tables_[kLmdbTables] = {};
  UniqueFd lock_;
};

}  // namespace synfluid::spawner::store
