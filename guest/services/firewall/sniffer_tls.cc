// The TLS half of the sniffer: records, the ClientHello in them, and its server_name extension.
#include "guest/services/firewall/host_sniffer.h"

namespace synfluid::guest {
namespace {

constexpr uint8_t kTlsHandshake = 22;
constexpr uint8_t kClientHello = 1;
constexpr uint16_t kServerNameExtension = 0;
constexpr uint8_t kHostName = 0;
constexpr uint32_t kMaxRecordBytes = 16384 + 2048;
/// legacy_version and random, and the length of the session id.
constexpr uint32_t kHelloFixedBytes = 2 + 32 + 1;

}  // namespace

/// The next `bytes` bytes are one field; when it is complete, hello_field_done() or the record's turn comes.
void HostSniffer::expect(State state, uint32_t bytes) {
  state_ = state;
  field_left_ = bytes;
  field_value_ = 0;
}

/// Passes over so many bytes and then expects a field.
void HostSniffer::skip_field(uint32_t bytes, State next, uint32_t next_bytes) {
  if (bytes == 0) {
    expect(next, next_bytes);
    return;
  }
  after_skip_ = next;
  after_skip_bytes_ = next_bytes;
  expect(State::kSkip, bytes);
}

/// Takes record headers out of the way and gives the rest to the hello.
SniffVerdict HostSniffer::in_record(uint8_t byte, const HostRules& rules) {
  if (record_left_ != 0) {
    --record_left_;
    return in_hello(byte, rules);
  }
  // Between records: `count_` bytes of the next header have come; the very first byte was seen by start().
  record_header_ = record_header_ << 8 | byte;
  if (++count_ < 5) {
    const bool wrong = (count_ == 1 && byte != kTlsHandshake) || (count_ == 2 && byte != 3);
    return wrong ? (is_inside_hello_ ? SniffVerdict::kSuspicious : SniffVerdict::kPass) : SniffVerdict::kMore;
  }
  record_left_ = record_header_ & 0xffff;
  count_ = 0;
  if (record_left_ > kMaxRecordBytes)
    return is_inside_hello_ ? SniffVerdict::kSuspicious : SniffVerdict::kPass;
  return SniffVerdict::kMore;
}

SniffVerdict HostSniffer::in_hello(uint8_t byte, const HostRules& rules) {
  if (state_ != State::kHandshakeHeader) {
    if (message_left_ == 0) return SniffVerdict::kSuspicious;
    --message_left_;
  }
  field_value_ = field_value_ << 8 | byte;
  if (state_ == State::kServerName) keep(static_cast<char>(byte));
  if (--field_left_ != 0) return SniffVerdict::kMore;
  return hello_field_done(rules);
}

SniffVerdict HostSniffer::hello_field_done(const HostRules& rules) {
  const uint32_t value = field_value_;
  switch (state_) {
    case State::kHandshakeHeader:
      if (value >> 24 != kClientHello) return SniffVerdict::kPass;
      is_inside_hello_ = true;
      message_left_ = value & 0xffffff;
      expect(State::kHelloFixed, kHelloFixedBytes);
      return SniffVerdict::kMore;
    case State::kHelloFixed:
      skip_field(value & 0xff, State::kCiphersLength, 2);
      return SniffVerdict::kMore;
    case State::kCiphersLength:
      skip_field(value, State::kCompressionLength, 1);
      return SniffVerdict::kMore;
    case State::kCompressionLength:
      // A hello of the oldest kind ends behind its compression methods.
      if (message_left_ <= value)
        return message_left_ == value ? SniffVerdict::kPass : SniffVerdict::kSuspicious;
      skip_field(value, State::kExtensionsLength, 2);
      return SniffVerdict::kMore;
    case State::kExtensionsLength:
      if (value > message_left_) return SniffVerdict::kSuspicious;
      message_left_ = value;
      return next_extension();
    case State::kExtensionHeader:
      extension_type_ = static_cast<uint16_t>(value >> 16);
      if ((value & 0xffff) > message_left_) return SniffVerdict::kSuspicious;
      return begin_extension(value & 0xffff);
    case State::kNameListHeader:
      // List length, entry type, name length.
      if ((value >> 16 & 0xff) != kHostName) return SniffVerdict::kSuspicious;
      return begin_name(value & 0xffff);
    case State::kServerName:
      if (overflow_) return SniffVerdict::kSuspicious;
      return rules.is_blocked(name()) ? SniffVerdict::kBlock : SniffVerdict::kPass;
    default:
      if (after_skip_ == State::kExtensionHeader) return next_extension();
      expect(after_skip_, after_skip_bytes_);
      return SniffVerdict::kMore;
  }
}

SniffVerdict HostSniffer::next_extension() {
  if (message_left_ == 0) return SniffVerdict::kPass;
  if (message_left_ < 4) return SniffVerdict::kSuspicious;
  expect(State::kExtensionHeader, 4);
  return SniffVerdict::kMore;
}

SniffVerdict HostSniffer::begin_extension(uint32_t bytes) {
  constexpr uint32_t kNameListBytes = 5;
  if (extension_type_ == kServerNameExtension && bytes >= kNameListBytes) {
    extension_left_ = bytes - kNameListBytes;
    expect(State::kNameListHeader, kNameListBytes);
    return SniffVerdict::kMore;
  }
  if (bytes == 0) return next_extension();
  skip_field(bytes, State::kExtensionHeader, 4);
  return SniffVerdict::kMore;
}

SniffVerdict HostSniffer::begin_name(uint32_t bytes) {
  if (bytes == 0 || bytes > extension_left_) return SniffVerdict::kSuspicious;
  name_length_ = 0;
  overflow_ = false;
  expect(State::kServerName, bytes);
  return SniffVerdict::kMore;
}

}  // namespace synfluid::guest
