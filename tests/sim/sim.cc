#include "tests/sim/sim.h"

#include <array>
#include <cstring>

#include <rte_mempool.h>

namespace synfluid::gateway::testing {

namespace {

constexpr uint32_t kPoolFrames = 1023;
/// Many more turns than any exchange needs.
constexpr int kMostTurns = 10'000;
constexpr int64_t kStepNs = 5 * kNsPerMs;

Address address(bool v6, uint8_t net, uint8_t host) {
  if (!v6)
    return Address::from_v4(std::array<uint8_t, 4>{net, net == 10 ? uint8_t{20} : uint8_t{51}, 0, host});
  return Address::from_v6(
      std::array<uint8_t, 16>{0x20, 0x01, 0x0d, 0xb8, net, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host});
}

std::array<std::byte, 14> link_header(bool v6, uint8_t mac) {
  std::array<std::byte, 14> header{};
  header[0] = header[6] = std::byte{2};
  header[5] = static_cast<std::byte>(3 - mac);
  header[11] = static_cast<std::byte>(mac);
  header[12] = v6 ? std::byte{0x86} : std::byte{0x08};
  header[13] = v6 ? std::byte{0xdd} : std::byte{0x00};
  return header;
}

}  // namespace

Eal& environment() {
  static const std::unique_ptr<Eal> eal = [] {
    auto started = Eal::start({.hugepages = EalConfig::Hugepages::kOff, .memory_mib = 64});
    if (!started) ADD_FAILURE() << started.error().text();
    return std::move(*started);
  }();
  return *eal;
}

Endpoint Wire::client_end() const {
  return {address(v6, 10, client), client_port};
}
Endpoint Wire::server_end() const {
  return {address(v6, 198, server), server_port};
}

Frame Wire::frame(const Endpoint& source, const Endpoint& destination, const Tcp& tcp, uint8_t mac) const {
  const auto link = link_header(v6, mac);
  TcpFrame spec;
  spec.link_header = link;
  spec.ip_version = v6 ? 6 : 4;
  spec.source = source;
  spec.destination = destination;
  spec.seq = tcp.seq;
  spec.ack = tcp.ack;
  spec.flags = tcp.flags;
  spec.window = 65535;
  spec.payload = std::as_bytes(std::span(tcp.payload));
  Frame bytes(kMaxTcpHeaders + tcp.payload.size());
  bytes.resize(write_tcp_frame(spec, bytes));
  return bytes;
}

FakeIo::~FakeIo() {
  for (auto& queue : in_)
    for (rte_mbuf* frame : queue) rte_pktmbuf_free(frame);
}

void FakeIo::put(Side side, const Frame& frame) {
  rte_mbuf* const mbuf = rte_pktmbuf_alloc(&pool_);
  ASSERT_NE(mbuf, nullptr);
  std::memcpy(rte_pktmbuf_append(mbuf, static_cast<uint16_t>(frame.size())), frame.data(), frame.size());
  in_[index_of(side)].push_back(mbuf);
}

std::vector<Frame> FakeIo::take(Side side) {
  return std::exchange(out_[index_of(side)], {});
}

size_t FakeIo::rx_burst(Side side, std::span<rte_mbuf*> out) noexcept {
  auto& queue = in_[index_of(side)];
  size_t got = 0;
  for (; got < out.size() && !queue.empty(); queue.pop_front()) out[got++] = queue.front();
  return got;
}

size_t FakeIo::tx_burst(Side side, std::span<rte_mbuf*> frames) noexcept {
  size_t sent = 0;
  for (; sent < frames.size() && tx_room > 0; ++sent, --tx_room) {
    const auto bytes = bytes_of(frames[sent]);
    out_[index_of(side)].emplace_back(bytes.begin(), bytes.end());
    rte_pktmbuf_free(frames[sent]);
  }
  return sent;
}

Frame Guest::receive() {
  Frame frame = front_.receive();
  if (!frame.empty()) front_.post(1);
  return frame;
}

std::vector<Frame> Guest::receive_all() {
  std::vector<Frame> frames;
  for (Frame frame = receive(); !frame.empty(); frame = receive()) frames.push_back(std::move(frame));
  return frames;
}

Sim::Sim() {
  environment();
  auto pool = make_pool({.name = "sim", .frames = kPoolFrames, .frame_bytes = backend::kMaxFrameBytes});
  if (!pool) ADD_FAILURE() << pool.error().text();
  pool_ = std::move(*pool);
}

Sim::~Sim() {
  for (auto& worker : workers_) worker->begin_stop();
  spawner_runs_ = true;
  run();
  for (auto& worker : workers_) EXPECT_TRUE(worker->stopped()) << "a VM was not given back";
  expect_balance();
  for (auto& worker : workers_) EXPECT_EQ(worker->counters().held.get(), 0u);
  workers_.clear();
  ports_.clear();
  mesh_.reset();
  plans_.reset();
  spawner_.reset();
  ios_.clear();
  EXPECT_EQ(hypervisor_.live, 0u) << "guests are left";
  if (admission_) {
    EXPECT_EQ(admission_->vms(), 0u) << "tickets are left";
  }
  EXPECT_EQ(rte_mempool_in_use_count(pool_.get()), 0u) << "frames are lost";
}

policies::PolicySpec Sim::one_service(ServiceMode mode, OnFailure on_failure, Scope scope) {
  policies::PolicySpec spec;
  policies::Service service;
  service.name = "service";
  service.image = "builtin:responder";
  service.mode = mode;
  service.scope = scope;
  service.on_failure = on_failure;
  service.idle_timeout_ns = 10 * kNsPerSecond;
  service.answer_timeout_ns = 2 * kNsPerSecond;
  spec.services = {service};
  policies::Rule rule;
  rule.name = "web";
  rule.match.destination_ports = {{80, 80}};
  rule.verdict = {Verdict::Kind::kService, 0, 0};
  spec.rules = {rule};
  spec.limits.hold_time_ns = 1 * kNsPerSecond;
  spec.limits.held_packets = 4;
  return spec;
}

void Sim::start(const SimConfig& config) {
  auto policy = std::make_shared<const policies::Policy>(config.policy);
  admission_ = std::make_unique<spawner::Admission>(
      spawner::Admission::Config{.limits = policy->limits(), .subscriber_cells = 1024, .hash_key = {{1, 2}}});
  auto spawner = spawner::Spawner::create({.hypervisor = hypervisor_,
                                           .clock = clock_,
                                           .workers = config.workers,
                                           .requests = 64,
                                           .returns = 1024});
  ASSERT_TRUE(spawner);
  spawner_ = std::move(*spawner);
  auto services = spawner_->prepare(policy);
  ASSERT_TRUE(services) << services.error().text();
  spawner_->activate(*services);
  plans_ = std::make_unique<PlanBox>(Plan{.services = *services});
  mesh_ = std::make_unique<HandoffMesh>(config.workers);
  for (uint16_t w = 0; w < config.workers; ++w) {
    ios_.push_back(std::make_unique<FakeIo>(*pool_));
    ports_.push_back(std::make_unique<SpawnerPort>(spawner_->port(WorkerId(w))));
    auto made = Worker::create({.id = WorkerId(w),
                                .io = *ios_.back(),
                                .pool = *pool_,
                                .plans = *plans_,
                                .traffic_clock = clock_,
                                .waiting_clock = clock_,
                                .admission = *admission_,
                                .spawner = ports_.back().get(),
                                .handoff = &mesh_->end(w),
                                .observer = &events_,
                                .flow_capacity = config.flow_capacity,
                                .held_frames = config.held_frames,
                                .vif_slots = 1024,
                                .secret = {3, 4},
                                .challenge_secret = config.challenge_secret});
    ASSERT_TRUE(made) << made.error().text();
    workers_.push_back(std::move(*made));
  }
}

void Sim::run() {
  for (int turn = 0; turn < kMostTurns; ++turn) {
    size_t moved = 0;
    for (auto& worker : workers_) moved += worker->turn();
    if (spawner_runs_ && spawner_ && spawner_->step()) ++moved;
    if (moved == 0) return;
  }
  ADD_FAILURE() << "it never comes to rest";
}

void Sim::pass(int64_t ns) {
  for (int64_t left = ns; left > 0; left -= kStepNs) {
    clock_.advance(std::min(left, kStepNs));
    run();
  }
}

Guest& Sim::summon(const Wire& wire) {
  put(Side::kAccess, wire.from_client({}));
  run();
  return guest(guests() - 1);
}

Guest& Sim::connect(const Wire& wire) {
  Guest& made = summon(wire);
  EXPECT_EQ(made.receive(), wire.from_client({}));
  made.send(wire.from_server({.flags = tcp_flag::kSyn | tcp_flag::kAck, .seq = 5000, .ack = 1001}));
  run();
  EXPECT_EQ(take(Side::kAccess).size(), 1u);
  put(Side::kAccess, wire.from_client({.flags = tcp_flag::kAck, .seq = 1001, .ack = 5001}));
  run();
  EXPECT_EQ(made.receive_all().size(), 1u);
  return made;
}

Guest& Sim::guest(size_t number) {
  return guests_.try_emplace(number, hypervisor_.guests.at(number)).first->second;
}

void Sim::expect_balance() {
  for (size_t w = 0; w < workers_.size(); ++w)
    EXPECT_EQ(workers_[w]->counters().balance(), 0) << "worker " << w << " has lost count of its frames";
}

void Sim::reload(policies::PolicySpec spec) {
  auto policy = std::make_shared<const policies::Policy>(std::move(spec));
  auto services = spawner_->prepare(policy);
  ASSERT_TRUE(services);
  plans_->publish({.services = *services});
  spawner_->activate(*services);
  run();
  plans_->forget_old();
}

void Sim::drain() {
  plans_->publish({.services = plans_->get().services, .admits_new_vms = false});
  spawner_->drain();
  run();
}

ParsedPacket parsed(const Frame& frame) {
  return parse_packet(frame);
}

}  // namespace synfluid::gateway::testing
