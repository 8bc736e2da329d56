#include "spawner/process/process_hypervisor.h"

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <deque>
#include <unordered_map>

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "backend/process/process_link.h"
#include "guest/images.h"
#include "spawner/card_console.h"
#include "spawner/process/domain_ids.h"
#include "spawner/process/guest_parts.h"
#include "spawner/process/process_image.h"
#include "spawner/process/zygote_client.h"
#include "spawner/shared_area.h"
#include "spawner/wake_event.h"

namespace synfluid::spawner {
namespace {

namespace zygote = guest::process;

/// How far a guest has come, as the zygote tells it.
struct Guest {
  VmId id;
  uint64_t cost_bytes = 0;
  int32_t pid = 0;      // in the zygote's namespace; 0 until it is spawned
  UniqueFd pidfd;       // from then on
  bool doomed = false;  // its Vm is gone: no event, and it is killed as soon as it is there
};

uint64_t available_memory() {
  std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen("/proc/meminfo", "re"), &std::fclose);
  char line[128];
  while (file && std::fgets(line, sizeof line, file.get()) != nullptr) {
    unsigned long long kib = 0;
    if (std::sscanf(line, "MemAvailable: %llu kB", &kib) == 1) return uint64_t{kib} * 1024;
  }
  return 0;
}

void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

std::string describe_end(int status) {
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
    return "it made a system call that its sandbox forbids";
  if (WIFSIGNALED(status)) return fmt::format("killed by signal {}", WTERMSIG(status));
  switch (WEXITSTATUS(status)) {
    case zygote::kExitHalted:
      return "it halted";
    case zygote::kExitNoArea:
      return "it found no card to its liking";
    case zygote::kExitNoSeal:
      return "its sandbox could not be closed";
    default:
      return fmt::format("exit status {}", WEXITSTATUS(status));
  }
}

class ProcessHypervisor final : public Hypervisor {
 public:
  static Result<std::unique_ptr<ProcessHypervisor>> make(const ProcessHypervisorConfig& config);
  ~ProcessHypervisor() override = default;

  std::string_view name() const override { return "process"; }
  Result<std::unique_ptr<PreparedImage>> prepare(const ImageSpec& spec) override {
    return prepare_process_image(spec);
  }
  Result<std::unique_ptr<Vm>> create(const PreparedImage& image, const VmConfig& config) override;
  backend::DoorbellSet& doorbells(WorkerId worker) override { return *doorbells_[worker.value()]; }
  int event_fd() const override { return epoll_.get(); }
  std::optional<VmEvent> next_event() override;
  Result<uint64_t> memory_left() override;
  Result<uint32_t> sweep() override { return 0u; }

  backend::ProcessDoorbells& process_doorbells(WorkerId worker) { return *doorbells_[worker.value()]; }
  void destroy(uint64_t cookie);

 private:
  explicit ProcessHypervisor(uint64_t memory_limit) : memory_limit_(memory_limit) {}

  Status start_zygote();
  Status watch(int fd);
  Status ask_zygote(const zygote::ZygoteRequest& request, const std::array<int, zygote::kZygoteFds>& fds);
  Status check_memory(const ProcessImage& image) const;
  void pump();
  void hear(ZygoteMessage message);
  void spawned(ZygoteMessage& message);
  void ended(uint64_t cookie, VmEvent::Kind kind, std::string detail);
  void zygote_died();
  void push(VmEvent event);

  const uint64_t memory_limit_;
  uint64_t committed_ = 0;
  std::vector<std::unique_ptr<backend::ProcessDoorbells>> doorbells_;
  UniqueFd epoll_;
  std::unique_ptr<WakeEvent> events_waiting_;
  std::deque<VmEvent> events_;
  DomainIds domids_;
  uint64_t next_cookie_ = 1;
  std::unordered_map<uint64_t, Guest> guests_;     // by cookie
  std::unordered_map<int32_t, uint64_t> cookies_;  // by pid in the zygote's namespace
  std::unique_ptr<ZygoteClient> zygote_;
};

class ProcessVm final : public Vm {
 public:
  ProcessVm(ProcessHypervisor& hypervisor, uint64_t cookie, VmId id, const VmConfig& config, GuestParts parts)
      : hypervisor_(hypervisor),
        cookie_(cookie),
        id_(id),
        worker_(config.worker),
        doorbell_(config.doorbell),
        parts_(std::move(parts)) {}
  ~ProcessVm() override { hypervisor_.destroy(cookie_); }
  ProcessVm(const ProcessVm&) = delete;
  ProcessVm& operator=(const ProcessVm&) = delete;

  VmId id() const override { return id_; }

