// clock_gettime from the kernel's vDSO, so that reading the clock is no system call.
#pragma once

#include <cstdint>

namespace synfluid::guest::process {

/// Finds the function in the vDSO image (auxiliary vector entry AT_SYSINFO_EHDR; 0: there is none). Once,
/// before monotonic_ns(); without a vDSO the clock is a system call.
void find_vdso_clock(uint64_t ehdr_address);

/// CLOCK_MONOTONIC.
uint64_t monotonic_ns();

}  // namespace synfluid::guest::process
