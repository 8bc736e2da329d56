#include "spawner/store/ring_transport.h"

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

RingStream::RingStream(Switchboard& board, ConnectionId id, std::unique_ptr<RingPort> port)
    : Stream(board, id), port_(std::move(port)), ring_(port_->page()) {}

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
  if (bytes) return {*bytes, false};
  broken(Broken::kIndices);
  return {};
}

size_t RingStream::write(std::span<const char> messages, size_t already) {
  if (failed_) return 0;
  const auto room = ring_.room();
  if (!room) {
    broken(Broken::kIndices);
    return 0;
  }
  size_t begin = 0, end = already;
  while (end < messages.size()) {
    const size_t whole = kHeaderBytes + parse_header(messages.subspan(begin)).length;
    const size_t left = already + *room - end;
    if (begin + whole - end > left) {
      if (whole > kRingBytes) end += left;
      break;
    }
    begin = end = begin + whole;
  }
  if (end == already) return 0;
  ring_.write(messages.subspan(already, end - already));
  tell_ = true;
  return end - already;
}

void RingStream::turn_ended(bool drained, size_t partial, size_t partial_whole) {
  if (std::exchange(forget_later_, false)) {
    drop_buffers();
    board_.engine().reset(id());
  }
  if (!failed_ && drained && board_.engine().wants_input(id()))
    tell_ |= ring_.consume(partial_whole > kRingBytes ? 0 : static_cast<uint32_t>(partial));
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
