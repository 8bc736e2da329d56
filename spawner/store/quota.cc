#include "spawner/store/quota.h"

#include <algorithm>
#include <array>

namespace synfluid::spawner::store {
namespace {

constexpr std::array<QuotaInfo, kQuotas> kInfos{{
    {Quota::kNodes, "nodes", "nodes a domain may own"},
    {Quota::kWatches, "watches", "watches a domain may have set"},
    {Quota::kTransactions, "transactions", "transactions a domain may have open"},
    {Quota::kOutstanding, "outstanding", "messages a domain may leave untaken"},
    {Quota::kTransactionNodes, "transaction-nodes", "nodes a transaction may touch"},
    {Quota::kMemory, "memory", "bytes a domain may take"},
    {Quota::kNodeSize, "node-size", "bytes of a node's value and its children's names"},
    {Quota::kNodePermissions, "node-permissions", "entries in a node's permissions"},
    {Quota::kPathLength, "path-length", "bytes of a path"},
}};

}  // namespace

const QuotaInfo& info_of(Quota quota) {
  return kInfos[static_cast<uint32_t>(quota)];
}

std::optional<Quota> quota_named(std::string_view name) {
  const auto found = std::ranges::find(kInfos, name, &QuotaInfo::name);
  if (found == kInfos.end()) return std::nullopt;
  return found->quota;
}

}  // namespace synfluid::spawner::store
