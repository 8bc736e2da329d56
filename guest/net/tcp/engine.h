// TCP, the server's side: many connections in fixed memory, on any address and port.
//
// Implements RFC 9293 (all states a passive opener meets), RFC 6298 retransmission, RFC 5681 and 6582
// congestion control with fast retransmit and NewReno recovery, RFC 3042 limited transmit, RFC 7323 window
// scale (no timestamps: they are not offered back), RFC 6528 initial sequence numbers, RFC 5961 blind attack
// checks with challenge ACKs bounded per connection, zero window probes, silly window avoidance on both
// sides.
//
// No send buffer: the application can produce any byte of its stream again until it is acknowledged (read()).
// No receive buffer: what the application does not take, or what is out of order, waits in a small shared
// pool and is acknowledged only when the application has taken it.
//
// A full table: the connection that has been in TIME_WAIT longest makes room; without one, the SYN is dropped
// and counted. The client tries again.
//
// One thread; time comes with every call. The engine calls the application back from input(), run_timers()
// and on_buffers(); the application may call write(), close() and resume() from there. Units: bytes, ns.
#pragma once

#include <cstdint>
#include <span>

#include "guest/net/arena.h"
#include "guest/net/frame_sink.h"
#include "guest/net/siphash.h"
#include "guest/net/tcp/connection.h"
#include "guest/net/tcp/held_segments.h"
#include "guest/net/tcp/segment.h"
#include "guest/net/tcp/timer_heap.h"

namespace synfluid::guest::net {

class TcpApplication {
 public:
  /// A client wants to open: its SYN has just come.
  virtual void on_syn(ConnectionId id) = 0;
  /// The handshake is done.
  virtual void on_open(ConnectionId id) = 0;
  /// The next bytes from the client. Returns how many it takes; the rest is offered again after resume().
  virtual uint32_t on_data(ConnectionId id, std::span<const std::byte> bytes) = 0;
  /// The client will send no more.
  virtual void on_peer_closed(ConnectionId id) = 0;
  /// No byte before `offset` will be read again.
  virtual void on_acknowledged(ConnectionId id, uint64_t offset) = 0;
  /// Writes the stream's bytes from `offset` on; all of them have been announced by write().
  virtual void read(ConnectionId id, uint64_t offset, std::span<std::byte> into) = 0;
  /// The connection is over, in whatever way; the id may come back with on_syn().
  virtual void on_gone(ConnectionId id) = 0;

 protected:
  ~TcpApplication() = default;
};

struct TcpCounters {
  uint64_t segments_in = 0;
  uint64_t segments_out = 0;
  uint64_t malformed = 0;
  uint64_t bad_checksum = 0;
  uint64_t opened = 0;
  uint64_t table_full = 0;     ///< SYNs dropped because there was no room
  uint64_t recycled = 0;       ///< TIME_WAIT connections that made room
  uint64_t retransmitted = 0;  ///< segments, of all kinds
  uint64_t fast_retransmits = 0;
  uint64_t timeouts = 0;
  uint64_t window_probes = 0;
  uint64_t out_of_order = 0;
  uint64_t challenge_acks = 0;
  uint64_t stray = 0;    ///< segments of no connection, answered with RST
  uint64_t aborted = 0;  ///< connections given up by us
  uint64_t reset_by_peer = 0;
};

struct TcpConfig {
  HashKey key;
  uint64_t idle_ns = 120'000'000'000;      ///< without progress for so long, a connection ends
  uint64_t time_wait_ns = 60'000'000'000;  ///< as Linux and others do; RFC 9293's 2 MSL would be four minutes
};

class TcpEngine {
 public:
  /// Takes room for `connections` from the arena, and for `chunks` held segments.
  TcpEngine(TcpApplication& application, FrameSink& sink, Arena& arena, size_t connections, size_t chunks,
            const TcpConfig& config);

  /// What one connection takes of the arena.
  static constexpr size_t bytes_per_connection() { return sizeof(Connection) + 4 * sizeof(ConnectionId); }

  /// A whole frame whose packet is TCP.
  void input(std::span<const std::byte> frame, const Packet& packet, ChecksumCheck check, uint64_t now_ns);
  void run_timers(uint64_t now_ns);
  /// There are transmit pages again.
  void on_buffers(uint64_t now_ns);

