#include "backend/vif.h"

#include <array>
#include <utility>

#include "backend/control_ring.h"
#include "backend/rx_path.h"
#include "backend/static_grants.h"
#include "backend/tx_path.h"
#include "backend/vif_state.h"
#include "base/abi/card.h"

namespace synfluid::backend {

namespace {

/// What a vif keeps for a foreign guest's link layer.
struct LinkAdaptation {
  MacAddress guest;
  std::array<std::byte, kMaxFrameBytes> frame;
};

/// The control ring of a front end that has one, and what it maps.
struct Control {
  Control(GuestLink& link, ControlLink& control, VifState& state)
      : grants(control), ring(link, control, grants, state) {}
  StaticGrants grants;
  ControlRing ring;
};

std::unique_ptr<Control> make_control(GuestLink& link, VifState& state) {
  ControlLink* const control = link.control();
  return control == nullptr ? nullptr : std::make_unique<Control>(link, *control, state);
}

/// Neighbour queries that one receive() answers before it lets its owner look after other guests.
constexpr int kMaxQueriesPerCall = 16;

}  // namespace

// Members are destroyed in reverse, so the link, whose pages all others use, goes last.
class Vif::Impl {
 public:
  explicit Impl(std::unique_ptr<GuestLink> link)
      : link_(std::move(link)),
        control_(make_control(*link_, state_)),
        pages_(*link_, control_ ? &control_->grants : nullptr),
        tx_(*link_, pages_, state_),
        rx_(*link_, pages_, state_) {}

  bool arm() noexcept {
    const bool is_asked = control_ && control_->ring.arm();
    const bool has_buffers = rx_.arm();
    return tx_.arm() || is_asked || has_buffers;
  }

  std::unique_ptr<GuestLink> link_;
  VifState state_;
  std::unique_ptr<Control> control_;
  GrantPages pages_;
  TxPath tx_;
  RxPath rx_;
  std::unique_ptr<LinkAdaptation> adaptation_;
};

Vif::Vif(std::unique_ptr<GuestLink> link) : impl_(std::make_unique<Impl>(std::move(link))) {}
Vif::~Vif() = default;

bool Vif::send(std::span<const std::byte> frame, FrameChecksum checksum) noexcept {
  LinkAdaptation* const adaptation = impl_->adaptation_.get();
  if (adaptation == nullptr) return impl_->rx_.send(frame, checksum);
  const uint16_t l3_offset = link_header_bytes(frame);
  const size_t length =
      l3_offset == 0 ? 0 : frame_for_guest(frame, l3_offset, adaptation->guest, adaptation->frame);
  return impl_->rx_.send(std::span(adaptation->frame).first(length), checksum);
}

size_t Vif::receive(std::span<std::byte> into) noexcept {
  if (broken()) return 0;
  if (!impl_->adaptation_) return impl_->tx_.receive(into);
  for (int queries = 0; queries < kMaxQueriesPerCall; ++queries) {
    const size_t length = impl_->tx_.receive(into);
    std::array<std::byte, kNeighbourAnswerBytes> answer;
    const size_t answered = answer_neighbour_query(into.first(length), answer);
    if (answered == 0) return length;
    // Without a buffer for the answer the guest asks again.
    impl_->rx_.send(std::span(answer).first(answered), FrameChecksum::kUnknown);
  }
  return 0;
}

void Vif::adapt_link_layer(const MacAddress& guest) {
  impl_->adaptation_ = std::make_unique<LinkAdaptation>();
  impl_->adaptation_->guest = guest;
}

bool Vif::adapts_link_layer() const noexcept {
  return impl_->adaptation_ != nullptr;
}

void Vif::flush() noexcept {
  const bool for_tx = impl_->tx_.publish();
  const bool for_rx = impl_->rx_.publish();
  if (for_tx || for_rx) {
    impl_->link_->notify();
    impl_->state_.tallies.notifications.add();
  }
  if (impl_->control_) impl_->control_->ring.serve();
}

bool Vif::arm() noexcept {
  return !broken() && impl_->arm();
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
          .bad_control_request = t.bad_control_request.get(),
          .notifications = t.notifications.get()};
}

GuestLink& Vif::link() noexcept {
  return *impl_->link_;
}
uint32_t Vif::max_send_bytes() const noexcept {
  return impl_->rx_.max_bytes();
}

}  // namespace synfluid::backend
