// Follows the body of an HTTP/1.x request to its end. Contents are passed over by count, unseen; fed byte by
// byte is only what says where they are: chunk sizes with their extensions, the line ends behind chunks, and
// trailers (RFC 9112 7.1).
//
// Strict: a line ends with CRLF, a bare CR or LF is malformed wherever it could be read as an end.
#pragma once

#include <cstdint>

#include "guest/services/firewall/message_framing.h"

namespace synfluid::guest {

class BodyFollower {
 public:
  /// How many bytes of contents are passed over at a time: more than is ever in flight, and little enough for
  /// sequence numbers to compare.
  static constexpr uint32_t kStrideBytes = 1u << 29;

  enum class Verdict : uint8_t { kMore, kEnd, kMalformed };

  /// Precondition: no contradiction.
  void begin(const MessageFraming& framing);
  /// A byte that is not contents. Precondition: is_inside(), and nothing to pass over.
  Verdict feed(char c);

  /// Whether what comes next belongs to a request that has begun: false means a head, or blanks before it.
  bool is_inside() const { return state_ != State::kOutside; }
  /// Whether there are contents to pass over, next in the stream.
  bool has_contents() const { return contents_left_ != 0; }
  /// Passes over what there is, at most one stride; how much that was.
  uint32_t pass_over();

 private:
  enum class State : uint8_t {
    kOutside,
    kContents,  ///< of a known length
    kSize,
    kSizeBlank,  ///< behind the digits
    kExtension,
    kSizeEnd,  ///< behind the CR
    kChunkEnd,
    kChunkEndLf,
    kTrailerStart,
    kTrailer,
    kTrailerEnd,
    kLastEnd,
    kInDoubt,
  };

  Verdict go(State next) {
    state_ = next;
    return Verdict::kMore;
  }
  Verdict in_size(char c);
  Verdict behind_size(char c);
  Verdict at_trailer_start(char c);

  State state_ = State::kOutside;
  uint8_t digits_ = 0;          ///< of the chunk size being read
  uint64_t size_ = 0;           ///< what they say so far
  uint64_t contents_left_ = 0;  ///< to pass over
};

}  // namespace synfluid::guest
