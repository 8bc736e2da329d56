// The firewall's flows: a hash table with the least recently seen at hand.
//
// Policy when full: of those unseen the longest, one that is over or idle for long makes room; if there is
// none, the new flow's SYN is dropped. What a forgotten flow's client still sends is of no flow: see the
// firewall's `unknown_flows`. One thread. Units: ns.
#pragma once

#include <cstdint>
#include <span>

#include "guest/net/arena.h"
#include "guest/net/packet.h"
#include "guest/net/siphash.h"
#include "guest/services/firewall/request_watcher.h"

namespace synfluid::guest {

using FlowId = uint16_t;
inline constexpr FlowId kNoFlow = 0xffff;

enum class FlowState : uint8_t {
  kWatched,  ///< its client's bytes are read, in order
  kOpaque,   ///< nothing further is read; what was, is guarded until the server has it
  kBlocked,
};

struct FirewallFlow {
  net::Endpoint client;
  net::Endpoint server;
  uint16_t vlan[2] = {0, 0};
  FlowState state = FlowState::kWatched;
  bool agreed = false;  ///< the server has answered the SYN: its stream begins where ours does
  bool client_fin = false;
  bool server_fin = false;
  bool over = false;         ///< reset, or finished both ways
  bool syn_pending = false;  ///< a SYN with another sequence number awaits the server's answer
  uint32_t pending_begin_seq = 0;
  uint32_t begin_seq = 0;   ///< of the client's first byte
  uint32_t passed_seq = 0;  ///< behind the last of its bytes that was let through
  StreamWatch watch;
  uint64_t seen_ns = 0;
  FlowId next_in_bucket = kNoFlow;
  FlowId older = kNoFlow;
  FlowId newer = kNoFlow;
};

struct FlowKey {
  net::Endpoint from;
  net::Endpoint to;
  uint16_t vlan[2] = {0, 0};
};

class FirewallFlows {
 public:
  FirewallFlows(net::Arena& arena, size_t flows, const net::HashKey& key);

  enum class Sender : uint8_t { kClient, kServer };
  struct Found {
    FirewallFlow* flow = nullptr;
    Sender sender = Sender::kClient;
  };
  Found find(const FlowKey& key);

  /// A new flow, its client being the sender; nullptr: no room (see above). `evicted` is called with a flow
  /// before it is forgotten.
  template <class Evicted>
  FirewallFlow* add(const FlowKey& key, uint64_t now_ns, Evicted evicted) {
    if (is_full()) {
      FirewallFlow* victim = evictable(now_ns);
      if (victim == nullptr) return nullptr;
      evicted(*victim);
      remove(*victim);
    }
    return insert(key, now_ns);
  }
  /// Marks a flow as the one most recently seen.
  void touch(FirewallFlow& flow, uint64_t now_ns);

  static constexpr size_t bytes_per_flow() { return sizeof(FirewallFlow) + 2 * sizeof(FlowId); }

 private:
  FlowId* bucket_of(const FlowKey& key);
  FirewallFlow* evictable(uint64_t now_ns);
  FirewallFlow* insert(const FlowKey& key, uint64_t now_ns);
  void remove(FirewallFlow& flow);
  void unlink(FirewallFlow& flow);
  void link_newest(FirewallFlow& flow);
  FlowId id_of(const FirewallFlow& flow) const { return static_cast<FlowId>(&flow - flows_.data()); }

  net::HashKey key_;
  std::span<FirewallFlow> flows_;
  std::span<FlowId> buckets_;
  bool is_full() const { return free_ == kNoFlow && fresh_ == flows_.size(); }
  size_t fresh_ = 0;       ///< flows from here on have never been used
  FlowId free_ = kNoFlow;  ///< of those before
  FlowId oldest_ = kNoFlow;
  FlowId newest_ = kNoFlow;
};

}  // namespace synfluid::guest
