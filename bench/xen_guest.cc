#include "bench/xen_guest.h"

#include <array>
#include <fstream>
#include <utility>

#include <poll.h>

namespace synfluid::bench {

Result<Guest> make_guest(spawner::Hypervisor& hypervisor, const spawner::PreparedImage& image,
                         const std::string& name, uint32_t number) {
  auto vm =
      hypervisor.create(image, {.name = name, .generation = number, .worker = kWorker, .doorbell = number});
  if (!vm) return vm.error();
  Guest guest{std::move(*vm), nullptr};
  guest.vif = std::make_unique<backend::Vif>(guest.vm->take_link());
  return guest;
}

void sleep_until_a_doorbell(spawner::Hypervisor& hypervisor, int64_t patience_ns) {
  constexpr size_t kDoorbells = 64;
  auto& doorbells = hypervisor.doorbells(kWorker);
  pollfd ready{doorbells.fd(), POLLIN, 0};
  ::poll(&ready, 1, static_cast<int>(patience_ns / kNsPerMs));
  std::array<backend::DoorbellToken, kDoorbells> tokens;
  doorbells.collect(tokens);
}

uint64_t dom0_available_kib() {
  std::ifstream meminfo("/proc/meminfo");
  for (std::string key, rest; meminfo >> key;) {
    uint64_t kib = 0;
    meminfo >> kib;
    std::getline(meminfo, rest);
    if (key == "MemAvailable:") return kib;
  }
  return 0;
}

}  // namespace synfluid::bench
