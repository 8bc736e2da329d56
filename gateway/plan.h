// What the workers go by: the policy in force, swapped as a whole between two bursts.
//
// RCU by quiescent states: control publishes a new plan and keeps the old one until every worker has begun a
// turn since (Worker::turns()); a worker that reads the pointer once a turn never sees one go. Threads:
// publish() from control, get() from anybody. Ownership: the PlanBox owns all plans that may still be seen.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "spawner/spawner.h"

namespace synfluid::gateway {

struct Plan {
  std::shared_ptr<const spawner::ServiceSet> services;
  bool admits_new_vms = true;  ///< false while draining: flows that would need a VM follow on_failure

  const policies::Policy& policy() const { return services->policy(); }
};

class PlanBox {
 public:
  explicit PlanBox(Plan plan) : current_(new Plan(std::move(plan))) { kept_.emplace_back(current_.load()); }

  const Plan& get() const noexcept { return *current_.load(std::memory_order_acquire); }

  void publish(Plan plan) {
    kept_.push_back(std::make_unique<const Plan>(std::move(plan)));
    current_.store(kept_.back().get(), std::memory_order_release);
  }
  /// Forgets the plans before the current one. Only when no worker can still be in a turn that began before
  /// publish().
  void forget_old() { kept_.erase(kept_.begin(), kept_.end() - 1); }

 private:
  std::atomic<const Plan*> current_;
  std::vector<std::unique_ptr<const Plan>> kept_;
};

}  // namespace synfluid::gateway
