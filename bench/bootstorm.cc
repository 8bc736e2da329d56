// How long until the n-th VM is there: guests are made one after the other, all are kept, each is given its
// SYN.
//
//   cold_create_ms    create() of a paused guest with its vif wired
//   start_ms          unpausing it; on one CPU the guest runs before we do again
//   cold_synack_ms    from the call of create() to the SYN/ACK out of the vif
//   pooled_synack_ms  the same for a guest that was made before: from the SYN to the SYN/ACK
//   growth            mean of the last tenth (at most 100) of cold_create_ms over the first
//   alive             guests that answer another SYN when all are there
//   work_ahead_ms     in an idle turn, one a guest, outside of the other figures: what the hypervisor does
//                     for guests to come, such as opening event channels, of which it keeps 1,024
//   destroy_ms        unmapping, unbinding and destroying one, the last first
//   kib_per_vm        what the guests cost Xen's free memory and dom0's
//   dom0_kib_per_vm   dom0's part of it
//   residue_*         domains and memory left when all are gone; the first, warming guests are the zero
//
// Runs in dom0 as root and says on standard error how far it is. The figures are of one core that dom0, Xen
// and the guests share.
#include <algorithm>
#include <array>
#include <functional>
#include <iostream>
#include <memory>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/instruction_clock.h"
#include "bench/lab_memory.h"
#include "bench/report.h"
#include "bench/syn_frame.h"
#include "bench/xen_guest.h"
#include "spawner/xen/xen_hypervisor.h"

