// The connection table: look-up, allocation, initial sequence numbers.
#include "guest/net/tcp/engine.h"

namespace synfluid::guest::net {
namespace {

/// Both ends as 36 bytes, for the keyed hash.
struct FlowBytes {
  std::byte bytes[36];
  FlowBytes(const Endpoint& client, const Endpoint& server) {
    copy_bytes(&bytes[0], &client.address.bytes[0], 16);
    copy_bytes(&bytes[16], &server.address.bytes[0], 16);
    store_be16(&bytes[32], client.port);
    store_be16(&bytes[34], server.port);
  }
};

}  // namespace

TcpEngine::TcpEngine(TcpApplication& application, FrameSink& sink, Arena& arena, size_t connections,
                     size_t chunks, const TcpConfig& config)
    : application_(application),
      sink_(sink),
      config_(config),
      connections_(arena.reserve<Connection>(connections)),
      buckets_(arena.array<ConnectionId>(std::bit_ceil(connections))),
      held_(arena, chunks),
      timers_(arena, connections_) {
  for (ConnectionId& head : buckets_) head = kNoConnection;
}

ConnectionId* TcpEngine::bucket_of(const Endpoint& client, const Endpoint& server) {
  const FlowBytes flow(client, server);
  return &buckets_[siphash(config_.key, flow.bytes) & (buckets_.size() - 1)];
}

ConnectionId TcpEngine::find(const Segment& segment, const LinkHeader& link) {
  for (ConnectionId id = *bucket_of(segment.from, segment.to); id != kNoConnection;
       id = connections_[id].next_in_bucket) {
    const Connection& c = connections_[id];
    if (c.client == segment.from && c.server == segment.to && c.link.same_network(link)) return id;
  }
  return kNoConnection;
}

/// A connection with nothing in it, not yet in its bucket.
Connection* TcpEngine::allocate() {
  const bool has_fresh = fresh_ < connections_.size();
  if (free_ == kNoConnection && !has_fresh && !recycle_time_wait()) {
    ++counters_.table_full;
    return nullptr;
  }
  const size_t index = free_ != kNoConnection ? free_ : fresh_++;
  Connection& c = connections_[index];
  if (index == free_) free_ = c.next_in_bucket;
  c = Connection{};
  ++in_use_;
  return &c;
}

bool TcpEngine::recycle_time_wait() {
  if (in_time_wait_ == 0) return false;
  Connection* oldest = nullptr;
  for (Connection& c : connections_.first(fresh_))
    if (c.state == TcpState::kTimeWait && (oldest == nullptr || c.expire_at_ns < oldest->expire_at_ns))
      oldest = &c;
  ++counters_.recycled;
  release(*oldest);
  return true;
}

void TcpEngine::release(Connection& c) {
  const ConnectionId id = id_of(c);
  application_.on_gone(id);
  if (c.state == TcpState::kTimeWait) --in_time_wait_;
  held_.clear(c.held);
  if (c.blocked) unblock(c);
  timers_.remove(id);
  ConnectionId* link = bucket_of(c.client, c.server);
  while (*link != id) link = &connections_[*link].next_in_bucket;
  *link = c.next_in_bucket;
  c.state = TcpState::kFree;
  c.next_in_bucket = free_;
  free_ = id;
  --in_use_;
}

/// RFC 6528: a clock of 4 us plus a keyed hash of the connection.
uint32_t TcpEngine::initial_sequence(const Segment& segment, uint64_t now_ns) const {
  const FlowBytes flow(segment.from, segment.to);
  const HashKey other{~config_.key.k0, config_.key.k1};
  return static_cast<uint32_t>(now_ns / 4000) + static_cast<uint32_t>(siphash(other, flow.bytes));
}

}  // namespace synfluid::guest::net
