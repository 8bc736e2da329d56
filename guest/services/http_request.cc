#include "guest/services/http_request.h"

#include "guest/services/config.h"

namespace synfluid::guest {
namespace {

constexpr std::string_view kBytesPath = "/bytes/";

constexpr char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
}
constexpr bool is_alpha_or_digit(char c) {
  return (c >= '0' && c <= '9') || (lower(c) >= 'a' && lower(c) <= 'z');
}
/// tchar of RFC 9110 5.6.2.
constexpr bool is_token(char c) {
  if (is_alpha_or_digit(c)) return true;
  for (const char other : std::string_view("!#$%&'*+-.^_`|~"))
    if (c == other) return true;
  return false;
}

bool same_ignoring_case(std::string_view a, std::string_view lower_case) {
  if (a.size() != lower_case.size()) return false;
  for (size_t i = 0; i < a.size(); ++i)
    if (lower(a[i]) != lower_case[i]) return false;
  return true;
}

/// True if a comma separated list has this element.
bool list_has(std::string_view list, std::string_view lower_case) {
  size_t begin = 0;
  for (size_t i = 0; i <= list.size(); ++i) {
    if (i < list.size() && list[i] != ',') continue;
    size_t end = i;
    while (begin < end && (list[begin] == ' ' || list[begin] == '\t')) ++begin;
    while (end > begin && (list[end - 1] == ' ' || list[end - 1] == '\t')) --end;
    if (same_ignoring_case({list.data() + begin, end - begin}, lower_case)) return true;
    begin = i + 1;
  }
  return false;
}

}  // namespace

size_t HttpRequestParser::feed(std::span<const std::byte> bytes) {
  size_t taken = 0;
  while (taken < bytes.size() && state_ != State::kDone) {
    const char c = static_cast<char>(bytes[taken++]);
    if (++head_bytes_ > kMaxHeadBytes) {
      fail(431);
      break;
    }
    step(c);
  }
  return taken;
}

void HttpRequestParser::fail(uint16_t status) {
  request_.error = status;
  request_.keep_alive = false;
  state_ = State::kDone;
}

void HttpRequestParser::keep(char c) {
  if (word_length_ < sizeof(word_))
    word_[word_length_++] = c;
  else
    word_overflow_ = true;
}

void HttpRequestParser::step(char c) {
  // A CR is only good before a LF.
  if (c == '\r' && !carriage_return_) {
    carriage_return_ = true;
    return;
  }
  const bool bare = carriage_return_ && c != '\n';
  carriage_return_ = false;
  if (bare || c == '\0') {
    fail(400);
    return;
  }
  switch (state_) {
    case State::kStart:
      if (c == '\n') return;
      state_ = State::kMethod;
      [[fallthrough]];
    case State::kMethod:
      return in_method(c);
    case State::kTarget:
      return in_target(c);
    case State::kVersion:
      return in_version(c);
    case State::kName:
      return in_name(c);
    case State::kSpace:
      if (c == ' ' || c == '\t') return;
      state_ = State::kValue;
      [[fallthrough]];
    case State::kValue:
      return in_value(c);
    case State::kDone:
      return;
  }
}

void HttpRequestParser::in_method(char c) {
  if (is_token(c)) {
    keep(c);
    return;
  }
  if (c != ' ' || word_length_ == 0 || word_overflow_) {
    fail(400);
    return;
  }
  request_.method = word() == "GET"    ? HttpMethod::kGet
                    : word() == "HEAD" ? HttpMethod::kHead
                                       : HttpMethod::kOther;
  word_length_ = 0;
  state_ = State::kTarget;
}

void HttpRequestParser::in_target(char c) {
  if (c == ' ' && word_length_ != 0) {
    end_of_target();
    return;
  }
  if (c <= ' ' || c == 0x7f) {
    fail(400);
    return;
  }
  keep(c);
}

void HttpRequestParser::end_of_target() {
  const std::string_view target = word();
  if (!word_overflow_ && target.starts_with(kBytesPath)) {
    constexpr uint64_t kNoNumber = ~uint64_t{0};
    const uint64_t bytes =
        parse_number({target.data() + kBytesPath.size(), target.size() - kBytesPath.size()}, kNoNumber);
    request_.wants_bytes = bytes != kNoNumber;
    request_.bytes = request_.wants_bytes ? bytes : 0;
  }
  word_length_ = 0;
  word_overflow_ = false;
  state_ = State::kVersion;
}

void HttpRequestParser::in_version(char c) {
  if (c == '\n')
    end_of_version();
  else
    keep(c);
}

void HttpRequestParser::end_of_version() {
  const std::string_view version = word();
  const bool http = !word_overflow_ && version.size() == 8 && version.starts_with("HTTP/") &&
                    version[6] == '.' && version[5] >= '0' && version[5] <= '9' && version[7] >= '0' &&
                    version[7] <= '9';
  if (!http) return fail(400);
  if (version[5] != '1') return fail(505);
  version_1_1_ = version[7] != '0';
  word_length_ = 0;
  state_ = State::kName;
}

void HttpRequestParser::in_name(char c) {
  if (c == '\n' && word_length_ == 0 && !word_overflow_) return end_of_head();
  if (c == ':' && word_length_ != 0) return end_of_name();
  if (!is_token(c)) return fail(400);
  keep(lower(c));
}

void HttpRequestParser::end_of_name() {
  const std::string_view name = word_overflow_ ? std::string_view() : word();
  header_ = name == "connection"          ? Header::kConnection
            : name == "content-length"    ? Header::kContentLength
            : name == "transfer-encoding" ? Header::kTransferEncoding
            : name == "host"              ? Header::kHost
                                          : Header::kOther;
  word_length_ = 0;
  word_overflow_ = false;
  state_ = State::kSpace;
}

void HttpRequestParser::in_value(char c) {
  if (c == '\n')
    end_of_value();
  else if (header_ != Header::kOther)
    keep(c);
}

void HttpRequestParser::end_of_value() {
  std::string_view value = word();
  while (!value.empty() && (value.back() == ' ' || value.back() == '\t')) value.remove_suffix(1);
  if (header_ == Header::kConnection) {
    says_close_ = says_close_ || list_has(value, "close");
    says_keep_alive_ = says_keep_alive_ || list_has(value, "keep-alive");
  }
  if (header_ == Header::kHost) {
    if (has_host_) return fail(400);
    has_host_ = true;
  }
  if (header_ == Header::kTransferEncoding) return fail(501);
  if (header_ == Header::kContentLength) {
    constexpr uint64_t kNoNumber = ~uint64_t{0};
    const uint64_t length = word_overflow_ ? kNoNumber : parse_number(value, kNoNumber);
    if (length == kNoNumber || (has_length_ && length != request_.body_bytes)) return fail(400);
    has_length_ = true;
    request_.body_bytes = length;
  }
  word_length_ = 0;
  word_overflow_ = false;
  state_ = State::kName;
}

void HttpRequestParser::end_of_head() {
  if (version_1_1_ && !has_host_) return fail(400);
  request_.keep_alive = version_1_1_ ? !says_close_ : says_keep_alive_ && !says_close_;
  state_ = State::kDone;
}

}  // namespace synfluid::guest
