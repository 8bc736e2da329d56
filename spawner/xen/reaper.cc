#include "spawner/xen/reaper.h"

#include <system_error>
#include <utility>

#include <pthread.h>

namespace synfluid::spawner::xen {

Result<std::unique_ptr<Reaper>> Reaper::create(std::unique_ptr<toolstack::DomainEnder> inner) {
  std::unique_ptr<Reaper> reaper(new Reaper(std::move(inner)));
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
  {
    const std::lock_guard lock(mutex_);
    dying_.push_back(domid);
  }
  wake_.notify_one();
  return {};
}

void Reaper::run() {
  ::pthread_setname_np(::pthread_self(), "reaper");
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return ending_ || !dying_.empty(); });
    if (dying_.empty()) return;
    const std::deque<DomId> batch = std::exchange(dying_, {});
    lock.unlock();
    for (const DomId domid : batch) static_cast<void>(inner_->destroy_domain(domid));
    lock.lock();
  }
}

}  // namespace synfluid::spawner::xen
