// The daemon as a process of its own, on a private socket, with Xen's own client library at the other end.
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/unique_fd.h"

extern "C" {
#include <xenstore.h>
}

namespace synfluid::spawner::store {
namespace {

constexpr int kStartTries = 1'000;
constexpr useconds_t kStartPauseUs = 5'000;
constexpr int kPatienceMs = 5'000;

struct HandleCloser {
  void operator()(xs_handle* handle) const { xs_close(handle); }
};
using Handle = std::unique_ptr<xs_handle, HandleCloser>;

struct Freer {
  void operator()(void* memory) const { std::free(memory); }
};
template <class T>
using Malloced = std::unique_ptr<T, Freer>;

pid_t spawn(std::vector<std::string> words, const std::string& log) {
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, log.c_str(), O_CREAT | O_WRONLY | O_APPEND, 0600);
  posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
  pid_t pid = -1;
  posix_spawn(&pid, arguments[0], &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  return pid;
}

int status_of(pid_t pid) {
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

class DaemonTest : public ::testing::Test {
 protected:
  DaemonTest() {
    std::string pattern = std::filesystem::temp_directory_path() / "stored-XXXXXX";
    folder_ = mkdtemp(pattern.data());
    setenv("XENSTORED_PATH", socket().c_str(), 1);
  }
  ~DaemonTest() override {
    end(SIGKILL);
    std::filesystem::remove_all(folder_);
  }

  std::string socket() const { return folder_ + "/socket"; }

  std::vector<std::string> words(std::vector<std::string> options) const {
    const char* const program = std::getenv("SYNFLUID_STORE");
    std::vector<std::string> words = {program != nullptr ? program : SYNFLUID_STORE, "--no-fork",
                                      "--no-domains", "--socket", socket()};
    words.insert(words.end(), options.begin(), options.end());
    return words;
  }

  void start(std::vector<std::string> options = {}) {
    pid_ = spawn(words(std::move(options)), folder_ + "/log");
    for (int i = 0; i < kStartTries; ++i) {
      if (const Handle probe{xs_open(0)}) return;
      usleep(kStartPauseUs);
    }
    FAIL() << "the daemon does not serve";
  }

  int end(int signal) {
    if (pid_ <= 0) return 0;
    kill(pid_, signal);
    return status_of(std::exchange(pid_, -1));
  }

  Handle open() const { return Handle(xs_open(0)); }

  std::string folder_;
  pid_t pid_ = -1;
};

bool write(const Handle& store, const std::string& path, const std::string& value,
           xs_transaction_t in = XBT_NULL) {
  return xs_write(store.get(), in, path.c_str(), value.data(), static_cast<unsigned>(value.size()));
}

std::string read(const Handle& store, const std::string& path, xs_transaction_t in = XBT_NULL) {
  unsigned length = 0;
  const Malloced<char> value(static_cast<char*>(xs_read(store.get(), in, path.c_str(), &length)));
  return value ? std::string(value.get(), length) : fmt::format("errno {}", errno);
}

/// Path and token of the next event.
std::pair<std::string, std::string> next_event(const Handle& store) {
  pollfd ready{.fd = xs_fileno(store.get()), .events = POLLIN, .revents = 0};
  if (poll(&ready, 1, kPatienceMs) != 1) return {"no event", ""};
  const Malloced<char*> event(xs_check_watch(store.get()));
  if (!event) return {"no event", ""};
  return {event.get()[XS_WATCH_PATH], event.get()[XS_WATCH_TOKEN]};
}

TEST_F(DaemonTest, ServesXensOwnLibrary) {
  start();
  const Handle store = open();
  ASSERT_TRUE(write(store, "/a/b", "value"));
  EXPECT_EQ(read(store, "/a/b"), "value");
  EXPECT_EQ(read(store, "/a/c"), fmt::format("errno {}", ENOENT));
  unsigned count = 0;
  const Malloced<char*> names(xs_directory(store.get(), XBT_NULL, "/a", &count));
  ASSERT_EQ(count, 1u);
  EXPECT_STREQ(names.get()[0], "b");
  EXPECT_TRUE(xs_rm(store.get(), XBT_NULL, "/a"));
  EXPECT_EQ(read(store, "/a/b"), fmt::format("errno {}", ENOENT));
}

TEST_F(DaemonTest, AWatchOfOneClientHearsAnother) {
  start();
  const Handle writer = open(), watcher = open();
  ASSERT_TRUE(xs_watch(watcher.get(), "/watched", "my token"));
  EXPECT_EQ(next_event(watcher), std::pair(std::string("/watched"), std::string("my token")));
  ASSERT_TRUE(write(writer, "/watched/below", "x"));
  EXPECT_EQ(next_event(watcher).first, "/watched/below");
}

TEST_F(DaemonTest, OfTwoTransactionsThatOverlapOneIsRefused) {
  start();
  const Handle first = open(), second = open();
  const xs_transaction_t one = xs_transaction_start(first.get());
  const xs_transaction_t two = xs_transaction_start(second.get());
  read(first, "/n", one);
  write(first, "/n", "1", one);
  read(second, "/n", two);
  write(second, "/n", "2", two);
  EXPECT_TRUE(xs_transaction_end(first.get(), one, false));
  EXPECT_FALSE(xs_transaction_end(second.get(), two, false));
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_EQ(read(first, "/n"), "1");
}

TEST_F(DaemonTest, AClientThatBreaksTheProtocolOrLeavesIsDroppedAlone) {
  start();
  const Handle store = open();
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  socket().copy(address.sun_path, sizeof address.sun_path - 1);
  for (const std::string& bytes :
       {std::string("half"), std::string(16, '\xff'), std::string(5'000, '\xee')}) {
    const UniqueFd client(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(connect(client.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    ASSERT_EQ(send(client.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  EXPECT_TRUE(write(store, "/still", "here"));
  EXPECT_EQ(read(store, "/still"), "here");
}

/// A thousand requests in one go, and nobody who reads: then all the answers.
TEST_F(DaemonTest, ASlowReaderGetsEverythingInTheEnd) {
  start();
  const Handle store = open();
  ASSERT_TRUE(write(store, "/big", std::string(4'000, 'b')));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  socket().copy(address.sun_path, sizeof address.sun_path - 1);
  const UniqueFd client(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(connect(client.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  const uint32_t header[] = {2, 1, 0, 5};
  std::string requests;
  constexpr size_t kRequests = 1'000;
  for (size_t i = 0; i < kRequests; ++i)
    requests.append(reinterpret_cast<const char*>(header), sizeof header).append("/big", 5);
  ASSERT_EQ(send(client.get(), requests.data(), requests.size(), 0), static_cast<ssize_t>(requests.size()));
  EXPECT_TRUE(write(store, "/others", "are served"));
  size_t bytes = 0;
  std::string buffer(1 << 16, '\0');
  while (bytes < kRequests * 4'016) {
    const ssize_t count = recv(client.get(), buffer.data(), buffer.size(), 0);
    ASSERT_GT(count, 0);
    bytes += static_cast<size_t>(count);
  }
  EXPECT_EQ(bytes, kRequests * 4'016);
}

TEST_F(DaemonTest, ASecondStoreOnOneSocketIsRefused) {
  start();
  EXPECT_EQ(status_of(spawn(words({}), folder_ + "/second")), 1);
  EXPECT_TRUE(write(open(), "/first", "lives"));
}

TEST_F(DaemonTest, WrongOptionsAreNamed) {
  EXPECT_EQ(status_of(spawn(words({"--storage", "tape"}), folder_ + "/log")), 1);
  EXPECT_EQ(status_of(spawn(words({"--quota", "nodes"}), folder_ + "/log")), 1);
  EXPECT_EQ(status_of(spawn(words({"--storage", "lmdb:/proc/none/of/this"}), folder_ + "/log")), 1);
}

TEST_F(DaemonTest, OnLmdbTheTreeOutlivesSigkill) {
  const std::vector<std::string> options = {"--storage", "lmdb:" + folder_ + "/tree"};
  start(options);
  ASSERT_TRUE(write(open(), "/kept", "value"));
  xs_permissions permissions[] = {{.id = 3, .perms = XS_PERM_READ}, {.id = 7, .perms = XS_PERM_WRITE}};
  ASSERT_TRUE(xs_set_permissions(open().get(), XBT_NULL, "/kept", permissions, 2));
  end(SIGKILL);
  start(options);
  const Handle store = open();
  EXPECT_EQ(read(store, "/kept"), "value");
  unsigned count = 0;
  const Malloced<xs_permissions> kept(xs_get_permissions(store.get(), XBT_NULL, "/kept", &count));
  ASSERT_EQ(count, 2u);
  EXPECT_EQ(kept.get()[1].id, 7u);
}

TEST_F(DaemonTest, InMemoryTheTreeOutlivesAnOrderlyEnd) {
  start();
  ASSERT_TRUE(write(open(), "/kept", "value"));
  EXPECT_EQ(end(SIGTERM), 0);
  start({"--storage", "lmdb:" + folder_ + "/tree"});
  EXPECT_EQ(read(open(), "/kept"), "value");
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/synfluid-handover"));
}

TEST_F(DaemonTest, FiveHundredClientsAreServedAtOnce) {
  start();
  std::vector<Handle> clients;
  for (int i = 0; i < 500; ++i) {
    clients.push_back(open());
    ASSERT_TRUE(clients.back()) << i;
    ASSERT_TRUE(xs_watch(clients.back().get(), "/all", "t"));
    next_event(clients.back());
  }
  ASSERT_TRUE(write(clients[0], "/all", "x"));
  for (const Handle& client : clients) ASSERT_EQ(next_event(client).first, "/all");
}

/// Debian's own test of a store, from the package xen-utils-4.17.
TEST_F(DaemonTest, PassesTestXenstore) {
  std::string program = "/usr/lib/xen-4.17/bin/test-xenstore";
  const std::filesystem::path lab = SYNFLUID_SOURCE "/build/lab";
  if (std::filesystem::exists(lab))
    for (const auto& entry : std::filesystem::directory_iterator(lab))
      if (std::filesystem::exists(entry.path() / "usr/lib/xen-4.17/bin/test-xenstore"))
        program = entry.path() / "usr/lib/xen-4.17/bin/test-xenstore";
  if (!std::filesystem::exists(program)) GTEST_SKIP() << "test-xenstore is not here (the lab unpacks it)";
  start();
  EXPECT_EQ(status_of(spawn({program, "-i", "50"}, folder_ + "/test-xenstore")), 0);
}

}  // namespace
}  // namespace synfluid::spawner::store
