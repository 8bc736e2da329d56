// A XenStore client of the fewest instructions: requests and replies on a unix socket, no library in between.
//
// Threads: one. Ownership: a client owns its socket. Errors: Result; a reply of type ERROR is an Error that
// names the protocol's word for it. Source: Xen's xs_wire.h; the numbers below are the protocol's.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"

namespace synfluid::bench {

enum class StoreOp : uint32_t {
  kRead = 2,
  kWatch = 4,
  kTransactionStart = 6,
  kTransactionEnd = 7,
  kIntroduce = 8,
  kRelease = 9,
  kWrite = 11,
  kRemove = 13,
  kWatchEvent = 15,
  kError = 16,
};

struct StoreReply {
  StoreOp op = StoreOp::kError;
  std::string payload;
};

class StoreClient {
 public:
  static Result<StoreClient> connect(const std::string& path);

  /// One request in one write. Replies may be waited for later, in the order of their requests.
  Status send(StoreOp op, std::string_view payload, uint32_t transaction = 0);
  /// A request for each payload, all in one write.
  Status send_all(StoreOp op, std::span<const std::string> payloads);
  /// Waits for the next message, whatever it is; an ERROR becomes an Error.
  Result<StoreReply> receive();
  /// Sends, and waits for the reply; watch events on the way are dropped.
  Result<std::string> call(StoreOp op, std::string_view payload, uint32_t transaction = 0);

  Status write(const std::string& path, std::string_view value, uint32_t transaction = 0);
  Status watch(const std::string& path, const std::string& token);

 private:
  explicit StoreClient(UniqueFd fd) : fd_(std::move(fd)) {}
  Status send_bytes(std::string_view bytes);
  Status fill(size_t wanted);

  UniqueFd fd_;
  std::string received_{};  ///< and not yet looked at
};

/// What a WRITE carries: the path, a zero byte, the value.
std::string write_payload(std::string_view path, std::string_view value);
/// Strings of a request, each with its zero byte.
std::string strings_payload(std::initializer_list<std::string_view> strings);

}  // namespace synfluid::bench
