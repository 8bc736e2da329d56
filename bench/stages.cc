// Where the time of one spawn goes: each call that the builder makes, the vif's wiring, and the guest's first
// answer.
//
// `build` is the whole of the builder; what its calls do not account for is its own writing into the guest's
// memory. With --keep the guests stay, each with an id of its own, and every stage has a figure NAME_growth:
// the mean of its last tenth (at most 100 samples) over the first. Runs in dom0 as root.
#include <algorithm>
#include <array>
#include <iostream>
#include <memory>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <poll.h>

#include "backend/vif.h"
#include "backend/xen/xen_link.h"
#include "bench/instruction_clock.h"
#include "bench/report.h"
#include "bench/syn_frame.h"
#include "bench/timed_xen_calls.h"
#include "guest/images.h"
#include "spawner/toolstack/domain_builder.h"

namespace synfluid::bench {
namespace {

constexpr int kPatienceMs = 1000;
constexpr uint32_t kWarmUp = 3;
constexpr uint16_t kHighestDomId = 32751;

struct Options {
  uint32_t count = 50;
  uint64_t memory_kib = 256;
  uint32_t buffers = 0;
  bool keep = false;
  std::string json;
};

/// How much dearer the last are than the first.
double growth(std::span<const double> samples) {
  const size_t edge = std::clamp<size_t>(samples.size() / 10, 1, 100);
  const auto sum = [](std::span<const double> some) {
    return std::accumulate(some.begin(), some.end(), 0.0);
  };
  return sum(samples.last(edge)) / sum(samples.first(edge));
}

class Stages {
 public:
  Stages(TimedXenCalls& xen, spawner::toolstack::GuestTemplate guest,
         std::unique_ptr<backend::xen::XenDoorbells> doorbells)
      : xen_(xen), guest_(std::move(guest)), doorbells_(std::move(doorbells)) {}

  Status spawn(uint32_t generation, bool keep) {
    if (!port_) {
      auto port = xen_.timed("open_port", [&] { return doorbells_->open(domid_); });
      if (!port) return port.error();
      port_ = *port;
    }
    auto built = xen_.timed("build", [&] {
      return builder_.build(guest_, {.domid = domid_, .generation = generation, .event_port = *port_});
    });
    if (!built) return built.error();
    auto link = xen_.timed("wire_vif", [&] {
      return backend::xen::connect_seeded(grants_, *doorbells_,
                                          {.domid = built->domain.id(),
                                           .port = *port_,
                                           .pages = guest_.layout.shared_area_pages,
                                           .token = generation});
    });
    if (!link) return link.error();
    auto* card = reinterpret_cast<const volatile abi::Card*>((*link)->card());
    auto vif = std::make_unique<backend::Vif>(std::move(*link));
    const auto syn = make_syn(generation);
    vif->send(syn);
    vif->flush();
    vif->arm();
    const Status answered =
        xen_.timed("first_packet", [&] { return first_packet(*vif, built->domain.id()); });
    boot_ns_ = card->guest.boot_ns;
    if (keep) {
      kept_.push_back({std::move(*built), std::move(vif)});
      domid_ = DomId(static_cast<uint16_t>(domid_.value() - 1));
      port_.reset();
      return answered;
    }
    xen_.timed("unwire_vif", [&] {
      vif.reset();
      return true;
    });
    return answered;
  }

  uint64_t boot_ns() const { return boot_ns_; }

 private:
  struct Kept {
    spawner::toolstack::BuiltDomain domain;
    std::unique_ptr<backend::Vif> vif;  // goes before its domain
  };

  Status first_packet(backend::Vif& vif, DomId domid) {
    if (auto started = xen_.unpause(domid); !started) return started;
    std::array<backend::DoorbellToken, 8> tokens;
    for (;;) {
      if (vif.receive(frame_) != 0) return {};
      pollfd ready{doorbells_->fd(), POLLIN, 0};
      if (::poll(&ready, 1, kPatienceMs) == 0)
        return Error(ErrorCode::kTimeout, "the guest did not answer its SYN");
      doorbells_->collect(tokens);
    }
  }

  TimedXenCalls& xen_;
  spawner::toolstack::GuestTemplate guest_;
  std::unique_ptr<backend::xen::XenDoorbells> doorbells_;
  backend::xen::GrantMapper grants_;
  spawner::toolstack::DomainBuilder builder_{xen_};
  std::array<std::byte, backend::kMaxFrameBytes> frame_;
  DomId domid_{kHighestDomId};
  std::optional<EventPort> port_;  ///< open for domid_
  std::vector<Kept> kept_;
  uint64_t boot_ns_ = 0;
};

Status run(const Options& options) {
  auto xen = spawner::toolstack::open_xen_calls();
  if (!xen) return xen.error();
  TimedXenCalls timed(**xen);
  auto doorbells = backend::xen::XenDoorbells::create();
  if (!doorbells) return doorbells.error();
  auto guest = spawner::toolstack::make_guest_template(guest::xen_image(), "builtin:responder",
                                                       options.memory_kib << 10, options.buffers);
  if (!guest) return guest.error();
  Report report("stages", detect_clock());
  report.set_parameter("count", options.count);
  report.set_parameter("memory_kib", options.memory_kib);
  report.set_parameter("buffers", guest->layout.buffers);
  report.set_parameter("kept", options.keep);
  report.set_parameter("pages_written", guest->mapped_pfns.size());
  Stages stages(timed, std::move(*guest), std::move(*doorbells));
  std::vector<double> boot;
  for (uint32_t i = 0; i < kWarmUp + options.count; ++i) {
    if (auto status = stages.spawn(i + 1, options.keep && i >= kWarmUp); !status) return status;
    boot.push_back(static_cast<double>(stages.boot_ns()) / static_cast<double>(kNsPerMs));
  }
  for (const auto& [name, samples] : timed.samples()) {
    const std::span<const double> measured(
        samples.end() - std::min<ptrdiff_t>(options.count, std::ssize(samples)), samples.end());
    report.add(Figure::of(name + "_ms", "ms", {measured.begin(), measured.end()}));
    if (options.keep) report.add(Figure::of(name + "_growth", "", {growth(measured)}));
  }
  report.add(Figure::of("guest_boot_ms", "ms", {boot.begin() + kWarmUp, boot.end()}));
  return report.write(options.json);
}

}  // namespace
}  // namespace synfluid::bench

int main(int argc, char** argv) {
  synfluid::bench::Options options;
  CLI::App app("Says where the time of one spawn on Xen goes; in dom0, as root");
  app.add_option("--count", options.count, "VMs to make, one after the other");
  app.add_option("--memory", options.memory_kib, "memory of each, KiB");
  app.add_option("--buffers", options.buffers, "buffers of the vif; 0: as many as fit well");
  app.add_flag("--keep", options.keep, "keep them all, and say how each stage grows");
  app.add_option("--json", options.json, "write the figures there as JSON; - for standard output");
  CLI11_PARSE(app, argc, argv);
  const auto status = synfluid::bench::run(options);
  if (status) return 0;
  std::cerr << "stages: " << status.error().text() << '\n';
  return 1;
}
