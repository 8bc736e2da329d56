// The HTTP half, and what both share; sniffer_tls.cc has the other.
#include "guest/services/firewall/host_sniffer.h"

namespace synfluid::guest {
namespace {

constexpr uint8_t kTlsHandshake = 22;
constexpr uint16_t kLongestMethod = 24;
constexpr std::string_view kVersion = "HTTP/1.1";
constexpr uint8_t kVersionMarkBytes = 5;  ///< "HTTP/"
constexpr uint8_t kOtherVersion = 0xff;

constexpr char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
}
constexpr bool is_blank(char c) {
  return c == ' ' || c == '\t' || c == '\r';
}
bool is_token(char c) {
  if ((c >= '0' && c <= '9') || (lower(c) >= 'a' && lower(c) <= 'z')) return true;
  for (const char other : std::string_view("!#$%&'*+-.^_`|~"))
    if (c == other) return true;
  return false;
}

}  // namespace

SniffVerdict HostSniffer::feed(uint8_t byte, const HostRules& rules) {
  if (!has_good_host_ && fed_++ == kMaxSniffedBytes) return SniffVerdict::kSuspicious;
  return dispatch(byte, rules);
}

SniffVerdict HostSniffer::dispatch(uint8_t byte, const HostRules& rules) {
  const char c = static_cast<char>(byte);
  switch (state_) {
    case State::kStart:
      return start(byte);
    case State::kMethod:
      return in_method(c);
    case State::kTarget:
      return in_target(c, rules);
    case State::kRequestLine:
      look_for_doubt(c);
      return in_request_line(c);
    case State::kLineStart:
      look_for_doubt(c);
      return at_line_start(c, rules);
    case State::kName:
      look_for_doubt(c);
      return in_name(c);
    case State::kValue:
      look_for_doubt(c);
      return in_value(c);
    default:
      return in_record(byte, rules);
  }
}

SniffVerdict HostSniffer::start(uint8_t byte) {
  const char c = static_cast<char>(byte);
  if (byte == kTlsHandshake) {
    expect(State::kHandshakeHeader, 4);
    count_ = 1;  // this was the first byte of a record's header
    return SniffVerdict::kMore;
  }
  if (is_blank(c) || c == '\n') return SniffVerdict::kMore;
  state_ = State::kMethod;
  return in_method(c);
}

void HostSniffer::keep(char c) {
  if (name_length_ < sizeof(name_))
    name_[name_length_++] = c;
  else
    overflow_ = true;
}

SniffVerdict HostSniffer::in_method(char c) {
  if (is_token(c) && count_ < kLongestMethod) {
    ++count_;
    keep(lower(c));
    return SniffVerdict::kMore;
  }
  if ((c != ' ' && c != '\t') || count_ == 0) return SniffVerdict::kPass;
  // HTTP/2 without an upgrade: its hosts are in compressed headers.
  if (name() == "pri") return SniffVerdict::kSuspicious;
  is_connect_ = has_authority_ = name() == "connect";
  if (is_connect_) framing_.note_connect();
  name_length_ = 0;
  count_ = 0;
  state_ = State::kTarget;
  return SniffVerdict::kMore;
}

/// Keeps what may be the host of "scheme://user@host/path", or of CONNECT's "host:port".
void HostSniffer::collect_target(char c) {
  if (count_++ == 0) collecting_ = c != '/';
  if (!collecting_) return;
  const bool scheme_ends = !is_connect_ && c == '/' && name_length_ != 0 && name_[name_length_ - 1] == ':';
  if (scheme_ends) has_authority_ = true;
  if (scheme_ends || c == '@') {
    name_length_ = 0;
    overflow_ = false;
  } else if (c == '/' || c == '?' || c == '#' || c == '\\') {
    // The second slash of "://" finds nothing kept.
    collecting_ = name_length_ == 0;
  } else {
    keep(c);
  }
}

SniffVerdict HostSniffer::in_target(char c, const HostRules& rules) {
  if (c == ' ' && count_ == 0) return SniffVerdict::kMore;
  if (!is_blank(c) && c != '\n') {
    collect_target(c);
    return SniffVerdict::kMore;
  }
  if (overflow_) {
    // A long path of an odd form is not a host.
    overflow_ = false;
    name_length_ = 0;
  }
  target_blocked_ = has_authority_ && name_length_ != 0 && rules.is_blocked(name());
  name_length_ = 0;
  state_ = State::kRequestLine;
  look_for_doubt(c);
  return in_request_line(c);
}