namespace synfluid::bench {
namespace {

constexpr int64_t kPatienceNs = 5 * kNsPerSecond;
constexpr uint32_t kWarmUp = 3;
constexpr uint32_t kPool = 100;
constexpr uint32_t kProgressEvery = 1000;
constexpr uint32_t kHangUpEvery = 100;
constexpr useconds_t kSettleUs = 300'000;
constexpr useconds_t kHangUpUs = 50'000;

struct Options {
  uint32_t count = 100;
  uint64_t memory_kib = 256;
  std::string image = "builtin:responder";
  std::string json;
  bool lab_memory = false;
};

double mean(std::span<const double> values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

/// Minutes may pass between two figures.
void tell_progress(std::string_view what, size_t done) {
  if (done > 0 && done % kProgressEvery == 0) std::cerr << fmt::format("bootstorm: {} {}\n", done, what);
}

class Storm {
 public:
  Storm(const Options& options, std::unique_ptr<spawner::Hypervisor> hypervisor,
        std::unique_ptr<spawner::PreparedImage> image)
      : options_(options), hypervisor_(std::move(hypervisor)), image_(std::move(image)) {}

  Status run(Report& report) {
    if (auto status = warm_up(); !status) return status;
    const uint64_t xen_before = free_kib();
    const uint64_t dom0_before = dom0_available_kib();
    if (auto status = measure_cold(); !status) return status;
    const uint64_t xen_full = free_kib();
    const uint64_t dom0_full = dom0_available_kib();
    const uint32_t alive = count_alive();
    destroy_all();
    const uint64_t xen_after = free_kib();
    if (auto status = measure_pooled(); !status) return status;

    const double count = options_.count;
    const auto kib = [](uint64_t before, uint64_t after) {
      return static_cast<double>(before) - static_cast<double>(after);
    };
    const size_t edge = std::clamp<size_t>(cold_create_.size() / 10, 1, 100);
    const std::span<const double> all(cold_create_);
    const double growth = mean(all.last(edge)) / mean(all.first(edge));
    report.add(Figure::of("cold_create_ms", "ms", cold_create_));
    report.add(Figure::of("start_ms", "ms", start_));
    report.add(Figure::of("cold_synack_ms", "ms", cold_synack_));
    report.add(Figure::of("pooled_synack_ms", "ms", pooled_synack_));
    report.add(Figure::of("work_ahead_ms", "ms", work_ahead_));
    report.add(Figure::of("destroy_ms", "ms", destroy_));
    report.add(Figure::of(fmt::format("growth_{}", options_.count), "", {growth}));
    report.add(Figure::of("alive", "VMs", {static_cast<double>(alive)}));
    const double dom0_kib = kib(dom0_before, dom0_full);
    report.add(Figure::of("kib_per_vm", "KiB", {(kib(xen_before, xen_full) + dom0_kib) / count}));
    report.add(Figure::of("dom0_kib_per_vm", "KiB", {dom0_kib / count}));
    report.add(Figure::of("residue_xen_kib", "KiB", {kib(xen_before, xen_after)}));
    report.add(Figure::of("residue_domains", "domains", {static_cast<double>(swept())}));
    return {};
  }

 private:
  /// Xen frees what is left of a domain when its processors have passed through their idle loops.
  uint64_t free_kib() {
    usleep(kSettleUs);
    return hypervisor_->memory_left().value_or(0) >> 10;
  }
  uint32_t swept() { return hypervisor_->sweep().value_or(~0u); }

  /// The first guests make the kernel set up what it keeps.
  Status warm_up() {
    while (hypervisor_->work_ahead()) {
    }
    for (uint32_t i = 0; i < kWarmUp; ++i) {
      auto guest = make();
      if (!guest) return guest.error();
      if (!answers(*guest, Start::kFirst)) return no_answer();
    }
    return {};
  }

  Status measure_cold() {
    guests_.reserve(options_.count);
    for (uint32_t i = 0; i < options_.count; ++i) {
      const int64_t begin = clock_.now_ns();
      auto guest = make();
      if (!guest) return guest.error().within(fmt::format("guest {} of {}", i + 1, options_.count));
      cold_create_.push_back(to_ms(clock_.now_ns() - begin));
      if (!answers(*guest, Start::kFirst)) return no_answer();
      cold_synack_.push_back(to_ms(answered_ns_ - begin));
      start_.push_back(to_ms(started_ns_ - starting_ns_));
      guests_.push_back(std::move(*guest));
      take_an_idle_turn();
      tell_progress("made", guests_.size());
      if (guests_.size() % kHangUpEvery == 0) hang_up(kHangUpEvery);
    }
    hang_up(options_.count % kHangUpEvery);
    return {};
  }

  /// The last `count` clients take their SYNs back: guests that wait for one send their SYN/ACKs again and
  /// again, and thousands of them would have the machine for themselves.
  void hang_up(uint32_t count) {
    for (uint32_t i = 0; i < count; ++i) {
      backend::Vif& vif = *guests_[guests_.size() - 1 - i].vif;
      vif.send(make_reset(client_ - i));
      vif.flush();
    }
    usleep(kHangUpUs);
  }

  void take_an_idle_turn() {
    const int64_t begin = clock_.now_ns();
    hypervisor_->work_ahead();
    work_ahead_.push_back(to_ms(clock_.now_ns() - begin));
  }

  /// The pool is filled first: what making and destroying others leaves to do is outside the clock.
  Status measure_pooled() {
    std::vector<Guest> pool;
    for (uint32_t i = 0; i < std::min(options_.count, kPool); ++i) {
      auto guest = make();
      if (!guest) return guest.error();
      pool.push_back(std::move(*guest));
    }
    usleep(kSettleUs);
    for (Guest& guest : pool) {
      const int64_t begin = clock_.now_ns();
      if (!answers(guest, Start::kFirst)) return no_answer();
      pooled_synack_.push_back(to_ms(answered_ns_ - begin));
    }
    return {};
  }

  uint32_t count_alive() {
    uint32_t asked = 0;
    return static_cast<uint32_t>(std::count_if(guests_.begin(), guests_.end(), [&](Guest& guest) {
      tell_progress("asked whether they live", ++asked);
      if (!answers(guest, Start::kRunning)) return false;
      guest.vif->send(make_reset(client_));
      guest.vif->flush();
      return true;
    }));
  }

  void destroy_all() {
    while (!guests_.empty()) {
      const int64_t begin = clock_.now_ns();
      guests_.back().vif.reset();
      guests_.back().vm.reset();
      destroy_.push_back(to_ms(clock_.now_ns() - begin));
      guests_.pop_back();
      tell_progress("destroyed", destroy_.size());
    }
  }

  Result<Guest> make() {
    ++generation_;
    return make_guest(*hypervisor_, *image_, fmt::format("bootstorm-{}", generation_), generation_);
  }

  enum class Start { kFirst, kRunning };

  /// Hands over a SYN and waits for its SYN/ACK; answered_ns_ says when it came.
  bool answers(Guest& guest, Start start) {
    const auto syn = make_syn(++client_);
    if (!guest.vif->send(syn)) return false;
    guest.vif->flush();
    guest.vif->arm();
    starting_ns_ = clock_.now_ns();
    if (start == Start::kFirst && !guest.vm->start()) return false;
    started_ns_ = clock_.now_ns();
    while (clock_.now_ns() - starting_ns_ < kPatienceNs) {
      while (const size_t bytes = guest.vif->receive(frame_)) {
        answered_ns_ = clock_.now_ns();
        guest.vif->flush();
        if (is_synack_to(syn, std::span(frame_).first(bytes))) return true;
      }
      sleep_until_a_doorbell(*hypervisor_, kPatienceNs);
    }
    return false;
  }

  Error no_answer() {
    std::string why;
    usleep(200'000);  // what died is found at the next tick of the hypervisor's watch
    while (const auto event = hypervisor_->next_event()) why = ": it died: " + event->detail;
    return {ErrorCode::kTimeout, fmt::format("guest {} did not answer its SYN{}", generation_, why)};
  }

  const Options options_;
  const SteadyClock clock_;
  std::unique_ptr<spawner::Hypervisor> hypervisor_;
  std::unique_ptr<spawner::PreparedImage> image_;
  std::vector<Guest> guests_;
  std::array<std::byte, backend::kMaxFrameBytes> frame_;
  uint32_t generation_ = 0;
  uint32_t client_ = 0;
  int64_t starting_ns_ = 0;
  int64_t started_ns_ = 0;
  int64_t answered_ns_ = 0;
  std::vector<double> cold_create_;
  std::vector<double> start_;
  std::vector<double> cold_synack_;
  std::vector<double> pooled_synack_;
  std::vector<double> work_ahead_;
  std::vector<double> destroy_;
};

Status run(const Options& options) {
  auto hypervisor = spawner::open_xen_hypervisor({.workers = 1});
  if (!hypervisor) return hypervisor.error();
  auto swept = (*hypervisor)->sweep();
  if (!swept) return swept.error();
  auto image = (*hypervisor)
                   ->prepare({.service = "bootstorm",
                              .image = options.image,
                              .memory_bytes = options.memory_kib << 10,
                              .config = {}});
  if (!image) return image.error();
  Report report("bootstorm", detect_clock());
  report.set_parameter("count", options.count);
  report.set_parameter("memory_kib", options.memory_kib);
  report.set_parameter("image", options.image);
  Storm storm(options, std::move(*hypervisor), std::move(*image));
  if (auto status = storm.run(report); !status) return status;
  return report.write(options.json);
}

}  // namespace
}  // namespace synfluid::bench

int main(int argc, char** argv) {
  synfluid::bench::Options options;
  CLI::App app("Makes VMs on Xen, one after the other, and says what each cost; in dom0, as root");
  app.add_option("--count", options.count, "VMs to make")->check(CLI::Range(1, 32751));
  app.add_option("--memory", options.memory_kib, "memory of each, KiB");
  app.add_option("--image", options.image, "a built-in image");
  app.add_option("--json", options.json, "write the figures there as JSON; - for standard output");
  app.add_flag("--lab-memory", options.lab_memory,
               "only print the MiB this needs, of the machine and of dom0");
  CLI11_PARSE(app, argc, argv);
  if (options.lab_memory) {
    std::cout << synfluid::bench::lab_memory(options.count, options.memory_kib);
    return 0;
  }
  const auto status = synfluid::bench::run(options);
  if (status) return 0;
  std::cerr << "bootstorm: " << status.error().text() << '\n';
  return 1;
}
