// The client's end of a memif, without a driver: a whole ring of frames is laid out first and given to the
// server by one store, and what has come back is read off one index. That is what lets a peer time the device
// at the other end, and take no time of its own.
//
// Threads: one. Ownership: MemifLink owns the shared memory and the socket; the server notices when it goes.
// Errors: connect() where the server does not answer or refuses, with its reason.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "bench/memif_wire.h"

namespace synfluid::bench {

inline constexpr uint8_t kMemifLog2Slots = 10;  ///< DPDK's own default
inline constexpr size_t kMemifSlots = size_t{1} << kMemifLog2Slots;
inline constexpr size_t kMemifBufferBytes = 2048;

/// Both rings and their buffers in memory that the owner has mapped and cleared.
class MemifArea {
 public:
  static const size_t kBytes;
  static uint32_t ring_offset(MemifDirection direction);

  explicit MemifArea(std::byte* at);

  /// Once the server is connected, which sets all indices to 0: it may send from now on.
  void offer_buffers();
  /// Lays a frame into the next buffer to the server, which must be free; it does not see it yet.
  void put(std::span<const std::byte> frame);
  /// Gives the server so many of the frames laid out.
  void publish(size_t frames);
  /// Frames from the server that have not been taken.
  size_t arrived() const;
  /// Gives the buffers of all that arrived back. How many bytes the frames had.
  size_t take();

 private:
  MemifRing& ring(MemifDirection direction) const;
  MemifDescriptor& descriptor(MemifDirection direction, uint16_t index) const;

  std::byte* const at_;
  uint16_t laid_out_ = 0;
  uint16_t taken_ = 0;
};

class MemifLink {
 public:
  static Result<std::unique_ptr<MemifLink>> connect(const std::string& socket_path, uint32_t interface_id);
  ~MemifLink();
  MemifLink(const MemifLink&) = delete;
  MemifLink& operator=(const MemifLink&) = delete;

  MemifArea& area() { return area_; }

 private:
  MemifLink(UniqueFd socket, std::byte* memory);

  const UniqueFd socket_;
  std::byte* const memory_;
  MemifArea area_;
};

}  // namespace synfluid::bench
