#include "spawner/store/wire.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>

extern "C" {
#include <xen/io/xs_wire.h>
}

namespace synfluid::spawner::store {
namespace {

constexpr bool same(MessageType ours, xsd_sockmsg_type theirs) {
  return static_cast<uint32_t>(ours) == static_cast<uint32_t>(theirs);
}
static_assert(sizeof(Header) == sizeof(xsd_sockmsg));
static_assert(offsetof(Header, type) == offsetof(xsd_sockmsg, type));
static_assert(offsetof(Header, request_id) == offsetof(xsd_sockmsg, req_id));
static_assert(offsetof(Header, transaction_id) == offsetof(xsd_sockmsg, tx_id));
static_assert(offsetof(Header, length) == offsetof(xsd_sockmsg, len));
static_assert(kMaxPayload == XENSTORE_PAYLOAD_MAX);
static_assert(kMaxAbsolutePath == XENSTORE_ABS_PATH_MAX);
static_assert(kMaxRelativePath == XENSTORE_REL_PATH_MAX);
static_assert(kMessageTypes == XS_TYPE_COUNT);
static_assert(same(MessageType::kControl, XS_CONTROL) && same(MessageType::kDirectory, XS_DIRECTORY));
static_assert(same(MessageType::kRead, XS_READ) && same(MessageType::kGetPerms, XS_GET_PERMS));
static_assert(same(MessageType::kWatch, XS_WATCH) && same(MessageType::kUnwatch, XS_UNWATCH));
static_assert(same(MessageType::kTransactionStart, XS_TRANSACTION_START));
static_assert(same(MessageType::kTransactionEnd, XS_TRANSACTION_END));
static_assert(same(MessageType::kIntroduce, XS_INTRODUCE) && same(MessageType::kRelease, XS_RELEASE));
static_assert(same(MessageType::kGetDomainPath, XS_GET_DOMAIN_PATH) && same(MessageType::kWrite, XS_WRITE));
static_assert(same(MessageType::kMkdir, XS_MKDIR) && same(MessageType::kRm, XS_RM));
static_assert(same(MessageType::kSetPerms, XS_SET_PERMS) && same(MessageType::kError, XS_ERROR));
static_assert(same(MessageType::kWatchEvent, XS_WATCH_EVENT) && same(MessageType::kResume, XS_RESUME));
static_assert(same(MessageType::kIsDomainIntroduced, XS_IS_DOMAIN_INTRODUCED));
static_assert(same(MessageType::kSetTarget, XS_SET_TARGET));
static_assert(same(MessageType::kResetWatches, XS_RESET_WATCHES));
static_assert(same(MessageType::kDirectoryPart, XS_DIRECTORY_PART));

struct FaultName {
  int sys_errno;
  std::string_view name;
};
constexpr std::array<FaultName, kFaults> kFaultNames{{
    {0, "OK"},
    {EINVAL, "EINVAL"},
    {EACCES, "EACCES"},
    {EEXIST, "EEXIST"},
    {EISDIR, "EISDIR"},
    {ENOENT, "ENOENT"},
    {ENOMEM, "ENOMEM"},
    {ENOSPC, "ENOSPC"},
    {EIO, "EIO"},
    {ENOTEMPTY, "ENOTEMPTY"},
    {ENOSYS, "ENOSYS"},
    {EROFS, "EROFS"},
    {EBUSY, "EBUSY"},
    {EAGAIN, "EAGAIN"},
    {EISCONN, "EISCONN"},
    {E2BIG, "E2BIG"},
    {EPERM, "EPERM"},
}};

constexpr std::array<std::string_view, kMessageTypes> kTypeNames{"CONTROL",
                                                                 "DIRECTORY",
                                                                 "READ",
                                                                 "GET_PERMS",
                                                                 "WATCH",
                                                                 "UNWATCH",
                                                                 "TRANSACTION_START",
                                                                 "TRANSACTION_END",
                                                                 "INTRODUCE",
                                                                 "RELEASE",
                                                                 "GET_DOMAIN_PATH",
                                                                 "WRITE",
                                                                 "MKDIR",
                                                                 "RM",
                                                                 "SET_PERMS",
                                                                 "WATCH_EVENT",
                                                                 "ERROR",
                                                                 "IS_DOMAIN_INTRODUCED",
                                                                 "RESUME",
                                                                 "SET_TARGET",
                                                                 "?",
                                                                 "RESET_WATCHES",
                                                                 "DIRECTORY_PART"};

/// Sixteen bytes at once, a comparison giving 0xff or 0 for each.
using Bytes = unsigned char __attribute__((vector_size(16)));

Bytes load(const char* from) {
  Bytes bytes;
  std::memcpy(&bytes, from, sizeof bytes);
  return bytes;
}

/// The first, then fifteen of those that follow.
Bytes load_after(char first, const char* from) {
  std::array<char, 16> bytes;
  bytes[0] = first;
  std::memcpy(bytes.data() + 1, from, 15);
  return load(bytes.data());
}

bool any(Bytes bytes) {
  uint64_t halves[2];
  std::memcpy(halves, &bytes, sizeof halves);
  return (halves[0] | halves[1]) != 0;
}

/// Non-zero where `here` is no byte of a path, or a '/' that follows one.
Bytes misplaced(Bytes here, Bytes before) {
  const Bytes letters = (here | 0x20) - 'a';
  const Bytes digits = here - '0';
  const Bytes slashes = here == '/';
  const Bytes allowed =
      (letters < 26) | (digits < 10) | slashes | (here == '-') | (here == '_') | (here == '@');
  return ~allowed | (slashes & (before == '/'));
}

/// No byte that is not allowed, no "//", no '/' at the end.
bool has_path_form(std::string_view path) {
  if (path.empty() || path.back() == '/') return false;
  // Each block with the byte before it in front, and what is missing made up with a harmless letter.
  std::array<char, 17> block;
  Bytes wrong{};
  size_t at = 0;
  for (; at + 16 <= path.size(); at += 16)
    wrong |= misplaced(load(path.data() + at),
                       at == 0 ? load_after('a', path.data()) : load(path.data() + at - 1));
  block.fill('a');
  if (at > 0) block[0] = path[at - 1];
  std::memcpy(block.data() + 1, path.data() + at, path.size() - at);
  wrong |= misplaced(load(block.data() + 1), load(block.data()));
  return !any(wrong);
}

}  // namespace

std::string_view to_string(MessageType type) {
  const auto index = static_cast<uint32_t>(type);
  return index < kTypeNames.size() ? kTypeNames[index] : "?";
}

Header parse_header(std::span<const char> bytes) {
  Header header;
  std::memcpy(&header, bytes.data(), sizeof header);
  return header;
}

void write_header(const Header& header, std::span<char, kHeaderBytes> bytes) {
  std::memcpy(bytes.data(), &header, sizeof header);
}

std::string_view to_string(Fault fault) {
  return kFaultNames[static_cast<size_t>(fault)].name;
}

Fault fault_from_errno(int sys_errno) {
  const auto found = std::ranges::find(kFaultNames, sys_errno, &FaultName::sys_errno);
  return found == kFaultNames.end() ? Fault::kEinval : static_cast<Fault>(found - kFaultNames.begin());
}

int errno_of(Fault fault) {
  return kFaultNames[static_cast<size_t>(fault)].sys_errno;
}

std::optional<std::string_view> only_field(std::span<const char> payload) {
  Fields fields(payload);
  const auto field = fields.next();
  return field && fields.done() ? field : std::nullopt;
}

std::optional<DomId> parse_domid(std::string_view text) {
  uint16_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end) return std::nullopt;
  return DomId(value);
}

