#include "flowtable/flow_table.h"

#include <bit>
#include <cassert>

#include <fmt/format.h>

#include "flowtable/search.h"
#include "flowtable/tag_match.h"

namespace synfluid::flowtable {

namespace {

/// How often a timer looks at a plain flow in its idle time: so it is reported a quarter of it late at most.
constexpr int kLooksAtPlain = 4;

/// Indices stay below kNoFlow and bucket numbers below the wheel's mark, with room to spare.
constexpr uint32_t kMostSlots = 0x80000000;
constexpr size_t kBucketBytes = sizeof(TagLine) + sizeof(TimerLine) + kRowBytes;

/// In whole lines.
size_t short_tag_bytes(uint32_t buckets) {
  return (buckets * sizeof(ShortTags) + kLine - 1) / kLine * kLine;
}

std::array<uint16_t, kStates> in_ticks(const Config& config) {
  std::array<uint16_t, kStates> ticks;
  for (size_t s = 0; s < kStates; ++s)
    ticks[s] = static_cast<uint16_t>((config.idle_ns[s] + config.tick_ns - 1) / config.tick_ns);
  return ticks;
}

Status check(const Config& config) {
  if (config.capacity == 0 || config.capacity > kMostSlots)
    return Error(ErrorCode::kInvalidArgument,
                 fmt::format("a flow table of {} flows: must be from 1 to {}", config.capacity, kMostSlots));
  if (config.tick_ns <= 0)
    return Error(ErrorCode::kInvalidArgument,
                 fmt::format("a tick of {} ns: must be positive", config.tick_ns));
  for (size_t s = 0; s < kStates; ++s) {
    if (config.idle_ns[s] > 0 && (config.idle_ns[s] - 1) / config.tick_ns < kMaxIdleTicks) continue;
    return Error(
        ErrorCode::kInvalidArgument,
        fmt::format("an idle time of {} ns for {} flows: must be from 1 to {} ticks of {} ns",
                    config.idle_ns[s], to_string(static_cast<FlowState>(s)), kMaxIdleTicks, config.tick_ns));
  }
  return {};
}

}  // namespace

std::string_view to_string(FlowState state) {
  switch (state) {
    case FlowState::kPending:
      return "pending";
    case FlowState::kActive:
      return "active";
    case FlowState::kBypass:
      return "bypass";
    case FlowState::kRefused:
      return "refused";
    case FlowState::kClosing:
      return "closing";
    case FlowState::kHandoff:
      return "handoff";
  }
  return "unknown";
}

Result<std::unique_ptr<FlowTable>> FlowTable::create(const Config& config, int64_t now_ns) {
  if (Status checked = check(config); !checked) return checked.error().within("flow table");
  const uint32_t buckets = (config.capacity + kSlots - 1) / kSlots;
  auto memory = Pages::map(short_tag_bytes(buckets) + buckets * kBucketBytes, config.pages);
  if (!memory) return memory.error().within("flow table");
  return std::unique_ptr<FlowTable>(new FlowTable(config, buckets, std::move(*memory), now_ns));
}

// A mapping starts all zero: every slot is free, no bucket is in the wheel.
FlowTable::FlowTable(const Config& config, uint32_t buckets, Pages memory, int64_t now_ns)
    : buckets_(buckets),
      step_mask_(buckets > kSteps ? kSteps - 1 : 0),
      narrow_(narrow_by(config.tag_compare)),
      idle_ticks_(in_ticks(config)),
      hash_(config.secret),
      memory_(std::move(memory)),
      short_tags_(reinterpret_cast<ShortTags*>(memory_.data())),
      tags_(reinterpret_cast<TagLine*>(memory_.data() + short_tag_bytes(buckets))),
      rows_(reinterpret_cast<std::byte*>(tags_) + 2 * size_t{buckets} * kLine),
      wheel_(reinterpret_cast<TimerLine*>(tags_ + buckets), now_ns, config.tick_ns,
             *std::max_element(idle_ticks_.begin(), idle_ticks_.end())) {}

/// From the bucket that `at` has come to on: its home, or one behind.
FlowIndex FlowTable::find_from_home(const KeyWords& words, const Probe& at) const noexcept {
  uint32_t bucket = at.home;
  for (uint32_t steps = 0; steps < kWindow; ++steps) {
    const TagLine& line = tags_[bucket];
    for (uint32_t mask = BaselineMatch::slots(line, at.tag()); mask != 0; mask &= mask - 1) {
      const uint32_t slot = lowest(mask);
      if (holds(Place(rows_, bucket, slot), words)) return bucket * kSlots + slot;
    }
    if (at.passed(line) == 0) return kNoFlow;
    bucket = behind(bucket, at);
    if (bucket == at.home) return kNoFlow;
  }
  return kNoFlow;
}

FlowIndex FlowTable::find(const KeyWords& words) const noexcept {
  return find_from_home(words, probe(words));
}

FlowIndex FlowTable::find(const FlowKey& key) const noexcept {
  return find(KeyWords::of(key));
}

size_t FlowTable::lookup(std::span<const FlowKey> keys, std::span<FlowIndex> out) const noexcept {
  assert(out.size() >= keys.size());
  std::array<Search, kBurst> searches;
  size_t found = 0;
  for (size_t done = 0; done < keys.size(); done += kBurst) {
    const size_t count = std::min(kBurst, keys.size() - done);
    for (size_t i = 0; i < count; ++i) searches[i].at = seek(KeyWords::of(keys[done + i]));
    std::fill_n(out.begin() + static_cast<ptrdiff_t>(done), count, kNoFlow);
    Narrowed narrowed = (this->*narrow_.careful)(std::span(searches).first(count), 0);
    while ((narrowed.known | narrowed.behind) != 0) {
      for (SearchMask left = narrowed.known; left != 0; left &= left - 1) {
        const uint32_t i = lowest(left);
        const Search& s = searches[i];
        const KeyWords words = KeyWords::of(keys[done + i]);
        out[done + i] = holds(s.place, words) ? s.at.home * kSlots + s.slot : find_from_home(words, s.at);
        found += out[done + i] != kNoFlow;
      }
      narrowed.known = 0;
      settle_behind(searches, narrowed, 0);
    }
  }
  return found;
}

/// Asks for the flow in `slot` of the bucket that the search has come to.
SYNFLUID_INLINE void FlowTable::choose(Search& search, uint32_t slot) const noexcept {
  search.slot = slot;
  search.place = Place(rows_, search.at.home, slot);
  prefetch_place(search.place);
}

/// Compares the tags of one search that is not careless; `bit` is the one that stands for it.
template <class Match>
SYNFLUID_INLINE void FlowTable::narrow_one(Search& search, SearchMask bit,
                                           Narrowed& narrowed) const noexcept {
  const TagLine& line = tags_[search.at.home];
  if (const uint32_t slots = Match::slots(line, search.at.tag()); slots != 0) {
    choose(search, lowest(slots));
    narrowed.known |= bit;
  } else if (search.at.passed(line) != 0) {
    search.at.home = behind(search.at.home, search.at);
    prefetch(&tags_[search.at.home]);
    narrowed.behind |= bit;
  }
}

/// Whether a careless search that found `slots` need not know of which of them it is, nor whether of any. If
/// so, and if it is the first in a while, the flow is marked.
SYNFLUID_INLINE bool FlowTable::passes_as_plain(ShortTags& block, uint32_t slots) noexcept {
  if ((slots & block.unseen()) == 0) return true;
  if ((slots & ~block.plain()) != 0 || !std::has_single_bit(slots)) return false;
  block.see(slots);
  return true;
}

/// Compares the short tags of one that is careless.
template <class Match>
SYNFLUID_INLINE void FlowTable::narrow_careless(Search& search, SearchMask bit,
                                                Narrowed& narrowed) const noexcept {
  ShortTags& block = short_tags_[search.at.home];
  const uint32_t slots = Match::slots(block, search.at.short_tag()) & block.taken();
  if (!passes_as_plain(block, slots)) {
    const uint32_t others = slots & ~block.plain();
    choose(search, lowest(others != 0 ? others : slots));
    narrowed.known |= bit;
  } else if ((block.marks & search.at.passed_mark()) == 0) {
    narrowed.plain |= bit;
  } else {
    search.at.home = behind(search.at.home, search.at);
    prefetch(&short_tags_[search.at.home]);
    narrowed.behind |= bit;
  }
}

/// Of careless searches nearly all are over at home, and tell nothing new there: no flow with the tag, or
/// plain ones that were seen. Which are not is asked of all without a branch, that would be guessed wrong.
template <class Match>
SYNFLUID_INLINE SearchMask FlowTable::not_over(std::span<const Search> searches) const noexcept {
  SearchMask mask = 0;
  for (size_t i = searches.size(); i-- > 0;) {
    const Probe& at = searches[i].at;
    const ShortTags& block = short_tags_[at.home];
    mask = mask * 2 + (((Match::slots(block, at.short_tag()) | at.passed_mark()) & block.marks) != 0);
  }
  return mask;
}

template <class Match, FlowTable::Care kCare>
SYNFLUID_INLINE Narrowed FlowTable::narrow_by(std::span<Search> searches,
                                              SearchMask careless) const noexcept {
  Narrowed narrowed;
  if (searches.empty()) return narrowed;
  if constexpr (kCare == Care::kFull) {
    for (SearchMask bit = 1; Search & s : searches) {
      narrow_one<Match>(s, bit, narrowed);
      bit <<= 1;
    }
  } else {
    const SearchMask all = ~SearchMask{0} >> (kBurst - searches.size());
    // They may have been sought carelessly: the long tags are not on their way yet.
    for (SearchMask left = all & ~careless; left != 0; left &= left - 1)
      prefetch(&tags_[searches[lowest(left)].at.home]);
    const SearchMask asking = not_over<Match>(searches);
    narrowed.plain = careless & all & ~asking;
    for (SearchMask left = careless & asking; left != 0; left &= left - 1)
      narrow_careless<Match>(searches[lowest(left)], left & -left, narrowed);
    for (SearchMask left = all & ~careless; left != 0; left &= left - 1)
      narrow_one<Match>(searches[lowest(left)], left & -left, narrowed);
  }
  return narrowed;
}

void FlowTable::settle_behind(std::span<Search> searches, Narrowed& narrowed,
                              SearchMask careless) const noexcept {
  for (SearchMask left = narrowed.behind; left != 0; left &= left - 1) {
    const SearchMask bit = left & -left;
    Search& search = searches[lowest(left)];
    if ((careless & bit) == 0)
      settle_one(search, bit, narrowed);
    else
      settle_careless(search, bit, narrowed);
  }
  narrowed.behind = 0;
}

/// Bucket by bucket, up to one with the tag, or to the last.
void FlowTable::settle_one(Search& search, SearchMask bit, Narrowed& narrowed) const noexcept {
  for (uint32_t steps = 1; steps < kWindow; ++steps) {
    Narrowed here;
    narrow_one<BaselineMatch>(search, bit, here);
    narrowed.known |= here.known;
    if (here.behind == 0) return;
  }
}

/// Up to one where it has to be known of which flow it is.
void FlowTable::settle_careless(Search& search, SearchMask bit, Narrowed& narrowed) const noexcept {
  Narrowed here{.behind = bit};
  for (uint32_t steps = 1; here.behind != 0 && steps < kWindow; ++steps) {
    here = {};
    narrow_careless<BaselineMatch>(search, bit, here);
  }
  narrowed.known |= here.known;
  narrowed.plain |= here.plain | here.behind;
}

template <FlowTable::Care kCare>
Narrowed FlowTable::narrow_portable(std::span<Search> searches, SearchMask careless) const noexcept {
  return narrow_by<PortableMatch, kCare>(searches, careless);
}

#if defined(__SSE2__)
template <FlowTable::Care kCare>
Narrowed FlowTable::narrow_sse2(std::span<Search> searches, SearchMask careless) const noexcept {
  return narrow_by<Sse2Match, kCare>(searches, careless);
}

template <FlowTable::Care kCare>
SYNFLUID_AVX512 Narrowed FlowTable::narrow_avx512(std::span<Search> searches,
                                                  SearchMask careless) const noexcept {
  return narrow_by<Avx512Match, kCare>(searches, careless);
}

FlowTable::Narrow FlowTable::narrow_by(TagCompare compare) noexcept {
  if ((compare == TagCompare::kBest || compare == TagCompare::kAvx512) && cpu_has_avx512())
    return {&FlowTable::narrow_avx512<Care::kAsAsked>, &FlowTable::narrow_avx512<Care::kFull>};
  if (compare == TagCompare::kBest || compare == TagCompare::kSse2)
    return {&FlowTable::narrow_sse2<Care::kAsAsked>, &FlowTable::narrow_sse2<Care::kFull>};
  return {&FlowTable::narrow_portable<Care::kAsAsked>, &FlowTable::narrow_portable<Care::kFull>};
}

#else
FlowTable::Narrow FlowTable::narrow_by(TagCompare) noexcept {
  return {&FlowTable::narrow_portable<Care::kAsAsked>, &FlowTable::narrow_portable<Care::kFull>};
}
#endif

/// In the first bucket with room, from home on. A bucket that as many flows of a class have passed as it can
/// count lets no more of them past, so that the counts are always exact.
FlowIndex FlowTable::free_slot(const Probe& at) const noexcept {
  uint32_t bucket = at.home;
  for (uint32_t steps = 0; steps < kWindow; ++steps) {
    const uint32_t free = ~short_tags_[bucket].taken() & kAllSlots;
    if (free != 0) return bucket * kSlots + lowest(free);
    if (at.passed(tags_[bucket]) == kMostPassed) return kNoFlow;
    bucket = behind(bucket, at);
    if (bucket == at.home) return kNoFlow;
  }
  return kNoFlow;
}

/// Tells every bucket from home up to `end_bucket` that a flow went past, or (step -1) that it is gone.
void FlowTable::count_pass(const Probe& at, uint32_t end_bucket, int step) noexcept {
  const uint64_t change = step < 0 ? -at.one_passed() : at.one_passed();
  for (uint32_t bucket = at.home; bucket != end_bucket; bucket = behind(bucket, at)) {
    tags_[bucket].passed += change;
    uint64_t& marks = short_tags_[bucket].marks;
    marks = at.passed(tags_[bucket]) != 0 ? marks | at.passed_mark() : marks & ~at.passed_mark();
  }
}

/// Takes the slot, so that the next key finds another one, and brings in what fill() writes.
SYNFLUID_INLINE FlowIndex FlowTable::claim(const Probe& at, bool plain) noexcept {
  const FlowIndex flow = free_slot(at);
  if (flow == kNoFlow) return kNoFlow;
  const uint32_t bucket = flow / kSlots;
  tags_[bucket].tags[flow % kSlots] = at.tag();
  short_tags_[bucket].take(flow % kSlots, at.short_tag(), plain);
  prefetch_place(place(flow));
  prefetch(&wheel_.line(bucket));
  if (bucket != at.home) {
    count_pass(at, bucket, 1);
    counters_.displaced.add(1);
  }
  return flow;
}

SYNFLUID_INLINE void FlowTable::fill(FlowIndex flow, const KeyWords& words, const FlowValue& value) noexcept {
  const Place at_slot = place(flow);
  at_slot.low() = {words.low_head, words.low_tail};
  at_slot.high() = {words.high_head, words.high_tail};
  at_slot.rest() = {words.ports, value};
  wheel_.arm(flow / kSlots, flow % kSlots, next_look(value, value.seen_tick));
}

// Three passes, as in a look-up: hash; claim slots; write what was brought in meanwhile.
size_t FlowTable::insert(std::span<const FlowKey> keys, FlowValue value, int64_t now_ns,
                         std::span<FlowIndex> out) noexcept {
  assert(out.size() >= keys.size());
  value.seen_tick = wheel_.stamp(now_ns);
  size_t inserted = 0;
  const bool plain = (value.flags & flow_flag::kPlain) != 0;
  std::array<Probe, kBurst> probes;
  for (size_t done = 0; done < keys.size(); done += kBurst) {
    const size_t count = std::min(keys.size() - done, kBurst);
    for (size_t i = 0; i < count; ++i) {
      probes[i] = probe(KeyWords::of(keys[done + i]));
      prefetch(&tags_[probes[i].home]);
      prefetch(&short_tags_[probes[i].home]);
    }
    for (size_t i = 0; i < count; ++i) out[done + i] = claim(probes[i], plain);
    for (size_t i = done; i < done + count; ++i) {
      if (out[i] == kNoFlow) continue;
      fill(out[i], KeyWords::of(keys[i]), value);
      ++inserted;
    }
  }
  counters_.inserted.add(inserted);
  counters_.size.add(inserted);
  counters_.full.add(keys.size() - inserted);
  return inserted;
}

FlowIndex FlowTable::insert(const FlowKey& key, FlowValue value, int64_t now_ns) noexcept {
  FlowIndex flow;
  insert(std::span(&key, 1), value, now_ns, std::span(&flow, 1));
  return flow;
}

void FlowTable::erase(FlowIndex flow) noexcept {
  assert(contains(flow));
  const uint32_t bucket = flow / kSlots;
  const Probe at = probe(words(flow));
  tags_[bucket].tags[flow % kSlots] = 0;
  short_tags_[bucket].free(flow % kSlots);
  count_pass(at, bucket, -1);
  counters_.erased.add(1);
  counters_.size.subtract(1);
}

void FlowTable::erase(std::span<const FlowIndex> flows) noexcept {
  for (const FlowIndex flow : flows) prefetch(&short_tags_[flow / kSlots]);
  for (const FlowIndex flow : flows) erase(flow);
}

KeyWords FlowTable::words(FlowIndex flow) const noexcept {
  const Place at_slot = place(flow);
  return {.low_head = at_slot.low().head,
          .low_tail = at_slot.low().tail,
          .high_head = at_slot.high().head,
          .high_tail = at_slot.high().tail,
          .ports = at_slot.rest().ports};
}

FlowKey FlowTable::key(FlowIndex flow) const noexcept {
  return words(flow).to_key();
}

uint16_t FlowTable::due(const FlowValue& value) const noexcept {
  return static_cast<uint16_t>(value.seen_tick + idle_ticks(value));
}

/// When a timer that is set at `tick` has to look at the flow. Of a plain flow it only sees that it was
/// touched, and takes that for now: it looks several times in the idle time, or would be a whole one late.
uint16_t FlowTable::next_look(const FlowValue& value, uint16_t tick) const noexcept {
  const uint16_t last = due(value);
  if ((value.flags & flow_flag::kPlain) == 0) return last;
  const uint16_t soon = static_cast<uint16_t>(tick + std::max(1, idle_ticks(value) / kLooksAtPlain));
  return tick_before(soon, last) ? soon : last;
}

// A later deadline needs nothing: the timer finds it when it looks. An earlier one has to be armed.
void FlowTable::set_state(FlowIndex flow, FlowState state, int64_t now_ns) noexcept {
  FlowValue& v = value(flow);
  v.state = state;
  v.seen_tick = wheel_.stamp(now_ns);
  const uint32_t bucket = flow / kSlots;
  const uint16_t look = next_look(v, v.seen_tick);
  if (tick_before(look, wheel_.line(bucket).armed[flow % kSlots])) wheel_.arm(bucket, flow % kSlots, look);
}

size_t FlowTable::expire(int64_t now_ns, std::span<FlowIndex> out) noexcept {
  size_t count = 0;
  for (size_t visits = 0; visits < out.size() && count < out.size(); ++visits) {
    const uint32_t bucket = wheel_.next_due(now_ns);
    if (bucket == kNoBucket) break;
    count += visit(bucket, now_ns, out.subspan(count));
  }
  return count;
}

/// Looks at a bucket's slots that are armed for now. Those for which `out` has no room stay armed.
size_t FlowTable::visit(uint32_t bucket, int64_t now_ns, std::span<FlowIndex> out) noexcept {
  wheel_.prefetch_next(bucket);
  ShortTags& tags = short_tags_[bucket];
  TimerLine& line = wheel_.line(bucket);
  const uint16_t tick = wheel_.tick();
  size_t count = 0;
  for (uint32_t mask = due_slots(line, tags.taken(), tick); mask != 0 && count < out.size();
       mask &= mask - 1) {
    const uint32_t slot = lowest(mask);
    FlowValue& v = value(bucket * kSlots + slot);
    if (tags.is_seen(slot)) {
      tags.forget_seen(slot);
      v.seen_tick = wheel_.stamp(now_ns);
    }
    if (tick_before(tick, due(v))) {
      counters_.rearmed.add(1);
    } else {
      v.seen_tick = wheel_.stamp(now_ns);
      out[count++] = bucket * kSlots + slot;
    }
    wheel_.arm_visited(bucket, slot, next_look(v, tick));
  }
  counters_.expired.add(count);
  wheel_.rehang(bucket, ticks_to_earliest(line, tags.taken(), tick));
  return count;
}

FlowIndex FlowTable::eviction_candidate(const FlowKey& key, FlowState state) const noexcept {
  constexpr uint32_t kBucketsSearched = 2;
  FlowIndex oldest = kNoFlow;
  bool oldest_is_seen = false;
  const Probe at = probe(KeyWords::of(key));
  uint32_t bucket = at.home;
  for (uint32_t steps = 0; steps < kBucketsSearched; ++steps, bucket = behind(bucket, at)) {
    for (uint32_t slot = 0; slot < kSlots; ++slot) {
      const FlowIndex flow = bucket * kSlots + slot;
      if (!contains(flow) || value(flow).state != state) continue;
      const bool is_seen = short_tags_[bucket].is_seen(slot);
      const bool is_older =
          oldest == kNoFlow ||
          (is_seen == oldest_is_seen ? tick_before(value(flow).seen_tick, value(oldest).seen_tick)
                                     : oldest_is_seen);
      if (!is_older) continue;
      oldest = flow;
      oldest_is_seen = is_seen;
    }
  }
  return oldest;
}

}  // namespace synfluid::flowtable
