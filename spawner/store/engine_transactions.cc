#include <algorithm>

#include "spawner/store/engine_impl.h"

namespace synfluid::spawner::store {

Fault Engine::Impl::find_transaction(Connection& from, const Header& header, OpenTransaction*& found) {
  if (header.transaction_id == 0) return Fault::kNone;
  auto transaction = from.transactions.find(header.transaction_id);
  if (transaction == from.transactions.end()) {
    if (!from.restored) return Fault::kEnoent;
    // Begun with our predecessor, who took it along: it goes on, to end with EAGAIN.
    if (const Fault full = open_transaction(from, header.transaction_id); full != Fault::kNone) return full;
    transaction = from.transactions.find(header.transaction_id);
    transaction->second.view.doom();
  }
  found = &transaction->second;
  return Fault::kNone;
}

Fault Engine::Impl::open_transaction(Connection& from, uint32_t id) {
  if (Account* account = from.account; account != nullptr) {
    if (exceeds(from, Quota::kTransactions, account->transactions + 1))
      return refuse(from, Fault::kEnospc, "opens too many transactions");
    if (const Fault full = check_memory(from, 0); full != Fault::kNone) return full;
    ++account->transactions;
  }
  from.transactions.try_emplace(id, storage_);
  return Fault::kNone;
}

Fault Engine::Impl::transaction_start(const Request& request) {
  Connection& from = request.from;
  if (request.transaction != nullptr) return Fault::kEbusy;
  uint32_t id = from.next_transaction;
  while (id == 0 || from.transactions.contains(id)) ++id;
  if (const Fault full = open_transaction(from, id); full != Fault::kNone) return full;
  from.next_transaction = id + 1;
  if (from.losses >= Turns::kLosses)
    turns_.take({.connection = from.id, .transaction = id, .privilege = from.peer.privilege});
  text_buffer_.assign(std::to_string(id)).push_back('\0');
  reply(request, text_buffer_);
  return Fault::kNone;
}

Fault Engine::Impl::transaction_end(const Request& request) {
  Connection& from = request.from;
  const auto verdict = only_field(request.payload);
  if (!verdict || (*verdict != "T" && *verdict != "F")) return Fault::kEinval;
  if (request.transaction == nullptr) return Fault::kEnoent;
  const Fault fault = *verdict == "T" ? commit(from, *request.transaction) : Fault::kNone;
  const uint32_t id = request.header.transaction_id;
  if (turns_.is_held_by(from.id, id)) turns_.end();
  if (from.account != nullptr) {
    --from.account->transactions;
    from.account->bytes -= request.transaction->charged_bytes;
  }
  from.transactions.erase(id);
  if (fault == Fault::kNone) acknowledge(request);
  return fault;
}

Fault Engine::Impl::commit(Connection& from, OpenTransaction& transaction) {
  const Transaction& view = transaction.view;
  if (view.doomed() || view.conflicts()) return lost(from);
  const std::vector<Change> changes = view.changes();
  if (turns_.binds(from.id, from.peer.privilege) && disturbs_turn(changes)) return lost(from);
  const auto made = std::ranges::count(changes, ChangeKind::kCreate, &Change::kind);
  if (made > 0 &&
      exceeds(from, Quota::kNodes, storage_.usage(from.peer.domid).nodes + static_cast<uint64_t>(made)))
    return refuse(from, Fault::kEnospc, "makes too many nodes");

  const std::vector<NodeEvent> events = view.events();
  std::vector<std::vector<Permission>> before(events.size());
  for (size_t i = 0; i < events.size(); ++i) {
    if (events[i].erased) fire_erased(events[i].path);
    if (!events[i].permissions_changed) continue;
    if (const auto node = storage_.find(events[i].path))
      before[i].assign(node->permissions.begin(), node->permissions.end());
  }
  if (!changes.empty()) {
    if (const Fault failed = apply(changes); failed != Fault::kNone) return failed;
  }
  for (size_t i = 0; i < events.size(); ++i)
    if (events[i].present) fire(events[i].path, before[i]);
  from.losses = 0;
  ++counters.commits;
  return Fault::kNone;
}

Fault Engine::Impl::lost(Connection& from) {
  ++from.losses;
  ++counters.conflicts;
  return Fault::kEagain;
}

const Transaction& Engine::Impl::holders_transaction() const {
  const Turns::Holder& holder = turns_.holder();
  return at(holder.connection).transactions.find(holder.transaction)->second.view;
}

bool Engine::Impl::disturbs_turn(std::span<const Change> changes) const {
  const Transaction& holders = holders_transaction();
  return std::ranges::any_of(
      changes, [&](const Change& change) { return holders.depends_on(change.path, change.kind); });
}

bool Engine::Impl::disturbs_turn(std::string_view path, MessageType type) const {
  const Transaction& holders = holders_transaction();
  switch (type) {
    case MessageType::kRm:
      return holders.depends_on(path, ChangeKind::kErase);
    case MessageType::kSetPerms:
      return holders.depends_on(path, ChangeKind::kSetPermissions);
    case MessageType::kWrite:
    case MessageType::kMkdir:
      break;
    default:
      return false;
  }
  if (storage_.find(path))
    return type == MessageType::kWrite && holders.depends_on(path, ChangeKind::kSetValue);
  for (; !storage_.find(path); path = parent_of(path))
    if (holders.depends_on(path, ChangeKind::kCreate)) return true;
  return false;
}

}  // namespace synfluid::spawner::store
