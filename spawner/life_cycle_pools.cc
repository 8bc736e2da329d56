// Pools: ready VMs ahead of demand, built when there is nothing else to do.
#include <algorithm>

#include <spdlog/spdlog.h>

#include "spawner/life_cycle.h"

namespace synfluid::spawner {
namespace {

/// How far a taker looks for a pooled VM that was built near its worker.
constexpr size_t kNearSearch = 8;
constexpr int64_t kFirstFillBackoffNs = 100 * kNsPerMs;
constexpr int64_t kLongestFillBackoffNs = 30 * kNsPerSecond;
constexpr int64_t kMemoryCheckNs = kNsPerSecond;

}  // namespace

bool LifeCycle::tend_pools() {
  if (pools_.empty()) return false;
  const int64_t now = config_.clock.now_ns();
  return yield_memory(now) || shrink_one(now) || fill_one(now);
}

uint32_t LifeCycle::held(uint16_t service) const {
  return static_cast<uint32_t>(pools_[service].ready.size()) + pools_[service].building;
}

VmRecord* LifeCycle::take_pooled(WorkerId worker, const SpawnRequest& request) {
  if (!is_active(request.services)) return nullptr;
  Pool& pool = pools_[request.service];
  pool.size.asked(config_.clock.now_ns());
  if (pool.ready.empty()) return nullptr;
  const auto end = pool.ready.begin() + static_cast<ptrdiff_t>(std::min(pool.ready.size(), kNearSearch));
  const auto near =
      std::find_if(pool.ready.begin(), end, [&](const VmRecord* r) { return r->near == worker; });
  VmRecord* record = near == end ? pool.ready.front() : *near;
  leave_pool(*record);
  return record;
}

void LifeCycle::put_in_pool(VmRecord& record) {
  Pool& pool = pools_[record.service];
  if (record.foreign) --pool.building;
  std::erase(timed_, &record);
  record.state = VmState::kPooled;
  pool.ready.push_back(&record);
}

void LifeCycle::leave_pool(VmRecord& record) {
  if (!record.for_pool) return;
  record.for_pool = false;
  Pool& pool = pools_[record.service];
  if (record.state == VmState::kBuilding) {
    --pool.building;
  } else {
    std::erase(pool.ready, &record);
  }
}

bool LifeCycle::shrink_one(int64_t now_ns) {
  for (Pool& pool : pools_) {
    if (pool.ready.size() <= pool.size.target(now_ns)) continue;
    remove(*pool.ready.front());
    return true;
  }
  return false;
}

/// Under memory pressure the pools are given up one by one, the largest first, until there is enough.
bool LifeCycle::yield_memory(int64_t now_ns) {
  if (now_ns < next_memory_check_ns_) return false;
  if (!has_memory_for(0) && give_up_one_pooled()) return true;
  next_memory_check_ns_ = now_ns + kMemoryCheckNs;
  return false;
}

/// A hypervisor that cannot say is asked for a VM, and may refuse.
bool LifeCycle::has_memory_for(uint64_t bytes) {
  const Result<uint64_t> left = config_.hypervisor.memory_left();
  return !left || *left >= config_.pool_reserve_bytes + bytes;
}

/// One VM for the pool that lacks most, if its turn has come by the refill rate.
bool LifeCycle::fill_one(int64_t now_ns) {
  if (now_ns < next_fill_ns_ || at_max_vms(*active_)) return false;
  uint32_t most = 0;
  uint16_t service = 0;
  for (uint16_t i = 0; i < pools_.size(); ++i) {
    const uint32_t target = pools_[i].size.target(now_ns);
    const uint32_t lack = target > held(i) ? target - held(i) : 0;
    if (lack > most) service = i;
    most = std::max(most, lack);
  }
  if (most == 0) return false;
  // Twice: what is taken now must not be given up at the next look.
  if (!has_memory_for(2 * active_->policy().services()[service].memory_bytes)) {
    next_fill_ns_ = now_ns + kMemoryCheckNs;
    return false;
  }

  const WorkerId near(next_near_);
  next_near_ = static_cast<uint16_t>((next_near_ + 1u) % ports_.size());
  const Result<VmRecord*> built = build({active_, service, near, kNoDoorbell});
  if (!built) {
    fill_backoff_ns_ = std::clamp(2 * fill_backoff_ns_, kFirstFillBackoffNs, kLongestFillBackoffNs);
    next_fill_ns_ = now_ns + fill_backoff_ns_;
    if (const auto swallowed = fill_log_.admit(now_ns))
      spdlog::warn("pool not filled: {}{}", built.error().text(), *swallowed);
    return false;
  }
  fill_backoff_ns_ = 0;
  next_fill_ns_ = std::max(next_fill_ns_, now_ns) + kNsPerSecond / std::max(config_.refill_per_s, 1u);
  VmRecord& record = **built;
  record.for_pool = true;
  if (record.foreign) {
    ++pools_[service].building;
  } else {
    put_in_pool(record);
  }
  return true;
}

bool LifeCycle::give_up_one_pooled() {
  Pool* largest = nullptr;
  for (Pool& pool : pools_)
    if (!pool.ready.empty() && (largest == nullptr || pool.ready.size() > largest->ready.size()))
      largest = &pool;
  if (largest == nullptr) return false;
  remove(*largest->ready.front());
  return true;
}

void LifeCycle::empty_pools() {
  std::vector<VmRecord*> pooled;
  for (const auto& [id, record] : vms_)
    if (record->for_pool) pooled.push_back(record.get());
  for (VmRecord* record : pooled) remove(*record);
}

/// Pooled VMs count like others; when a flow needs the place, one of them gives way.
bool LifeCycle::at_max_vms(const ServiceSet& services) const {
  return vms_.size() + dying_.size() >= services.policy().limits().max_vms;
}

}  // namespace synfluid::spawner
