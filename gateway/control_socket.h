// The control socket: a unix stream socket on which a client sends one line of JSON and gets one line of JSON
// back.
//
// Request: {"command": "status"}, with an "argument" where the command takes one. Answer: {"ok": true,
// "result": ...} or {"ok": false, "error": "..."}. Only the user the gateway runs as may connect (mode 0600).
// A request is at most 4 KiB; it must come, and its answer be taken, within a second each, however small the
// pieces: a slow client must not keep the control thread from a signal. Threads: one, the control thread.
// Ownership: the socket file goes with the ControlSocket.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "base/result.h"
#include "base/unique_fd.h"

namespace synfluid::gateway {

struct ControlRequest {
  std::string command;
  std::string argument = {};
};

class ControlSocket {
 public:
  using Handler = std::function<Result<nlohmann::json>(const ControlRequest& request)>;

  /// A socket file that nobody listens on any more is replaced; one that somebody does is an error.
  static Result<std::unique_ptr<ControlSocket>> listen(
      const std::string& path, Handler handler, std::chrono::milliseconds patience = std::chrono::seconds(1));
  ~ControlSocket();
  ControlSocket(const ControlSocket&) = delete;
  ControlSocket& operator=(const ControlSocket&) = delete;

  /// Readable when a client waits.
  int fd() const { return listener_.get(); }
  /// Serves one client.
  void serve();

 private:
  ControlSocket(std::string path, UniqueFd listener, Handler handler, std::chrono::milliseconds patience)
      : path_(std::move(path)),
        listener_(std::move(listener)),
        handler_(std::move(handler)),
        patience_(patience) {}
  nlohmann::json answer(const std::string& request) const;

  const std::string path_;
  const UniqueFd listener_;
  const Handler handler_;
  const std::chrono::milliseconds patience_;
};

/// The client's side: sends a command, returns the result or the gateway's error.
Result<nlohmann::json> ask_control_socket(const std::string& path, const ControlRequest& request);

}  // namespace synfluid::gateway
