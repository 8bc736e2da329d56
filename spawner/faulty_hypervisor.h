// A hypervisor that fails when it is told to, and is another one otherwise.
//
// Every call that can fail is a step; steps are counted from 1 since the last fail_at(). A test runs its
// scenario once with no fault to learn how many steps it has, then once for each step with that step failing,
// and looks each time whether anything is left behind.
//
// Threads: the calls as in hypervisor.h; fail_at() and steps() from any. Ownership: the inner hypervisor is
// the caller's and must outlive this one. Errors: the injected one is kSystem and names the step.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>

#include "spawner/hypervisor.h"

namespace synfluid::spawner {

class FaultPlan {
 public:
  static constexpr uint32_t kNever = 0;

  /// The n-th step from now fails; kNever: none does. Starts counting anew.
  void fail_at(uint32_t step) {
    steps_.store(0);
    fail_at_.store(step);
  }
  uint32_t steps() const { return steps_.load(); }
  bool struck() const { return fail_at_.load() != kNever && steps_.load() >= fail_at_.load(); }

  /// Counts one step; an error if it is the one to fail.
  Status step(std::string_view what);

 private:
  std::atomic<uint32_t> steps_{0};
  std::atomic<uint32_t> fail_at_{kNever};
};

class FaultyHypervisor final : public Hypervisor {
 public:
  explicit FaultyHypervisor(Hypervisor& inner) : inner_(inner) {}

  FaultPlan& faults() { return faults_; }

  std::string_view name() const override { return inner_.name(); }
  Result<std::unique_ptr<PreparedImage>> prepare(const ImageSpec& spec) override;
  Result<std::unique_ptr<Vm>> create(const PreparedImage& image, const VmConfig& config) override;
  void destroy_many(std::vector<std::unique_ptr<Vm>> vms) override;
  backend::DoorbellSet& doorbells(WorkerId worker) override { return inner_.doorbells(worker); }
  int event_fd() const override { return inner_.event_fd(); }
  std::optional<VmEvent> next_event() override { return inner_.next_event(); }
  bool work_ahead() override { return inner_.work_ahead(); }
  Result<uint64_t> memory_left() override;
  Result<uint32_t> sweep() override;

 private:
  Hypervisor& inner_;
  FaultPlan faults_;
};

}  // namespace synfluid::spawner