  /// A paused guest waits for the first ring of its doorbell.
  Status start() override {
    const uint64_t ring = 1;
    if (!parts_.gate || ::write(parts_.gate.get(), &ring, sizeof ring) != sizeof ring)
      return Error::from_errno(parts_.gate ? errno : EALREADY, "starting a guest process");
    parts_.gate.reset();
    return {};
  }

  Status set_doorbell(WorkerId worker, backend::DoorbellToken doorbell) override {
    worker_ = worker;
    doorbell_ = doorbell;
    return {};
  }

  std::unique_ptr<backend::GuestLink> take_link() override {
    if (!link_ready()) return nullptr;
    Result<std::unique_ptr<backend::GuestLink>> link =
        backend::make_process_link({.area = parts_.area,
                                    .to_guest = std::move(parts_.to_guest),
                                    .from_guest = std::move(parts_.from_guest),
                                    .token = doorbell_},
                                   hypervisor_.process_doorbells(worker_));
    return link ? std::move(*link) : nullptr;
  }

  bool link_ready() const override { return static_cast<bool>(parts_.from_guest); }
  Result<std::string> console() override { return read_card_console(parts_.area->bytes()); }

 private:
  ProcessHypervisor& hypervisor_;
  const uint64_t cookie_;
  const VmId id_;
  WorkerId worker_;
  backend::DoorbellToken doorbell_;
  GuestParts parts_;  // all but the area is the link's, once it is taken
};

Result<std::unique_ptr<ProcessHypervisor>> ProcessHypervisor::make(const ProcessHypervisorConfig& config) {
  raise_descriptor_limit();
  const uint64_t limit = config.memory_limit_bytes != 0 ? config.memory_limit_bytes : available_memory();
  std::unique_ptr<ProcessHypervisor> made(new ProcessHypervisor(limit));
  for (uint16_t i = 0; i < config.workers; ++i) {
    Result<std::unique_ptr<backend::ProcessDoorbells>> set = backend::ProcessDoorbells::create();
    if (!set) return set.error();
    made->doorbells_.push_back(std::move(*set));
  }
  Result<std::unique_ptr<WakeEvent>> waiting = WakeEvent::create();
  if (!waiting) return waiting.error();
  made->events_waiting_ = std::move(*waiting);
  made->epoll_.reset(::epoll_create1(EPOLL_CLOEXEC));
  if (!made->epoll_) return Error::from_errno(errno, "an epoll set for guest processes");
  if (const Status watched = made->watch(made->events_waiting_->fd()); !watched) return watched.error();
  if (const Status started = made->start_zygote(); !started) return started.error();
  return made;
}

Status ProcessHypervisor::watch(int fd) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0) return {};
  return Error::from_errno(errno, "watching the guest processes");
}

Status ProcessHypervisor::start_zygote() {
  Result<std::unique_ptr<ZygoteClient>> zygote = ZygoteClient::launch(guest::process_image());
  if (!zygote) return zygote.error();
  if (Status watched = watch((*zygote)->fd()); !watched) return watched;
  zygote_ = std::move(*zygote);
  return {};
}

Status ProcessHypervisor::check_memory(const ProcessImage& image) const {
  if (committed_ + image.cost_bytes() <= memory_limit_) return {};
  return Error(ErrorCode::kNoMemory,
               fmt::format("no memory for another guest process: {} of {} MiB are taken, it needs {} KiB",
                           committed_ >> 20, memory_limit_ >> 20, image.cost_bytes() >> 10));
}

Result<std::unique_ptr<Vm>> ProcessHypervisor::create(const PreparedImage& prepared, const VmConfig& config) {
  const auto& image = static_cast<const ProcessImage&>(prepared);
  if (const Status fits = check_memory(image); !fits) return fits.error();
  if (!zygote_)
    if (const Status started = start_zygote(); !started) return started.error();

  Result<GuestParts> parts = make_parts(image);
  if (!parts) return parts.error();
  const std::optional<DomId> domid = domids_.take();
  if (!domid) return Error(ErrorCode::kExhausted, "all domain ids are taken");
  const VmId id{*domid, config.generation};
  const uint64_t cookie = next_cookie_++;
  Status asked = lay_out(*parts->area, image, id);
  if (asked) asked = ask_zygote(request_for(image, id, cookie), parts->shared_fds());
  if (!asked) {
    domids_.give_back(*domid);
    return asked.error();
  }
  parts->area->close_fd();
  guests_.emplace(cookie, Guest{.id = id, .cost_bytes = image.cost_bytes(), .pid = 0, .pidfd = {}});
  committed_ += image.cost_bytes();
  return std::unique_ptr<Vm>(std::make_unique<ProcessVm>(*this, cookie, id, config, std::move(*parts)));
}

