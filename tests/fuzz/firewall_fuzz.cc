// One client's stream of HTTP requests through the firewall to a server that reads it in its own way.
//
// The input is a program: flags, the pieces that the client's stream is made of, then what happens to it, one
// operation after another (see Play::step): segments in order, ahead, again, again with other contents, lost
// behind the firewall; acknowledgements. In the end the client sends all that the server has not got.
//
// What must hold. For every kind of server (Server::Kind: what it makes of a bare LF, a folded line, a length
// beside chunks, several lengths, a number that is none), whatever the order of the segments: in what it has
// got there is never a whole head of a request for a blocked host. And an honest client, whose requests are
// good and well-formed, gets all of its stream through.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "tests/unit/guest/frames.h"
#include "tests/unit/guest/rig.h"

namespace {

using namespace synfluid;
using namespace synfluid::guest::testing;

constexpr std::string_view kBlocked = "ads.example.net";
/// The sequence numbers wrap inside the stream.
constexpr uint32_t kFirstSeq = 0xffffff00;
constexpr uint32_t kServerSeq = 1000;

class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  bool empty() const { return at_ >= size_; }
  uint8_t byte() { return empty() ? 0 : data_[at_++]; }

 private:
  const uint8_t* data_;
  size_t size_;
  size_t at_ = 0;
};

[[noreturn]] void violated(const char* what) {
  std::fprintf(stderr, "violated: %s\n", what);
  std::abort();
}

std::string hex(size_t value) {
  std::string out;
  do out.insert(out.begin(), "0123456789abcdef"[value & 15]);
  while ((value >>= 4) != 0);
  return out;
}

/// Well-formed and good: what an honest client says.
std::string good_piece(Input& in) {
  const std::string post = "POST / HTTP/1.1\r\nHost: www.example.net\r\n";
  const size_t size = in.byte();
  const std::string evil = "GET / HTTP/1.1\r\nHost: ads.example.net\r\n\r\n";
  std::string contents;
  while (contents.size() < size) contents += evil;
  switch (in.byte() % 6) {
    case 0:
      return "GET / HTTP/1.1\r\nHost: www.example.net\r\n\r\n";
    case 1:
      return "\r\nGET http://www.example.net/ HTTP/1.1\r\nHost: www.example.net\r\nA: b\r\n\r\n";
    case 2:
      return post + "Content-Length: " + std::to_string(contents.size()) + "\r\n\r\n" + contents;
    case 3: {
      std::string out = post + "Transfer-Encoding: chunked\r\n\r\n";
      for (size_t i = 0; i < size % 20; ++i) {
        const std::string chunk = contents.substr(0, 1 + i * 13 % (contents.size() + 1));
        if (!chunk.empty()) out += hex(chunk.size()) + (i % 3 == 0 ? ";x=y" : "") + "\r\n" + chunk + "\r\n";
      }
      return out + "0\r\n" + (size % 2 != 0 ? "Host: ads.example.net\r\n" : "") + "\r\n";
    }
    case 4:
      return "GET / HTTP/1.1\r\nHost: www.example.net\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc";
    default:
      return "GET / HTTP/1.0\r\nA: " + std::string(size * 8, 'x') + "\r\n\r\n";
  }
}

/// Parts of requests that may be bad, to be put together in any way.
constexpr std::string_view kParts[] = {
    "GET / HTTP/1.1\r\n",
    "POST / HTTP/1.1\r\n",
    "POST /x HTTP/1.0\r\n",
    "GET http://ads.example.net/ HTTP/1.1\r\n",
    "CONNECT a:443 HTTP/1.1\r\n",
    "Host: ads.example.net\r\n",
    "Host: www.example.net\r\n",
    "Host:",
    "\r\n",
    "\n",
    "\r",
    " ",
    "\t",
    "Content-Length: 5\r\n",
    "Content-Length: 45\r\n",
    "Content-Length: 0\r\n",
    "Content-Length: +5\r\n",
    "Content-Length : 40\r\n",
    "Content-Length: 18446744073709551621\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: x, chunked\r\n",
    "Upgrade: websocket\r\n",
    "X: y",
    "5\r\nhello\r\n",
    "5;\nhello\r\n",
    "10000000000000005\r\nhello\r\n",
    "2d\r\n",
    "0\r\n\r\n",
    "0\r\n",
    "hello",
    "GET / HTTP/1.1\r\nHost: ads.example.net\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: www.example.net\r\n\r\n",
};

std::string bad_piece(Input& in) {
  const uint8_t which = in.byte();
  constexpr size_t kCount = std::size(kParts);
  if (which >= 7 * kCount) return std::string(1, static_cast<char>(in.byte()));
  return std::string(kParts[which % kCount]);
}

