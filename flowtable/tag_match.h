// Which slots of a bucket have a tag, or a short one: a bit per slot. The same answers by AVX-512, by SSE2
// and by plain C++.
#pragma once

#include <array>
#include <cstdint>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "flowtable/layout.h"

/// A look-up is one function by construction, whatever the compiler thinks of its size.
#define SYNFLUID_INLINE __attribute__((always_inline)) inline

namespace synfluid::flowtable {

struct PortableMatch {
  static uint32_t slots(const TagLine& line, uint16_t tag) noexcept { return equal(line.tags, tag); }
  static uint32_t slots(const ShortTags& block, uint8_t tag) noexcept { return equal(block.tags, tag); }

 private:
  template <class Tag>
  static uint32_t equal(const std::array<Tag, kSlots>& tags, Tag wanted) noexcept {
    uint32_t mask = 0;
    for (uint32_t s = 0; s < kSlots; ++s) mask |= static_cast<uint32_t>(tags[s] == wanted) << s;
    return mask;
  }
};

#if defined(__SSE2__)
struct Sse2Match {
  static uint32_t slots(const TagLine& line, uint16_t tag) noexcept {
    static_assert(kSlots == 24);
    const __m128i wanted = _mm_set1_epi16(static_cast<int16_t>(tag));
    const auto* lanes = reinterpret_cast<const __m128i*>(line.tags.data());
    const __m128i first = _mm_cmpeq_epi16(_mm_load_si128(lanes), wanted);
    const __m128i second = _mm_cmpeq_epi16(_mm_load_si128(lanes + 1), wanted);
    const __m128i third = _mm_cmpeq_epi16(_mm_load_si128(lanes + 2), wanted);
    const int low = _mm_movemask_epi8(_mm_packs_epi16(first, second));
    const int high = _mm_movemask_epi8(_mm_packs_epi16(third, _mm_setzero_si128()));
    return static_cast<uint32_t>(low) | static_cast<uint32_t>(high) << 16;
  }
  static uint32_t slots(const ShortTags& block, uint8_t tag) noexcept {
    const __m128i wanted = _mm_set1_epi8(static_cast<char>(tag));
    const auto* lanes = reinterpret_cast<const __m128i*>(&block);
    const int low = _mm_movemask_epi8(_mm_cmpeq_epi8(_mm_load_si128(lanes), wanted));
    const int high = _mm_movemask_epi8(_mm_cmpeq_epi8(_mm_load_si128(lanes + 1), wanted));
    return (static_cast<uint32_t>(low) | static_cast<uint32_t>(high) << 16) & kAllSlots;
  }
};
using BaselineMatch = Sse2Match;

/// Code that is only reached where cpu_has_avx512() says yes.
#define SYNFLUID_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,bmi,bmi2,lzcnt")))

inline bool cpu_has_avx512() noexcept {
  return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("bmi2");
}

/// The line in one comparison; what lies behind the tags is compared too, and masked away. The result is a
/// mask of 32 bits on purpose: GCC 12 may spill one of 16 to the stack by a store of 16 bits and read it back
/// as 32 (seen at -O1 -fsanitize=undefined), which made slots 16 and up match by what was left in the upper
/// half.
struct Avx512Match {
  SYNFLUID_AVX512 static inline uint32_t slots(const TagLine& line, uint16_t tag) noexcept {
    const __m512i wanted = _mm512_set1_epi16(static_cast<int16_t>(tag));
    return _mm512_mask_cmpeq_epi16_mask(kAllSlots, _mm512_load_si512(&line), wanted);
  }
  SYNFLUID_AVX512 static inline uint32_t slots(const ShortTags& block, uint8_t tag) noexcept {
    const __m256i wanted = _mm256_set1_epi8(static_cast<char>(tag));
    const __m256i tags = _mm256_load_si256(reinterpret_cast<const __m256i*>(&block));
    return _mm256_mask_cmpeq_epi8_mask(kAllSlots, tags, wanted);
  }
};
#else
using BaselineMatch = PortableMatch;
#endif

}  // namespace synfluid::flowtable
