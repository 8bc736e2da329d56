// Reads a PV kernel of ours out of an ELF file, once per service, so that nothing is parsed when a guest is
// made.
//
// What is accepted: a static ELF64 for x86-64 with a Xen note that names its entry; segments that begin on
// page boundaries, do not overlap, and are not both writable and executable. What is not in the file (.bss)
// is the guest's own to clear, but for the rest of a page that has content. Every offset and size in the file
// is taken for hostile.
//
// Threads: values. Ownership: a PvImage owns its copy of the content. Units: bytes; pages of 4 KiB.
// Source of the formats: System V ABI (ELF), Xen public header xen/elfnote.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace synfluid::spawner::toolstack {

inline constexpr size_t kPageBytes = 4096;

enum class PageAccess : uint8_t { kReadOnly, kReadWrite, kExecute };

/// Pages that belong together, counted from the image's first one.
struct ImageSegment {
  uint32_t first_page = 0;
  uint32_t pages = 0;          ///< in memory
  uint32_t content_pages = 0;  ///< in `content`, the last one filled up with zeroes
  PageAccess access = PageAccess::kReadOnly;
  size_t content_offset = 0;  ///< into PvImage::content
};

struct PvImage {
  uint64_t virt_base = 0;  ///< where page 0 of the guest's memory is mapped
  uint64_t entry = 0;
  uint32_t pages = 0;  ///< from page 0 to the end of the last segment
  std::vector<ImageSegment> segments;
  std::vector<std::byte> content;
};

/// The largest image that is taken; also bounds what a broken size in the file can make us allocate.
inline constexpr uint64_t kMaxImageBytes = 64ull << 20;

/// `name` is what the operator called the image; every error begins with it.
Result<PvImage> read_pv_image(std::span<const std::byte> elf, std::string_view name);

}  // namespace synfluid::spawner::toolstack
