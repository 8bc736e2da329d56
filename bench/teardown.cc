// What taking a VM down costs, and what is left behind when many have come and gone.
//
//   destroy_ms        unmapping a guest's pages and destroying it; the guest has answered a SYN before
//   destroy_batch_ms  the same for each of four that are destroyed in one go, as the spawner does it
//   cycle_ms          making one, its SYN answered, destroying it
//   residue           what there is more of at the end than at the start, added up over the five below; less
//                     of one does not make up for more of another
//   residue_domains   domains that Xen knows, the dying included
//   residue_kib       Xen's memory that is neither free nor claimed
//   residue_grants    mappings of granted pages in this process
//   residue_ports     event channels that are open in dom0's kernel
//   residue_nodes     nodes of the store, where one runs
//   dom0_growth_kib   what dom0's available memory has shrunk by
//   of which          dom0_slab_kib in its kernel's tables, process_kib in this program; the rest is in the
//                     kernel's lists of free pages
//   late_...          the same since half the cycles were done: what a leak of each cycle would be seen in
//
// A few guests are there at a time, so that ids come back in another order than they went. The zero is taken
// after the first guests: what the kernel and Xen set up for good is theirs. Dom0's memory is not in the
// residue: it moves by some hundred KiB without any guest. Runs in dom0 as root.
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <fstream>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/instruction_clock.h"
#include "bench/report.h"
#include "bench/syn_frame.h"
#include "bench/xen_guest.h"
#include "spawner/toolstack/xen_calls.h"
#include "spawner/xen/xen_hypervisor.h"

namespace synfluid::bench {
namespace {

constexpr int64_t kPatienceNs = 5 * kNsPerSecond;
constexpr useconds_t kSettleUs = 1'000'000;
constexpr size_t kAtOnce = 8;
constexpr size_t kBatch = 4;
constexpr uint32_t kWarmUp = 500;
constexpr size_t kKeptSamples = 2000;

struct Options {
  uint32_t cycles = 20'000;
  uint64_t memory_kib = 256;
  std::string json;
};

struct Holdings {
  double domains = 0;
  double kib = 0;
  double grants = 0;
  double ports = 0;
  double nodes = 0;
  double dom0_kib = 0;
  double slab_kib = 0;
  double process_kib = 0;
};

double lines_with(const char* path, std::string_view word) {
  std::ifstream file(path);
  double count = 0;
  for (std::string line; std::getline(file, line);)
    if (line.find(word) != std::string::npos) ++count;
  return count;
}

/// The number behind a word of a file of /proc.
double number_after(const char* path, const std::string& word) {
  std::ifstream file(path);
  double number = 0;
  for (std::string line; std::getline(file, line);)
    if (line.starts_with(word)) number = std::strtod(line.c_str() + word.size(), nullptr);
  return number;
}

/// 0 where no store runs.
double store_nodes() {
  FILE* list = ::popen("xenstore-ls 2>/dev/null", "r");
  if (list == nullptr) return 0;
  double nodes = 0;
  for (int c = std::fgetc(list); c != EOF; c = std::fgetc(list)) nodes += c == '\n' ? 1 : 0;
  ::pclose(list);
  return nodes;
}

/// A list of all that there can be would take 3.5 MiB, which the heap keeps from the second time on.
Result<double> count_domains(spawner::toolstack::XenCalls& xen) {
  constexpr uint32_t kSome = 256;
  double count = 0;
  for (DomId first(0);;) {
    const auto domains = xen.list_domains(first, kSome);
    if (!domains) return domains.error();
    count += static_cast<double>(domains->size());
    if (domains->size() < kSome) return count;
    first = DomId(static_cast<uint16_t>(domains->back().domid.value() + 1));
  }
}

Result<Holdings> holdings(spawner::toolstack::XenCalls& xen) {
  usleep(kSettleUs);
  const auto domains = count_domains(xen);
  if (!domains) return domains.error();
  const auto free = xen.free_memory();
  if (!free) return free.error();
  return Holdings{.domains = *domains,
                  .kib = -static_cast<double>(*free >> 10),
                  .grants = lines_with("/proc/self/maps", "gntdev"),
                  .ports = lines_with("/proc/interrupts", "evtchn:"),
                  .nodes = store_nodes(),
                  .dom0_kib = -static_cast<double>(dom0_available_kib()),
                  .slab_kib = number_after("/proc/meminfo", "Slab:"),
                  .process_kib = number_after("/proc/self/status", "RssAnon:")};
}

class Cycles {
 public:
  Cycles(spawner::Hypervisor& hypervisor, const spawner::PreparedImage& image)
      : hypervisor_(hypervisor), image_(image) {
    while (hypervisor_.work_ahead()) {
    }
  }

  Status run(uint32_t cycles) {
    const uint32_t every = std::max<uint32_t>(cycles / kKeptSamples, 1);
    std::deque<Guest> guests;
    for (uint32_t i = 0; i < cycles; ++i) {
      const int64_t begin = clock_.now_ns();
      auto guest = make();
      if (!guest) return guest.error().within(fmt::format("cycle {}", i + 1));
      guests.push_back(std::move(*guest));
      if (guests.size() < kAtOnce) continue;
      // The oldest and the youngest by turns, each alone; when a round is over, some at once.
      if (i % 2 == 0) std::swap(guests.front(), guests.back());
      const double alone = destroy(guests, 1);
      if (i % every == 0) {
        destroy_.push_back(alone);
        cycle_.push_back(to_ms(clock_.now_ns() - begin));
      }
      if (i % kAtOnce == 0) batch_.push_back(destroy(guests, kBatch));
    }
    destroy(guests, guests.size());
    return {};
  }