/// Every line ends with CRLF, and no other control character is in it.
void HostSniffer::look_for_doubt(char c) {
  const bool is_lf = c == '\n';
  const bool is_control = (c >= 0 && c < ' ' && c != '\t' && c != '\r' && !is_lf) || c == 0x7f;
  if ((after_cr_ && !is_lf) || is_control) framing_.note_contradiction();
  if (!after_cr_ && is_lf) framing_.note_doubt();
  after_cr_ = c == '\r';
}

/// A line without "HTTP/" is no request with headers.
SniffVerdict HostSniffer::in_request_line(char c) {
  if (c == '\n') {
    if (matched_ < kVersionMarkBytes) return target_blocked_ ? SniffVerdict::kBlock : SniffVerdict::kPass;
    if (matched_ == kVersion.size()) framing_.note_http_1_1();
    state_ = State::kName;
  } else if (matched_ < kVersion.size() && c == kVersion[matched_]) {
    ++matched_;
  } else if (matched_ < kVersionMarkBytes) {
    matched_ = c == 'H' ? 1 : 0;
  } else if (c != '\r') {
    matched_ = kOtherVersion;
  }
  return SniffVerdict::kMore;
}

SniffVerdict HostSniffer::judge_host(const HostRules& rules) {
  if (overflow_) return SniffVerdict::kSuspicious;
  size_t begin = 0, end = name_length_;
  while (begin < end && is_blank(name_[begin])) ++begin;
  while (end > begin && is_blank(name_[end - 1])) --end;
  const bool blocked = target_blocked_ || rules.is_blocked({name_ + begin, end - begin});
  return blocked ? SniffVerdict::kBlock : SniffVerdict::kPass;
}

/// Behind the end of a header line: a blank continues it.
SniffVerdict HostSniffer::at_line_start(char c, const HostRules& rules) {
  if (c == ' ' || c == '\t') {
    framing_.note_contradiction();
    state_ = State::kValue;
    // Some servers take the line before for the whole value.
    const bool is_blocked = is_host_header_ && judge_host(rules) == SniffVerdict::kBlock;
    return is_blocked ? SniffVerdict::kBlock : SniffVerdict::kMore;
  }
  framing_.end_field();
  if (is_host_header_) {
    if (const SniffVerdict verdict = judge_host(rules); verdict != SniffVerdict::kPass) return verdict;
    has_good_host_ = true;
    is_host_header_ = false;
  }
  name_length_ = 0;
  state_ = State::kName;
  return in_name(c);
}

SniffVerdict HostSniffer::in_name(char c) {
  if (c == ':') {
    begin_value();
    return SniffVerdict::kMore;
  }
  if (c != '\n') {
    keep(lower(c));
    return SniffVerdict::kMore;
  }
  // A line without a colon is skipped, as some servers do.
  if (name() != "\r") framing_.note_doubt();
  bool empty = true;
  for (const char kept : name()) empty = empty && is_blank(kept);
  name_length_ = 0;
  overflow_ = false;
  return empty ? end_head() : SniffVerdict::kMore;
}

SniffVerdict HostSniffer::end_head() {
  if (target_blocked_) return SniffVerdict::kBlock;
  const bool contradicts = framing_.body() == MessageFraming::Body::kContradiction;
  return contradicts ? SniffVerdict::kSuspicious : SniffVerdict::kRequest;
}

void HostSniffer::begin_value() {
  bool is_good = name_length_ != 0;
  for (const char kept : name()) is_good = is_good && is_token(kept);
  if (!is_good) framing_.note_doubt();
  size_t end = name_length_;
  while (end > 0 && is_blank(name_[end - 1])) --end;
  const std::string_view field(name_, overflow_ ? 0 : end);
  is_host_header_ = field == "host";
  framing_.begin_field(field);
  name_length_ = 0;
  overflow_ = false;
  state_ = State::kValue;
}

SniffVerdict HostSniffer::in_value(char c) {
  if (c == '\n') {
    state_ = State::kLineStart;
    return SniffVerdict::kMore;
  }
  if (is_host_header_) keep(c);
  framing_.in_value(c);
  return SniffVerdict::kMore;
}

}  // namespace synfluid::guest
