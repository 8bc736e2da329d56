// The spawner's messages, and the frames that VMs send.

#include <algorithm>
#include <cstring>

#include "flowtable/search.h"
#include "gateway/worker.h"

namespace synfluid::gateway {

using spawner::SpawnOutcome;

namespace {

/// Empty polls of a vif before it is left to its doorbell: a guest answers within a few dozen turns of a busy
/// worker.
constexpr uint32_t kQuietPolls = 64;

/// Looking at the doorbells is a system call; a worker that is busy with other vifs makes one in so many
/// turns.
constexpr uint32_t kTurnsBetweenDoorbells = 16;

/// A shared VM may be on its way back when the spawner names it; then the worker asks again, so often.
constexpr uint8_t kAskAgain = 3;

/// Gives a foreign guest's frame the link header of its flow's answers. False if the frame has no room for
/// it.
bool restore_link(rte_mbuf* frame, const ParsedPacket& packet, const backend::LinkHeader& initiator) {
  const backend::LinkHeader header = initiator.reversed();
  if (rte_pktmbuf_adj(frame, packet.l3_offset) == nullptr) return false;
  char* const front = rte_pktmbuf_prepend(frame, static_cast<uint16_t>(header.bytes().size()));
  if (front == nullptr) return false;
  std::memcpy(front, header.bytes().data(), header.bytes().size());
  return true;
}

}  // namespace

size_t Worker::take_messages() {
  if (spawner_ == nullptr) return 0;
  size_t taken = 0;
  while (auto reply = spawner_->next_reply()) {
    take_reply(*reply);
    ++taken;
  }
  while (auto lost = spawner_->next_lost()) {
    vm_lost(*lost);
    ++taken;
  }
  return taken;
}

void Worker::take_reply(spawner::SpawnReply& reply) {
  const auto number = static_cast<uint32_t>(reply.cookie);
  if (number >= requests_.size() || requests_[number].serial != reply.cookie >> 32 ||
      requests_[number].syn == nullptr)
    return;
  Request& r = requests_[number];
  rte_pktmbuf_free(r.syn);
  r.syn = nullptr;
  free_requests_.push_back(number);
  --requests_open_;

  const bool still_wanted = table_->contains(r.flow) && data(r.flow).generation == r.flow_generation &&
                            state(r.flow) == FlowState::kPending;
  if (reply.outcome == SpawnOutcome::kServed) {
    install(r.slot, reply);
    if (still_wanted) return vm_served(r.flow, r.slot, reply);
    return return_vm(r.slot);  // the flow has failed in the meantime
  }
  slots_.free(r.slot);
  if (!still_wanted) return;
  if (reply.outcome == SpawnOutcome::kShared) return vm_shared(r.flow, reply);
  if (reply.outcome == SpawnOutcome::kElsewhere) return flow_elsewhere(r.flow, reply);
  counters_.vms_failed.add();
  fail(r.flow, DropReason::kRefusedOnFailure);
}

/// The vif moves into the slot that was reserved for it.
void Worker::install(uint32_t number, spawner::SpawnReply& reply) {
  VifSlot& slot = slots_[number];
  slot.state = VifSlot::State::kLive;
  slot.vif = std::move(reply.vif);
  slot.vm = reply.vm;
  slot.idle_since_ns = now_ns_;
  counters_.vms_spawned.add();
  counters_.vms.add();
  counters_.vms_peak.set(std::max(counters_.vms_peak.get(), counters_.vms.get()));
  slots_.set_busy(number);
}

void Worker::vm_served(FlowIndex flow, uint32_t number, const spawner::SpawnReply& reply) {
  FlowData& d = data(flow);
  VifSlot& slot = slots_[number];
  slot.mode = d.mode;
  slot.scope = d.scope;
  slot.service = d.service;
  slot.idle_timeout_ns = d.idle_timeout_ns;
  slot.key = scope_key(d.plan_generation, d.service, d.scope, d.subscriber);
  slot.vlan = table_->key(flow).vlan;
  if (d.scope != policies::Scope::kFlow) shared_slots_[slot.key] = number;
  attach(flow, number);
  // The spawner has put the SYN into the ring already.
  if (d.undelivered == d.held.head && d.undelivered != kNone) d.undelivered = held_.at(d.undelivered).next;
  const int64_t since_syn = waiting_clock_.now_ns() - d.syn_ns;
  counters_.syn_to_vif.add(since_syn);
  if (observer_ != nullptr) observer_->on_vm(table_->key(flow), reply.vm, reply.pooled, false, since_syn);
  deliver_held(flow);
}

void Worker::vm_shared(FlowIndex flow, spawner::SpawnReply& reply) {
  const FlowData& d = data(flow);
  const auto it = shared_slots_.find(scope_key(d.plan_generation, d.service, d.scope, d.subscriber));
  if (it != shared_slots_.end() && slots_[it->second].vm == reply.vm) return join(flow, it->second);
  ask_again(flow, std::move(reply.ticket));
}

/// What admission granted to the first request serves this one.
void Worker::ask_again(FlowIndex flow, spawner::AdmissionTicket ticket) {
  if (data(flow).retries++ < kAskAgain && ask_spawner(flow, std::move(ticket))) return;
  fail(flow, DropReason::kRefusedOnFailure);
}

/// The flow uses a VM that is here already.
void Worker::join(FlowIndex flow, uint32_t number) {
  const VifSlot& slot = slots_[number];
  // A guest whose frames have no tags cannot say which VLAN they are for.
  if (slot.vif->adapts_link_layer() && slot.vlan != table_->key(flow).vlan)
    return fail(flow, DropReason::kRefusedOnFailure);
  attach(flow, number);
  FlowData& d = data(flow);
  const int64_t since_syn = wait_now_ns_ - d.syn_ns;
  counters_.syn_to_vif.add(since_syn);
  if (observer_ != nullptr) observer_->on_vm(table_->key(flow), slots_[number].vm, true, true, since_syn);
  deliver_held(flow);
}

void Worker::attach(FlowIndex flow, uint32_t number) {
  FlowData& d = data(flow);
  VifSlot& slot = slots_[number];
  d.slot = number;
  table_->value(flow).target = number;
  d.list_prev = kNone;
  d.list_next = slot.first_flow;
  if (slot.first_flow != kNone) data(slot.first_flow).list_prev = flow;
  slot.first_flow = flow;
  ++slot.flows;
  d.deadline_ns = wait_now_ns_ + d.answer_timeout_ns;
}

/// Another worker owns the scope's VM: the flow's packets go there from now on, the held ones first.
void Worker::flow_elsewhere(FlowIndex flow, spawner::SpawnReply& reply) {
  FlowData& d = data(flow);
  // Two workers that name each other would send packets in circles.
  const WorkerId owner = reply.owner;
  if (d.relayed || owner == id_) return ask_again(flow, std::move(reply.ticket));
  stop_waiting(flow);
  d.undelivered = kNone;
  while (d.held.count > 0) {
    const HeldFrame held = held_.pop(d.held);
    hand_over(held.frame, held.side, owner);
  }
  table_->value(flow).target = owner.value();
  set_state(flow, FlowState::kHandoff);
}

void Worker::vm_lost(const spawner::VmLost& lost) {
  if (!slots_.is_live(lost.doorbell) || slots_[lost.doorbell].vm != lost.vm) return;
  poll_vif(lost.doorbell);  // its last words still count
  if (slots_.is_live(lost.doorbell) && slots_[lost.doorbell].vm == lost.vm)
    lose_vm(lost.doorbell, DropReason::kRefusedOnFailure);
}

void Worker::ring_doorbells() {
  if (doorbells_ == nullptr || ++polls_since_doorbells_ < kTurnsBetweenDoorbells) return;
  polls_since_doorbells_ = 0;
  std::array<backend::DoorbellToken, kBurst> tokens;
  size_t rung = 0;
  do {
    rung = doorbells_->collect(tokens);
    for (size_t i = 0; i < rung; ++i)
      if (slots_.is_live(tokens[i])) slots_.set_busy(tokens[i]);
  } while (rung == tokens.size());
}

size_t Worker::poll_vifs() {
  ring_doorbells();
  size_t moved = 0;
  // Backwards: a vif that falls quiet leaves its place to the last one, which has been polled.
  for (size_t i = slots_.busy().size(); i-- > 0;) {
    if (i >= slots_.busy().size()) continue;
    const uint32_t number = slots_.busy()[i];
    const size_t received = poll_vif(number);
    moved += received;
    if (!slots_.is_live(number) || received > 0) continue;
    VifSlot& slot = slots_[number];
    if (++slot.quiet_polls < kQuietPolls) continue;
    slot.vif->flush();
    if (!slot.vif->arm()) slots_.set_quiet(number);
  }
  return moved;
}

size_t Worker::poll_vif(uint32_t number) {
  backend::Vif& vif = *slots_[number].vif;
  VmBurst burst;
  size_t received = 0;
  while (received < kBurst) {
    rte_mbuf* const frame = rte_pktmbuf_alloc(&pool_);
    if (frame == nullptr) break;
    const std::span<std::byte> room(rte_pktmbuf_mtod(frame, std::byte*), rte_pktmbuf_tailroom(frame));
    const size_t length = vif.receive(room);
    if (length == 0) {
      rte_pktmbuf_free(frame);
      break;
    }
    rte_pktmbuf_append(frame, static_cast<uint16_t>(length));
    counters_.from_vm.add();
    ++received;
    ParsedPacket packet = parse_packet(bytes_of(frame));
    if (vif.adapts_link_layer()) packet.flow.key.vlan = slots_[number].vlan;
    if (const backend::GuardVerdict verdict = backend::judge_headers(packet); !verdict.allowed) {
      drop(frame, verdict.reason);
      continue;
    }
    burst.frames[burst.count] = frame;
    burst.packets[burst.count] = packet;
    burst.lookups.searches[burst.count++].at = table_->seek(flowtable::KeyWords::of(packet.flow.key));
  }
  if (received > 0) {
    slots_[number].quiet_polls = 0;
    mark_dirty(number);
  }
  if (burst.count > 0) forward(number, burst);
  if (!slots_.is_live(number)) return received;
  if (slots_[number].backlog.count > 0) flush_backlog(number);
  if (vif.broken()) lose_vm(number, DropReason::kVifBroken);
  return received;
}

/// Frames of one VM, looked up together; each flow's own entry says whether the VM may send them.
void Worker::forward(uint32_t number, VmBurst& burst) {
  burst.lookups.narrow(*table_, version_, burst.count);
  burst.lookups.settle(*table_, burst.count);
  bool saw_answer = false;
  for (size_t i = 0; i < burst.count; ++i) {
    const FlowIndex flow =
        burst.lookups.find(*table_, version_, i, flowtable::KeyWords::of(burst.packets[i].flow.key));
    if (flow != flowtable::kNoFlow && state(flow) == FlowState::kPending && !saw_answer) {
      wait_now_ns_ = waiting_clock_.now_ns();  // an answer's time is told to the microsecond
      saw_answer = true;
    }
    from_vm(number, burst.frames[i], burst.packets[i], flow);
  }
}

void Worker::from_vm(uint32_t number, rte_mbuf* frame, const ParsedPacket& packet, FlowIndex flow) {
  backend::FlowClaim claim;
  backend::VmRole role = backend::VmRole::kTerminate;
  if (flow != flowtable::kNoFlow) {
    const FlowData& d = data(flow);
    claim = {
        .is_of_this_vif = d.slot == number, .initiator = d.initiator, .initiator_side = d.initiator_side};
    if (d.mode == policies::ServiceMode::kInline) role = backend::VmRole::kInline;
  }
  const backend::GuardVerdict verdict = backend::judge_vm_frame(packet, role, claim);
  if (!verdict.allowed) return drop(frame, verdict.reason);

  FlowData& d = data(flow);
  if (state(flow) == FlowState::kPending) answered(flow);
  if (d.mode == policies::ServiceMode::kTerminate)
    d.bytes[static_cast<size_t>(packet.flow.from)] += packet.payload_length;
  table_->touch(flow, now_ns_);
  d.seen_ns = now_ns_;
  if (!slots_.is_live(number) || !slots_[number].vif->adapts_link_layer() ||
      restore_link(frame, packet, d.link))
    transmit(verdict.out, frame);
  else
    drop(frame, DropReason::kTooLong);
  if (const FlowEnd end = d.tcp.see(packet); end != FlowEnd::kOpen) close(flow, end);
}

/// The VM has spoken for the flow: what was held for its sake has reached it.
void Worker::answered(FlowIndex flow) {
  FlowData& d = data(flow);
  stop_waiting(flow);
  set_state(flow, FlowState::kActive);
  release_held(flow);
  const int64_t since_syn = wait_now_ns_ - d.syn_ns;
  counters_.flows_served.add();
  counters_.syn_to_answer.add(since_syn);
  if (observer_ != nullptr) observer_->on_answer(table_->key(flow), since_syn);
}

}  // namespace synfluid::gateway
