#include "spawner/store/daemon.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <filesystem>

#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "spawner/store/lmdb_storage.h"
#include "spawner/store/memory_storage.h"

namespace synfluid::spawner::store {

namespace {

constexpr int kTickMs = 10;

void remove_lmdb(const std::string& path) {
  std::error_code ignored;
  std::filesystem::remove(path, ignored);
  std::filesystem::remove(path + "-lock", ignored);
}

}  // namespace

/// On a machine without Xen there is nobody to introduce.
class Daemon::NoDomains final : public Domains {
 public:
  Fault introduce(DomId, uint64_t, EventPort, ConnectionId) override { return Fault::kEnosys; }
  Fault reintroduce(DomId, uint64_t, EventPort, ConnectionId) override { return Fault::kEnosys; }
  void release(DomId, ConnectionId) override {}
};

class Daemon::Signals final : public Watcher {
 public:
  explicit Signals(EventLoop& loop) : loop_(loop) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    fd_.reset(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  }
  ~Signals() override { loop_.remove(fd_.get()); }
  Status start() { return loop_.add(fd_.get(), EPOLLIN, *this); }
  void on_ready(uint32_t) override { asked_to_end_ = true; }
  bool asked_to_end() const { return asked_to_end_; }

 private:
  EventLoop& loop_;
  UniqueFd fd_;
  bool asked_to_end_ = false;
};

Daemon::Daemon(DaemonConfig config, EventLoop loop)
    : config_(std::move(config)), loop_(std::move(loop)), board_(clock_) {}

Daemon::~Daemon() {
  listeners_.clear();
  board_.clear();
}

Result<std::unique_ptr<Daemon>> Daemon::start(const DaemonConfig& config) {
  auto loop = EventLoop::create();
  if (!loop) return loop.error();
  std::unique_ptr<Daemon> daemon(new Daemon(config, std::move(*loop)));
  Legacy legacy;
  if (Status status = daemon->open_storage(legacy); !status) return status.error();
  if (Status status = daemon->open_domains(); !status) return status.error();
  Domains& domains = daemon->xen_ ? static_cast<Domains&>(*daemon->xen_) : *daemon->no_domains_;
  const EngineConfig engine_config{.quotas = config.quotas, .clock = &daemon->clock_};
  daemon->engine_ =
      daemon->log_
          ? std::make_unique<Engine>(engine_config, *daemon->storage_, daemon->board_, domains, *daemon->log_)
          : std::make_unique<Engine>(engine_config, *daemon->storage_, daemon->board_, domains);
  daemon->board_.set_engine(*daemon->engine_);
  daemon->connect_domains(legacy);
  if (Status status = daemon->open_sockets(); !status) return status.error();
  if (Status status = daemon->open_signals(); !status) return status.error();
  if (!config.handover_path.empty()) remove_lmdb(config.handover_path);
  return daemon;
}

void Daemon::Legacy::add(const EngineState& state, RingLog& log) {
  engine = state;
  for (const DomainState& domain : state.domains)
    if (auto remnant = log.remnant_of(domain.domid)) remnants.emplace(domain.domid, std::move(*remnant));
}

std::optional<RingRemnant> Daemon::Legacy::remnant_of(DomId domid) const {
  const auto found = remnants.find(domid);
  return found == remnants.end() ? std::nullopt : std::optional(found->second);
}

Status Daemon::open_storage(Legacy& legacy) {
  if (config_.lmdb_path.empty()) {
    storage_ = std::make_unique<MemoryStorage>();
    return take_handover(legacy);
  }
  auto file = LmdbFile::open(config_.lmdb_path);
  if (!file) return file.error();
  file_ = std::move(*file);
  log_ = std::make_unique<LmdbStateLog>(*file_);
  auto storage = LmdbStorage::open(*file_, std::make_unique<MemoryStorage>());
  if (!storage) return storage.error();
  storage_ = std::move(*storage);
  if (storage_->size() == 0) {
    if (Status taken = take_handover(legacy); !taken) return taken;
    return log_->save(legacy.engine);
  }
  auto loaded = log_->load();
  if (!loaded) return loaded.error();
  legacy.add(*loaded, *log_);
  return {};
}

Status Daemon::take_handover(Legacy& legacy) {
  if (config_.handover_path.empty() || !std::filesystem::exists(config_.handover_path)) return {};
  auto file = LmdbFile::open(config_.handover_path);
  if (!file) return file.error();
  auto nodes = LmdbStorage::open(**file, std::make_unique<MemoryStorage>());
  if (!nodes) return nodes.error();
  if ((*nodes)->size() == 0) return {};  // another boot's
  if (Status copied = copy_nodes(**nodes, *storage_); !copied) return copied;
  LmdbStateLog log(**file);
  auto loaded = log.load();
  if (!loaded) return loaded.error();
  legacy.add(*loaded, log);
  return {};
}

Status Daemon::write_handover() const {
  if (file_ || config_.handover_path.empty()) return {};
  remove_lmdb(config_.handover_path);
  auto file = LmdbFile::open(config_.handover_path);
  if (!file) return file.error();
  auto nodes = LmdbStorage::open(**file, std::make_unique<MemoryStorage>());
  if (!nodes) return nodes.error();
  if (Status copied = copy_nodes(*storage_, **nodes); !copied) return copied;
  LmdbStateLog log(**file);
  if (Status saved = log.save(engine_->snapshot()); !saved) return saved;
  if (xen_) xen_->write_remnants(log);
  return {};
}

Status Daemon::open_domains() {
  if (config_.domains) {
    auto xen = xen::XenDomains::open(loop_, board_, clock_);
    if (!xen) return xen.error().within("no domains can be served (--no-domains goes without)");
    xen_ = std::move(*xen);
    if (log_) xen_->set_log(*log_);
  } else {
    no_domains_ = std::make_unique<NoDomains>();
  }
  return {};
}

void Daemon::connect_domains(const Legacy& legacy) {
  engine_->restore(legacy.engine);
  std::optional<ConnectionId> own;
  for (const DomainState& domain : engine_->domains()) {
    if (domain.domid == DomId(0)) {
      own = domain.connection;
      continue;
    }
    const Status resumed = xen_ ? xen_->resume(domain, legacy.remnant_of(domain.domid))
                                : Status(Error(ErrorCode::kUnavailable, "no domains are served"));
    if (resumed) continue;
    spdlog::warn("domain {} is not there any more: {}", domain.domid.value(), resumed.error().text());
    engine_->domain_died(domain.domid);
  }
  if (!xen_) return;
  if (Status connected = xen_->connect_own_kernel(own, legacy.remnant_of(DomId(0))); !connected)
    spdlog::warn("this machine's kernel is not served: {}", connected.error().text());
}

Status Daemon::open_sockets() {
  for (const std::string& path : config_.sockets) {
    auto listener = SocketListener::open(path, loop_, board_);
    if (!listener) return listener.error();
    listeners_.push_back(std::move(*listener));
  }
  return {};
}

Status Daemon::open_signals() {
  signals_ = std::make_unique<Signals>(loop_);
  return signals_->start();
}

int Daemon::timeout_ms() {
  if (board_.has_ready()) return 0;
  if (!engine_->wants_tick()) return wait_ms_;
  return wait_ms_ < 0 ? kTickMs : std::min(wait_ms_, kTickMs);
}

void Daemon::turn() {
  if (engine_->wants_tick() && clock_.now_ns() >= next_tick_ns_) {
    engine_->tick();
    next_tick_ns_ = clock_.now_ns() + kTickMs * kNsPerMs;
  }
  if (xen_) wait_ms_ = xen_->on_turn();
  board_.end_turn();
}

Status Daemon::run() {
  board_.end_turn();
  while (!signals_->asked_to_end()) {
    if (Status waited = loop_.wait(timeout_ms()); !waited) return waited;
    turn();
  }
  return write_handover();
}

}  // namespace synfluid::spawner::store