/// An HTTP/1.x server as far as it matters where requests begin. Written apart from the firewall, on whole
/// strings; it knows each leniency that servers are known for.
class Server {
 public:
  struct Kind {
    bool lf_ends_lines;      ///< a bare LF; otherwise it is a character like others
    bool folds_lines;        ///< otherwise a line that begins with a blank is a header of its own
    bool prefers_length;     ///< where there are chunks as well
    bool takes_last_length;  ///< of several
  };
  static constexpr int kKinds = 16;
  static Kind kind(int index) {
    return {(index & 1) != 0, (index & 2) != 0, (index & 4) != 0, (index & 8) != 0};
  }

  Server(Kind kind, std::string_view stream) : kind_(kind), rest_(stream) {}

  /// Whether there is a request for the blocked host whose head has come as a whole.
  bool is_asked_for_blocked() {
    while (skip_empty_lines(), read_head()) {
      if (asks_for_blocked_) return true;
      if (!skip_body()) return false;
    }
    return false;
  }

 private:
  static std::string lower(std::string_view text) {
    std::string out(text);
    for (char& c : out)
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
    return out;
  }
  static std::string_view trimmed(std::string_view text) {
    const size_t begin = text.find_first_not_of(" \t\r");
    if (begin == text.npos) return {};
    return text.substr(begin, text.find_last_not_of(" \t\r") + 1 - begin);
  }

  std::optional<std::string_view> next_line() {
    const size_t end = rest_.find(kind_.lf_ends_lines ? "\n" : "\r\n");
    if (end == rest_.npos) return {};
    std::string_view line = rest_.substr(0, end);
    rest_.remove_prefix(end + (kind_.lf_ends_lines ? 1 : 2));
    if (kind_.lf_ends_lines && line.ends_with('\r')) line.remove_suffix(1);
    return line;
  }

  void skip_empty_lines() {
    for (;;) {
      if (rest_.starts_with("\r\n"))
        rest_.remove_prefix(2);
      else if (kind_.lf_ends_lines && rest_.starts_with("\n"))
        rest_.remove_prefix(1);
      else
        return;
    }
  }

  bool read_request_line() {
    const auto line = next_line();
    if (!line) return false;
    for (const char c : *line)
      if (c < ' ' || c == 0x7f) return false;
    const size_t method = line->find(' '), target = line->rfind(' ');
    if (method == line->npos || method == 0 || method > 24 || target == method) return false;
    if (line->find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ") != method) return false;
    if (!line->substr(target + 1).starts_with("HTTP/1.")) return false;
    asks_for_blocked_ = line->substr(method + 1).starts_with("http://ads.example.net/");
    return true;
  }

  /// False: it is not all there, or the server gives up on it.
  bool read_head() {
    lengths_.clear();
    is_chunked_ = false;
    if (!read_request_line()) return false;
    std::string header;
    for (;;) {
      const auto line = next_line();
      if (!line) return false;
      const bool goes_on =
          kind_.folds_lines && !line->empty() && (line->front() == ' ' || line->front() == '\t');
      if (goes_on) {
        header += *line;
        continue;
      }
      take_header(header);
      if (line->empty()) return true;
      header = *line;
    }
  }

  void take_header(std::string_view header) {
    const size_t colon = header.find(':');
    if (colon == header.npos) return;
    const std::string name = lower(trimmed(header.substr(0, colon)));
    const std::string value = lower(trimmed(header.substr(colon + 1)));
    if (name == "host" && value == kBlocked) asks_for_blocked_ = true;
    if (name == "content-length") lengths_.push_back(value);
    if (name == "transfer-encoding" && value.ends_with("chunked")) is_chunked_ = true;
  }

  /// As strtoull would, with its overflow and without its end.
  static uint64_t number(std::string_view digits, unsigned base) {
    uint64_t value = 0;
    if (digits.starts_with('+')) digits.remove_prefix(1);
    for (const char c : lower(digits)) {
      const unsigned digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : 99;
      if (digit >= base) break;
      value = value * base + digit;
    }
    return value;
  }

  bool skip(uint64_t bytes) {
    if (bytes > rest_.size()) return false;
    rest_.remove_prefix(bytes);
    return true;
  }

  bool skip_body() {
    if (is_chunked_ && !(kind_.prefers_length && !lengths_.empty())) return skip_chunks();
    if (lengths_.empty()) return true;
    return skip(number(kind_.takes_last_length ? lengths_.back() : lengths_.front(), 10));
  }

  bool skip_chunks() {
    for (;;) {
      const auto line = next_line();
      if (!line) return false;
      const uint64_t size = number(*line, 16);
      if (size == 0) break;
      if (!skip(size)) return false;
      if (rest_.starts_with("\r\n")) rest_.remove_prefix(2);
    }
    for (auto line = next_line(); line; line = next_line())
      if (line->empty()) return true;
    return false;
  }

  Kind kind_;
  std::string_view rest_;
  bool asks_for_blocked_ = false;
  bool is_chunked_ = false;
  std::vector<std::string> lengths_;
};

/// The server's TCP: what has come in order, and what waits behind a hole.
class Receiver {
 public:
  enum class Overlap : uint8_t { kKeepFirst, kKeepLast };
  explicit Receiver(Overlap overlap) : overlap_(overlap) {}

