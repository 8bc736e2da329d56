// What becomes of a request: a VM there is, one from the pool, or a new one.
#include <algorithm>

#include <spdlog/spdlog.h>

#include "spawner/life_cycle.h"
#include "spawner/shared_area.h"

namespace synfluid::spawner {
namespace {

/// What one dying VM holds is what a new one needs; a foreign one may need more.
constexpr size_t kDestroysToMakeRoom = 2;

bool is_shortage(ErrorCode code) {
  return code == ErrorCode::kNoMemory || code == ErrorCode::kExhausted;
}

}  // namespace

void LifeCycle::handle(WorkerId worker, SpawnRequest request) {
  if (draining_)
    return fail(worker, request.cookie, {ErrorCode::kUnavailable, "the gateway is being drained"});
  if (!request.services || request.service >= request.services->policy().services().size())
    return fail(worker, request.cookie, {ErrorCode::kInvalidArgument, "the request names no service"});

  const policies::Scope scope = request.services->policy().services()[request.service].scope;
  std::optional<ScopeKey> key;
  if (scope != policies::Scope::kFlow) {
    key = ScopeKey{request.services->generation(), request.service,
                   scope == policies::Scope::kSubscriber ? request.subscriber : Address{}};
    if (answer_from_scope(worker, request, *key)) return;
  }
  if (VmRecord* record = take_pooled(worker, request)) {
    record->key = key;
    if (key) scopes_[*key] = record;
    return serve(*record, worker, std::move(request));
  }
  build_for(worker, std::move(request), key);
}

bool LifeCycle::answer_from_scope(WorkerId worker, SpawnRequest& request, const ScopeKey& key) {
  const auto found = scopes_.find(key);
  if (found == scopes_.end()) return false;
  VmRecord& record = *found->second;
  if (record.owner) {
    answer_shared(worker, std::move(request), record);
  } else if (record.state == VmState::kPooled) {
    serve(record, worker, std::move(request));
  } else {
    wait_for(record, worker, std::move(request));
  }
  return true;
}

void LifeCycle::answer_shared(WorkerId worker, SpawnRequest request, const VmRecord& record) {
  count(counters_.shared);
  const bool own = *record.owner == worker;
  ports_[worker.value()]->reply({.cookie = request.cookie,
                                 .outcome = own ? SpawnOutcome::kShared : SpawnOutcome::kElsewhere,
                                 .vm = record.id,
                                 .owner = *record.owner,
                                 .doorbell = record.doorbell,
                                 .ticket = std::move(request.ticket)});
}

void LifeCycle::build_for(WorkerId worker, SpawnRequest request, const std::optional<ScopeKey>& key) {
  while (at_max_vms(*request.services) && make_room()) {
  }
  // Only for a request that came without a ticket, or with one of more generous limits.
  if (at_max_vms(*request.services))
    return fail(worker, request.cookie, {ErrorCode::kExhausted, "as many VMs run as limits.max_vms allows"});
  const BuildOrder order{request.services, request.service, worker, request.doorbell};
  Result<VmRecord*> built = build(order);
  while (!built && is_shortage(built.error().code()) && make_room()) built = build(order);
  if (!built) return fail(worker, request.cookie, built.error());

  VmRecord& record = **built;
  record.key = key;
  if (key) scopes_[*key] = &record;
  if (!record.foreign) return serve(record, worker, std::move(request));
  if (request.services->policy().services()[request.service].scope != policies::Scope::kService)
    record.subscriber = request.subscriber;
  // It counts from now on, whether or not its vif connects before the request has given up.
  record.ticket = std::move(request.ticket);
  wait_for(record, worker, std::move(request));
}

/// When memory, ids or VMs are short: those that are as good as gone go first, then what the pools keep in
/// reserve, which is worth less than a flow that is there.
bool LifeCycle::make_room() {
  if (dying_.empty() && !give_up_one_pooled()) return false;
  destroy_oldest_dying(kDestroysToMakeRoom);
  return true;
}

void LifeCycle::wait_for(VmRecord& record, WorkerId worker, SpawnRequest request) {
  const int64_t deadline = config_.clock.now_ns() + request.services->policy().limits().hold_time_ns;
  record.waiters.push_back({worker, std::move(request), deadline});
  ++waiting_[worker.value()];
}

void LifeCycle::answer_waiters(VmRecord& record) {
  std::vector<Waiter> waiters = std::exchange(record.waiters, {});
  for (const Waiter& waiter : waiters) --waiting_[waiter.worker.value()];
  serve(record, waiters.front().worker, std::move(waiters.front().request));
  for (auto waiter = waiters.begin() + 1; waiter != waiters.end(); ++waiter) {
    if (record.owner) {
      answer_shared(waiter->worker, std::move(waiter->request), record);
    } else {
      fail(waiter->worker, waiter->request.cookie, {ErrorCode::kSystem, "the VM could not be handed over"});
    }
  }
}

void LifeCycle::fail_waiters(VmRecord& record, const Error& error) {
  for (const Waiter& waiter : std::exchange(record.waiters, {})) {
    --waiting_[waiter.worker.value()];
    fail(waiter.worker, waiter.request.cookie, error);
  }
}

void LifeCycle::serve(VmRecord& record, WorkerId worker, SpawnRequest request) {
  const bool pooled = record.state == VmState::kPooled;
  if (const Status handed = hand_over(record, worker, request); !handed) {
    fail(worker, request.cookie, handed.error().within(record.name));
    return remove(record);
  }
  const policies::Scope scope = record.service_of().scope;
  if (request.ticket) record.ticket = std::move(request.ticket);
  record.state = VmState::kRunning;
  record.owner = worker;
  record.doorbell = request.doorbell;
  if (scope == policies::Scope::kFlow) record.flow = request.flow;
  if (scope != policies::Scope::kService) record.subscriber = request.subscriber;
  std::erase(timed_, &record);
  count(pooled ? counters_.served_pooled : counters_.served_cold);
  ports_[worker.value()]->reply({.cookie = request.cookie,
                                 .outcome = SpawnOutcome::kServed,
                                 .vm = record.id,
                                 .owner = worker,
                                 .pooled = pooled,
                                 .create_ns = pooled ? 0 : record.create_ns,
                                 .doorbell = request.doorbell,
                                 .vif = std::move(record.vif)});
}

/// All that can still go wrong before the VM is the worker's. The SYN is in the ring before the first
/// instruction.
Status LifeCycle::hand_over(VmRecord& record, WorkerId worker, const SpawnRequest& request) {
  const bool built_for_it = record.state == VmState::kBuilding && !record.foreign;
  if (!built_for_it) {
    if (Status set = record.vm->set_doorbell(worker, request.doorbell); !set) return set;
  }
  std::unique_ptr<backend::GuestLink> link = record.vm->take_link();
  if (!link) return Error(ErrorCode::kSystem, "its vif could not be attached to the worker");
  const bool is_foreign_end =
      link->card() == nullptr && record.service_of().mode == policies::ServiceMode::kTerminate;
  record.vif = std::make_unique<backend::Vif>(std::move(link));
  if (is_foreign_end) record.vif->adapt_link_layer(guest_mac(record.id.domid, record.id.generation));
  if (!request.first_frame.empty()) {
    const int64_t age = config_.clock.now_ns() - request.syn_time_ns;
    record.vif->stamp_syn_age(static_cast<uint64_t>(std::max<int64_t>(age, 0)));
    if (!record.vif->send(request.first_frame))
      return Error(ErrorCode::kProtocol, "its vif does not take the first frame");
    record.vif->flush();
  }
  return record.foreign ? Status{} : record.vm->start();
}

void LifeCycle::fail(WorkerId worker, uint64_t cookie, const Error& error) {
  count(counters_.failed);
  if (const auto swallowed = failure_log_.admit(config_.clock.now_ns()))
    spdlog::warn("no VM: {}{}", error.text(), *swallowed);
  ports_[worker.value()]->reply({.cookie = cookie, .outcome = SpawnOutcome::kFailed, .error = error.text()});
}

}  // namespace synfluid::spawner
