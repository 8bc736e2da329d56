// Numbers that must not be mixed up: a domain id is no event channel port.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace synfluid {

template <class Tag, class Rep>
class StrongId {
 public:
  using rep = Rep;
  constexpr StrongId() = default;
  constexpr explicit StrongId(Rep value) : value_(value) {}
  constexpr Rep value() const { return value_; }
  friend constexpr auto operator<=>(StrongId, StrongId) = default;

 private:
  Rep value_{};
};

/// A hypervisor domain. The process hypervisor numbers its guests the same way.
using DomId = StrongId<struct DomIdTag, uint16_t>;
/// An event channel port, local to one domain.
using EventPort = StrongId<struct EventPortTag, uint32_t>;
/// An index into a guest's grant table.
using GrantRef = StrongId<struct GrantRefTag, uint32_t>;
/// One of the gateway's workers, counted from 0; each runs on an lcore of its own.
using WorkerId = StrongId<struct WorkerIdTag, uint16_t>;

}  // namespace synfluid

template <class Tag, class Rep>
struct std::hash<synfluid::StrongId<Tag, Rep>> {
  size_t operator()(synfluid::StrongId<Tag, Rep> id) const noexcept { return std::hash<Rep>{}(id.value()); }
};
