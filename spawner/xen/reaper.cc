#include "spawner/xen/reaper.h"

#include <chrono>
#include <system_error>
#include <utility>

#include <pthread.h>
#include <signal.h>

namespace synfluid::spawner::xen {
namespace {

/// Until Xen is asked again for what it was not done with.
constexpr std::chrono::milliseconds kRetry{10};
/// So often at the end: a second.
constexpr int kLastTries = 100;

/// Threads made meanwhile take no signals: those are for the program's main thread, which may block them
/// only later, and a signal that any other thread leaves open ends the process where it stands.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_;
};

}  // namespace

Result<std::unique_ptr<Reaper>> Reaper::create(std::unique_ptr<toolstack::DomainEnder> inner) {
  std::unique_ptr<Reaper> reaper(new Reaper(std::move(inner)));
  const SignalsBlocked until_it_runs;
  try {
    reaper->thread_ = std::thread([raw = reaper.get()] { raw->run(); });
  } catch (const std::system_error& error) {
    return Error::from_errno(error.code().value(), "starting the thread that ends domains");
  }
  return reaper;
}

Reaper::~Reaper() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

Status Reaper::destroy_domain(DomId domid) {
  destroy_domains({&domid, 1});
  return {};
}

std::vector<DomId> Reaper::destroy_domains(std::span<const DomId> domids) {
  {
    const std::lock_guard lock(mutex_);
    given_.insert(given_.end(), domids.begin(), domids.end());
  }
  wake_.notify_one();
  return {};
}

void Reaper::run() {
  ::pthread_setname_np(::pthread_self(), "reaper");
  std::vector<DomId> dying;
  std::unique_lock lock(mutex_);
  for (int last_tries = 0; last_tries < kLastTries; last_tries += ending_ ? 1 : 0) {
    take_news(lock, dying);
    if (dying.empty()) return;
    lock.unlock();
    dying = inner_->destroy_domains(dying);
    lock.lock();
  }
}

/// Waits for something to do: none if it is the end.
void Reaper::take_news(std::unique_lock<std::mutex>& lock, std::vector<DomId>& dying) {
  const auto is_news = [this] { return ending_ || !given_.empty(); };
  if (dying.empty()) {
    wake_.wait(lock, is_news);
  } else if (ending_) {
    lock.unlock();
    std::this_thread::sleep_for(kRetry);
    lock.lock();
  } else {
    wake_.wait_for(lock, kRetry, is_news);
  }
  dying.insert(dying.end(), given_.begin(), given_.end());
  given_.clear();
}

Status PromptEnder::destroy_domain(DomId domid) {
  destroy_domains({&domid, 1});
  return {};
}

std::vector<DomId> PromptEnder::destroy_domains(std::span<const DomId> domids) {
  const std::vector<DomId> left = xen_.destroy_domains(domids);
  return left.empty() ? left : reaper_.destroy_domains(left);
}

}  // namespace synfluid::spawner::xen
