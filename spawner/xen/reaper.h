// Ends domains in a thread of its own: Xen takes a large domain down page by page within one call, a
// millisecond for each 4 MiB, and whoever makes that call can do nothing else meanwhile.
//
// Guests of ours are small, and ended where they are; foreign ones go here.
//
// Threads: destroy_domain() from any one thread. Ownership: owns what it ends domains by, and ends all it was
// given before it goes. Errors: none; Xen refuses only what is no domain any more.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>

#include "base/result.h"
#include "spawner/toolstack/xen_calls.h"

namespace synfluid::spawner::xen {

class Reaper final : public toolstack::DomainEnder {
 public:
  /// `inner` is used by the reaper's thread alone. Errors: no thread could be started.
  static Result<std::unique_ptr<Reaper>> create(std::unique_ptr<toolstack::DomainEnder> inner);
  ~Reaper() override;
  Reaper(const Reaper&) = delete;
  Reaper& operator=(const Reaper&) = delete;

  /// Returns at once.
  Status destroy_domain(DomId domid) override;

 private:
  explicit Reaper(std::unique_ptr<toolstack::DomainEnder> inner) : inner_(std::move(inner)) {}
  void run();

  const std::unique_ptr<toolstack::DomainEnder> inner_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<DomId> dying_;  // under mutex_
  bool ending_ = false;      // under mutex_
  std::thread thread_;
};

}  // namespace synfluid::spawner::xen
