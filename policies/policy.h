// What the operator wants done with new connections: services, rules and limits, and the classifier that
// decides about one SYN.
//
// A Policy does not change after it is built. Reload builds a new one and swaps the pointer; whoever decided
// by the old one may keep it. It is made by policies/loader.h from YAML, or by code from a PolicySpec.
//
// Threads: every const member may be called from any thread at once. Ownership: a Policy owns all it returns
// by reference. Units: times in ns, memory in bytes, ports and VLAN ids in host order.
// Errors: the loader's; classify() cannot fail and does not allocate.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/address.h"
#include "base/clock.h"
#include "policies/diagnostic.h"

namespace synfluid::policies {

/// What a VM is to its flow.
enum class ServiceMode : uint8_t {
  kTerminate,  ///< the VM is the server
  kInline,     ///< the VM sits in the flow and forwards both ways
};
/// What one VM is made for.
enum class Scope : uint8_t { kFlow, kSubscriber, kService };
/// What becomes of a flow whose VM cannot be had, crashed, or did not answer in time.
enum class OnFailure : uint8_t { kBypass, kDrop, kReset };
/// What becomes of a new flow when a worker's flow table has no room.
enum class OnTableFull : uint8_t { kBypass, kDrop };

std::string_view to_string(ServiceMode mode);
std::string_view to_string(Scope scope);
std::string_view to_string(OnFailure on_failure);
std::string_view to_string(OnTableFull on_table_full);

/// Images that come with Synfluid. Any other image is a path to an ELF file.
inline constexpr std::string_view kImageResponder = "builtin:responder";
inline constexpr std::string_view kImagePassthrough = "builtin:passthrough";
inline constexpr std::string_view kImageFirewall = "builtin:firewall";

struct Service {
  std::string name;
  std::string
      image;  ///< one of the kImage… names, or a path (the loader makes it relative to the policy file)
  /// Where the policy file has `image`, from 1; 0: there is no file.
  int image_line = 0;
  int image_column = 0;
  ServiceMode mode = ServiceMode::kTerminate;
  Scope scope = Scope::kFlow;
  uint64_t memory_bytes = 512 * 1024;
  int64_t idle_timeout_ns = 30 * kNsPerSecond;  ///< without a packet for so long, a flow ends
  /// Ready VMs kept ahead of demand. {0, 0}: every VM is built when it is asked for.
  struct Pool {
    uint32_t min = 0;
    uint32_t max = 0;
  } pool;
  OnFailure on_failure = OnFailure::kBypass;
  int64_t answer_timeout_ns = 3 * kNsPerSecond;  ///< from the SYN handed to the VM to its first answer
  /// Handed to the guest as it is. A YAML list gives one entry per element, each under the list's key:
  /// `block_hosts: [a, b]` is {"block_hosts", "a"}, {"block_hosts", "b"}.
  std::vector<std::pair<std::string, std::string>> config{};
};

/// At most `events` in any `per_ns`.
struct Rate {
  uint64_t events = 0;
  int64_t per_ns = kNsPerSecond;
  friend constexpr bool operator==(const Rate&, const Rate&) = default;
};

struct Limits {
  uint32_t max_vms = 10'000;
  std::optional<Rate> spawn_rate;
  struct PerSubscriber {
    std::optional<Rate> spawn_rate;
    std::optional<uint32_t> max_vms;
    uint8_t ipv6_prefix = 64;  ///< all addresses with these first bits are one subscriber
  } per_subscriber;
  uint32_t held_packets = 16;               ///< per flow, while its VM is on the way
  int64_t hold_time_ns = 3 * kNsPerSecond;  ///< from the SYN's arrival; then `on_failure`
  OnTableFull on_table_full = OnTableFull::kBypass;
};

/// The first packet of a connection, as far as a rule may look.
struct SynInfo {
  Address source;
  Address destination;
  uint16_t source_port = 0;
  uint16_t destination_port = 0;
  VlanTags vlan;
};

/// Verdict::rule where no rule matched.
inline constexpr uint16_t kDefaultRule = 0xffff;
/// Verdict::service where the verdict is no service.
inline constexpr uint16_t kNoService = 0xffff;

struct Verdict {
  enum class Kind : uint8_t { kBypass, kDrop, kReset, kService };
  Kind kind = Kind::kBypass;
  uint16_t service = kNoService;  ///< index into Policy::services(), with kService
  uint16_t rule = kDefaultRule;   ///< index into Policy::rules(), or kDefaultRule
  friend constexpr bool operator==(const Verdict&, const Verdict&) = default;
};

std::string_view to_string(Verdict::Kind kind);

/// Both ends belong to the range.
struct Range {
  uint16_t first = 0;
  uint16_t last = 0xffff;
  constexpr bool contains(uint16_t value) const { return first <= value && value <= last; }
  friend constexpr bool operator==(const Range&, const Range&) = default;
};

/// A rule's conditions; each that is left empty matches everything.
struct Match {
  std::vector<Prefix> subscribers{};   ///< of the SYN's source
  std::vector<Prefix> destinations{};  ///< of the SYN's destination
  std::vector<Range> destination_ports{};
  std::optional<Range> vlan_outer{};  ///< 0 stands for "no tag", as in VlanTags
  std::optional<Range> vlan_inner{};
};

struct Rule {
  std::string name;
  Match match{};
  Verdict verdict{};  ///< its `rule` is set by Policy

  /// By looking at each condition in turn: for explanations and tests, not for the packet path.
  bool matches(const SynInfo& syn) const;
};

/// So many fit the classifier's one-word summaries (64 words of 64 rules).
inline constexpr size_t kMaxRules = 4096;
inline constexpr size_t kMaxServices = 1024;
/// Prefixes and port ranges of all rules together.
inline constexpr size_t kMaxConditions = 1 << 17;

/// What a Policy is made of. Service indices in verdicts must be valid, and the counts within the limits
/// above.
struct PolicySpec {
  std::vector<Service> services;
  std::vector<Rule> rules;
  Limits limits;
  Verdict fallback;  ///< where no rule matches
  std::vector<Diagnostic> warnings;
};

class Classifier;

class Policy {
 public:
  explicit Policy(PolicySpec spec);
  ~Policy();
  Policy(const Policy&) = delete;
  Policy& operator=(const Policy&) = delete;

  std::span<const Service> services() const { return spec_.services; }
  std::span<const Rule> rules() const { return spec_.rules; }
  const Limits& limits() const { return spec_.limits; }
  /// What the loader found odd but not wrong.
  std::span<const Diagnostic> warnings() const { return spec_.warnings; }

  /// The verdict of the first rule, in the file's order, that matches; else the default.
  Verdict classify(const SynInfo& syn) const noexcept;

  /// The key under which a source address is a subscriber: itself for IPv4, its first
  /// `limits().per_subscriber.ipv6_prefix` bits for IPv6.
  Address subscriber_of(const Address& source) const noexcept;

  /// The name of a verdict's rule, or "default".
  std::string_view rule_name(uint16_t rule) const noexcept;

 private:
  PolicySpec spec_;
  std::vector<Verdict> verdicts_;  ///< of the rules, close together
  std::unique_ptr<const Classifier> classifier_;
};

}  // namespace synfluid::policies
