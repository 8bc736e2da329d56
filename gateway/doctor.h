// What stands in the way of running Synfluid here: limits and set-up, a line each with its remedy.
//
// Reads files under /proc, /sys and /dev and asks for limits; changes nothing. Threads: any.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace synfluid::gateway {

struct Finding {
  enum class Level : uint8_t {
    kGood,
    kHint,   ///< works, but less well or with fewer VMs
    kFault,  ///< what it names does not work
  };
  Level level = Level::kGood;
  std::string subject;
  std::string text;    ///< what was found
  std::string remedy;  ///< empty when good
};

struct DoctorConfig {
  bool xen = true;
  bool process = true;
  uint64_t vms = 10'000;                                       ///< how many are meant to run at once
  std::vector<std::string> interfaces = {};                    ///< that `run` is meant to use
  std::function<Status()> probe_process = {};                  ///< starts a sandbox and ends it
  std::function<Result<std::string>()> xen_command_line = {};  ///< what Xen was booted with
};

std::vector<Finding> examine(const DoctorConfig& config);

/// The value of `name=` on Xen's command line; the last one counts. Nothing if it is not there.
std::optional<uint64_t> xen_option(std::string_view command_line, std::string_view name);

/// "fault  hugepages: none free; remedy: ..."
std::string to_line(const Finding& finding);

}  // namespace synfluid::gateway
