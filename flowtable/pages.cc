#include "flowtable/pages.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>

#include <fmt/format.h>
#include <sys/mman.h>

namespace synfluid::flowtable {

namespace {

constexpr size_t kNormalBytes = 4096;
constexpr size_t kHugeBytes = size_t{2} << 20;

size_t round_up(size_t bytes, size_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

std::byte* map_anonymous(size_t bytes, int extra_flags) {
  void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | extra_flags, -1, 0);
  return at == MAP_FAILED ? nullptr : static_cast<std::byte*>(at);
}

/// The kernel only makes huge pages where 2 MiB are aligned: map one more, and give back what sticks out.
std::byte* map_aligned(size_t bytes) {
  std::byte* at = map_anonymous(bytes + kHugeBytes, 0);
  if (at == nullptr) return nullptr;
  const size_t before =
      round_up(reinterpret_cast<uintptr_t>(at), kHugeBytes) - reinterpret_cast<uintptr_t>(at);
  if (before > 0) munmap(at, before);
  if (before < kHugeBytes) munmap(at + before + bytes, kHugeBytes - before);
  return at + before;
}

bool transparent_pages_enabled() {
  char text[64] = {};
  std::FILE* file = std::fopen("/sys/kernel/mm/transparent_hugepage/enabled", "re");
  if (file == nullptr) return false;
  const size_t read = std::fread(text, 1, sizeof text - 1, file);
  std::fclose(file);
  return read > 0 && std::strstr(text, "[never]") == nullptr;
}

/// Takes every page now: a fault on the packet path costs more than the packet.
void populate(std::byte* base, size_t bytes) {
  for (size_t at = 0; at < bytes; at += kNormalBytes)
    *const_cast<volatile std::byte*>(base + at) = std::byte{0};
}

}  // namespace

Result<Pages> Pages::map(size_t bytes, PageSize wanted) {
  const bool huge = wanted == PageSize::kHuge && bytes >= kHugeBytes;
  const size_t size = round_up(bytes, huge ? kHugeBytes : kNormalBytes);
  std::byte* base = huge ? map_anonymous(size, MAP_HUGETLB | MAP_POPULATE) : nullptr;
  if (base != nullptr) return Pages(base, size, PageSize::kHuge);
  base = huge ? map_aligned(size) : map_anonymous(size, 0);
  if (base == nullptr) return Error::from_errno(errno, fmt::format("mapping {} bytes", size));
  const bool taken = huge && madvise(base, size, MADV_HUGEPAGE) == 0 && transparent_pages_enabled();
  if (!taken) madvise(base, size, MADV_NOHUGEPAGE);
  populate(base, size);
  return Pages(base, size, taken ? PageSize::kHuge : PageSize::kNormal);
}

Pages::~Pages() {
  if (base_ != nullptr) munmap(base_, size_);
}

}  // namespace synfluid::flowtable
