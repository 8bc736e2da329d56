// What the control thread does while the workers work: answers commands, reloads the policy, watches for
// signals.
//
// Threads: the control thread. Ownership: none; all it is given outlives it.
#pragma once

#include <string>

#include <nlohmann/json_fwd.hpp>

#include "base/clock.h"
#include "base/result.h"
#include "gateway/control_socket.h"
#include "gateway/crew.h"
#include "gateway/plan.h"
#include "gateway/ports.h"
#include "spawner/spawner.h"

namespace synfluid::gateway {

struct ControlParts {
  std::string policy_file;
  PlanBox& plans;
  Crew& crew;
  spawner::Spawner& spawner;
  spawner::Admission& admission;
  Ports& ports;
  const Clock& clock;
};

class Control {
 public:
  explicit Control(const ControlParts& parts) : parts_(parts) {}

  /// One command of the control socket.
  Result<nlohmann::json> handle(const ControlRequest& request);

  /// Reads the policy file again and puts it in force; a bad one changes nothing.
  Result<std::string> reload();

 private:
  nlohmann::json status() const;
  nlohmann::json flows();
  Result<nlohmann::json> console(const std::string& vm);
  std::string drain();
  void put_in_force(Plan plan);

  ControlParts parts_;
};

}  // namespace synfluid::gateway
