#include "spawner/process/process_image.h"

#include <algorithm>

#include <fmt/format.h>

#include "guest/platform/process/zygote.h"
#include "spawner/shared_area.h"

namespace synfluid::spawner {
namespace {

/// Seventeen buffers, and a working memory a little above the core's least.
constexpr uint64_t kMinMemoryBytes = 160 * 1024;

}  // namespace

Result<std::unique_ptr<PreparedImage>> prepare_process_image(const ImageSpec& spec) {
  const Result<std::optional<abi::ServiceKind>> kind = builtin_service(spec.image);
  if (!kind) return kind.error();
  if (!*kind)
    return Error(
        ErrorCode::kInvalidArgument,
        fmt::format("image '{}' needs Xen: the process hypervisor runs built-in images only", spec.image));
  Result<std::string> card_config = make_card_config(spec.config);
  if (!card_config) return card_config.error();
  if (spec.memory_bytes < kMinMemoryBytes)
    return Error(ErrorCode::kInvalidArgument,
                 fmt::format("memory of {} KiB is too little for a guest process, which needs {} KiB",
                             spec.memory_bytes >> 10, kMinMemoryBytes >> 10));
  auto image = std::make_unique<ProcessImage>();
  image->service = **kind;
  image->name = spec.service;
  image->card_config = std::move(*card_config);
  const uint64_t area_pages = spec.memory_bytes / 2 / abi::kPageBytes;
  image->buffers =
      static_cast<uint32_t>(std::min<uint64_t>(area_pages - abi::kFirstBufferPage, abi::kMaxBuffers));
  image->own_bytes =
      std::min<uint64_t>(spec.memory_bytes - image->area_bytes(), guest::process::kMaxGuestMemory);
  return std::unique_ptr<PreparedImage>(std::move(image));
}

}  // namespace synfluid::spawner
