#include "guest/platform/process/vdso.h"

#include <elf.h>
#include <linux/time.h>
#include <linux/time_types.h>

#include "guest/platform/process/syscalls.h"

namespace synfluid::guest::process {
namespace {

using ClockGettime = int (*)(int clock, __kernel_timespec* time);
ClockGettime vdso_clock_gettime = nullptr;

struct Dynamic {
  const Elf64_Sym* symbols = nullptr;
  const char* strings = nullptr;
  const uint32_t* hash = nullptr;      // System V: nbucket, nchain = number of symbols
  const uint32_t* gnu_hash = nullptr;  // nbuckets, first symbol, bloom words, shift, bloom, buckets, chains
};

bool same_text(const char* a, const char* b) {
  while (*a != '\0' && *a == *b) ++a, ++b;
  return *a == *b;
}

/// Where the image was moved to, relative to its program headers; and its dynamic section.
const Elf64_Dyn* dynamic_section(uint64_t base, uint64_t& moved_by) {
  const auto* ehdr = reinterpret_cast<const Elf64_Ehdr*>(base);
  const auto* phdr = reinterpret_cast<const Elf64_Phdr*>(base + ehdr->e_phoff);
  const Elf64_Dyn* found = nullptr;
  bool loaded = false;
  for (int i = 0; i < ehdr->e_phnum; ++i) {
    if (phdr[i].p_type == PT_LOAD && !loaded) {
      moved_by = base + phdr[i].p_offset - phdr[i].p_vaddr;
      loaded = true;
    }
    if (phdr[i].p_type == PT_DYNAMIC) found = reinterpret_cast<const Elf64_Dyn*>(base + phdr[i].p_offset);
  }
  return loaded ? found : nullptr;
}

Dynamic read_dynamic(const Elf64_Dyn* entry, uint64_t moved_by) {
  Dynamic out;
  for (; entry->d_tag != DT_NULL; ++entry) {
    const uint64_t at = entry->d_un.d_ptr + moved_by;
    if (entry->d_tag == DT_SYMTAB) out.symbols = reinterpret_cast<const Elf64_Sym*>(at);
    if (entry->d_tag == DT_STRTAB) out.strings = reinterpret_cast<const char*>(at);
    if (entry->d_tag == DT_HASH) out.hash = reinterpret_cast<const uint32_t*>(at);
    if (entry->d_tag == DT_GNU_HASH) out.gnu_hash = reinterpret_cast<const uint32_t*>(at);
  }
  return out;
}

uint32_t symbol_count(const Dynamic& dynamic) {
  if (dynamic.hash != nullptr) return dynamic.hash[1];
  if (dynamic.gnu_hash == nullptr) return 0;
  const uint32_t buckets = dynamic.gnu_hash[0], first = dynamic.gnu_hash[1],
                 bloom_words = dynamic.gnu_hash[2];
  const uint32_t* bucket = dynamic.gnu_hash + 4 + 2 * bloom_words;
  uint32_t last = 0;
  for (uint32_t i = 0; i < buckets; ++i)
    if (bucket[i] > last) last = bucket[i];
  if (last < first) return 0;
  const uint32_t* chain = bucket + buckets;
  while ((chain[last - first] & 1) == 0) ++last;
  return last + 1;
}

}  // namespace

void find_vdso_clock(uint64_t ehdr_address) {
  uint64_t moved_by = 0;
  const Elf64_Dyn* section = ehdr_address == 0 ? nullptr : dynamic_section(ehdr_address, moved_by);
  if (section == nullptr) return;
  const Dynamic dynamic = read_dynamic(section, moved_by);
  if (dynamic.symbols == nullptr || dynamic.strings == nullptr) return;
  const uint32_t count = symbol_count(dynamic);
  for (uint32_t i = 0; i < count; ++i) {
    const Elf64_Sym& symbol = dynamic.symbols[i];
    if (symbol.st_shndx != SHN_UNDEF && same_text(dynamic.strings + symbol.st_name, "__vdso_clock_gettime"))
      vdso_clock_gettime = reinterpret_cast<ClockGettime>(symbol.st_value + moved_by);
  }
}

uint64_t monotonic_ns() {
  __kernel_timespec time{};
  if (vdso_clock_gettime != nullptr)
    vdso_clock_gettime(CLOCK_MONOTONIC, &time);
  else
    system_call(__NR_clock_gettime, CLOCK_MONOTONIC, &time);
  return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(time.tv_nsec);
}

}  // namespace synfluid::guest::process
