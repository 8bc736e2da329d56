#include "guest/services/firewall/message_framing.h"

namespace synfluid::guest {
namespace {

constexpr std::string_view kChunkedCoding = "chunked";
/// More than any file has, and far from an overflow.
constexpr uint8_t kMostDigits = 18;

}  // namespace

void MessageFraming::begin_field(std::string_view lower_case_name) {
  field_ = Field::kOther;
  if (lower_case_name == "content-length") field_ = Field::kLength;
  if (lower_case_name == "transfer-encoding") field_ = Field::kCoding;
  if (lower_case_name == "upgrade") asks_for_upgrade_ = true;
  part_ = Part::kBefore;
  taken_ = 0;
  value_ = 0;
}

void MessageFraming::in_value(char c) {
  if (field_ == Field::kOther) return;
  if (c == ' ' || c == '\t' || c == '\r') {
    if (part_ == Part::kInside) part_ = Part::kBehind;
    return;
  }
  if (part_ == Part::kBehind || !take(c)) is_malformed_ = true;
  part_ = Part::kInside;
}

/// The next character of a value; false: it has no place there.
bool MessageFraming::take(char c) {
  if (field_ == Field::kLength) {
    if (c < '0' || c > '9' || taken_ == kMostDigits) return false;
    value_ = value_ * 10 + static_cast<uint64_t>(c - '0');
  } else {
    const char lower = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    if (taken_ == kChunkedCoding.size() || lower != kChunkedCoding[taken_]) return false;
  }
  ++taken_;
  return true;
}

void MessageFraming::end_field() {
  if (field_ == Field::kLength) {
    if (taken_ == 0 || (has_length_ && value_ != length_)) is_malformed_ = true;
    has_length_ = true;
    length_ = value_;
  } else if (field_ == Field::kCoding) {
    if (taken_ != kChunkedCoding.size()) is_malformed_ = true;
    codings_ = codings_ == 0 ? 1 : 2;
  }
  field_ = Field::kOther;
}

MessageFraming::Body MessageFraming::body() const {
  const bool has_coding = codings_ != 0;
  const bool connects_with_body = is_connect_ && (has_coding || length_ != 0);
  if (is_malformed_ || codings_ > 1 || (has_coding && (has_length_ || !is_http_1_1_)) || connects_with_body)
    return Body::kContradiction;
  if (in_doubt_) return Body::kInDoubt;
  if (has_coding) return Body::kChunked;
  return length_ != 0 ? Body::kLength : Body::kNone;
}

}  // namespace synfluid::guest
