// Plays the client of a traced connection against a VM that is its server.
//
// The trace gives what the client says and when it closes; the VM decides what the client acknowledges. So:
// the client's payload is sent again in its order, with sequence numbers of our own counting (they differ
// from the trace's where the trace has gaps or repeats itself) and with acknowledgements of what the VM
// really sent. A segment that is not acknowledged is sent again. The trace's server packets are not for this
// class.
//
// Threads: one. Ownership: all data are copied in. Units: ns of the caller's waiting clock. Memory: what the
// VM has not acknowledged yet; the caller paces by idle().
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <span>
#include <vector>

#include "base/packet.h"

namespace synfluid::gateway {

class ClientPlayer {
 public:
  using Send = std::function<void(std::span<const std::byte> frame)>;

  /// `syn` is the trace's SYN, which the caller sends as it is.
  ClientPlayer(std::span<const std::byte> syn_frame, const ParsedPacket& syn, Send send);

  /// The trace's next packet from the client.
  void trace_packet(std::span<const std::byte> frame, const ParsedPacket& packet, int64_t now_ns);
  /// A frame from the VM.
  void vm_packet(std::span<const std::byte> frame, const ParsedPacket& packet, int64_t now_ns);
  /// Sends again what waits too long for its acknowledgement.
  void tick(int64_t now_ns);
  /// The connection is over, whatever is still to be said.
  void end() {
    over_ = true;
    unsent_.clear();
    unacked_.clear();
  }

  /// All that the trace has said so far is acknowledged, or never will be.
  bool idle() const { return over_ || (unsent_.empty() && unacked_.empty()); }
  bool is_over() const { return over_; }
  bool is_client(const Endpoint& end) const { return end == client_; }
  uint64_t bytes_from_vm() const { return bytes_from_vm_; }
  uint64_t retransmissions() const { return retransmissions_; }

 private:
  struct Segment {
    uint32_t seq = 0;
    bool fin = false;
    int tries = 0;
    int64_t sent_ns = 0;
    std::vector<std::byte> payload;
    uint32_t end() const { return seq + static_cast<uint32_t>(payload.size()) + (fin ? 1 : 0); }
  };

  void take_in_order(uint32_t trace_seq, std::span<const std::byte> payload, bool fin);
  void say(std::span<const std::byte> payload, bool fin);
  void pump(int64_t now_ns);
  void transmit(const Segment& segment);
  void acknowledge();
  void read_syn_ack(std::span<const std::byte> frame, const ParsedPacket& packet);
  void read_window(std::span<const std::byte> frame, const ParsedPacket& packet);
  void send(uint8_t flags, uint32_t seq, std::span<const std::byte> payload);
  std::vector<std::byte> options();

  const Send send_;
  const std::vector<std::byte> link_header_;
  const uint8_t ip_version_;
  const Endpoint client_;
  const Endpoint server_;

  // What the client says.
  uint32_t trace_next_;                ///< in the trace's numbers
  uint32_t next_;                      ///< in ours
  uint16_t window_;                    ///< as the trace's client advertises it
  std::map<uint32_t, Segment> early_;  ///< by distance from trace_next_'s start; behind a gap in the trace
  uint32_t trace_first_;
  std::deque<Segment> unsent_;
  std::deque<Segment> unacked_;

  // What the VM says.
  bool syn_acked_ = false;
  bool established_ = false;  ///< the trace's client has acknowledged the SYN/ACK
  bool vm_fin_ = false;
  bool over_ = false;
  uint32_t expected_ = 0;
  uint32_t vm_window_ = 0;
  uint32_t vm_mss_ = 536;
  uint8_t vm_window_scale_ = 0;
  bool client_scales_ = false;
  bool timestamps_ = false;
  uint32_t vm_timestamp_ = 0;
  uint32_t timestamp_ = 1;
  uint64_t bytes_from_vm_ = 0;
  uint64_t retransmissions_ = 0;
};

}  // namespace synfluid::gateway
