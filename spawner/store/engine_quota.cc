#include <spdlog/spdlog.h>

#include "spawner/store/engine_impl.h"

namespace synfluid::spawner::store {

bool Engine::Impl::exceeds(const Connection& connection, Quota quota, uint64_t value) const {
  return connection.account != nullptr && value > config_.quotas[quota];
}

uint64_t Engine::Impl::memory_of(const Connection& connection) const {
  return connection.account->bytes + storage_.usage(connection.peer.domid).bytes;
}

Fault Engine::Impl::check_memory(Connection& connection, uint64_t more) {
  if (connection.account == nullptr || !exceeds(connection, Quota::kMemory, memory_of(connection) + more))
    return Fault::kNone;
  return refuse(connection, Fault::kEnomem, "is over its quota of memory");
}

Fault Engine::Impl::refuse(Connection& connection, Fault fault, std::string_view why) {
  if (connection.account == nullptr) return fault;
  const auto left_out = connection.account->log.admit(config_.clock == nullptr ? 0 : config_.clock->now_ns());
  if (left_out)
    spdlog::warn("store: {} for domain {}, which {}{}", to_string(fault), connection.peer.domid.value(), why,
                 *left_out);
  return fault;
}

Fault Engine::Impl::check_transaction_room(const Request& request) {
  if (exceeds(request.from, Quota::kTransactionNodes, request.transaction->view.nodes() + 1))
    return refuse(request.from, Fault::kEnospc, "touches too many nodes in one transaction");
  return check_memory(request.from, 0);
}

void Engine::Impl::charge_transaction(Connection& connection, OpenTransaction& transaction) {
  if (connection.account == nullptr) return;
  connection.account->bytes += transaction.view.bytes() - transaction.charged_bytes;
  transaction.charged_bytes = transaction.view.bytes();
}

}  // namespace synfluid::spawner::store
