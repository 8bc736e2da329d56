#include "backend/rx_path.h"

#include <algorithm>
#include <cstring>

namespace synfluid::backend {

namespace {

/// Useless buffers that one send() goes through before it gives up.
constexpr uint32_t kMaxBadPerCall = 64;

/// How far ahead of its use a buffer is called up: a line that the guest's CPU has comes in the time of some
/// small frames.
constexpr uint32_t kCalledUpAhead = 16;

/// GCC has this instruction only for CPUs newer than our baseline; the others take it for one that does
/// nothing.
void prefetch_for_write(std::byte* at) noexcept {
#if defined(__x86_64__)
  __asm__ volatile("prefetchw %0" : : "m"(*at));
#else
  __builtin_prefetch(at, 1);
#endif
}

/// The part of a frame that goes into its i-th buffer.
std::span<const std::byte> part(std::span<const std::byte> frame, uint32_t i) {
  const size_t at = size_t{i} * abi::kPageBytes;
  return frame.subspan(at, std::min<size_t>(abi::kPageBytes, frame.size() - at));
}

abi::NetRxResponse rx_response(uint16_t id, uint16_t flags, bool is_last, size_t bytes) {
  const uint16_t chain = is_last ? uint16_t{0} : abi::kRxMoreData;
  return {id, 0, static_cast<uint16_t>(flags | chain), static_cast<int16_t>(bytes)};
}

}  // namespace

RxPath::RxPath(GuestLink& link, const GrantPages& pages, VifState& state)
    : link_(link),
      pages_(pages),
      state_(state),
      ring_(link.rx_ring()),
      max_bytes_(link.front_end().receives_chains ? kMaxFrameBytes : abi::kPageBytes) {
  if (!pages.are_mapped()) staging_ = std::make_unique<Staging>();
}

bool RxPath::send(std::span<const std::byte> frame, FrameChecksum checksum) noexcept {
  if (!state_.broken.empty()) return false;
  if (frame.empty() || frame.size() > max_bytes_) {
    state_.tallies.too_long.add();
    return false;
  }
  const auto slots = static_cast<uint32_t>((frame.size() + abi::kPageBytes - 1) / abi::kPageBytes);
  Buffers buffers;
  if (!take_buffers(slots, buffers)) {
    state_.tallies.no_rx_buffer.add();
    starved_of_ = slots;
    return false;
  }
  starved_of_ = 0;
  const uint16_t flags = checksum == FrameChecksum::kVerified ? abi::kRxDataValidated : uint16_t{0};
  if (staging_)
    fill_staged(frame, slots, flags, buffers);
  else
    fill_mapped(frame, slots, flags, buffers);
  call_up_later_buffer();
  state_.tallies.frames_to_guest.add();
  state_.tallies.bytes_to_guest.add(frame.size());
  return true;
}

bool RxPath::publish() noexcept {
  if (staging_ && state_.broken.empty()) run_copies();
  return ring_.publish();
}

bool RxPath::arm() noexcept {
  if (starved_of_ == 0) return false;
  const bool there_are = ring_.arm(starved_of_);
  if (ring_.broken()) state_.broken = "receive ring: impossible producer index";
  if (there_are) starved_of_ = 0;
  return there_are && state_.broken.empty();
}

bool RxPath::take_buffers(uint32_t slots, Buffers& out) noexcept {
  for (uint32_t bad = 0; bad < kMaxBadPerCall && state_.broken.empty();) {
    const uint32_t available = ring_.available(slots);
    if (ring_.broken()) state_.broken = "receive ring: impossible producer index";
    if (available < slots) return false;
    const uint32_t good = resolve(slots, out);
    if (good == slots) {
      ring_.consume(slots);
      return true;
    }
    refuse(good + 1, out);
    bad += good + 1;
  }
  return false;
}

uint32_t RxPath::resolve(uint32_t slots, Buffers& out) noexcept {
  for (uint32_t i = 0; i < slots; ++i) {
    out.request[i] = ring_.peek(i);
    out.page[i] = pages_.find(out.request[i].gref, PageAccess::kWrite);
    // A plain grant is judged by the copy itself.
    if (!staging_ && out.page[i] == nullptr) return i;
  }
  return slots;
}

// A chain cannot skip a buffer, so those in front of the bad one go back to the guest with it.
void RxPath::refuse(uint32_t slots, const Buffers& buffers) noexcept {
  ring_.consume(slots);
  for (uint32_t i = 0; i < slots; ++i) ring_.respond({buffers.request[i].id, 0, 0, abi::kRspError});
  state_.tallies.bad_rx_request.add();
  state_.note_bad();
}

void RxPath::fill_mapped(std::span<const std::byte> frame, uint32_t slots, uint16_t flags,
                         const Buffers& b) noexcept {
  for (uint32_t i = 0; i < slots; ++i) {
    const auto bytes = part(frame, i);
    std::memcpy(b.page[i], bytes.data(), bytes.size());
    ring_.respond(rx_response(b.request[i].id, flags, i + 1 == slots, bytes.size()));
  }
}

/// The guest has read the last frame in it, and recycled it: its first line is in that CPU's cache.
void RxPath::call_up_later_buffer() const noexcept {
  if (staging_ || ring_.known() <= kCalledUpAhead) return;
  std::byte* const page = pages_.find(ring_.peek(kCalledUpAhead).gref, PageAccess::kWrite);
  if (page != nullptr) prefetch_for_write(page);
}

void RxPath::fill_staged(std::span<const std::byte> frame, uint32_t slots, uint16_t flags,
                         const Buffers& b) noexcept {
  Staging& s = *staging_;
  if (s.count + slots > kStagingCopies || s.used + frame.size() > kStagingBytes) run_copies();
  for (uint32_t i = 0; i < slots; ++i) {
    const auto bytes = part(frame, i);
    s.is_copied[s.count] = b.page[i] == nullptr;
    s.answers[s.count++] = rx_response(b.request[i].id, flags, i + 1 == slots, bytes.size());
    std::byte* const host = b.page[i] != nullptr ? b.page[i] : s.bytes.data() + s.used;
    std::memcpy(host, bytes.data(), bytes.size());
    if (b.page[i] != nullptr) continue;
    s.copies[s.copy_count++] = {.direction = GrantCopy::Direction::kToGuest,
                                .gref = GrantRef{b.request[i].gref},
                                .offset = 0,
                                .length = static_cast<uint16_t>(bytes.size()),
                                .host = host,
                                .status = abi::kRspError};
    s.used += static_cast<uint32_t>(bytes.size());
  }
}

void RxPath::run_copies() noexcept {
  Staging& s = *staging_;
  if (s.copy_count != 0) link_.copy(std::span(s.copies).first(s.copy_count));
  const GrantCopy* copy = s.copies.data();
  for (uint32_t i = 0; i < s.count; ++i) {
    if (s.is_copied[i] && (copy++)->status != abi::kRspOkay) {
      s.answers[i].status = abi::kRspError;
      state_.tallies.bad_rx_request.add();
      state_.note_bad();
    }
    ring_.respond(s.answers[i]);
  }
  s.count = s.copy_count = s.used = 0;
}

}  // namespace synfluid::backend
