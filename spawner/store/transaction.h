// One open transaction: what it has seen of the store, and what it is to change.
//
// Nothing is copied when it begins. Each node it touches gets an entry, made at the first touch, that
// remembers which parts of the node were looked at (whether it is there, its value, its children, its
// permissions) and of which generation they were; what was read once reads the same again. Changes are kept
// in the entries too, and hide the store beneath. At the end, the parts looked at must still be of the same
// generation: a conflict is a part of a node that this transaction saw and another has changed since, nothing
// else. Two that create different children of one directory, or write what neither read, do not meet.
//
// Threads: one. Ownership: its own copies; changes() and events() give views that hold until the next call.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "spawner/store/storage.h"

namespace synfluid::spawner::store {

/// A set of parts of a node, as bits.
enum class Part : uint8_t { kNothing = 0, kExistence = 1, kValue = 2, kChildren = 4, kPermissions = 8 };
constexpr Part operator|(Part a, Part b) {
  return static_cast<Part>(static_cast<uint8_t>(a) | static_cast<uint8_t>(b));
}
constexpr Part without(Part set, Part part) {
  return static_cast<Part>(static_cast<uint8_t>(set) & ~static_cast<uint8_t>(part));
}
constexpr bool includes(Part set, Part part) {
  return (static_cast<uint8_t>(set) & static_cast<uint8_t>(part)) != 0;
}

/// What is to be told to watches after a change of the node.
struct NodeEvent {
  std::string_view path;
  /// The node and all below it went, seen from the store: told before the change is made.
  bool erased = false;
  /// It is there afterwards, made or changed.
  bool present = false;
  bool permissions_changed = false;
};

class Transaction {
 public:
  explicit Transaction(const Storage& storage) : storage_(&storage), last_(entries_.end()) {}
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;

  /// The node as this transaction sees it; `seen` is what the answer depends on, and what the view has: value
  /// and permissions are empty unless seen or set. Its generations and counts of children are the store's
  /// own. Holds until the next change.
  std::optional<NodeView> look(std::string_view path, Part seen);
  /// The whole list of its children's names, a NUL after each. The node exists. Seen: children.
  std::string children(std::string_view path);
  /// Another one after each change that this transaction has made.
  uint64_t generation(std::string_view path);

  // Preconditions: as those of the ChangeKind of the same name, in this transaction's view.
  void set_value(std::string_view path, std::string_view value);
  void set_permissions(std::string_view path, std::span<const Permission> permissions);
  /// `named`: it was asked for itself, not for a node below it; only then watches hear of it.
  enum class Cause : uint8_t { kNamed, kForChild };
  void create(std::string_view path, std::string_view value, std::span<const Permission> permissions,
              Cause cause);
  void erase(std::string_view path);

  /// True when another has changed what was seen.
  bool conflicts() const;
  std::vector<Change> changes() const;
  /// In the order in which the nodes were first changed.
  std::vector<NodeEvent> events() const;

  /// True when what this transaction has seen would be changed by making, setting or erasing the node.
  bool depends_on(std::string_view path, ChangeKind kind) const;

  size_t nodes() const { return entries_.size(); }
  size_t created() const { return created_; }
  size_t bytes() const { return bytes_; }
  /// Ends with EAGAIN whatever happens.
  void doom() { doomed_ = true; }
  bool doomed() const { return doomed_; }

 private:
  struct Entry {
    // Of the store, at the first look.
    bool was_there = false;
    Generations generations;
    uint32_t children = 0;
    uint32_t children_bytes = 0;
    Part seen = Part::kNothing;
    // What was read of it, or set.
    std::optional<std::string> value;
    std::optional<std::vector<Permission>> permissions;
    std::optional<std::string> children_names;
    // As this transaction sees it.
    bool is_there = false;
    /// The store's node, if any, is erased: by `erases` here or at one above.
    bool was_erased = false;
    bool erases = false;
    bool value_set = false;
    bool permissions_set = false;
    /// Of its first change that watches are to hear of; 0 for none.
    uint32_t order = 0;

    /// The store's own node, changed or not; or one that the store has not.
    bool is_kept() const { return is_there && was_there && !was_erased; }
    bool is_new() const { return is_there && !is_kept(); }
  };
  using Entries = std::map<std::string, Entry, std::less<>>;

  Entries::iterator touch(std::string_view path);
  bool below_erased(std::string_view path) const;
  void fill(std::string_view path, Entry& entry, Part seen);
  bool holds(std::string_view path, const Entry& entry) const;
  std::string base_children(std::string_view path, Entry& entry);
  void note_order(Entry& entry);

  const Storage* storage_;
  Entries entries_;
  /// Touched last: what is looked at is often changed next.
  Entries::iterator last_;
  uint32_t changes_ = 0;
  size_t created_ = 0;
  size_t bytes_ = 0;
  bool erased_any_ = false;
  bool doomed_ = false;
};

}  // namespace synfluid::spawner::store
