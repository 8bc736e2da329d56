// The page that a PV guest finds in %rsi: start_info, with the p2m list behind it.
//
// Threads: pure. Source: Xen public header xen/xen.h, struct start_info. No console or store page: a guest of
// ours has neither.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "spawner/toolstack/layout.h"

namespace synfluid::spawner::toolstack {

/// `into` is layout.boot_info_pages long; `frames` has those of the pages up to layout.populated_pages.
void write_boot_info(const GuestLayout& layout, std::span<const uint64_t> frames, std::span<std::byte> into);

}  // namespace synfluid::spawner::toolstack
