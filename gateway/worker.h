// One worker: moves frames between two ports and the VMs of their flows.
//
//     turn():  ┌ spawner's replies ┐
//              │ port bursts       │─▶ glance ─▶ look up ─▶ decide (SYNs without an entry) ─▶ act ─▶ account
//              │ other workers     │                                                          │
//              │ busy vifs         │─▶ parse ─▶ look up ─▶ guard ─────────────────────────────┘
//              └ timers            ┘                                    flush vifs, flush ports
//
// A worker shares nothing: its flow table, vifs, held frames and counters are its own. It speaks with the
// spawner and with other workers by rings, reads the plan by RCU, and reads each clock once a turn (and once
// more per vif burst while an answer is awaited). Nothing on the path allocates, locks, logs or makes a
// system call; a SYN that is given a VM may.
//
// Two clocks. Traffic time rules what depends on the traffic alone: admission and idleness. Waiting time
// rules how long a VM may take. They are the same clock on the wire; a replay has the trace's own time for
// the first.
//
// Threads: all calls from the worker's thread, except counters(), turns(), table_stats() and wake().
// Ownership: a worker owns its frames and vifs; all it was given by reference outlives it. Errors: create()
// tells; afterwards there are only verdicts and counters.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "backend/guest_link.h"
#include "base/clock.h"
#include "base/drop_reason.h"
#include "flowtable/flow_table.h"
#include "gateway/burst.h"
#include "gateway/flow_data.h"
#include "gateway/flow_observer.h"
#include "gateway/handoff.h"
#include "gateway/held_frames.h"
#include "gateway/packet_io.h"
#include "gateway/plan.h"
#include "gateway/sleeper.h"
#include "gateway/spawn_port.h"
#include "gateway/syn_challenge.h"
#include "gateway/tx_buffer.h"
#include "gateway/vif_slots.h"
#include "gateway/worker_counters.h"
#include "spawner/admission.h"

namespace synfluid::gateway {

struct WorkerConfig {
  WorkerId id;
  PacketIo& io;
  rte_mempool& pool;  ///< for frames from VMs: room for backend::kMaxFrameBytes
  const PlanBox& plans;
  const Clock& traffic_clock;
  const Clock& waiting_clock;
  spawner::Admission& admission;
  SpawnPort* spawner = nullptr;  ///< without one, every service fails over to its on_failure
  backend::DoorbellSet* doorbells = nullptr;
  Handoff* handoff = nullptr;  ///< the other workers, if there are any
  FlowObserver* observer = nullptr;
  uint32_t flow_capacity = 65'536;
  uint32_t held_frames = 16'384;
  uint32_t vif_slots = 32'768;  ///< more than there are domain ids
  flowtable::Secret secret{};
  /// Unproven addresses are challenged while VMs run short. Clients of a capture cannot answer.
  std::optional<SipKey> challenge_secret = {};
};

class Worker {
 public:
  static Result<std::unique_ptr<Worker>> create(const WorkerConfig& config);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  /// One turn. Returns how many frames and messages it moved; 0 says that there was nothing to do.
  size_t turn();

  /// Sleeps until a doorbell, the spawner or wake() calls, but no longer than `longest_ns`.
  void sleep(int64_t longest_ns);
  /// All that may come for this worker ends its sleep: it need not look by itself but for its timers.
  bool is_called() const noexcept;
  /// Ends a sleep(). From any thread.
  void wake() noexcept { sleeper_.wake(); }

  /// Ends every flow and gives every vif back; frames held for `on_failure: bypass` are let through, the
  /// others dropped. Requests under way are waited for by further turns; stopped() says when all is given
  /// back.
  void begin_stop();
  bool stopped() const noexcept;

  const WorkerCounters& counters() const noexcept { return counters_; }
  flowtable::TableStats table_stats() const noexcept { return table_->stats(); }
  /// Turns begun. When it has grown twice since a plan was published, the old plan is not in use.
  uint64_t turns() const noexcept { return turns_.load(std::memory_order_acquire); }

