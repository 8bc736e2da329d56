// Whether a SYN may cost a VM: asked before anything is allocated for it.
//
// In this order, the cheapest first, each a refusal of its own:
//     flood guard           too many admitted SYNs that no connection followed
//     spawn rate            of the whole gateway
//     VMs                   of the whole gateway
//     subscriber            its VMs, its spawn rate
//
// Rates are GCRA (ITU-T I.371; a token bucket kept as one time stamp in one atomic): `events` per `per_ns` in
// the long run, and up to `events` at once after a quiet time. What a refused SYN took on its way is given
// back.
//
// Subscribers live in a table of fixed size: two buckets of eight cells for each, found by a hash that is
// keyed with a secret of this run, so that nobody can aim at a bucket. A cell is replaced only when it knows
// nothing any more: no VM is counted in it and its rate has recovered in full. So forgetting a subscriber
// never forgives it anything. Where no cell can be replaced the SYN is refused. A subscriber is known by 64
// bits of its hash; two that share them share limits.
//
// An AdmissionTicket is one VM's place in the counts, from admit() until it is destroyed, whoever holds it by
// then. Tickets must not outlive their Admission.
//
// Threads: everything may be called from any thread; no lock, no allocation and no system call after
// construction. Units: nanoseconds of one monotonic Clock. Errors: none; a verdict.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "base/address.h"
#include "base/clock.h"
#include "base/drop_reason.h"
#include "policies/policy.h"

namespace synfluid::spawner {

enum class AdmissionVerdict : uint8_t {
  kAdmitted,
  kFlood,             ///< too many SYNs had not been followed by a connection
  kSpawnRate,         ///< more VMs a second than `limits.spawn_rate`
  kMaxVms,            ///< `limits.max_vms` are there
  kSubscriberRate,    ///< `limits.per_subscriber.spawn_rate`
  kSubscriberMaxVms,  ///< `limits.per_subscriber.max_vms`
  kSubscriberTable,   ///< more subscribers at once than the table holds
};

std::string_view to_string(AdmissionVerdict verdict);

/// The drop reason of a refusal. Precondition: not kAdmitted.
DropReason to_drop_reason(AdmissionVerdict refusal);

class Admission;

class AdmissionTicket {
 public:
  AdmissionTicket() = default;
  AdmissionTicket(AdmissionTicket&& other) noexcept
      : admission_(std::exchange(other.admission_, nullptr)), cell_(other.cell_) {}
  AdmissionTicket& operator=(AdmissionTicket&& other) noexcept;
  ~AdmissionTicket() { release(); }

  /// Gives the place back. Once; a second call, or one on an empty ticket, does nothing.
  void release() noexcept;
  explicit operator bool() const { return admission_ != nullptr; }

 private:
  friend class Admission;
  AdmissionTicket(Admission* admission, uint32_t cell) : admission_(admission), cell_(cell) {}

  Admission* admission_ = nullptr;
  uint32_t cell_ = 0;
};

class Admission {
 public:
  struct Config {
    policies::Limits limits;
    /// Rounded up to a power of two, at least 16; 24 bytes each. Four for each of the 32,752 domain ids there
    /// are.
    uint32_t subscriber_cells = 1u << 17;
    /// Admitted SYNs without a connection that the flood guard lets stand: more than a page load by every
    /// subscriber of a full gateway, less than the domain ids there are.
    uint32_t flood_unanswered = 16'384;
    /// ... of which so many are forgotten each second.
    uint32_t flood_forgotten_per_s = 4'096;
    /// The secret of the subscriber table; drawn from the system when empty.
    std::optional<std::array<uint64_t, 2>> hash_key = {};
  };

  explicit Admission(const Config& config);
  ~Admission();
  Admission(const Admission&) = delete;
  Admission& operator=(const Admission&) = delete;

  struct Decision {
    AdmissionVerdict verdict = AdmissionVerdict::kAdmitted;
    AdmissionTicket ticket;  ///< holds a place when admitted, else empty
  };

  /// `subscriber` is what Policy::subscriber_of() says of the SYN's source.
  Decision admit(const Address& subscriber, int64_t now_ns) noexcept;

  /// VMs run short: three quarters are used of `max_vms`, or of what the spawn rate or the flood guard allow
  /// at once, and not all VMs. The rest should go to who has shown that its address is its own.
  bool is_short(int64_t now_ns) const noexcept;

  /// The client of an admitted SYN has completed its handshake: the flood guard forgets the SYN.
  void connection_followed() noexcept;

  /// A new policy's limits, from now on; VMs that run are counted on.
  void set_limits(const policies::Limits& limits) noexcept;

  uint32_t vms() const noexcept { return vms_.load(std::memory_order_relaxed); }

 private:
  friend class AdmissionTicket;
  struct Table;

  /// A rate as GCRA wants it; interval 0 is no limit. Replaced as a whole only by set_limits(); a reader that
  /// sees one old and one new half decides one SYN by a mixture.
  struct RateLimit {
    std::atomic<int64_t> interval_ns{0};
    std::atomic<int64_t> tolerance_ns{0};
    void set(const std::optional<policies::Rate>& rate) noexcept;
  };

  AdmissionVerdict admit_subscriber(const Address& subscriber, int64_t now_ns, uint32_t& cell) noexcept;
  bool reserve_vm() noexcept;
  void release(uint32_t cell) noexcept;

  const std::unique_ptr<Table> table_;
  RateLimit flood_;
  RateLimit spawn_rate_;
  RateLimit subscriber_rate_;
  std::atomic<uint32_t> max_vms_{0};
  std::atomic<uint32_t> subscriber_max_vms_{0};
  alignas(64) std::atomic<int64_t> flood_tat_ns_{0};
  alignas(64) std::atomic<int64_t> spawn_tat_ns_{0};
  alignas(64) std::atomic<uint32_t> vms_{0};
};

}  // namespace synfluid::spawner
