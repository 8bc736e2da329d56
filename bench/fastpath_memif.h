// The fast path between two ports of net_memif, ours and testpmd's in turns, timed by the peer at the ports'
// other ends.
//
// The peer is a thread with a CPU of its own, the device under test has the other. It lays a whole ring of
// frames out, sends one burst of them and waits until it has come back: the device is there. Then it gives
// the others by one store, and the clock runs until the last of them lies in the ring of the second port. So
// the device always finds full bursts, however fast or slow the peer is, and the same clock holds for both
// devices, which know nothing of it. A ring during which the device or the peer lost its CPU does not count.
//
//   bypass_1m_memif, testpmd_macswap_memif   packets a second of the device, median over a round's rings
//   bypass_1m_over_testpmd_memif             median of the rounds' ratios
//   memif_peer                               packets a second that the peer lays out, outside the clock
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "bench/report.h"
#include "gateway/packet_io.h"

namespace synfluid::bench {

struct FastpathMemifConfig {
  uint64_t flows = 0;
  uint64_t seed = 0;
  int rounds = 0;
  double seconds = 0;  ///< of each round
};

/// To start the EAL with.
std::vector<std::string> fastpath_memif_vdevs();

/// Our device: turns between these ports until `done`.
using OurTurns = std::function<void(gateway::PacketIo& ports, const std::atomic<bool>& done)>;
Status measure_fastpath_memif(Report& report, const FastpathMemifConfig& config, const OurTurns& our_turns);

}  // namespace synfluid::bench
