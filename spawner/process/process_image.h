// What the process hypervisor keeps per service: the program is the same for all, so this is numbers and a
// card. Private to the room. Immutable once made.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "base/abi/card.h"
#include "spawner/hypervisor.h"

namespace synfluid::spawner {

/// What the kernel keeps for a process beside its memory: stack, page tables, task, descriptors.
inline constexpr uint64_t kProcessOverheadBytes = 96 * 1024;

struct ProcessImage final : PreparedImage {
  abi::ServiceKind service = abi::ServiceKind::kResponder;
  std::string name;
  std::string card_config;
  uint32_t buffers = 0;
  uint64_t own_bytes = 0;

  /// The other half of the buffers is the guest's to transmit from.
  uint32_t rx_posted() const { return buffers / 2; }
  size_t area_bytes() const { return size_t{abi::shared_pages(buffers)} * abi::kPageBytes; }
  uint64_t cost_bytes() const { return area_bytes() + own_bytes + kProcessOverheadBytes; }
};

/// An error for an image that is not built in, a configuration that fits no card, or too little memory.
Result<std::unique_ptr<PreparedImage>> prepare_process_image(const ImageSpec& spec);

}  // namespace synfluid::spawner
