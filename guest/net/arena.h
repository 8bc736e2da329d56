// Carves the working memory into tables, once, at the start. Nothing is given back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <span>
#include <type_traits>
#include <utility>

namespace synfluid::guest::net {

class Arena {
 public:
  explicit Arena(std::span<std::byte> memory) : memory_(memory) {}

  /// Value-initialised objects; empty if they do not fit.
  template <class T>
  std::span<T> array(size_t count) {
    std::byte* at = take(count * sizeof(T), alignof(T));
    if (at == nullptr) return {};
    T* first = reinterpret_cast<T*>(at);
    for (size_t i = 0; i < count; ++i) new (first + i) T();
    return {first, count};
  }

  /// Room for objects that are assigned before they are first read: none is touched now, so that a guest
  /// starts in the time of what it uses, not of what it may use. Holds zeros, as the platform gave them.
  template <class T>
  std::span<T> reserve(size_t count) {
    static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>);
    std::byte* at = take(count * sizeof(T), alignof(T));
    return at == nullptr ? std::span<T>() : std::span<T>(reinterpret_cast<T*>(at), count);
  }

  /// One object; nullptr if it does not fit.
  template <class T, class... Arguments>
  T* make(Arguments&&... arguments) {
    std::byte* at = take(sizeof(T), alignof(T));
    return at == nullptr ? nullptr : new (at) T(std::forward<Arguments>(arguments)...);
  }

  size_t left() const { return memory_.size(); }

 private:
  std::byte* take(size_t bytes, size_t alignment) {
    const size_t skip = (alignment - reinterpret_cast<uintptr_t>(memory_.data()) % alignment) % alignment;
    if (memory_.size() < skip || memory_.size() - skip < bytes) return nullptr;
    std::byte* at = memory_.data() + skip;
    memory_ = memory_.subspan(skip + bytes);
    return at;
  }

  std::span<std::byte> memory_;
};

}  // namespace synfluid::guest::net
