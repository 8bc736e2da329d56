// The control ring of a model front end, and the maps of its static grants.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include "tests/unit/backend/front_end.h"

namespace synfluid::backend::testing {

class FakeControl final : public ControlLink {
 public:
  FakeControl(GuestMemory& memory, uint32_t places) : memory_(memory), places_(places) {
    shared.indices.req_event = shared.indices.rsp_event = 1;
  }

  abi::NetCtrlRing& ring() noexcept override { return shared; }
  uint32_t places() const noexcept override { return places_; }
  std::byte* map(uint32_t place, GrantRef gref, PageAccess access) noexcept override {
    ++maps;
    std::byte* const page = memory_.find(gref.value());
    const bool is_given = access == PageAccess::kRead || !read_only.contains(gref.value());
    if (page == nullptr || !is_given) return nullptr;
    misuses += place >= places_ || mapped.contains(place) ? 1 : 0;
    mapped[place] = gref.value();
    return page;
  }
  void unmap(uint32_t place) noexcept override { misuses += mapped.erase(place) == 0 ? 1 : 0; }
  void notify() noexcept override { ++notifications; }

  abi::NetCtrlRing shared{};
  std::map<uint32_t, uint32_t> mapped;  ///< place to grant
  std::set<uint32_t> read_only;         ///< grants that the guest gives for reading alone
  int maps = 0;
  int misuses = 0;  ///< places mapped twice, unmapped twice, or not there
  int notifications = 0;

 private:
  GuestMemory& memory_;
  uint32_t places_;
};

/// A front end with a control ring.
class ControlledLink final : public FakeLink {
 public:
  ControlledLink(GuestMemory& memory, Grants grants, std::shared_ptr<LinkLog> log, FakeControl& control)
      : FakeLink(memory, grants, std::move(log), {.receives_chains = true}), control_(control) {}
  ControlLink* control() noexcept override { return &control_; }
  void copy(std::span<GrantCopy> batch) noexcept override {
    FakeLink::copy(batch);
    for (GrantCopy& piece : batch)
      if (piece.direction == GrantCopy::Direction::kToGuest &&
          control_.read_only.contains(piece.gref.value()))
        piece.status = abi::kRspError;
  }

 private:
  FakeControl& control_;
};

}  // namespace synfluid::backend::testing
