#include "gateway/control_socket.h"

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <string_view>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

namespace synfluid::gateway {

using nlohmann::json;

namespace {

constexpr size_t kMaxRequest = 4096;
constexpr int kBacklog = 8;
/// A reload may have to prepare large images.
constexpr std::chrono::seconds kClientPatience{60};

Result<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path))
    return Error(ErrorCode::kInvalidArgument,
                 fmt::format("control socket '{}': the path must have 1 to {} bytes", path,
                             sizeof(address.sun_path) - 1));
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

UniqueFd new_socket() {
  return UniqueFd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
}

int connect_to(int fd, const sockaddr_un& address) {
  return connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
}

/// How long one side of a conversation may take, in all.
class Deadline {
 public:
  explicit Deadline(std::chrono::milliseconds patience) : until_(Clock::now() + patience) {}

  /// Lets the next call on the socket wait for what is left; false: nothing is.
  bool set_on(int fd) const {
    const auto left = std::chrono::duration_cast<std::chrono::microseconds>(until_ - Clock::now()).count();
    if (left <= 0) return false;
    const timeval patience{left / 1'000'000, left % 1'000'000};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    return true;
  }

 private:
  using Clock = std::chrono::steady_clock;
  const Clock::time_point until_;
};

/// Until a line's end, the other side's, the deadline, or `most` bytes.
std::string receive_line(int fd, size_t most, std::chrono::milliseconds patience) {
  const Deadline deadline(patience);
  std::string line;
  std::array<char, 4096> buffer;
  while (line.size() <= most && deadline.set_on(fd)) {
    const ssize_t got = recv(fd, buffer.data(), buffer.size(), 0);
    if (got <= 0) break;
    line.append(buffer.data(), static_cast<size_t>(got));
    if (line.back() == '\n') break;
  }
  return line;
}

bool send_all(int fd, std::string_view text, std::chrono::milliseconds patience) {
  const Deadline deadline(patience);
  while (!text.empty()) {
    if (!deadline.set_on(fd)) return false;
    const ssize_t sent = send(fd, text.data(), text.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    text.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

}  // namespace

Result<std::unique_ptr<ControlSocket>> ControlSocket::listen(const std::string& path, Handler handler,
                                                             std::chrono::milliseconds patience) {
  const auto address = address_of(path);
  if (!address) return address.error();
  const auto fail = [&](const char* what) {
    return Error::from_errno(errno, fmt::format("control socket {}: {}", path, what));
  };
  if (const UniqueFd probe = new_socket(); probe && connect_to(probe.get(), *address) == 0)
    return Error(ErrorCode::kConflict, fmt::format("control socket {}: another gateway listens on it", path));
  struct stat status {};
  if (lstat(path.c_str(), &status) == 0 && S_ISSOCK(status.st_mode)) unlink(path.c_str());
  UniqueFd listener = new_socket();
  if (!listener) return fail("cannot be made");
  const mode_t mask = umask(0177);
  const int bound = bind(listener.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof(*address));
  umask(mask);
  if (bound != 0) return fail("cannot be bound");
  if (::listen(listener.get(), kBacklog) != 0) return fail("cannot be listened on");
  return std::unique_ptr<ControlSocket>(
      new ControlSocket(path, std::move(listener), std::move(handler), patience));
}

ControlSocket::~ControlSocket() {
  unlink(path_.c_str());
}

void ControlSocket::serve() {
  const UniqueFd client(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!client) return;
  const json reply = answer(receive_line(client.get(), kMaxRequest, patience_));
  send_all(client.get(), reply.dump(-1, ' ', false, json::error_handler_t::replace) + "\n", patience_);
}

json ControlSocket::answer(const std::string& request) const {
  const json parsed = json::parse(request, nullptr, false);
  if (!parsed.is_object() || !parsed.contains("command") || !parsed["command"].is_string())
    return {{"ok", false}, {"error", "a request is one line of JSON with a command"}};
  const auto argument = parsed.find("argument");
  const bool has_argument = argument != parsed.end() && argument->is_string();
  const auto result = handler_({.command = parsed["command"].get<std::string>(),
                                .argument = has_argument ? argument->get<std::string>() : std::string()});
  if (!result) return {{"ok", false}, {"error", result.error().text()}};
  return {{"ok", true}, {"result", *result}};
}

Result<json> ask_control_socket(const std::string& path, const ControlRequest& request) {
  const auto address = address_of(path);
  if (!address) return address.error();
  const UniqueFd server = new_socket();
  if (!server || connect_to(server.get(), *address) != 0)
    return Error::from_errno(errno, fmt::format("no gateway answers on {}", path));
  if (!send_all(server.get(),
                json{{"command", request.command}, {"argument", request.argument}}.dump() + "\n",
                kClientPatience))
    return Error::from_errno(errno, fmt::format("the gateway on {} does not listen", path));
  const json reply = json::parse(receive_line(server.get(), SIZE_MAX - 1, kClientPatience), nullptr, false);
  if (!reply.is_object() || !reply.contains("ok"))
    return Error(ErrorCode::kProtocol, fmt::format("the gateway on {} did not answer", path));
  if (!reply["ok"].get<bool>()) return Error(ErrorCode::kInvalidArgument, reply.value("error", "refused"));
  return reply["result"];
}

}  // namespace synfluid::gateway
