// The stages "act" and "account": what is done with a frame of a known flow, and where every frame ends.

#include "gateway/tcp_frame.h"
#include "gateway/worker.h"

namespace synfluid::gateway {

namespace {

/// Frames that may wait for room in one VM's receive ring: a ring's worth, so that a burst of a whole window
/// survives a guest that is not running at the moment.
constexpr uint32_t kBacklogFrames = 256;

}  // namespace

void Worker::act(FlowIndex flow, rte_mbuf* frame, const ParsedPacket& packet, Side side, bool handed_over) {
  if (is_passing(flow)) return pass(flow, frame, packet, side, handed_over);
  FlowData& d = data(flow);
  table_->touch(flow, now_ns_);
  d.seen_ns = now_ns_;
  switch (state(flow)) {
    case FlowState::kPending:
    case FlowState::kActive:
      return to_vm(flow, frame, packet, side);
    case FlowState::kBypass:
      if (const FlowEnd end = d.tcp.see(packet); end != FlowEnd::kOpen) close(flow, end);
      return transmit(opposite(side), frame);
    case FlowState::kRefused:
      return refuse_known(flow, frame, packet, side);
    case FlowState::kClosing:
      return act_closing(flow, frame, packet, side, handed_over);
    case FlowState::kHandoff:
      if (!handed_over)
        return hand_over(frame, side, WorkerId(static_cast<uint16_t>(table_->value(flow).target)));
      // The worker it was handed to sent it back: the VM there is gone.
      erase(flow, FlowEnd::kReused);
      return decide(frame, packet, side, handed_over);
  }
}

/// A flow of the policy's bypass. Its end only makes the entry go sooner, so that a forged one does no harm;
/// a new connection on the same ports is decided on anew.
void Worker::pass(FlowIndex flow, rte_mbuf* frame, const ParsedPacket& packet, Side side, bool handed_over) {
  if (packet.is_pure_syn()) {
    erase(flow, FlowEnd::kReused);
    return decide(frame, packet, side, handed_over);
  }
  table_->touch(flow, now_ns_);
  uint8_t& flags = table_->value(flow).flags;
  if (packet.has_flag(tcp_flag::kRst)) flags |= flow_bit::kFins;
  if (packet.has_flag(tcp_flag::kFin))
    flags |= packet.flow.from == FromEnd::kLow ? flow_bit::kFinFromLow : flow_bit::kFinFromHigh;
  if ((flags & flow_bit::kFins) == flow_bit::kFins && state(flow) != FlowState::kClosing)
    set_state(flow, FlowState::kClosing);
  transmit(opposite(side), frame);
}

/// The entry of a flow that has ended keeps late packets from the other port. A new connection takes its
/// place.
void Worker::act_closing(FlowIndex flow, rte_mbuf* frame, const ParsedPacket& packet, Side side,
                         bool handed_over) {
  if (packet.is_pure_syn()) {
    erase(flow, FlowEnd::kReused);
    return decide(frame, packet, side, handed_over);
  }
  FlowData& d = data(flow);
  if (d.past_bypass) return transmit(opposite(side), frame);
  if (!slots_.is_live(d.slot) || !speaks_to_vm(d, side)) return drop(frame, DropReason::kFlowClosed);
  send_or_queue(d.slot, frame, side);
}

/// A terminating VM is the server: the core has nothing to say in its flows.
bool Worker::speaks_to_vm(const FlowData& d, Side side) {
  return d.mode == policies::ServiceMode::kInline || side == d.initiator_side;
}

void Worker::to_vm(FlowIndex flow, rte_mbuf* frame, const ParsedPacket& packet, Side side) {
  FlowData& d = data(flow);
  if (!speaks_to_vm(d, side)) return drop(frame, DropReason::kRefusedByPolicy);
  if (state(flow) == FlowState::kPending) {
    hold(flow, frame, side);
    if (d.undelivered != kNone && slots_.is_live(d.slot)) deliver_held(flow);
    return;
  }
  const bool from_initiator = packet.flow.from == d.initiator;
  d.bytes[static_cast<size_t>(packet.flow.from)] += packet.payload_length;
  if (from_initiator && !d.followed && packet.has_flag(tcp_flag::kAck)) {
    d.followed = true;
    admission_.connection_followed();
  }
  const uint32_t slot = d.slot;
  // An inline VM may yet drop the packet; what it forwards is what counts, and is seen in from_vm().
  const FlowEnd end = d.mode == policies::ServiceMode::kTerminate ? d.tcp.see(packet) : FlowEnd::kOpen;
  send_or_queue(slot, frame, side);
  if (end != FlowEnd::kOpen) close(flow, end);
}

void Worker::hold(FlowIndex flow, rte_mbuf* frame, Side side) {
  FlowData& d = data(flow);
  if (d.held.count >= d.hold_most && d.held.count > 0) return drop(frame, DropReason::kHeldFull);
  const uint32_t place = held_.append(d.held, frame, side);
  if (place == kNone) return drop(frame, DropReason::kHeldFull);
  if (d.undelivered == kNone) d.undelivered = place;
}

void Worker::deliver_held(FlowIndex flow) {
  FlowData& d = data(flow);
  VifSlot& slot = slots_[d.slot];
  while (d.undelivered != kNone) {
    const HeldFrame& next = held_.at(d.undelivered);
    if (!slot.vif->send(bytes_of(next.frame))) break;
    mark_dirty(d.slot);
    d.undelivered = next.next;
  }
  slots_.set_busy(d.slot);
}

/// Gives a frame to the VM, behind those that wait already.
void Worker::send_or_queue(uint32_t number, rte_mbuf* frame, Side side) {
  VifSlot& slot = slots_[number];
  slots_.set_busy(number);
  if (slot.backlog.count == 0 && slot.vif->send(bytes_of(frame))) {
    mark_dirty(number);
    counters_.to_vm.add();
    return rte_pktmbuf_free(frame);
  }
  if (slot.vif->broken()) return drop(frame, DropReason::kVifBroken);
  if (rte_pktmbuf_data_len(frame) > slot.vif->max_send_bytes()) return drop(frame, DropReason::kTooLong);
  if (slot.backlog.count >= kBacklogFrames || held_.append(slot.backlog, frame, side) == kNone)
    return drop(frame, DropReason::kNoRxBuffer);
  ++backlogged_;
}

void Worker::flush_backlog(uint32_t number) {
  VifSlot& slot = slots_[number];
  while (slot.backlog.count > 0) {
    rte_mbuf* const frame = held_.at(slot.backlog.head).frame;
    if (!slot.vif->send(bytes_of(frame))) return;
    mark_dirty(number);
    held_.pop(slot.backlog);
    --backlogged_;
    counters_.to_vm.add();
    rte_pktmbuf_free(frame);
  }
}

void Worker::mark_dirty(uint32_t slot) {
  if (slots_[slot].dirty) return;
  slots_[slot].dirty = true;
  dirty_.push_back(slot);
}

void Worker::refuse_known(FlowIndex flow, rte_mbuf* frame, const ParsedPacket& packet, Side side) {
  if (data(flow).on_failure == policies::OnFailure::kReset) send_reset(frame, packet, side);
  drop(frame, DropReason::kRefusedOnFailure);
}

/// Answers the frame with a reset, out of the side it came from.
void Worker::send_reset(rte_mbuf* frame, const ParsedPacket& packet, Side side) {
  craft(side, [&](std::span<std::byte> room) { return write_reset(bytes_of(frame), packet, room); });
}

/// A frame of the gateway's own, whose length `write` returns; 0: there is none to send.
template <class Write>
void Worker::craft(Side side, Write write) {
  rte_mbuf* const frame = rte_pktmbuf_alloc(&pool_);
  if (frame == nullptr) return;  // its receiver will send again, and is answered then
  const size_t length = write(std::span(rte_pktmbuf_mtod(frame, std::byte*), kMaxTcpHeaders));
  if (length == 0) return rte_pktmbuf_free(frame);
  rte_pktmbuf_append(frame, static_cast<uint16_t>(length));
  counters_.crafted.add();
  transmit(side, frame);
}

/// Asks the SYN's sender to prove its address, and forgets the SYN: it comes again.
void Worker::challenge(rte_mbuf* frame, const ParsedPacket& syn, Side side) {
  const uint32_t number = challenge_->ask(syn, now_ns_);
  // A client that is told its own next number would take the question for its connection.
  if (number != syn.tcp_seq + 1)
    craft(side, [&](std::span<std::byte> room) { return write_syn_ack(bytes_of(frame), syn, number, room); });
  drop(frame, DropReason::kChallenged);
}

void Worker::transmit(Side side, std::span<rte_mbuf*> frames) {
  while (!(frames = tx_.put(side, frames)).empty()) flush_tx(side);
}

void Worker::drop(rte_mbuf* frame, DropReason reason) {
  counters_.dropped.add();
  counters_.drops[static_cast<size_t>(reason)].add();
  rte_pktmbuf_free(frame);
}

void Worker::hand_over(rte_mbuf* frame, Side side, WorkerId to) {
  if (handoff_ == nullptr || !handoff_->send(to, frame, side)) return drop(frame, DropReason::kHandoffFull);
  counters_.handed_out.add();
}

}  // namespace synfluid::gateway
