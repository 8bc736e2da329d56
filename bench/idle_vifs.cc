#include "bench/idle_vifs.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <iostream>
#include <latch>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include "backend/process/process_link.h"
#include "backend/vif.h"
#include "base/clock.h"
#include "bench/cpus.h"
#include "gateway/vif_slots.h"
#include "guest/net/netfront.h"
#include "spawner/shared_area.h"

namespace synfluid::bench {
namespace {

constexpr uint32_t kBusy = 10;
constexpr size_t kBurst = 32;
constexpr uint32_t kWindow = 32;  ///< frames under way to one guest and back
constexpr uint32_t kBuffers = 64;
constexpr uint32_t kPosted = 32;
constexpr size_t kFrameBytes = 60;
/// As in gateway/worker_vm.cc.
constexpr uint32_t kTurnsBetweenDoorbells = 16;
constexpr uint32_t kQuietPolls = 64;
/// A sample is made of so many short ones, so that what disturbs one of two that are compared spoils few.
constexpr int kShorter = 5;
constexpr int64_t kPatienceNs = 2 * kNsPerSecond;
constexpr uint64_t kDescriptorsPerVif = 2;
constexpr uint64_t kOtherDescriptors = 128;
constexpr size_t kAreaBytes = size_t{abi::shared_pages(kBuffers)} * abi::kPageBytes;

/// How many descriptors there may be, after asking for `wanted`.
uint64_t raise_descriptor_limit(uint64_t wanted) {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_cur >= wanted) return limit.rlim_cur;
  const rlimit raised{.rlim_cur = wanted, .rlim_max = std::max<rlim_t>(wanted, limit.rlim_max)};
  if (setrlimit(RLIMIT_NOFILE, &raised) == 0) return wanted;
  limit.rlim_cur = std::min<rlim_t>(wanted, limit.rlim_max);
  return setrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : 0;
}

/// A guest that sends every frame back from the page it came in.
class EchoGuest final : public guest::Platform {
 public:
  EchoGuest(std::shared_ptr<const backend::SharedMemory> area, int doorbell)
      : area_(std::move(area)), doorbell_(doorbell), netfront_(*this, kPosted) {}

  void turn() {
    guest::net::RxFrame frame;
    netfront_.reap();
    while (netfront_.receive(frame))
      if (!netfront_.forward(frame)) netfront_.recycle(frame);
    netfront_.flush();
  }

  uint64_t now_ns() override { return 0; }
  uint64_t started_ns() override { return 0; }
  void wait(uint64_t) override {}
  void ring_host() override {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = write(doorbell_, &one, sizeof one);
  }
  void halt(const char* note) override { throw std::runtime_error(note); }
  std::byte* shared_area() override { return area_->bytes().data(); }
  std::span<std::byte> memory() override { return {}; }

 private:
  const std::shared_ptr<const backend::SharedMemory> area_;
  const int doorbell_;
  guest::net::Netfront netfront_;
};

/// The vifs of one worker, and what it does with them in a turn.
class Herd {
 public:
  static Result<std::unique_ptr<Herd>> make(uint32_t vifs) {
    auto doorbells = backend::ProcessDoorbells::create();
    if (!doorbells) return doorbells.error();
    std::unique_ptr<Herd> herd(new Herd(vifs, std::move(*doorbells)));
    for (uint32_t i = 0; i < vifs; ++i)
      if (Status added = herd->add(i); !added) return added.error();
    return herd;
  }

  /// Other vifs are busy from now on, spread over all.
  void choose(uint32_t round) {
    for (uint32_t i = 0; i < kBusy; ++i) chosen_[i] = (i * slots_.size() / kBusy + round) % slots_.size();
    under_way_ = {};
    guests_.clear();
    for (const uint32_t slot : chosen_) {
      Parts& parts = parts_[slot];
      if (!parts.guest) parts.guest = std::make_unique<EchoGuest>(parts.area, parts.doorbell);
      guests_.push_back(parts.guest.get());
    }
  }
  const std::vector<EchoGuest*>& guests() const { return guests_; }

