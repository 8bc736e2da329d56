#include "spawner/xen/xen_hypervisor.h"

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/file.h>

#include "backend/xen/grant_mapper.h"
#include "backend/xen/xen_doorbells.h"
#include "backend/xen/xen_link.h"
#include "base/unique_fd.h"
#include "guest/images.h"
#include "spawner/card_console.h"
#include "spawner/shared_area.h"
#include "spawner/toolstack/domain_builder.h"
#include "spawner/xen/card_reader.h"
#include "spawner/xen/domain_watch.h"
#include "spawner/xen/doorbell_ids.h"
#include "spawner/xen/entropy.h"
#include "spawner/xen/foreign.h"
#include "spawner/xen/foreign_image.h"
#include "spawner/xen/reaper.h"

namespace synfluid::spawner {

namespace {

using backend::xen::GrantMapper;
using backend::xen::SeededLink;
using backend::xen::XenDoorbells;
using toolstack::BuiltDomain;
using toolstack::DomainBuilder;
using toolstack::GuestTemplate;
using toolstack::XenCalls;
using xen::DomainWatch;
using xen::DoorbellId;
using xen::DoorbellIds;
using xen::ForeignGuests;
using xen::ForeignImage;
using xen::PromptEnder;
using xen::Reaper;

/// Two gateways would sweep each other's guests away.
constexpr char kLockPath[] = "/run/synfluid-xen.lock";
constexpr uint64_t kUsualMemoryBytes = 512 << 10;
constexpr uint32_t kListDomains = 1024;

/// Xen's highest.
constexpr DomId kHighestDomId{32751};

/// A guest that may have more is the reaper's to end: this many cost half a millisecond.
constexpr uint32_t kPromptlyEndedPages = 256;

/// One worker's event channels, and the ids that they are open for.
struct WorkerDoorbells {
  std::unique_ptr<XenDoorbells> set;
  std::unique_ptr<DoorbellIds> ids;
};

Result<GuestTemplate> prepare_builtin(const ImageSpec& spec, abi::ServiceKind kind) {
  auto card_config = make_card_config(spec.config);
  if (!card_config) return card_config.error();
  const uint64_t memory = spec.memory_bytes != 0 ? spec.memory_bytes : kUsualMemoryBytes;
  auto guest = toolstack::make_guest_template(guest::xen_image(), spec.image, memory, 0);
  if (!guest) return guest;
  guest->service = kind;
  guest->card_config = std::move(*card_config);
  return guest;
}

class XenImage final : public PreparedImage {
 public:
  explicit XenImage(GuestTemplate guest) : guest_(std::move(guest)) {}
  const GuestTemplate& guest() const { return guest_; }

 private:
  GuestTemplate guest_;
};

class XenVm final : public Vm {
 public:
  XenVm(VmId id, DoorbellId doorbell, BuiltDomain built, std::unique_ptr<SeededLink> link, XenCalls& xen,
        DomainWatch& watch, std::vector<WorkerDoorbells>& doorbells)
      : id_(id),
        doorbell_(std::move(doorbell)),
        built_(std::move(built)),
        link_(std::move(link)),
        xen_(xen),
        watch_(watch),
        doorbells_(doorbells) {
    watch_.add(id_, built_.card_frame);
  }
  ~XenVm() override { unwire(); }

  bool is_ended_by(const toolstack::DomainEnder& ender) const { return built_.domain.is_ended_by(ender); }
  /// Unmaps its pages; the caller ends its domain.
  DomId let_go() {
    unwire();
    return built_.domain.let_go();
  }