std::optional<Permission> parse_permission(std::string_view text) {
  static constexpr std::string_view kLetters = "nrwb";
  if (text.empty()) return std::nullopt;
  const size_t access = kLetters.find(text[0]);
  const auto domid = parse_domid(text.substr(1));
  if (access == std::string_view::npos || !domid) return std::nullopt;
  return Permission{*domid, static_cast<Access>(access)};
}

void append_permission(std::string& text, Permission permission) {
  std::array<char, 8> digits;
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), permission.domid.value()).ptr;
  text += "nrwb"[static_cast<size_t>(permission.access)];
  text.append(digits.data(), end);
}

bool is_absolute_path(std::string_view path) {
  if (path == "/") return true;
  return !path.empty() && path[0] == '/' && path.size() <= kMaxAbsolutePath && has_path_form(path);
}

bool is_relative_path(std::string_view path) {
  return !path.empty() && path[0] != '/' && path[0] != '@' && path.size() <= kMaxRelativePath &&
         has_path_form(path);
}

bool is_special_path(std::string_view path) {
  return path.size() > 1 && path[0] == '@' && path[1] != '/' && path.size() <= kMaxRelativePath &&
         has_path_form(path);
}

std::string_view parent_of(std::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == 0 || slash == std::string_view::npos ? "/" : path.substr(0, slash);
}

std::string_view name_of(std::string_view path) {
  return path.substr(path.rfind('/') + 1);
}

bool is_at_or_below(std::string_view path, std::string_view ancestor) {
  if (ancestor == "/") return true;
  return path.starts_with(ancestor) && (path.size() == ancestor.size() || path[ancestor.size()] == '/');
}

}  // namespace synfluid::spawner::store
