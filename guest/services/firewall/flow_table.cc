#include "guest/services/firewall/flow_table.h"

namespace synfluid::guest {
namespace {

constexpr uint64_t kNsPerSecond = 1'000'000'000;
/// A flow that has been silent for so long may go when its place is needed.
constexpr uint64_t kIdleEvictNs = 300 * kNsPerSecond;
/// A blocked flow is kept for the sake of its retransmissions; one in a request's head, or before its first,
/// so that its client can still speak.
constexpr uint64_t kSilentEvictNs = 60 * kNsPerSecond;
/// How far to look from the oldest end: a bound on what one SYN costs.
constexpr int kEvictionSearch = 16;

bool same_tags(const uint16_t (&a)[2], const uint16_t (&b)[2]) {
  return a[0] == b[0] && a[1] == b[1];
}

bool may_go(const FirewallFlow& flow, uint64_t now_ns) {
  const uint64_t idle_ns = now_ns - flow.seen_ns;
  if (flow.over) return true;
  const bool is_between = flow.watch.is_http && flow.watch.sniffer == kNoSniffer;
  const bool is_settled =
      flow.state == FlowState::kOpaque || (flow.state == FlowState::kWatched && is_between);
  return idle_ns > (is_settled ? kIdleEvictNs : kSilentEvictNs);
}

}  // namespace

FirewallFlows::FirewallFlows(net::Arena& arena, size_t flows, const net::HashKey& key)
    : key_(key),
      flows_(arena.reserve<FirewallFlow>(flows)),
      buckets_(arena.array<FlowId>(std::bit_ceil(flows))) {
  for (FlowId& head : buckets_) head = kNoFlow;
}

/// The same bucket for both directions.
FlowId* FirewallFlows::bucket_of(const FlowKey& key) {
  std::byte ends[2][18];
  net::copy_bytes(&ends[0][0], &key.from.address.bytes[0], 16);
  net::store_be16(&ends[0][16], key.from.port);
  net::copy_bytes(&ends[1][0], &key.to.address.bytes[0], 16);
  net::store_be16(&ends[1][16], key.to.port);
  const uint64_t hash = net::siphash(key_, ends[0]) ^ net::siphash(key_, ends[1]);
  return &buckets_[hash & (buckets_.size() - 1)];
}

FirewallFlows::Found FirewallFlows::find(const FlowKey& key) {
  for (FlowId id = *bucket_of(key); id != kNoFlow; id = flows_[id].next_in_bucket) {
    FirewallFlow& flow = flows_[id];
    if (!same_tags(flow.vlan, key.vlan)) continue;
    if (flow.client == key.from && flow.server == key.to) return {&flow, Sender::kClient};
    if (flow.client == key.to && flow.server == key.from) return {&flow, Sender::kServer};
  }
  return {};
}

FirewallFlow* FirewallFlows::evictable(uint64_t now_ns) {
  FlowId id = oldest_;
  for (int i = 0; i < kEvictionSearch && id != kNoFlow; ++i, id = flows_[id].newer)
    if (may_go(flows_[id], now_ns)) return &flows_[id];
  return nullptr;
}

FirewallFlow* FirewallFlows::insert(const FlowKey& key, uint64_t now_ns) {
  const FlowId id = free_ != kNoFlow ? free_ : static_cast<FlowId>(fresh_++);
  FirewallFlow& flow = flows_[id];
  if (id == free_) free_ = flow.next_in_bucket;
  flow = FirewallFlow{};
  flow.client = key.from;
  flow.server = key.to;
  flow.vlan[0] = key.vlan[0];
  flow.vlan[1] = key.vlan[1];
  flow.seen_ns = now_ns;
  FlowId* bucket = bucket_of(key);
  flow.next_in_bucket = *bucket;
  *bucket = id;
  link_newest(flow);
  return &flow;
}

void FirewallFlows::remove(FirewallFlow& flow) {
  const FlowId id = id_of(flow);
  FlowId* link = bucket_of({flow.client, flow.server, {flow.vlan[0], flow.vlan[1]}});
  while (*link != id) link = &flows_[*link].next_in_bucket;
  *link = flow.next_in_bucket;
  unlink(flow);
  flow.next_in_bucket = free_;
  free_ = id;
}

void FirewallFlows::unlink(FirewallFlow& flow) {
  (flow.older == kNoFlow ? oldest_ : flows_[flow.older].newer) = flow.newer;
  (flow.newer == kNoFlow ? newest_ : flows_[flow.newer].older) = flow.older;
}

void FirewallFlows::link_newest(FirewallFlow& flow) {
  flow.older = newest_;
  flow.newer = kNoFlow;
  (newest_ == kNoFlow ? oldest_ : flows_[newest_].newer) = id_of(flow);
  newest_ = id_of(flow);
}

void FirewallFlows::touch(FirewallFlow& flow, uint64_t now_ns) {
  flow.seen_ns = now_ns;
  if (newest_ == id_of(flow)) return;
  unlink(flow);
  link_newest(flow);
}

}  // namespace synfluid::guest
