// The back end of one virtual interface: netif rings above a GuestLink.
//
// Directions are the guest's, as everywhere in Xen: it receives what we send() and transmits what we
// receive(). Threads: one owner at a time. Ownership: a Vif owns its link; frames are copied, never
// referenced. No allocation, lock or system call per frame; flush() notifies at most once per burst, and only
// when the ring asks for it. A front end with plain grants costs a grant copy per burst, through staging
// buffers of the vif's own. A front end that breaks the protocol makes the vif broken(): it moves no more
// frames and its owner takes it down.
//
// Protocol: Xen public header xen/io/netif.h (see base/abi/netif.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "backend/guest_link.h"
#include "backend/link_adapter.h"

namespace synfluid::backend {

/// A snapshot; the counters behind it are written by the owner alone.
struct VifCounters {
  uint64_t frames_to_guest = 0;
  uint64_t bytes_to_guest = 0;
  uint64_t frames_from_guest = 0;
  uint64_t bytes_from_guest = 0;
  uint64_t no_rx_buffer = 0;  ///< frames not accepted because the guest has no receive buffer posted
  uint64_t too_long = 0;      ///< frames not accepted because the front end can't take so long a frame
  uint64_t bad_tx_request =
      0;  ///< frames of the guest refused: bounds, unknown grant, length, unknown extra info
  uint64_t bad_rx_request = 0;       ///< receive buffers refused: unknown grant
  uint64_t bad_control_request = 0;  ///< control requests refused: unknown, or a list that cannot be served
  uint64_t notifications = 0;        ///< times the guest was rung
};

/// What is known of the TCP or UDP checksum of a frame for the guest.
enum class FrameChecksum : uint8_t {
  kUnknown,   ///< the guest checks it
  kVerified,  ///< somebody did (the NIC): the guest is told that it need not
};

/// The longest frame a vif carries: a TCP segment of 64 KiB minus headers is for GSO, which we do not offer.
inline constexpr uint32_t kMaxFrameBytes = 9216;

class Vif {
 public:
  explicit Vif(std::unique_ptr<GuestLink> link);
  ~Vif();
  Vif(const Vif&) = delete;
  Vif& operator=(const Vif&) = delete;

  /// Puts one frame on the guest's receive ring. False: no buffer there, or the frame is too long (both
  /// counted), or the vif is broken; the frame is still the caller's. Nothing is visible to the guest until
  /// flush().
  bool send(std::span<const std::byte> frame, FrameChecksum checksum = FrameChecksum::kUnknown) noexcept;

  /// Takes the next frame the guest transmitted: copies it to `into` (kMaxFrameBytes long at least) and
  /// returns its length; 0 when there is none. A checksum that the front end left blank is filled in. Bad
  /// requests are answered with an error, counted and skipped, a bounded number a call (then 0 is returned
  /// and arm() says that there is more). Responses are visible to the guest after flush().
  size_t receive(std::span<std::byte> into) noexcept;

  /// Publishes what send() and receive() did and rings the guest if its ring asks for it; then serves its
  /// control ring, if it has one: a bounded part of one request. Once per burst.
  void flush() noexcept;

  /// For a vif that falls idle: asks for a doorbell at the next frame from the guest, or buffer that send()
  /// did not find. True if frames, or once such buffers, are there already, or the control ring has something
  /// to be served: then the caller polls on.
  bool arm() noexcept;

  /// True once the front end broke the protocol beyond a single request; reason() says how.
  bool broken() const noexcept;
  std::string_view reason() const noexcept;

  /// Tells a guest of ours how old the first SYN is that send() is about to give it. No effect on a foreign
  /// one.
  void stamp_syn_age(uint64_t ns) noexcept;

  /// For a foreign guest that is the end of its flows: from now on send() gives frames a plain Ethernet
  /// header to `guest`, and receive() answers its neighbour queries itself (link_adapter.h). What receive()
  /// returns still has the guest's own header. Before the first frame.
  void adapt_link_layer(const MacAddress& guest);
  bool adapts_link_layer() const noexcept;

  /// May be called by any thread while the vif lives.
  VifCounters counters() const noexcept;
  GuestLink& link() noexcept;

  /// The longest frame that send() can take.
  uint32_t max_send_bytes() const noexcept;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace synfluid::backend
