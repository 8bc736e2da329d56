// Which slots of a bucket have a tag: a bit per slot. The same answer by SSE2 and by plain C++.
#pragma once

#include <cstdint>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "flowtable/layout.h"

namespace synfluid::flowtable {

struct PortableMatch {
  static uint32_t slots(const TagLine& line, uint16_t tag) noexcept {
    uint32_t mask = 0;
    for (uint32_t s = 0; s < kSlots; ++s) mask |= static_cast<uint32_t>(line.tags[s] == tag) << s;
    return mask;
  }
};

#if defined(__SSE2__)
struct SimdMatch {
  static uint32_t slots(const TagLine& line, uint16_t tag) noexcept {
    static_assert(kSlots == 24);
    const auto* lanes = reinterpret_cast<const __m128i*>(line.tags.data());
    const __m128i wanted = _mm_set1_epi16(static_cast<int16_t>(tag));
    const __m128i first = _mm_cmpeq_epi16(_mm_load_si128(lanes), wanted);
    const __m128i second = _mm_cmpeq_epi16(_mm_load_si128(lanes + 1), wanted);
    const __m128i third = _mm_cmpeq_epi16(_mm_load_si128(lanes + 2), wanted);
    const int low = _mm_movemask_epi8(_mm_packs_epi16(first, second));
    const int high = _mm_movemask_epi8(_mm_packs_epi16(third, _mm_setzero_si128()));
    return static_cast<uint32_t>(low) | static_cast<uint32_t>(high) << 16;
  }
};
#else
using SimdMatch = PortableMatch;
#endif

inline constexpr uint32_t kAllSlots = (1u << kSlots) - 1;

}  // namespace synfluid::flowtable
