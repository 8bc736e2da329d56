// A spawner over a fake hypervisor and a manual clock, turned step by step.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "base/clock.h"
#include "policies/policy.h"
#include "spawner/faulty_hypervisor.h"
#include "spawner/spawner.h"
#include "spawner/worker_port.h"
#include "tests/unit/spawner/fake_hypervisor.h"

namespace synfluid::spawner::testing {

/// Services by number, in this order.
enum TestService : uint16_t {
  kPerFlow,
  kPerSubscriber,
  kPerService,
  kPooled,
  kForeign,
  kForeignShared,
  kServices
};

inline policies::Service service(const std::string& name, const std::string& image, policies::Scope scope) {
  policies::Service made;
  made.name = name;
  made.image = image;
  made.scope = scope;
  return made;
}

inline policies::PolicySpec test_policy() {
  using policies::Scope;
  policies::PolicySpec spec;
  spec.services = {service("per-flow", "builtin:responder", Scope::kFlow),
                   service("per-subscriber", "builtin:firewall", Scope::kSubscriber),
                   service("per-service", "builtin:passthrough", Scope::kService),
                   service("pooled", "builtin:responder", Scope::kFlow),
                   service("foreign", "/srv/mini-os", Scope::kFlow),
                   service("foreign-shared", "/srv/linux", Scope::kSubscriber)};
  spec.services[kPooled].pool = {.min = 2, .max = 8};
  return spec;
}

inline Address subscriber_number(uint8_t number) {
  const uint8_t bytes[4] = {10, 0, 0, number};
  return Address::from_v4(bytes);
}

class SpawnerTest : public ::testing::Test {
 protected:
  static constexpr int64_t kStart = 1'000'000 * kNsPerMs;

  explicit SpawnerTest(uint32_t ring = 64) {
    auto made = Spawner::create({.hypervisor = faulty_,
                                 .clock = clock_,
                                 .workers = 2,
                                 .requests = ring,
                                 .returns = 64,
                                 .foreign_boot_ns = 60 * kNsPerSecond});
    EXPECT_TRUE(made);
    spawner_ = std::move(*made);
    services_ = prepare(test_policy());
  }

  ~SpawnerTest() override {
    vifs_.clear();
    services_.reset();
    spawner_.reset();
    EXPECT_EQ(fake_.live, 0u) << "guests left behind";
    EXPECT_EQ(fake_.images, 0) << "prepared images left behind";
    EXPECT_EQ(admission_.vms(), 0u) << "tickets left behind";
    for (const auto& guest : fake_.guests)
      EXPECT_FALSE(guest->link_alive_at_destruction) << "a VM went before its vif";
  }

  std::shared_ptr<const ServiceSet> prepare(policies::PolicySpec spec) {
    auto set = spawner_->prepare(std::make_shared<const policies::Policy>(std::move(spec)));
    EXPECT_TRUE(set) << set.error().text();
    return set ? *set : nullptr;
  }

  WorkerPort& port(uint16_t worker) { return spawner_->port(WorkerId(worker)); }

  SpawnRequest request(TestService service, uint8_t subscriber = 1) {
    return {.cookie = next_cookie_++,
            .services = services_,
            .service = service,
            .subscriber = subscriber_number(subscriber),
            .doorbell = static_cast<backend::DoorbellToken>(next_cookie_),
            .first_frame = syn_,
            .syn_time_ns = clock_.now_ns(),
            .ticket = admission_.admit(subscriber_number(subscriber), clock_.now_ns()).ticket};
  }

  void ask(uint16_t worker, TestService service, uint8_t subscriber = 1) {
    EXPECT_TRUE(port(worker).request(request(service, subscriber)));
  }

  void settle() {
    for (int i = 0; i < 10'000 && spawner_->step(); ++i) {
    }
  }

  /// Asks, lets the spawner work, and keeps the vif as a worker would.
  SpawnReply serve(uint16_t worker, TestService service, uint8_t subscriber = 1) {
    ask(worker, service, subscriber);
    settle();
    return reply(worker);
  }

  SpawnReply reply(uint16_t worker) {
    std::optional<SpawnReply> got = port(worker).next_reply();
    EXPECT_TRUE(got) << "no reply";
    if (!got) return {};
    if (got->vif) vifs_[got->vm] = std::move(got->vif);
    return std::move(*got);
  }

  void give_back(uint16_t worker, VmId vm) {
    EXPECT_TRUE(port(worker).give_back({.vm = vm, .vif = std::move(vifs_[vm])}));
    vifs_.erase(vm);
  }

  FakeGuest& guest(VmId vm) {
    for (const auto& guest : fake_.guests)
      if (guest->id == vm) return *guest;
    ADD_FAILURE() << "no such guest";
    return *fake_.guests.front();
  }
  FakeGuest& last_guest() { return *fake_.guests.back(); }

  size_t in_state(VmState state) {
    size_t count = 0;
    for (const VmInfo& info : spawner_->snapshot()) count += info.state == state ? 1 : 0;
    return count;
  }

  ManualClock clock_{kStart};
  FakeHypervisor fake_;
  FaultyHypervisor faulty_{fake_};
  Admission admission_{{.limits = {}}};
  std::unique_ptr<Spawner> spawner_;
  std::shared_ptr<const ServiceSet> services_;
  std::map<VmId, std::unique_ptr<backend::Vif>> vifs_;
  std::vector<std::byte> syn_ = std::vector<std::byte>(60, std::byte{0x5a});
  uint64_t next_cookie_ = 1;
};

}  // namespace synfluid::spawner::testing
