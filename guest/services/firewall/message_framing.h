// Where the body of an HTTP/1.x request ends, by what its head says (RFC 9112 6 and 7.1).
//
// Strict, for whoever is lenient here reads other requests than the server does: a length is digits alone, a
// coding is "chunked" alone and of HTTP/1.1, and the two never come together. A folded line is a part of the
// one before to some servers and a header to others, as is what stands behind a bare CR: both are
// contradictions. Other oddities (bare LF, lines without a colon, names that are no token) leave in doubt
// where the body ends: then nothing may come behind the head.
#pragma once

#include <cstdint>
#include <string_view>

namespace synfluid::guest {

class MessageFraming {
 public:
  enum class Body : uint8_t {
    kNone,
    kLength,
    kChunked,
    kInDoubt,
    kContradiction,  ///< see above; also several values that differ, or one that is none
  };

  // As the head is read.
  void begin_field(std::string_view lower_case_name);
  void in_value(char c);
  void end_field();
  void note_connect() { is_connect_ = true; }
  void note_http_1_1() { is_http_1_1_ = true; }
  void note_doubt() { in_doubt_ = true; }
  void note_contradiction() { is_malformed_ = true; }

  // At the end of the head.
  Body body() const;
  /// Of a body with kLength.
  uint64_t length() const { return length_; }
  /// Whether the server may agree to another protocol behind this request.
  bool may_switch() const { return is_connect_ || asks_for_upgrade_; }

 private:
  enum class Field : uint8_t { kOther, kLength, kCoding };
  enum class Part : uint8_t { kBefore, kInside, kBehind };  ///< of the value's blanks

  bool take(char c);

  Field field_ = Field::kOther;
  Part part_ = Part::kBefore;
  bool is_connect_ = false;
  bool is_http_1_1_ = false;
  bool in_doubt_ = false;
  bool asks_for_upgrade_ = false;
  bool is_malformed_ = false;
  bool has_length_ = false;
  uint8_t codings_ = 0;  ///< how many fields; 2 stands for more
  uint8_t taken_ = 0;    ///< characters of the value without its blanks
  uint64_t value_ = 0;   ///< of the length being read
  uint64_t length_ = 0;
};

}  // namespace synfluid::guest
