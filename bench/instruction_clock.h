// Tells whether this machine's clock counts instructions, as the lab's emulated one does.
#pragma once

#include "bench/report.h"

namespace synfluid::bench {

/// kInstructions if two loops of different instructions each take, at their fastest, a nanosecond an
/// instruction; else kWall.
ClockKind detect_clock();

}  // namespace synfluid::bench
