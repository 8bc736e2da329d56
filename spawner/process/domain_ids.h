// Domain ids for guest processes: handed out downwards, each once until it is given back.
//
// An id that comes back is not the next to go out again: the cursor goes on downwards and around, so that ids
// in logs and tables differ as long as they can. Threads: one.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/strong_id.h"

namespace synfluid::spawner {

class DomainIds {
 public:
  /// As many as Xen has for guests: 1 to DOMID_FIRST_RESERVED - 1, less its own idle and helper ids.
  static constexpr uint16_t kHighest = 32751;

  std::optional<DomId> take() {
    for (uint32_t tried = 0; tried < kHighest; ++tried) {
      const uint16_t id = next_;
      next_ = next_ == 1 ? kHighest : static_cast<uint16_t>(next_ - 1);
      if (used_[id]) continue;
      used_[id] = true;
      return DomId(id);
    }
    return std::nullopt;
  }

  void give_back(DomId id) { used_[id.value()] = false; }

 private:
  std::vector<bool> used_ = std::vector<bool>(kHighest + 1);
  uint16_t next_ = kHighest;
};

}  // namespace synfluid::spawner
