#include "guest/services/firewall/request_watcher.h"

namespace synfluid::guest {
namespace {

constexpr size_t kMostChunks = 8192;
constexpr size_t kMostSniffers = 1024;

constexpr size_t smaller(size_t a, size_t b) {
  return a < b ? a : b;
}

}  // namespace

bool RequestWatcher::take_tables(net::Arena& arena, size_t guard_bytes, size_t sniffer_bytes) {
  const size_t chunks = guard_bytes / GuardStore::bytes_per_chunk();
  const size_t sniffers = sniffer_bytes / (sizeof(HostSniffer) + sizeof(uint16_t));
  guards_ = arena.make<GuardStore>(arena, smaller(chunks, kMostChunks));
  sniffers_ = arena.reserve<HostSniffer>(smaller(sniffers, kMostSniffers));
  free_sniffers_ = arena.array<uint16_t>(sniffers_.size());
  for (uint16_t& index : free_sniffers_) index = static_cast<uint16_t>(free_sniffer_count_++);
  return guards_ != nullptr && chunks >= 16 && free_sniffers_.size() >= 4;
}

/// Precondition: it has one, or one is free.
HostSniffer& RequestWatcher::sniffer_of(StreamWatch& watch) {
  if (watch.sniffer == kNoSniffer) {
    watch.sniffer = free_sniffers_[--free_sniffer_count_];
    sniffers_[watch.sniffer] = HostSniffer{};
  }
  return sniffers_[watch.sniffer];
}

Finding RequestWatcher::read(StreamWatch& watch, std::span<const std::byte> fresh) {
  // Contents go on behind the stride: nobody has so much in flight.
  if (watch.body.has_contents()) return Finding::kNoRoom;
  const bool has_sniffer = watch.sniffer != kNoSniffer || free_sniffer_count_ != 0;
  if (!has_sniffer || !guards_->has_room(watch.guards, fresh.size())) return Finding::kNoRoom;
  Finding finding = Finding::kNothing;
  while (!fresh.empty() && finding == Finding::kNothing) {
    size_t used = 0;
    finding = watch.body.is_inside() ? read_body(watch, fresh, used) : read_head(watch, fresh, used);
    guards_->append(watch.guards, watch.next_seq, fresh.first(used));
    const uint32_t contents = watch.body.pass_over();
    watch.next_seq += static_cast<uint32_t>(used) + contents;
    fresh = fresh.subspan(smaller(used + contents, fresh.size()));
  }
  // Blanks between requests are nothing to remember.
  if (watch.sniffer != kNoSniffer && sniffers_[watch.sniffer].is_at_start()) stop_reading(watch);
  return finding;
}

/// Up to the head's end; `used` says how many bytes that took.
Finding RequestWatcher::read_head(StreamWatch& watch, std::span<const std::byte> bytes, size_t& used) {
  HostSniffer& sniffer = sniffer_of(watch);
  for (used = 0; used < bytes.size();) {
    const SniffVerdict verdict = sniffer.feed(net::load_u8(&bytes[used++]), rules_);
    if (verdict != SniffVerdict::kMore) return on_head(watch, verdict);
  }
  return Finding::kNothing;
}

Finding RequestWatcher::on_head(StreamWatch& watch, SniffVerdict verdict) {
  const MessageFraming framing = sniffers_[watch.sniffer].framing();
  stop_reading(watch);
  switch (verdict) {
    case SniffVerdict::kRequest:
      watch.is_http = true;
      watch.may_be_other = framing.may_switch();
      watch.body.begin(framing);
      return Finding::kNothing;
    case SniffVerdict::kPass:
      return watch.may_be_other ? Finding::kOpaque : Finding::kSuspicious;
    case SniffVerdict::kBlock:
      return Finding::kBlocked;
    default:
      return Finding::kSuspicious;
  }
}

/// Up to the next contents, or the body's end.
Finding RequestWatcher::read_body(StreamWatch& watch, std::span<const std::byte> bytes, size_t& used) {
  for (used = 0; used < bytes.size() && !watch.body.has_contents();) {
    const auto verdict = watch.body.feed(static_cast<char>(net::load_u8(&bytes[used++])));
    if (verdict == BodyFollower::Verdict::kMalformed) return Finding::kSuspicious;
    if (verdict == BodyFollower::Verdict::kEnd) break;
  }
  return Finding::kNothing;
}

bool RequestWatcher::is_news(const StreamWatch& watch, uint32_t ack) const {
  if (!watch.guards.empty() && guards_->would_release(watch.guards, ack)) return true;
  return watch.body.has_contents() && net::seq_before(watch.next_seq, ack + BodyFollower::kStrideBytes / 2);
}

void RequestWatcher::on_ack(StreamWatch& watch, uint32_t ack) {
  guards_->release(watch.guards, ack);
  // Of contents longer than a stride the next one, when the server has had most of the last.
  if (net::seq_before(watch.next_seq, ack + BodyFollower::kStrideBytes / 2))
    watch.next_seq += watch.body.pass_over();
}

void RequestWatcher::stop_reading(StreamWatch& watch) {
  if (watch.sniffer != kNoSniffer) free_sniffers_[free_sniffer_count_++] = watch.sniffer;
  watch.sniffer = kNoSniffer;
}

void RequestWatcher::forget(StreamWatch& watch) {
  stop_reading(watch);
  guards_->clear(watch.guards);
}

}  // namespace synfluid::guest