  /// Flows that wait for their VM or its answer.
  uint32_t pending() const noexcept;
  /// Some flow waits for a VM, for its answer, or for its VM's last frames.
  bool waits() const noexcept { return waiting_head_ != kNone; }
  /// Frames that wait for room in a VM's receive ring.
  uint32_t backlogged() const noexcept { return backlogged_; }
  /// Requests to the spawner without a reply yet.
  uint32_t requests_open() const noexcept { return requests_open_; }

  /// One flow as `ctl flows` shows it.
  struct FlowLine {
    FlowKey key;
    flowtable::FlowState state;
    FlowData data;
    spawner::VmId vm;
    bool has_vm;
  };
  /// Up to `most` flows. Between turns.
  std::vector<FlowLine> list_flows(size_t most) const;

 private:
  using FlowIndex = flowtable::FlowIndex;
  using FlowState = flowtable::FlowState;

  /// A request under way: keeps the SYN that the spawner reads.
  struct Request {
    rte_mbuf* syn = nullptr;
    FlowIndex flow = flowtable::kNoFlow;
    uint32_t flow_generation = 0;
    uint32_t serial = 0;
    uint32_t slot = kNone;
  };
  struct ScopeKeyHash {
    size_t operator()(const ScopeKey& key) const noexcept;
  };

  Worker(const WorkerConfig& config, std::unique_ptr<flowtable::FlowTable> table, Sleeper sleeper);

  // worker.cc: the turn
  size_t receive_ports();
  size_t receive_handed_over();
  void receive(Side side, Burst& burst);
  void glance(Burst& burst);
  uint8_t glance_by_parsing(Burst& burst, size_t i);
  void narrow(Burst& burst);
  void finish(Burst& burst);
  void dispatch(Burst& burst);
  void act_or_decide(Burst& burst, size_t i);
  void run_timers();
  void end_turn();
  void flush_tx(Side side);

  // worker_decide.cc: SYNs without an entry
  void decide(rte_mbuf* frame, const ParsedPacket& packet, Side side, bool handed_over);
  void summon(rte_mbuf* frame, const ParsedPacket& syn, Side side, const policies::Verdict& verdict,
              bool handed_over);
  bool must_prove_itself(const ParsedPacket& syn) const;
  void challenge(rte_mbuf* frame, const ParsedPacket& syn, Side side);
  void refuse(rte_mbuf* frame, const ParsedPacket& syn, Side side, const policies::Verdict& verdict,
              DropReason why);
  void remember_passing(const ParsedPacket& syn);
  FlowIndex new_flow(const ParsedPacket& syn, Side side, const policies::Verdict& verdict);
  void table_full(rte_mbuf* frame, const ParsedPacket& syn, Side side, const policies::Verdict& verdict);
  bool ask_spawner(FlowIndex flow, spawner::AdmissionTicket ticket);
  uint32_t find_shared(uint16_t service, policies::Scope scope, const Address& subscriber) const;
  static ScopeKey scope_key(uint32_t generation, uint16_t service, policies::Scope scope,
                            const Address& subscriber);

  // worker_act.cc: frames of known flows, from the ports
  void act(FlowIndex flow, rte_mbuf* frame, const ParsedPacket& packet, Side side, bool handed_over);
  void pass(FlowIndex flow, rte_mbuf* frame, const ParsedPacket& packet, Side side, bool handed_over);
  void act_closing(FlowIndex flow, rte_mbuf* frame, const ParsedPacket& packet, Side side, bool handed_over);
  static bool speaks_to_vm(const FlowData& flow, Side side);
  void hold(FlowIndex flow, rte_mbuf* frame, Side side);
  void to_vm(FlowIndex flow, rte_mbuf* frame, const ParsedPacket& packet, Side side);
  void send_or_queue(uint32_t slot, rte_mbuf* frame, Side side);
  void deliver_held(FlowIndex flow);
  void flush_backlog(uint32_t slot);
  void mark_dirty(uint32_t slot);
  void refuse_known(FlowIndex flow, rte_mbuf* frame, const ParsedPacket& packet, Side side);
  void send_reset(rte_mbuf* frame, const ParsedPacket& packet, Side side);
  template <class Write>
  void craft(Side side, Write write);
  void transmit(Side side, rte_mbuf* frame) { transmit(side, std::span(&frame, 1)); }
  void transmit(Side side, std::span<rte_mbuf*> frames);
  void drop(rte_mbuf* frame, DropReason reason);
  void hand_over(rte_mbuf* frame, Side side, WorkerId to);

