#include "spawner/store/stream.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "spawner/store/switchboard.h"

namespace synfluid::spawner::store {

namespace {

/// Buffers larger than this are given back when they are empty: 10,000 idle connections keep little.
constexpr size_t kKeepCapacity = 8 << 10;

void reset(std::string& buffer) {
  if (buffer.capacity() > kKeepCapacity)
    std::string().swap(buffer);
  else
    buffer.clear();
}

size_t message_bytes(std::span<const char> bytes) {
  return kHeaderBytes + parse_header(bytes).length;
}

bool holds_request(std::span<const char> bytes) {
  return bytes.size() >= kHeaderBytes && bytes.size() >= message_bytes(bytes);
}

}  // namespace

void Stream::enqueue(const Header& header, std::span<const char> payload) {
  if (closed_) return;
  if (queued() > kMaxQueued) return broken(Broken::kTooSlow);
  std::array<char, kHeaderBytes> head;
  write_header(header, head);
  out_.append(head.data(), head.size());
  out_.append(payload.data(), payload.size());
  board_.mark_dirty(*this);
}

bool Stream::may_read() const {
  return queued() < kQueuedEnough && board_.engine().wants_input(id_);
}

void Stream::serve() {
  // Woken again by flush() or by the engine.
  if (closed_ || !may_read()) return;
  bool more = false;
  const std::span<char> bytes = fill(board_.buffer(), more);
  if (closed_) return;
  const std::span<const char> rest = serve_whole(bytes);
  if (closed_) return;
  keep(rest);
  if (more) board_.mark_ready(*this);
}

/// What was kept, and after it what there is to read; nothing is read while whole requests are kept.
std::span<char> Stream::fill(std::span<char> buffer, bool& more) {
  std::ranges::copy(in_, buffer.begin());
  const size_t kept = in_.size();
  if (holds_request(in_)) {
    more = true;
    return buffer.first(kept);
  }
  const Taken taken = read(buffer.subspan(kept, kInputBytes));
  more = taken.more;
  return buffer.first(kept + taken.bytes);
}

std::span<const char> Stream::serve_whole(std::span<const char> bytes) {
  while (bytes.size() >= kHeaderBytes && may_read()) {
    const Header header = parse_header(bytes);
    if (header.length > kMaxPayload) {
      broken(Broken::kPayload);
      return {};
    }
    const size_t whole = kHeaderBytes + header.length;
    if (bytes.size() < whole) break;
    board_.engine().handle(id_, header, bytes.subspan(kHeaderBytes, header.length));
    if (closed_) return {};
    bytes = bytes.subspan(whole);
  }
  return bytes;
}

void Stream::keep(std::span<const char> rest) {
  if (rest.empty()) {
    if (!in_.empty()) reset(in_);
    return;
  }
  in_.assign(rest.data(), rest.size());
}

void Stream::flush() {
  if (closed_) return;
  const bool was_full = queued() >= kQueuedEnough;
  if (sent_ < out_.size()) {
    sent_ += write(std::span<const char>(out_).subspan(counted_), sent_ - counted_);
    if (closed_) return;
    count_delivered();
  }
  const auto [message, put] = cut_message();
  turn_ended(out_.size() - counted_ == message.size() && !holds_request(in_));
  if (was_full && queued() < kQueuedEnough) board_.mark_ready(*this);
}

void Stream::count_delivered() {
  uint32_t messages = 0;
  const size_t before = counted_;
  while (counted_ < sent_) {
    const size_t whole = message_bytes(std::span<const char>(out_).subspan(counted_));
    if (counted_ + whole > sent_) break;
    counted_ += whole;
    ++messages;
  }
  if (messages > 0) board_.engine().delivered(id_, messages, counted_ - before);
  if (sent_ == out_.size()) {
    reset(out_);
    sent_ = counted_ = 0;
  } else if (counted_ > out_.size() / 2) {
    out_.erase(0, counted_);
    sent_ -= counted_;
    counted_ = 0;
  }
}

void Stream::drop_buffers() {
  reset(in_);
  reset(out_);
  sent_ = counted_ = 0;
}

std::pair<std::string_view, size_t> Stream::cut_message() const {
  if (sent_ == counted_) return {};
  const std::string_view rest = std::string_view(out_).substr(counted_);
  return {rest.substr(0, message_bytes(rest)), sent_ - counted_};
}

void Stream::restore_buffers(std::string_view input, std::string_view message, size_t put) {
  in_ = input;
  out_ = message;
  sent_ = std::min(put, out_.size());
  counted_ = 0;
  board_.mark_dirty(*this);
}

void Stream::broken(Broken why) {
  if (closed_) return;
  if (why != Broken::kGone) board_.note_broken(*this, why);
  close();
  board_.hang_up(*this);
}

}  // namespace synfluid::spawner::store
