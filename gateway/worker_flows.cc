// How flows and VMs end: closing, failing, expiring, and what is given back.

#include <algorithm>

#include "gateway/worker.h"

namespace synfluid::gateway {

using policies::OnFailure;

namespace {

/// A closed flow's VM keeps its vif so long for the last frames: an inline VM may still hold a reset for the
/// other side.
constexpr int64_t kLastFramesNs = 100 * kNsPerMs;

/// Flows looked at in one turn when their time is up.
constexpr size_t kExpireBurst = 32;

}  // namespace

/// The connection has ended. Its entry stays for a while and keeps late packets away; its VM goes when
/// nothing can still be in it: after FIN both ways all has passed, after a reset there may be one for the
/// other side.
void Worker::close(FlowIndex flow, FlowEnd end) {
  FlowData& d = data(flow);
  if (d.end != FlowEnd::kOpen) return;
  d.end = end;
  d.past_bypass = state(flow) == FlowState::kBypass;
  if (state(flow) == FlowState::kPending) release_held(flow);
  stop_waiting(flow);
  set_state(flow, FlowState::kClosing);
  if (!slots_.is_live(d.slot)) return;
  const bool backlog = slots_[d.slot].backlog.count > 0;
  if (end == FlowEnd::kFin && !backlog) return detach(flow);
  start_waiting(flow, wait_now_ns_ + kLastFramesNs);
}

void Worker::close_now(FlowIndex flow, FlowEnd end) {
  if (is_passing(flow)) return erase(flow, end);
  if (data(flow).end == FlowEnd::kOpen) data(flow).end = end;
  erase(flow, data(flow).end);
}

/// No VM for this flow (any more): its service's on_failure. What was held is not lost if the flow may pass.
void Worker::fail(FlowIndex flow, DropReason why) {
  FlowData& d = data(flow);
  const FlowKey key = table_->key(flow);
  stop_waiting(flow);
  counters_.flows_failed.add();
  if (observer_ != nullptr) observer_->on_failure(key, d.on_failure, why);
  d.undelivered = kNone;
  if (d.on_failure == OnFailure::kReset && d.held.head != kNone) {
    const HeldFrame& first = held_.at(d.held.head);
    send_reset(first.frame, parse_packet(bytes_of(first.frame)), first.side);
  }
  while (d.held.count > 0) {
    const HeldFrame held = held_.pop(d.held);
    if (d.on_failure == OnFailure::kBypass)
      transmit(opposite(held.side), held.frame);
    else
      drop(held.frame, why);
  }
  set_state(flow, d.on_failure == OnFailure::kBypass ? FlowState::kBypass : FlowState::kRefused);
  detach(flow);
}

void Worker::erase(FlowIndex flow, FlowEnd end) {
  if (is_passing(flow)) {
    table_->erase(flow);
    ++version_;
    return;
  }
  FlowData& d = data(flow);
  const FlowKey key = table_->key(flow);
  if (d.end == FlowEnd::kOpen) d.end = end;
  stop_waiting(flow);
  release_held(flow);
  detach(flow);
  d.slot = kNone;  // a passing flow that takes the index must not seem to be of this flow's VM
  counters_.flows_ended.add();
  if (observer_ != nullptr) observer_->on_end(key, d, d.end);
  table_->erase(flow);
  ++version_;
}

/// The flow has no more to do with its VM. The last one of a VM sends it back.
void Worker::detach(FlowIndex flow) {
  FlowData& d = data(flow);
  const uint32_t number = d.slot;
  if (!slots_.is_live(number)) return;
  VifSlot& slot = slots_[number];
  (d.list_prev == kNone ? slot.first_flow : data(d.list_prev).list_next) = d.list_next;
  if (d.list_next != kNone) data(d.list_next).list_prev = d.list_prev;
  d.list_prev = d.list_next = kNone;
  d.slot = kNone;
  table_->value(flow).target = kNone;
  slot.idle_since_ns = now_ns_;
  if (--slot.flows == 0 && slot.scope == policies::Scope::kFlow) return_vm(number);
}

/// The VM has what was held: nothing more needs to be kept. What it has not got waits with its other frames.
void Worker::release_held(FlowIndex flow) {
  FlowData& d = data(flow);
  bool delivered = slots_.is_live(d.slot);
  while (d.held.count > 0) {
    if (d.held.head == d.undelivered) delivered = false;
    const HeldFrame held = held_.pop(d.held);
    if (delivered) {
      counters_.to_vm.add();
      rte_pktmbuf_free(held.frame);
    } else if (slots_.is_live(d.slot)) {
      send_or_queue(d.slot, held.frame, held.side);
    } else {
      drop(held.frame, DropReason::kShutdown);
    }
  }
  d.undelivered = kNone;
}

/// Gives the slot's VM back to the spawner; no flow may be attached. Frames that waited for it are dropped.
void Worker::return_vm(uint32_t number) {
  VifSlot& slot = slots_[number];
  while (slot.first_flow != kNone) detach_only(slot.first_flow);
  while (slot.backlog.count > 0) {
    --backlogged_;
    drop(held_.pop(slot.backlog).frame, DropReason::kFlowClosed);
  }
  const auto it = shared_slots_.find(slot.key);
  if (it != shared_slots_.end() && it->second == number) shared_slots_.erase(it);
  slots_.set_quiet(number);
  counters_.vms_returned.add();
  counters_.vms.subtract();
  slot.vif->flush();
  give_back({.vm = slot.vm, .vif = std::move(slot.vif)});
  slots_.free(number);
}

void Worker::detach_only(FlowIndex flow) {
  FlowData& d = data(flow);
  slots_[d.slot].first_flow = d.list_next;
  --slots_[d.slot].flows;
  d.list_prev = d.list_next = kNone;
  d.slot = kNone;
}

void Worker::give_back(spawner::VmReturn vm) {
  if (!returns_.empty() || !spawner_->give_back(std::move(vm))) returns_.push_back(std::move(vm));
}

/// The VM died or broke its rings: each of its flows follows on_failure, and takes along what waited for the
/// VM.
void Worker::lose_vm(uint32_t number, DropReason why) {
  VifSlot& slot = slots_[number];
  counters_.vms_failed.add();
  HeldList waiting = slot.backlog;
  slot.backlog = {};
  ++slot.flows;  // so that detaching the last flow does not give the VM back under our feet
  while (slot.first_flow != kNone) {
    const FlowIndex flow = slot.first_flow;
    if (state(flow) == FlowState::kClosing)
      detach(flow);
    else
      fail(flow, why);
  }
  --slot.flows;
  return_vm(number);
  while (waiting.count > 0) {
    --backlogged_;
    const HeldFrame held = held_.pop(waiting);
    const ParsedPacket packet = parse_packet(bytes_of(held.frame));
    const FlowIndex flow = table_->find(packet.flow.key);
    if (flow != flowtable::kNoFlow && state(flow) == FlowState::kBypass)
      transmit(opposite(held.side), held.frame);
    else
      drop(held.frame, why);
  }
}

void Worker::start_waiting(FlowIndex flow, int64_t deadline_ns) {
  FlowData& d = data(flow);
  d.deadline_ns = deadline_ns;
  if (d.waiting) return;
  d.waiting = true;
  d.wait_prev = kNone;
  d.wait_next = waiting_head_;
  if (waiting_head_ != kNone) data(waiting_head_).wait_prev = flow;
  waiting_head_ = flow;
}

void Worker::stop_waiting(FlowIndex flow) {
  FlowData& d = data(flow);
  if (!d.waiting) return;
  d.waiting = false;
  (d.wait_prev == kNone ? waiting_head_ : data(d.wait_prev).wait_next) = d.wait_next;
  if (d.wait_next != kNone) data(d.wait_next).wait_prev = d.wait_prev;
}

uint32_t Worker::pending() const noexcept {
  uint32_t count = 0;
  for (uint32_t flow = waiting_head_; flow != kNone; flow = flows_[flow].wait_next)
    if (state(flow) == FlowState::kPending) ++count;
  return count;
}

void Worker::check_waiting() {
  for (uint32_t flow = waiting_head_; flow != kNone;) {
    FlowData& d = data(flow);
    const uint32_t next = d.wait_next;
    if (wait_now_ns_ >= d.deadline_ns) {
      if (state(flow) == FlowState::kPending) {
        fail(flow, DropReason::kHeldTimeout);
      } else {
        stop_waiting(flow);
        detach(flow);
      }
    } else if (d.undelivered != kNone && slots_.is_live(d.slot)) {
      deliver_held(flow);
    }
    flow = next;
  }
}

void Worker::expire_flows() {
  std::array<FlowIndex, kExpireBurst> expired;
  const size_t count = table_->expire(now_ns_, expired);
  for (size_t i = 0; i < count; ++i) {
    const FlowIndex flow = expired[i];
    if (!table_->contains(flow)) continue;
    if (is_passing(flow)) {
      erase(flow, FlowEnd::kIdle);
      continue;
    }
    const FlowData& d = data(flow);
    const bool keeps = state(flow) == FlowState::kPending ||
                       (state(flow) == FlowState::kActive && now_ns_ - d.seen_ns < d.idle_timeout_ns) ||
                       (state(flow) == FlowState::kClosing && d.waiting);
    if (!keeps) erase(flow, FlowEnd::kIdle);
  }
}

/// VMs of shared scopes outlive their last flow by the service's idle time.
void Worker::return_idle_vms() {
  if (shared_slots_.empty()) return;
  for (auto it = shared_slots_.begin(); it != shared_slots_.end();) {
    const uint32_t number = it->second;
    ++it;  // return_vm() removes the entry
    const VifSlot& slot = slots_[number];
    if (slot.flows == 0 && now_ns_ - slot.idle_since_ns >= slot.idle_timeout_ns) return_vm(number);
  }
}

}  // namespace synfluid::gateway
