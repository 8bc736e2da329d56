#include "spawner/spawner.h"

#include <atomic>
#include <deque>
#include <functional>
#include <future>
#include <mutex>
#include <thread>

#include <poll.h>
#include <pthread.h>

#include "spawner/life_cycle.h"

namespace synfluid::spawner {

std::string_view to_string(VmState state) {
  switch (state) {
    case VmState::kBuilding:
      return "building";
    case VmState::kPooled:
      return "pooled";
    case VmState::kRunning:
      return "running";
    case VmState::kDraining:
      return "draining";
  }
  return "unknown";
}

class Spawner::Impl {
 public:
  Impl(const Config& config, std::unique_ptr<WakeEvent> wake, std::vector<std::unique_ptr<WorkerPort>> ports)
      : config_(config), wake_(std::move(wake)), ports_(std::move(ports)), life_cycle_(config, ports_) {}

  ~Impl() { stop(); }

  Status start() {
    if (thread_.joinable()) return Error(ErrorCode::kInvalidArgument, "the spawner runs already");
    stopping_.store(false);
    try {
      thread_ = std::thread([this] { run(); });
    } catch (const std::system_error& error) {
      return Error::from_errno(error.code().value(), "starting the spawner's thread");
    }
    return {};
  }

  void stop() {
    if (thread_.joinable()) {
      stopping_.store(true);
      wake_->signal();
      thread_.join();
    }
    life_cycle_.shut_down();
  }

  /// Runs `job` in the spawner's thread and waits for it; in this one when that does not run.
  template <class Job>
  auto call(Job job) {
    using Outcome = std::invoke_result_t<Job, LifeCycle&>;
    if (!thread_.joinable()) return job(life_cycle_);
    std::packaged_task<Outcome()> task([&] { return job(life_cycle_); });
    std::future<Outcome> done = task.get_future();
    {
      const std::lock_guard lock(jobs_mutex_);
      jobs_.emplace_back([&task] { task(); });
      jobs_pending_.store(true, std::memory_order_release);
    }
    wake_->signal();
    return done.get();
  }

  bool step() {
    const bool worked = run_jobs();
    return life_cycle_.step() || worked;
  }

  LifeCycle& life_cycle() { return life_cycle_; }
  WorkerPort& port(WorkerId worker) { return *ports_[worker.value()]; }

 private:
  void run() {
    ::pthread_setname_np(::pthread_self(), "spawner");
    while (!stopping_.load()) {
      if (step()) continue;
      wake_->acknowledge();
      if (stopping_.load() || step()) continue;
      sleep();
    }
    run_jobs();
  }

  void sleep() {
    pollfd fds[] = {{.fd = wake_->fd(), .events = POLLIN, .revents = 0},
                    {.fd = config_.hypervisor.event_fd(), .events = POLLIN, .revents = 0}};
    const std::optional<int64_t> deadline = life_cycle_.next_deadline_ns();
    timespec timeout{};
    if (deadline) {
      const int64_t left = std::max<int64_t>(*deadline - config_.clock.now_ns(), 0);
      timeout = {.tv_sec = left / kNsPerSecond, .tv_nsec = left % kNsPerSecond};
    }
    ::ppoll(fds, std::size(fds), deadline ? &timeout : nullptr, nullptr);
  }

  bool run_jobs() {
    if (!jobs_pending_.load(std::memory_order_acquire)) return false;
    std::deque<std::function<void()>> jobs;
    {
      const std::lock_guard lock(jobs_mutex_);
      jobs.swap(jobs_);
      jobs_pending_.store(false, std::memory_order_release);
    }
    for (const auto& job : jobs) job();
    return true;
  }

  const Config config_;
  const std::unique_ptr<WakeEvent> wake_;
  std::vector<std::unique_ptr<WorkerPort>> ports_;
  LifeCycle life_cycle_;  // the spawner's thread, or control's while that does not run

  std::thread thread_;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> jobs_pending_{false};
  std::mutex jobs_mutex_;
  std::deque<std::function<void()>> jobs_;  // under jobs_mutex_
};

Result<std::unique_ptr<Spawner>> Spawner::create(const Config& config) {
  if (config.workers == 0) return Error(ErrorCode::kInvalidArgument, "a spawner without workers");
  Result<std::unique_ptr<WakeEvent>> wake = WakeEvent::create();
  if (!wake) return wake.error();
  std::vector<std::unique_ptr<WorkerPort>> ports;
  for (uint16_t i = 0; i < config.workers; ++i) {
    Result<std::unique_ptr<WakeEvent>> worker_wake = WakeEvent::create();
    if (!worker_wake) return worker_wake.error();
    ports.push_back(std::make_unique<WorkerPort>(WorkerPort::Sizes{config.requests, config.returns},
                                                 std::move(*worker_wake), **wake));
  }
  auto impl = std::make_unique<Impl>(config, std::move(*wake), std::move(ports));
  return std::unique_ptr<Spawner>(new Spawner(std::move(impl)));
}

Spawner::Spawner(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Spawner::~Spawner() = default;

Status Spawner::start() {
  return impl_->start();
}
void Spawner::stop() {
  impl_->stop();
}

Result<std::shared_ptr<const ServiceSet>> Spawner::prepare(std::shared_ptr<const policies::Policy> policy) {
  return impl_->call([&](LifeCycle& life) { return life.prepare(std::move(policy)); });
}

void Spawner::activate(std::shared_ptr<const ServiceSet> services) {
  impl_->call([&](LifeCycle& life) { life.activate(std::move(services)); });
}

void Spawner::drain() {
  impl_->call([](LifeCycle& life) { life.drain(); });
}

void Spawner::retire(WorkerId worker) {
  impl_->call([&](LifeCycle& life) { life.retire(worker); });
}

std::vector<VmInfo> Spawner::snapshot() {
  return impl_->call([](LifeCycle& life) { return life.snapshot(); });
}

Result<std::string> Spawner::console(DomId domid) {
  return impl_->call([&](LifeCycle& life) { return life.console(domid); });
}

SpawnerCounters Spawner::counters() const noexcept {
  const AtomicSpawnerCounters& now = impl_->life_cycle().counters();
  const auto read = [](const std::atomic<uint64_t>& counter) {
    return counter.load(std::memory_order_relaxed);
  };
  return {.requests = read(now.requests),
          .served_cold = read(now.served_cold),
          .served_pooled = read(now.served_pooled),
          .shared = read(now.shared),
          .failed = read(now.failed),
          .spawned = read(now.spawned),
          .destroyed = read(now.destroyed),
          .crashed = read(now.crashed),
          .exited = read(now.exited),
          .vms = read(now.vms),
          .peak = read(now.peak)};
}

WorkerPort& Spawner::port(WorkerId worker) noexcept {
  return impl_->port(worker);
}

bool Spawner::step() {
  return impl_->step();
}

std::optional<int64_t> Spawner::next_deadline_ns() const {
  return impl_->life_cycle().next_deadline_ns();
}

}  // namespace synfluid::spawner
