// Asks who sends a SYN whether it receives what is sent to its address, before a VM is spent on it.
//
// The question is a SYN/ACK that acknowledges a number the client has not sent. A client answers it with a
// reset that carries this number, and goes on waiting for its connection (RFC 9293 3.10.7.3): its SYN comes
// again, from Linux at once, from others after their time-out, and then its address has been proven. The
// number is a keyed hash of the flow and of the time, so nothing is kept of who was asked; who forges source
// addresses never sees it. Proven addresses are kept for kProvenNs in a table of fixed size, each in one of
// two cells, where the one proven longer ago gives way.
//
// A firewall between client and gateway that lets only expected segments pass swallows the question: its
// clients are served when VMs are not short. So nobody is asked before they are.
//
// Threads: one, its worker's. Units: ns of the traffic clock. Errors: none.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "base/clock.h"
#include "base/packet.h"
#include "base/siphash.h"

namespace synfluid::gateway {

class SynChallenge {
 public:
  /// An answer counts for so long at least, and for twice as long at most.
  static constexpr int64_t kPeriodNs = 8 * kNsPerSecond;
  static constexpr int64_t kProvenNs = 300 * kNsPerSecond;
  static constexpr size_t kCells = 16'384;

  explicit SynChallenge(const SipKey& secret);

  /// The number that the client of this SYN is asked by.
  uint32_t ask(const ParsedPacket& syn, int64_t now_ns) noexcept;
  /// Looks at a packet without a flow; its sender's address is proven if it is a reset with the number.
  bool take_answer(const ParsedPacket& packet, int64_t now_ns) noexcept;
  bool is_proven(const Address& address, int64_t now_ns) const noexcept;

 private:
  struct Cell {
    uint64_t tag = 0;
    int64_t until_ns = 0;
  };

  uint32_t number(const OrientedKey& flow, int64_t period) const noexcept;
  uint64_t tag_of(const Address& address) const noexcept;
  std::array<size_t, 2> places_of(uint64_t tag) const noexcept;

  const SipKey secret_;
  std::vector<Cell> cells_;
  int64_t listen_until_ns_ = 0;  ///< nobody was asked whose answer could come later
};

}  // namespace synfluid::gateway
