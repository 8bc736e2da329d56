// Looks at the client's half of connections: finds each request of an HTTP/1.x connection, judges its host,
// and follows its body to where the next may begin. A flow's first bytes may be something else: TLS is judged
// by its first server name, and the rest of it, like any other protocol, is opaque.
//
// What is read (heads, blanks between requests, chunk sizes, trailers) is kept until the server has
// acknowledged it. Contents of bodies are neither read nor kept: the watch is ahead of them, at the byte
// where reading goes on.
//
// What may follow a request: behind CONNECT, or a request with an Upgrade header, the server may agree to
// another protocol. Its answer is not read. Instead what follows is taken like a flow's first bytes: HTTP is
// followed as before, TLS judged by its name, and only what a server that did not agree cannot take for a
// request is opaque. Behind any other request only another request may come.
//
// Memory: between requests and in a body a flow needs its StreamWatch alone; in a head, one sniffer from a
// pool; until the server's acknowledgement, chunks of the guard store. When these are used up a segment is as
// good as lost: it comes again. One thread.
#pragma once

#include <cstdint>
#include <span>

#include "guest/net/arena.h"
#include "guest/services/firewall/body_follower.h"
#include "guest/services/firewall/guard_store.h"
#include "guest/services/firewall/host_rules.h"
#include "guest/services/firewall/host_sniffer.h"

namespace synfluid::guest {

inline constexpr uint16_t kNoSniffer = 0xffff;

/// The watcher's part of a flow.
struct StreamWatch {
  uint32_t next_seq = 0;          ///< where reading goes on; what is before needs none any more
  uint16_t sniffer = kNoSniffer;  ///< in a head
  bool is_http = false;           ///< a request has passed
  bool may_be_other = true;       ///< what begins next need not be an HTTP request
  BodyFollower body;
  GuardStore::Chain guards;

  /// Whether the server's acknowledgements matter.
  bool awaits_ack() const { return !guards.empty() || body.has_contents(); }
};

enum class Finding : uint8_t {
  kNothing,     ///< so far; go on
  kOpaque,      ///< nothing further can be read
  kBlocked,     ///< a request for a blocked host
  kSuspicious,  ///< HTTP or TLS that contradicts itself, or names no host for too long
  kNoRoom,      ///< nothing was read; the segment has to come again
};

class RequestWatcher {
 public:
  RequestWatcher(const HostRules& rules) : rules_(rules) {}
  /// Takes the arena's bytes for both pools. False: too few.
  bool take_tables(net::Arena& arena, size_t guard_bytes, size_t sniffer_bytes);

  /// Whether a segment lies wholly in what may have any contents.
  static bool is_free(const StreamWatch& watch, uint32_t seq, size_t bytes) {
    const bool is_before = net::seq_at_or_before(seq + static_cast<uint32_t>(bytes), watch.next_seq);
    return is_before && !watch.guards.reaches(seq);
  }
  /// Whether bytes sent again are those that were read.
  bool matches(const StreamWatch& watch, uint32_t seq, std::span<const std::byte> bytes) const {
    return guards_->matches(watch.guards, seq, bytes);
  }
  /// Reads bytes that nobody has seen yet, the first of them at next_seq.
  Finding read(StreamWatch& watch, std::span<const std::byte> fresh);

  /// Whether an acknowledgement changes anything. Precondition: awaits_ack().
  bool is_news(const StreamWatch& watch, uint32_t ack) const;
  void on_ack(StreamWatch& watch, uint32_t ack);

  /// Nothing more will be read; what was read stays guarded.
  void stop_reading(StreamWatch& watch);
  /// Gives back all that a flow has here.
  void forget(StreamWatch& watch);

 private:
  HostSniffer& sniffer_of(StreamWatch& watch);
  Finding read_head(StreamWatch& watch, std::span<const std::byte> bytes, size_t& used);
  Finding read_body(StreamWatch& watch, std::span<const std::byte> bytes, size_t& used);
  Finding on_head(StreamWatch& watch, SniffVerdict verdict);

  const HostRules& rules_;
  GuardStore* guards_ = nullptr;
  std::span<HostSniffer> sniffers_;
  std::span<uint16_t> free_sniffers_;
  size_t free_sniffer_count_ = 0;
};

}  // namespace synfluid::guest
