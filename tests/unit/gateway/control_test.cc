#include <chrono>
#include <cstring>
#include <fstream>
#include <thread>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/socket.h>
#include <sys/un.h>

#include "gateway/control_socket.h"
#include "gateway/doctor.h"
#include "tests/unit/gateway/trace_files.h"

namespace synfluid::gateway::testing {
namespace {

using nlohmann::json;

Result<json> echo(const ControlRequest& request) {
  if (request.command == "bad") return Error(ErrorCode::kInvalidArgument, "no such thing");
  return json{{"you said", request.command}, {"about", request.argument}};
}

/// Serves one client while `client` speaks.
template <class Client>
auto with_server(ControlSocket& server, Client&& client) {
  std::thread serving([&] { server.serve(); });
  auto result = client();
  serving.join();
  return result;
}

std::string say(const std::string& path, const std::string& text) {
  const UniqueFd fd(socket(AF_UNIX, SOCK_STREAM, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  EXPECT_EQ(connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  EXPECT_GT(send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL), 0);
  shutdown(fd.get(), SHUT_WR);
  std::string answer(4096, '\0');
  const ssize_t got = recv(fd.get(), answer.data(), answer.size(), 0);
  answer.resize(got > 0 ? static_cast<size_t>(got) : 0);
  return answer;
}

TEST(ControlSocket, AnswersACommand) {
  const TemporaryFile file(".sock");
  auto server = ControlSocket::listen(file.path(), echo);
  ASSERT_TRUE(server) << server.error().text();
  const auto answer = with_server(**server, [&] { return ask_control_socket(file.path(), {"status"}); });
  ASSERT_TRUE(answer) << answer.error().text();
  EXPECT_EQ((*answer)["you said"], "status");
  EXPECT_EQ((*answer)["about"], "");
}

TEST(ControlSocket, PassesOnWhatACommandIsAbout) {
  const TemporaryFile file(".sock");
  auto server = ControlSocket::listen(file.path(), echo);
  ASSERT_TRUE(server) << server.error().text();
  const auto answer = with_server(**server, [&] {
    return ask_control_socket(file.path(), {"console", "32751"});
  });
  ASSERT_TRUE(answer) << answer.error().text();
  EXPECT_EQ((*answer)["about"], "32751");
}

TEST(ControlSocket, PassesOnTheHandlersError) {
  const TemporaryFile file(".sock");
  auto server = ControlSocket::listen(file.path(), echo);
  ASSERT_TRUE(server);
  const auto answer = with_server(**server, [&] { return ask_control_socket(file.path(), {"bad"}); });
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().text(), "no such thing");
}

TEST(ControlSocket, SurvivesWhatIsNoRequest) {
  const TemporaryFile file(".sock");
  auto server = ControlSocket::listen(file.path(), echo);
  ASSERT_TRUE(server);
  for (const std::string& text :
       {std::string("\n"), std::string("not json\n"), std::string("[1]\n"), std::string("{\"command\": 7}\n"),
        std::string(10'000, '{'), std::string("\xff\xfe\n")}) {
    const std::string answer = with_server(**server, [&] { return say(file.path(), text); });
    // What is too long is cut off, and its sender may find the connection reset.
    EXPECT_TRUE(answer.empty() || answer.find("\"ok\":false") != std::string::npos) << answer;
  }
}

/// A byte now and then, and never the end of the line.
void dribble(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  const UniqueFd fd(socket(AF_UNIX, SOCK_STREAM, 0));
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) return;
  for (int i = 0; i < 100 && send(fd.get(), "x", 1, MSG_NOSIGNAL) == 1; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
}

TEST(ControlSocket, DoesNotWaitForAClientThatNeverGetsToItsPoint) {
  const TemporaryFile file(".sock");
  auto server = ControlSocket::listen(file.path(), echo, std::chrono::milliseconds(50));
  ASSERT_TRUE(server);
  std::thread client(dribble, file.path());
  const auto began = std::chrono::steady_clock::now();
  (*server)->serve();
  const auto took = std::chrono::steady_clock::now() - began;
  client.join();
  EXPECT_LT(took, std::chrono::milliseconds(500));
}

TEST(ControlSocket, ReplacesAStaleSocketButNotALiveOne) {
  const TemporaryFile file(".sock");
  auto first = ControlSocket::listen(file.path(), echo);
  ASSERT_TRUE(first);
  const auto second = ControlSocket::listen(file.path(), echo);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), ErrorCode::kConflict);
}

TEST(ControlSocket, LeavesAFileThatIsNoSocketAlone) {
  const TemporaryFile file(".txt");
  file.write({'x'});
  EXPECT_FALSE(ControlSocket::listen(file.path(), echo));
  EXPECT_TRUE(std::ifstream(file.path()).good());
}

TEST(ControlSocket, SaysThatNobodyAnswers) {
  const auto answer = ask_control_socket("/nonexistent/synfluid.sock", {"status"});
  ASSERT_FALSE(answer);
  EXPECT_NE(answer.error().text().find("no gateway answers on /nonexistent/synfluid.sock"),
            std::string::npos);
}

TEST(Doctor, ReadsXensCommandLine) {
  const char* const name = "gnttab_max_maptrack_frames";
  EXPECT_EQ(xen_option("dom0_mem=1024M gnttab_max_maptrack_frames=8192 console=com1", name), 8192u);
  EXPECT_EQ(xen_option("gnttab_max_maptrack_frames=1 gnttab_max_maptrack_frames=0x1000", name), 4096u);
  EXPECT_FALSE(xen_option("gnttab_max_frames=64 no_gnttab_max_maptrack_frames=9", name));
  EXPECT_FALSE(xen_option("gnttab_max_maptrack_frames gnttab_max_maptrack_frames=", name));
}

TEST(Doctor, SaysWhatIsWrongAndWhatHelps) {
  const std::vector<Finding> findings =
      examine({.vms = 1'000'000'000, .interfaces = {"no-such-if"}, .probe_process = [] {
                 return Status(Error(ErrorCode::kPermission, "no sandbox today"));
               }});
  EXPECT_GT(findings.size(), 8u);
  bool interface = false, sandbox = false, limits = false;
  for (const Finding& f : findings) {
    const std::string line = to_line(f);
    EXPECT_EQ(line.find('\n'), std::string::npos);
    if (f.level != Finding::Level::kGood) {
      EXPECT_FALSE(f.remedy.empty()) << line;
    }
    interface = interface || line.find("no such network interface") != std::string::npos;
    sandbox = sandbox || line.find("no sandbox today") != std::string::npos;
    limits = limits || line.starts_with("hint   vm.max_map_count");
  }
  EXPECT_TRUE(interface && sandbox && limits);
}

}  // namespace
}  // namespace synfluid::gateway::testing
