// Cuts a frame that the kernel has left whole into those that a wire would have carried.
//
//     headers │ payload ...............................     TSO, USO: hardware would have cut it
//     headers'│ segment 0 │ headers'│ segment 1 │ ...       GRO: it was put together on its way in
//
// Each segment has the frame's headers with lengths, sequence number, IPv4 identification and checksums of
// its own; FIN and PSH are the last one's alone, CWR the first one's.
//
// Threads: one. Ownership: the frame is the caller's and stays until done(). Units: bytes. Errors: start()
// refuses what is not the plain TCP or UDP over IP that it is said to be (tunnels, fragments, routing
// headers). Sources: RFC 9293 3.1, RFC 3168 6.1.2, RFC 6864; Linux, include/uapi/linux/virtio_net.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace synfluid::gateway {

class Segmenter {
 public:
  enum class Protocol : uint8_t { kTcp = 6, kUdp = 17 };

  /// Begins with `frame`, whatever was left of the one before. `segment_bytes` of payload go into each.
  /// False: it cannot be cut, and done() is true.
  bool start(std::span<const std::byte> frame, Protocol protocol, size_t segment_bytes) noexcept;
  bool done() const noexcept { return next_ == end_; }
  /// Forgets what is left.
  void drop() noexcept { next_ = end_; }

  /// The length of the next segment's frame. Precondition: not done().
  size_t next_bytes() const noexcept { return payload_ + this_segment(); }
  /// Writes it. Precondition: `out` has next_bytes().
  void write_next(std::span<std::byte> out) noexcept;

 private:
  size_t this_segment() const noexcept { return end_ - next_ < segment_ ? end_ - next_ : segment_; }
  void write_ip(std::span<std::byte> out) const noexcept;
  void write_tcp(std::span<std::byte> out) const noexcept;

  std::span<const std::byte> frame_;
  Protocol protocol_ = Protocol::kTcp;
  size_t ip_ = 0;  ///< where the headers and the payload begin
  size_t transport_ = 0;
  size_t payload_ = 0;
  size_t segment_ = 0;
  size_t next_ = 0;  ///< the payload that is not yet out
  size_t end_ = 0;
};

}  // namespace synfluid::gateway
