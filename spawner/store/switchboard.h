// Every connection's stream, by its number: the engine's way out, and the lists of what a turn has to do.
//
// A turn: the event loop tells streams that there is input; streams that were left with input are served;
// everything queued is written, one system call a connection; closed streams go. No step walks all
// connections.
//
// Threads: one. Ownership: owns the streams; the engine outlives it. Errors: none.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "spawner/log_limiter.h"
#include "spawner/store/engine.h"
#include "spawner/store/stream.h"

namespace synfluid::spawner::store {

class Switchboard final : public Outbox {
 public:
  explicit Switchboard(const Clock& clock) : clock_(clock) {}
  ~Switchboard() override;

  /// Before anything else: the engine is made with this outbox.
  void set_engine(Engine& engine) { engine_ = &engine; }
  Engine& engine() { return *engine_; }

  Stream& add(std::unique_ptr<Stream> stream);
  /// The engine knows nothing of it; the stream goes with the turn's end.
  void drop(ConnectionId connection);
  Stream* find(ConnectionId connection);

  void send(ConnectionId to, const Header& header, std::span<const char> payload) override;
  void resume(ConnectionId connection) override;

  void mark_ready(Stream& stream);
  void mark_dirty(Stream& stream);
  /// A stream that closed itself: the engine is told.
  void hang_up(Stream& stream);
  void note_broken(const Stream& stream, Broken why);
  /// A client was turned away, for want of descriptors.
  void note_refused();

  bool has_ready() const { return !ready_.empty(); }
  void end_turn();
  /// Every stream goes at once, and the engine is not told: at the very end.
  void clear();

  std::span<char> buffer() { return buffer_; }
  uint64_t broken() const { return broken_; }
  size_t streams() const { return count_; }

 private:
  void serve_ready();
  void flush_dirty();

  const Clock& clock_;
  Engine* engine_ = nullptr;
  std::vector<std::unique_ptr<Stream>> streams_;
  std::vector<std::unique_ptr<Stream>> closed_;
  std::vector<Stream*> ready_;
  std::vector<Stream*> dirty_;
  std::vector<Stream*> turn_;  ///< what ready_ or dirty_ was at the start of a step
  size_t count_ = 0;
  uint64_t broken_ = 0;
  LogLimiter log_;
  std::array<char, 2 * kInputBytes> buffer_;
};

}  // namespace synfluid::spawner::store
