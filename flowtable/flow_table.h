// clang-format off
// One worker's flows: a hash table of fixed memory whose entries never move, with timers.
//
//   hash(key, secret) = 64 bits ──▶ home bucket (upper 32) │ filter class (4) │ step (6) │ tag (15)
//
//           half a line per bucket            a line per bucket           a line per bucket
//   short_  ┌────────────┬─────────────┐ tags_ ┌──────────┬────────────┐ timers_ ┌─────────────┬───────────┐
//   tags_   │ tag's      │ unseen × 24 │       │ tag × 24 │ passed,    │         │ armed tick  │ next prev │◀▶
//   home ─▶ │ lower half │ passed × 16 │       │          │ count × 16 │         │ × 24        │ at        │
//           │ × 24       │ plain × 24  │       │          │            │         │             │           │ timing
//           ├────────────┼─────────────┤       ├──────────┼────────────┤         ├─────────────┼───────────┤ wheel
//     …     │ …          │             │       │ …        │            │         │ …           │           │ of
//   home    ├────────────┼─────────────┤       ├──────────┼────────────┤         ├─────────────┼───────────┤ buckets
//   + step  │ …          │             │       │ …        │            │         │ …           │           │
//           └──────┬─────┴─────────────┘       └────┬─────┴────────────┘         └─────────────┴───────────┘
//                  │ index = bucket · 24 + slot, until the flow is erased
//   rows_          ▼ 18 lines for 24 slots: each line holds one flow, and a third of another
//           ┌─────────────┬──────────────┬────────────────────┬──────────────────┐
//   slot 0  │ low address │ high address │ ports,VLAN │ value │ slot 18: low     │
//   slot 1  │ low address │ high address │ ports,VLAN │ value │ slot 18: high    │
//   slot 2  │ low address │ high address │ ports,VLAN │ value │ slot 18: ports … │
//   slot 3  │ …           │              │                    │ slot 19: low     │
//           └─────────────┴──────────────┴────────────────────┴──────────────────┘
// clang-format on
//
// A flow lies in its home bucket or, if that had no room, in the first with room of home + step, home + 2 ·
// step and so on (kWindow buckets at most; each flow has a step of its own, so that full buckets do not spill
// into the same neighbours). passed[c] of a bucket counts the flows of filter class c that went past it; a
// look-up ends at the first bucket that none of its class has passed: nearly always at home. So a miss (every
// SYN) touches one line, and a hit two; four where the flow is in one of the last six slots, which are given
// out last.
//
// Plain flows are those whose packets the owner treats all alike, and as it would with no flow there at all.
// A careless look-up only wants to know whether its packet is such a one. It ends at the short tags: if all
// flows with the tag are plain, in the buckets up to the first that none of the class has passed, then
// whichever flow it is, it is no other than a plain one. So it touches half a line, with all that it needs:
// a bit by class says that passed[c] is not 0, and one by slot that the flow was seen. One look-up of
// thirteen finds another flow's tag like its own. If that one is not plain, or if it has to be told which of
// them is seen, keys are compared after all: where a flow is gone the packets of its twin do not keep it.
//
// Timers are lazy: touch() writes the tick into the flow's value, which the look-up has just brought into the
// cache, and of a plain flow its bit. Of each bucket only the earliest deadline hangs in the wheel. When it
// comes, the
// slots that were armed for it are looked at: they are reported, or armed again for their true deadline. So
// time costs per expiry (and once per idle time for a flow that lives on), never per entry, and 64 bytes
// serve 24 flows. Plain flows that were seen count as touched when a timer looks, four times in their idle
// time.
//
// Memory: (32 + 64 + 64 + 18 · 64) / 24 = 54.7 bytes a slot, 60.7 a flow at 90% load, plus the wheel (66 KiB
// at most). It is taken at create() and never grows. There is no rehash.
//
// Threads: one owner (the worker) for everything; stats() and size() may be read by any thread at any time.
// Ownership: the table owns its memory; references from value() are valid until the flow is erased.
// Units: nanoseconds of the owner's monotonic clock, ticks of Config::tick_ns inside.
// Errors: create() returns one; insert() returns kNoFlow when there is no room in the key's window, and
// counts it.
// Sources: double hashing (Knuth, TAOCP 3, 6.4) over buckets; tags and overflow filters as in Le Scouarnec,
// "Cuckoo++ Hash Tables" (2018), without its moves; Varghese and Lauck's timing wheels (1987).
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "base/address.h"
#include "base/result.h"
#include "flowtable/flow_hash.h"
#include "flowtable/layout.h"
#include "flowtable/pages.h"
#include "flowtable/table_stats.h"
#include "flowtable/timer_wheel.h"

