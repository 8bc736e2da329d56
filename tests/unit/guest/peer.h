// A client that a test drives segment by segment.
#pragma once

#include <gtest/gtest.h>

#include "tests/unit/guest/frames.h"
#include "tests/unit/guest/rig.h"

namespace synfluid::guest::testing {

inline std::string simple_get(const std::string& path = "/", const std::string& headers = "") {
  return "GET " + path + " HTTP/1.1\r\nHost: x\r\n" + headers + "\r\n";
}

class Peer {
 public:
  explicit Peer(Rig& rig, Tcp base = {}) : rig_(rig), base_(std::move(base)) {
    if (base_.seq == 0) base_.seq = 1000;
    isn_ = base_.seq;
  }

  std::vector<Tcp> send(Tcp segment) {
    std::vector<Tcp> out;
    for (const Frame& frame : rig_.exchange(build(segment))) out.push_back(dissect(frame));
    return out;
  }
  std::vector<Tcp> sleep(uint64_t ns) {
    std::vector<Tcp> out;
    for (const Frame& frame : rig_.sleep(ns)) out.push_back(dissect(frame));
    return out;
  }

  /// A segment in the present state: seq and ack as they ought to be.
  Tcp segment(uint8_t flags, const std::string& payload = "") const {
    Tcp out = base_;
    out.seq = next_;
    out.ack = ack_;
    out.flags = flags;
    out.payload = payload;
    out.options.clear();
    return out;
  }
  Tcp syn() const {
    Tcp out = base_;
    out.seq = isn_;
    out.ack = 0;
    out.flags = kS;
    return out;
  }
  /// Handshake; afterwards segment() is in sequence.
  void connect() {
    const auto out = send(syn());
    ASSERT_EQ(out.size(), 1u);
    ASSERT_EQ(out[0].flags, kS | kA);
    iss_ = out[0].seq;
    next_ = isn_ + 1;
    ack_ = iss_ + 1;
    ASSERT_TRUE(send(segment(kA)).empty());
  }
  /// Sends payload in order and remembers it as sent.
  std::vector<Tcp> say(const std::string& payload, uint8_t more_flags = 0) {
    auto out = send(segment(static_cast<uint8_t>(kA | kP | more_flags), payload));
    next_ += static_cast<uint32_t>(payload.size()) + ((more_flags & kF) != 0 ? 1 : 0);
    return out;
  }
  /// Acknowledges everything in `segments` at the next segment sent.
  void accept(const std::vector<Tcp>& segments) {
    for (const Tcp& in : segments) {
      const uint32_t end = in.seq + static_cast<uint32_t>(in.payload.size()) + (in.has(kF) ? 1 : 0);
      if (static_cast<int32_t>(end - ack_) > 0) ack_ = end;
    }
  }
  /// True if the guest knows nothing of the connection: it answers with a RST.
  bool is_forgotten() {
    const auto out = send(segment(kA));
    return out.size() == 1 && out[0].flags == kR && out[0].seq == ack_;
  }

  uint32_t isn_ = 0;
  uint32_t iss_ = 0;
  uint32_t next_ = 0;
  uint32_t ack_ = 0;
  Rig& rig_;
  Tcp base_;
};

inline std::string payloads(const std::vector<Tcp>& segments) {
  std::string out;
  for (const Tcp& segment : segments) out += segment.payload;
  return out;
}

}  // namespace synfluid::guest::testing
