// The memif protocol, version 2.0, as a client of one ring each way speaks it: what lies in the shared memory
// and what goes over the socket. The names are the protocol's (VPP, "Shared memory packet interface").
//
// The client makes one region, and in it both rings and all buffers. To the server go frames by the first
// ring: the client fills buffers and moves `head`, the server moves `tail` when it has copied them. From the
// server come frames by the second: the client offers empty buffers by `head`, the server fills them and
// moves `tail`. Indices are never wrapped but by their own 16 bits.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

namespace synfluid::bench {

inline constexpr uint32_t kMemifCookie = 0x3e31f20;
inline constexpr uint16_t kMemifVersion = 0x200;
inline constexpr uint16_t kMemifNoInterrupts = 1;  ///< in MemifRing::flags, of who receives

struct MemifDescriptor {
  uint16_t flags;
  uint16_t region;
  uint32_t length;  ///< of the frame; of the buffer where it is empty
  uint32_t offset;  ///< of the buffer, in its region
  uint32_t metadata;
};
static_assert(sizeof(MemifDescriptor) == 16);

/// Its descriptors follow.
struct alignas(64) MemifRing {
  uint32_t cookie;
  uint16_t flags;
  std::atomic<uint16_t> head;              ///< written by the client
  alignas(64) std::atomic<uint16_t> tail;  ///< written by the server
};
static_assert(sizeof(MemifRing) == 128 && std::atomic<uint16_t>::is_always_lock_free);

enum class MemifType : uint16_t {
  kAck = 1,
  kHello = 2,
  kInit = 3,
  kAddRegion = 4,
  kAddRing = 5,
  kConnect = 6,
  kConnected = 7,
  kDisconnect = 8,
};

enum class MemifDirection : uint16_t { kToClient = 0, kToServer = 1 };

using MemifMessage = std::array<std::byte, 128>;

MemifMessage memif_init(uint32_t interface_id);
/// Of region 0; its file goes along.
MemifMessage memif_add_region(uint64_t bytes);
/// In region 0; an event file goes along.
MemifMessage memif_add_ring(MemifDirection direction, uint32_t offset, uint8_t log2_slots);
MemifMessage memif_connect();

MemifType memif_type(const MemifMessage& message);
/// What a kDisconnect says of its reason.
std::string memif_reason(const MemifMessage& message);

}  // namespace synfluid::bench
