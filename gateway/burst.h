// A burst on its way through the stages, as arrays: frame i, what it was parsed to, and its flow.
#pragma once

#include <array>

#include "base/packet.h"
#include "flowtable/flow_table.h"
#include "gateway/packet_io.h"

namespace synfluid::gateway {

struct Burst {
  Burst() {}  // what lies behind `count` is not looked at, so it is not set

  size_t count = 0;
  std::array<rte_mbuf*, kBurst> frames;
  union {
    std::array<ParsedPacket, kBurst> packets;
  };
  union {
    std::array<FlowKey, kBurst> keys;
  };
  std::array<flowtable::FlowIndex, kBurst> flows;
  std::array<Side, kBurst> sides;
  bool handed_over = false;  ///< it comes from another worker
};

static_assert(kBurst == flowtable::kBurst);

}  // namespace synfluid::gateway
