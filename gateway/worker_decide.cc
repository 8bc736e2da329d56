// The stage "decide": a packet without an entry in the flow table.

#include <algorithm>

#include "gateway/worker.h"

namespace synfluid::gateway {

using policies::OnFailure;
using policies::Scope;
using policies::Verdict;

namespace {

policies::SynInfo syn_info(const OrientedKey& flow) {
  const Endpoint source = flow.source();
  const Endpoint destination = flow.destination();
  return {source.address, destination.address, source.port, destination.port, flow.key.vlan};
}

constexpr bool may_follow_on(Scope scope) {
  return scope != Scope::kFlow;
}

}  // namespace

void Worker::decide(rte_mbuf* frame, const ParsedPacket& packet, Side side, bool handed_over) {
  if (!packet.is_pure_syn()) {
    if (challenge_ && challenge_->take_answer(packet, now_ns_)) counters_.syn_proven.add();
    return transmit(opposite(side), frame);
  }
  const Verdict verdict = plan_->policy().classify(syn_info(packet.flow));
  switch (verdict.kind) {
    case Verdict::Kind::kBypass:
      counters_.syn_bypassed.add();
      if (observer_ != nullptr) observer_->on_syn(packet, verdict, SynFate::kBypassed, {});
      remember_passing(packet);
      return transmit(opposite(side), frame);
    case Verdict::Kind::kReset:
      send_reset(frame, packet, side);
      [[fallthrough]];
    case Verdict::Kind::kDrop:
      counters_.syn_refused.add();
      if (observer_ != nullptr) observer_->on_syn(packet, verdict, SynFate::kRefused, {});
      return drop(frame, DropReason::kRefusedByPolicy);
    case Verdict::Kind::kService:
      counters_.syn_matched.add();
      return summon(frame, packet, side, verdict, handed_over);
  }
}

/// The flow's further packets find it in one look-up. It takes nobody's place: a packet without an entry
/// passes as well. The burst's look-ups stay right, but the same SYN may come twice in it.
void Worker::remember_passing(const ParsedPacket& syn) {
  if (table_->find(syn.flow.key) != flowtable::kNoFlow) return;
  table_->insert(syn.flow.key, {.target = kNone, .state = FlowState::kBypass, .flags = flow_bit::kPassing},
                 now_ns_);
}

/// A SYN whose service has to be given a VM. Admission comes before anything is allocated.
void Worker::summon(rte_mbuf* frame, const ParsedPacket& syn, Side side, const Verdict& verdict,
                    bool handed_over) {
  const policies::Service& service = plan_->policy().services()[verdict.service];
  const Address subscriber = plan_->policy().subscriber_of(syn.flow.source().address);
  const uint32_t shared = find_shared(verdict.service, service.scope, subscriber);
  spawner::AdmissionTicket ticket;
  if (shared == kNone) {
    if (spawner_ == nullptr || stopping_ || !plan_->admits_new_vms)
      return refuse(frame, syn, side, verdict, DropReason::kShutdown);
    if (must_prove_itself(syn)) {
      if (observer_ != nullptr) observer_->on_syn(syn, verdict, SynFate::kRefused, DropReason::kChallenged);
      return challenge(frame, syn, side);
    }
    auto decision = admission_.admit(subscriber, now_ns_);
    if (decision.verdict != spawner::AdmissionVerdict::kAdmitted)
      return refuse(frame, syn, side, verdict, spawner::to_drop_reason(decision.verdict));
    ticket = std::move(decision.ticket);
  }
  const FlowIndex flow = new_flow(syn, side, verdict);
  if (flow == flowtable::kNoFlow) return table_full(frame, syn, side, verdict);
  data(flow).relayed = handed_over;
  data(flow).link = backend::LinkHeader::of(bytes_of(frame), syn.l3_offset);
  hold(flow, frame, side);
  if (shared != kNone) {
    if (observer_ != nullptr) observer_->on_syn(syn, verdict, SynFate::kHeld, {});
    return join(flow, shared);
  }
  if (!ask_spawner(flow, std::move(ticket))) {
    if (observer_ != nullptr) observer_->on_syn(syn, verdict, SynFate::kHeld, {});
    return fail(flow, DropReason::kSpawnerBusy);
  }
  if (observer_ != nullptr) observer_->on_syn(syn, verdict, SynFate::kHeld, {});
}

bool Worker::must_prove_itself(const ParsedPacket& syn) const {
  return challenge_ && admission_.is_short(now_ns_) &&
         !challenge_->is_proven(syn.flow.source().address, now_ns_);
}

/// A SYN that gets no VM, and no entry either: its service's on_failure, at once.
void Worker::refuse(rte_mbuf* frame, const ParsedPacket& syn, Side side, const Verdict& verdict,
                    DropReason why) {
  const OnFailure what = plan_->policy().services()[verdict.service].on_failure;
  const bool passes = what == OnFailure::kBypass;
  (passes ? counters_.syn_bypassed : counters_.syn_refused).add();
  if (observer_ != nullptr)
    observer_->on_syn(syn, verdict, passes ? SynFate::kBypassed : SynFate::kRefused, why);
  if (passes) return transmit(opposite(side), frame);
  if (what == OnFailure::kReset) send_reset(frame, syn, side);
  drop(frame, why);
}

void Worker::table_full(rte_mbuf* frame, const ParsedPacket& syn, Side side, const Verdict& verdict) {
  const bool passes = plan_->policy().limits().on_table_full == policies::OnTableFull::kBypass;
  (passes ? counters_.syn_bypassed : counters_.syn_refused).add();
  if (observer_ != nullptr)
    observer_->on_syn(syn, verdict, passes ? SynFate::kBypassed : SynFate::kRefused, DropReason::kTableFull);
  if (passes) return transmit(opposite(side), frame);
  drop(frame, DropReason::kTableFull);
}

Worker::FlowIndex Worker::new_flow(const ParsedPacket& syn, Side side, const Verdict& verdict) {
  const FromEnd initiator = syn.flow.from;
  flowtable::FlowValue value;
  value.target = kNone;
  value.state = FlowState::kPending;
  value.flags = initiator == FromEnd::kHigh ? flowtable::flow_flag::kOpenedByHigh : uint8_t{0};
  FlowIndex flow = table_->insert(syn.flow.key, value, now_ns_);
  if (flow == flowtable::kNoFlow) {
    // Entries that only keep late packets away give way to a live flow, and so do those that only save a
    // turn.
    for (FlowState state : {FlowState::kClosing, FlowState::kRefused, FlowState::kBypass}) {
      const FlowIndex victim = table_->eviction_candidate(syn.flow.key, state);
      if (victim == flowtable::kNoFlow) continue;
      erase(victim, FlowEnd::kReused);
      flow = table_->insert(syn.flow.key, value, now_ns_);
      if (flow != flowtable::kNoFlow) break;
    }
    if (flow == flowtable::kNoFlow) return flow;
  }
  ++version_;
  const policies::Service& service = plan_->policy().services()[verdict.service];
  const uint32_t generation = data(flow).generation + 1;
  data(flow) = FlowData{};
  FlowData& d = data(flow);
  d.generation = generation;
  d.service = verdict.service;
  d.plan_generation = plan_->services->generation();
  d.initiator = initiator;
  d.initiator_side = side;
  d.mode = service.mode;
  d.scope = service.scope;
  d.on_failure = service.on_failure;
  d.syn_ns = wait_now_ns_;
  d.answer_timeout_ns = service.answer_timeout_ns;
  d.idle_timeout_ns = service.idle_timeout_ns;
  d.hold_most = static_cast<uint16_t>(std::min<uint32_t>(plan_->policy().limits().held_packets, UINT16_MAX));
  d.seen_ns = now_ns_;
  d.tcp.see(syn);
  d.subscriber = plan_->policy().subscriber_of(syn.flow.source().address);
  start_waiting(flow, wait_now_ns_ + plan_->policy().limits().hold_time_ns);
  return flow;
}

/// The flow's first held frame is its SYN; a second reference to it lives until the spawner has replied.
bool Worker::ask_spawner(FlowIndex flow, spawner::AdmissionTicket ticket) {
  FlowData& d = data(flow);
  if (free_requests_.empty() || d.held.head == kNone || d.plan_generation != plan_->services->generation())
    return false;
  const uint32_t slot = slots_.reserve();
  if (slot == kNone) return false;
  const uint32_t number = free_requests_.back();
  Request& r = requests_[number];
  rte_mbuf* const syn = held_.at(d.held.head).frame;
  spawner::SpawnRequest request;
  request.cookie = uint64_t{r.serial + 1} << 32 | number;
  request.services = plan_->services;
  request.service = d.service;
  request.flow = table_->key(flow);
  request.subscriber = d.subscriber;
  request.doorbell = slot;
  request.first_frame = bytes_of(syn);
  request.syn_time_ns = d.syn_ns;
  request.ticket = std::move(ticket);
  if (!spawner_->request(std::move(request))) {
    slots_.free(slot);
    return false;
  }
  free_requests_.pop_back();
  rte_mbuf_refcnt_update(syn, 1);
  r = {.syn = syn, .flow = flow, .flow_generation = d.generation, .serial = r.serial + 1, .slot = slot};
  ++requests_open_;
  return true;
}

/// The slot of the VM that this worker already has for the scope, or kNone.
uint32_t Worker::find_shared(uint16_t service, Scope scope, const Address& subscriber) const {
  if (!may_follow_on(scope)) return kNone;
  const auto it = shared_slots_.find(scope_key(plan_->services->generation(), service, scope, subscriber));
  return it == shared_slots_.end() ? kNone : it->second;
}

ScopeKey Worker::scope_key(uint32_t generation, uint16_t service, Scope scope, const Address& subscriber) {
  return {generation, service, scope == Scope::kSubscriber ? subscriber : Address{}};
}

}  // namespace synfluid::gateway
