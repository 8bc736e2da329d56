// Fails the builder at each of its steps on real Xen, the start, the end, and guests in ways of their own,
// and looks whether Xen is as it was: domains, free memory, grants, event channels. Runs in dom0 as root.
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <dirent.h>
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include "backend/vif.h"
#include "backend/xen/xen_link.h"
#include "base/clock.h"
#include "guest/images.h"
#include "spawner/toolstack/domain_builder.h"
#include "spawner/toolstack/failing_xen_calls.h"
#include "spawner/xen/domain_watch.h"
#include "spawner/xen/reaper.h"
#include "spawner/xen/xen_hypervisor.h"
#include "tests/lab/static_grants.h"

namespace synfluid {
namespace {

using spawner::FaultPlan;
using spawner::toolstack::BuiltDomain;
using spawner::toolstack::DomainBuilder;
using spawner::toolstack::FailingXenCalls;
using spawner::toolstack::GuestTemplate;
using spawner::toolstack::XenCalls;

constexpr uint64_t kMemory = 256 << 10;
constexpr uint64_t kLargeMemory = 8 << 20;
/// Xen takes 16 ms to end it.
constexpr uint64_t kSlowBytes = 64 << 20;
constexpr uint16_t kMany = 3;
constexpr uint32_t kAllDomains = 1024;
constexpr DomId kDomId{32751};

/// What Xen's own tables may grow by and keep: its xenheap is cut into pieces and not put together at once.
constexpr int64_t kSlackKib = 64;
constexpr useconds_t kSettleUs = 500'000;
constexpr int kEventTries = 100;
constexpr int kEventWaitMs = 20;

struct Holdings {
  uint32_t domains = 0;
  int64_t free_kib = 0;
  uint32_t files = 0;
};

class Tests {
 public:
  explicit Tests(XenCalls& xen) : xen_(xen) {}

  /// Runs the body, then compares what is held with what was before.
  void run(const std::string& name, const std::function<std::string()>& body) {
    const Holdings before = holdings();
    std::string trouble = body();
    usleep(kSettleUs);
    const Holdings after = holdings();
    if (trouble.empty()) trouble = difference(before, after);
    ++(trouble.empty() ? passed_ : failed_);
    fmt::print("{}: {}{}{}\n", trouble.empty() ? "PASS" : "FAIL", name, trouble.empty() ? "" : ": ", trouble);
    std::fflush(stdout);
  }

  int end() const {
    fmt::print("{} passed, {} failed\n", passed_, failed_);
    return failed_ == 0 ? 0 : 1;
  }

 private:
  Holdings holdings() {
    Holdings held;
    const auto domains = xen_.list_domains(DomId(1), kAllDomains);
    held.domains = domains ? static_cast<uint32_t>(domains->size()) : ~0u;
    held.free_kib = static_cast<int64_t>(xen_.free_memory().value_or(0) >> 10);
    DIR* files = ::opendir("/proc/self/fd");
    while (::readdir(files) != nullptr) ++held.files;
    ::closedir(files);
    return held;
  }

  static std::string difference(const Holdings& before, const Holdings& after) {
    if (after.domains != before.domains)
      return fmt::format("{} domains, before {}", after.domains, before.domains);
    if (after.free_kib < before.free_kib - kSlackKib)
      return fmt::format("{} KiB free, before {}", after.free_kib, before.free_kib);
    if (after.files != before.files)
      return fmt::format("{} files open, before {}", after.files, before.files);
    return {};
  }

  XenCalls& xen_;
  uint32_t passed_ = 0;
  uint32_t failed_ = 0;
};

class Faults {
 public:
  Faults(XenCalls& xen, GuestTemplate guest, std::unique_ptr<backend::xen::XenDoorbells> doorbells,
         EventPort port)
      : xen_(xen), guest_(std::move(guest)), doorbells_(std::move(doorbells)), port_(port), tests_(xen) {}

