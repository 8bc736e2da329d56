// An image with a kernel of its own: a Linux bzImage, a MiniOS, any x86-64 kernel with Xen PV notes.
//
// The file is read, unpacked and checked once per service; guests are built from memory. Service keys:
// `ramdisk` (a path), `cmdline` (text for the kernel), `control_ring` (on: it is offered one).
//
// Threads: values. Ownership: an image owns its bytes. Units: bytes. Errors: the operator's; each begins with
// the image's path and says in one line what is wrong.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "spawner/hypervisor.h"

namespace synfluid::spawner::xen {

/// libxenguest lays out page tables for 4 MiB at a time, and a kernel needs room besides.
inline constexpr uint64_t kMinForeignBytes = 8ull << 20;
/// When the service names no size: enough for a small Linux with a ramdisk.
inline constexpr uint64_t kUsualForeignBytes = 64ull << 20;
/// Bounds what one image or ramdisk can make us read.
inline constexpr uint64_t kMaxForeignFileBytes = 256ull << 20;

class ForeignImage final : public PreparedImage {
 public:
  std::string service;
  std::string path;
  std::vector<std::byte> kernel;  ///< an unpacked ELF file
  std::vector<std::byte> ramdisk;
  std::string command_line;
  uint64_t memory_bytes = kUsualForeignBytes;
  bool offers_control_ring = false;
};

/// Reads and checks everything `spec` names. Needs no Xen.
Result<ForeignImage> read_foreign_image(const ImageSpec& spec);

/// Checks a kernel and unpacks it if it is compressed. `name` is what the operator called it.
Result<std::vector<std::byte>> unpack_kernel(std::span<const std::byte> file, const std::string& name);

}  // namespace synfluid::spawner::xen