/// Takes what the zygote says while its socket is full: it may itself be waiting to say it.
Status ProcessHypervisor::ask_zygote(const zygote::ZygoteRequest& request,
                                     const std::array<int, zygote::kZygoteFds>& fds) {
  for (;;) {
    Status asked = zygote_->request(request, fds);
    if (asked || asked.error().code() != ErrorCode::kConflict) {
      if (!asked) pump();
      return asked;
    }
    pump();
    if (!zygote_) return Error(ErrorCode::kUnavailable, "the zygote died");
    if (Status writable = zygote_->wait_writable(); !writable) return writable;
  }
}

std::optional<VmEvent> ProcessHypervisor::next_event() {
  if (events_.empty()) {
    events_waiting_->acknowledge();
    pump();
  }
  if (events_.empty()) return std::nullopt;
  VmEvent event = std::move(events_.front());
  events_.pop_front();
  return event;
}

void ProcessHypervisor::push(VmEvent event) {
  events_.push_back(std::move(event));
  events_waiting_->signal();
}

void ProcessHypervisor::pump() {
  while (zygote_) {
    std::optional<ZygoteMessage> message = zygote_->next();
    if (message) {
      hear(std::move(*message));
    } else if (zygote_->alive()) {
      return;
    } else {
      zygote_died();
    }
  }
}

void ProcessHypervisor::hear(ZygoteMessage message) {
  const zygote::ZygoteReply& reply = message.reply;
  switch (reply.kind) {
    case zygote::ZygoteReplyKind::kSpawned:
      return spawned(message);
    case zygote::ZygoteReplyKind::kRefused:
      return ended(reply.cookie, VmEvent::Kind::kCrashed,
                   Error::from_errno(reply.value, "the zygote could not make the guest").text());
    case zygote::ZygoteReplyKind::kExited: {
      const auto found = cookies_.find(reply.pid);
      if (found == cookies_.end()) return;
      const uint64_t cookie = found->second;
      cookies_.erase(found);
      const bool halted = WIFEXITED(reply.value) && WEXITSTATUS(reply.value) == zygote::kExitHalted;
      return ended(cookie, halted ? VmEvent::Kind::kExited : VmEvent::Kind::kCrashed,
                   describe_end(reply.value));
    }
    default:
      return;
  }
}

void ProcessHypervisor::spawned(ZygoteMessage& message) {
  const auto found = guests_.find(message.reply.cookie);
  if (found == guests_.end()) return;
  Guest& guest = found->second;
  guest.pid = message.reply.pid;
  guest.pidfd = std::move(message.pidfd);
  cookies_[guest.pid] = message.reply.cookie;
  if (guest.doomed) destroy(message.reply.cookie);
}

void ProcessHypervisor::destroy(uint64_t cookie) {
  const auto found = guests_.find(cookie);
  if (found == guests_.end()) return;
  found->second.doomed = true;
  if (!found->second.pidfd) return;
  ::syscall(SYS_pidfd_send_signal, found->second.pidfd.get(), SIGKILL, nullptr, 0);
  found->second.pidfd.reset();
}

/// The process is gone, or was never made: what it held is free.
void ProcessHypervisor::ended(uint64_t cookie, VmEvent::Kind kind, std::string detail) {
  const auto found = guests_.find(cookie);
  if (found == guests_.end()) return;
  const Guest guest = std::move(found->second);
  guests_.erase(found);
  committed_ -= guest.cost_bytes;
  domids_.give_back(guest.id.domid);
  if (!guest.doomed) push({.vm = guest.id, .kind = kind, .detail = std::move(detail)});
}

/// Its namespace went with it, and every process in there. The next create() starts another.
void ProcessHypervisor::zygote_died() {
  zygote_.reset();
  cookies_.clear();
  std::vector<uint64_t> cookies;
  for (const auto& [cookie, guest] : guests_) cookies.push_back(cookie);
  for (const uint64_t cookie : cookies) ended(cookie, VmEvent::Kind::kCrashed, "the zygote died");
}

Result<uint64_t> ProcessHypervisor::memory_left() {
  return memory_limit_ > committed_ ? memory_limit_ - committed_ : 0;
}

}  // namespace

Result<std::unique_ptr<Hypervisor>> make_process_hypervisor(const ProcessHypervisorConfig& config) {
  Result<std::unique_ptr<ProcessHypervisor>> made = ProcessHypervisor::make(config);
  if (!made) return made.error().within("process hypervisor");
  return std::unique_ptr<Hypervisor>(std::move(*made));
}

Status check_process_image(const ImageSpec& spec) {
  const auto image = prepare_process_image(spec);
  return image ? Status() : image.error();
}

Status probe_process_hypervisor() {
  const Result<std::unique_ptr<ZygoteClient>> zygote = ZygoteClient::launch(guest::process_image());
  if (!zygote) return zygote.error().within("process hypervisor");
  return {};
}

}  // namespace synfluid::spawner
