#include "spawner/store/ring_transport.h"

#include <algorithm>
#include <utility>

namespace synfluid::spawner::store {

namespace {

RingError error_of(Broken why) {
  switch (why) {
    case Broken::kIndices:
      return RingError::kIndices;
    case Broken::kPayload:
      return RingError::kProtocol;
    case Broken::kGone:
    case Broken::kTooSlow:
      break;
  }
  return RingError::kCommunication;
}

}  // namespace

RingStream::RingStream(Switchboard& board, ConnectionId id, std::unique_ptr<RingPort> port, RingLog* log)
    : Stream(board, id), port_(std::move(port)), log_(log), ring_(port_->page()) {}

RingRemnant RingStream::remnant() const {
  RingRemnant remnant;
  remnant.taken_index = ring_.read_index();
  remnant.request = pending_input();
  const auto [message, put] = cut_message();
  remnant.put_index = ring_.written_index();
  remnant.message = message;
  remnant.put = static_cast<uint32_t>(put);
  return remnant;
}

void RingStream::take_up(const RingRemnant& remnant) {
  restore_buffers(remnant.taken_index == ring_.read_index() ? remnant.request : "",
                  remnant.put_index == ring_.written_index() ? remnant.message : "", remnant.put);
}

void RingStream::advertise() {
  ring_.advertise();
  tell_ = true;
  board_.mark_dirty(*this);
}

void RingStream::on_event() {
  if (closed()) return;
  board_.mark_dirty(*this);
  if (ring_.reconnection_asked()) {
    board_.engine().reset(id());
    begin_anew(nullptr);
    return;
  }
  serve();
}

void RingStream::unplug() {
  drop_buffers();
  failed_ = true;
  tell_ = false;
  port_.reset();
}

void RingStream::begin_anew(std::unique_ptr<RingPort> port) {
  drop_buffers();
  if (port) {
    port_ = std::move(port);
    ring_ = DomainRing(port_->page());
  }
  ring_.reset();
  failed_ = forget_later_ = false;
  advertise();
}

Stream::Taken RingStream::read(std::span<char> into) {
  if (failed_) return {};
  const auto bytes = ring_.read(into);
  if (!bytes) {
    broken(Broken::kIndices);
    return {};
  }
  if (*bytes > 0) board_.mark_dirty(*this);  // they are given back at the turn's end
  return {*bytes, false};
}

/// Fills the ring to its last byte: a guest rings when it has read from a full one, and only then.
size_t RingStream::write(std::span<const char> messages, size_t already) {
  if (failed_) return 0;
  const auto room = ring_.room();
  if (!room) {
    broken(Broken::kIndices);
    return 0;
  }
  const auto bytes = messages.subspan(already, std::min<size_t>(*room, messages.size() - already));
  if (bytes.empty()) return 0;
  ring_.write(bytes);
  tell_ = true;
  return bytes.size();
}

/// A guest rings when it adds to a ring of which all was taken, and only then: so after every taking there is
/// another look.
void RingStream::turn_ended(bool drained) {
  if (std::exchange(forget_later_, false)) {
    drop_buffers();
    board_.engine().reset(id());
  }
  if (log_ != nullptr && !failed_)
    if (const RingRemnant left = remnant(); !left.empty()) log_->remnant_left(id(), left);
  if (!failed_ && drained && board_.engine().wants_input(id()) && ring_.consume()) {
    tell_ = true;
    if (ring_.has_input()) board_.mark_ready(*this);
  }
  if (std::exchange(tell_, false) && port_) port_->notify();
}

void RingStream::broken(Broken why) {
  if (std::exchange(failed_, true)) return;
  board_.note_broken(*this, why);
  ring_.fail(error_of(why));
  forget_later_ = tell_ = true;
  board_.mark_dirty(*this);
}

}  // namespace synfluid::spawner::store
