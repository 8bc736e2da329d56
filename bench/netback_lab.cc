#include "bench/netback_lab.h"

#include <array>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <vector>

#include <arpa/inet.h>
#include <fmt/format.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sys/socket.h>
#include <unistd.h>

#include "backend/vif.h"
#include "base/clock.h"
#include "base/unique_fd.h"
#include "bench/bulk_receive.h"
#include "bench/echo_frames.h"
#include "spawner/shared_area.h"
#include "spawner/toolstack/xen_calls.h"
#include "spawner/xen/xen_hypervisor.h"

namespace synfluid::bench {
namespace {

constexpr size_t kBatch = 16;  ///< as many as a guest of ours posts buffers
constexpr useconds_t kGuestsTurnUs = 3'000;
constexpr int kTurnsToBoot = 5'000;  ///< of kGuestsTurnUs each
constexpr std::array<size_t, 2> kFrameBytes{60, 1514};
constexpr const char* kGuestFolder = "/lab/guest-linux";
constexpr std::array<uint8_t, 6> kXlMac{0x00, 0x16, 0x3e, 0, 0, 0x01};

// ---- paths ----

/// A vif as dom0 sees it.
class Path {
 public:
  virtual ~Path() = default;
  /// False if not all were taken.
  virtual bool send(const Frame& frame, size_t count) = 0;
  /// Takes what has come from the guest; how many frames have, since the start.
  virtual uint64_t came_back() = 0;
  /// How many frames sent have reached the guest, since the start.
  virtual uint64_t reached() = 0;
};

class OurPath final : public Path {
 public:
  explicit OurPath(std::unique_ptr<backend::GuestLink> link) : vif_(std::move(link)) {}
  bool send(const Frame& frame, size_t count) override {
    bool taken = true;
    for (size_t i = 0; i < count; ++i) taken = vif_.send(frame) && taken;
    vif_.flush();
    return taken;
  }
  uint64_t came_back() override {
    while (vif_.receive(buffer_) > 0) {
    }
    vif_.flush();
    return vif_.counters().frames_from_guest;
  }
  uint64_t reached() override { return vif_.counters().frames_to_guest; }

 private:
  backend::Vif vif_;
  std::array<std::byte, backend::kMaxFrameBytes> buffer_;
};

/// Answers of xen-netback's guest stay in dom0's kernel; only their number is looked at.
class DevicePath final : public Path {
 public:
  static Result<std::unique_ptr<DevicePath>> open(const std::string& device) {
    UniqueFd fd(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
    sockaddr_ll address{};
    address.sll_family = AF_PACKET;
    address.sll_ifindex = static_cast<int>(if_nametoindex(device.c_str()));
    const int on = 1;
    if (!fd || address.sll_ifindex == 0 ||
        bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
        setsockopt(fd.get(), SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof on) != 0)
      return Error::from_errno(errno, "a packet socket on " + device);
    return std::unique_ptr<DevicePath>(new DevicePath(std::move(fd), device));
  }
  bool send(const Frame& frame, size_t count) override {
    iovec piece{const_cast<std::byte*>(frame.data()), frame.size()};
    std::vector<mmsghdr> messages(count);
    for (mmsghdr& message : messages) message.msg_hdr.msg_iov = &piece, message.msg_hdr.msg_iovlen = 1;
    return sendmmsg(fd_.get(), messages.data(), static_cast<unsigned>(count), 0) == static_cast<int>(count);
  }
  uint64_t came_back() override { return 0; }
  uint64_t reached() override { return counter("tx_packets"); }
  uint64_t answers() const { return counter("rx_packets"); }

 private:
  DevicePath(UniqueFd fd, const std::string& device)
      : fd_(std::move(fd)), statistics_("/sys/class/net/" + device + "/statistics/") {}
  uint64_t counter(const char* name) const {
    uint64_t value = 0;
    std::ifstream(statistics_ + name) >> value;
    return value;
  }

  UniqueFd fd_;
  std::string statistics_;
};

// ---- measuring ----

class Meter {
 public:
  explicit Meter(spawner::toolstack::XenCalls& calls, const NetbackLabConfig& config)
      : calls_(calls), config_(config) {}

