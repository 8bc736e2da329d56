// What the engine knows of one TCP connection. Names follow RFC 9293 3.3.1.
#pragma once

#include <cstdint>

#include "guest/net/packet.h"
#include "guest/net/tcp/held_segments.h"
#include "guest/platform/platform.h"

namespace synfluid::guest::net {

using ConnectionId = uint16_t;
inline constexpr ConnectionId kNoConnection = 0xffff;

/// The server's side of RFC 9293 3.3.2: it never opens.
enum class TcpState : uint8_t {
  kFree,
  kSynReceived,
  kEstablished,
  kFinWait1,
  kFinWait2,
  kCloseWait,
  kClosing,
  kLastAck,
  kTimeWait,
};

struct Connection {
  Endpoint client;
  Endpoint server;
  LinkHeader link;  ///< of what we send: the last good segment's, turned around

  TcpState state = TcpState::kFree;
  bool fin_wanted = false;  ///< a FIN follows the last byte written
  bool stalled = false;     ///< the application did not take all it was offered
  bool ack_due = false;
  bool blocked = false;     ///< on the list of those that wait for a transmit page
  bool recovering = false;  ///< in fast recovery, until `recover` is acknowledged
  bool timing = false;      ///< `timed_seq` was sent once, at `timed_at_ns`
  bool scales = false;      ///< both sides sent the window scale option
  uint8_t snd_shift = 0;
  uint8_t duplicate_acks = 0;
  uint8_t retries = 0;  ///< time-outs since the peer last made progress
  HeldList held;

  ConnectionId next_in_bucket = kNoConnection;
  ConnectionId next_blocked = kNoConnection;
  uint16_t heap_at = 0;
  uint16_t mss = 0;

  uint32_t iss = 0;
  uint32_t irs = 0;
  uint32_t snd_una = 0;
  uint32_t snd_nxt = 0;  ///< next to send; goes back to snd_una at a time-out
  uint32_t snd_max = 0;  ///< behind the last byte ever sent
  uint32_t snd_wnd = 0;
  uint32_t max_snd_wnd = 0;
  uint32_t snd_wl1 = 0;
  uint32_t snd_wl2 = 0;
  uint32_t rcv_nxt = 0;
  uint32_t rcv_adv = 0;  ///< the right edge of the window we advertised; never goes back
  uint32_t cwnd = 0;
  uint32_t ssthresh = 0;
  uint32_t recover = 0;

  uint32_t srtt_us = 0;
  uint32_t rttvar_us = 0;
  uint32_t rto_us = 0;
  uint32_t timed_seq = 0;
  uint64_t timed_at_ns = 0;

  uint64_t una_offset = 0;  ///< snd_una as an offset into the stream
  uint64_t write_end = 0;   ///< bytes the application has written since the start

  uint64_t retransmit_at_ns = kNever;  ///< or the next window probe
  uint64_t expire_at_ns = kNever;      ///< no progress until then: give up
  uint64_t timer_key_ns = kNever;      ///< its place in the timer heap: not later than either
  uint64_t challenged_at_ns = 0;

  /// Sequence number of the FIN, sent or to come.
  uint32_t fin_seq() const { return iss + 1 + static_cast<uint32_t>(write_end); }
  uint32_t end_seq() const { return fin_seq() + (fin_wanted ? 1 : 0); }
  uint32_t in_flight() const { return snd_nxt - snd_una; }
  uint64_t due_ns() const { return retransmit_at_ns < expire_at_ns ? retransmit_at_ns : expire_at_ns; }
};

}  // namespace synfluid::guest::net
