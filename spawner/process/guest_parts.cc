#include "spawner/process/guest_parts.h"

#include <cerrno>
#include <string>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/random.h>

#include "backend/process/process_link.h"
#include "base/abi/card.h"
#include "spawner/shared_area.h"

namespace synfluid::spawner {

Result<GuestParts> make_parts(const ProcessImage& image) {
  Result<backend::SharedMemory> area = backend::SharedMemory::create("synfluid-vif", image.area_bytes());
  if (!area) return area.error();
  Result<UniqueFd> to_guest = backend::make_doorbell_fd();
  if (!to_guest) return to_guest.error();
  Result<UniqueFd> from_guest = backend::make_doorbell_fd();
  if (!from_guest) return from_guest.error();
  UniqueFd gate(::fcntl(to_guest->get(), F_DUPFD_CLOEXEC, 0));
  if (!gate) return Error::from_errno(errno, "a doorbell for a guest process");
  return GuestParts{std::make_shared<backend::SharedMemory>(std::move(*area)), std::move(*to_guest),
                    std::move(*from_guest), std::move(gate)};
}

Status lay_out(const backend::SharedMemory& area, const ProcessImage& image, VmId id) {
  std::array<uint64_t, 4> entropy{};
  if (::getrandom(entropy.data(), sizeof entropy, 0) != sizeof entropy)
    return Error::from_errno(errno, "entropy for a guest");
  lay_out_shared_area(area.bytes(), {.domid = id.domid,
                                     .generation = id.generation,
                                     .service = image.service,
                                     .buffers = image.buffers,
                                     .rx_posted = image.rx_posted(),
                                     .mac = guest_mac(id.domid, id.generation),
                                     .entropy = entropy,
                                     .card_config = image.card_config});
  return {};
}

guest::process::ZygoteRequest request_for(const ProcessImage& image, VmId id, uint64_t cookie) {
  guest::process::ZygoteRequest request{
      .cookie = cookie, .area_pages = abi::shared_pages(image.buffers), .memory_bytes = image.own_bytes};
  const std::string name = fmt::format("{:.9}-{}", image.name, id.domid.value());
  name.copy(request.name, sizeof request.name - 1);
  return request;
}

}  // namespace synfluid::spawner
