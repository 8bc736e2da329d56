// Xen's paravirtual clock: its system time, brought up to now by the time-stamp counter.
//
// Source: Xen public header xen/xen.h, struct vcpu_time_info.
#pragma once

#include <cstdint>

#include "guest/platform/xen_pv/xen_abi.h"

namespace synfluid::guest::xen_pv {

__extension__ typedef unsigned __int128 Wide;

inline uint64_t time_stamp() {
  uint32_t low;
  uint32_t high;
  asm volatile("lfence; rdtsc" : "=a"(low), "=d"(high) : : "memory");
  return uint64_t{high} << 32 | low;
}

inline uint64_t ticks_to_ns(uint64_t ticks, uint32_t multiplier, int8_t shift) {
  const uint64_t shifted = shift < 0 ? ticks >> -shift : ticks << shift;
  return static_cast<uint64_t>((static_cast<Wide>(shifted) * multiplier) >> 32);
}

/// Xen makes the version odd while it writes.
inline uint64_t system_time_ns(const volatile vcpu_time_info& time) {
  for (;;) {
    const uint32_t version = time.version;
    asm volatile("" : : : "memory");
    const uint64_t now = time.system_time + ticks_to_ns(time_stamp() - time.tsc_timestamp,
                                                        time.tsc_to_system_mul, time.tsc_shift);
    asm volatile("" : : : "memory");
    if ((version & 1) == 0 && time.version == version) return now;
  }
}

}  // namespace synfluid::guest::xen_pv