  VmId id() const override { return id_; }
  Status start() override { return xen_.unpause(id_.domid); }
  Status set_doorbell(WorkerId worker, backend::DoorbellToken doorbell) override {
    const WorkerDoorbells& home = doorbells_.at(worker.value());
    if (const Status moved = doorbell_.move_to(*home.ids); !moved) return moved;
    link_->set_doorbell(*home.set, doorbell_.port(), doorbell);
    return {};
  }
  std::unique_ptr<backend::GuestLink> take_link() override { return std::move(link_); }
  bool link_ready() const override { return link_ != nullptr; }
  Result<std::string> console() override {
    const auto card = xen::read_card(xen_, id_.domid, built_.card_frame);
    if (!card) return card.error().within("console");
    return read_card_console(*card);
  }

 private:
  void unwire() {
    watch_.remove(id_);
    link_.reset();
  }

  // The link goes before the domain: Xen keeps a domain whose pages are mapped. The id is free when its
  // domain is gone.
  VmId id_;
  DoorbellId doorbell_;
  BuiltDomain built_;
  std::unique_ptr<SeededLink> link_;
  XenCalls& xen_;
  DomainWatch& watch_;
  std::vector<WorkerDoorbells>& doorbells_;
};

/// A guest with a kernel of its own; it has no card.
class WatchedForeignVm final : public Vm {
 public:
  WatchedForeignVm(std::unique_ptr<Vm> vm, DomainWatch& watch) : vm_(std::move(vm)), watch_(watch) {
    watch_.add(vm_->id(), 0);
  }
  ~WatchedForeignVm() override { watch_.remove(vm_->id()); }

  VmId id() const override { return vm_->id(); }
  Status start() override { return vm_->start(); }
  Status set_doorbell(WorkerId worker, backend::DoorbellToken doorbell) override {
    return vm_->set_doorbell(worker, doorbell);
  }
  std::unique_ptr<backend::GuestLink> take_link() override { return vm_->take_link(); }
  bool link_ready() const override { return vm_->link_ready(); }
  Result<std::string> console() override { return vm_->console(); }

 private:
  std::unique_ptr<Vm> vm_;
  DomainWatch& watch_;
};

class XenHypervisor final : public Hypervisor {
 public:
  XenHypervisor(UniqueFd lock, std::unique_ptr<XenCalls> xen, std::unique_ptr<Reaper> reaper,
                DomainWatch watch, std::vector<std::unique_ptr<XenDoorbells>> sets, uint32_t channels_ahead)
      : lock_(std::move(lock)), xen_(std::move(xen)), reaper_(std::move(reaper)), watch_(std::move(watch)) {
    const auto ahead = channels_ahead / static_cast<uint32_t>(sets.size());
    for (auto& set : sets) {
      XenDoorbells* const doorbells = set.get();
      xen::PortOpener opener{.open = [doorbells](DomId domid) { return doorbells->open(domid); },
                             .close = [doorbells](EventPort port) { doorbells->unbind(port); }};
      doorbells_.push_back(
          {std::move(set), std::make_unique<DoorbellIds>(fresh_ids_, std::move(opener), ahead)});
    }
  }

  /// The part of the set-up that may fail.
  Status open() {
    auto foreign = ForeignGuests::create({.xen = xen_.get(),
                                          .ender = reaper_.get(),
                                          .grants = &grants_,
                                          .doorbells = [this](WorkerId worker) -> XenDoorbells& {
                                            return *doorbells_.at(worker.value()).set;
                                          }});
    if (!foreign) return foreign.error();
    foreign_ = std::move(*foreign);
    events_ = UniqueFd(::epoll_create1(EPOLL_CLOEXEC));
    if (!events_) return Error::from_errno(errno, "events of guests");
    for (const int fd : {watch_.fd(), foreign_->event_fd()}) {
      epoll_event event{};
      event.events = EPOLLIN;
      if (::epoll_ctl(events_.get(), EPOLL_CTL_ADD, fd, &event) != 0)
        return Error::from_errno(errno, "events of guests");
    }
    return {};
  }

  std::string_view name() const override { return "xen"; }

