// All watches, in a tree of the paths they are set on.
//
//     place   one component of a path that some watch is on or below: its parent, its name, its watches in
//     order
//
// An event walks its own path down this tree and meets just the watches that match: it costs by the depth of
// the path and the number of matches, however many watches and connections there are. A watch is also found
// by (connection, path, token), and is linked to its connection's others.
//
// Threads: one. Ownership: owns the watches; a WatchId is used again after remove().
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "spawner/store/engine.h"
#include "spawner/store/secret_hash.h"
#include "spawner/store/slot_table.h"

namespace synfluid::spawner::store {

using WatchId = uint32_t;
inline constexpr WatchId kNoWatch = UINT32_MAX;

struct Watch {
  ConnectionId connection;
  std::string path;  ///< whole, also when the client gave a relative one
  std::string token;
  /// How much of the path its events leave out: a relative watch's base.
  uint32_t prefix_bytes = 0;
  std::optional<uint32_t> depth;

  /// Linked by the table: among the watches of its place, and of its connection.
  uint32_t place = 0;
  WatchId next_here = kNoWatch;
  WatchId previous_here = kNoWatch;
  WatchId next_of_connection = kNoWatch;
  WatchId previous_of_connection = kNoWatch;
};

class WatchTable {
 public:
  WatchTable();

  /// kNoWatch when the connection has none such.
  WatchId find(ConnectionId connection, std::string_view path, std::string_view token) const;
  /// The connection has none with this path and token. `first` heads the list of the connection's watches.
  WatchId add(Watch watch, WatchId& first);
  void remove(WatchId id, WatchId& first);

  /// The memory it may take, its texts and places with it: a long path may be a thousand places.
  static uint64_t charge_of(const Watch& watch);

  const Watch& operator[](WatchId id) const { return watches_[id]; }
  size_t size() const { return used_; }

  /// Those an event on this path matches: set on it or above it, within their depth; from the root downwards.
  template <class Visit>
  void for_each_matching(std::string_view path, Visit visit) const {
    // Counted for those alone who have a depth.
    uint32_t levels = with_depth_ == 0 ? 0 : levels_of(path);
    uint32_t place = path[0] == '@' ? kSpecial : kRoot;
    for (std::string_view rest = path.substr(path[0] == '@' ? 0 : 1);; --levels) {
      for (WatchId id = places_[place].first; id != kNoWatch; id = watches_[id].next_here)
        if (!watches_[id].depth || *watches_[id].depth >= levels) visit(watches_[id]);
      if (rest.empty()) return;
      place = child_of(place, take_component(rest));
      if (place == kNoPlace) return;
    }
  }

  /// Those set on exactly this path.
  template <class Visit>
  void for_each_at(std::string_view path, Visit visit) const {
    const uint32_t place = place_at(path);
    if (place == kNoPlace) return;
    for (WatchId id = places_[place].first; id != kNoWatch; id = watches_[id].next_here) visit(watches_[id]);
  }

  /// True when a watch is set below this path.
  bool any_below(std::string_view path) const {
    const uint32_t place = place_at(path);
    return place != kNoPlace && places_[place].children > 0;
  }

 private:
  static constexpr uint32_t kNoPlace = SlotTable::kNone;
  static constexpr uint32_t kRoot = 0;
  static constexpr uint32_t kSpecial = 1;

  struct Place {
    uint32_t parent = kNoPlace;
    uint32_t hash = 0;
    uint32_t children = 0;
    WatchId first = kNoWatch;
    WatchId last = kNoWatch;
    std::string name;
  };

  static uint32_t levels_of(std::string_view path) {
    return path == "/" ? 0 : static_cast<uint32_t>(std::ranges::count(path, '/'));
  }
  static std::string_view take_component(std::string_view& rest) {
    const std::string_view component = rest.substr(0, rest.find('/'));
    rest.remove_prefix(std::min(rest.size(), component.size() + 1));
    return component;
  }
  uint32_t child_of(uint32_t place, std::string_view name) const {
    return place_table_.find(static_cast<uint32_t>(hash_(place, name)), [&](uint32_t candidate) {
      return places_[candidate].parent == place && places_[candidate].name == name;
    });
  }
  uint32_t place_at(std::string_view path) const;
  uint32_t make_place(std::string_view path);
  uint32_t make_child(uint32_t parent, std::string_view name);
  void drop_unused(uint32_t place);
  uint32_t hash_of(const Watch& watch) const { return hash_of(watch.connection, watch.place, watch.token); }
  uint32_t hash_of(ConnectionId connection, uint32_t place, std::string_view token) const {
    return static_cast<uint32_t>(hash_(uint64_t{connection.value()} << 32 | place, token));
  }

  SecretHash hash_;
  SlotTable place_table_;
  SlotTable watch_table_;
  std::vector<Place> places_;
  std::vector<uint32_t> free_places_;
  std::vector<Watch> watches_;
  std::vector<WatchId> free_watches_;
  size_t used_ = 0;
  size_t with_depth_ = 0;
};

}  // namespace synfluid::spawner::store
