// The responder's answers: small records from which any byte of the answer can be made again.
#pragma once

#include <cstdint>
#include <span>

#include "base/abi/card.h"
#include "guest/net/address.h"
#include "guest/services/http_request.h"

namespace synfluid::guest {

/// One answer on a connection's stream.
struct HttpResponse {
  uint64_t start = 0;  ///< where in the stream its first byte is
  uint64_t head_bytes = 0;
  uint64_t body_bytes = 0;     ///< that follow the head: none for HEAD
  uint64_t since_syn_us = 0;   ///< when the request was complete
  uint64_t pattern_bytes = 0;  ///< /bytes/N: how many; the page otherwise
  uint32_t number = 0;         ///< of the request on its connection, from 1
  uint16_t status = 200;
  bool is_pattern = false;
  bool is_head = false;
  bool keep_alive = false;

  uint64_t end() const { return start + head_bytes + body_bytes; }
};

/// The page of /bytes/N: byte i of it.
constexpr char pattern_byte(uint64_t i) {
  return "0123456789abcdef"[(i + (i >> 4) + (i >> 12)) & 15];
}

class ResponseWriter {
 public:
  explicit ResponseWriter(const abi::Card& card);

  /// Fills in the lengths of an answer that begins at `start`.
  HttpResponse answer(const HttpRequest& request, uint64_t start, uint32_t number, uint64_t since_syn_us,
                      const net::Endpoint& client, const net::Endpoint& server);

  /// Writes the answer's bytes from `offset` (of the answer) on; they must be within it.
  void write(const HttpResponse& response, const net::Endpoint& client, const net::Endpoint& server,
             uint64_t offset, std::span<std::byte> into);

 private:
  size_t page(const HttpResponse& response, const net::Endpoint& client, const net::Endpoint& server);
  size_t head(const HttpResponse& response, size_t content_length);
  void configured_body(class TextWriter& out) const;

  const abi::Card& card_;
  char head_[320];
  char page_[abi::kCardConfigBytes + 512];
};

}  // namespace synfluid::guest
