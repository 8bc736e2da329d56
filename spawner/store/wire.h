// The XenStore wire protocol: message headers, types, limits, the names of its errors, and the fields of a
// payload.
//
// Threads: values and pure functions. Ownership: fields are views into the payload they were found in.
// Units: bytes. Errors: a Fault, which has a name on the wire.
//
// Protocol: Xen's docs/misc/xenstore.txt and xen/io/xs_wire.h; wire.cc holds this header to the latter.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/strong_id.h"

namespace synfluid::spawner::store {

enum class MessageType : uint32_t {
  kControl = 0,
  kDirectory = 1,
  kRead = 2,
  kGetPerms = 3,
  kWatch = 4,
  kUnwatch = 5,
  kTransactionStart = 6,
  kTransactionEnd = 7,
  kIntroduce = 8,
  kRelease = 9,
  kGetDomainPath = 10,
  kWrite = 11,
  kMkdir = 12,
  kRm = 13,
  kSetPerms = 14,
  kWatchEvent = 15,
  kError = 16,
  kIsDomainIntroduced = 17,
  kResume = 18,
  kSetTarget = 19,
  kResetWatches = 21,
  kDirectoryPart = 22,
};
inline constexpr uint32_t kMessageTypes = 23;

/// The type's name as the protocol spells it; "?" for a number without one.
std::string_view to_string(MessageType type);

/// What every message begins with, in the machine's byte order; `length` bytes follow.
struct Header {
  MessageType type = MessageType::kControl;
  uint32_t request_id = 0;
  uint32_t transaction_id = 0;
  uint32_t length = 0;
  friend bool operator==(const Header&, const Header&) = default;
};
static_assert(sizeof(Header) == 16);

inline constexpr size_t kHeaderBytes = sizeof(Header);
/// A peer that announces more is broken: its connection ends.
inline constexpr size_t kMaxPayload = 4096;
inline constexpr size_t kMaxAbsolutePath = 3072;
inline constexpr size_t kMaxRelativePath = 2048;

/// The header at the front of `bytes`, which hold at least kHeaderBytes; its length is not checked.
Header parse_header(std::span<const char> bytes);
void write_header(const Header& header, std::span<char, kHeaderBytes> bytes);

/// Why a request was refused; kNone is no refusal.
enum class Fault : uint8_t {
  kNone,
  kEinval,
  kEacces,
  kEexist,
  kEisdir,
  kEnoent,
  kEnomem,
  kEnospc,
  kEio,
  kEnotempty,
  kEnosys,
  kErofs,
  kEbusy,
  kEagain,
  kEisconn,
  kE2big,
  kEperm,
};
inline constexpr size_t kFaults = 17;

/// Its name on the wire ("ENOENT"); "OK" for kNone.
std::string_view to_string(Fault fault);
/// kEinval for an errno that the protocol has no name for.
Fault fault_from_errno(int sys_errno);
int errno_of(Fault fault);

/// The fields of a payload one after another, each ended by a NUL. What follows the last NUL is `rest()`.
class Fields {
 public:
  explicit Fields(std::span<const char> payload) : rest_(payload.data(), payload.size()) {}

  /// Nothing when no NUL is left.
  std::optional<std::string_view> next() {
    const size_t end = rest_.find('\0');
    if (end == std::string_view::npos) return std::nullopt;
    const std::string_view field = rest_.substr(0, end);
    rest_.remove_prefix(end + 1);
    return field;
  }
  std::string_view rest() const { return rest_; }
  bool done() const { return rest_.empty(); }

 private:
  std::string_view rest_;
};

/// A payload of exactly one field.
std::optional<std::string_view> only_field(std::span<const char> payload);

/// What a domain may do with a node.
enum class Access : uint8_t { kNone = 0, kRead = 1, kWrite = 2, kReadWrite = 3 };
constexpr bool allows(Access have, Access wanted) {
  return (static_cast<uint8_t>(have) & static_cast<uint8_t>(wanted)) == static_cast<uint8_t>(wanted);
}

/// One entry of a node's permissions. The first names the owner, and what everybody else may.
struct Permission {
  DomId domid;
  Access access = Access::kNone;
  friend constexpr auto operator<=>(const Permission&, const Permission&) = default;
};

/// "r7" and the like.
std::optional<Permission> parse_permission(std::string_view text);
void append_permission(std::string& text, Permission permission);

/// A decimal domain id of 0..65535 without anything around it.
std::optional<DomId> parse_domid(std::string_view text);

/// Letters, digits, "-/_@", no empty component, no slash at the end but the root's, not too long. Special
/// paths ("@releaseDomain") are not paths here.
bool is_absolute_path(std::string_view path);
bool is_relative_path(std::string_view path);
/// '@' and one or more characters of a path, without a slash at its end.
bool is_special_path(std::string_view path);

/// "/a" of "/a/b"; "/" of "/a"; the root has none and gives itself.
std::string_view parent_of(std::string_view path);
/// "b" of "/a/b".
std::string_view name_of(std::string_view path);
/// True for the path itself too.
bool is_at_or_below(std::string_view path, std::string_view ancestor);

}  // namespace synfluid::spawner::store