namespace synfluid::flowtable {

std::string_view to_string(FlowState state);

/// Names a flow from insert() to erase(); below capacity(), so it can index arrays of the owner's.
using FlowIndex = uint32_t;
inline constexpr FlowIndex kNoFlow = 0xffffffff;

/// Keys that one pass works on: so many lines are asked for before the first is read (bench/flowtable).
inline constexpr size_t kBurst = 64;

/// A bit for each search of a burst, the first the lowest.
using SearchMask = uint64_t;

/// How tags are compared. All give the same answers. kBest is what the CPU can do; one that it cannot is
/// taken for kPortable.
enum class TagCompare : uint8_t { kBest, kAvx512, kSse2, kPortable };

struct Config {
  /// Slots wanted; rounded up to whole buckets. 90% of them can be filled (README.md).
  uint32_t capacity = 0;
  /// From random_secret().
  Secret secret{};
  /// By FlowState. At least one tick, at most kMaxIdleTicks; rounded up to whole ticks.
  std::array<int64_t, kStates> idle_ns{};
  int64_t tick_ns = 0;
  PageSize pages = PageSize::kHuge;
  TagCompare tag_compare = TagCompare::kBest;
};

/// Where a key belongs, and what to look for there: the home bucket, and of the lower half of the hash the
/// filter class (bits 28-31), step (16-21) and tag (0-14). Taken apart where it is needed, not before.
struct Probe {
  uint32_t home;
  uint32_t bits;

  /// In one word, so that it is put away by one store.
  static Probe of(uint64_t hash, uint64_t home) { return std::bit_cast<Probe>(hash << 32 | home); }
  uint16_t tag() const { return static_cast<uint16_t>(bits | kTaken); }
  uint8_t short_tag() const { return static_cast<uint8_t>(bits); }
  /// Flows of the key's filter class that went past a bucket.
  uint32_t passed(const TagLine& line) const {
    return static_cast<uint32_t>(line.passed >> (filter_class() * 4)) & kMostPassed;
  }
  /// One of them, as it stands in TagLine::passed.
  uint64_t one_passed() const { return uint64_t{1} << (filter_class() * 4); }
  /// That there are any, as it stands in ShortTags::marks.
  uint64_t passed_mark() const { return uint64_t{1} << ShortTags::kPassedAt << filter_class(); }

 private:
  uint32_t filter_class() const { return bits >> 28; }
};

/// A look-up under way. Plain data: seek() gives `at`, narrow() the rest.
struct Search {
  Probe at;       ///< `home` is the bucket that it has come to
  uint32_t slot;  ///< the first there whose tag is the key's
  Place place;    ///< of that slot
};

/// What is known of searches once tags are compared. The others have missed.
struct Narrowed {
  SearchMask known = 0;   ///< finish() is to be asked
  SearchMask plain = 0;   ///< of a plain flow, which counts as touched, or of none
  SearchMask behind = 0;  ///< settle() is to be asked: not at home
};

class FlowTable {
 public:
  static Result<std::unique_ptr<FlowTable>> create(const Config& config, int64_t now_ns);

  FlowTable(const FlowTable&) = delete;
  FlowTable& operator=(const FlowTable&) = delete;

  /// out[i] = the index of keys[i], or kNoFlow; how many were found. `out` is at least as long as `keys`;
  /// best in bursts of kBurst.
  size_t lookup(std::span<const FlowKey> keys, std::span<FlowIndex> out) const noexcept;
  FlowIndex find(const FlowKey& key) const noexcept;

