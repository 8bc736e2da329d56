// The workers' threads: each runs its worker's turns on an lcore of its own, and sleeps when there is nothing
// to do.
//
// Threads: everything here from the control thread. ask() runs a function between two turns of a worker, on
// the worker's thread, and waits for it. Ownership: the Crew owns the workers. stop() gives every VM back
// before it returns.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "base/result.h"
#include "gateway/worker.h"

namespace synfluid::gateway {

class Crew {
 public:
  explicit Crew(std::vector<std::unique_ptr<Worker>> workers);
  /// As stop().
  ~Crew();
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

  Status start();
  void stop();

  size_t size() const { return posts_.size(); }
  const Worker& worker(size_t number) const { return *posts_[number]->worker; }

  /// Runs `what` on a worker's thread between turns.
  void ask(size_t number, const std::function<void(Worker&)>& what);
  /// Returns when every worker has begun a turn since: what it saw before is out of use.
  void wait_for_new_turns();

 private:
  struct Post {
    std::unique_ptr<Worker> worker;
    std::atomic<bool> stop{false};
    std::atomic<const std::function<void(Worker&)>*> question{nullptr};
    std::atomic<bool> answered{false};
    unsigned lcore = 0;
  };

  static int run(void* post);

  std::vector<std::unique_ptr<Post>> posts_;
  bool running_ = false;
};

}  // namespace synfluid::gateway
