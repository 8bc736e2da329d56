#include "spawner/admission.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include <sys/random.h>

namespace synfluid::spawner {
namespace {

constexpr uint32_t kCellsPerBucket = 8;
constexpr uint32_t kNoCell = 0xffff'ffff;
/// In a cell's state: it is being given to another subscriber. The other bits count its VMs.
constexpr uint32_t kClaimed = 1u << 31;
constexpr uint32_t kUnlimited = kClaimed - 1;
/// A race for a cell is over in nanoseconds unless the winner was interrupted; then the SYN is refused.
constexpr int kAttempts = 64;
constexpr uint64_t kFreeTag = 0;

/// True and charged, or false and untouched.
bool take(std::atomic<int64_t>& tat_ns, int64_t interval_ns, int64_t tolerance_ns, int64_t now_ns) {
  if (interval_ns == 0) return true;
  int64_t tat = tat_ns.load(std::memory_order_relaxed);
  int64_t base = 0;
  do {
    base = std::max(tat, now_ns);
    if (base - now_ns > tolerance_ns) return false;
  } while (!tat_ns.compare_exchange_weak(tat, base + interval_ns, std::memory_order_relaxed));
  return true;
}

void give_back(std::atomic<int64_t>& tat_ns, int64_t interval_ns) {
  if (interval_ns != 0) tat_ns.fetch_sub(interval_ns, std::memory_order_relaxed);
}

std::array<uint64_t, 2> draw_key() {
  std::array<uint64_t, 2> key{};
  // Without entropy the table still works; it can then be aimed at.
  if (::getrandom(key.data(), sizeof key, 0) != sizeof key) key = {0x9e3779b97f4a7c15, 0xc2b2ae3d27d4eb4f};
  return key;
}

/// SipHash-1-3 (Aumasson and Bernstein, 2012) of exactly two words: keyed, so that buckets cannot be aimed
/// at.
class SipHash {
 public:
  explicit SipHash(const std::array<uint64_t, 2>& key)
      : v0_(key[0] ^ 0x736f6d6570736575),
        v1_(key[1] ^ 0x646f72616e646f6d),
        v2_(key[0] ^ 0x6c7967656e657261),
        v3_(key[1] ^ 0x7465646279746573) {}

  uint64_t of(uint64_t first, uint64_t second) && {
    constexpr uint64_t kLength = uint64_t{16} << 56;
    for (const uint64_t word : {first, second, kLength}) {
      v3_ ^= word;
      round();
      v0_ ^= word;
    }
    v2_ ^= 0xff;
    for (int i = 0; i < 3; ++i) round();
    return v0_ ^ v1_ ^ v2_ ^ v3_;
  }

 private:
  void round() {
    v0_ += v1_;
    v2_ += v3_;
    v1_ = std::rotl(v1_, 13) ^ v0_;
    v3_ = std::rotl(v3_, 16) ^ v2_;
    v0_ = std::rotl(v0_, 32);
    v2_ += v1_;
    v0_ += v3_;
    v1_ = std::rotl(v1_, 17) ^ v2_;
    v3_ = std::rotl(v3_, 21) ^ v0_;
    v2_ = std::rotl(v2_, 32);
  }

  uint64_t v0_, v1_, v2_, v3_;
};

}  // namespace

// Invariants of the table. A cell's tag changes only while its state is kClaimed, which it becomes only from
// 0: no VM counted, nobody looking. Who found a tag adds 1 to the state first and then reads the tag again:
// if it is still the same, the cell is theirs until they subtract 1. Two threads that bring in the same
// subscriber at once would both choose the first free cell and one of them lose it; should they choose
// different ones nevertheless (a cell fell free in between), each looks for the other after it has published
// its own tag, and whoever sees the other gives way.
struct Admission::Table {
  struct alignas(64) Bucket {
    std::atomic<uint64_t> tags[kCellsPerBucket];
    std::atomic<int64_t> tats_ns[kCellsPerBucket];
    std::atomic<uint32_t> states[kCellsPerBucket];
  };

