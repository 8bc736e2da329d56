#include "bench/store_daemon.h"

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/store_client.h"

namespace synfluid::bench {

namespace {

constexpr const char* kStandardSocket = "/run/xenstored/socket";
constexpr int kStartTries = 2'000;
constexpr useconds_t kStartPauseUs = 5'000;
/// A daemon with nothing to do is asleep again long before.
constexpr useconds_t kSettleUs = 2'000;

/// Debian's own configuration with quotas that no figure here reaches, and without the file's comments.
constexpr const char* kOxenstoredConfig = R"(test-eagain = false
merge-activate = true
conflict-burst-limit = 5.0
conflict-max-history-seconds = 0.05
conflict-rate-limit-is-aggregate = true
perms-activate = true
perms-watch-activate = true
quota-activate = true
quota-maxentity = 100000000
quota-maxsize = 2048
quota-maxwatch = 100000000
quota-transaction = 100000
quota-maxrequests = 1024
quota-path-max = 1024
quota-maxoutstanding = 100000
quota-maxwatchevents = 100000
persistent = false
xenstored-kva = /proc/xen/xsd_kva
xenstored-port = /proc/xen/xsd_port
)";

std::string replaced(std::string text, std::string_view what, const std::string& with) {
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + with.size()))
    text.replace(at, what.size(), with);
  return text;
}

Result<std::string> make_folder(const StoreKind& kind) {
  std::string folder = std::filesystem::temp_directory_path() / "bench-store-XXXXXX";
  if (mkdtemp(folder.data()) == nullptr) return Error::from_errno(errno, "a folder for " + kind.name);
  std::ofstream(folder + "/config") << kind.config;
  return folder;
}

/// The environment with the folder that xenstored is to live in.
std::vector<std::string> environment(const std::string& folder) {
  std::vector<std::string> result;
  for (char** entry = environ; *entry != nullptr; ++entry) result.emplace_back(*entry);
  result.push_back("XENSTORED_RUNDIR=" + folder);
  result.push_back("XENSTORED_ROOTDIR=" + folder);
  return result;
}

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> result;
  for (std::string& string : strings) result.push_back(string.data());
  result.push_back(nullptr);
  return result;
}

Result<pid_t> spawn(const StoreKind& kind, const std::string& folder) {
  std::vector<std::string> words;
  for (const std::string& word : kind.words)
    words.push_back(replaced(replaced(word, "{socket}", folder + "/socket"), "{dir}", folder));
  std::vector<std::string> variables = environment(folder);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  const std::string log = folder + "/log";
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, log.c_str(), O_CREAT | O_WRONLY | O_APPEND, 0600);
  posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
  pid_t pid = 0;
  const int failed = posix_spawnp(&pid, words[0].c_str(), &actions, nullptr, pointers(words).data(),
                                  pointers(variables).data());
  posix_spawn_file_actions_destroy(&actions);
  if (failed != 0) return Error::from_errno(failed, words[0]);
  return pid;
}

std::string last_line(const std::string& path) {
  std::ifstream file(path);
  std::string last;
  for (std::string line; std::getline(file, line);)
    if (!line.empty()) last = line;
  return last;
}

}  // namespace

std::vector<StoreKind> all_stores(const std::string& our_program) {
  const std::string many = "100000000";
  std::vector<std::string> ours = {our_program, "--no-fork", "--socket", "{socket}", "--run-dir", "{dir}"};
  if (!std::filesystem::exists("/proc/xen/xsd_port")) ours.emplace_back("--no-domains");
  std::vector<std::string> on_lmdb = ours;
  on_lmdb.insert(on_lmdb.end(), {"--storage", "lmdb:{dir}/tree"});
  return {
      {.name = "synfluid", .words = ours, .config = {}},
      {.name = "synfluid_lmdb", .words = on_lmdb, .config = {}},
      {.name = "xenstored",
       .words = {"xenstored", "--no-fork", "--pid-file", "{dir}/pid", "--entry-nb", many, "--watch-nb", many,
                 "--transaction", "100000"},
       .config = {},
       .lives_in_one_place = false},
      {.name = "oxenstored",
       .words = {"oxenstored", "--no-fork", "--pid-file", "{dir}/pid", "--config-file", "{dir}/config"},
       .config = kOxenstoredConfig,
       .lives_in_one_place = true},
  };
}

Result<StoreDaemon> StoreDaemon::start(const StoreKind& kind) {
  if (kind.lives_in_one_place && StoreClient::connect(kStandardSocket))
    return Error(ErrorCode::kUnavailable, kind.name + ": another store runs at " + kStandardSocket);
  auto folder = make_folder(kind);
  if (!folder) return folder.error();
  auto pid = spawn(kind, *folder);
  if (!pid) {
    std::filesystem::remove_all(*folder);
    return pid.error();
  }
  StoreDaemon daemon(std::move(*folder), *pid);
  if (Status up = daemon.wait_for_socket(kind); !up) return up.error();
  return daemon;
}

StoreDaemon::StoreDaemon(StoreDaemon&& other) noexcept
    : folder_(std::exchange(other.folder_, "")),
      pid_(std::exchange(other.pid_, -1)),
      socket_(std::move(other.socket_)) {}

StoreDaemon::~StoreDaemon() {
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  if (folder_.empty()) return;
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

Status StoreDaemon::wait_for_socket(const StoreKind& kind) {
  socket_ = kind.lives_in_one_place ? kStandardSocket : folder_ + "/socket";
  for (int i = 0; i < kStartTries; ++i) {
    if (::waitpid(pid_, nullptr, WNOHANG) == pid_) {
      pid_ = -1;
      return Error(ErrorCode::kUnavailable, kind.name + " ends at once: " + last_line(folder_ + "/log"));
    }
    if (StoreClient::connect(socket_)) return {};
    ::usleep(kStartPauseUs);
  }
  return Error(ErrorCode::kTimeout, kind.name + ": nobody listens at " + socket_);
}

int64_t StoreDaemon::cpu_ns() const {
  ::usleep(kSettleUs);
  int64_t ns = 0;
  std::ifstream(fmt::format("/proc/{}/schedstat", pid_)) >> ns;
  return ns;
}

uint64_t StoreDaemon::private_bytes() const {
  std::ifstream file(fmt::format("/proc/{}/smaps_rollup", pid_));
  uint64_t kib = 0;
  for (std::string word; file >> word;) {
    uint64_t count = 0;
    if (word.starts_with("Private_") && file >> count) kib += count;
  }
  return kib << 10;
}

}  // namespace synfluid::bench