  int run() {
    // The kernel sets up what it keeps.
    static_cast<void>(wired_guest());
    usleep(kSettleUs);
    fail_each_step();
    tests_.run("a guest that is wired and never started", [this] { return wired_guest(); });
    tests_.run("a guest whose event channel was not left open", [this] { return wrong_port(); });
    tests_.run("a guest that answers, dies, and leaves its event channel to the next",
               [this] { return ports_are_used_again(); });
    tests_.run("a guest that takes of its claimed memory", [this] { return claimed_memory_is_there(); });
    tests_.run("a claim on more than Xen has left", [this] { return claims_are_kept(); });
    tests_.run("more grants than the guest gives", [this] { return too_many_grants(); });
    tests_.run("pages that a control ring had mapped, their grants revoked",
               [this] { return front_end(use_static_grants); });
    tests_.run("a front end that names a control ring it does not grant",
               [this] { return front_end(name_no_control_ring); });
    tests_.run("a guest that jumps into its data", [this] { return crash(); });
    tests_.run("a start that fails", [this] { return start_fails(); });
    tests_.run("guests that are ended in one go, one of them gone already",
               [this] { return end_in_one_go(); });
    tests_.run("a domain that Xen has to be asked about again", [this] { return ask_again(); });
    tests_.run("a large guest that is slow to die, and a new one meanwhile",
               [this] { return slow_to_die(); });
    tests_.run("guests that a former run left", [this] { return sweep(); });
    return tests_.end();
  }

 private:
  void fail_each_step() {
    FailingXenCalls failing(xen_);
    DomainBuilder builder(failing);
    failing.faults().fail_at(FaultPlan::kNever);
    static_cast<void>(builder.build(guest_, identity(1)));
    const uint32_t steps = failing.faults().steps();
    for (uint32_t step = 1; step <= steps; ++step) {
      tests_.run(fmt::format("step {} of {} of the builder fails", step, steps), [&]() -> std::string {
        failing.faults().fail_at(step);
        const auto built = builder.build(guest_, identity(1));
        return failing.faults().struck() ? "" : "the fault did not strike";
      });
    }
  }

  std::string wired_guest() {
    auto built = builder_.build(guest_, identity(1));
    if (!built) return built.error().text();
    const auto link = connect(*built, guest_.layout.shared_area_pages);
    return link ? "" : link.error().text();
  }

  /// It says so on its card and crashes.
  std::string wrong_port() {
    auto identity_of_another = identity(4);
    identity_of_another.event_port = EventPort(port_.value() + 7);
    return dies(guest_, identity_of_another);
  }

  std::string ports_are_used_again() {
    for (uint32_t generation = 5; generation < 8; ++generation) {
      auto built = builder_.build(guest_, identity(generation));
      if (!built) return built.error().text();
      auto link = connect(*built, guest_.layout.shared_area_pages);
      if (!link) return link.error().text();
      const auto* card = reinterpret_cast<const volatile abi::Card*>((*link)->card());
      if (const auto started = xen_.unpause(kDomId); !started) return started.error().text();
      for (int i = 0; i < kEventTries && card->guest.boot_ns == 0; ++i) usleep(1000);
      if (card->guest.phase != abi::GuestPhase::kRunning) return "a guest did not start";
    }
    return "";
  }

  std::string claimed_memory_is_there() {
    const auto large = spawner::toolstack::make_guest_template(guest::xen_image(), "large", kLargeMemory, 0);
    if (!large) return large.error().text();
    auto built = builder_.build(*large, identity(8));
    if (!built) return built.error().text();
    auto link = connect(*built, large->layout.shared_area_pages);
    if (!link) return link.error().text();
    const auto* card = reinterpret_cast<const volatile abi::Card*>((*link)->card());
    if (const auto started = xen_.unpause(kDomId); !started) return started.error().text();
    for (int i = 0; i < kEventTries && card->guest.boot_ns == 0; ++i) usleep(1000);
    if (card->guest.phase != abi::GuestPhase::kRunning) return "it did not start";
    const auto info = xen_.list_domains(kDomId, 1);
    if (!info || info->empty()) return "it is gone";
    return info->front().pages >= large->layout.populated_pages ? "" : "it took none";
  }