  Table(uint32_t cells, const std::array<uint64_t, 2>& key)
      : mask(std::bit_ceil(std::max(cells, 16u)) / kCellsPerBucket - 1),
        hash_key(key),
        buckets(std::make_unique<Bucket[]>(size_t{mask} + 1)) {}

  std::atomic<uint64_t>& tag(uint32_t cell) const {
    return buckets[cell / kCellsPerBucket].tags[cell % kCellsPerBucket];
  }
  std::atomic<int64_t>& tat_ns(uint32_t cell) const {
    return buckets[cell / kCellsPerBucket].tats_ns[cell % kCellsPerBucket];
  }
  std::atomic<uint32_t>& state(uint32_t cell) const {
    return buckets[cell / kCellsPerBucket].states[cell % kCellsPerBucket];
  }

  uint64_t tag_of(const Address& subscriber) const {
    uint64_t words[2];
    std::memcpy(words, subscriber.bytes.data(), sizeof words);
    const uint64_t tag = SipHash(hash_key).of(words[0], words[1]);
    return tag == kFreeTag ? 1 : tag;
  }

  /// The i-th cell, of 16, where a tag may be.
  uint32_t candidate(uint64_t tag, uint32_t i) const {
    const uint64_t bucket = (i < kCellsPerBucket ? tag : tag >> 32) & mask;
    return static_cast<uint32_t>(bucket) * kCellsPerBucket + i % kCellsPerBucket;
  }
  static constexpr uint32_t kCandidates = 2 * kCellsPerBucket;

  uint32_t find(uint64_t wanted, uint32_t except = kNoCell) const {
    for (uint32_t i = 0; i < kCandidates; ++i) {
      const uint32_t cell = candidate(wanted, i);
      if (cell != except && tag(cell).load() == wanted) return cell;
    }
    return kNoCell;
  }

  enum class Pin : uint8_t { kPinned, kAtMax, kLost };

  /// Counts one VM more in a cell that had this tag a moment ago.
  Pin pin(uint32_t cell, uint64_t wanted, uint32_t max_vms) const {
    uint32_t seen = state(cell).load();
    do {
      if ((seen & kClaimed) != 0) return Pin::kLost;
      if (seen >= max_vms) return tag(cell).load() == wanted ? Pin::kAtMax : Pin::kLost;
    } while (!state(cell).compare_exchange_weak(seen, seen + 1));
    if (tag(cell).load() == wanted) return Pin::kPinned;
    unpin(cell);
    return Pin::kLost;
  }

  void unpin(uint32_t cell) const { state(cell).fetch_sub(1); }

  enum class Claim : uint8_t { kClaimed, kNoRoom, kRaced };

  /// Takes over the first cell that knows nothing any more, with one VM counted in it.
  Claim claim(uint64_t wanted, int64_t now_ns, uint32_t& cell) const {
    for (uint32_t i = 0; i < kCandidates; ++i) {
      cell = candidate(wanted, i);
      uint32_t seen = state(cell).load();
      if ((seen & kClaimed) != 0) return Claim::kRaced;
      if (seen != 0 || tat_ns(cell).load() > now_ns) continue;
      if (!state(cell).compare_exchange_strong(seen, kClaimed)) return Claim::kRaced;
      if (tat_ns(cell).load() > now_ns) {
        state(cell).store(0);
        continue;
      }
      tat_ns(cell).store(0);
      tag(cell).store(wanted);
      state(cell).store(1);
      return settle(wanted, cell);
    }
    return Claim::kNoRoom;
  }

  Claim settle(uint64_t wanted, uint32_t cell) const {
    if (find(wanted, cell) == kNoCell) return Claim::kClaimed;
    tag(cell).store(kFreeTag);
    unpin(cell);
    return Claim::kRaced;
  }

