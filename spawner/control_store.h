// The waist to XenStore: small nodes by path, transactions, watches.
//
// Threads: one thread, the spawner's. Ownership: the store owns its connection; watches end with it. Paths
// are absolute ("/local/domain/7/name"), values are bytes of up to 2 KiB. Errors: Result; kNotFound for a
// node that does not exist, kPermission, kExhausted for a quota, kConflict for a transaction that kept being
// overtaken, kUnavailable without a store.
//
// Protocol: Xen's docs/misc/xenstore.txt. Any xenstored can be behind it.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/strong_id.h"

namespace synfluid::spawner {

enum class StoreAccess : uint8_t { kNone, kRead, kWrite, kReadWrite };

struct StoreGrant {
  DomId domid;
  StoreAccess access = StoreAccess::kNone;
  friend constexpr auto operator<=>(const StoreGrant&, const StoreGrant&) = default;
};

/// Who may do what with a node. Its owner may do everything; nodes made below it get the same permissions.
struct StorePermissions {
  DomId owner;
  StoreAccess others = StoreAccess::kNone;
  std::vector<StoreGrant> grants;
  friend bool operator==(const StorePermissions&, const StorePermissions&) = default;
};

/// The nodes, as seen from outside any transaction or from inside one.
class StoreView {
 public:
  virtual ~StoreView() = default;

  virtual Result<std::string> read(const std::string& path) = 0;
  /// Makes the node, and those above it, if they are missing.
  virtual Status write(const std::string& path, const std::string& value) = 0;
  virtual Status make_directory(const std::string& path) = 0;
  /// The node and all below it. A node that does not exist is no error.
  virtual Status remove(const std::string& path) = 0;
  /// The names right below a node.
  virtual Result<std::vector<std::string>> list(const std::string& path) = 0;
  virtual Status set_permissions(const std::string& path, const StorePermissions& permissions) = 0;
};

/// Something at or below `path` changed. The watch is told apart by its token.
struct StoreEvent {
  std::string path;
  std::string token;
};

/// Attempts at one transaction. Others' writes overtake ours; a store where that happens ten times in a row
/// is in trouble of its own.
inline constexpr int kStoreAttempts = 10;

class ControlStore : public StoreView {
 public:
  /// Runs `body` inside a transaction: all of it happens or nothing. Run again from the start when somebody
  /// else's change came between, kStoreAttempts times; the last answer is then kConflict. An error of `body`
  /// ends it at once.
  virtual Status transact(const std::function<Status(StoreView&)>& body) = 0;

  /// Reports changes at and below `path`, and once at the start.
  virtual Status watch(const std::string& path, const std::string& token) = 0;
  virtual Status unwatch(const std::string& path, const std::string& token) = 0;
  /// Readable when next_event() has something.
  virtual int event_fd() const = 0;
  /// Without waiting.
  virtual std::optional<StoreEvent> next_event() = 0;

  /// Lets a domain talk to the store by its ring page and event channel.
  virtual Status introduce(DomId domid, uint64_t ring_frame, EventPort port) = 0;
  /// The reverse; the domain's connection ends. No error if it was not introduced.
  virtual Status release(DomId domid) = 0;
};

}  // namespace synfluid::spawner
