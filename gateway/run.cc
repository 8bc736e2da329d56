#include "gateway/run.h"

#include <array>
#include <cerrno>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>

#include "base/unique_fd.h"
#include "gateway/control.h"
#include "gateway/control_socket.h"
#include "gateway/eal.h"
#include "gateway/handoff.h"
#include "gateway/ports.h"
#include "gateway/warm_up.h"

namespace synfluid::gateway {

namespace {

/// Frames for one worker: a full ring on either port, what is held, and what is under way.
constexpr uint32_t kPoolFrames = 8192;
/// Eight bursts: most frames then come and go without the pool's ring, which all lcores share.
constexpr uint32_t kLcoreCache = 256;
constexpr uint32_t kHeldFrames = 4096;

/// Everything in the order in which it is set up; the destructors undo it in reverse.
struct Gateway {
  SteadyClock clock;
  std::unique_ptr<Eal> eal;
  MbufPool pool;
  std::unique_ptr<Ports> ports;
  std::unique_ptr<spawner::Admission> admission;
  std::unique_ptr<spawner::Spawner> spawner;
  std::unique_ptr<PlanBox> plans;
  std::unique_ptr<HandoffMesh> mesh;
  std::vector<std::unique_ptr<SpawnerPort>> spawner_ports;
  std::unique_ptr<Crew> crew;
};

Status open_ports(Gateway& g, const RunConfig& config) {
  auto access = parse_port(config.access);
  if (!access) return access.error();
  auto core = parse_port(config.core);
  if (!core) return core.error();
  if (access->kind == core->kind && access->device == core->device)
    return Error(ErrorCode::kInvalidArgument,
                 fmt::format("port {}: it cannot be both --access and --core", config.access));
  EalConfig eal{.workers = config.workers};
  eal.hugepages = config.no_huge ? EalConfig::Hugepages::kOff : EalConfig::Hugepages::kAuto;
  eal.memory_mib = 128 + 128u * config.workers;
  for (const PortName* port : {&*access, &*core}) {
    if (port->kind == PortName::Kind::kPci) eal.pci.push_back(port->device);
    if (port->kind == PortName::Kind::kVdev) eal.vdevs.push_back(port->arguments);
  }
  auto started = Eal::start(eal);
  if (!started) return started.error();
  g.eal = std::move(*started);
  auto pool = make_pool({.name = "frames",
                         .frames = kPoolFrames * config.workers,
                         .frame_bytes = backend::kMaxFrameBytes,
                         .lcore_cache = kLcoreCache});
  if (!pool) return pool.error();
  g.pool = std::move(*pool);
  const auto secret = flowtable::random_secret();
  if (!secret) return secret.error();
  auto ports = Ports::open(*access, *core, {.workers = config.workers, .pool = *g.pool, .secret = *secret});
  if (!ports && !g.eal->complaint().empty()) return ports.error().within(g.eal->complaint());
  if (!ports) return ports.error();
  g.ports = std::move(*ports);
  return {};
}

Status start_spawner(Gateway& g, const RunConfig& config, spawner::Hypervisor& hypervisor) {
  const auto swept = hypervisor.sweep();
  if (!swept) return swept.error();
  if (*swept > 0) spdlog::warn("swept {} guests that a former run left behind", *swept);
  g.admission =
      std::make_unique<spawner::Admission>(spawner::Admission::Config{.limits = config.policy->limits()});
  auto made =
      spawner::Spawner::create({.hypervisor = hypervisor, .clock = g.clock, .workers = config.workers});
  if (!made) return made.error();
  g.spawner = std::move(*made);
  auto services = g.spawner->prepare(config.policy);
  if (!services) return services.error();
  warm_up(hypervisor, **services);
  g.plans = std::make_unique<PlanBox>(Plan{.services = *services});
  g.spawner->activate(*services);
  return g.spawner->start();
}

Status start_workers(Gateway& g, const RunConfig& config, spawner::Hypervisor& hypervisor) {
  const auto secret = flowtable::random_secret();
  if (!secret) return secret.error();
  const auto challenge_secret = flowtable::random_secret();
  if (!challenge_secret) return challenge_secret.error();
  g.mesh = std::make_unique<HandoffMesh>(config.workers);
  std::vector<std::unique_ptr<Worker>> workers;
  for (uint16_t w = 0; w < config.workers; ++w) {
    g.spawner_ports.push_back(std::make_unique<SpawnerPort>(g.spawner->port(WorkerId(w))));
    auto worker = Worker::create({.id = WorkerId(w),
                                  .io = g.ports->io(w),
                                  .pool = *g.pool,
                                  .plans = *g.plans,
                                  .traffic_clock = g.clock,
                                  .waiting_clock = g.clock,
                                  .admission = *g.admission,
                                  .spawner = g.spawner_ports.back().get(),
                                  .doorbells = &hypervisor.doorbells(WorkerId(w)),
                                  .handoff = config.workers > 1 ? &g.mesh->end(w) : nullptr,
                                  .flow_capacity = config.flow_capacity,
                                  .held_frames = kHeldFrames,
                                  .secret = *secret,
                                  .challenge_secret = *challenge_secret});
    if (!worker) return worker.error();
    workers.push_back(std::move(*worker));
  }
  g.crew = std::make_unique<Crew>(std::move(workers));
  return g.crew->start();
}

Result<UniqueFd> catch_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, signal);
  // Before any thread is made, so that all of them leave these to us.
  if (pthread_sigmask(SIG_BLOCK, &set, nullptr) != 0) return Error::from_errno(errno, "blocking signals");
  UniqueFd fd(signalfd(-1, &set, SFD_CLOEXEC));
  if (!fd) return Error::from_errno(errno, "signalfd");
  return fd;
}

