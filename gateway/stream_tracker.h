// Tells the TCP connections of a trace apart, by the rule that Wireshark's dissector uses for its stream
// numbers.
//
// A 5-tuple (and VLAN) is one stream until a SYN without ACK comes whose sequence number differs from the one
// its side began with: that is a new connection on the same ports. A SYN with the same number is a
// retransmission. Streams are numbered from 0 in the order of their first packets. The side whose SYN came
// first, or else that sent the stream's first packet, is the initiator. Threads: one. Memory: one entry per
// 5-tuple of the trace.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "base/packet.h"

namespace synfluid::gateway {

struct Stream {
  FlowKey key;
  FromEnd initiator = FromEnd::kLow;
  bool begins_with_syn = false;
};

class StreamTracker {
 public:
  struct Seen {
    uint32_t stream;
    bool is_new;
    bool from_initiator;
  };
  /// `packet` must be TCP.
  Seen see(const ParsedPacket& packet);

  const Stream& stream(uint32_t number) const { return streams_[number]; }
  uint32_t streams() const { return static_cast<uint32_t>(streams_.size()); }
  /// Connections that begin with a pure SYN.
  uint32_t connections() const { return connections_; }

  /// Forgets all 5-tuples but keeps the counts: for a trace that is played again.
  void forget() { current_.clear(); }

 private:
  struct KeyHash {
    size_t operator()(const FlowKey& key) const noexcept;
  };
  struct Current {
    uint32_t stream = 0;
    bool has_base[2] = {};  ///< by FromEnd
    uint32_t base[2] = {};
  };

  std::unordered_map<FlowKey, Current, KeyHash> current_;
  std::vector<Stream> streams_;
  uint32_t connections_ = 0;
};

}  // namespace synfluid::gateway
