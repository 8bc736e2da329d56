// A worker driven turn by turn: frames go in and come out by hand, time stands still until it is moved, the
// spawner takes its steps in between, and the guests are memory that a test reads and writes as their front
// end would.
//
// After each test the books must balance, and nothing may be left: no guest, no ticket, no frame of the pool.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include <gtest/gtest.h>

#include "backend/vif.h"
#include "gateway/eal.h"
#include "gateway/handoff.h"
#include "gateway/tcp_frame.h"
#include "gateway/worker.h"
#include "tests/unit/spawner/fake_hypervisor.h"

namespace synfluid::gateway::testing {

using Frame = std::vector<std::byte>;
using policies::OnFailure;
using policies::Scope;
using policies::ServiceMode;
using policies::Verdict;

/// What a test says of a TCP packet.
struct Tcp {
  uint8_t flags = tcp_flag::kSyn;
  uint32_t seq = 1000;
  uint32_t ack = 0;
  std::string payload = {};
};

/// A connection from a subscriber (10.20.0.client) to 198.51.100.server, port `service`.
struct Wire {
  uint8_t client = 1;
  uint8_t server = 80;
  uint16_t client_port = 40000;
  uint16_t server_port = 80;
  bool v6 = false;

  Endpoint client_end() const;
  Endpoint server_end() const;
  FlowKey key() const { return make_flow_key(client_end(), server_end(), {}).key; }
  Frame from_client(const Tcp& tcp) const { return frame(client_end(), server_end(), tcp, 1); }
  Frame from_server(const Tcp& tcp) const { return frame(server_end(), client_end(), tcp, 2); }

 private:
  Frame frame(const Endpoint& source, const Endpoint& destination, const Tcp& tcp, uint8_t mac) const;
};

/// Both ports of one worker.
class FakeIo final : public PacketIo {
 public:
  explicit FakeIo(rte_mempool& pool) : pool_(pool) {}
  ~FakeIo() override;
  void put(Side side, const Frame& frame);
  /// All that has left by `side` since the last call.
  std::vector<Frame> take(Side side);
  size_t rx_burst(Side side, std::span<rte_mbuf*> out) noexcept override;
  size_t tx_burst(Side side, std::span<rte_mbuf*> frames) noexcept override;

  size_t tx_room = SIZE_MAX;  ///< frames that the ports still take

 private:
  rte_mempool& pool_;
  std::deque<rte_mbuf*> in_[kSides];
  std::vector<Frame> out_[kSides];
};

/// Keeps what it is told.
struct Events final : FlowObserver {
  struct Vm {
    spawner::VmId vm;
    bool shared;
  };
  std::vector<SynFate> fates;
  std::vector<std::optional<DropReason>> refusals;
  std::vector<Vm> vms;
  int answers = 0;
  std::vector<DropReason> failures;
  std::vector<FlowEnd> ends;

  void on_syn(const ParsedPacket&, const Verdict&, SynFate fate, std::optional<DropReason> refusal) override {
    fates.push_back(fate);
    refusals.push_back(refusal);
  }
  void on_vm(const FlowKey&, spawner::VmId vm, bool, bool shared, int64_t) override {
    vms.push_back({vm, shared});
  }
  void on_answer(const FlowKey&, int64_t) override { ++answers; }
  void on_failure(const FlowKey&, OnFailure, DropReason why) override { failures.push_back(why); }
  void on_end(const FlowKey&, const FlowData&, FlowEnd end) override { ends.push_back(end); }
};

/// One guest as its front end sees it.
class Guest {
 public:
  explicit Guest(std::shared_ptr<spawner::testing::FakeGuest> guest)
      : guest_(std::move(guest)), front_(guest_->memory) {
    // The builder has posted two buffers already, and there may be a frame in them: the model only has to
    // know.
    const abi::NetRxRing as_laid_out = guest_->memory.rx();
    front_.post(2);
    guest_->memory.rx() = as_laid_out;
  }
  /// The next frame it was given; its buffer is posted again. Empty: there is none.
  Frame receive();
  std::vector<Frame> receive_all();
  /// Takes frames without posting their buffers again: a guest that is too slow.
  Frame receive_and_keep() { return front_.receive(); }
  void send(const Frame& frame) {
    front_.tx_statuses();
    front_.transmit(frame);
  }
  bool destroyed() const { return guest_->destroyed; }
  spawner::VmId id() const { return guest_->id; }
  backend::testing::GuestMemory& memory() { return guest_->memory; }

 private:
  const std::shared_ptr<spawner::testing::FakeGuest> guest_;
  backend::testing::FrontEnd front_;
};

struct SimConfig {
  policies::PolicySpec policy = {};
  uint16_t workers = 1;
  uint32_t flow_capacity = 4096;
  uint32_t held_frames = 256;
  std::optional<SipKey> challenge_secret = {};
};

class Sim : public ::testing::Test {
 protected:
  Sim();
  ~Sim() override;

  void start(const SimConfig& config);
  /// One service for port 80, per flow unless changed.
  static policies::PolicySpec one_service(ServiceMode mode, OnFailure on_failure = OnFailure::kBypass,
                                          Scope scope = Scope::kFlow);

  /// Workers and spawner, until none of them has anything to do.
  void run();
  /// Moves time on, in steps short enough for every timer, and runs.
  void pass(int64_t ns);
  void put(Side side, const Frame& frame, uint16_t worker = 0) { ios_[worker]->put(side, frame); }
  std::vector<Frame> take(Side side, uint16_t worker = 0) { return ios_[worker]->take(side); }
  FakeIo& io(uint16_t worker = 0) { return *ios_[worker]; }
  /// The SYN of `wire` goes in; its guest, with the SYN in its ring.
  Guest& summon(const Wire& wire);
  /// ... and has answered by a SYN/ACK, which the client has acknowledged.
  Guest& connect(const Wire& wire);
  Guest& guest(size_t number);
  size_t guests() const { return hypervisor_.guests.size(); }

  Worker& worker(uint16_t number = 0) { return *workers_[number]; }
  const WorkerCounters& counters(uint16_t number = 0) { return workers_[number]->counters(); }
  uint64_t drops(DropReason reason, uint16_t number = 0) {
    return counters(number).drops[static_cast<size_t>(reason)].get();
  }
  void expect_balance();
  void reload(policies::PolicySpec spec);
  void drain();

  ManualClock clock_{kNsPerSecond};
  spawner::testing::FakeHypervisor hypervisor_;
  Events events_;
  std::unique_ptr<spawner::Admission> admission_;
  std::unique_ptr<spawner::Spawner> spawner_;
  bool spawner_runs_ = true;

 private:
  MbufPool pool_;
  std::unique_ptr<PlanBox> plans_;
  std::unique_ptr<HandoffMesh> mesh_;
  std::vector<std::unique_ptr<FakeIo>> ios_;
  std::vector<std::unique_ptr<SpawnerPort>> ports_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::map<size_t, Guest> guests_;
};

ParsedPacket parsed(const Frame& frame);

/// DPDK, started once per process.
Eal& environment();

}  // namespace synfluid::gateway::testing
