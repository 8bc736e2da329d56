// Finds out which host a client asks for: by the Host header or the absolute target of one HTTP/1.x request,
// or the server name of a TLS ClientHello (RFC 9112, RFC 8446, RFC 6066).
//
// Fed byte by byte, in order, so that segment and record boundaries do not matter. As lenient as servers are:
// empty lines and blanks before the request, bare LF, blanks before the colon, folded lines. Decides at the
// end of the head, on the target's host and every Host header: which of several a server takes is its own
// affair. Leniency about the host is none about the head's end: see message_framing.h.
#pragma once

#include <cstdint>
#include <string_view>

#include "guest/services/firewall/host_rules.h"
#include "guest/services/firewall/message_framing.h"

namespace synfluid::guest {

/// Within so many bytes a host must be named.
inline constexpr uint32_t kMaxSniffedBytes = 4096;

enum class SniffVerdict : uint8_t {
  kMore,     ///< not yet known
  kPass,     ///< not HTTP; if it is TLS, it names no host, or one that is not blocked
  kRequest,  ///< the head of an HTTP request is complete; it names no host, or none that is blocked
  kBlock,
  kSuspicious,  ///< began as HTTP or TLS and contradicts itself, or the name is longer than any can be
};

class HostSniffer {
 public:
  SniffVerdict feed(uint8_t byte, const HostRules& rules);
  /// Whether only blanks and empty lines have come.
  bool is_at_start() const { return state_ == State::kStart; }
  /// What follows the head. Precondition: kRequest was the verdict.
  const MessageFraming& framing() const { return framing_; }

 private:
  enum class State : uint8_t {
    kStart,
    kMethod,
    kTarget,
    kRequestLine,
    kLineStart,
    kName,
    kValue,
    kHandshakeHeader,
    kHelloFixed,
    kCiphersLength,
    kCompressionLength,
    kExtensionsLength,
    kExtensionHeader,
    kNameListHeader,
    kServerName,
    kSkip,
  };

  SniffVerdict dispatch(uint8_t byte, const HostRules& rules);
  SniffVerdict start(uint8_t byte);
  SniffVerdict in_method(char c);
  SniffVerdict in_target(char c, const HostRules& rules);
  SniffVerdict in_request_line(char c);
  SniffVerdict at_line_start(char c, const HostRules& rules);
  SniffVerdict in_name(char c);
  SniffVerdict in_value(char c);
  SniffVerdict end_head();
  void begin_value();
  void look_for_doubt(char c);
  void collect_target(char c);
  SniffVerdict judge_host(const HostRules& rules);

  SniffVerdict in_record(uint8_t byte, const HostRules& rules);
  SniffVerdict in_hello(uint8_t byte, const HostRules& rules);
  SniffVerdict hello_field_done(const HostRules& rules);
  SniffVerdict next_extension();
  SniffVerdict begin_extension(uint32_t bytes);
  SniffVerdict begin_name(uint32_t bytes);
  void expect(State state, uint32_t bytes);
  void skip_field(uint32_t bytes, State next, uint32_t next_bytes);

  void keep(char c);
  std::string_view name() const { return {name_, name_length_}; }

  State state_ = State::kStart;
  bool overflow_ = false;        ///< of name_
  bool target_blocked_ = false;  ///< HTTP: the request target names a blocked host
  bool is_connect_ = false;
  bool after_cr_ = false;
  bool has_authority_ = false;  ///< the target has, or is, a host
  bool collecting_ = false;     ///< the target may still turn out to have a host
  bool is_host_header_ = false;
  bool has_good_host_ = false;    ///< HTTP: a Host header that is not blocked
  bool is_inside_hello_ = false;  ///< TLS: a ClientHello has begun
  uint8_t matched_ = 0;           ///< of "HTTP/1.1", in the request line, or kOtherVersion
  uint16_t count_ = 0;            ///< characters of the method, of the target, or of a record's header
  uint16_t name_length_ = 0;
  uint16_t extension_type_ = 0;
  uint32_t fed_ = 0;  ///< bytes, while no good host is known
  uint32_t record_header_ = 0;
  uint32_t record_left_ = 0;
  uint32_t message_left_ = 0;    ///< of the handshake message
  uint32_t extension_left_ = 0;  ///< of server_name
  uint32_t field_left_ = 0;
  uint32_t field_value_ = 0;  ///< the field's last four bytes as a number
  State after_skip_ = State::kStart;
  uint32_t after_skip_bytes_ = 0;
  MessageFraming framing_;
  char name_[kMaxHostBytes];
};

}  // namespace synfluid::guest
