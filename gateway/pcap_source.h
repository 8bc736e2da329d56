// A capture file as a stream of Ethernet frames.
//
// pcap and pcapng, through libpcap. Link types: Ethernet as it is; raw IP (RAW, IPV4, IPV6), Linux cooked
// (SLL, SLL2) and BSD loopback (NULL, LOOP) get an Ethernet header of made-up, locally administered
// addresses. What the capture's snap length cut off is filled with zeros, so that lengths on the wire are
// those of the trace. Time stamps more than 146 years from 1970 are taken for that. Threads: one. Ownership:
// a frame's bytes are valid until the next call. Units: ns since the epoch. Errors: a file that cannot be
// opened, a link type not listed (named), a broken record (by its number, from 1).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "gateway/interrupt.h"
#include "gateway/trace_file.h"

struct pcap;

namespace synfluid::gateway {

/// No longer frame fits an mbuf; see PoolConfig.
inline constexpr size_t kMaxTraceFrameBytes = 65'280;

struct TraceFrame {
  int64_t time_ns = 0;
  uint64_t record = 0;  ///< its number in the file, from 1
  bool cut = false;     ///< the capture has less of it than was on the wire
  std::span<const std::byte> bytes{};
};

class PcapSource {
 public:
  static Result<std::unique_ptr<PcapSource>> open(const TraceFile& file);
  ~PcapSource();
  PcapSource(const PcapSource&) = delete;
  PcapSource& operator=(const PcapSource&) = delete;

  /// The next frame; nothing at the end of the file.
  Result<std::optional<TraceFrame>> next();

 private:
  PcapSource(std::string name, pcap* handle, int link_type);
  std::span<const std::byte> to_ethernet(std::span<const std::byte> captured, size_t wire_bytes);

  const std::string name_;
  pcap* const handle_;
  const int link_type_;
  uint64_t record_ = 0;
  std::vector<std::byte> frame_;
};

/// Reads the whole file once: how many packets there are, and that all can be read. Ends early if `interrupt`
/// came.
Result<uint64_t> count_packets(const TraceFile& file, const Interrupt& interrupt);

}  // namespace synfluid::gateway
