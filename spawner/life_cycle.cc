#include "spawner/life_cycle.h"

#include <algorithm>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

namespace synfluid::spawner {
namespace {

/// A request costs up to a millisecond; between so many, events and returns get their turn.
constexpr int kRequestsPerTurn = 8;
/// Destroyed in one go: a request that comes meanwhile waits for so many of them, of 0.2 ms each.
constexpr size_t kDestroysPerBatch = 4;
/// A burst is served before the VMs of the last one go; what these hold is little, and goes at once when it
/// is short.
constexpr size_t kMostDying = 256;
constexpr int kEventsPerTurn = 64;
constexpr int kReturnsPerTurn = 64;
/// A worker does not say when it has taken a reply or a notice that its ring was full of; it is looked at
/// again.
constexpr int64_t kFullRingRetryNs = kNsPerMs;

}  // namespace

LifeCycle::LifeCycle(const Spawner::Config& config, std::vector<std::unique_ptr<WorkerPort>>& ports)
    : config_(config), ports_(ports), waiting_(ports.size()), unsent_lost_(ports.size()) {}

LifeCycle::~LifeCycle() {
  shut_down();
}

bool LifeCycle::step() {
  bool busy = take_events();
  busy |= take_returns();
  busy |= send_lost();
  const int asked = take_requests();
  busy |= asked > 0;
  busy |= expire();
  busy |= tend_dying(asked);
  if (asked == 0) busy |= tend_pools();
  if (busy) return true;
  drop_unused_sets();
  return config_.hypervisor.work_ahead();
}

std::optional<int64_t> LifeCycle::next_deadline_ns() {
  const int64_t now = config_.clock.now_ns();
  std::optional<int64_t> next;
  const auto sooner = [&](int64_t at) { next = std::min(next.value_or(at), at); };
  if (!dying_.empty()) sooner(now);
  for (size_t worker = 0; worker < ports_.size(); ++worker)
    if (!unsent_lost_[worker].empty() || ports_[worker]->has_request()) sooner(now + kFullRingRetryNs);
  for (const VmRecord* record : timed_) {
    sooner(record->deadline_ns);
    for (const Waiter& waiter : record->waiters) sooner(waiter.deadline_ns);
  }
  for (size_t service = 0; service < pools_.size(); ++service) {
    Pool& pool = pools_[service];
    const uint32_t target = pool.size.target(now);
    const uint32_t have = held(static_cast<uint16_t>(service));
    if (have > target) sooner(now);
    if (have < target && !at_max_vms(*active_)) sooner(next_fill_ns_);
    if (have > 0 && !pool.size.at_minimum()) sooner(pool.size.next_change_ns());
    if (have > 0) sooner(next_memory_check_ns_);
  }
  return next;
}

bool LifeCycle::take_events() {
  for (int i = 0; i < kEventsPerTurn; ++i) {
    const std::optional<VmEvent> event = config_.hypervisor.next_event();
    if (!event) return i > 0;
    handle(*event);
  }
  return true;
}

bool LifeCycle::take_returns() {
  bool any = false;
  for (size_t i = 0; i < ports_.size(); ++i) {
    const WorkerId worker(static_cast<uint16_t>(i));
    for (int taken = 0; taken < kReturnsPerTurn; ++taken) {
      std::optional<VmReturn> returned = ports_[i]->next_return();
      if (!returned) break;
      any = true;
      VmRecord* record = find(returned->vm);
      if (record == nullptr || record->owner != worker) continue;
      record->vif = std::move(returned->vif);
      remove(*record);
    }
  }
  return any;
}

int LifeCycle::take_requests() {
  int asked = 0;
  for (size_t i = 0; i < ports_.size(); ++i) {
    const WorkerId worker(static_cast<uint16_t>(i));
    for (int taken = 0; taken < kRequestsPerTurn; ++taken) {
      if (ports_[i]->free_replies() <= waiting_[i]) break;
      std::optional<SpawnRequest> request = ports_[i]->next_request();
      if (!request) break;
      ++asked;
      count(counters_.requests);
      handle(worker, std::move(*request));
    }
  }
  return asked;
}

bool LifeCycle::send_lost() {
  bool any = false;
  for (size_t worker = 0; worker < ports_.size(); ++worker) {
    std::deque<VmLost>& unsent = unsent_lost_[worker];
    while (!unsent.empty() && ports_[worker]->lost(VmLost(unsent.front()))) {
      unsent.pop_front();
      any = true;
    }
  }
  return any;
}

bool LifeCycle::expire() {
  if (timed_.empty()) return false;
  const int64_t now = config_.clock.now_ns();
  const Error late(ErrorCode::kTimeout, "the VM has not connected its vif in time");
  std::vector<VmRecord*> over;
  bool any = false;
  for (VmRecord* record : timed_) {
    const auto late_from = std::stable_partition(record->waiters.begin(), record->waiters.end(),
                                                 [&](const Waiter& w) { return w.deadline_ns > now; });
    const std::vector<Waiter> expired(std::make_move_iterator(late_from),
                                      std::make_move_iterator(record->waiters.end()));
    record->waiters.erase(late_from, record->waiters.end());
    for (const Waiter& waiter : expired) {
      --waiting_[waiter.worker.value()];
      fail(waiter.worker, waiter.request.cookie, late);
    }
    any |= !expired.empty();
    // A VM for one flow is of no use once the flow has given up.
    const bool unwanted = !expired.empty() && record->waiters.empty() && !record->key;
    if (unwanted || record->deadline_ns <= now) over.push_back(record);
  }
  for (VmRecord* record : over) {
    fail_waiters(*record, late);
    remove(*record);
  }
  return any || !over.empty();
}

bool LifeCycle::tend_dying(int asked) {
  if (dying_.empty() || (asked > 0 && dying_.size() <= kMostDying)) return false;
  destroy_oldest_dying(static_cast<size_t>(asked) + kDestroysPerBatch);
  return true;
}

// --- VMs ---

Result<VmRecord*> LifeCycle::build(BuildOrder order) {
  const policies::Service& service = order.services->policy().services()[order.service];
  auto record = std::make_unique<VmRecord>();
  const uint32_t generation = next_generation_++;
  record->name = fmt::format("{}-{}", service.name, generation);
  record->created_at_ns = config_.clock.now_ns();
  Result<std::unique_ptr<Vm>> vm = config_.hypervisor.create(
      order.services->image(order.service),
      {.name = record->name, .generation = generation, .worker = order.near, .doorbell = order.doorbell});
  if (!vm) return vm.error().within(fmt::format("a VM for service '{}'", service.name));
  record->id = (*vm)->id();
  record->service = order.service;
  record->near = order.near;
  record->services = std::move(order.services);
  record->vm = std::move(*vm);
  record->foreign = !record->vm->link_ready();
  if (record->foreign) {
    if (const Status started = record->vm->start(); !started) return started.error().within(record->name);
    record->deadline_ns = record->created_at_ns + config_.foreign_boot_ns;
    timed_.push_back(record.get());
  }
  record->create_ns = config_.clock.now_ns() - record->created_at_ns;
  VmRecord* built = record.get();
  vms_.emplace(built->id, std::move(record));
  count(counters_.spawned);
  const uint64_t there = vms_.size() + dying_.size();
  counters_.vms.store(there, std::memory_order_relaxed);
  counters_.peak.store(std::max(counters_.peak.load(std::memory_order_relaxed), there),
                       std::memory_order_relaxed);
  return built;
}

void LifeCycle::handle(const VmEvent& event) {
  VmRecord* record = find(event.vm);
  if (record == nullptr || record->state == VmState::kDraining) return;
  if (event.kind == VmEvent::Kind::kVifReady) return connected(*record);
  died(*record, event);
}

void LifeCycle::connected(VmRecord& record) {
  if (record.state != VmState::kBuilding || !record.vm->link_ready()) return;
  record.create_ns = config_.clock.now_ns() - record.created_at_ns;
  if (record.for_pool) return put_in_pool(record);
  if (!record.waiters.empty()) return answer_waiters(record);
  // Whoever asked for it has given up. A later SYN of the same scope may come for it within the idle time.
  record.state = VmState::kPooled;
  record.deadline_ns = config_.clock.now_ns() + record.service_of().idle_timeout_ns;
}

void LifeCycle::died(VmRecord& record, const VmEvent& event) {
  const bool crashed = event.kind == VmEvent::Kind::kCrashed;
  count(crashed ? counters_.crashed : counters_.exited);
  if (const auto swallowed = death_log_.admit(config_.clock.now_ns()))
    spdlog::warn("VM {} (domain {}) {}{}{}{}", record.name, record.id.domid.value(),
                 crashed ? "crashed" : "shut itself down", event.detail.empty() ? "" : ": ", event.detail,
                 *swallowed);
  if (!record.owner) {
    fail_waiters(record,
                 {ErrorCode::kSystem, fmt::format("the VM died before it was ready: {}", event.detail)});
    return remove(record);
  }
  if (record.key) scopes_.erase(*record.key);
  record.key.reset();
  record.state = VmState::kDraining;
  unsent_lost_[record.owner->value()].push_back(
      {.vm = record.id,
       .doorbell = record.doorbell,
       .notice = crashed ? SpawnerNotice::kCrashed : SpawnerNotice::kExited});
  send_lost();
}

/// Takes the VM out of everything by which it can be found; its destruction follows in a later part of the
/// turn.
void LifeCycle::remove(VmRecord& record) {
  if (record.key) scopes_.erase(*record.key);
  record.key.reset();
  leave_pool(record);
  std::erase(timed_, &record);
  record.state = VmState::kDraining;
  const auto found = vms_.find(record.id);
  dying_.push_back(std::move(found->second));
  vms_.erase(found);
}

void LifeCycle::destroy_oldest_dying(size_t at_most) {
  const auto end = dying_.begin() + static_cast<ptrdiff_t>(std::min(at_most, dying_.size()));
  std::vector<std::unique_ptr<Vm>> vms;
  for (auto record = dying_.begin(); record != end; ++record) {
    (*record)->vif.reset();
    vms.push_back(std::move((*record)->vm));
    count(counters_.destroyed);
  }
  config_.hypervisor.destroy_many(std::move(vms));
  dying_.erase(dying_.begin(), end);
  counters_.vms.store(vms_.size() + dying_.size(), std::memory_order_relaxed);
}

VmRecord* LifeCycle::find(VmId id) {
  const auto found = vms_.find(id);
  return found == vms_.end() ? nullptr : found->second.get();
}

// --- Control ---

ImageSpec image_spec(const policies::Service& service) {
  return {.service = service.name,
          .image = service.image,
          .memory_bytes = service.memory_bytes,
          .config = service.config};
}

Result<std::shared_ptr<const ServiceSet>> LifeCycle::prepare(std::shared_ptr<const policies::Policy> policy) {
  std::vector<std::unique_ptr<PreparedImage>> images;
  for (const policies::Service& service : policy->services()) {
    Result<std::unique_ptr<PreparedImage>> image = config_.hypervisor.prepare(image_spec(service));
    if (!image) return image.error().within(fmt::format("service '{}'", service.name));
    images.push_back(std::move(*image));
  }
  sets_.push_back(std::make_shared<const ServiceSet>(std::move(policy), std::move(images), next_set_++));
  return sets_.back();
}

void LifeCycle::activate(std::shared_ptr<const ServiceSet> services) {
  draining_ = false;
  if (services == active_) return;
  empty_pools();
  active_ = std::move(services);
  pools_.clear();
  const int64_t now = config_.clock.now_ns();
  for (const policies::Service& service : active_->policy().services())
    pools_.push_back({.size = PoolSize(service.pool, now), .ready = {}});
  next_fill_ns_ = now;
  fill_backoff_ns_ = 0;
}

void LifeCycle::drain() {
  draining_ = true;
  empty_pools();
  pools_.clear();
  active_.reset();
}

void LifeCycle::retire(WorkerId worker) {
  WorkerPort& port = *ports_[worker.value()];
  while (port.next_reply()) {
  }
  while (port.next_lost()) {
  }
  while (port.next_return()) {
  }
  while (port.next_request()) {
  }
  unsent_lost_[worker.value()].clear();
  waiting_[worker.value()] = 0;
  std::vector<VmRecord*> orphans;
  for (const auto& [id, record] : vms_) {
    const size_t gone =
        std::erase_if(record->waiters, [&](const Waiter& waiter) { return waiter.worker == worker; });
    const bool unwanted = gone > 0 && record->waiters.empty() && !record->key;
    if (record->owner == worker || unwanted) orphans.push_back(record.get());
  }
  for (VmRecord* record : orphans) remove(*record);
}

void LifeCycle::shut_down() {
  for (size_t worker = 0; worker < ports_.size(); ++worker) retire(WorkerId(static_cast<uint16_t>(worker)));
  drain();
  while (!vms_.empty()) remove(*vms_.begin()->second);
  while (!dying_.empty()) destroy_oldest_dying(kDestroysPerBatch);
  drop_unused_sets();
}

std::vector<VmInfo> LifeCycle::snapshot() const {
  std::vector<VmInfo> list;
  list.reserve(vms_.size() + dying_.size());
  const auto show = [&](const VmRecord& record) {
    list.push_back({.vm = record.id,
                    .name = record.name,
                    .service = record.service_of().name,
                    .scope = record.service_of().scope,
                    .state = record.state,
                    .owner = record.owner,
                    .flow = record.flow,
                    .subscriber = record.subscriber,
                    .set_generation = record.services->generation(),
                    .created_at_ns = record.created_at_ns});
  };
  for (const auto& [id, record] : vms_) show(*record);
  for (const auto& record : dying_) show(*record);
  return list;
}

Result<std::string> LifeCycle::console(DomId domid) const {
  const auto found = std::ranges::find_if(vms_, [&](const auto& vm) { return vm.first.domid == domid; });
  if (found == vms_.end())
    return Error(ErrorCode::kNotFound, fmt::format("there is no VM with domain id {}", domid.value()));
  return found->second->vm->console();
}

/// What nobody else holds any more is destroyed here, in the thread that made it.
void LifeCycle::drop_unused_sets() {
  std::erase_if(sets_, [](const std::shared_ptr<const ServiceSet>& set) { return set.use_count() == 1; });
}

}  // namespace synfluid::spawner