  /// A look-up in steps, for an owner that has other work to do while memory answers: seek() hashes the key
  /// and asks for its tags, narrow() compares tags and asks for the flow's line, settle() does so for those
  /// few that are not at home, finish() compares keys. The table must not change meanwhile, but that plain
  /// flows may come, which may be missed. seek() and finish() are inline, in flowtable/search.h.
  Probe seek(const KeyWords& words) const noexcept;
  /// The same where nearly all searches will be careless. Any may be either.
  Probe seek_carelessly(const KeyWords& words) const noexcept;
  Probe seek_carelessly(const plain_ipv4::Flow& flow) const noexcept;
  /// Of kBurst searches at most. Those of `careless` need not know which plain flow they are of, or whether
  /// of one at all.
  Narrowed narrow(std::span<Search> searches, SearchMask careless = 0) noexcept {
    return (this->*(careless != 0 ? narrow_.careless : narrow_.careful))(searches, careless);
  }
  /// Those behind home become known, plain or missed.
  void settle(std::span<Search> searches, Narrowed& narrowed, SearchMask careless = 0) noexcept {
    if (narrowed.behind != 0) settle_behind(searches, narrowed, careless);
  }
  FlowIndex finish(const Search& search, const KeyWords& words) const noexcept;
  /// All steps at once.
  FlowIndex find(const KeyWords& words) const noexcept;

  /// Adds a flow that is not there already, touched now. kNoFlow: no room near its home; nothing has changed.
  FlowIndex insert(const FlowKey& key, FlowValue value, int64_t now_ns) noexcept;
  /// The same for several flows, no two alike, whose cache misses overlap; how many there was room for.
  size_t insert(std::span<const FlowKey> keys, FlowValue value, int64_t now_ns,
                std::span<FlowIndex> out) noexcept;
  /// Frees the index at once. The next insert() may return it.
  void erase(FlowIndex flow) noexcept;
  /// The same for several, no two alike, whose cache misses overlap.
  void erase(std::span<const FlowIndex> flows) noexcept;

  /// `target` and `flags` are the caller's to change; `state` by set_state(), because a timer hangs on it.
  FlowValue& value(FlowIndex flow) noexcept { return place(flow).rest().value; }
  const FlowValue& value(FlowIndex flow) const noexcept { return place(flow).rest().value; }
  FlowKey key(FlowIndex flow) const noexcept;
  /// False for a slot that holds no flow, so for every erased index.
  bool contains(FlowIndex flow) const noexcept {
    return flow < capacity() && (short_tags_[flow / kSlots].taken() >> flow % kSlots & 1) != 0;
  }

  /// The flow was active: its idle time starts anew.
  void touch(FlowIndex flow, int64_t now_ns) noexcept {
    const uint16_t stamp = wheel_.stamp(now_ns);
    FlowValue& v = value(flow);
    if (v.seen_tick != stamp) v.seen_tick = stamp;
    if ((v.flags & flow_flag::kPlain) != 0) short_tags_[flow / kSlots].see(1u << flow % kSlots);
  }
  /// The flow enters a state, and that state's idle time starts.
  void set_state(FlowIndex flow, FlowState state, int64_t now_ns) noexcept;

  /// Flows that have been idle for their state's time, in `out`; how many. Never early; less than a tick late
  /// if called every tick and if `out` is never filled, but a plain flow up to a quarter of its idle time.
  /// They are not erased: the owner acts, then erases. One that it keeps counts as touched now. Looks at
  /// out.size() buckets at most; what is left comes with the next call.
  size_t expire(int64_t now_ns, std::span<FlowIndex> out) noexcept;

  /// For the owner's policy on a full table: of the flows in `state` that lie where `key` would like to,
  /// the one that was idle longest. kNoFlow if there is none. Looks at two buckets at most.
  FlowIndex eviction_candidate(const FlowKey& key, FlowState state) const noexcept;

  /// Calls fn(index) for up to `count` flows from slot `cursor` on; returns the cursor for the next call, or
  /// capacity() at the end. Looks at kSlots * `count` slots at most. fn may erase the flow it is given.
  template <class Fn>
  FlowIndex for_each(FlowIndex cursor, size_t count, Fn&& fn) {
    const size_t end = std::min<size_t>(capacity(), cursor + count * kSlots);
    for (; cursor < end && count > 0; ++cursor) {
      if (!contains(cursor)) continue;
      fn(cursor);
      --count;
    }
    return cursor;
  }

