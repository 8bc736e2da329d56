#include "bench/container_runtimes.h"

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <nlohmann/json.hpp>
#include <sched.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

namespace synfluid::bench {

namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kBusybox = "/bin/busybox";  // ends at once when it is called "true"
constexpr const char* kLxcInit = "/usr/sbin/init.lxc.static";

int run(std::vector<std::string> words) {
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  for (const int fd : {STDOUT_FILENO, STDERR_FILENO})
    ::posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_WRONLY, 0);
  pid_t pid = -1;
  const int error = ::posix_spawnp(&pid, arguments[0], &actions, nullptr, arguments.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return -1;
  int status = 0;
  ::waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

bool is_installed(const std::string& program) {
  return run({program, "--version"}) == 0;
}

/// A folder that goes with its owner.
class Folder {
 public:
  explicit Folder(const std::string& name)
      : path_(fs::temp_directory_path() / fmt::format("synfluid-bench-{}-{}", ::getpid(), name)) {
    fs::create_directories(path_);
  }
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

void make_root(const fs::path& root) {
  for (const char* folder : {"bin", "dev", "proc", "sys"}) fs::create_directories(root / folder);
  fs::copy_file(kBusybox, root / "bin/true");
}

Status write_text(const fs::path& path, const std::string& text) {
  std::ofstream file(path);
  file << text;
  file.close();
  if (file) return {};
  return Error::from_errno(errno, path.string());
}

Result<double> time_us(const std::string& name, const std::vector<std::string>& words) {
  const SteadyClock clock;
  const int64_t start = clock.now_ns();
  const int status = run(words);
  const int64_t end = clock.now_ns();
  if (status != 0) return Error(ErrorCode::kSystem, fmt::format("{} ends with status {}", name, status));
  return static_cast<double>(end - start) / static_cast<double>(kNsPerUs);
}

/// What an operator's script would do, by one program: the container's end of the pair is made in its
/// namespace. The state that the runtime hands the hook names its first process.
constexpr const char* kVethHook =
    "pid=$(tr -d ' \\n\\t' | sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); "
    "exec ip link add name sfb$pid up type veth peer name eth0 netns $pid";

/// crun, runc: `run` of an OCI bundle.
class OciRuntime final : public ContainerRuntime {
 public:
  OciRuntime(std::string program, std::vector<std::string> options)
      : program_(std::move(program)), options_(std::move(options)), folder_(program_) {}

  Status lay_out() {
    for (const Network network : {Network::kNone, Network::kVeth}) {
      const fs::path bundle = bundle_for(network);
      make_root(bundle / "rootfs");
      if (run({program_, "spec", "--bundle", bundle.string()}) != 0)
        return Error(ErrorCode::kSystem, program_ + " writes no bundle");
      json config = json::parse(std::ifstream(bundle / "config.json"), nullptr, false);
      config["process"]["terminal"] = false;
      config["process"]["args"] = {"/bin/true"};
      if (network == Network::kVeth)
        config["hooks"]["createRuntime"] = {{{"path", "/bin/sh"}, {"args", {"sh", "-c", kVethHook}}}};
      if (auto written = write_text(bundle / "config.json", config.dump()); !written) return written;
    }
    return {};
  }

  std::string name() const override { return program_; }

  Result<double> run_us(Network network) override {
    std::vector<std::string> words = {program_, "--root", (folder_.path() / "state").string()};
    words.insert(words.end(), options_.begin(), options_.end());
    const std::string container = fmt::format("synfluid-bench-{}-{}", ::getpid(), ++number_);
    words.insert(words.end(), {"run", "--bundle", bundle_for(network).string(), container});
    return time_us(program_ + " run", words);
  }

 private:
  fs::path bundle_for(Network network) const {
    return folder_.path() / (network == Network::kVeth ? "with-veth" : "without-network");
  }

  const std::string program_;
  const std::vector<std::string> options_;
  const Folder folder_;
  int number_ = 0;
};

class Lxc final : public ContainerRuntime {
 public:
  Lxc() : folder_("lxc") {}

  Status lay_out() {
    make_root(root());
    fs::create_directories(root() / "usr/sbin");
    fs::copy_file(kLxcInit, root() / "usr/sbin/init.lxc.static");
    fs::create_directories(folder_.path() / "state");
    const std::string common =
        fmt::format("lxc.uts.name = bench\nlxc.rootfs.path = dir:{}\n", root().string());
    if (auto written = write_text(config_for(Network::kNone), common + "lxc.net.0.type = empty\n"); !written)
      return written;
    return write_text(config_for(Network::kVeth), common + "lxc.net.0.type = veth\nlxc.net.0.flags = up\n");
  }

  std::string name() const override { return "lxc"; }

  Result<double> run_us(Network network) override {
    const std::string container = fmt::format("synfluid-bench-{}-{}", ::getpid(), ++number_);
    return time_us("lxc-execute", {"lxc-execute", "-P", (folder_.path() / "state").string(), "-n", container,
                                   "-f", config_for(network).string(), "-o", "/dev/null", "--", "/bin/true"});
  }

 private:
  fs::path root() const { return folder_.path() / "rootfs"; }
  fs::path config_for(Network network) const {
    return folder_.path() / (network == Network::kVeth ? "with-veth.conf" : "without-network.conf");
  }

  const Folder folder_;
  int number_ = 0;
};

/// crun refuses a host whose cgroups are of both versions: it is shown a mount of version 2 alone, seen by
/// this program and its children only.
Status find_cgroups() {
  struct statfs info {};
  if (::statfs("/sys/fs/cgroup", &info) == 0 && info.f_type == CGROUP2_SUPER_MAGIC) return {};
  if (::unshare(CLONE_NEWNS) != 0 || ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
    return Error::from_errno(errno, "containers need cgroups of version 2, which only root can mount");
  if (::umount2("/sys/fs/cgroup", MNT_DETACH) != 0 ||
      ::mount("none", "/sys/fs/cgroup", "cgroup2", 0, nullptr) != 0)
    return Error::from_errno(errno, "cgroups of version 2 for containers");
  return {};
}

template <class Runtime>
Status take(std::vector<std::unique_ptr<ContainerRuntime>>& into, std::unique_ptr<Runtime> runtime) {
  if (auto laid_out = runtime->lay_out(); !laid_out) return laid_out;
  into.push_back(std::move(runtime));
  return {};
}

}  // namespace

Result<std::vector<std::unique_ptr<ContainerRuntime>>> container_runtimes() {
  std::vector<std::unique_ptr<ContainerRuntime>> found;
  const bool crun = is_installed("crun");
  const bool runc = is_installed("runc");
  const bool lxc = is_installed("lxc-execute") && fs::exists(kLxcInit);
  if (!crun && !runc && !lxc) return found;
  if (auto cgroups = find_cgroups(); !cgroups) return cgroups.error();
  Status laid_out;
  if (crun)
    laid_out = take(
        found, std::make_unique<OciRuntime>("crun", std::vector<std::string>{"--cgroup-manager=disabled"}));
  if (runc && laid_out)
    laid_out = take(found, std::make_unique<OciRuntime>("runc", std::vector<std::string>{}));
  if (lxc && laid_out) laid_out = take(found, std::make_unique<Lxc>());
  if (!laid_out) return laid_out.error();
  return found;
}

}  // namespace synfluid::bench