  /// When run_timers() has something to do; may be early.
  uint64_t next_deadline_ns() const { return timers_.next_ns(); }
  /// Somebody waits for a transmit page.
  bool is_blocked() const { return first_blocked_ != kNoConnection; }

  /// The application's side, from within its callbacks.
  void write(ConnectionId id, uint64_t bytes) { connections_[id].write_end += bytes; }
  void close(ConnectionId id) { connections_[id].fin_wanted = true; }
  /// The application is ready for more data.
  void resume(ConnectionId id) { connections_[id].stalled = false; }

  const Connection& connection(ConnectionId id) const { return connections_[id]; }
  size_t capacity() const { return connections_.size(); }
  size_t open_connections() const { return in_use_; }
  const TcpCounters& counters() const { return counters_; }

 private:
  // table.cc
  ConnectionId* bucket_of(const Endpoint& client, const Endpoint& server);
  ConnectionId find(const Segment& segment, const LinkHeader& link);
  Connection* allocate();
  bool recycle_time_wait();
  void release(Connection& c);
  ConnectionId id_of(const Connection& c) const {
    return static_cast<ConnectionId>(&c - connections_.data());
  }
  uint32_t initial_sequence(const Segment& segment, uint64_t now_ns) const;

  // input.cc
  void open(const Packet& packet, const Segment& segment, uint64_t now_ns);
  void on_stray(const Packet& packet, const Segment& segment);
  void on_segment(Connection& c, const Packet& packet, const Segment& segment, uint64_t now_ns);
  bool is_acceptable(const Connection& c, const Segment& segment) const;
  bool on_unusual(Connection& c, const Segment& segment, uint64_t now_ns);
  bool on_handshake_ack(Connection& c, const Packet& packet, const Segment& segment, uint64_t now_ns);
  void on_ack(Connection& c, const Segment& segment, uint64_t now_ns);
  void on_new_ack(Connection& c, uint32_t ack, uint64_t now_ns);
  void on_duplicate_ack(Connection& c, uint64_t now_ns);
  void on_fin_acknowledged(Connection& c, uint64_t now_ns);
  void update_window(Connection& c, const Segment& segment);
  void on_payload(Connection& c, const Segment& segment, uint64_t now_ns);
  void drain_held(Connection& c, uint64_t now_ns);
  void on_fin(Connection& c, uint64_t now_ns);
  void finish_input(Connection& c, uint64_t now_ns);

  // congestion.cc
  void sample_rtt(Connection& c, uint64_t now_ns);
  void set_rto(Connection& c);
  void grow_window(Connection& c, uint32_t acked);
  void start_window(Connection& c);

  // output.cc
  void output(Connection& c, uint64_t now_ns);
  bool send_next(Connection& c, uint64_t now_ns);
  bool send_data(Connection& c, uint32_t seq, uint32_t bytes, uint64_t now_ns);
  void send_syn_ack(Connection& c, uint64_t now_ns);
  void send_ack(Connection& c, uint64_t now_ns);
  void send_challenge_ack(Connection& c, uint64_t now_ns);
  void send_reset(Connection& c);
  void retransmit_first(Connection& c, uint64_t now_ns);
  void send_probe(Connection& c, uint64_t now_ns);
  uint16_t advertise(Connection& c);
  void block(Connection& c);
  void unblock(Connection& c);
  bool is_update_due(const Connection& c) const;

  // timers.cc
  void set_timers(Connection& c, uint64_t now_ns);
  void on_timer(Connection& c, uint64_t now_ns);
  void on_retransmit_timer(Connection& c, uint64_t now_ns);
  void on_expiry(Connection& c, uint64_t now_ns);
  void abort(Connection& c);
  void enter_time_wait(Connection& c, uint64_t now_ns);
  void touch(Connection& c, uint64_t now_ns) { c.expire_at_ns = now_ns + config_.idle_ns; }

  TcpApplication& application_;
  FrameSink& sink_;
  TcpConfig config_;
  std::span<Connection> connections_;
  std::span<ConnectionId> buckets_;  ///< a power of two
  HeldSegments held_;
  TimerHeap timers_;
  size_t fresh_ = 0;                   ///< connections from here on have never been used
  ConnectionId free_ = kNoConnection;  ///< of those before
  ConnectionId first_blocked_ = kNoConnection;
  ConnectionId last_blocked_ = kNoConnection;
  size_t in_use_ = 0;
  size_t in_time_wait_ = 0;
  TcpCounters counters_;
};

}  // namespace synfluid::guest::net
