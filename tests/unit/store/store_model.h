// What a XenStore without transactions and watches does, said as plainly as possible: to hold the engine to.
#pragma once

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "spawner/store/wire.h"

namespace synfluid::spawner::store::test {

class Model {
 public:
  Model() {
    for (const char* path : {"/", "/tool", "/tool/xenstored"})
      nodes_[path] = {"", {{DomId(0), Access::kNone}}};
  }

  std::string read(DomId who, const std::string& path) const {
    const std::string refused = refusal(who, path, Access::kRead);
    return refused.empty() ? nodes_.at(path).value : refused;
  }
  /// Sorted.
  std::string list(DomId who, const std::string& path) const {
    const std::string refused = refusal(who, path, Access::kRead);
    if (!refused.empty()) return refused;
    std::string names;
    for (const auto& [other, node] : nodes_)
      if (other != "/" && parent_of(other) == path) names += std::string(name_of(other)) + " ";
    return names;
  }
  std::string permissions(DomId who, const std::string& path) const {
    const std::string refused = refusal(who, path, Access::kRead);
    if (!refused.empty()) return refused;
    std::string text;
    for (const Permission& permission : nodes_.at(path).permissions) {
      append_permission(text, permission);
      text += ' ';
    }
    return text;
  }
  std::string write(DomId who, const std::string& path, const std::string& value) {
    const std::string refused = make(who, path);
    if (!refused.empty()) return refused;
    nodes_[path].value = value;
    return "OK";
  }
  std::string mkdir(DomId who, const std::string& path) {
    const std::string refused = make(who, path);
    return refused.empty() ? "OK" : refused;
  }
  std::string rm(DomId who, const std::string& path) {
    const std::string refused = refusal(who, path, Access::kWrite);
    if (refused == "!ENOENT" && nodes_.contains(std::string(parent_of(path)))) return "OK";
    if (!refused.empty()) return refused;
    if (path == "/") return "!EINVAL";
    std::erase_if(nodes_, [&](const auto& item) { return is_at_or_below(item.first, path); });
    return "OK";
  }
  std::string set_permissions(DomId who, const std::string& path,
                              const std::vector<Permission>& permissions) {
    const std::string refused = refusal(who, path, Access::kWrite);
    if (!refused.empty()) return refused;
    const DomId owner = nodes_[path].permissions[0].domid;
    if (who != DomId(0) && who != owner) return "!EACCES";
    if (who != DomId(0) && permissions[0].domid != owner) return "!EPERM";
    nodes_[path].permissions = permissions;
    return "OK";
  }

 private:
  struct Node {
    std::string value;
    std::vector<Permission> permissions;
  };

  static bool may(DomId who, const Node& node, Access wanted) {
    if (who == DomId(0) || who == node.permissions[0].domid) return true;
    for (size_t i = 1; i < node.permissions.size(); ++i)
      if (node.permissions[i].domid == who) return allows(node.permissions[i].access, wanted);
    return allows(node.permissions[0].access, wanted);
  }
  /// Empty when it may.
  std::string refusal(DomId who, const std::string& path, Access wanted) const {
    const auto node = nodes_.find(path);
    if (node != nodes_.end()) return may(who, node->second, wanted) ? "" : "!EACCES";
    std::string above = path;
    while (!nodes_.contains(above)) above = parent_of(above);
    return may(who, nodes_.at(above), wanted) ? "!ENOENT" : "!EACCES";
  }
  std::string make(DomId who, const std::string& path) {
    const std::string refused = refusal(who, path, Access::kWrite);
    if (refused != "!ENOENT") return refused;
    const std::string above(parent_of(path));
    if (!nodes_.contains(above)) make(who, above);
    nodes_[path].permissions = nodes_[above].permissions;
    if (who != DomId(0)) nodes_[path].permissions[0].domid = who;
    return "";
  }

  std::map<std::string, Node> nodes_;
};

}  // namespace synfluid::spawner::store::test
