// The only place that knows the concrete hypervisors.

#include <fstream>
#include <string>

#include "gateway/cli.h"
#include "spawner/process/process_hypervisor.h"
#include "spawner/toolstack/xen_command_line.h"
#include "spawner/xen/xen_hypervisor.h"

namespace {

using namespace synfluid;
using gateway::HypervisorChoice;

bool is_xen_dom0() {
  std::ifstream in("/proc/xen/capabilities");
  std::string word;
  return (in >> word) && word == "control_d";
}

Result<std::unique_ptr<spawner::Hypervisor>> make_hypervisor(HypervisorChoice choice, uint16_t workers) {
  const bool xen = choice == HypervisorChoice::kXen || (choice == HypervisorChoice::kAuto && is_xen_dom0());
  if (xen) return spawner::open_xen_hypervisor({.workers = workers});
  return spawner::make_process_hypervisor({.workers = workers});
}

/// Xen takes every image that `process` does, and others.
Status check_image(HypervisorChoice choice, const spawner::ImageSpec& spec) {
  return choice == HypervisorChoice::kProcess ? spawner::check_process_image(spec)
                                              : spawner::check_xen_image(spec);
}

}  // namespace

int main(int argc, char** argv) {
  return gateway::run_command_line(argc, argv,
                                   {.make_hypervisor = make_hypervisor,
                                    .check_image = check_image,
                                    .probe_process = spawner::probe_process_hypervisor,
                                    .xen_command_line = spawner::toolstack::xen_command_line});
}
