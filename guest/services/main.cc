#include "guest/platform/platform.h"

namespace synfluid::guest {

void guest_main(Platform& platform) {
  auto& card = *reinterpret_cast<abi::Card*>(platform.shared_area());
  if (card.fixed.magic != abi::kCardMagic || card.fixed.version != abi::kCardVersion)
    platform.halt("the card is of another version");
  card.guest.phase = abi::GuestPhase::kRunning;
  for (;;) platform.wait(kNever);
}

}  // namespace synfluid::guest
