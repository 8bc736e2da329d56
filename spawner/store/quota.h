// How much of the store each guest may use. The control domain has no quota but the protocol's own limits.
//
// Threads: values. Units: as each says. First values are C xenstored's.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace synfluid::spawner::store {

enum class Quota : uint8_t {
  kNodes,             ///< nodes a domain owns
  kWatches,           ///< watches it has set
  kTransactions,      ///< transactions it has open
  kOutstanding,       ///< messages to it that it has not taken
  kTransactionNodes,  ///< nodes one transaction touches
  kMemory,            ///< bytes of its nodes, watches, transactions and messages
  kNodeSize,          ///< bytes of a node's value and its children's names
  kNodePermissions,   ///< entries in a node's permissions
  kPathLength,        ///< bytes of a path, not counting "/local/domain/N/"
};
inline constexpr uint32_t kQuotas = 9;

struct QuotaInfo {
  Quota quota;
  std::string_view name;  ///< as CONTROL quota spells it
  std::string_view meaning;
};

class Quotas {
 public:
  uint64_t operator[](Quota quota) const { return values_[static_cast<uint32_t>(quota)]; }
  void set(Quota quota, uint64_t value) { values_[static_cast<uint32_t>(quota)] = value; }

 private:
  uint64_t values_[kQuotas] = {1000, 128, 10, 20, 1024, 2u << 20, 2048, 5, 2048};
};

/// All of them, in the order of Quota.
const QuotaInfo& info_of(Quota quota);
std::optional<Quota> quota_named(std::string_view name);

}  // namespace synfluid::spawner::store
