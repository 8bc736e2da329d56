// Frames of all kinds into each of the guest's services, in an order and with pauses that the input chooses.
//
// The input is a program: a byte for the service, then one operation after another (see Fuzzer::step).
// Besides raw bytes there are segments that follow what the guest itself has sent, so that the deep states
// are reached; and the host may vouch for checksums, so that they do not keep the input out.
//
// What must hold: the guest becomes idle, keeps to the ring protocol (the rig's back end throws at what is
// not), answers any input with a bounded number of frames, and writes only frames that a strict receiver
// takes.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "tests/unit/guest/frames.h"
#include "tests/unit/guest/rig.h"
#include "tests/unit/guest/tls_hello.h"

namespace {

using namespace synfluid;
using namespace synfluid::guest::testing;

/// The largest first flight, an answer for each of a few connections, and some to spare.
constexpr size_t kMostAnswers = 2000;

class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  bool empty() const { return at_ >= size_; }
  uint8_t byte() { return empty() ? 0 : data_[at_++]; }
  uint32_t number(int bytes) {
    uint32_t value = 0;
    while (bytes-- > 0) value = value << 8 | byte();
    return value;
  }
  std::string text(size_t most) {
    std::string out;
    while (out.size() < most && !empty()) out += static_cast<char>(byte());
    return out;
  }

 private:
  const uint8_t* data_;
  size_t size_;
  size_t at_ = 0;
};

class Fuzzer {
 public:
  explicit Fuzzer(Input& in)
      : in_(in),
        service_(static_cast<abi::ServiceKind>(1 + in.byte() % 3)),
        rig_({.service = service_,
              .buffers = 8,
              .rx_posted = 4,
              .config = "block_hosts ads.example.net\nblock_hosts *.tracker.test\nbody hello\n"}) {}

  void run() {
    if (!rig_.running()) std::abort();
    while (!in_.empty()) step();
  }

 private:
  void step() {
    switch (in_.byte() % 6) {
      case 0:
        return push(to_frame_of(in_.text(in_.byte() * 8u)));
      case 1:
        return push(build(next_segment(canned(in_.byte()))));
      case 2:
        return push(build(next_segment(in_.text(in_.byte()))));
      case 3:
        return sleep(uint64_t{in_.number(2)} * 5'000'000);
      case 4:
        return push(damaged(build(next_segment(canned(in_.byte())))));
      default:
        return push(build(turned(next_segment(in_.text(in_.byte() % 32)))));
    }
  }

  static Frame to_frame_of(const std::string& text) {
    Frame out;
    for (const char c : text) out.push_back(static_cast<std::byte>(c));
    if (out.empty()) out.push_back(std::byte{0});
    return out;
  }

  static std::string canned(uint8_t which) {
    switch (which % 9) {
      case 0:
        return "";
      case 1:
        return "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
      case 2:
        return "GET /bytes/20000 HTTP/1.1\r\nHost: ads.example.net\r\n\r\n";
      case 3:
        return "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
      case 4:
        return "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 40\r\n\r\n";
      case 5:
        return tls_hello("pixel.tracker.test");
      case 6:
        return split_records(tls_hello("www.example.net"), 40);
      case 7:
        return "\r\nHost";
      default:
        return "GET http://u@ads.example.net:80/ HTTP/1.1\r\n";
    }
  }

  /// A segment of one of four connections, near what the guest expects next.
  Tcp next_segment(const std::string& payload) {
    const uint8_t where = in_.byte();
    Tcp out;
    out.v6 = (where & 4) != 0;
    out.sport = static_cast<uint16_t>(4000 + (where & 3));
    if ((where & 8) != 0) out.vlans = {7};
    Side& side = sides_[where & 15];
    const uint8_t kind = in_.byte();
    out.flags = kind & 0x3f;
    if ((kind & 0xc0) == 0xc0) out.flags = kA;
    out.seq = side.next + static_cast<uint32_t>(static_cast<int8_t>(in_.byte()));
    out.ack = side.ack + static_cast<uint32_t>(static_cast<int8_t>(in_.byte()) / 8 * 100);
    out.window = static_cast<uint16_t>(in_.byte() << (kind & 7));
    out.payload = payload;
    side.next = out.seq + static_cast<uint32_t>(payload.size()) + (out.has(kS) ? 1 : 0);
    last_ = where & 15;
    return out;
  }

  Frame damaged(Frame frame) {
    const size_t at = in_.byte() % frame.size();
    frame[at] ^= static_cast<std::byte>(in_.byte());
    frame.resize(frame.size() - std::min<size_t>(frame.size() - 1, in_.byte() % 64));
    return frame;
  }

  void push(const Frame& frame) {
    const uint16_t flags = (in_.byte() & 1) != 0 ? abi::kRxDataValidated : 0;
    if (!rig_.host().push(std::span(frame), 0, flags)) std::abort();  // the guest lost its buffers
    rig_.host().publish();
    check(rig_.run());
  }
  void sleep(uint64_t ns) { check(rig_.sleep(ns)); }

  void check(const std::vector<Frame>& frames) {
    if (frames.size() > kMostAnswers) std::abort();
    if (service_ != abi::ServiceKind::kResponder) return;
    for (const Frame& frame : frames) {
      const size_t type = frame.size() > 16 && frame[12] == std::byte{0x81} ? 16 : 12;
      const bool arp =
          frame.size() > type + 1 && frame[type] == std::byte{8} && frame[type + 1] == std::byte{6};
      const size_t protocol = type + 2 + (frame[type] == std::byte{8} ? 9 : 6);
      if (arp || frame[protocol] != std::byte{6}) continue;
      const Tcp segment = dissect(frame);
      if (segment.has(kS)) sides_[last_].ack = segment.seq + 1;
      if (!segment.payload.empty())
        sides_[last_].ack = segment.seq + static_cast<uint32_t>(segment.payload.size());
    }
  }

  struct Side {
    uint32_t next = 1000;
    uint32_t ack = 0;
  };

  Input& in_;
  abi::ServiceKind service_;
  Rig rig_;
  Side sides_[16];
  uint8_t last_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, std::min<size_t>(size, 4096));
  Fuzzer(input).run();
  return 0;
}
