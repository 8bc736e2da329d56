// `synfluid ctl`: asks a running gateway over its control socket.
#pragma once

#include <string>

#include "base/result.h"
#include "gateway/run.h"

namespace synfluid::gateway {

struct CtlConfig {
  std::string socket = kDefaultControlSocket;
  std::string command;
  std::string argument = {};
  bool json = false;
};

/// Prints the answer. An error is the gateway's own, or says that there is no gateway.
Status ask_gateway(const CtlConfig& config);

}  // namespace synfluid::gateway
