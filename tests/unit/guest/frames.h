// Frames for tests: built and taken apart here by hand, without the code under test.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tests/unit/guest/rig.h"

namespace synfluid::guest::testing {

inline constexpr uint8_t kF = 0x01, kS = 0x02, kR = 0x04, kP = 0x08, kA = 0x10;

/// A TCP segment in plain view. Addresses are texts of hex bytes chosen by `v6`.
struct Tcp {
  bool v6 = false;
  std::vector<uint16_t> vlans;   ///< outermost first
  uint32_t source = 0x0a000001;  ///< the last four bytes of either kind of address
  uint32_t destination = 0xc6336401;
  uint16_t sport = 40000;
  uint16_t dport = 80;
  uint32_t seq = 0;
  uint32_t ack = 0;
  uint8_t flags = 0;
  uint16_t window = 65535;
  std::vector<uint8_t> options;  ///< padded by the builder
  std::string payload;
  std::vector<uint8_t> macs = {0x02, 0, 0, 0, 0, 0xbb, 0x02, 0, 0, 0, 0, 0xaa};  ///< destination, source
  std::vector<uint8_t> ip_options;                                               ///< IPv4; a multiple of four
  std::vector<uint8_t>
      extension_headers;  ///< IPv6; the first's type is hop-by-hop, they chain to TCP themselves
  bool break_checksum = false;

  bool has(uint8_t flag) const { return (flags & flag) != 0; }
};

Frame build(const Tcp& tcp);
/// Checks every length and checksum; throws on anything that a strict receiver would not take.
Tcp dissect(const Frame& frame);
/// The same conversation from the other side: addresses, ports and MACs exchanged.
Tcp turned(Tcp tcp);
std::string describe(const Tcp& tcp);

uint16_t internet_checksum(const std::vector<uint8_t>& bytes);
Frame to_frame(const std::vector<uint8_t>& bytes);

}  // namespace synfluid::guest::testing