  /// One turn; how many frames came back.
  size_t turn(bool sends) {
    for (uint32_t i = 0; sends && i < kBusy; ++i) send(i);
    ring_doorbells();
    const size_t received = poll();
    for (const uint32_t slot : chosen_) slots_[slot].vif->flush();
    return received;
  }
  bool is_quiet() const { return slots_.busy().empty() && std::ranges::count(under_way_, 0u) == kBusy; }

 private:
  struct Parts {
    std::shared_ptr<backend::SharedMemory> area;
    int doorbell = -1;  ///< the link's; the guest rings it
    uint32_t chosen_as = 0;
    std::unique_ptr<EchoGuest> guest;
  };

  Herd(uint32_t vifs, std::unique_ptr<backend::ProcessDoorbells> doorbells)
      : doorbells_(std::move(doorbells)), slots_(vifs), parts_(vifs) {}

  Status add(uint32_t number) {
    auto area = backend::SharedMemory::create("idle-vifs", kAreaBytes);
    if (!area) return area.error();
    area->close_fd();
    auto to_guest = backend::make_doorbell_fd();
    if (!to_guest) return to_guest.error();
    auto from_guest = backend::make_doorbell_fd();
    if (!from_guest) return from_guest.error();
    spawner::lay_out_shared_area(area->bytes(), {.buffers = kBuffers, .rx_posted = kPosted});
    Parts& parts = parts_[number];
    parts.area = std::make_shared<backend::SharedMemory>(std::move(*area));
    parts.doorbell = from_guest->get();
    const uint32_t slot = slots_.reserve();
    auto link = backend::make_process_link({.area = parts.area,
                                            .to_guest = std::move(*to_guest),
                                            .from_guest = std::move(*from_guest),
                                            .token = slot},
                                           *doorbells_);
    if (!link) return link.error();
    slots_[slot].state = gateway::VifSlot::State::kLive;
    slots_[slot].vif = std::make_unique<backend::Vif>(std::move(*link));
    slots_[slot].vif->arm();
    return {};
  }

  void send(uint32_t i) {
    backend::Vif& vif = *slots_[chosen_[i]].vif;
    for (size_t sent = 0; sent < kBurst && under_way_[i] < kWindow && vif.send(frame_); ++sent)
      ++under_way_[i];
    parts_[chosen_[i]].chosen_as = i;
  }

  void ring_doorbells() {
    if (++turns_since_doorbells_ < kTurnsBetweenDoorbells) return;
    turns_since_doorbells_ = 0;
    std::array<backend::DoorbellToken, kBurst> tokens;
    size_t rung = 0;
    do {
      rung = doorbells_->collect(tokens);
      for (size_t i = 0; i < rung; ++i) slots_.set_busy(tokens[i]);
    } while (rung == tokens.size());
  }

  size_t poll() {
    size_t moved = 0;
    for (size_t i = slots_.busy().size(); i-- > 0;) {
      const uint32_t number = slots_.busy()[i];
      gateway::VifSlot& slot = slots_[number];
      size_t received = 0;
      while (received < kBurst && slot.vif->receive(buffer_) > 0) ++received;
      moved += received;
      under_way_[parts_[number].chosen_as] -= static_cast<uint32_t>(received);
      if (received > 0) slot.quiet_polls = 0;
      if (received > 0 || ++slot.quiet_polls < kQuietPolls) continue;
      slot.vif->flush();
      if (!slot.vif->arm()) slots_.set_quiet(number);
    }
    return moved;
  }

