// A TCP client for simulations, written for these tests and sharing no code with the guest: it opens, sends
// what it is told, reassembles whatever comes in whatever order, retransmits by a plain timer, and closes.
// And a network between it and the guest that loses, delays, reorders and duplicates by a seed.
#pragma once

#include <cstdint>
#include <map>
#include <queue>
#include <random>
#include <string>
#include <vector>

#include "tests/unit/guest/frames.h"
#include "tests/unit/guest/rig.h"

namespace synfluid::guest::testing {

class SimClient {
 public:
  struct Config {
    uint16_t port = 40000;
    uint32_t isn = 100;
    bool v6 = false;
    uint16_t mss = 1460;
    uint32_t window = 65535;     ///< bytes it can hold that nobody reads
    uint32_t reads_per_ack = 0;  ///< 0: reads all at once; else only so many bytes per 50 ms
    std::string request;         ///< sent after the handshake, in segments of `mss`
    bool closes_first = false;   ///< FIN right behind the request
  };
  explicit SimClient(Config config) : config_(std::move(config)), snd_nxt_(config_.isn) {}

  std::vector<Tcp> start(uint64_t now_ns);
  std::vector<Tcp> receive(const Tcp& segment, uint64_t now_ns);
  std::vector<Tcp> on_time(uint64_t now_ns);
  uint64_t deadline_ns() const;

  bool is(uint16_t port) const { return config_.port == port; }
  const std::string& received() const { return received_; }
  bool closed() const { return state_ == State::kClosed; }
  bool was_reset() const { return reset_; }
  bool got_fin() const { return got_fin_; }

 private:
  enum class State : uint8_t { kSynSent, kOpen, kClosed };
  static constexpr uint64_t kRtoNs = 300'000'000;

  Tcp blank(uint8_t flags) const;
  uint32_t free_window() const;
  void take(const Tcp& segment);
  std::vector<Tcp> transmit(uint64_t now_ns);
  void check_end();
  uint32_t stream_end() const {
    return config_.isn + 1 + static_cast<uint32_t>(config_.request.size()) + (wants_fin() ? 1 : 0);
  }
  bool wants_fin() const { return config_.closes_first || got_fin_; }

  Config config_;
  State state_ = State::kSynSent;
  bool reset_ = false;
  bool got_fin_ = false;
  bool fin_seen_ = false;
  uint32_t fin_at_ = 0;
  uint32_t snd_una_ = 0;
  uint32_t snd_nxt_;
  uint32_t rcv_nxt_ = 0;
  uint32_t unread_ = 0;
  std::string received_;
  std::map<uint32_t, std::string> pending_;  ///< by offset behind rcv_nxt's start
  uint32_t irs_ = 0;
  uint64_t rto_at_ns_ = kNever;
  uint64_t rto_ns_ = kRtoNs;
  uint64_t read_at_ns_ = kNever;
};

struct NetworkConfig {
  uint64_t seed = 1;
  double loss = 0;
  double duplication = 0;
  uint64_t delay_ns = 5'000'000;
  uint64_t jitter_ns = 0;     ///< more than the gap between segments reorders them
  Rig* inline_rig = nullptr;  ///< a guest half-way; the network is the same on both of its sides
};

/// Runs clients against a rig until nothing more happens or `limit_ns` of virtual time has passed.
void simulate(Rig& rig, std::vector<SimClient>& clients, const NetworkConfig& network, uint64_t limit_ns);

}  // namespace synfluid::guest::testing