  const uint32_t mask;  // of buckets
  const std::array<uint64_t, 2> hash_key;
  const std::unique_ptr<Bucket[]> buckets;
};

std::string_view to_string(AdmissionVerdict verdict) {
  switch (verdict) {
    case AdmissionVerdict::kAdmitted:
      return "admitted";
    case AdmissionVerdict::kFlood:
      return "flood guard";
    case AdmissionVerdict::kSpawnRate:
      return "spawn rate";
    case AdmissionVerdict::kMaxVms:
      return "max VMs";
    case AdmissionVerdict::kSubscriberRate:
      return "subscriber's spawn rate";
    case AdmissionVerdict::kSubscriberMaxVms:
      return "subscriber's max VMs";
    case AdmissionVerdict::kSubscriberTable:
      return "too many subscribers";
  }
  return "unknown";
}

DropReason to_drop_reason(AdmissionVerdict refusal) {
  switch (refusal) {
    case AdmissionVerdict::kFlood:
      return DropReason::kFloodGuard;
    case AdmissionVerdict::kSpawnRate:
    case AdmissionVerdict::kSubscriberRate:
      return DropReason::kAdmissionRate;
    case AdmissionVerdict::kAdmitted:
    case AdmissionVerdict::kMaxVms:
    case AdmissionVerdict::kSubscriberMaxVms:
    case AdmissionVerdict::kSubscriberTable:
      return DropReason::kAdmissionQuota;
  }
  return DropReason::kAdmissionQuota;
}

AdmissionTicket& AdmissionTicket::operator=(AdmissionTicket&& other) noexcept {
  if (this == &other) return *this;
  release();
  admission_ = std::exchange(other.admission_, nullptr);
  cell_ = other.cell_;
  return *this;
}

void AdmissionTicket::release() noexcept {
  if (Admission* admission = std::exchange(admission_, nullptr)) admission->release(cell_);
}

void Admission::RateLimit::set(const std::optional<policies::Rate>& rate) noexcept {
  const bool limited = rate && rate->events > 0;
  const int64_t interval =
      limited ? std::max<int64_t>(rate->per_ns / static_cast<int64_t>(rate->events), 1) : 0;
  interval_ns.store(interval, std::memory_order_relaxed);
  tolerance_ns.store(limited ? rate->per_ns - interval : 0, std::memory_order_relaxed);
}

Admission::Admission(const Config& config)
    : table_(
          std::make_unique<Table>(config.subscriber_cells, config.hash_key ? *config.hash_key : draw_key())) {
  const int64_t flood_interval = kNsPerSecond / std::max(config.flood_forgotten_per_s, 1u);
  flood_.set(policies::Rate{config.flood_unanswered, flood_interval * config.flood_unanswered});
  set_limits(config.limits);
}

Admission::~Admission() = default;

void Admission::set_limits(const policies::Limits& limits) noexcept {
  spawn_rate_.set(limits.spawn_rate);
  subscriber_rate_.set(limits.per_subscriber.spawn_rate);
  subscriber_max_vms_.store(std::min(limits.per_subscriber.max_vms.value_or(kUnlimited), kUnlimited),
                            std::memory_order_relaxed);
  max_vms_.store(limits.max_vms, std::memory_order_relaxed);
}

Admission::Decision Admission::admit(const Address& subscriber, int64_t now_ns) noexcept {
  const auto refused = [](AdmissionVerdict verdict) { return Decision{verdict, {}}; };
  const auto take_from = [&](std::atomic<int64_t>& tat, const RateLimit& limit, int64_t& interval) {
    interval = limit.interval_ns.load(std::memory_order_relaxed);
    return take(tat, interval, limit.tolerance_ns.load(std::memory_order_relaxed), now_ns);
  };
  int64_t flood_interval = 0;
  int64_t spawn_interval = 0;
  if (!take_from(flood_tat_ns_, flood_, flood_interval)) return refused(AdmissionVerdict::kFlood);
  if (!take_from(spawn_tat_ns_, spawn_rate_, spawn_interval)) {
    give_back(flood_tat_ns_, flood_interval);
    return refused(AdmissionVerdict::kSpawnRate);
  }
  uint32_t cell = kNoCell;
  const AdmissionVerdict verdict =
      reserve_vm() ? admit_subscriber(subscriber, now_ns, cell) : AdmissionVerdict::kMaxVms;
  if (verdict == AdmissionVerdict::kAdmitted) return {verdict, AdmissionTicket(this, cell)};
  if (verdict != AdmissionVerdict::kMaxVms) vms_.fetch_sub(1, std::memory_order_relaxed);
  give_back(spawn_tat_ns_, spawn_interval);
  give_back(flood_tat_ns_, flood_interval);
  return refused(verdict);
}

AdmissionVerdict Admission::admit_subscriber(const Address& subscriber, int64_t now_ns,
                                             uint32_t& cell) noexcept {
  const int64_t interval = subscriber_rate_.interval_ns.load(std::memory_order_relaxed);
  const uint32_t max_vms = subscriber_max_vms_.load(std::memory_order_relaxed);
  if (interval == 0 && max_vms == kUnlimited) return AdmissionVerdict::kAdmitted;
  if (max_vms == 0) return AdmissionVerdict::kSubscriberMaxVms;
  const uint64_t tag = table_->tag_of(subscriber);
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    uint32_t found = table_->find(tag);
    if (found == kNoCell) {
      const Table::Claim claim = table_->claim(tag, now_ns, found);
      if (claim == Table::Claim::kNoRoom) return AdmissionVerdict::kSubscriberTable;
      if (claim == Table::Claim::kRaced) continue;
    } else {
      const Table::Pin pin = table_->pin(found, tag, max_vms);
      if (pin == Table::Pin::kAtMax) return AdmissionVerdict::kSubscriberMaxVms;
      if (pin == Table::Pin::kLost) continue;
    }
    const int64_t tolerance = subscriber_rate_.tolerance_ns.load(std::memory_order_relaxed);
    if (!take(table_->tat_ns(found), interval, tolerance, now_ns)) {
      table_->unpin(found);
      return AdmissionVerdict::kSubscriberRate;
    }
    cell = found;
    return AdmissionVerdict::kAdmitted;
  }
  return AdmissionVerdict::kSubscriberTable;
}

