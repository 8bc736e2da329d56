// Errors as values, for the control path.
//
// A Result<T> holds a T or an Error; neither may be dropped unseen ([[nodiscard]]). The data path does not
// use it: there a packet gets a verdict (see gateway/). Each adapter to the outside world (Xen, Linux, DPDK,
// libpcap, YAML) translates its failures to an Error once, at its own border.
//
// Threads: values, no shared state. Ownership: an Error owns its text.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include <tl/expected.hpp>

namespace synfluid {

/// What kind of thing went wrong, for code that has to act on it. The text is for people.
enum class ErrorCode {
  kInvalidArgument,  ///< the caller's or operator's input is wrong
  kNotFound,         ///< a file, domain, node or device that was named does not exist
  kPermission,       ///< the process may not do this
  kNoMemory,         ///< memory (ours, or the hypervisor's) is used up
  kExhausted,        ///< another bounded resource is used up: ids, ports, grants, descriptors
  kUnavailable,      ///< the facility is not there: no Xen, no hugepages, no such device
  kProtocol,         ///< a peer broke its protocol
  kTimeout,          ///< it did not happen in time
  kConflict,         ///< somebody else changed it first; may be tried again
  kSystem,           ///< any other failure that a system call or library reported
};

std::string_view to_string(ErrorCode code);

class Error {
 public:
  /// `text` says what was tried and what came of it, in one line without a final stop.
  Error(ErrorCode code, std::string text, int sys_errno = 0)
      : code_(code), sys_errno_(sys_errno), text_(std::move(text)) {}

  /// From an errno value; picks the code that fits and appends the system's own words.
  static Error from_errno(int sys_errno, std::string_view what);

  ErrorCode code() const { return code_; }
  int sys_errno() const { return sys_errno_; }
  const std::string& text() const { return text_; }

  /// The same error, with what the caller was doing put in front: "context: text".
  Error within(std::string_view context) const;

 private:
  ErrorCode code_;
  int sys_errno_;
  std::string text_;
};

template <class T>
class [[nodiscard]] Result : public tl::expected<T, Error> {
 public:
  using tl::expected<T, Error>::expected;
  Result(const Error& error) : tl::expected<T, Error>(tl::make_unexpected(error)) {}
  Result(Error&& error) : tl::expected<T, Error>(tl::make_unexpected(std::move(error))) {}
};

using Status = Result<void>;

}  // namespace synfluid
