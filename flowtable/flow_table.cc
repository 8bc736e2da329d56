#include "flowtable/flow_table.h"

#include <bit>
#include <cassert>

#include <fmt/format.h>

#include "flowtable/tag_match.h"

namespace synfluid::flowtable {

namespace {

/// Indices stay below kNoFlow and bucket numbers below the wheel's mark, with room to spare.
constexpr uint32_t kMostSlots = 0x80000000;
constexpr uint16_t kCompactTag = 0x8000;
constexpr size_t kBucketBytes =
    sizeof(TagLine) + sizeof(TimerLine) + kSlots * (sizeof(Entry) + sizeof(KeyHead));
constexpr KeyHead kNoHead{};

void prefetch(const void* at) {
  __builtin_prefetch(at);
}

uint32_t lowest_slot(uint32_t mask) {
  return static_cast<uint32_t>(std::countr_zero(mask));
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

/// Where a key belongs, and what to look for there.
struct FlowTable::Probe {
  uint32_t home;
  uint32_t step;
  uint16_t tag;
  uint16_t filter_class;
};

Result<std::unique_ptr<FlowTable>> FlowTable::create(const Config& config, int64_t now_ns) {
  if (Status checked = check(config); !checked) return checked.error().within("flow table");
  const uint32_t buckets = (config.capacity + kSlots - 1) / kSlots;
  auto memory = Pages::map(buckets * kBucketBytes, config.pages);
  if (!memory) return memory.error().within("flow table");
  return std::unique_ptr<FlowTable>(new FlowTable(config, buckets, std::move(*memory), now_ns));
}

// A mapping starts all zero: every slot is free, no bucket is in the wheel.
FlowTable::FlowTable(const Config& config, uint32_t buckets, Pages memory, int64_t now_ns)
    : buckets_(buckets),
      step_mask_(buckets > kSteps ? kSteps - 1 : 0),
      tag_compare_(config.tag_compare),
      idle_ticks_(in_ticks(config)),
      hash_(config.secret),
      memory_(std::move(memory)),
      tags_(reinterpret_cast<TagLine*>(memory_.data())),
      entries_(reinterpret_cast<Entry*>(tags_ + 2 * size_t{buckets})),
      heads_(reinterpret_cast<KeyHead*>(entries_ + size_t{buckets} * kSlots)),
      wheel_(reinterpret_cast<TimerLine*>(tags_ + buckets), now_ns, config.tick_ns,
             *std::max_element(idle_ticks_.begin(), idle_ticks_.end())) {}

FlowTable::Probe FlowTable::probe(const KeyWords& words) const noexcept {
  const uint64_t hash = hash_(words);
  const uint32_t home = static_cast<uint32_t>(((hash >> 32) * buckets_) >> 32);
  const uint32_t compact = words.is_compact() ? kCompactTag : 0;
  const uint32_t tag = (hash & (kCompactTag - 1)) | compact;
  return {.home = home,
          .step = static_cast<uint32_t>(hash >> 19 & step_mask_) + 1,
          .tag = static_cast<uint16_t>(tag + (tag == 0)),
          .filter_class = static_cast<uint16_t>(hash >> 15 & 15)};
}

/// For a slot whose tag is that of `words`: so both are compact, or neither.
bool FlowTable::holds(FlowIndex flow, const KeyWords& words) const noexcept {
  const Entry& entry = entries_[flow];
  const KeyHead& head = words.is_compact() ? kNoHead : heads_[flow];
  return ((entry.key_tail[0] ^ words.low_tail) | (entry.key_tail[1] ^ words.high_tail) |
          (entry.key_tail[2] ^ words.ports) | (head.halves[0] ^ words.low_head) |
          (head.halves[1] ^ words.high_head)) == 0;
}

template <class Match>
FlowIndex FlowTable::find_from_home(const KeyWords& words, const Probe& at) const noexcept {
  uint32_t bucket = at.home;
  for (uint32_t steps = 0; steps < kWindow; ++steps) {
    const TagLine& line = tags_[bucket];
    for (uint32_t mask = Match::slots(line, at.tag); mask != 0; mask &= mask - 1) {
      const FlowIndex flow = bucket * kSlots + lowest_slot(mask);
      if (holds(flow, words)) return flow;
    }
    if (line.passed[at.filter_class] == 0) return kNoFlow;
    bucket = behind(bucket, at.step);
    if (bucket == at.home) return kNoFlow;
  }
  return kNoFlow;
}

FlowIndex FlowTable::find(const FlowKey& key) const noexcept {
  const KeyWords words = KeyWords::of(key);
  const Probe at = probe(words);
  return tag_compare_ == TagCompare::kSimd ? find_from_home<SimdMatch>(words, at)
                                           : find_from_home<PortableMatch>(words, at);
}

void FlowTable::lookup(std::span<const FlowKey> keys, std::span<FlowIndex> out) const noexcept {
  assert(out.size() >= keys.size());
  for (size_t done = 0; done < keys.size(); done += kBurst) {
    const size_t count = std::min(kBurst, keys.size() - done);
    if (tag_compare_ == TagCompare::kSimd)
      lookup_burst<SimdMatch>(keys.data() + done, out.data() + done, count);
    else
      lookup_burst<PortableMatch>(keys.data() + done, out.data() + done, count);
  }
}

// Hits, misses and IPv6 come in no order that a branch predictor could learn: so lists are filled without
// branches, and only what is rare (a flow behind its home, a tag that deceived) takes the general way.
template <class Match>
void FlowTable::lookup_burst(const FlowKey* keys, FlowIndex* out, size_t count) const noexcept {
  std::array<Probe, kBurst> probes;
  std::array<FlowIndex, kBurst> candidates;
  std::array<uint8_t, kBurst> owners;
  std::array<uint8_t, 2 * kBurst> rest;
  size_t candidate_count = 0;
  size_t rest_count = 0;

  for (size_t i = 0; i < count; ++i) {
    probes[i] = probe(KeyWords::of(keys[i]));
    prefetch(&tags_[probes[i].home]);
  }
  for (size_t i = 0; i < count; ++i) {
    const TagLine& line = tags_[probes[i].home];
    const uint32_t mask = Match::slots(line, probes[i].tag);
    out[i] = kNoFlow;
    candidates[candidate_count] = probes[i].home * kSlots + lowest_slot(mask);
    owners[candidate_count] = static_cast<uint8_t>(i);
    candidate_count += mask != 0;
    rest[rest_count] = static_cast<uint8_t>(i);
    rest_count += (mask == 0) & (line.passed[probes[i].filter_class] != 0);
  }
  for (size_t c = 0; c < candidate_count; ++c) {
    const bool compact = (probes[owners[c]].tag & kCompactTag) != 0;
    const void* entry = &entries_[candidates[c]];
    prefetch(entry);
    prefetch(compact ? entry : &heads_[candidates[c]]);
  }
  for (size_t c = 0; c < candidate_count; ++c) {
    const uint8_t i = owners[c];
    const bool found = holds(candidates[c], KeyWords::of(keys[i]));
    out[i] = found ? candidates[c] : kNoFlow;
    rest[rest_count] = i;
    rest_count += !found;
  }
  for (size_t r = 0; r < rest_count; ++r)
    out[rest[r]] = find_from_home<Match>(KeyWords::of(keys[rest[r]]), probes[rest[r]]);
}

/// In the first bucket with room, from home on. A bucket that as many flows of a class have passed as it can
/// count lets no more of them past, so that the counts are always exact.
FlowIndex FlowTable::free_slot(const Probe& at) const noexcept {
  uint32_t bucket = at.home;
  for (uint32_t steps = 0; steps < kWindow; ++steps) {
    const uint32_t free = SimdMatch::slots(tags_[bucket], 0);
    if (free != 0) return bucket * kSlots + lowest_slot(free);
    if (tags_[bucket].passed[at.filter_class] == kMostPassed) return kNoFlow;
    bucket = behind(bucket, at.step);
    if (bucket == at.home) return kNoFlow;
  }
  return kNoFlow;
}

/// Tells every bucket from home up to `end_bucket` that a flow went past, or (step -1) that it is gone.
void FlowTable::count_pass(const Probe& at, uint32_t end_bucket, int step) noexcept {
  for (uint32_t bucket = at.home; bucket != end_bucket; bucket = behind(bucket, at.step)) {
    uint8_t& passed = tags_[bucket].passed[at.filter_class];
    passed = static_cast<uint8_t>(passed + step);
  }
}

void FlowTable::store(FlowIndex flow, const KeyWords& words, const Probe& at, FlowValue value) noexcept {
  Entry& entry = entries_[flow];
  entry.key_tail = {words.low_tail, words.high_tail, words.ports};
  entry.value = value;
  if (!words.is_compact()) heads_[flow].halves = {words.low_head, words.high_head};
  tags_[flow / kSlots].tags[flow % kSlots] = at.tag;
}

FlowIndex FlowTable::insert(const FlowKey& key, FlowValue value, int64_t now_ns) noexcept {
  const KeyWords words = KeyWords::of(key);
  const Probe at = probe(words);
  const FlowIndex flow = free_slot(at);
  if (flow == kNoFlow) {
    counters_.full.add(1);
    return kNoFlow;
  }
  const uint32_t bucket = flow / kSlots;
  value.seen_tick = wheel_.stamp(now_ns);
  store(flow, words, at, value);
  wheel_.arm(bucket, flow % kSlots, due(value));
  counters_.inserted.add(1);
  counters_.size.add(1);
  if (bucket != at.home) {
    count_pass(at, bucket, 1);
    counters_.displaced.add(1);
  }
  return flow;
}

void FlowTable::erase(FlowIndex flow) noexcept {
  assert(contains(flow));
  const uint32_t bucket = flow / kSlots;
  const Probe at = probe(words(flow));
  tags_[bucket].tags[flow % kSlots] = 0;
  count_pass(at, bucket, -1);
  counters_.erased.add(1);
  counters_.size.subtract(1);
}

KeyWords FlowTable::words(FlowIndex flow) const noexcept {
  const bool compact = (tags_[flow / kSlots].tags[flow % kSlots] & kCompactTag) != 0;
  const KeyHead& head = compact ? kNoHead : heads_[flow];
  const auto& tail = entries_[flow].key_tail;
  return {.low_head = head.halves[0],
          .low_tail = tail[0],
          .high_head = head.halves[1],
          .high_tail = tail[1],
          .ports = tail[2]};
}

FlowKey FlowTable::key(FlowIndex flow) const noexcept {
  return words(flow).to_key();
}

uint16_t FlowTable::due(const FlowValue& value) const noexcept {
  return static_cast<uint16_t>(value.seen_tick + idle_ticks_[static_cast<size_t>(value.state)]);
}

// A later deadline needs nothing: the timer finds it when it looks. An earlier one has to be armed.
void FlowTable::set_state(FlowIndex flow, FlowState state, int64_t now_ns) noexcept {
  FlowValue& v = entries_[flow].value;
  v.state = state;
  v.seen_tick = wheel_.stamp(now_ns);
  const uint32_t bucket = flow / kSlots;
  if (tick_before(due(v), wheel_.line(bucket).armed[flow % kSlots]))
    wheel_.arm(bucket, flow % kSlots, due(v));
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
  const uint32_t live = ~SimdMatch::slots(tags_[bucket], 0) & kAllSlots;
  const uint16_t tick = wheel_.tick();
  TimerLine& line = wheel_.line(bucket);
  size_t count = 0;
  for (uint32_t mask = live; mask != 0 && count < out.size(); mask &= mask - 1) {
    const uint32_t slot = lowest_slot(mask);
    if (tick_before(tick, line.armed[slot])) continue;
    FlowValue& v = entries_[bucket * kSlots + slot].value;
    if (tick_before(tick, due(v))) {
      counters_.rearmed.add(1);
    } else {
      v.seen_tick = wheel_.stamp(now_ns);
      out[count++] = bucket * kSlots + slot;
    }
    wheel_.arm_visited(bucket, slot, due(v));
  }
  counters_.expired.add(count);
  wheel_.rehang(bucket, live);
  return count;
}

FlowIndex FlowTable::eviction_candidate(const FlowKey& key, FlowState state) const noexcept {
  constexpr uint32_t kBucketsSearched = 2;
  FlowIndex oldest = kNoFlow;
  const Probe at = probe(KeyWords::of(key));
  uint32_t bucket = at.home;
  for (uint32_t steps = 0; steps < kBucketsSearched; ++steps, bucket = behind(bucket, at.step)) {
    for (uint32_t slot = 0; slot < kSlots; ++slot) {
      const FlowIndex flow = bucket * kSlots + slot;
      if (!contains(flow) || value(flow).state != state) continue;
      if (oldest == kNoFlow || tick_before(value(flow).seen_tick, value(oldest).seen_tick)) oldest = flow;
    }
  }
  return oldest;
}

}  // namespace synfluid::flowtable
