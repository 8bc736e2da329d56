// One TCP connection through a firewall in a rig.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "tests/unit/guest/frames.h"
#include "tests/unit/guest/rig.h"

namespace synfluid::guest::testing {

inline constexpr uint32_t kIsn = 5000;
inline constexpr uint32_t kServerIsn = 90000;
inline constexpr char kConfig[] = "block_hosts ads.example.net\nblock_hosts *.tracker.test\n";

inline std::string get(const std::string& host) {
  return "GET / HTTP/1.1\r\nHost: " + host + "\r\nAccept: */*\r\n\r\n";
}

/// One flow through a firewall; offsets count from the client's first byte.
class Conversation {
 public:
  explicit Conversation(std::string config = kConfig, Tcp base = {})
      : rig_({.service = abi::ServiceKind::kFirewall, .config = std::move(config)}), base_(std::move(base)) {
    EXPECT_TRUE(rig_.running()) << rig_.report().death_note;
  }

  void handshake() {
    EXPECT_TRUE(passes(client_frame({.seq = kIsn, .flags = kS})));
    EXPECT_TRUE(passes(server_frame({.seq = kServerIsn, .ack = kIsn + 1, .flags = kS | kA})));
    EXPECT_TRUE(passes(client_frame({.seq = kIsn + 1, .ack = kServerIsn + 1, .flags = kA})));
  }
  Frame bytes(uint32_t offset, const std::string& payload) {
    return client_frame(
        {.seq = kIsn + 1 + offset, .ack = kServerIsn + 1, .flags = kA | kP, .payload = payload});
  }
  Frame server_ack(uint32_t offset) {
    return server_frame({.seq = kServerIsn + 1, .ack = kIsn + 1 + offset, .flags = kA});
  }
  Frame client_frame(Tcp tcp) { return build(placed(tcp)); }
  Frame server_frame(Tcp tcp) { return build(turned(placed(tcp))); }

  std::vector<Frame> send(const Frame& frame) { return rig_.exchange(frame); }
  bool passes(const Frame& frame) { return send(frame) == std::vector<Frame>(1, frame); }
  bool drops(const Frame& frame) { return send(frame).empty(); }
  bool resets(const Frame& frame) {
    const auto out = send(frame);
    return out.size() == 2 && dissect(out[0]).has(kR) && dissect(out[1]).has(kR);
  }
  Rig& rig() { return rig_; }

 private:
  Tcp placed(Tcp tcp) const {
    Tcp out = base_;
    out.seq = tcp.seq;
    out.ack = tcp.ack;
    out.flags = tcp.flags;
    out.payload = tcp.payload;
    out.break_checksum = tcp.break_checksum;
    return out;
  }
  Rig rig_;
  Tcp base_;
};

}  // namespace synfluid::guest::testing
