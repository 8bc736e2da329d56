// What a guest process is made of, before it is there: the shared area, the doorbells, the request to the
// zygote. Private to the room. Values; a GuestParts owns its memory and descriptors.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "backend/process/shared_memory.h"
#include "base/unique_fd.h"
#include "guest/platform/process/zygote.h"
#include "spawner/hypervisor.h"
#include "spawner/process/process_image.h"

namespace synfluid::spawner {

/// What host and guest share.
struct GuestParts {
  std::shared_ptr<backend::SharedMemory> area;  ///< the link's and the Vm's
  UniqueFd to_guest;
  UniqueFd from_guest;
  UniqueFd gate;  ///< to_guest once more, for start(): by then the link may have the other

  std::array<int, guest::process::kZygoteFds> shared_fds() const {
    return {area->fd(), to_guest.get(), from_guest.get()};
  }
};

Result<GuestParts> make_parts(const ProcessImage& image);

/// Writes the card and the rings. Only entropy can fail.
Status lay_out(const backend::SharedMemory& area, const ProcessImage& image, VmId id);

guest::process::ZygoteRequest request_for(const ProcessImage& image, VmId id, uint64_t cookie);

}  // namespace synfluid::spawner