  void forget_samples() {
    destroy_.clear();
    batch_.clear();
    cycle_.clear();
  }
  const std::vector<double>& destroy_ms() const { return destroy_; }
  const std::vector<double>& destroy_batch_ms() const { return batch_; }
  const std::vector<double>& cycle_ms() const { return cycle_; }

 private:
  /// The first ones. Milliseconds of each.
  double destroy(std::deque<Guest>& guests, size_t count) {
    const int64_t begin = clock_.now_ns();
    std::vector<std::unique_ptr<spawner::Vm>> vms;
    for (size_t i = 0; i < count; ++i) {
      guests.front().vif.reset();
      vms.push_back(std::move(guests.front().vm));
      guests.pop_front();
    }
    hypervisor_.destroy_many(std::move(vms));
    return to_ms(clock_.now_ns() - begin) / static_cast<double>(std::max<size_t>(count, 1));
  }

  Result<Guest> make() {
    ++generation_;
    auto guest = make_guest(hypervisor_, image_, fmt::format("teardown-{}", generation_), generation_);
    if (!guest) return guest;
    const auto syn = make_syn(generation_);
    if (!guest->vif->send(syn)) return Error(ErrorCode::kSystem, "no buffer for a SYN");
    guest->vif->flush();
    guest->vif->arm();
    if (Status started = guest->vm->start(); !started) return started.error();
    const int64_t end = clock_.now_ns() + kPatienceNs;
    while (guest->vif->receive(frame_) == 0) {
      if (clock_.now_ns() > end) return Error(ErrorCode::kTimeout, "a guest did not answer its SYN");
      sleep_until_a_doorbell(hypervisor_, kPatienceNs);
    }
    guest->vif->flush();
    return guest;
  }

  const SteadyClock clock_;
  spawner::Hypervisor& hypervisor_;
  const spawner::PreparedImage& image_;
  std::array<std::byte, backend::kMaxFrameBytes> frame_;
  uint32_t generation_ = 0;
  std::vector<double> destroy_;
  std::vector<double> batch_;
  std::vector<double> cycle_;
};

void add_residue(Report& report, const Holdings& before, const Holdings& after) {
  const double domains = after.domains - before.domains;
  const double kib = after.kib - before.kib;
  const double grants = after.grants - before.grants;
  const double ports = after.ports - before.ports;
  const double nodes = after.nodes - before.nodes;
  double residue = 0;
  for (const double more : {domains, kib, grants, ports, nodes}) residue += std::max(more, 0.0);
  report.add(Figure::of("residue", "", {residue}));
  report.add(Figure::of("residue_domains", "domains", {domains}));
  report.add(Figure::of("residue_kib", "KiB", {kib}));
  report.add(Figure::of("residue_grants", "maps", {grants}));
  report.add(Figure::of("residue_ports", "ports", {ports}));
  report.add(Figure::of("residue_nodes", "nodes", {nodes}));
}

void add_dom0(Report& report, const Holdings& before, const Holdings& half, const Holdings& after) {
  const auto add = [&](const char* name, double Holdings::*part) {
    report.add(Figure::of(name, "KiB", {after.*part - before.*part}));
    report.add(Figure::of(fmt::format("late_{}", name), "KiB", {after.*part - half.*part}));
  };
  add("dom0_growth_kib", &Holdings::dom0_kib);
  add("dom0_slab_kib", &Holdings::slab_kib);
  add("process_kib", &Holdings::process_kib);
}

Status run(const Options& options) {
  auto hypervisor = spawner::open_xen_hypervisor({.workers = 1});
  if (!hypervisor) return hypervisor.error();
  if (auto swept = (*hypervisor)->sweep(); !swept) return swept.error();
  auto xen = spawner::toolstack::open_xen_calls();
  if (!xen) return xen.error();
  auto image = (*hypervisor)
                   ->prepare({.service = "teardown",
                              .image = "builtin:responder",
                              .memory_bytes = options.memory_kib << 10,
                              .config = {}});
  if (!image) return image.error();
  Report report("teardown", detect_clock());
  report.set_parameter("cycles", options.cycles);
  report.set_parameter("memory_kib", options.memory_kib);
  Cycles cycles(**hypervisor, **image);
  if (auto status = cycles.run(kWarmUp); !status) return status;
  const auto before = holdings(**xen);
  if (!before) return before.error();
  cycles.forget_samples();
  if (auto status = cycles.run(options.cycles / 2); !status) return status;
  const auto half = holdings(**xen);
  if (!half) return half.error();
  if (auto status = cycles.run(options.cycles - options.cycles / 2); !status) return status;
  const auto after = holdings(**xen);
  if (!after) return after.error();
  report.add(Figure::of("destroy_ms", "ms", cycles.destroy_ms()));
  report.add(Figure::of("destroy_batch_ms", "ms", cycles.destroy_batch_ms()));
  report.add(Figure::of("cycle_ms", "ms", cycles.cycle_ms()));
  add_residue(report, *before, *after);
  add_dom0(report, *before, *half, *after);
  return report.write(options.json);
}

}  // namespace
}  // namespace synfluid::bench

int main(int argc, char** argv) {
  synfluid::bench::Options options;
  CLI::App app("Makes and destroys VMs on Xen, and says what is left of them; in dom0, as root");
  app.add_option("--cycles", options.cycles, "VMs to make and destroy")->check(CLI::Range(10, 10'000'000));
  app.add_option("--memory", options.memory_kib, "memory of each, KiB");
  app.add_option("--json", options.json, "write the figures there as JSON; - for standard output");
  CLI11_PARSE(app, argc, argv);
  const auto status = synfluid::bench::run(options);
  if (status) return 0;
  std::cerr << "teardown: " << status.error().text() << '\n';
  return 1;
}
