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
#include <span>
#include <string>

#include "backend/xen/channel.h"
#include "backend/xen/grant_mapper.h"
#include "backend/xen/xen_doorbells.h"
#include "base/result.h"

namespace synfluid::spawner::xen {

inline constexpr size_t kTailBytes = 2048;

/// Takes what the guest wrote to the ring in `page` and makes room. Returns it; an impossible index yields
/// nothing.
std::string drain_console(std::span<std::byte> page);

/// Appends `text`, and forgets the oldest beyond kTailBytes.
void keep_tail(std::string& tail, std::string_view text);

/// The last line of `tail` with something in it; what is no printable ASCII becomes '?'. For a log line.
std::string last_line(std::string_view tail);

class GuestConsole {
 public:
  static Result<GuestConsole> connect(backend::xen::GrantMapper& mapper,
                                      backend::xen::XenDoorbells& doorbells, DomId domid,
                                      EventPort guest_port, backend::DoorbellToken token);

  /// The channel rang.
  void read();
  const std::string& tail() const { return tail_; }

 private:
  GuestConsole(backend::xen::GrantMap map, backend::xen::Channel channel)
      : map_(std::move(map)), channel_(std::move(channel)) {}

  backend::xen::GrantMap map_;
  backend::xen::Channel channel_;
  std::string tail_;
};

}  // namespace synfluid::spawner::xen
