// The command line: `synfluid run|replay|check|doctor|ctl`.
//
// Threads: main. Errors: one clear line on stderr and a status that is not zero: 1 when the work failed, 2
// when the command line made no sense.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "base/result.h"
#include "spawner/hypervisor.h"

namespace synfluid::gateway {

enum class HypervisorChoice : uint8_t { kAuto, kXen, kProcess };

/// What only main() knows: the concrete classes.
struct Wiring {
  std::function<Result<std::unique_ptr<spawner::Hypervisor>>(HypervisorChoice, uint16_t workers)>
      make_hypervisor;
  /// Whether a hypervisor would take the image; kAuto: any.
  std::function<Status(HypervisorChoice, const spawner::ImageSpec&)> check_image;
  std::function<Status()> probe_process;
  std::function<Result<std::string>()> xen_command_line;
};

int run_command_line(int argc, char** argv, const Wiring& wiring);

}  // namespace synfluid::gateway