  void take(uint32_t offset, const std::string& bytes) {
    for (size_t i = 0; i < bytes.size(); ++i) {
      const size_t at = static_cast<int32_t>(offset) + i;
      if (static_cast<int32_t>(offset + i) < 0 || at < in_order_.size()) continue;
      if (overlap_ == Overlap::kKeepFirst)
        waiting_.emplace(at, bytes[i]);
      else
        waiting_[at] = bytes[i];
    }
    while (!waiting_.empty() && waiting_.begin()->first == in_order_.size()) {
      in_order_ += waiting_.begin()->second;
      waiting_.erase(waiting_.begin());
    }
  }
  const std::string& in_order() const { return in_order_; }

 private:
  Overlap overlap_;
  std::string in_order_;
  std::map<size_t, char> waiting_;
};

class Play {
 public:
  explicit Play(Input& in)
      : in_(in),
        flags_(in.byte()),
        rig_({.service = abi::ServiceKind::kFirewall,
              .buffers = 8,
              .rx_posted = 4,
              .config = "block_hosts ads.example.net\n"}),
        server_((flags_ & 2) != 0 ? Receiver::Overlap::kKeepLast : Receiver::Overlap::kKeepFirst) {
    for (int pieces = in.byte() % 24; pieces > 0; --pieces)
      stream_ += is_honest() || in.byte() % 4 == 0 ? good_piece(in) : bad_piece(in);
  }

  void run() {
    if (!rig_.running()) violated("the guest runs");
    through({.seq = kFirstSeq - 1, .flags = kS});
    through(turned({.seq = kServerSeq - 1, .ack = kFirstSeq, .flags = kS | kA}));
    while (!in_.empty()) step();
    is_next_lost_ = false;
    acknowledge();
    for (size_t before = SIZE_MAX; before != server_.in_order().size();) {
      before = server_.in_order().size();
      send(before, stream_.substr(std::min(before, stream_.size()), 700));
      acknowledge();
    }
    if (is_honest() && server_.in_order() != stream_) violated("an honest client gets through");
  }

 private:
  bool is_honest() const { return (flags_ & 1) != 0; }

  void step() {
    const uint8_t what = in_.byte();
    switch (what % 8) {
      default:
        return send_part(next_, size_t{1} + in_.byte() * (what & 0x80 ? 5u : 1u));
      case 4:
        return send_part(near_next(), in_.byte());
      case 5: {
        const size_t at = near_next();
        std::string bytes = stream_.substr(std::min(at, stream_.size()), in_.byte());
        if (is_honest()) return send(at, bytes);
        const std::string other = bad_piece(in_);
        const size_t place = bytes.empty() ? 0 : in_.byte() % bytes.size();
        return send(at, bytes.replace(place, std::min(other.size(), bytes.size() - place), other));
      }
      case 6:
        return acknowledge();
      case 7:
        is_next_lost_ = true;
    }
  }

  size_t near_next() {
    const size_t back = in_.byte() * 4u;
    return next_ + 256 > back ? next_ + 256 - back : 0;
  }
  void send_part(size_t at, size_t size) {
    if (at > stream_.size()) return;
    send(at, stream_.substr(at, size));
    if (at == next_) next_ = std::min(next_ + size, stream_.size());
  }

  void send(size_t at, const std::string& bytes) {
    if (bytes.empty()) return;
    Tcp segment{
        .seq = kFirstSeq + static_cast<uint32_t>(at), .ack = kServerSeq, .flags = kA, .payload = bytes};
    const bool is_lost = std::exchange(is_next_lost_, false);
    const Frame frame = build(segment);
    for (const Frame& out : through(segment)) {
      if (out != frame || is_lost) continue;
      server_.take(static_cast<uint32_t>(at), bytes);
      check();
    }
  }

  void acknowledge() {
    const auto got = static_cast<uint32_t>(server_.in_order().size());
    through(turned({.seq = kServerSeq, .ack = kFirstSeq + got, .flags = kA}));
  }

  std::vector<Frame> through(const Tcp& segment) {
    if (!rig_.host().push(build(segment))) violated("the guest has its buffers");
    rig_.host().publish();
    auto out = rig_.run();
    if (out.size() > 2) violated("no more than two answers");
    return out;
  }

  void check() {
    for (int kind = 0; kind < Server::kKinds; ++kind)
      if (Server(Server::kind(kind), server_.in_order()).is_asked_for_blocked())
        violated("no server is asked for a blocked host");
  }

  Input& in_;
  uint8_t flags_;
  Rig rig_;
  Receiver server_;
  std::string stream_;
  size_t next_ = 0;  ///< of the stream, for the client's next new segment
  bool is_next_lost_ = false;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, std::min<size_t>(size, 1024));
  Play(input).run();
  return 0;
}
