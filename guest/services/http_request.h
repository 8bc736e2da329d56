// HTTP/1.x requests, byte by byte: the parser keeps what the answer depends on and forgets the rest.
//
// Strict where it matters (RFC 9112): a bad request line, a header without a colon, whitespace before the
// colon, a missing or second Host in HTTP/1.1, a malformed length are 400; a head longer than kMaxHeadBytes
// is 431. A bare LF ends a line as well as CRLF; empty lines before a request are skipped.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace synfluid::guest {

inline constexpr uint32_t kMaxHeadBytes = 8192;

enum class HttpMethod : uint8_t { kGet, kHead, kOther };

/// What came out of one request.
struct HttpRequest {
  HttpMethod method = HttpMethod::kOther;
  uint16_t error = 0;  ///< 400, 431, 501 or 505 instead of an answer; 0: a good request
  bool keep_alive = false;
  bool wants_bytes = false;  ///< the path was /bytes/<number>
  uint64_t bytes = 0;
  uint64_t body_bytes = 0;  ///< of the request, to be skipped
};

class HttpRequestParser {
 public:
  /// Starts over, for the next request of the connection.
  void reset() { *this = HttpRequestParser{}; }

  /// Takes bytes up to the end of a request's head. Returns how many were taken; done() says whether it
  /// ended.
  size_t feed(std::span<const std::byte> bytes);
  bool done() const { return state_ == State::kDone; }
  const HttpRequest& request() const { return request_; }
  /// Nothing of a request has come yet.
  bool is_fresh() const { return state_ == State::kStart; }

 private:
  enum class State : uint8_t { kStart, kMethod, kTarget, kVersion, kName, kSpace, kValue, kDone };
  enum class Header : uint8_t { kOther, kConnection, kContentLength, kTransferEncoding, kHost };

  void step(char c);
  void in_method(char c);
  void in_target(char c);
  void in_version(char c);
  void in_name(char c);
  void in_value(char c);
  void end_of_version();
  void end_of_name();
  void end_of_value();
  void end_of_head();
  void end_of_target();
  void fail(uint16_t status);
  void keep(char c);
  std::string_view word() const { return {word_, word_length_}; }

  State state_ = State::kStart;
  Header header_ = Header::kOther;
  bool word_overflow_ = false;
  bool version_1_1_ = false;
  bool has_host_ = false;
  bool has_length_ = false;
  bool says_close_ = false;
  bool says_keep_alive_ = false;
  bool carriage_return_ = false;
  uint8_t word_length_ = 0;
  uint16_t head_bytes_ = 0;
  char word_[40] = {};
  HttpRequest request_;
};

}  // namespace synfluid::guest