  /// No page of theirs but the first few is populated; yet they cannot have more than there is.
  std::string claims_are_kept() {
    const auto largest = spawner::toolstack::make_guest_template(guest::xen_image(), "largest",
                                                                 spawner::toolstack::kMaxGuestBytes, 0);
    if (!largest) return largest.error().text();
    const uint64_t left = xen_.free_memory().value_or(0);
    std::vector<BuiltDomain> guests;
    for (uint16_t i = 0; i <= left / spawner::toolstack::kMaxGuestBytes; ++i) {
      auto guest = identity(9);
      guest.domid = DomId(static_cast<uint16_t>(kDomId.value() - i));
      auto built = builder_.build(*largest, guest);
      if (!built) return built.error().code() == ErrorCode::kNoMemory ? "" : built.error().text();
      guests.push_back(std::move(*built));
    }
    return fmt::format("{} guests of 512 MiB in {} MiB", guests.size(), left >> 20);
  }

  std::string too_many_grants() {
    auto built = builder_.build(guest_, identity(1));
    if (!built) return built.error().text();
    return connect(*built, guest_.layout.shared_area_pages + 1) ? "it was mapped" : "";
  }

  using ForeignFrontEnd = std::string(backend::xen::GrantMapper&, backend::xen::XenDoorbells&, DomId,
                                      uint32_t);

  std::string front_end(ForeignFrontEnd* play) {
    auto built = builder_.build(guest_, identity(1));
    if (!built) return built.error().text();
    return play(grants_, *doorbells_, kDomId, guest_.layout.shared_area_pages);
  }

  std::string crash() {
    GuestTemplate broken = guest_;
    broken.image.entry = guest_.layout.address_of(guest_.layout.memory_pfn);
    return dies(broken, identity(3));
  }

  std::string dies(const GuestTemplate& guest, const spawner::toolstack::GuestIdentity& identity) {
    auto watch = spawner::xen::DomainWatch::create(xen_);
    if (!watch) return watch.error().text();
    auto built = builder_.build(guest, identity);
    if (!built) return built.error().text();
    const spawner::VmId id{identity.domid, identity.generation};
    watch->add(id, built->card_frame);
    if (const auto started = xen_.unpause(id.domid); !started) return started.error().text();
    for (int i = 0; i < kEventTries; ++i) {
      pollfd ready{watch->fd(), POLLIN, 0};
      ::poll(&ready, 1, kEventWaitMs);
      const auto event = watch->next();
      if (!event) continue;
      watch->remove(id);
      return event->vm == id && event->kind == spawner::VmEvent::Kind::kCrashed ? "" : "another event came";
    }
    return "nobody noticed";
  }

  std::string start_fails() {
    auto built = builder_.build(guest_, identity(10));
    if (!built) return built.error().text();
    const auto link = connect(*built, guest_.layout.shared_area_pages);
    if (!link) return link.error().text();
    FailingXenCalls failing(xen_);
    failing.faults().fail_at(1);
    return failing.unpause(kDomId) ? "it was started" : "";
  }

  std::string end_in_one_go() {
    std::vector<BuiltDomain> guests;
    std::vector<DomId> domids;
    for (uint16_t i = 0; i < kMany; ++i) {
      auto guest = identity(11);
      guest.domid = DomId(static_cast<uint16_t>(kDomId.value() - i));
      auto built = builder_.build(guest_, guest);
      if (!built) return built.error().text();
      domids.push_back(built->domain.let_go());
    }
    if (const auto ended = xen_.destroy_domain(domids[1]); !ended) return ended.error().text();
    const auto left = xen_.destroy_domains(domids);
    return left.empty() ? "" : fmt::format("{} of {} are left", left.size(), domids.size());
  }

  /// What Xen 4.17 does not say by itself.
  class NotDone final : public spawner::toolstack::DomainEnder {
   public:
    Status destroy_domain(DomId) override { return Error::from_errno(EAGAIN, "destroy"); }
  };

