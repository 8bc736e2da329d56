// A hypervisor without guests: its VMs are memory that a test can look into.
//
// A built-in image gives a VM with its link wired; any other image a foreign one, whose link comes with
// connect(). Threads: the hypervisor's calls from one thread; crash(), exit() and connect() from any.
#pragma once

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include <sys/eventfd.h>
#include <unistd.h>

#include "base/unique_fd.h"
#include "spawner/hypervisor.h"
#include "spawner/shared_area.h"
#include "tests/unit/backend/front_end.h"

namespace synfluid::spawner::testing {

inline constexpr uint32_t kFakeBuffers = 4;
inline constexpr uint64_t kFakeVmBytes = 1 << 20;

class FakeDoorbells final : public backend::DoorbellSet {
 public:
  int fd() const noexcept override { return -1; }
  size_t collect(std::span<backend::DoorbellToken>) noexcept override { return 0; }
};

/// What is there of one VM; outlives it, so that a test can see how it went.
struct FakeGuest {
  VmId id;
  std::string name;
  backend::testing::GuestMemory memory{kFakeBuffers};
  std::shared_ptr<backend::testing::LinkLog> link = std::make_shared<backend::testing::LinkLog>();
  bool started = false;
  bool destroyed = false;
  bool link_alive_at_destruction = false;
  bool wired = false;
  bool taken = false;
  WorkerId worker;
  backend::DoorbellToken doorbell = 0;
  std::string console;

  /// Frames that the host has made visible to the guest.
  uint32_t frames_received() { return memory.rx().indices.rsp_prod; }
};

class FakeHypervisor final : public Hypervisor {
 public:
  struct Image final : PreparedImage {
    explicit Image(FakeHypervisor& fake, ImageSpec s) : hypervisor(fake), spec(std::move(s)) {
      ++hypervisor.images;
    }
    ~Image() override { --hypervisor.images; }
    FakeHypervisor& hypervisor;
    ImageSpec spec;
  };

  std::string_view name() const override { return "fake"; }

  Result<std::unique_ptr<PreparedImage>> prepare(const ImageSpec& spec) override {
    if (spec.image == "broken") return Error(ErrorCode::kInvalidArgument, "image 'broken' is no ELF file");
    return std::unique_ptr<PreparedImage>(std::make_unique<Image>(*this, spec));
  }

  Result<std::unique_ptr<Vm>> create(const PreparedImage& prepared, const VmConfig& config) override {
    const std::lock_guard lock(mutex);
    if (live >= capacity || refuse_all) {
      ++refused;
      return Error(ErrorCode::kNoMemory, "no memory for another guest");
    }
    const auto& image = dynamic_cast<const Image&>(prepared);
    auto guest = std::make_shared<FakeGuest>();
    guest->id = {DomId(next_domid--), config.generation};
    guest->name = config.name;
    guest->worker = config.worker;
    guest->doorbell = config.doorbell;
    guest->wired = image.spec.image.starts_with("builtin:");
    lay_out_shared_area(
        guest->memory.all(),
        {.domid = guest->id.domid, .generation = config.generation, .buffers = kFakeBuffers, .rx_posted = 2});
    ++live;
    ++created;
    guests.push_back(guest);
    return std::unique_ptr<Vm>(std::make_unique<FakeVm>(*this, guest));
  }

  void destroy_many(std::vector<std::unique_ptr<Vm>> vms) override {
    batches.push_back(vms.size());
    vms.clear();
  }

  backend::DoorbellSet& doorbells(WorkerId) override { return doorbells_; }
  int event_fd() const override { return event_.get(); }
  std::optional<VmEvent> next_event() override {
    const std::lock_guard lock(mutex);
    if (events_.empty()) return std::nullopt;
    VmEvent event = std::move(events_.front());
    events_.pop_front();
    uint64_t taken = 0;
    if (events_.empty()) [[maybe_unused]]
      const ssize_t got = ::read(event_.get(), &taken, sizeof taken);
    return event;
  }
  Result<uint64_t> memory_left() override {
    return uint64_t{capacity - std::min(capacity, live)} * kFakeVmBytes;
  }
  Result<uint32_t> sweep() override { return 0u; }

  void push(VmEvent event) {
    const std::lock_guard lock(mutex);
    events_.push_back(std::move(event));
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t put = ::write(event_.get(), &one, sizeof one);
  }
  void crash(VmId vm) { push({.vm = vm, .kind = VmEvent::Kind::kCrashed, .detail = "page fault"}); }
  void exit(VmId vm) { push({.vm = vm, .kind = VmEvent::Kind::kExited, .detail = {}}); }
  void connect(FakeGuest& guest) {
    guest.wired = true;
    push({.vm = guest.id, .kind = VmEvent::Kind::kVifReady, .detail = {}});
  }

  std::mutex mutex;
  uint32_t capacity = 1000;
  uint32_t live = 0;
  uint32_t created = 0;
  uint32_t refused = 0;
  bool refuse_all = false;
  int images = 0;
  uint16_t next_domid = 32751;
  std::vector<std::shared_ptr<FakeGuest>> guests;
  std::vector<size_t> batches;  ///< VMs that were destroyed in one go

 private:
  class FakeVm final : public Vm {
   public:
    FakeVm(FakeHypervisor& hypervisor, std::shared_ptr<FakeGuest> guest)
        : hypervisor_(hypervisor), guest_(std::move(guest)) {}
    ~FakeVm() override {
      const std::lock_guard lock(hypervisor_.mutex);
      --hypervisor_.live;
      guest_->destroyed = true;
      guest_->link_alive_at_destruction = guest_->taken && guest_->link->alive;
    }
    VmId id() const override { return guest_->id; }
    Status start() override {
      guest_->started = true;
      return {};
    }
    Status set_doorbell(WorkerId worker, backend::DoorbellToken doorbell) override {
      guest_->worker = worker;
      guest_->doorbell = doorbell;
      return {};
    }
    std::unique_ptr<backend::GuestLink> take_link() override {
      if (!link_ready()) return nullptr;
      guest_->taken = true;
      return std::make_unique<backend::testing::FakeLink>(guest_->memory, backend::testing::Grants::kSeeded,
                                                          guest_->link);
    }
    bool link_ready() const override { return guest_->wired && !guest_->taken; }
    Result<std::string> console() override { return guest_->console; }

   private:
    FakeHypervisor& hypervisor_;
    const std::shared_ptr<FakeGuest> guest_;
  };

  FakeDoorbells doorbells_;
  UniqueFd event_{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  std::deque<VmEvent> events_;
};

}  // namespace synfluid::spawner::testing