/// False: it is time to stop.
bool take_signal(int fd, Control& control) {
  signalfd_siginfo info{};
  if (read(fd, &info, sizeof(info)) != static_cast<ssize_t>(sizeof(info))) return true;
  if (info.ssi_signo != SIGHUP) {
    spdlog::info("stopping");
    return false;
  }
  if (const auto done = control.reload(); !done)
    spdlog::error("the policy stays as it was: {}", done.error().text());
  return true;
}

Status control_until_stopped(Control& control, ControlSocket* socket, int signals) {
  const UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return Error::from_errno(errno, "epoll for control");
  for (int fd : {signals, socket != nullptr ? socket->fd() : -1}) {
    if (fd < 0) continue;
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    if (epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd, &event) != 0)
      return Error::from_errno(errno, "epoll for control");
  }
  for (;;) {
    epoll_event event{};
    if (epoll_wait(epoll.get(), &event, 1, -1) != 1) continue;
    if (event.data.fd != signals)
      socket->serve();
    else if (!take_signal(signals, control))
      return {};
  }
}

}  // namespace

Status run_gateway(const RunConfig& config, spawner::Hypervisor& hypervisor) {
  auto signals = catch_signals();
  if (!signals) return signals.error();
  Gateway g;
  if (Status opened = open_ports(g, config); !opened) return opened;
  if (Status started = start_spawner(g, config, hypervisor); !started) return started;
  if (Status started = start_workers(g, config, hypervisor); !started) return started;
  Control control({config.policy_file, *g.plans, *g.crew, *g.spawner, *g.admission, *g.ports, g.clock});
  std::unique_ptr<ControlSocket> socket;
  if (!config.control.empty()) {
    auto listening = ControlSocket::listen(
        config.control, [&control](const ControlRequest& request) { return control.handle(request); });
    if (!listening) return listening.error();
    socket = std::move(*listening);
  }
  spdlog::info("running on {}: {} services, {} rules, {} workers, {}", hypervisor.name(),
               config.policy->services().size(), config.policy->rules().size(), config.workers,
               g.eal->uses_hugepages() ? "hugepages" : "no hugepages");
  const Status worked = control_until_stopped(control, socket.get(), signals->get());
  g.crew->stop();
  g.spawner->stop();
  spdlog::info("stopped: {} VMs were made and destroyed", g.spawner->counters().destroyed);
  return worked;
}

}  // namespace synfluid::gateway
