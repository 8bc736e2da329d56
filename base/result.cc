#include "base/result.h"

#include <cerrno>
#include <system_error>

#include <fmt/format.h>

namespace synfluid {

std::string_view to_string(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return "invalid argument";
    case ErrorCode::kNotFound:
      return "not found";
    case ErrorCode::kPermission:
      return "permission denied";
    case ErrorCode::kNoMemory:
      return "out of memory";
    case ErrorCode::kExhausted:
      return "resource exhausted";
    case ErrorCode::kUnavailable:
      return "unavailable";
    case ErrorCode::kProtocol:
      return "protocol error";
    case ErrorCode::kTimeout:
      return "timed out";
    case ErrorCode::kConflict:
      return "conflict";
    case ErrorCode::kSystem:
      return "system error";
  }
  return "unknown error";
}

namespace {

ErrorCode code_of(int sys_errno) {
  switch (sys_errno) {
    case EINVAL:
      return ErrorCode::kInvalidArgument;
    case ENOENT:
    case ESRCH:
      return ErrorCode::kNotFound;
    case EPERM:
    case EACCES:
      return ErrorCode::kPermission;
    case ENOMEM:
      return ErrorCode::kNoMemory;
    case ENOSPC:
    case EMFILE:
    case ENFILE:
      return ErrorCode::kExhausted;
    case ENODEV:
    case ENXIO:
    case ENOSYS:
    case EOPNOTSUPP:
      return ErrorCode::kUnavailable;
    case EPROTO:
      return ErrorCode::kProtocol;
    case ETIMEDOUT:
      return ErrorCode::kTimeout;
    case EAGAIN:
      return ErrorCode::kConflict;
    default:
      return ErrorCode::kSystem;
  }
}

}  // namespace

Error Error::from_errno(int sys_errno, std::string_view what) {
  return {code_of(sys_errno), fmt::format("{}: {}", what, std::generic_category().message(sys_errno)),
          sys_errno};
}

Error Error::within(std::string_view context) const {
  return {code_, fmt::format("{}: {}", context, text_), sys_errno_};
}

}  // namespace synfluid
