// Reads the card of a guest of ours from outside, running or dead: its frame is mapped for as long as the
// copy takes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/abi/card.h"
#include "base/result.h"
#include "base/strong_id.h"
#include "spawner/toolstack/xen_calls.h"

namespace synfluid::spawner::xen {

using CardBytes = std::array<std::byte, sizeof(abi::Card)>;

Result<CardBytes> read_card(toolstack::XenCalls& xen, DomId domid, uint64_t card_frame);

}  // namespace synfluid::spawner::xen
