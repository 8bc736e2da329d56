#include "gateway/warm_up.h"

namespace synfluid::gateway {

void warm_up(spawner::Hypervisor& hypervisor, const spawner::ServiceSet& services) {
  const auto& all = services.policy().services();
  for (uint16_t service = 0; service < all.size(); ++service) {
    if (!all[service].image.starts_with("builtin:")) continue;  // others take their time, and memory
    const auto vm = hypervisor.create(services.image(service),
                                      {.name = "synfluid-warm-up", .doorbell = spawner::kNoDoorbell});
    if (vm) (*vm)->take_link();
    return;
  }
}

}  // namespace synfluid::gateway
