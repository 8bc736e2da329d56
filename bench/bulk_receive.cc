#include "bench/bulk_receive.h"

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <unistd.h>

#include "backend/vif.h"
#include "backend/xen/grant_copier.h"
#include "backend/xen/persistent_pages.h"
#include "bench/echo_frames.h"
#include "bench/xen_guest.h"

namespace synfluid::bench {
namespace {

constexpr size_t kBuffers = 16;  ///< as many as a guest of ours posts
constexpr useconds_t kGuestsTurnUs = 3'000;
constexpr std::array<std::pair<const char*, size_t>, 2> kFrames{{{"1500", 1514}, {"9000", 9014}}};

enum class Mode : uint8_t { kPersistent, kCopy };

/// The rings and the doorbell of a guest of ours, its buffers as a foreign front end's.
class ModeLink final : public backend::GuestLink {
 public:
  ModeLink(std::unique_ptr<backend::GuestLink> guest, std::shared_ptr<backend::xen::GrantShard> shard,
           DomId domid, Mode mode)
      : guest_(std::move(guest)), copier_(shard, domid) {
    if (mode == Mode::kPersistent) pages_.emplace(std::move(shard), domid);
  }

  FrontEnd front_end() const noexcept override { return {.receives_chains = true}; }
  abi::NetTxRing& tx_ring() noexcept override { return guest_->tx_ring(); }
  abi::NetRxRing& rx_ring() noexcept override { return guest_->rx_ring(); }
  std::byte* card() noexcept override { return guest_->card(); }
  Seeded seeded() noexcept override { return {}; }
  std::byte* map(GrantRef gref) noexcept override { return pages_ ? pages_->find(gref.value()) : nullptr; }
  bool is_persistent() const noexcept override { return pages_.has_value(); }
  void copy(std::span<backend::GrantCopy> batch) noexcept override { copier_.copy(batch); }
  void notify() noexcept override { guest_->notify(); }

 private:
  std::unique_ptr<backend::GuestLink> guest_;
  backend::xen::GrantCopier copier_;
  std::optional<backend::xen::PersistentPages> pages_;
};

struct Cost {
  double dom0 = 0;
  double guest = 0;
};

/// A guest that runs, and its vif in one of the modes.
class BulkReceiver {
 public:
  static Result<BulkReceiver> start(spawner::Hypervisor& xen, const spawner::PreparedImage& image,
                                    backend::xen::GrantMapper& mapper, Mode mode) {
    const auto number = static_cast<uint32_t>(mode) + 1;
    auto vm = xen.create(
        image, {.name = "synfluid-bulk", .generation = number, .worker = kWorker, .doorbell = number});
    if (!vm) return vm.error();
    auto shard = mapper.shard();
    if (!shard) return shard.error();
    auto link = std::make_unique<ModeLink>((*vm)->take_link(), std::move(*shard), (*vm)->id().domid, mode);
    BulkReceiver receiver;
    receiver.guest_.vm = std::move(*vm);
    receiver.guest_.vif = std::make_unique<backend::Vif>(std::move(link));
    if (const Status started = receiver.guest_.vm->start(); !started) return started.error();
    return receiver;
  }

  DomId domid() const { return guest_.vm->id().domid; }

  /// False if the guest has not given back all it took.
  bool run(const Frame& frame, size_t count, int batches) {
    for (int i = 0; i < batches; ++i) {
      for (size_t sent = 0; sent < count; ++sent)
        if (!guest_.vif->send(frame)) return false;
      guest_.vif->flush();
      usleep(kGuestsTurnUs);
    }
    return true;
  }

 private:
  Guest guest_;
};

class Meter {
 public:
  Meter(spawner::toolstack::XenCalls& calls, int batches) : calls_(calls), batches_(batches) {}

