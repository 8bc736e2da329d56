// Inline: blocks connections by the hosts that their client names, in any request of an HTTP/1.x connection
// or in TLS, with a RST to both sides; all else goes through byte for byte.
//
// How it cannot be talked round: where a request may begin, or has begun, its client's bytes pass in order
// only (what comes ahead of a hole is dropped, and comes again); they are read as they pass, once; and until
// the server has acknowledged them, they may be sent again only with the same contents. Contents of bodies
// are passed over by count: they may come in any order, and again. request_watcher.h says what is read, and
// what ends the reading; that is final for the flow, which begins anew only when the server has answered
// another SYN. A flow is one that began with a SYN here, and the server agreed; segments of no flow are
// dropped.
//
// It believes that a server reads the body that a request announces, and takes requests one behind the other.
//
// Configuration: `block_hosts` (host_rules.h); `undecided block|pass`: what becomes of a flow of HTTP or TLS
// that names no host in a head's first kMaxSniffedBytes bytes, contradicts itself, or leaves in doubt where
// its next request begins (block); `unknown_flows drop|pass` (drop).
#pragma once

#include "guest/net/tcp/segment.h"
#include "guest/services/firewall/flow_table.h"
#include "guest/services/firewall/host_rules.h"
#include "guest/services/firewall/request_watcher.h"
#include "guest/services/netfront_sink.h"
#include "guest/services/service.h"

namespace synfluid::guest {

class Firewall final : public Service {
 public:
  explicit Firewall(const ServiceParts& parts);

  void on_frame(const net::RxFrame& frame, uint64_t now_ns) override;
  void on_buffers(uint64_t) override {}
  bool wants_buffers() const override { return false; }
  void run_timers(uint64_t) override {}
  uint64_t next_deadline_ns() const override { return kNever; }
  ServiceCounters counters() const override { return counters_; }

  /// Takes what is left of the arena. False: too little.
  bool take_tables(net::Arena& arena, const net::HashKey& key);

 private:
  enum class Verdict : uint8_t { kForward, kDrop };

  /// A received segment, in one piece.
  struct Input {
    std::span<const std::byte> frame;
    net::Packet packet;
    net::Segment segment;
    bool checksum_trusted = false;

    bool checksum_good() const;
  };

  Verdict judge(const net::RxFrame& frame, uint64_t now_ns);
  Verdict judge_segment(const Input& in, uint64_t now_ns);
  Verdict on_new_syn(const FlowKey& key, const Input& in, uint64_t now_ns);
  Verdict on_known_syn(FirewallFlows::Found found, const Input& in);
  void on_accept(FirewallFlow& flow, const Input& in);
  Verdict on_client(FirewallFlow& flow, const Input& in);
  Verdict on_client_bytes(FirewallFlow& flow, const Input& in, uint32_t first);
  Verdict on_server(FirewallFlow& flow, const Input& in);
  Verdict settle(FirewallFlow& flow, const Input& in, Finding finding);
  Verdict block(FirewallFlow& flow, const Input& in);
  void on_blocked(FirewallFlow& flow, FirewallFlows::Sender sender, const Input& in);
  void log_block(const FirewallFlow& flow);
  void start_over(FirewallFlow& flow, uint32_t begin_seq);
  void note_end(FirewallFlow& flow, FirewallFlows::Sender sender, const net::Segment& segment);
  void reset_client(const Input& in);
  void reset_server(const FirewallFlow& flow, const Input& in);
  void send_reset(const net::LinkHeader& link, const net::Endpoint& from, const net::Endpoint& to,
                  uint32_t seq, uint32_t ack);
  std::span<const std::byte> in_one_piece(const net::RxFrame& frame);

  net::Netfront& netfront_;
  Console console_;
  NetfrontSink sink_;
  HostRules rules_;
  FlowState undecided_ = FlowState::kBlocked;
  Verdict unknown_ = Verdict::kDrop;
  FirewallFlows* flows_ = nullptr;
  RequestWatcher watcher_;
  ServiceCounters counters_;
  std::byte joined_[net::kMaxFragments * abi::kPageBytes];
};

}  // namespace synfluid::guest
