#include "backend/vif.h"

#include <utility>

#include "backend/rx_path.h"
#include "backend/tx_path.h"
#include "backend/vif_state.h"
#include "base/abi/card.h"

namespace synfluid::backend {

// Members are destroyed in reverse, so the link, whose pages all others use, goes last.
class Vif::Impl {
 public:
  explicit Impl(std::unique_ptr<GuestLink> link)
      : link_(std::move(link)), pages_(*link_), tx_(*link_, pages_, state_), rx_(*link_, pages_, state_) {}

  std::unique_ptr<GuestLink> link_;
  VifState state_;
  GrantPages pages_;
  TxPath tx_;
  RxPath rx_;
};

Vif::Vif(std::unique_ptr<GuestLink> link) : impl_(std::make_unique<Impl>(std::move(link))) {}
Vif::~Vif() = default;

bool Vif::send(std::span<const std::byte> frame, FrameChecksum checksum) noexcept {
  return impl_->rx_.send(frame, checksum);
}

size_t Vif::receive(std::span<std::byte> into) noexcept {
  return broken() ? 0 : impl_->tx_.receive(into);
}

void Vif::flush() noexcept {
  const bool for_tx = impl_->tx_.publish();
  const bool for_rx = impl_->rx_.publish();
  if (!for_tx && !for_rx) return;
  impl_->link_->notify();
  impl_->state_.tallies.notifications.add();
}

bool Vif::arm() noexcept {
  return !broken() && impl_->tx_.arm();
}

bool Vif::broken() const noexcept {
  return !impl_->state_.broken.empty();
}
std::string_view Vif::reason() const noexcept {
  return impl_->state_.broken;
}

void Vif::stamp_syn_age(uint64_t ns) noexcept {
  std::byte* card = impl_->link_->card();
  if (card == nullptr) return;
  auto* age = reinterpret_cast<uint64_t*>(card + offsetof(abi::Card, assignment) +
                                          offsetof(abi::CardAssignment, syn_age_ns));
  __atomic_store_n(age, ns, __ATOMIC_RELAXED);
}

VifCounters Vif::counters() const noexcept {
  const VifTallies& t = impl_->state_.tallies;
  return {.frames_to_guest = t.frames_to_guest.get(),
          .bytes_to_guest = t.bytes_to_guest.get(),
          .frames_from_guest = t.frames_from_guest.get(),
          .bytes_from_guest = t.bytes_from_guest.get(),
          .no_rx_buffer = t.no_rx_buffer.get(),
          .too_long = t.too_long.get(),
          .bad_tx_request = t.bad_tx_request.get(),
          .bad_rx_request = t.bad_rx_request.get(),
          .notifications = t.notifications.get()};
}

GuestLink& Vif::link() noexcept {
  return *impl_->link_;
}
uint32_t Vif::max_send_bytes() const noexcept {
  return impl_->rx_.max_bytes();
}

}  // namespace synfluid::backend
