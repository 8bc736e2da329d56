// A hash of short names that a guest, who chooses the names, cannot aim: it depends on secret words drawn at
// start.
//
// Eight bytes at a time are mixed by a 64x64→128-bit multiplication whose halves are folded together.
//
// Threads: any; immutable.
#pragma once

#include <cstdint>
#include <cstring>
#include <random>
#include <string_view>

namespace synfluid::spawner::store {

class SecretHash {
 public:
  SecretHash() {
    std::random_device device;
    for (uint64_t* word : {&start_, &step_, &end_})
      *word = (uint64_t{device()} << 32 | device()) | 1;  // odd: never zero
  }

  uint64_t operator()(uint64_t seed, std::string_view bytes) const {
    uint64_t hash = fold(seed ^ start_, step_ ^ bytes.size());
    const char* at = bytes.data();
    size_t left = bytes.size();
    for (; left >= 8; left -= 8, at += 8) {
      uint64_t word = 0;
      std::memcpy(&word, at, 8);
      hash = fold(hash ^ word, step_);
    }
    // The rest, overlapping what went before; its length is in the hash already.
    uint64_t word = 0;
    if (bytes.size() >= 8) {
      std::memcpy(&word, bytes.data() + bytes.size() - 8, 8);
    } else {
      for (; left > 0; --left, ++at) word = word << 8 | static_cast<uint8_t>(*at);
    }
    return fold(hash ^ word, end_);
  }

 private:
  __extension__ using Wide = unsigned __int128;
  static uint64_t fold(uint64_t a, uint64_t b) {
    const Wide product = Wide{a} * b;
    return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
  }

  uint64_t start_ = 0;
  uint64_t step_ = 0;
  uint64_t end_ = 0;
};

}  // namespace synfluid::spawner::store
