#include "spawner/store/switchboard.h"

#include <algorithm>
#include <ranges>
#include <utility>

#include <spdlog/spdlog.h>

namespace synfluid::spawner::store {

namespace {

std::string_view words_for(Broken why) {
  switch (why) {
    case Broken::kGone:
      return "its peer is gone";
    case Broken::kPayload:
      return "a request announces more than 4096 bytes";
    case Broken::kIndices:
      return "the ring's indices are out of range";
    case Broken::kTooSlow:
      return "it takes none of its messages";
  }
  return "";
}

}  // namespace

Switchboard::~Switchboard() = default;

Stream& Switchboard::add(std::unique_ptr<Stream> stream) {
  const size_t index = stream->id().value();
  if (index >= streams_.size()) streams_.resize(index + 1);
  // An engine may give a number out again in the turn in which it was freed.
  if (streams_[index]) drop(stream->id());
  streams_[index] = std::move(stream);
  ++count_;
  return *streams_[index];
}

void Switchboard::drop(ConnectionId connection) {
  if (find(connection) == nullptr) return;
  closed_.push_back(std::move(streams_[connection.value()]));
  closed_.back()->close();
  --count_;
}

Stream* Switchboard::find(ConnectionId connection) {
  return connection.value() < streams_.size() ? streams_[connection.value()].get() : nullptr;
}

void Switchboard::send(ConnectionId to, const Header& header, std::span<const char> payload) {
  if (Stream* stream = find(to)) stream->enqueue(header, payload);
}

void Switchboard::resume(ConnectionId connection) {
  if (Stream* stream = find(connection)) mark_ready(*stream);
}

void Switchboard::mark_ready(Stream& stream) {
  if (!std::exchange(stream.ready_, true)) ready_.push_back(&stream);
}

void Switchboard::mark_dirty(Stream& stream) {
  if (!std::exchange(stream.dirty_, true)) dirty_.push_back(&stream);
}

void Switchboard::hang_up(Stream& stream) {
  mark_dirty(stream);
}

void Switchboard::note_broken(const Stream& stream, Broken why) {
  ++broken_;
  if (const auto more = log_.admit(clock_.now_ns()))
    spdlog::warn("connection {} is cut off: {}{}", stream.id().value(), words_for(why), *more);
}

void Switchboard::note_refused() {
  if (const auto more = log_.admit(clock_.now_ns()))
    spdlog::warn("a client is turned away: no descriptor is left (ulimit -n){}", *more);
}

void Switchboard::serve_ready() {
  std::swap(turn_, ready_);
  for (Stream* stream : turn_) {
    stream->ready_ = false;
    stream->serve();
  }
  turn_.clear();
}

/// Who was served last is written to first. Who waits for several replies in the order in which it asked then
/// sleeps on until all are there; woken by the first of them, it would take the CPU from us after each.
/// To a connection that ends here, others' watches may still send: so until nothing is left.
void Switchboard::flush_dirty() {
  while (!dirty_.empty()) {
    std::swap(turn_, dirty_);
    for (Stream* stream : turn_ | std::views::reverse) {
      stream->dirty_ = false;
      stream->flush();
      if (!stream->closed() || find(stream->id()) != stream) continue;
      engine_->disconnect(stream->id());
      drop(stream->id());
    }
    turn_.clear();
  }
}

void Switchboard::clear() {
  ready_.clear();
  dirty_.clear();
  closed_.clear();
  streams_.clear();
  count_ = 0;
}

void Switchboard::end_turn() {
  serve_ready();
  flush_dirty();
  if (closed_.empty()) return;
  const auto gone = [](const Stream* stream) { return stream->closed(); };
  std::erase_if(ready_, gone);
  closed_.clear();
}

}  // namespace synfluid::spawner::store
