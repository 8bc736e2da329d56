#include "gateway/syn_challenge.h"

#include <algorithm>
#include <bit>

#include "flowtable/layout.h"

namespace synfluid::gateway {

namespace {

/// What the hash is of, so that no number tells anything of a tag.
enum Use : uint64_t { kNumber, kTag };

}  // namespace

SynChallenge::SynChallenge(const SipKey& secret) : secret_(secret), cells_(kCells) {
  static_assert(std::has_single_bit(kCells));
}

uint32_t SynChallenge::number(const OrientedKey& flow, int64_t period) const noexcept {
  const auto words = flowtable::KeyWords::of(flow.key);
  const std::array<uint64_t, 8> all{kNumber,         static_cast<uint64_t>(period),
                                    words.low_head,  words.low_tail,
                                    words.high_head, words.high_tail,
                                    words.ports,     static_cast<uint64_t>(flow.from)};
  return static_cast<uint32_t>(siphash(secret_, all));
}

uint32_t SynChallenge::ask(const ParsedPacket& syn, int64_t now_ns) noexcept {
  listen_until_ns_ = now_ns + 2 * kPeriodNs;
  return number(syn.flow, now_ns / kPeriodNs);
}

bool SynChallenge::take_answer(const ParsedPacket& packet, int64_t now_ns) noexcept {
  if (now_ns >= listen_until_ns_ || !packet.has_flag(tcp_flag::kRst)) return false;
  const int64_t period = now_ns / kPeriodNs;
  if (packet.tcp_seq != number(packet.flow, period) && packet.tcp_seq != number(packet.flow, period - 1))
    return false;
  const uint64_t tag = tag_of(packet.flow.source().address);
  const auto [first, second] = places_of(tag);
  const bool take_first = cells_[first].tag == tag ||
                          (cells_[second].tag != tag && cells_[first].until_ns <= cells_[second].until_ns);
  cells_[take_first ? first : second] = {tag, now_ns + kProvenNs};
  return true;
}

bool SynChallenge::is_proven(const Address& address, int64_t now_ns) const noexcept {
  const uint64_t tag = tag_of(address);
  return std::ranges::any_of(places_of(tag), [&](size_t place) {
    return cells_[place].tag == tag && now_ns < cells_[place].until_ns;
  });
}

uint64_t SynChallenge::tag_of(const Address& address) const noexcept {
  const auto words = std::bit_cast<std::array<uint64_t, 2>>(address.bytes);
  return siphash(secret_, std::array{uint64_t{kTag}, words[0], words[1]});
}

std::array<size_t, 2> SynChallenge::places_of(uint64_t tag) const noexcept {
  return {tag % kCells, (tag >> 32) % kCells};
}

}  // namespace synfluid::gateway