  // The slots' links leave the doorbells when they go.
  std::unique_ptr<backend::ProcessDoorbells> doorbells_;
  gateway::VifSlots slots_;
  std::vector<Parts> parts_;
  std::array<uint32_t, kBusy> chosen_{};
  std::array<uint32_t, kBusy> under_way_{};
  std::vector<EchoGuest*> guests_;
  uint32_t turns_since_doorbells_ = 0;
  std::array<std::byte, kFrameBytes> frame_{};
  std::array<std::byte, backend::kMaxFrameBytes> buffer_;
};

/// Runs the guests while it lives.
class GuestThread {
 public:
  GuestThread(const std::vector<EchoGuest*>& guests, int cpu)
      : thread_([this, &guests, cpu] {
          run_on(cpu);
          there_.count_down();
          while (!stop_.load(std::memory_order_relaxed))
            for (EchoGuest* const guest : guests) guest->turn();
        }) {
    there_.wait();  // asleep: this thread spins on a CPU that the new one has yet to leave
  }
  ~GuestThread() {
    stop_ = true;
    thread_.join();
  }
  GuestThread(const GuestThread&) = delete;
  GuestThread& operator=(const GuestThread&) = delete;

 private:
  std::latch there_{1};
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

/// M frames/s there and back.
Result<double> measure(Herd& herd, uint32_t round, const IdleVifsConfig& config) {
  const SteadyClock clock;
  // Under real-time priority the kernel keeps a twentieth of each second for others: it may have it here.
  std::this_thread::sleep_for(std::chrono::duration<double>(config.seconds / kShorter / 6));
  herd.choose(round);
  const GuestThread guests(herd.guests(), config.guests_cpu);
  const auto run = [&](double seconds) {
    const int64_t start = clock.now_ns();
    const int64_t end = start + static_cast<int64_t>(seconds * kNsPerSecond);
    uint64_t frames = 0;
    int64_t now = start;
    for (; now < end; now = clock.now_ns()) frames += herd.turn(true);
    return static_cast<double>(frames) / static_cast<double>(now - start) * 1e3;
  };
  run(config.seconds / kShorter / 3);
  const double rate = run(config.seconds / kShorter);
  for (const int64_t end = clock.now_ns() + kPatienceNs; !herd.is_quiet(); herd.turn(false))
    if (clock.now_ns() > end)
      return Error(ErrorCode::kTimeout, "frames got lost, or a vif never falls quiet");
  return rate;
}

}  // namespace

Status measure_idle_vifs(Report& report, const IdleVifsConfig& config) {
  const uint64_t wanted = kDescriptorsPerVif * (config.vifs + kBusy) + kOtherDescriptors;
  const uint64_t limit = raise_descriptor_limit(wanted);
  if (limit < kDescriptorsPerVif * 2 * kBusy + kOtherDescriptors)
    return Error(ErrorCode::kExhausted, fmt::format("{} descriptors are too few", limit));
  const auto vifs = static_cast<uint32_t>((limit - kOtherDescriptors) / kDescriptorsPerVif - kBusy);
  if (vifs < config.vifs)
    std::cerr << fmt::format("netback: descriptors for {} vifs, not {}\n", vifs, config.vifs);
  auto few = Herd::make(kBusy);
  if (!few) return few.error();
  auto many = Herd::make(std::min(vifs, config.vifs));
  if (!many) return many.error();
  run_on(config.our_cpu);
  std::vector<double> alone, ratios;
  for (int round = 0; round < config.rounds * kShorter; ++round) {
    // Taking turns at being first.
    std::array<Herd*, 2> herds{few->get(), many->get()};
    std::array<double, 2> rates{};
    for (size_t i = 0; i < 2; ++i) {
      const size_t which = (i + static_cast<size_t>(round)) % 2;
      auto rate = measure(*herds[which], static_cast<uint32_t>(round), config);
      if (!rate) return rate.error();
      rates[which] = *rate;
    }
    alone.push_back(rates[0]);
    ratios.push_back(rates[1] / rates[0]);
  }
  report.set_parameter("idle_vifs", std::min(vifs, config.vifs));
  report.set_parameter("busy_vifs", kBusy);
  report.add(Figure::of("busy_vifs_alone", "M/s", alone));
  report.add(Figure::of("idle_vifs", "x", ratios));
  return {};
}

}  // namespace synfluid::bench