  std::string ask_again() {
    auto reapers_xen = spawner::toolstack::open_xen_calls();
    if (!reapers_xen) return reapers_xen.error().text();
    auto reaper = spawner::xen::Reaper::create(std::move(*reapers_xen));
    if (!reaper) return reaper.error().text();
    NotDone not_done;
    spawner::xen::PromptEnder ender(not_done, **reaper);
    DomainBuilder builder(xen_, ender);
    const auto built = builder.build(guest_, identity(12));
    return built ? "" : built.error().text();
  }

  std::string slow_to_die() {
    auto hypervisor = spawner::open_xen_hypervisor({.workers = 1});
    if (!hypervisor) return hypervisor.error().text();
    const auto slow = prepare(**hypervisor, kSlowBytes);
    const auto quick = prepare(**hypervisor, kMemory);
    if (!slow || !quick) return "no image";
    auto large = (*hypervisor)->create(**slow, {.name = "slow", .generation = 13});
    if (!large) return large.error().text();
    const DomId domid = (*large)->id().domid;
    const auto layout = spawner::toolstack::make_guest_template(guest::xen_image(), "slow", kSlowBytes, 0);
    for (uint32_t pfn = layout->layout.populated_pages; pfn < layout->layout.pages; ++pfn)
      if (const auto page = xen_.populate(domid, pfn, 0); !page) return page.error().text();
    large->reset();
    const auto small = (*hypervisor)->create(**quick, {.name = "quick", .generation = 14});
    if (!small) return small.error().text();
    if (const auto started = (*small)->start(); !started) return started.error().text();
    const auto still_there = xen_.list_domains(domid, 1);
    if (!still_there || still_there->empty() || still_there->front().domid != domid)
      return "the new one was made when the large one had died";
    return "";
  }

  static Result<std::unique_ptr<spawner::PreparedImage>> prepare(spawner::Hypervisor& hypervisor,
                                                                 uint64_t bytes) {
    return hypervisor.prepare(
        {.service = "faults", .image = "builtin:responder", .memory_bytes = bytes, .config = {}});
  }

  std::string sweep() {
    constexpr uint32_t kLeft = 3;
    for (uint32_t i = 0; i < kLeft; ++i) {
      const DomId id(static_cast<uint16_t>(1000 + i));
      if (const auto made = xen_.create_domain(id, spawner::toolstack::handle_of(i)); !made)
        return made.error().text();
    }
    auto hypervisor = spawner::open_xen_hypervisor({.workers = 1});
    if (!hypervisor) return hypervisor.error().text();
    const auto swept = (*hypervisor)->sweep();
    if (!swept) return swept.error().text();
    return *swept == kLeft ? "" : fmt::format("{} of {} were found", *swept, kLeft);
  }

  Result<std::unique_ptr<backend::xen::SeededLink>> connect(const BuiltDomain& built, uint32_t pages) {
    return backend::xen::connect_seeded(
        grants_, *doorbells_, {.domid = built.domain.id(), .port = port_, .pages = pages, .token = 1});
  }

  spawner::toolstack::GuestIdentity identity(uint32_t generation) const {
    return {.domid = kDomId, .generation = generation, .event_port = port_};
  }

  XenCalls& xen_;
  GuestTemplate guest_;
  std::unique_ptr<backend::xen::XenDoorbells> doorbells_;
  EventPort port_;  ///< open for kDomId
  backend::xen::GrantMapper grants_;
  DomainBuilder builder_{xen_};
  Tests tests_;
};

int fail(const Error& error) {
  fmt::print(stderr, "faults: {}\n", error.text());
  return 1;
}

int run() {
  auto xen = spawner::toolstack::open_xen_calls();
  if (!xen) return fail(xen.error());
  auto doorbells = backend::xen::XenDoorbells::create();
  if (!doorbells) return fail(doorbells.error());
  const auto port = (*doorbells)->open(kDomId);
  if (!port) return fail(port.error());
  auto guest = spawner::toolstack::make_guest_template(guest::xen_image(), "builtin:responder", kMemory, 0);
  if (!guest) return fail(guest.error());
  return Faults(**xen, std::move(*guest), std::move(*doorbells), *port).run();
}

}  // namespace
}  // namespace synfluid

int main() {
  return synfluid::run();
}
