#include "spawner/store/watch_table.h"

#include <utility>

namespace synfluid::spawner::store {

WatchTable::WatchTable() : places_(2) {}

uint32_t WatchTable::place_at(std::string_view path) const {
  uint32_t place = path[0] == '@' ? kSpecial : kRoot;
  std::string_view rest = path.substr(path[0] == '@' ? 0 : 1);
  while (!rest.empty() && place != kNoPlace) place = child_of(place, take_component(rest));
  return place;
}

uint32_t WatchTable::make_place(std::string_view path) {
  uint32_t place = path[0] == '@' ? kSpecial : kRoot;
  std::string_view rest = path.substr(path[0] == '@' ? 0 : 1);
  while (!rest.empty()) {
    const std::string_view name = take_component(rest);
    const uint32_t child = child_of(place, name);
    place = child == kNoPlace ? make_child(place, name) : child;
  }
  return place;
}

uint32_t WatchTable::make_child(uint32_t parent, std::string_view name) {
  if (free_places_.empty()) {
    free_places_.push_back(static_cast<uint32_t>(places_.size()));
    places_.emplace_back();
  }
  const uint32_t number = free_places_.back();
  free_places_.pop_back();
  Place& place = places_[number];
  place.parent = parent;
  place.hash = static_cast<uint32_t>(hash_(parent, name));
  place.name = name;
  place_table_.insert(place.hash, number);
  ++places_[parent].children;
  return number;
}

void WatchTable::drop_unused(uint32_t number) {
  while (number > kSpecial && places_[number].children == 0 && places_[number].first == kNoWatch) {
    Place& place = places_[number];
    const uint32_t parent = place.parent;
    place_table_.erase(place.hash, number);
    place = {};
    free_places_.push_back(number);
    --places_[parent].children;
    number = parent;
  }
}

uint64_t WatchTable::charge_of(const Watch& watch) {
  constexpr uint64_t kPlace = sizeof(Place) + 16;  // with its slot in the table
  const uint64_t names = watch.path.size();
  return sizeof(Watch) + watch.path.size() + watch.token.size() + levels_of(watch.path) * kPlace + names;
}

WatchId WatchTable::find(ConnectionId connection, std::string_view path, std::string_view token) const {
  const uint32_t place = place_at(path);
  if (place == kNoPlace) return kNoWatch;
  return watch_table_.find(hash_of(connection, place, token), [&](WatchId id) {
    const Watch& watch = watches_[id];
    return watch.connection == connection && watch.place == place && watch.token == token;
  });
}

WatchId WatchTable::add(Watch watch, WatchId& first) {
  if (free_watches_.empty()) {
    free_watches_.push_back(static_cast<WatchId>(watches_.size()));
    watches_.emplace_back();
  }
  const WatchId id = free_watches_.back();
  free_watches_.pop_back();

  watch.place = make_place(watch.path);
  Place& place = places_[watch.place];
  watch.previous_here = std::exchange(place.last, id);
  (watch.previous_here == kNoWatch ? place.first : watches_[watch.previous_here].next_here) = id;
  watch.next_of_connection = std::exchange(first, id);
  if (watch.next_of_connection != kNoWatch) watches_[watch.next_of_connection].previous_of_connection = id;

  watch_table_.insert(hash_of(watch), id);
  watches_[id] = std::move(watch);
  ++used_;
  if (watches_[id].depth) ++with_depth_;
  return id;
}

void WatchTable::remove(WatchId id, WatchId& first) {
  Watch& watch = watches_[id];
  watch_table_.erase(hash_of(watch), id);
  Place& place = places_[watch.place];
  (watch.previous_here == kNoWatch ? place.first : watches_[watch.previous_here].next_here) = watch.next_here;
  (watch.next_here == kNoWatch ? place.last : watches_[watch.next_here].previous_here) = watch.previous_here;
  (watch.previous_of_connection == kNoWatch ? first
                                            : watches_[watch.previous_of_connection].next_of_connection) =
      watch.next_of_connection;
  if (watch.next_of_connection != kNoWatch)
    watches_[watch.next_of_connection].previous_of_connection = watch.previous_of_connection;
  const uint32_t number = watch.place;
  if (watch.depth) --with_depth_;
  watch = {};
  free_watches_.push_back(id);
  --used_;
  drop_unused(number);
}

}  // namespace synfluid::spawner::store
