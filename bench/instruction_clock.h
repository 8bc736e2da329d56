// Tells whether this machine's clock counts instructions, as the lab's emulated one does.
#pragma once

#include "bench/report.h"

namespace synfluid::bench {

/// kInstructions if loops of a known number of instructions take a nanosecond each, every time; else kWall.
ClockKind detect_clock();

}  // namespace synfluid::bench