  Result<std::unique_ptr<PreparedImage>> prepare(const ImageSpec& spec) override {
    auto kind = builtin_service(spec.image);
    if (!kind) return kind.error();
    if (!*kind) return foreign_->prepare(spec);
    auto guest = prepare_builtin(spec, **kind);
    if (!guest) return guest.error();
    return std::unique_ptr<PreparedImage>(std::make_unique<XenImage>(std::move(*guest)));
  }

  Result<std::unique_ptr<Vm>> create(const PreparedImage& image, const VmConfig& config) override {
    if (const auto* foreign = dynamic_cast<const ForeignImage*>(&image))
      return create_foreign(*foreign, config);
    const GuestTemplate& guest = static_cast<const XenImage&>(image).guest();
    const WorkerDoorbells& home = doorbells_.at(config.worker.value());
    for (size_t tries = home.ids->left() + 1;; --tries) {
      auto doorbell = take_id(*home.ids);
      if (!doorbell) return doorbell.error();
      auto built = builder_.build(guest, {.domid = doorbell->domid(),
                                          .generation = config.generation,
                                          .event_port = doorbell->port(),
                                          .entropy = entropy_.take()});
      if (built) return wire(guest, config, std::move(*doorbell), std::move(*built));
      if (built.error().code() != ErrorCode::kConflict || tries <= 1) return built.error();
      std::move(*doorbell).set_aside();
    }
  }

  void destroy_many(std::vector<std::unique_ptr<Vm>> vms) override {
    std::vector<DomId> domids;
    for (const auto& vm : vms)
      if (auto* ours = dynamic_cast<XenVm*>(vm.get()); ours != nullptr && ours->is_ended_by(ender_))
        domids.push_back(ours->let_go());
    ender_.destroy_domains(domids);
    vms.clear();
  }

  backend::DoorbellSet& doorbells(WorkerId worker) override { return *doorbells_.at(worker.value()).set; }
  int event_fd() const override { return events_.get(); }
  std::optional<VmEvent> next_event() override {
    auto event = watch_.next();
    if (!event) return foreign_->next_event();
    if (event->detail.empty()) event->detail = foreign_->last_words(event->vm);
    return event;
  }
  bool work_ahead() override {
    return grants_.work_ahead() ||
           std::any_of(doorbells_.begin(), doorbells_.end(),
                       [](const WorkerDoorbells& worker) { return worker.ids->open_ahead(); });
  }
  Result<uint64_t> memory_left() override { return xen_->free_memory(); }

  Result<uint32_t> sweep() override {
    const auto found = sweep_domains();
    if (!found) return found;
    if (const Status swept = foreign_->sweep([this](DomId domid) { return is_anothers(domid); }); !swept)
      return swept.error();
    return found;
  }

 private:
  /// The last ids may all be with other workers.
  Result<DoorbellId> take_id(DoorbellIds& home) {
    auto id = home.take();
    if (id || id.error().code() != ErrorCode::kExhausted) return id;
    for (const WorkerDoorbells& other : doorbells_) {
      if (other.ids->ready() == 0) continue;
      auto lent = other.ids->take();
      if (!lent) continue;
      if (const Status moved = lent->move_to(home); !moved) return moved.error();
      return lent;
    }
    return id;
  }

  Result<std::unique_ptr<Vm>> wire(const GuestTemplate& guest, const VmConfig& config, DoorbellId doorbell,
                                   BuiltDomain built) {
    const VmId id{doorbell.domid(), config.generation};
    auto link = backend::xen::connect_seeded(grants_, *doorbells_.at(config.worker.value()).set,
                                             {.domid = id.domid,
                                              .port = doorbell.port(),
                                              .pages = guest.layout.shared_area_pages,
                                              .token = config.doorbell});
    if (!link) return link.error();
    if (guest.layout.memory_pages > kPromptlyEndedPages) built.domain.end_by(*reaper_);
    return std::unique_ptr<Vm>(std::make_unique<XenVm>(id, std::move(doorbell), std::move(built),
                                                       std::move(*link), *xen_, watch_, doorbells_));
  }

