// XenStore over a unix socket: whoever may open it is the control domain.
//
// Clients are told apart by the file's mode alone, as with every xenstored. A descriptor is watched once, by
// its edges; only a client that takes none of its replies costs further calls.
//
// Threads: one. Ownership: a listener owns its socket's file and removes it. Errors: Result at set-up; a
// client's own end its connection.
#pragma once

#include <memory>
#include <string>

#include "base/unique_fd.h"
#include "spawner/store/event_loop.h"
#include "spawner/store/switchboard.h"

namespace synfluid::spawner::store {

class SocketStream final : public Stream, public Watcher {
 public:
  SocketStream(Switchboard& board, EventLoop& loop, ConnectionId id, UniqueFd fd);
  ~SocketStream() override;

  Status start();
  void on_ready(uint32_t events) override;

 private:
  Taken read(std::span<char> into) override;
  size_t write(std::span<const char> messages, size_t already) override;
  void wait_for_room(bool wanted);

  EventLoop& loop_;
  UniqueFd fd_;
  bool waits_for_room_ = false;
  bool ended_ = false;  ///< the peer sends no more: read until nothing is left
};

class SocketListener final : public Watcher {
 public:
  /// Takes the place of a socket file that nobody listens at. kConflict: a store runs there.
  static Result<std::unique_ptr<SocketListener>> open(const std::string& path, EventLoop& loop,
                                                      Switchboard& board);
  ~SocketListener() override;
  void on_ready(uint32_t events) override;

 private:
  SocketListener(std::string path, UniqueFd fd, UniqueFd spare, EventLoop& loop, Switchboard& board);
  void admit(UniqueFd client);
  void turn_away();

  const std::string path_;
  UniqueFd fd_;
  UniqueFd spare_;  ///< given up for a moment when descriptors run out
  EventLoop& loop_;
  Switchboard& board_;
};

/// Where libxenstore of this environment looks: XENSTORED_PATH, else a socket in XENSTORED_RUNDIR, else the
/// standard place.
std::string default_socket_path();

}  // namespace synfluid::spawner::store
