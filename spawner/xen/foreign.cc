#include "spawner/xen/foreign.h"

#include <array>
#include <cerrno>
#include <charconv>
#include <map>
#include <utility>

#include <sys/epoll.h>

#include "base/unique_fd.h"
#include "spawner/xen/foreign_domain.h"
#include "spawner/xen/foreign_store.h"
#include "spawner/xen/foreign_vm.h"
#include "spawner/xen/guest_console.h"
#include "spawner/xen/xen_control_store.h"

namespace synfluid::spawner::xen {

namespace {

/// Store events that one call looks at, so that a guest that flips its state can't keep the spawner to
/// itself.
constexpr int kEventsPerCall = 32;
constexpr size_t kConsolesPerCall = 16;

}  // namespace

class ForeignGuests::Impl {
 public:
  Impl(ForeignGuestsConfig config, UniqueFd epoll) : config_(std::move(config)), epoll_(std::move(epoll)) {}

  Status open();
  bool is_open() const { return builder_ != nullptr; }
  ControlStore& store() { return *store_; }
  int event_fd() const { return epoll_.get(); }

  Result<std::unique_ptr<Vm>> create_vm(const ForeignImage& image, const VmConfig& config);
  std::optional<VmEvent> next_event();
  std::string last_words(VmId vm) const;

 private:
  Status poll(int fd);
  void read_consoles();
  ForeignVm* find(std::string_view token);
  backend::DoorbellToken new_key();

  ForeignGuestsConfig config_;
  UniqueFd epoll_;
  std::unique_ptr<ControlStore> store_;
  std::unique_ptr<backend::xen::XenDoorbells> consoles_;
  std::unique_ptr<ForeignBuilder> builder_;
  std::map<backend::DoorbellToken, ForeignVm*> guests_;
  backend::DoorbellToken last_key_ = 0;
};

Status ForeignGuests::Impl::poll(int fd) {
  epoll_event event{};
  event.events = EPOLLIN;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0)
    return Error::from_errno(errno, "events of foreign guests");
  return {};
}

// Members are set last and together: a failure leaves nothing half open.
Status ForeignGuests::Impl::open() {
  if (is_open()) return {};
  auto store = open_control_store();
  if (!store) return store.error();
  auto consoles = backend::xen::XenDoorbells::create();
  if (!consoles) return consoles.error();
  auto builder = open_foreign_builder(*config_.ender);
  if (!builder) return builder.error();
  if (const Status s = poll((*consoles)->fd()); !s) return s;
  if (const Status s = poll((*store)->event_fd()); !s) return s;
  store_ = std::move(*store);
  consoles_ = std::move(*consoles);
  builder_ = std::move(*builder);
  return {};
}

backend::DoorbellToken ForeignGuests::Impl::new_key() {
  // Keys come round after four billion guests; those in use are passed over, as is kNoDoorbell.
  do ++last_key_;
  while (last_key_ == kNoDoorbell || guests_.contains(last_key_));
  return last_key_;
}

Result<std::unique_ptr<Vm>> ForeignGuests::Impl::create_vm(const ForeignImage& image,
                                                           const VmConfig& config) {
  auto domain = builder_->build(image, config.generation);
  if (!domain) return domain.error().within(image.path);
  const backend::DoorbellToken key = new_key();
  auto console = connect_console(*config_.grants, *consoles_, domain->domain.id(), domain->console_port, key);
  if (!console) return console.error().within(image.path);
  const ForeignHost host{.store = *store_,
                         .xen = *config_.xen,
                         .connect =
                             [this](WorkerId worker, const backend::xen::ForeignLinkConfig& link) {
                               return backend::xen::connect_foreign(*config_.grants,
                                                                    config_.doorbells(worker), link);
                             },
                         .forget = [this](backend::DoorbellToken gone) { guests_.erase(gone); },
                         .offer = {.control_ring = image.offers_control_ring}};
  auto vm = ForeignVm::create(host, std::move(*domain), std::move(*console), config, key);
  if (!vm) return vm.error().within(image.path);
  guests_[key] = vm->get();
  return std::unique_ptr<Vm>(std::move(*vm));
}

void ForeignGuests::Impl::read_consoles() {
  std::array<backend::DoorbellToken, kConsolesPerCall> rung;
  const size_t count = consoles_->collect(rung);
  for (size_t i = 0; i < count; ++i)
    if (const auto found = guests_.find(rung[i]); found != guests_.end()) found->second->read_console();
}

ForeignVm* ForeignGuests::Impl::find(std::string_view token) {
  backend::DoorbellToken key = 0;
  std::from_chars(token.data(), token.data() + token.size(), key);
  const auto found = guests_.find(key);
  return found == guests_.end() ? nullptr : found->second;
}

std::optional<VmEvent> ForeignGuests::Impl::next_event() {
  if (!is_open()) return std::nullopt;
  read_consoles();
  for (int i = 0; i < kEventsPerCall; ++i) {
    const auto changed = store_->next_event();
    if (!changed) return std::nullopt;
    ForeignVm* vm = find(changed->token);
    if (vm == nullptr) continue;
    if (auto event = vm->front_changed()) return event;
  }
  return std::nullopt;
}

std::string ForeignGuests::Impl::last_words(VmId vm) const {
  for (const auto& [key, guest] : guests_)
    if (guest->id() == vm) return guest->last_words();
  return {};
}

ForeignGuests::ForeignGuests(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ForeignGuests::~ForeignGuests() = default;

Result<std::unique_ptr<ForeignGuests>> ForeignGuests::create(ForeignGuestsConfig config) {
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return Error::from_errno(errno, "events of foreign guests");
  return std::unique_ptr<ForeignGuests>(
      new ForeignGuests(std::make_unique<Impl>(std::move(config), std::move(epoll))));
}

Result<std::unique_ptr<PreparedImage>> ForeignGuests::prepare(const ImageSpec& spec) {
  auto image = read_foreign_image(spec);
  if (!image) return image.error();
  if (const Status opened = impl_->open(); !opened) return opened.error().within(spec.image);
  return std::unique_ptr<PreparedImage>(std::make_unique<ForeignImage>(std::move(*image)));
}

Result<std::unique_ptr<Vm>> ForeignGuests::create_vm(const ForeignImage& image, const VmConfig& config) {
  return impl_->create_vm(image, config);
}

int ForeignGuests::event_fd() const {
  return impl_->event_fd();
}
std::optional<VmEvent> ForeignGuests::next_event() {
  return impl_->next_event();
}
std::string ForeignGuests::last_words(VmId vm) const {
  return impl_->last_words(vm);
}

Status ForeignGuests::sweep(const std::function<bool(DomId)>& is_in_use) {
  // Without a store nobody can have left anything in one.
  auto store = open_control_store();
  if (!store && store.error().code() == ErrorCode::kUnavailable) return {};
  if (!store) return store.error();
  const auto swept = sweep_nodes(**store, is_in_use);
  if (!swept) return swept.error();
  return {};
}

}  // namespace synfluid::spawner::xen