  // worker_vm.cc: the spawner's messages, and frames from VMs
  size_t take_messages();
  void take_reply(spawner::SpawnReply& reply);
  void install(uint32_t slot, spawner::SpawnReply& reply);
  void vm_served(FlowIndex flow, uint32_t slot, const spawner::SpawnReply& reply);
  void vm_shared(FlowIndex flow, spawner::SpawnReply& reply);
  void ask_again(FlowIndex flow, spawner::AdmissionTicket ticket);
  void join(FlowIndex flow, uint32_t slot);
  void flow_elsewhere(FlowIndex flow, spawner::SpawnReply& reply);
  void attach(FlowIndex flow, uint32_t slot);
  void vm_lost(const spawner::VmLost& lost);
  void ring_doorbells();
  size_t poll_vifs();
  size_t poll_vif(uint32_t slot);
  void forward(uint32_t slot, VmBurst& burst);
  void from_vm(uint32_t slot, rte_mbuf* frame, const ParsedPacket& packet, FlowIndex flow);
  void answered(FlowIndex flow);

  // worker_flows.cc: ends, failures, lists
  void close(FlowIndex flow, FlowEnd end);
  void close_now(FlowIndex flow, FlowEnd end);
  void fail(FlowIndex flow, DropReason why);
  void erase(FlowIndex flow, FlowEnd end);
  void detach(FlowIndex flow);
  void detach_only(FlowIndex flow);
  void release_held(FlowIndex flow);
  void return_vm(uint32_t slot);
  void give_back(spawner::VmReturn vm);
  void lose_vm(uint32_t slot, DropReason why);
  void start_waiting(FlowIndex flow, int64_t deadline_ns);
  void stop_waiting(FlowIndex flow);
  void check_waiting();
  void expire_flows();
  void return_idle_vms();

  FlowState state(FlowIndex flow) const { return table_->value(flow).state; }
  FlowData& data(FlowIndex flow) { return flows_[flow]; }
  bool is_passing(FlowIndex flow) const { return (table_->value(flow).flags & flow_bit::kPassing) != 0; }
  void set_state(FlowIndex flow, FlowState state) { table_->set_state(flow, state, now_ns_); }

  // Constant after construction.
  const WorkerId id_;
  PacketIo& io_;
  rte_mempool& pool_;
  const PlanBox& plans_;
  const Clock& traffic_clock_;
  const Clock& waiting_clock_;
  spawner::Admission& admission_;
  SpawnPort* const spawner_;
  backend::DoorbellSet* const doorbells_;
  Handoff* const handoff_;
  FlowObserver* const observer_;
  const std::unique_ptr<flowtable::FlowTable> table_;

  // The worker's own.
  std::vector<FlowData> flows_;
  std::optional<SynChallenge> challenge_;
  HeldFrames held_;
  VifSlots slots_;
  TxBuffer tx_;
  Sleeper sleeper_;
  std::vector<Request> requests_;
  std::vector<uint32_t> free_requests_;
  std::vector<spawner::VmReturn> returns_;  ///< for which the ring had no room
  std::vector<uint32_t> dirty_;             ///< slots to flush at the end of the turn
  std::unordered_map<ScopeKey, uint32_t, ScopeKeyHash> shared_slots_;
  uint32_t waiting_head_ = kNone;
  uint32_t backlogged_ = 0;
  uint32_t requests_open_ = 0;
  uint32_t version_ = 0;  ///< grows when the table changes: a burst's look-ups may then be stale
  uint32_t polls_since_doorbells_ = 0;
  bool stopping_ = false;
  const Plan* plan_ = nullptr;
  int64_t now_ns_ = 0;              ///< traffic time
  int64_t wait_now_ns_ = 0;         ///< waiting time
  int64_t next_check_ns_ = 0;       ///< waiting time
  int64_t next_idle_check_ns_ = 0;  ///< traffic time
  WorkerCounters counters_;
  std::atomic<uint64_t> turns_{0};
};

}  // namespace synfluid::gateway
