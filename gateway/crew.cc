#include "gateway/crew.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include <rte_launch.h>
#include <rte_lcore.h>

namespace synfluid::gateway {

namespace {

/// Empty turns before a worker sleeps: what a busy client leaves between two bursts.
constexpr int kSpins = 64;
/// Ports without interrupts are looked at again after so long, at first and in the end.
constexpr int64_t kShortSleepNs = 50 * kNsPerUs;
constexpr int64_t kLongSleepNs = 1 * kNsPerMs;
/// Where every frame ends the sleep only timers are left, which are looked at no more often than this.
constexpr int64_t kCalledSleepNs = 5 * kNsPerMs;
/// A stop waits so long for the spawner's last answers; what is still missing then goes with the spawner.
constexpr int64_t kStopNs = 10 * kNsPerSecond;

constexpr std::chrono::microseconds kGlance{200};

}  // namespace

Crew::Crew(std::vector<std::unique_ptr<Worker>> workers) {
  for (auto& worker : workers) {
    posts_.push_back(std::make_unique<Post>());
    posts_.back()->worker = std::move(worker);
  }
}

Crew::~Crew() {
  stop();
}

Status Crew::start() {
  unsigned lcore = rte_get_next_lcore(~0u, 1, 0);
  running_ = true;
  for (auto& post : posts_) {
    if (lcore >= RTE_MAX_LCORE || rte_eal_remote_launch(run, post.get(), lcore) != 0)
      return Error(ErrorCode::kSystem, "a worker's lcore does not start");
    post->lcore = lcore;
    lcore = rte_get_next_lcore(lcore, 1, 0);
  }
  return {};
}

int Crew::run(void* argument) {
  Post& post = *static_cast<Post*>(argument);
  Worker& worker = *post.worker;
  int idle = 0;
  const int64_t first_ns = worker.is_called() ? kCalledSleepNs : kShortSleepNs;
  const int64_t longest_ns = worker.is_called() ? kCalledSleepNs : kLongSleepNs;
  int64_t nap_ns = first_ns;
  while (!post.stop.load(std::memory_order_relaxed)) {
    if (worker.turn() > 0) {
      idle = 0;
      nap_ns = first_ns;
    } else if (++idle > kSpins) {
      worker.sleep(nap_ns);
      nap_ns = std::min(2 * nap_ns, longest_ns);
    }
    if (const auto* question = post.question.load(std::memory_order_acquire); question != nullptr) {
      (*question)(worker);
      post.question.store(nullptr, std::memory_order_relaxed);
      post.answered.store(true, std::memory_order_release);
    }
  }
  worker.begin_stop();
  const SteadyClock clock;
  for (const int64_t until = clock.now_ns() + kStopNs; !worker.stopped() && clock.now_ns() < until;)
    if (worker.turn() == 0) worker.sleep(kLongSleepNs);
  return 0;
}

void Crew::stop() {
  if (!running_) return;
  running_ = false;
  for (auto& post : posts_) {
    post->stop.store(true);
    post->worker->wake();
  }
  for (auto& post : posts_)
    if (post->lcore != 0) rte_eal_wait_lcore(post->lcore);
}

void Crew::ask(size_t number, const std::function<void(Worker&)>& what) {
  Post& post = *posts_[number];
  post.answered.store(false, std::memory_order_relaxed);
  post.question.store(&what, std::memory_order_release);
  post.worker->wake();
  while (!post.answered.load(std::memory_order_acquire)) std::this_thread::sleep_for(kGlance);
}

void Crew::wait_for_new_turns() {
  for (auto& post : posts_) {
    const uint64_t seen = post->worker->turns();
    post->worker->wake();
    // The turn that was under way may have begun before; the one after it has not.
    while (post->worker->turns() < seen + 2) std::this_thread::sleep_for(kGlance);
  }
}

}  // namespace synfluid::gateway
