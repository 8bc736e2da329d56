// A ControlStore in memory, with what the real one does to its users: permissions that are inherited,
// transactions that are overtaken, quotas that are used up.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "spawner/control_store.h"

namespace synfluid::spawner::testing {

class FakeControlStore final : public ControlStore {
 public:
  struct Node {
    std::string value;
    StorePermissions permissions;
  };
  using Nodes = std::map<std::string, Node>;

  // ---- what a test sets and sees ----

  int overtaken = 0;      ///< so many of the next transactions meet a conflict
  int fail_at_step = -1;  ///< the n-th operation from now on fails
  int transactions = 0;   ///< that were committed
  std::vector<DomId> introduced;

  const Nodes& nodes() const { return nodes_; }
  size_t count_below(std::string_view path) const {
    size_t count = 0;
    for (const auto& [name, node] : nodes_) count += is_at_or_below(name, path) ? 1 : 0;
    return count;
  }
  /// The right of a guest to a node, as xenstored works it out.
  bool may(DomId guest, const std::string& path, StoreAccess wanted) const {
    const auto found = nodes_.find(path);
    if (found == nodes_.end()) return false;
    const StorePermissions& p = found->second.permissions;
    if (p.owner == guest) return true;
    StoreAccess access = p.others;
    for (const StoreGrant& grant : p.grants)
      if (grant.domid == guest) access = grant.access;
    return access == StoreAccess::kReadWrite || access == wanted;
  }

  // ---- ControlStore ----

  Result<std::string> read(const std::string& path) override {
    if (const Status s = step(); !s) return s.error();
    const auto found = nodes_.find(path);
    if (found == nodes_.end()) return Error(ErrorCode::kNotFound, "read " + path);
    return found->second.value;
  }
  Status write(const std::string& path, const std::string& value) override {
    if (const Status s = step(); !s) return s.error();
    make(path);
    nodes_[path].value = value;
    fire(path);
    return {};
  }
  Status make_directory(const std::string& path) override {
    if (const Status s = step(); !s) return s.error();
    make(path);
    fire(path);
    return {};
  }
  Status remove(const std::string& path) override {
    if (const Status s = step(); !s) return s.error();
    std::erase_if(nodes_, [&](const auto& entry) { return is_at_or_below(entry.first, path); });
    fire(path);
    return {};
  }
  Result<std::vector<std::string>> list(const std::string& path) override {
    if (const Status s = step(); !s) return s.error();
    if (!nodes_.contains(path)) return Error(ErrorCode::kNotFound, "list " + path);
    std::vector<std::string> names;
    for (const auto& [name, node] : nodes_)
      if (name.starts_with(path + "/") && name.find('/', path.size() + 1) == std::string::npos)
        names.push_back(name.substr(path.size() + 1));
    return names;
  }
  Status set_permissions(const std::string& path, const StorePermissions& permissions) override {
    if (const Status s = step(); !s) return s.error();
    if (!nodes_.contains(path)) return Error(ErrorCode::kNotFound, "set permissions of " + path);
    nodes_[path].permissions = permissions;
    return {};
  }

  Status transact(const std::function<Status(StoreView&)>& body) override {
    for (int attempt = 0; attempt < kStoreAttempts; ++attempt) {
      const Nodes before = nodes_;
      const std::deque<StoreEvent> events = events_;
      const Status done = body(*this);
      const bool is_overtaken = overtaken > 0;
      if (done && !is_overtaken) {
        ++transactions;
        return {};
      }
      nodes_ = before;
      events_ = events;
      if (!done) return done;
      --overtaken;
    }
    return Error(ErrorCode::kConflict, "transaction");
  }

  Status watch(const std::string& path, const std::string& token) override {
    if (const Status s = step(); !s) return s.error();
    watches_.emplace_back(path, token);
    events_.push_back({path, token});
    return {};
  }
  Status unwatch(const std::string& path, const std::string& token) override {
    std::erase(watches_, std::pair(path, token));
    return {};
  }
  int event_fd() const override { return -1; }
  std::optional<StoreEvent> next_event() override {
    if (events_.empty()) return std::nullopt;
    StoreEvent event = events_.front();
    events_.pop_front();
    return event;
  }
  size_t watches() const { return watches_.size(); }

  Status introduce(DomId domid, uint64_t, EventPort) override {
    if (const Status s = step(); !s) return s.error();
    introduced.push_back(domid);
    return {};
  }
  Status release(DomId domid) override {
    std::erase(introduced, domid);
    return {};
  }

 private:
  static bool is_at_or_below(std::string_view node, std::string_view path) {
    return node == path || (node.starts_with(path) && node[path.size()] == '/');
  }

  Status step() {
    if (fail_at_step >= 0 && fail_at_step-- == 0) return Error(ErrorCode::kExhausted, "store quota");
    return {};
  }

  void make(const std::string& path) {
    if (path.empty() || nodes_.contains(path)) return;
    const std::string parent = path.substr(0, path.rfind('/'));
    make(parent);
    nodes_[path] = {"", parent.empty() ? StorePermissions{.owner = DomId{0}, .others = {}, .grants = {}}
                                       : nodes_[parent].permissions};
  }

  void fire(const std::string& path) {
    for (const auto& [watched, token] : watches_)
      if (is_at_or_below(path, watched) || is_at_or_below(watched, path)) events_.push_back({path, token});
  }

  Nodes nodes_;
  std::vector<std::pair<std::string, std::string>> watches_;
  std::deque<StoreEvent> events_;
};

}  // namespace synfluid::spawner::testing
