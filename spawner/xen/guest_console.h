// The console of a foreign guest: read, so that a kernel that waits for room on it goes on, and its last
// words kept.
//
// A PV Linux spins when its console ring is full and nobody reads it. Each guest's ring is mapped by its
// grant and read whenever its channel rings; only the last kTailBytes are kept, in memory.
//
// Threads: the spawner's. Ownership: owns the map and the channel. Errors: Result at the set-up, none
// afterwards. Protocol: Xen public header xen/io/console.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "backend/xen/grant_mapper.h"
#include "backend/xen/xen_doorbells.h"
#include "base/result.h"

namespace synfluid::spawner::xen {

inline constexpr size_t kTailBytes = 16 << 10;

/// Takes what the guest wrote to the ring in `page` and makes room. Returns it; an impossible index yields
/// nothing.
std::string drain_console(std::span<std::byte> page);

/// Appends `text`, and forgets the oldest beyond kTailBytes.
void keep_tail(std::string& tail, std::string_view text);

/// The last line of `tail` with something in it; what is no printable ASCII becomes '?'. For a log line.
std::string last_line(std::string_view tail);

class GuestConsole {
 public:
  virtual ~GuestConsole() = default;
  /// The channel rang: takes what is there and makes room.
  virtual void read() = 0;
  virtual const std::string& tail() const = 0;
};

/// Maps the console ring of a guest, by its own grant, and binds its channel.
Result<std::unique_ptr<GuestConsole>> connect_console(backend::xen::GrantMapper& mapper,
                                                      backend::xen::XenDoorbells& doorbells, DomId domid,
                                                      EventPort guest_port, backend::DoorbellToken token);

}  // namespace synfluid::spawner::xen
