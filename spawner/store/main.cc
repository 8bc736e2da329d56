// synfluid-store: the XenStore daemon.
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <unistd.h>

#include "spawner/store/daemon.h"

namespace synfluid::spawner::store {
namespace {

struct Options {
  std::string storage = "memory";
  std::vector<std::string> sockets;
  std::string run_dir;
  std::string pid_file;
  std::string log_file;
  std::vector<std::string> quotas;
  bool no_domains = false;
  bool no_fork = false;
};

constexpr std::string_view kLmdb = "lmdb:";

std::string quota_names() {
  std::string names;
  for (uint32_t i = 0; i < kQuotas; ++i)
    names += fmt::format("{}{}", i == 0 ? "" : ", ", info_of(static_cast<Quota>(i)).name);
  return names;
}

Result<Quotas> parse_quotas(const std::vector<std::string>& settings) {
  Quotas quotas;
  for (const std::string& setting : settings) {
    const size_t equals = setting.find('=');
    const auto quota = quota_named(setting.substr(0, equals));
    char* end = nullptr;
    const char* number = equals == std::string::npos ? "" : setting.c_str() + equals + 1;
    const uint64_t value = std::strtoull(number, &end, 10);
    if (!quota || end == number || *end != '\0')
      return Error(ErrorCode::kInvalidArgument,
                   fmt::format("--quota {}: write NAME=NUMBER; names are {}", setting, quota_names()));
    quotas.set(*quota, value);
  }
  return quotas;
}

Result<DaemonConfig> config_of(const Options& options) {
  auto quotas = parse_quotas(options.quotas);
  if (!quotas) return quotas.error();
  DaemonConfig config{.sockets = options.sockets,
                      .lmdb_path = {},
                      .handover_path = {},
                      .domains = !options.no_domains,
                      .quotas = *quotas};
  if (config.sockets.empty()) config.sockets.push_back(default_socket_path());
  const std::string folder = options.run_dir.empty()
                                 ? std::filesystem::path(config.sockets[0]).parent_path().string()
                                 : options.run_dir;
  config.handover_path = folder + "/synfluid-handover";
  if (options.storage.starts_with(kLmdb) && options.storage.size() > kLmdb.size())
    config.lmdb_path = options.storage.substr(kLmdb.size());
  else if (options.storage != "memory")
    return Error(ErrorCode::kInvalidArgument,
                 fmt::format("--storage {}: there are memory and lmdb:PATH", options.storage));
  return config;
}

/// As many clients as the kernel allows one process to serve.
void raise_descriptors() {
  rlim_t most = 1u << 20;
  std::ifstream("/proc/sys/fs/nr_open") >> most;
  rlimit limit{.rlim_cur = most, .rlim_max = most};
  if (::setrlimit(RLIMIT_NOFILE, &limit) == 0 || ::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  (void)::setrlimit(RLIMIT_NOFILE, &limit);
}

void block_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  (void)std::signal(SIGPIPE, SIG_IGN);
  (void)std::signal(SIGHUP, SIG_IGN);
}

/// Goes into the background; the parent waits until the child has said that it serves, or has ended.
class Background {
 public:
  static Result<Background> enter(bool wanted, const std::string& log_file) {
    Background background;
    if (!wanted) return background;
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return Error::from_errno(errno, "a pipe");
    const pid_t child = ::fork();
    if (child < 0) return Error::from_errno(errno, "going into the background");
    if (child > 0) wait_for_child(ends);
    ::close(ends[0]);
    background.say_.reset(ends[1]);
    ::setsid();
    if (Status closed = leave_terminal(log_file); !closed) return closed.error();
    return background;
  }
  void serving() {
    if (say_ && ::write(say_.get(), "s", 1) != 1) spdlog::warn("nobody waits for this store to serve");
    say_.reset();
  }

 private:
  [[noreturn]] static void wait_for_child(const int (&ends)[2]) {
    ::close(ends[1]);
    char word = 0;
    ::_exit(::read(ends[0], &word, 1) == 1 ? 0 : 1);
  }
  /// Errors go on to where they went, unless there is a log.
  static Status leave_terminal(const std::string& log_file) {
    const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    ::dup2(null.get(), STDIN_FILENO);
    ::dup2(null.get(), STDOUT_FILENO);
    if (log_file.empty()) return {};
    const UniqueFd log(::open(log_file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640));
    if (!log) return Error::from_errno(errno, log_file);
    ::dup2(log.get(), STDERR_FILENO);
    return {};
  }

  UniqueFd say_;
};

Status write_pid(const std::string& path) {
  if (path.empty()) return {};
  if (std::ofstream(path) << ::getpid() << '\n') return {};
  return Error::from_errno(errno, path);
}

Status serve(const Options& options) {
  const auto config = config_of(options);
  if (!config) return config.error();
  auto background = Background::enter(!options.no_fork, options.log_file);
  if (!background) return background.error();
  spdlog::set_default_logger(spdlog::stderr_logger_st("synfluid-store"));
  raise_descriptors();
  block_signals();
  auto daemon = Daemon::start(*config);
  if (!daemon) return daemon.error();
  if (Status written = write_pid(options.pid_file); !written) return written;
  background->serving();
  const Status ended = (*daemon)->run();
  std::error_code ignored;
  if (!options.pid_file.empty()) std::filesystem::remove(options.pid_file, ignored);
  return ended;
}

}  // namespace
}  // namespace synfluid::spawner::store

int main(int argc, char** argv) {
  synfluid::spawner::store::Options options;
  CLI::App app(
      "A XenStore: what xenstored is to Xen's tools and guests.\n"
      "SIGTERM ends it in good order: the next one goes on where it stopped, whatever its storage.");
  app.set_version_flag("--version", std::string("synfluid-store ") + SYNFLUID_VERSION);
  app.add_option(
      "--storage", options.storage,
      "memory (the default), or lmdb:PATH, which outlives SIGKILL; of an earlier boot nothing is kept");
  app.add_option("--socket", options.sockets,
                 "where to listen, more than once if need be (libxenstore's place)");
  app.add_option("--run-dir", options.run_dir, "for what one store leaves to the next (the socket's folder)");
  app.add_option("--pid-file,-F", options.pid_file, "written when it serves");
  app.add_option("--log-file", options.log_file, "instead of standard error");
  app.add_option("--quota,-Q", options.quotas, "NAME=NUMBER, for each guest");
  app.add_flag("--no-domains,-D", options.no_domains, "sockets alone: without Xen, or beside another store");
  app.add_flag("--no-fork,-N", options.no_fork, "stay in the foreground");
  CLI11_PARSE(app, argc, argv);
  const auto status = synfluid::spawner::store::serve(options);
  if (status) return 0;
  std::cerr << "synfluid-store: " << status.error().text() << '\n';
  return 1;
}
