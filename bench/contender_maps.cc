// absl::flat_hash_map and std::unordered_map, as a program would use them, on memory of ours.
#include <cstring>
#include <new>
#include <unordered_map>
#include <utility>

#include <absl/container/flat_hash_map.h>

#include "bench/contender.h"

namespace synfluid::bench {

namespace {

using flowtable::Pages;
using flowtable::PageSize;

/// Hands out one stretch of pages from front to back; single nodes that come back are given out again.
class Arena {
 public:
  explicit Arena(Pages pages) : pages_(std::move(pages)) {}

  void* allocate(size_t bytes) {
    bytes = (bytes + 15) / 16 * 16;
    if (bytes <= kNode && free_ != nullptr) return std::exchange(free_, *static_cast<void**>(free_));
    if (bytes <= kNode) bytes = kNode;
    if (used_ + bytes > pages_.size()) throw std::bad_alloc();
    return pages_.data() + std::exchange(used_, used_ + bytes);
  }
  void deallocate(void* at, size_t bytes) {
    if (bytes > kNode) return;
    *static_cast<void**>(at) = std::exchange(free_, at);
  }
  size_t used() const { return used_; }

 private:
  static constexpr size_t kNode = 64;
  const Pages pages_;
  size_t used_ = 0;
  void* free_ = nullptr;
};

template <class T>
struct ArenaAllocator {
  using value_type = T;
  Arena* arena;

  explicit ArenaAllocator(Arena* from) : arena(from) {}
  template <class U>
  ArenaAllocator(const ArenaAllocator<U>& other) : arena(other.arena) {}
  T* allocate(size_t n) { return static_cast<T*>(arena->allocate(n * sizeof(T))); }
  void deallocate(T* at, size_t n) { arena->deallocate(at, n * sizeof(T)); }
  friend bool operator==(const ArenaAllocator& a, const ArenaAllocator& b) { return a.arena == b.arena; }
};

/// absl's own hash of the 40 bytes, for both maps.
struct KeyHash {
  struct Bytes {
    const FlowKey& key;
    template <class H>
    friend H AbslHashValue(H state, const Bytes& bytes) {
      return H::combine_contiguous(std::move(state), reinterpret_cast<const unsigned char*>(&bytes.key),
                                   sizeof bytes.key);
    }
  };
  size_t operator()(const FlowKey& key) const { return absl::Hash<Bytes>{}(Bytes{key}); }
};

/// std::equal_to would compare member by member.
struct KeyEqual {
  bool operator()(const FlowKey& a, const FlowKey& b) const { return std::memcmp(&a, &b, sizeof a) == 0; }
};

using Allocator = ArenaAllocator<std::pair<const FlowKey, uint32_t>>;
using AbslMap = absl::flat_hash_map<FlowKey, uint32_t, KeyHash, KeyEqual, Allocator>;
using UnorderedMap = std::unordered_map<FlowKey, uint32_t, KeyHash, KeyEqual, Allocator>;

enum class Prefetch { kNo, kYes };

template <class Map, Prefetch kPrefetch>
class MapContender final : public Contender {
 public:
  MapContender(std::string_view name, Pages pages, size_t flows)
      : name_(name), arena_(std::move(pages)), map_(0, KeyHash{}, KeyEqual{}, Allocator(&arena_)) {
    map_.reserve(flows);
  }

  std::string_view name() const override { return name_; }
  size_t add(std::span<const FlowKey> keys) override {
    size_t added = 0;
    for (const FlowKey& key : keys) added += map_.emplace(key, next_++).second;
    return added;
  }

  size_t lookup(std::span<const FlowKey> keys) override {
    if constexpr (kPrefetch == Prefetch::kYes)
      for (const FlowKey& key : keys) map_.prefetch(key);
    size_t found = 0;
    for (const FlowKey& key : keys) {
      const auto at = map_.find(key);
      if (at == map_.end()) continue;
      sum_ += at->second;
      ++found;
    }
    return found;
  }

  size_t churn(std::span<const FlowKey> opened, std::span<const FlowKey> closed) override {
    size_t done = opened.size() - lookup(opened);
    done += add(opened) + lookup(closed);
    for (const FlowKey& key : closed) done += map_.erase(key);
    return done;
  }

  size_t memory_bytes() const override { return arena_.used(); }

 private:
  const std::string_view name_;
  Arena arena_;
  Map map_;
  uint32_t next_ = 0;
  uint32_t sum_ = 0;  ///< so that what was found is read
};

template <class Map, Prefetch kPrefetch>
Result<std::unique_ptr<Contender>> make(std::string_view name, const ContenderConfig& config, size_t bytes) {
  auto pages = Pages::map(bytes, config.pages);
  if (!pages) return pages.error().within(name);
  return std::unique_ptr<Contender>(new MapContender<Map, kPrefetch>(name, std::move(*pages), config.flows));
}

/// 44 bytes and a control byte a slot. When erased slots fill it, it moves to a table of twice the size.
size_t absl_bytes(const ContenderConfig& config) {
  const size_t tables = config.use == Use::kChurn ? 1 + 2 : 1;
  return size_t{config.capacity} * tables * 45 + (size_t{1} << 20);
}
/// A node of 64 bytes a flow, and a prime number of buckets of 8, once more where it grows.
size_t unordered_bytes(const ContenderConfig& config) {
  return size_t{config.capacity} * (64 + 3 * 8);
}

}  // namespace

Result<std::unique_ptr<Contender>> make_absl(const ContenderConfig& config) {
  return make<AbslMap, Prefetch::kNo>("absl", config, absl_bytes(config));
}

Result<std::unique_ptr<Contender>> make_absl_prefetch(const ContenderConfig& config) {
  return make<AbslMap, Prefetch::kYes>("absl_prefetch", config, absl_bytes(config));
}

Result<std::unique_ptr<Contender>> make_unordered_map(const ContenderConfig& config) {
  return make<UnorderedMap, Prefetch::kNo>("unordered_map", config, unordered_bytes(config));
}

}  // namespace synfluid::bench
