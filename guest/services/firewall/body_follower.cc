#include "guest/services/firewall/body_follower.h"

namespace synfluid::guest {
namespace {

/// Beyond, servers differ in what they make of a number.
constexpr uint8_t kMostDigits = 15;

constexpr int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}
constexpr bool is_blank(char c) {
  return c == ' ' || c == '\t';
}

}  // namespace

void BodyFollower::begin(const MessageFraming& framing) {
  *this = {};
  switch (framing.body()) {
    case MessageFraming::Body::kLength:
      state_ = State::kContents;
      contents_left_ = framing.length();
      return;
    case MessageFraming::Body::kChunked:
      state_ = State::kSize;
      return;
    case MessageFraming::Body::kInDoubt:
      state_ = State::kInDoubt;
      return;
    default:
      return;
  }
}

uint32_t BodyFollower::pass_over() {
  const uint64_t passed = contents_left_ < kStrideBytes ? contents_left_ : kStrideBytes;
  contents_left_ -= passed;
  if (contents_left_ == 0 && state_ == State::kContents) state_ = State::kOutside;
  return static_cast<uint32_t>(passed);
}

BodyFollower::Verdict BodyFollower::in_size(char c) {
  const int value = hex_value(c);
  if (value < 0) return digits_ == 0 ? Verdict::kMalformed : behind_size(c);
  if (digits_++ == kMostDigits) return Verdict::kMalformed;
  size_ = size_ << 4 | static_cast<uint64_t>(value);
  return Verdict::kMore;
}

BodyFollower::Verdict BodyFollower::behind_size(char c) {
  if (is_blank(c)) return go(State::kSizeBlank);
  if (c == ';') return go(State::kExtension);
  return c == '\r' ? go(State::kSizeEnd) : Verdict::kMalformed;
}

/// A line that begins with a blank is the empty one to some, and the last line's continuation to others.
BodyFollower::Verdict BodyFollower::at_trailer_start(char c) {
  if (c == '\r') return go(State::kLastEnd);
  return is_blank(c) || c == '\n' ? Verdict::kMalformed : go(State::kTrailer);
}

BodyFollower::Verdict BodyFollower::feed(char c) {
  const bool ends_line = c == '\n';
  switch (state_) {
    case State::kSize:
      return in_size(c);
    case State::kSizeBlank:
      return behind_size(c);
    case State::kExtension:
      if (ends_line) return Verdict::kMalformed;
      return c == '\r' ? go(State::kSizeEnd) : Verdict::kMore;
    case State::kSizeEnd:
      if (!ends_line) return Verdict::kMalformed;
      contents_left_ = size_;
      digits_ = 0;
      size_ = 0;
      return go(contents_left_ == 0 ? State::kTrailerStart : State::kChunkEnd);
    case State::kChunkEnd:
      return c == '\r' ? go(State::kChunkEndLf) : Verdict::kMalformed;
    case State::kChunkEndLf:
      return ends_line ? go(State::kSize) : Verdict::kMalformed;
    case State::kTrailerStart:
      return at_trailer_start(c);
    case State::kTrailer:
      if (ends_line) return Verdict::kMalformed;
      return c == '\r' ? go(State::kTrailerEnd) : Verdict::kMore;
    case State::kTrailerEnd:
      return ends_line ? go(State::kTrailerStart) : Verdict::kMalformed;
    case State::kLastEnd:
      if (!ends_line) return Verdict::kMalformed;
      state_ = State::kOutside;
      return Verdict::kEnd;
    default:
      return Verdict::kMalformed;
  }
}

}  // namespace synfluid::guest
