// One connection's bytes: requests are cut out of what comes in and given to the engine, messages to it are
// queued and written once a turn. What differs between a socket and a domain's ring is in the subclasses.
//
// A stream reads no more while the engine does not want its input, or while its own replies pile up; what
// has been read by then is kept, at most kInputBytes of it. A peer whose output queue reaches kMaxQueued is
// cut off: guests are stopped by the engine's quotas long before.
//
// Threads: one. Ownership: the switchboard owns streams; a closed one lives to the end of the turn. Units:
// bytes. Errors: a stream that cannot go on closes itself; nobody else notices.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "spawner/store/engine.h"

namespace synfluid::spawner::store {

class Switchboard;

/// What is read from one connection in one turn, at most.
inline constexpr size_t kInputBytes = 32 << 10;
inline constexpr size_t kMaxQueued = 16 << 20;
/// Replies beyond which a peer that takes none is not read from.
inline constexpr size_t kQueuedEnough = 64 << 10;

enum class Broken : uint8_t {
  kGone,     ///< the peer closed, or its domain is no more
  kPayload,  ///< a request announces more than the protocol's limit
  kIndices,  ///< a ring's indices are out of range
  kTooSlow,  ///< it takes none of what is sent to it
};

class Stream {
 public:
  Stream(Switchboard& board, ConnectionId id) : board_(board), id_(id) {}
  virtual ~Stream() = default;
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  ConnectionId id() const { return id_; }
  bool closed() const { return closed_; }
  size_t queued() const { return out_.size() - sent_; }

  /// Queues a message; it leaves with the turn's end.
  void enqueue(const Header& header, std::span<const char> payload);
  /// Reads once and serves what is whole. Called again in the next turn if there is more.
  void serve();
  /// Writes what is queued, as far as the peer takes it.
  void flush();

 protected:
  struct Taken {
    size_t bytes = 0;
    bool more = false;  ///< there may be more at once
  };

  virtual Taken read(std::span<char> into) = 0;
  /// Writes some of `messages`, whole ones, of which the first `already` bytes were written before. Returns
  /// how many more were.
  virtual size_t write(std::span<const char> messages, size_t already) = 0;
  /// After flush(); `drained`: every request that was read has been served, and of the queue there is left at
  /// most a part of one message.
  virtual void turn_ended(bool /*drained*/) {}
  /// The connection cannot go on. The default closes it.
  virtual void broken(Broken why);

  void close() { closed_ = true; }
  /// Forgets what was half read and what is queued.
  void drop_buffers();
  bool may_read() const;
  /// What was read and not served.
  std::string_view pending_input() const { return in_; }
  /// The message of which a part is written, and how much of it.
  std::pair<std::string_view, size_t> cut_message() const;
  /// As they were in another process: `put` bytes of the message are written.
  void restore_buffers(std::string_view input, std::string_view message, size_t put);

  Switchboard& board_;

 private:
  friend class Switchboard;

  std::span<char> fill(std::span<char> buffer, bool& more);
  std::span<const char> serve_whole(std::span<const char> bytes);
  void keep(std::span<const char> rest);
  void count_delivered();

  const ConnectionId id_;
  std::string in_;      ///< read, not served: half a request, or what the engine does not want yet
  std::string out_;     ///< whole messages
  size_t sent_ = 0;     ///< of out_
  size_t counted_ = 0;  ///< of out_: messages that were sent whole
  bool closed_ = false;
  bool ready_ = false;  ///< in the switchboard's list of the ready
  bool dirty_ = false;  ///< in its list of those with something to write
};

}  // namespace synfluid::spawner::store
