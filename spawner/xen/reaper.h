// Ends domains that are slow to die in a thread of its own: Xen takes a domain down page by page, a
// millisecond for each 4 MiB, and may want to be asked again; whoever does that can do nothing else
// meanwhile.
//
// Small guests of ours are ended where they are (PromptEnder), and come here when Xen is not done with them.
//
// Threads: destroy_domain() and destroy_domains() from any one thread. Ownership: a Reaper owns what it ends
// domains by, and ends all it was given before it goes, unless Xen refuses for long: then they are the next
// run's to sweep. Errors: none; Xen refuses for good only what is no domain any more.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

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

  // Both return at once.
  Status destroy_domain(DomId domid) override;
  std::vector<DomId> destroy_domains(std::span<const DomId> domids) override;

 private:
  explicit Reaper(std::unique_ptr<toolstack::DomainEnder> inner) : inner_(std::move(inner)) {}
  void run();
  void take_news(std::unique_lock<std::mutex>& lock, std::vector<DomId>& dying);

  const std::unique_ptr<toolstack::DomainEnder> inner_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<DomId> given_;  // under mutex_
  bool ending_ = false;       // under mutex_
  std::thread thread_;
};

/// Ends domains at once, in the caller's thread; those that Xen is not done with go to the reaper.
class PromptEnder final : public toolstack::DomainEnder {
 public:
  PromptEnder(toolstack::DomainEnder& xen, toolstack::DomainEnder& reaper) : xen_(xen), reaper_(reaper) {}
  Status destroy_domain(DomId domid) override;
  std::vector<DomId> destroy_domains(std::span<const DomId> domids) override;

 private:
  toolstack::DomainEnder& xen_;
  toolstack::DomainEnder& reaper_;
};

}  // namespace synfluid::spawner::xen
