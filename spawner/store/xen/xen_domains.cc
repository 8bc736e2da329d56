#include "spawner/store/xen/xen_domains.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xen/grant_table.h>

#include "backend/xen/libxen.h"
#include "backend/xen/quiet_logger.h"

extern "C" {
#include <xenforeignmemory.h>
}

namespace synfluid::spawner::store::xen {

namespace {

constexpr size_t kPage = 4096;
constexpr uint32_t kListBatch = 1024;
/// Below so many domains, asking for each costs less than listing them.
constexpr size_t kFew = 16;
/// A look through the domains waits for four times what the last one took.
constexpr int64_t kRestFactor = 4;

class GrantedPort final : public RingPort {
 public:
  GrantedPort(backend::xen::GrantMap map, Channel channel)
      : map_(std::move(map)), channel_(std::move(channel)) {}
  RingPage& page() override { return *reinterpret_cast<RingPage*>(map_.bytes().data()); }
  void notify() override { channel_.notify(); }

 private:
  backend::xen::GrantMap map_;
  Channel channel_;
};

class ForeignPort final : public RingPort {
 public:
  ForeignPort(xenforeignmemory_handle* foreign, void* page, Channel channel)
      : foreign_(foreign), page_(page), channel_(std::move(channel)) {}
  ~ForeignPort() override { xenforeignmemory_unmap(foreign_, page_, 1); }
  RingPage& page() override { return *static_cast<RingPage*>(page_); }
  void notify() override { channel_.notify(); }

 private:
  xenforeignmemory_handle* foreign_;
  void* page_;
  Channel channel_;
};

class KernelPort final : public RingPort {
 public:
  KernelPort(void* page, Channel channel) : page_(page), channel_(std::move(channel)) {}
  ~KernelPort() override { ::munmap(page_, kPage); }
  RingPage& page() override { return *static_cast<RingPage*>(page_); }
  void notify() override { channel_.notify(); }