  size_t size() const noexcept { return counters_.size.load(std::memory_order_relaxed); }
  /// Slots; every index is below.
  uint32_t capacity() const noexcept { return buckets_ * kSlots; }
  size_t memory_bytes() const noexcept { return memory_.size() + wheel_.memory_bytes(); }
  /// The pages the kernel gave: kHuge where asked for and to be had.
  PageSize pages() const noexcept { return memory_.page_size(); }
  TableStats stats() const noexcept { return counters_.read(); }

 private:
  FlowTable(const Config& config, uint32_t buckets, Pages memory, int64_t now_ns);

  enum class Care : uint8_t { kFull, kAsAsked };

  Place place(FlowIndex flow) const noexcept { return Place(rows_, flow / kSlots, flow % kSlots); }
  uint64_t home_of(uint64_t hash) const noexcept;
  Probe seek_carelessly(uint64_t hash) const noexcept;
  Probe probe(const KeyWords& words) const noexcept;
  uint32_t behind(uint32_t bucket, const Probe& at) const noexcept;
  static bool holds(const Place& place, const KeyWords& words) noexcept;
  static void prefetch_place(const Place& place) noexcept;
  KeyWords words(FlowIndex flow) const noexcept;
  FlowIndex find_from_home(const KeyWords& words, const Probe& at) const noexcept;
  static bool passes_as_plain(ShortTags& block, uint32_t slots) noexcept;
  void choose(Search& search, uint32_t slot) const noexcept;
  void settle_behind(std::span<Search> searches, Narrowed& narrowed, SearchMask careless) const noexcept;
  void settle_one(Search& search, SearchMask bit, Narrowed& narrowed) const noexcept;
  void settle_careless(Search& search, SearchMask bit, Narrowed& narrowed) const noexcept;
  template <class Match>
  void narrow_one(Search& search, SearchMask bit, Narrowed& narrowed) const noexcept;
  template <class Match>
  void narrow_careless(Search& search, SearchMask bit, Narrowed& narrowed) const noexcept;
  template <class Match>
  SearchMask not_over(std::span<const Search> searches) const noexcept;
  template <class Match, Care kCare>
  Narrowed narrow_by(std::span<Search> searches, SearchMask careless) const noexcept;
  template <Care kCare>
  Narrowed narrow_portable(std::span<Search> searches, SearchMask careless) const noexcept;
  template <Care kCare>
  Narrowed narrow_sse2(std::span<Search> searches, SearchMask careless) const noexcept;
  template <Care kCare>
  Narrowed narrow_avx512(std::span<Search> searches, SearchMask careless) const noexcept;
  /// What compares the tags of searches among which some are careless, and of those among which none is.
  struct Narrow {
    using Function = Narrowed (FlowTable::*)(std::span<Search> searches, SearchMask careless) const noexcept;
    Function careless;
    Function careful;
  };
  static Narrow narrow_by(TagCompare compare) noexcept;
  FlowIndex free_slot(const Probe& at) const noexcept;
  FlowIndex claim(const Probe& at, bool plain) noexcept;
  void fill(FlowIndex flow, const KeyWords& words, const FlowValue& value) noexcept;
  void count_pass(const Probe& at, uint32_t end_bucket, int step) noexcept;
  uint16_t idle_ticks(const FlowValue& value) const noexcept {
    return idle_ticks_[static_cast<size_t>(value.state)];
  }
  uint16_t due(const FlowValue& value) const noexcept;
  uint16_t next_look(const FlowValue& value, uint16_t tick) const noexcept;
  size_t visit(uint32_t bucket, int64_t now_ns, std::span<FlowIndex> out) noexcept;

  // Constant after construction.
  const uint32_t buckets_;
  const uint32_t step_mask_;  ///< 0 where there are too few buckets for steps of different lengths
  const Narrow narrow_;
  const std::array<uint16_t, kStates> idle_ticks_;
  const FlowHash hash_;
  const Pages memory_;
  ShortTags* const short_tags_;
  TagLine* const tags_;
  std::byte* const rows_;

  // The owner's.
  TimerWheel wheel_;
  TableCounters counters_;
};

}  // namespace synfluid::flowtable
