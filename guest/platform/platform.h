// The waist between the guest's core (guest/net, guest/services) and what it runs on: a PV domain, a
// sandboxed process, or a test.
//
// Freestanding: no libc beyond memcpy, memmove, memset and memcmp (guest/runtime has them), no heap, no
// exceptions, no RTTI, one thread, no interrupt handler ever calls into the core. The platform sets up its
// machine, then calls guest_main() once, on a stack of kStackBytes or more, aligned as the ABI says.
//
// Time: nanoseconds of one monotonic clock with an arbitrary start.
// Memory: the shared area (base/abi/card.h) and the working memory are the platform's and stay where they are
// for the guest's whole life; the core uses all of the working memory, for its connection tables.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/abi/card.h"

namespace synfluid::guest {

/// A deadline that never comes.
inline constexpr uint64_t kNever = ~uint64_t{0};

/// What the core needs of a stack; the deepest path is a received segment that makes a reply.
inline constexpr size_t kStackBytes = 8 * 1024;

/// Working memory below this is refused by guest_main(), with a note.
inline constexpr size_t kMinMemoryBytes = 48 * 1024;

class Platform {
 public:
  /// Cheap: read once for every batch of frames.
  virtual uint64_t now_ns() = 0;

  /// When the guest's first instruction ran, by the same clock.
  virtual uint64_t started_ns() = 0;

  /// Sleeps until the doorbell rings or `deadline_ns` has come (kNever: only the doorbell). A ring that came
  /// since the last return counts: wait() then returns at once. May return early for no reason.
  virtual void wait(uint64_t deadline_ns) = 0;

  /// How often to look for more frames after some have come, before the guest asks to be rung and waits:
  /// where a ring costs more than the looking, and the looking takes no CPU from the host.
  virtual uint32_t polls_before_wait() const { return 0; }

  /// Rings the host's end of the vif.
  virtual void ring_host() = 0;

  /// Ends the guest. `note` is on the card already.
  [[noreturn]] virtual void halt(const char* note) = 0;

  /// First byte of the shared area, page aligned: shared_pages(card.fixed.buffers) pages, readable and
  /// writable.
  virtual std::byte* shared_area() = 0;

  /// Zeroed, aligned to 64 bytes at least, kMinMemoryBytes or more.
  virtual std::span<std::byte> memory() = 0;

 protected:
  ~Platform() = default;
};

/// Says on the card why the guest dies. For platforms whose traps end the guest; the core uses it too.
inline void write_death_note(abi::Card& card, const char* note) {
  size_t i = 0;
  for (; note[i] != '\0' && i + 1 < sizeof(card.guest.death_note); ++i) card.guest.death_note[i] = note[i];
  card.guest.death_note[i] = '\0';
  card.guest.phase = abi::GuestPhase::kPanicked;
}

/// Runs the service that the card names, for ever.
[[noreturn]] void guest_main(Platform& platform);

}  // namespace synfluid::guest
