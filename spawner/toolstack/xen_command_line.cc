#include "spawner/toolstack/xen_command_line.h"

#include <cerrno>
#include <memory>

#include "spawner/toolstack/libxenctrl.h"

namespace synfluid::spawner::toolstack {

Result<std::string> xen_command_line() {
  struct Close {
    void operator()(xc_interface* xen) const { xc_interface_close(xen); }
  };
  const std::unique_ptr<xc_interface, Close> xen(xc_interface_open(nullptr, nullptr, 0));
  if (!xen) return Error::from_errno(errno, "opening Xen's control interface");
  xen_commandline_t line{};
  if (xc_version(xen.get(), XENVER_commandline, &line) != 0)
    return Error::from_errno(errno, "asking for Xen's command line");
  return std::string(line, strnlen(line, sizeof(line)));
}

}  // namespace synfluid::spawner::toolstack