  Result<std::unique_ptr<Vm>> create_foreign(const ForeignImage& image, const VmConfig& config) {
    auto vm = foreign_->create_vm(image, config);
    if (!vm) return vm.error();
    return std::unique_ptr<Vm>(std::make_unique<WatchedForeignVm>(std::move(*vm), watch_));
  }

  Result<uint32_t> sweep_domains() {
    uint32_t found = 0;
    DomId first(1);
    for (;;) {
      auto domains = xen_->list_domains(first, kListDomains);
      if (!domains) return domains.error();
      for (const toolstack::DomainInfo& domain : *domains) {
        if (!toolstack::is_ours(domain.handle) || domain.dying) continue;
        if (auto status = xen_->destroy_domain(domain.domid); !status) return status.error();
        ++found;
      }
      if (domains->size() < kListDomains) return found;
      first = DomId(static_cast<uint16_t>(domains->back().domid.value() + 1));
    }
  }

  /// True for a domain that is not ours; and when nobody can tell.
  bool is_anothers(DomId domid) {
    const auto domains = xen_->list_domains(domid, 1);
    if (!domains) return true;
    return !domains->empty() && domains->front().domid == domid &&
           !toolstack::is_ours(domains->front().handle);
  }

  UniqueFd lock_;
  std::unique_ptr<XenCalls> xen_;
  std::unique_ptr<Reaper> reaper_;
  PromptEnder ender_{*xen_, *reaper_};
  DomainWatch watch_;
  xen::FreshIds fresh_ids_{kHighestDomId};
  std::vector<WorkerDoorbells> doorbells_;
  DomainBuilder builder_{*xen_, ender_};
  GrantMapper grants_;
  xen::EntropyPool entropy_;
  std::unique_ptr<ForeignGuests> foreign_;
  UniqueFd events_;
};

Result<UniqueFd> take_lock() {
  UniqueFd lock(::open(kLockPath, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!lock) return Error::from_errno(errno, kLockPath);
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    return Error(ErrorCode::kConflict, fmt::format("{}: another gateway runs guests on this host", kLockPath),
                 errno);
  }
  return lock;
}

}  // namespace

Status check_xen_image(const ImageSpec& spec) {
  const auto kind = builtin_service(spec.image);
  if (!kind) return kind.error();
  if (*kind) {
    const auto guest = prepare_builtin(spec, **kind);
    return guest ? Status() : guest.error();
  }
  const auto image = xen::read_foreign_image(spec);
  return image ? Status() : image.error();
}

Result<std::unique_ptr<Hypervisor>> open_xen_hypervisor(const XenHypervisorConfig& config) {
  auto xen = toolstack::open_xen_calls();
  if (!xen) return xen.error();
  auto lock = take_lock();
  if (!lock) return lock.error();
  auto reapers_xen = toolstack::open_xen_calls();
  if (!reapers_xen) return reapers_xen.error();
  auto reaper = Reaper::create(std::move(*reapers_xen));
  if (!reaper) return reaper.error();
  auto watch = DomainWatch::create(**xen);
  if (!watch) return watch.error();
  std::vector<std::unique_ptr<XenDoorbells>> doorbells;
  for (uint16_t i = 0; i < config.workers; ++i) {
    auto set = XenDoorbells::create();
    if (!set) return set.error();
    doorbells.push_back(std::move(*set));
  }
  auto hypervisor =
      std::make_unique<XenHypervisor>(std::move(*lock), std::move(*xen), std::move(*reaper),
                                      std::move(*watch), std::move(doorbells), config.channels_ahead);
  if (const Status opened = hypervisor->open(); !opened) return opened.error();
  return std::unique_ptr<Hypervisor>(std::move(hypervisor));
}

}  // namespace synfluid::spawner