  /// Instructions a byte.
  Result<Cost> measure(BulkReceiver& receiver, const Frame& frame) {
    const size_t count = kBuffers / ((frame.size() + abi::kPageBytes - 1) / abi::kPageBytes);
    // Whatever is mapped at its first use is mapped by then.
    if (!receiver.run(frame, count, batches_)) return starved();
    const auto empty = cost_of(receiver, frame, 0);
    if (!empty) return empty.error();
    const auto full = cost_of(receiver, frame, count);
    if (!full) return full.error();
    const double bytes = static_cast<double>(count * frame.size()) * batches_;
    return Cost{(full->dom0 - empty->dom0) / bytes, (full->guest - empty->guest) / bytes};
  }

 private:
  static Error starved() { return {ErrorCode::kExhausted, "the guest does not take a batch"}; }

  Result<Cost> cost_of(BulkReceiver& receiver, const Frame& frame, size_t count) {
    const auto begin = spent(receiver.domid());
    if (!begin) return begin.error();
    if (!receiver.run(frame, count, batches_)) return starved();
    const auto end = spent(receiver.domid());
    if (!end) return end.error();
    return Cost{end->dom0 - begin->dom0, end->guest - begin->guest};
  }

  Result<Cost> spent(DomId guest) {
    Cost cost;
    for (auto [domid, ns] : {std::pair{DomId(0), &cost.dom0}, std::pair{guest, &cost.guest}}) {
      const auto found = calls_.list_domains(domid, 1);
      if (!found) return found.error();
      *ns = static_cast<double>(found->front().cpu_time_ns);
    }
    return cost;
  }

  spawner::toolstack::XenCalls& calls_;
  int batches_;
};

using Samples = std::map<std::string, std::vector<double>>;

Status measure_mode(Samples& samples, Meter& meter, BulkReceiver& receiver, const std::string& mode) {
  for (const auto& [suffix, length] : kFrames) {
    const auto cost = meter.measure(receiver, silent_frame(Mac{}, length));
    if (!cost) return cost.error().within(mode);
    samples[fmt::format("{}_{}", mode, suffix)].push_back(cost->dom0);
    samples[fmt::format("guest_{}_{}", mode, suffix)].push_back(cost->guest);
  }
  return {};
}

void add_ratios(Report& report, const Samples& samples) {
  const auto value = [&](const std::string& name) { return median(samples.at(name)); };
  for (const auto& [suffix, length] : kFrames) {
    const std::string persistent = fmt::format("persistent_{}", suffix);
    const std::string copy = fmt::format("copy_{}", suffix);
    const std::string end = suffix == kFrames[0].first ? std::string() : fmt::format("_{}", suffix);
    report.add(Figure::of("persistent_over_copy_bulk_rx" + end, "x", {value(persistent) / value(copy)}));
    report.add(Figure::of(
        "with_guest_persistent_over_copy_bulk_rx" + end, "x",
        {(value(persistent) + value("guest_" + persistent)) / (value(copy) + value("guest_" + copy))}));
  }
}

}  // namespace

Status measure_bulk_receive(Report& report, spawner::Hypervisor& xen, spawner::toolstack::XenCalls& calls,
                            const BulkReceiveConfig& config) {
  const auto image = xen.prepare(
      {.service = "bulk", .image = "builtin:responder", .memory_bytes = uint64_t{2} << 20, .config = {}});
  if (!image) return image.error();
  backend::xen::GrantMapper mapper;
  auto persistent = BulkReceiver::start(xen, **image, mapper, Mode::kPersistent);
  if (!persistent) return persistent.error();
  auto copy = BulkReceiver::start(xen, **image, mapper, Mode::kCopy);
  if (!copy) return copy.error();
  Meter meter(calls, config.batches);
  Samples samples;
  for (int round = 0; round < config.rounds; ++round) {
    if (Status done = measure_mode(samples, meter, *persistent, "persistent"); !done) return done;
    if (Status done = measure_mode(samples, meter, *copy, "copy"); !done) return done;
  }
  for (const auto& [name, values] : samples) report.add(Figure::of(name, "instructions/byte", values));
  add_ratios(report, samples);
  return {};
}

}  // namespace synfluid::bench
