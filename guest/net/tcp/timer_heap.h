// The connections in the order of their next deadlines: a binary heap of their numbers.
//
// A deadline that moves later does not move in the heap: it comes up early, and is put back. So a connection
// that makes progress with every segment costs nothing here.
#pragma once

#include <cstdint>
#include <span>

#include "guest/net/arena.h"
#include "guest/net/tcp/connection.h"

namespace synfluid::guest::net {

class TimerHeap {
 public:
  TimerHeap(Arena& arena, std::span<Connection> connections)
      : connections_(connections), heap_(arena.reserve<ConnectionId>(connections.size())) {}

  uint64_t next_ns() const { return size_ == 0 ? kNever : key(0); }
  ConnectionId first() const { return heap_[0]; }

  void add(ConnectionId id, uint64_t key_ns) {
    connections_[id].timer_key_ns = key_ns;
    place(size_++, id);
    sift_up(connections_[id].heap_at);
  }
  void remove(ConnectionId id) {
    const size_t at = connections_[id].heap_at;
    --size_;
    if (at == size_) return;
    place(at, heap_[size_]);
    sift_down(sift_up(at));
  }
  /// Brings a deadline forward; a later one is left for the heap to find out.
  void hasten(ConnectionId id, uint64_t key_ns) {
    Connection& c = connections_[id];
    if (key_ns >= c.timer_key_ns) return;
    c.timer_key_ns = key_ns;
    sift_up(c.heap_at);
  }
  /// The first one's new deadline, which is not earlier.
  void postpone_first(uint64_t key_ns) {
    connections_[heap_[0]].timer_key_ns = key_ns;
    sift_down(0);
  }

 private:
  uint64_t key(size_t at) const { return connections_[heap_[at]].timer_key_ns; }
  void place(size_t at, ConnectionId id) {
    heap_[at] = id;
    connections_[id].heap_at = static_cast<uint16_t>(at);
  }
  void swap(size_t a, size_t b) {
    const ConnectionId id = heap_[a];
    place(a, heap_[b]);
    place(b, id);
  }
  size_t sift_up(size_t at) {
    for (; at > 0 && key(at) < key((at - 1) / 2); at = (at - 1) / 2) swap(at, (at - 1) / 2);
    return at;
  }
  void sift_down(size_t at) {
    for (;;) {
      size_t least = at;
      for (size_t child = 2 * at + 1; child <= 2 * at + 2 && child < size_; ++child)
        if (key(child) < key(least)) least = child;
      if (least == at) return;
      swap(at, least);
      at = least;
    }
  }

  std::span<Connection> connections_;
  std::span<ConnectionId> heap_;
  size_t size_ = 0;
};

}  // namespace synfluid::guest::net
