// The containers that a guest process stands beside: crun, runc and LXC, each running /bin/true in a root
// with one program, without a network or with a veth pair of its own.
//
// A run is timed from the fork of the runtime to its end. That is less than a container would need until it
// answers a SYN, and it holds the taking down, which a runtime does not do apart.
//
// Threads: one. Ownership: a runtime owns its bundle, in the folder for temporary files. Units: microseconds.
// Errors: a runtime that is not installed is not in the list; a run that fails names its runtime.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"

namespace synfluid::bench {

enum class Network { kNone, kVeth };

class ContainerRuntime {
 public:
  virtual ~ContainerRuntime() = default;
  /// As figures name it: "crun".
  virtual std::string name() const = 0;
  virtual Result<double> run_us(Network network) = 0;
};

/// Those that are installed, each with its bundle laid out. Changes this process's mounts where the host's
/// cgroups would be refused: called before there are threads.
Result<std::vector<std::unique_ptr<ContainerRuntime>>> container_runtimes();

}  // namespace synfluid::bench