  /// Instructions of dom0 and Xen for one batch.
  Result<double> per_batch(Path& path, const Frame* frame) {
    const auto begin = dom0_ns();
    if (!begin) return begin.error();
    for (int i = 0; i < config_.batches; ++i) {
      if (frame != nullptr && !path.send(*frame, kBatch))
        return Error(ErrorCode::kExhausted, "the guest does not take a batch");
      usleep(kGuestsTurnUs);
      path.came_back();
    }
    const auto end = dom0_ns();
    if (!end) return end.error();
    return static_cast<double>(*end - *begin) / config_.batches;
  }

  /// Of one packet, without what a batch costs anyway.
  Result<double> per_packet(Path& path, const Frame& frame) {
    const auto empty = per_batch(path, nullptr);
    if (!empty) return empty.error();
    const auto full = per_batch(path, &frame);
    if (!full) return full.error();
    return (*full - *empty) / kBatch;
  }

  uint64_t frames() const { return static_cast<uint64_t>(config_.batches) * kBatch; }
  int rounds() const { return config_.rounds; }

 private:
  Result<uint64_t> dom0_ns() {
    const auto domains = calls_.list_domains(DomId(0), 1);
    if (!domains) return domains.error();
    return domains->front().cpu_time_ns;
  }

  spawner::toolstack::XenCalls& calls_;
  const NetbackLabConfig config_;
};

using Samples = std::map<std::string, std::vector<double>>;

/// A path on which one kind of frame is silent, and one on which the other comes back; often the same.
struct Guest {
  std::string name;
  Path& sink;
  Path& echo;
  Mac mac{};
  std::function<uint64_t()> answers;
};

/// `less` is what the injector itself costs.
Status measure_guest(Meter& meter, const Guest& guest, const std::map<size_t, double>& less,
                     Samples& samples) {
  for (const size_t length : kFrameBytes) {
    const Frame silent = silent_frame(guest.mac, length);
    const Frame request = echo_request(guest.mac, length);
    const std::string suffix = length < 100 ? "64" : "1500";
    const double own = less.contains(length) ? less.at(length) : 0;
    for (int round = 0; round < meter.rounds(); ++round) {
      guest.echo.send(arp_request(guest.mac), 1);
      usleep(kGuestsTurnUs);
      guest.echo.came_back();
      const uint64_t reached = guest.sink.reached();
      const auto rx = meter.per_packet(guest.sink, silent);
      if (!rx) return rx.error().within(guest.name);
      if (guest.sink.reached() - reached < meter.frames())
        return Error(ErrorCode::kSystem, guest.name + ": frames did not reach the guest");
      const uint64_t answered = guest.answers();
      const auto echo = meter.per_packet(guest.echo, request);
      if (!echo) return echo.error().within(guest.name);
      if (guest.answers() - answered < meter.frames())
        return Error(ErrorCode::kSystem, fmt::format("{}: {} of {} echoes", guest.name,
                                                     guest.answers() - answered, meter.frames()));
      samples[guest.name + "_rx_" + suffix].push_back(*rx - own);
      samples[guest.name + "_tx_" + suffix].push_back(*echo - *rx);
    }
  }
  return {};
}

/// Until the guest has answered a whole batch.
Status wait_for_answers(const Guest& guest) {
  for (int i = 0; i < kTurnsToBoot; ++i) {
    const uint64_t before = guest.answers();
    guest.echo.send(arp_request(guest.mac), 1);
    guest.echo.send(echo_request(guest.mac, kFrameBytes[0]), 8);
    usleep(kGuestsTurnUs);
    guest.echo.came_back();
    if (guest.answers() - before >= 8) return {};
    usleep(10 * kGuestsTurnUs);
  }
  return Error(ErrorCode::kTimeout, guest.name + " answers nothing");
}

// ---- the guests ----

struct OurVm {
  std::unique_ptr<spawner::PreparedImage> image;
  std::unique_ptr<spawner::Vm> vm;
  std::unique_ptr<OurPath> path;
};

Result<OurVm> start_vm(spawner::Hypervisor& xen, const spawner::ImageSpec& spec, uint32_t number) {
  OurVm out;
  auto image = xen.prepare(spec);
  if (!image) return image.error();
  out.image = std::move(*image);
  auto vm = xen.create(
      *out.image,
      {.name = "synfluid-" + spec.service, .generation = number, .worker = WorkerId(0), .doorbell = number});
  if (!vm) return vm.error();
  out.vm = std::move(*vm);
  if (Status started = out.vm->start(); !started) return started.error();
  for (int i = 0; !out.vm->link_ready() && i < kTurnsToBoot; ++i) {
    usleep(kGuestsTurnUs);
    while (xen.next_event()) {
    }
  }
  auto link = out.vm->take_link();
  if (!link) return Error(ErrorCode::kTimeout, spec.service + ": the front end does not connect");
  out.path = std::make_unique<OurPath>(std::move(link));
  return out;
}

Status measure_ours(Meter& meter, spawner::Hypervisor& xen, Samples& samples) {
  const auto spec = [](const char* name, const char* image) {
    return spawner::ImageSpec{
        .service = name, .image = image, .memory_bytes = uint64_t{2} << 20, .config = {}};
  };
  auto sink = start_vm(xen, spec("sink", "builtin:responder"), 1);
  if (!sink) return sink.error();
  auto echo = start_vm(xen, spec("echo", "builtin:passthrough"), 2);
  if (!echo) return echo.error();
  const Guest guest{.name = "synfluid", .sink = *sink->path, .echo = *echo->path, .answers = [&] {
                      return echo->path->came_back();
                    }};
  if (Status ready = wait_for_answers(guest); !ready) return ready;
  return measure_guest(meter, guest, {}, samples);
}

Status measure_linux_on_ours(Meter& meter, spawner::Hypervisor& xen, Samples& samples) {
  const std::string folder = kGuestFolder;
  auto vm = start_vm(
      xen,
      {.service = "linux",
       .image = folder + "/vmlinuz",
       .memory_bytes = uint64_t{256} << 20,
       .config = {{"ramdisk", folder + "/initramfs"}, {"cmdline", "console=hvc0 quiet addr4=10.9.0.2/24"}}},
      3);
  if (!vm) return vm.error();
  const Guest guest{.name = "linux_guest",
                    .sink = *vm->path,
                    .echo = *vm->path,
                    .mac = spawner::guest_mac(vm->vm->id().domid, vm->vm->id().generation),
                    .answers = [&] { return vm->path->came_back(); }};
  if (Status ready = wait_for_answers(guest); !ready) return ready;
  return measure_guest(meter, guest, {}, samples);
}

/// The shell's words go to standard error.
Status shell(const std::string& command) {
  if (std::system(("{ " + command + "; } >&2").c_str()) == 0) return {};
  return Error(ErrorCode::kSystem, "'" + command + "' failed");
}

Status measure_xen_netback(Meter& meter, Samples& samples) {
  const std::string make = fmt::format(
      "modprobe -a bridge xen-netback; ip link add sfpackets type bridge; ip link set sfpackets up; "
      "ip link add sfdummy type dummy; ip link set sfdummy up; "
      "printf '%s\\n' 'name = \"packets\"' 'kernel = \"{0}/vmlinuz\"' 'ramdisk = \"{0}/initramfs\"' "
      "'memory = 256' 'extra = \"console=hvc0 quiet addr4=10.9.0.2/24\"' "
      "'vif = [ \"bridge=sfpackets,mac=00:16:3e:00:00:01\" ]' >/tmp/packets.cfg; "
      "xl create -q /tmp/packets.cfg",
      kGuestFolder);
  if (Status made = shell(make); !made) return made;
  // The bridge is there for xl's script; the frames go by the vif alone.
  if (Status freed = shell("ip link set vif$(xl domid packets).0 nomaster up && "
                           "ip link set vif$(xl domid packets).0 name sfvif || "
                           "{ ip link set vif$(xl domid packets).0 down && "
                           "ip link set vif$(xl domid packets).0 name sfvif && ip link set sfvif up; }");
      !freed)
    return freed;
  auto dummy = DevicePath::open("sfdummy");
  if (!dummy) return dummy.error();
  std::map<size_t, double> injector;
  for (const size_t length : kFrameBytes) {
    const auto cost = meter.per_packet(**dummy, silent_frame(kXlMac, length));
    if (!cost) return cost.error();
    injector[length] = *cost;
    samples[fmt::format("packet_socket_{}", length < 100 ? 64 : 1500)].push_back(*cost);
  }
  auto device = DevicePath::open("sfvif");
  if (!device) return device.error();
  const Guest guest{.name = "linux", .sink = **device, .echo = **device, .mac = kXlMac, .answers = [&] {
                      return (*device)->answers();
                    }};
  if (Status ready = wait_for_answers(guest); !ready) return ready;
  if (Status measured = measure_guest(meter, guest, injector, samples); !measured) return measured;
  return shell("xl destroy packets; ip link del sfpackets; ip link del sfdummy");
}

void add_ratio(Report& report, const Samples& samples, const std::string& ours, const std::string& what) {
  const double linux_cost = median(samples.at("linux_" + what));
  const double our_cost = median(samples.at(ours + "_" + what));
  Figure ratio = Figure::of("linux_over_" + ours + "_" + what, "x", {linux_cost / our_cost});
  ratio.peer = {.name = "xen-netback", .value = linux_cost, .ratio = ratio.value};
  report.add(std::move(ratio));
}

}  // namespace

Status measure_packets_in_dom0(Report& report, const NetbackLabConfig& config) {
  const bool has_linux = access(kGuestFolder, F_OK) == 0;
  auto calls = spawner::toolstack::open_xen_calls();
  if (!calls) return calls.error();
  Meter meter(**calls, config);
  Samples samples;
  {
    auto xen = spawner::open_xen_hypervisor({.workers = 1});
    if (!xen) return xen.error();
    if (auto swept = (*xen)->sweep(); !swept) return swept.error();
    if (Status done = measure_bulk_receive(report, **xen, **calls, {.rounds = config.rounds}); !done)
      return done.error().within("bulk receive");
    if (Status done = measure_ours(meter, **xen, samples); !done) return done;
    std::cerr << "netback: our own guest is done\n";
    if (has_linux) {
      if (Status done = measure_linux_on_ours(meter, **xen, samples); !done) return done;
      std::cerr << "netback: Linux's netfront on our back end is done\n";
    }
  }
  if (has_linux) {
    if (Status done = measure_xen_netback(meter, samples); !done) return done;
  } else {
    std::cerr << "netback: there is no Linux guest in " << kGuestFolder << ": its figures are left out\n";
  }
  report.set_parameter("batch", kBatch);
  report.set_parameter("batches", config.batches);
  report.set_parameter("rounds", config.rounds);
  for (const auto& [name, values] : samples) report.add(Figure::of(name, "instructions", values));
  if (!has_linux) return {};
  for (const char* ours : {"synfluid", "linux_guest"})
    for (const char* what : {"rx_64", "tx_64", "rx_1500", "tx_1500"}) add_ratio(report, samples, ours, what);
  return {};
}

}  // namespace synfluid::bench
