// The HTTP half, and what both share; sniffer_tls.cc has the other.
#include "guest/services/firewall/host_sniffer.h"

namespace synfluid::guest {
namespace {

constexpr uint8_t kTlsHandshake = 22;
constexpr uint16_t kLongestMethod = 24;
constexpr std::string_view kVersionMark = "HTTP/";

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
  const char c = static_cast<char>(byte);
  switch (state_) {
    case State::kStart:
      return start(byte);
    case State::kMethod:
      return in_method(c);
    case State::kTarget:
      return in_target(c, rules);
    case State::kRequestLine:
      return in_request_line(c);
    case State::kLineStart:
      return at_line_start(c, rules);
    case State::kName:
      return in_name(c);
    case State::kValue:
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
  return in_request_line(c);
}

/// A line without "HTTP/" is no request with headers.
SniffVerdict HostSniffer::in_request_line(char c) {
  if (c != '\n') {
    if (matched_ < kVersionMark.size())
      matched_ = c == kVersionMark[matched_] ? matched_ + 1 : c == 'H' ? 1 : 0;
    return SniffVerdict::kMore;
  }
  if (matched_ < kVersionMark.size()) return target_blocked_ ? SniffVerdict::kBlock : SniffVerdict::kPass;
  state_ = State::kName;
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
    state_ = State::kValue;
    return SniffVerdict::kMore;
  }
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
  if (c == '\n') {
    // An empty line ends the head: no host. A line without a colon is skipped, as some servers do.
    bool empty = true;
    for (const char kept : name()) empty = empty && is_blank(kept);
    name_length_ = 0;
    overflow_ = false;
    if (!empty) return SniffVerdict::kMore;
    return target_blocked_ ? SniffVerdict::kBlock : SniffVerdict::kPass;
  }
  if (c != ':') {
    keep(lower(c));
    return SniffVerdict::kMore;
  }
  size_t end = name_length_;
  while (end > 0 && is_blank(name_[end - 1])) --end;
  is_host_header_ = !overflow_ && std::string_view(name_, end) == "host";
  name_length_ = 0;
  overflow_ = false;
  state_ = State::kValue;
  return SniffVerdict::kMore;
}

SniffVerdict HostSniffer::in_value(char c) {
  if (c == '\n')
    state_ = State::kLineStart;
  else if (is_host_header_)
    keep(c);
  return SniffVerdict::kMore;
}

}  // namespace synfluid::guest