 private:
  void* page_;
  Channel channel_;
};

Result<void*> map_kernel_page() {
  constexpr const char* kPath = "/proc/xen/xsd_kva";
  const UniqueFd file(::open(kPath, O_RDWR | O_CLOEXEC));
  if (!file) return Error::from_errno(errno, kPath);
  void* page = ::mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  if (page == MAP_FAILED) return Error::from_errno(errno, kPath);
  return page;
}

Result<EventPort> kernel_port() {
  constexpr const char* kPath = "/proc/xen/xsd_port";
  uint32_t port = 0;
  if (std::ifstream(kPath) >> port) return EventPort(port);
  return Error(ErrorCode::kUnavailable, fmt::format("{} names no port", kPath));
}

}  // namespace

Result<std::unique_ptr<XenDomains>> XenDomains::open(EventLoop& loop, Switchboard& board,
                                                     const Clock& clock) {
  std::unique_ptr<XenDomains> domains(new XenDomains(board, clock));
  auto calls = toolstack::open_xen_calls();
  if (!calls) return calls.error();
  domains->calls_ = std::move(*calls);
  domains->foreign_ = xenforeignmemory_open(backend::xen::quiet_logger(), 0);
  if (domains->foreign_ == nullptr) return Error::from_errno(errno, "/dev/xen/privcmd");
  auto channels = EventChannels::open(loop);
  if (!channels) return channels.error();
  domains->channels_ = std::move(*channels);
  auto exception = domains->channels_->bind_domain_exception([self = domains.get()] { self->look_ = true; });
  if (!exception) return exception.error().within("does another store run?");
  domains->exception_.emplace(std::move(*exception));
  return domains;
}

XenDomains::~XenDomains() {
  if (foreign_ != nullptr) xenforeignmemory_close(foreign_);
}

EventChannels::Handler XenDomains::handler_for(DomId domid) {
  return [this, domid] {
    if (const auto ring = rings_.find(domid); ring != rings_.end()) ring->second->on_event();
  };
}

Result<std::unique_ptr<RingPort>> XenDomains::connect_granted(DomId domid, EventPort port) {
  auto shard = grants_.shard();
  if (!shard) return shard.error();
  constexpr std::array<uint32_t, 1> kRef = {GNTTAB_RESERVED_XENSTORE};
  auto map = backend::xen::map_grants(std::move(*shard), domid, kRef);
  if (!map) return map.error();
  auto channel = channels_->bind(domid, port, handler_for(domid));
  if (!channel) return channel.error();
  return std::make_unique<GrantedPort>(std::move(*map), std::move(*channel));
}

Result<std::unique_ptr<RingPort>> XenDomains::connect_foreign(DomId domid, uint64_t gfn, EventPort port) {
  xen_pfn_t frame = gfn;
  int failed = 0;
  void* page = xenforeignmemory_map(foreign_, domid.value(), PROT_READ | PROT_WRITE, 1, &frame, &failed);
  if (page == nullptr)
    return Error::from_errno(errno, fmt::format("mapping frame {} of domain {}", gfn, domid.value()));
  auto channel = channels_->bind(domid, port, handler_for(domid));
  if (channel) return std::make_unique<ForeignPort>(foreign_, page, std::move(*channel));
  xenforeignmemory_unmap(foreign_, page, 1);
  return channel.error();
}

Result<std::unique_ptr<RingPort>> XenDomains::connect(DomId domid, uint64_t gfn, EventPort port) {
  auto granted = connect_granted(domid, port);
  if (granted) return granted;
  auto foreign = connect_foreign(domid, gfn, port);
  if (foreign) return foreign;
  return granted.error();
}

RingStream& XenDomains::add_stream(DomId domid, ConnectionId connection, std::unique_ptr<RingPort> port) {
  auto stream = std::make_unique<RingStream>(board_, connection, std::move(port), ring_log_);
  RingStream* const ring = stream.get();
  board_.add(std::move(stream));
  rings_[domid] = ring;
  return *ring;
}

Fault XenDomains::failed(const Error& error) {
  if (const auto more = log_.admit(clock_.now_ns())) spdlog::warn("INTRODUCE: {}{}", error.text(), *more);
  return fault_from_errno(error.sys_errno());
}

Fault XenDomains::introduce(DomId domid, uint64_t gfn, EventPort port, ConnectionId connection) {
  auto ring = connect(domid, gfn, port);
  if (!ring) return failed(ring.error());
  add_stream(domid, connection, std::move(*ring)).begin_anew(nullptr);
  return Fault::kNone;
}

Fault XenDomains::reintroduce(DomId domid, uint64_t gfn, EventPort port, ConnectionId connection) {
  const auto known = rings_.find(domid);
  if (known == rings_.end()) return introduce(domid, gfn, port, connection);
  // A port that is bound cannot be bound again: the old one goes first.
  known->second->unplug();
  auto ring = connect(domid, gfn, port);
  if (!ring) return failed(ring.error());
  known->second->begin_anew(std::move(*ring));
  return Fault::kNone;
}

void XenDomains::release(DomId domid, ConnectionId connection) {
  rings_.erase(domid);
  board_.drop(connection);
}

Status XenDomains::connect_own_kernel(std::optional<ConnectionId> connection,
                                      const std::optional<RingRemnant>& remnant) {
  const auto port = kernel_port();
  if (!port) return port.error();
  const auto page = map_kernel_page();
  if (!page) return page.error();
  auto channel = channels_->bind(DomId(0), *port, handler_for(DomId(0)));
  if (!channel) {
    ::munmap(*page, kPage);
    return channel.error();
  }
  if (!connection) connection = board_.engine().adopt_domain(DomId(0), *port, Privilege::kControl);
  RingStream& stream =
      add_stream(DomId(0), *connection, std::make_unique<KernelPort>(*page, std::move(*channel)));
  if (remnant) stream.take_up(*remnant);
  stream.advertise();
  return {};
}

void XenDomains::write_remnants(RingLog& log) const {
  for (const auto& [domid, stream] : rings_)
    if (const RingRemnant remnant = stream->remnant(); !remnant.empty())
      log.remnant_left(stream->id(), remnant);
}

Status XenDomains::resume(const DomainState& domain, const std::optional<RingRemnant>& remnant) {
  auto ring = connect(domain.domid, domain.gfn, domain.port);
  if (!ring) return ring.error();
  RingStream& stream = add_stream(domain.domid, domain.connection, std::move(*ring));
  if (remnant) stream.take_up(*remnant);
  stream.advertise();
  look_ = true;  // it may have died while nobody looked
  return {};
}

int XenDomains::on_turn() {
  if (!look_) return -1;
  const int64_t now = clock_.now_ns();
  if (now < next_look_ns_) return static_cast<int>((next_look_ns_ - now) / kNsPerMs) + 1;
  look_ = false;
  look_for_the_dead();
  const int64_t done = clock_.now_ns();
  next_look_ns_ = done + kRestFactor * (done - now);
  return -1;
}

void XenDomains::look_for_the_dead() {
  std::vector<DomId> known;
  for (const auto& [domid, stream] : rings_)
    if (domid != DomId(0)) known.push_back(domid);
  if (known.size() > kFew) return look_through(known);
  for (const DomId domid : known) look_through({domid});
}

/// `known` ascends, as Xen's list does.
void XenDomains::look_through(const std::vector<DomId>& known) {
  DomId next = known.empty() ? DomId(0) : known.front();
  const uint32_t batch = known.size() == 1 ? 1 : kListBatch;
  std::vector<toolstack::DomainInfo> there;
  size_t at = 0;
  for (const DomId domid : known) {
    while (at == there.size() || there[at].domid < domid) {
      if (at < there.size()) {
        ++at;
        continue;
      }
      auto more = calls_->list_domains(std::max(next, domid), batch);
      if (!more) return;
      there = std::move(*more);
      at = 0;
      if (there.empty()) break;
      next = DomId(static_cast<uint16_t>(there.back().domid.value() + 1));
    }
    const bool found = at < there.size() && there[at].domid == domid;
    if (!found || there[at].dying)
      board_.engine().domain_died(domid);
    else if (there[at].shut_down)
      board_.engine().domain_shut_down(domid);
  }
}

}  // namespace synfluid::spawner::store::xen