bool Admission::reserve_vm() noexcept {
  uint32_t seen = vms_.load(std::memory_order_relaxed);
  do {
    if (seen >= max_vms_.load(std::memory_order_relaxed)) return false;
  } while (!vms_.compare_exchange_weak(seen, seen + 1, std::memory_order_relaxed));
  return true;
}

void Admission::release(uint32_t cell) noexcept {
  vms_.fetch_sub(1, std::memory_order_relaxed);
  if (cell != kNoCell) table_->unpin(cell);
}

bool Admission::is_short(int64_t now_ns) const noexcept {
  const auto runs_short = [](int64_t used, int64_t most) { return 4 * used > 3 * most; };
  const auto rate_does = [&](const std::atomic<int64_t>& tat, const RateLimit& limit) {
    const int64_t tolerance = limit.tolerance_ns.load(std::memory_order_relaxed);
    return tolerance > 0 && runs_short(tat.load(std::memory_order_relaxed) - now_ns, tolerance);
  };
  const int64_t vms = vms_.load(std::memory_order_relaxed);
  const int64_t most = max_vms_.load(std::memory_order_relaxed);
  if (vms >= most) return false;  // there is nothing that proof could be rewarded with
  return runs_short(vms, most) || rate_does(spawn_tat_ns_, spawn_rate_) || rate_does(flood_tat_ns_, flood_);
}

void Admission::connection_followed() noexcept {
  give_back(flood_tat_ns_, flood_.interval_ns.load(std::memory_order_relaxed));
}

}  // namespace synfluid::spawner
