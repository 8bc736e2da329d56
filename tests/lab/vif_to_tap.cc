// Runs one foreign guest on Xen and ties its vif to a tap device, so that dom0's own tools can talk to it.
//
//     vif_to_tap --image KERNEL [--ramdisk FILE] [--cmdline TEXT] [--memory MIB] --tap NAME
//
// Prints "ready DOMID" when the front end has connected and "done" with the vif's counters at the end. Ends
// on SIGTERM or SIGINT, and with status 1 when the guest dies or does not connect.
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <string>

#include <CLI/CLI.hpp>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "backend/vif.h"
#include "base/unique_fd.h"
#include "spawner/xen/xen_hypervisor.h"

namespace synfluid {
namespace {

using spawner::VmEvent;

constexpr int kConnectTimeoutMs = 180'000;
constexpr int kBurst = 64;

Result<UniqueFd> open_tap(const std::string& name) {
  UniqueFd fd(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  ifreq request{};
  request.ifr_flags = IFF_TAP | IFF_NO_PI;
  name.copy(request.ifr_name, IFNAMSIZ - 1);
  if (!fd || ::ioctl(fd.get(), TUNSETIFF, &request) != 0) return Error::from_errno(errno, "tap " + name);
  return fd;
}

UniqueFd catch_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  return UniqueFd(::signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
}

bool is_readable(const pollfd& fd) {
  return (fd.revents & POLLIN) != 0;
}

/// Waits until the front end has connected.
Status wait_for_vif(spawner::Hypervisor& xen, const UniqueFd& signals) {
  std::array<pollfd, 2> fds = {pollfd{xen.event_fd(), POLLIN, 0}, pollfd{signals.get(), POLLIN, 0}};
  for (;;) {
    const int ready = ::poll(fds.data(), fds.size(), kConnectTimeoutMs);
    if (ready == 0) return Error(ErrorCode::kTimeout, "the front end did not connect");
    if (is_readable(fds[1])) return Error(ErrorCode::kTimeout, "interrupted");
    while (const auto event = xen.next_event()) {
      if (event->kind == VmEvent::Kind::kVifReady) return {};
      return Error(ErrorCode::kProtocol, "the guest ended: " + event->detail);
    }
  }
}

class Bridge {
 public:
  Bridge(spawner::Hypervisor& xen, backend::Vif& vif, int tap) : xen_(xen), vif_(vif), tap_(tap) {}

  /// Until a signal comes or the guest dies.
  Status run(const UniqueFd& signals) {
    auto& bells = xen_.doorbells(WorkerId{0});
    std::array<pollfd, 4> fds = {pollfd{tap_, POLLIN, 0}, pollfd{bells.fd(), POLLIN, 0},
                                 pollfd{xen_.event_fd(), POLLIN, 0}, pollfd{signals.get(), POLLIN, 0}};
    for (;;) {
      while (move_frames()) {
      }
      if (vif_.broken()) return Error(ErrorCode::kProtocol, std::string(vif_.reason()));
      ::poll(fds.data(), fds.size(), -1);
      if (is_readable(fds[3])) return {};
      std::array<backend::DoorbellToken, 4> rung;
      bells.collect(rung);
      while (const auto event = xen_.next_event())
        if (event->kind != VmEvent::Kind::kVifReady)
          return Error(ErrorCode::kProtocol, "the guest ended: " + event->detail);
    }
  }

 private:
  bool move_frames() {
    bool moved = false;
    for (int i = 0; i < kBurst; ++i) {
      const ssize_t bytes = ::read(tap_, frame_.data(), frame_.size());
      if (bytes <= 0) break;
      vif_.send(std::span(frame_).first(static_cast<size_t>(bytes)));
      moved = true;
    }
    for (int i = 0; i < kBurst; ++i) {
      const size_t bytes = vif_.receive(frame_);
      if (bytes == 0) break;
      [[maybe_unused]] const ssize_t written = ::write(tap_, frame_.data(), bytes);
      moved = true;
    }
    vif_.flush();
    return vif_.arm() || moved;
  }

  spawner::Hypervisor& xen_;
  backend::Vif& vif_;
  int tap_;
  std::array<std::byte, backend::kMaxFrameBytes> frame_;
};

Status run(const spawner::ImageSpec& spec, const std::string& tap_name) {
  const UniqueFd signals = catch_signals();
  auto xen = spawner::open_xen_hypervisor({.workers = 1});
  if (!xen) return xen.error();
  if (const auto swept = (*xen)->sweep(); !swept) return swept.error();
  const auto tap = open_tap(tap_name);
  if (!tap) return tap.error();
  const auto image = (*xen)->prepare(spec);
  if (!image) return image.error();
  auto vm = (*xen)->create(**image,
                           {.name = "synfluid-lab", .generation = 1, .worker = WorkerId{0}, .doorbell = 1});
  if (!vm) return vm.error();
  if (const Status started = (*vm)->start(); !started) return started.error();
  if (const Status ready = wait_for_vif(**xen, signals); !ready) return ready.error();
  backend::Vif vif((*vm)->take_link());
  fmt::print("ready {}\n", (*vm)->id().domid.value());
  std::fflush(stdout);
  const Status ended = Bridge(**xen, vif, tap->get()).run(signals);
  const backend::VifCounters c = vif.counters();
  fmt::print(
      "done: {} frames to the guest, {} from it, {} without a buffer, {} and {} bad requests, {} "
      "notifications\n",
      c.frames_to_guest, c.frames_from_guest, c.no_rx_buffer, c.bad_tx_request, c.bad_rx_request,
      c.notifications);
  return ended;
}

}  // namespace
}  // namespace synfluid

int main(int argc, char** argv) {
  CLI::App app("Runs one foreign guest on Xen with its vif tied to a tap device");
  std::string image, ramdisk, cmdline, tap = "tap0";
  uint64_t memory = 128;
  app.add_option("--image", image, "the kernel")->required();
  app.add_option("--ramdisk", ramdisk, "its ramdisk");
  app.add_option("--cmdline", cmdline, "its command line");
  app.add_option("--memory", memory, "MiB of memory");
  app.add_option("--tap", tap, "the tap device");
  CLI11_PARSE(app, argc, argv);

  synfluid::spawner::ImageSpec spec{
      .service = "lab", .image = image, .memory_bytes = memory << 20, .config = {}};
  if (!ramdisk.empty()) spec.config.emplace_back("ramdisk", ramdisk);
  if (!cmdline.empty()) spec.config.emplace_back("cmdline", cmdline);
  const synfluid::Status done = synfluid::run(spec, tap);
  if (done) return 0;
  fmt::print(stderr, "vif_to_tap: {}\n", done.error().text());
  return 1;
}
