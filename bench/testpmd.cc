#include "bench/testpmd.h"

#include <csignal>
#include <filesystem>
#include <fstream>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char** environ;

namespace synfluid::bench {

namespace {

constexpr const char* kProgram = "dpdk-testpmd";
constexpr const char* kLineByLine = "stdbuf";  // or what it says to a pipe waits in its buffer
constexpr const char* kPrompt = "testpmd> ";
constexpr const char* kStopped = "Done.\n";
constexpr int kPatienceMs = 30'000;  // it reads a whole capture when it starts

std::vector<std::string> command_line(const Testpmd::Config& config, const std::string& file_prefix) {
  const std::string all = fmt::format("0-{}", sysconf(_SC_NPROCESSORS_ONLN) - 1);
  std::vector<std::string> words{
      kLineByLine,
      "-oL",
      kProgram,
      "--no-huge",
      "--no-pci",
      "--no-telemetry",
      "--no-shconf",
      fmt::format("-m{}", config.memory_mib),
      fmt::format("--file-prefix={}", file_prefix),
      fmt::format("--lcores=0@({0}),1@({1})", all, config.cpu < 0 ? all : std::to_string(config.cpu)),
      "--log-level=error"};
  for (const std::string& vdev : config.vdevs) words.push_back("--vdev=" + vdev);
  for (const std::string& word :
       {std::string("--"), std::string("-i"), "--forward-mode=" + config.forward_mode,
        fmt::format("--burst={}", config.burst), std::string("--no-flush-rx"),
        fmt::format("--total-num-mbufs={}", config.frames), fmt::format("--mbuf-size={}", config.frame_room)})
    words.push_back(word);
  if (config.descriptors > 0)
    for (const char* way : {"--rxd", "--txd"}) words.push_back(fmt::format("{}={}", way, config.descriptors));
  if (config.links == Testpmd::Links::kComeLater) words.push_back("--disable-link-check");
  return words;
}

struct Pipe {
  UniqueFd read;
  UniqueFd write;
};

Result<Pipe> make_pipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return Error::from_errno(errno, "a pipe");
  return Pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

}  // namespace

Result<std::unique_ptr<Testpmd>> Testpmd::create(const Config& config) {
  static int number = 0;
  const std::string file_prefix = fmt::format("peer{}.{}", getpid(), number++);
  auto in = make_pipe();
  auto out = make_pipe();
  if (!in || !out) return !in ? in.error() : out.error();
  std::vector<std::string> words = command_line(config, file_prefix);
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in->read.get(), STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, out->write.get(), STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, out->write.get(), STDERR_FILENO);
  pid_t child = 0;
  const int failed = posix_spawnp(&child, kLineByLine, &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failed != 0) return Error::from_errno(failed, fmt::format("starting {}", kProgram));
  std::unique_ptr<Testpmd> made(new Testpmd(child, file_prefix, std::move(in->write), std::move(out->read)));
  out->write.reset();
  if (auto up = made->hear(kPrompt); !up) return up.error().within(kProgram);
  for (const auto& task : std::filesystem::directory_iterator(fmt::format("/proc/{}/task", child))) {
    std::ifstream name(task.path() / "comm");
    std::string text;
    std::getline(name, text);
    if (text.ends_with("-worker-1")) made->cpu_file_ = task.path() / "schedstat";
  }
  if (made->cpu_file_.empty()) return Error(ErrorCode::kNotFound, "testpmd's forwarding thread");
  return made;
}

Testpmd::~Testpmd() {
  kill(child_, SIGKILL);
  waitpid(child_, nullptr, 0);
  std::error_code ignored;
  std::filesystem::remove_all("/var/run/dpdk/" + file_prefix_, ignored);
}

Status Testpmd::say(const std::string& line) {
  if (write(to_.get(), line.data(), line.size()) != static_cast<ssize_t>(line.size()))
    return Error::from_errno(errno, "talking to testpmd");
  return {};
}

Result<std::string> Testpmd::hear(const std::string& last) {
  for (;;) {
    if (const size_t at = unread_.find(last); at != std::string::npos) {
      std::string heard = unread_.substr(0, at + last.size());
      unread_.erase(0, at + last.size());
      return heard;
    }
    pollfd wait{from_.get(), POLLIN, 0};
    if (poll(&wait, 1, kPatienceMs) <= 0)
      return Error(ErrorCode::kTimeout, "testpmd says nothing: " + unread_);
    char buffer[4096];
    const ssize_t got = read(from_.get(), buffer, sizeof buffer);
    if (got <= 0) return Error(ErrorCode::kSystem, "testpmd has ended: " + unread_);
    unread_.append(buffer, static_cast<size_t>(got));
  }
}

Result<double> Testpmd::cpu_seconds() {
  std::ifstream file(cpu_file_);
  double ns = 0;
  if (!(file >> ns)) return Error(ErrorCode::kSystem, "testpmd's CPU time");
  return ns / 1e9;
}

Result<std::string> Testpmd::end() {
  if (Status said = say("stop\n"); !said) return said.error();
  return hear(kStopped);
}

Result<Testpmd::Run> Testpmd::run(int64_t ns) {
  const auto before = cpu_seconds();
  if (!before) return before.error();
  if (Status begun = begin(); !begun) return begun.error();
  const timespec pause{ns / 1'000'000'000, ns % 1'000'000'000};
  nanosleep(&pause, nullptr);
  auto heard = end();
  if (!heard) return heard.error();
  const auto after = cpu_seconds();
  if (!after) return after.error();
  const size_t total = heard->rfind("Accumulated forward statistics");
  const size_t packets = total == std::string::npos ? total : heard->find("TX-packets: ", total);
  if (packets == std::string::npos) return Error(ErrorCode::kSystem, "testpmd's statistics: " + *heard);
  return Run{.packets = std::stoull(heard->substr(packets + 12)), .cpu_seconds = *after - *before};
}

}  // namespace synfluid::bench
