#include "backend/tx_path.h"

#include <cstring>

#include "backend/checksum.h"
#include "backend/vif.h"

namespace synfluid::backend {

namespace {

/// Refused requests that one receive() skips before it lets its owner look after other guests.
constexpr uint32_t kMaxBadPerCall = 64;

}  // namespace

TxPath::TxPath(GuestLink& link, const GrantPages& pages, VifState& state)
    : link_(link), pages_(pages), state_(state), ring_(link.tx_ring()) {
  if (!pages.are_mapped()) staging_ = std::make_unique<Staging>();
}

size_t TxPath::receive(std::span<std::byte> into) noexcept {
  return staging_ ? receive_staged(into) : receive_mapped(into);
}

bool TxPath::arm() noexcept {
  const bool more = ring_.arm() || staged_next_ < staged_count_;
  if (ring_.broken()) state_.broken = "transmit ring: impossible producer index";
  return more && state_.broken.empty();
}

bool TxPath::read_chain() noexcept {
  const uint32_t available = ring_.available(1);
  if (ring_.broken()) state_.broken = "transmit ring: impossible producer index";
  if (available == 0) return false;
  read_tx_chain(ring_, available, kMaxFrameBytes, chain_);
  if (chain_.kind != TxChain::Kind::kIncomplete) return true;
  // What we know of the index may be old: a frame's end may have been published since.
  const uint32_t latest = ring_.available(abi::kRingSlots + 1);
  if (latest > available) read_tx_chain(ring_, latest, kMaxFrameBytes, chain_);
  if (chain_.kind != TxChain::Kind::kIncomplete) return true;
  state_.broken =
      ring_.broken() ? "transmit ring: impossible producer index" : "transmit ring: frame without an end";
  return false;
}

void TxPath::count(int16_t status, bool is_frame, size_t bytes) noexcept {
  if (status != abi::kRspOkay) {
    state_.tallies.bad_tx_request.add();
    state_.note_bad();
  } else if (is_frame) {
    state_.tallies.frames_from_guest.add();
    state_.tallies.bytes_from_guest.add(bytes);
    state_.note_good();
  }
}

// ---- mapped pages ----

size_t TxPath::receive_mapped(std::span<std::byte> into) noexcept {
  for (uint32_t i = 0; i < kMaxBadPerCall && state_.broken.empty() && read_chain(); ++i) {
    const bool is_frame = chain_.kind == TxChain::Kind::kFrame;
    const bool is_good = is_frame ? copy_mapped(into) : chain_.kind == TxChain::Kind::kControl;
    const int16_t status = is_good ? abi::kRspOkay : abi::kRspError;
    answer_chain(status);
    count(status, is_frame, chain_.bytes);
    if (is_good && is_frame) return chain_.bytes;
  }
  return 0;
}

bool TxPath::copy_mapped(std::span<std::byte> into) const noexcept {
  if (chain_.bytes > into.size()) return false;
  size_t at = 0;
  for (uint32_t i = 0; i < chain_.fragments; ++i) {
    const TxFragment& f = chain_.fragment[i];
    const std::byte* page = pages_.find(f.gref, PageAccess::kRead);
    if (page == nullptr) return false;
    std::memcpy(into.data() + at, page + f.offset, f.length);
    at += f.length;
  }
  return !chain_.checksum_blank || fill_checksum(into.first(at));
}

void TxPath::answer_chain(int16_t status) noexcept {
  ring_.consume(chain_.slots);
  for (uint32_t i = 0; i < chain_.slots; ++i)
    ring_.respond(tx_response(chain_.id[i], i != 0 && i <= chain_.extras, status));
}

// ---- plain grants ----

size_t TxPath::receive_staged(std::span<std::byte> into) noexcept {
  if (staged_next_ == staged_count_) refill();
  while (staged_next_ < staged_count_) {
    const Staged& frame = staging_->frames[staged_next_++];
    if (frame.status != abi::kRspOkay || frame.bytes == 0 || frame.bytes > into.size()) continue;
    std::memcpy(into.data(), staging_->bytes.data() + frame.at, frame.bytes);
    return frame.bytes;
  }
  return 0;
}

void TxPath::refill() noexcept {
  Batch batch;
  while (batch.frames < staging_->frames.size() && state_.broken.empty() && read_chain() && has_room(batch))
    stage_chain(batch);
  if (batch.copies != 0) link_.copy(std::span(staging_->copies).first(batch.copies));
  for (uint32_t i = 0; i < batch.frames; ++i) finish(staging_->frames[i]);
  staged_next_ = 0;
  staged_count_ = batch.frames;
}

bool TxPath::has_room(const Batch& batch) const noexcept {
  if (batch.ids + chain_.slots > staging_->ids.size()) return false;
  if (chain_.kind != TxChain::Kind::kFrame) return true;
  return batch.copies + chain_.fragments <= kStagingCopies && batch.bytes + chain_.bytes <= kStagingBytes;
}

void TxPath::stage_chain(Batch& batch) noexcept {
  Staged& frame = staging_->frames[batch.frames++];
  frame = {.at = batch.bytes,
           .bytes = 0,
           .first_copy = static_cast<uint16_t>(batch.copies),
           .copies = 0,
           .slots = chain_.slots,
           .extras = chain_.extras,
           .first_id = static_cast<uint16_t>(batch.ids),
           .status = chain_.kind == TxChain::Kind::kBad ? abi::kRspError : abi::kRspOkay,
           .checksum_blank = chain_.checksum_blank};
  std::memcpy(&staging_->ids[batch.ids], chain_.id.data(), chain_.slots * sizeof(uint16_t));
  batch.ids += chain_.slots;
  ring_.consume(chain_.slots);
  if (chain_.kind != TxChain::Kind::kFrame) return;

  frame.bytes = chain_.bytes;
  for (uint32_t i = 0; i < chain_.fragments; ++i) stage_fragment(batch, chain_.fragment[i]);
  frame.copies = static_cast<uint16_t>(batch.copies - frame.first_copy);
}

void TxPath::stage_fragment(Batch& batch, const TxFragment& fragment) noexcept {
  std::byte* const host = staging_->bytes.data() + batch.bytes;
  batch.bytes += fragment.length;
  if (const std::byte* page = pages_.find(fragment.gref, PageAccess::kRead)) {
    std::memcpy(host, page + fragment.offset, fragment.length);
    return;
  }
  staging_->copies[batch.copies++] = {.direction = GrantCopy::Direction::kFromGuest,
                                      .gref = GrantRef{fragment.gref},
                                      .offset = fragment.offset,
                                      .length = fragment.length,
                                      .host = host,
                                      .status = abi::kRspError};
}

void TxPath::finish(Staged& frame) noexcept {
  for (uint32_t i = 0; i < frame.copies; ++i)
    if (staging_->copies[frame.first_copy + i].status != abi::kRspOkay) frame.status = abi::kRspError;
  const std::span bytes = std::span(staging_->bytes).subspan(frame.at, frame.bytes);
  if (frame.status == abi::kRspOkay && frame.checksum_blank && frame.bytes != 0 && !fill_checksum(bytes))
    frame.status = abi::kRspError;
  for (uint32_t i = 0; i < frame.slots; ++i)
    ring_.respond(tx_response(staging_->ids[frame.first_id + i], i != 0 && i <= frame.extras, frame.status));
  count(frame.status, frame.bytes != 0, frame.bytes);
}

}  // namespace synfluid::backend
