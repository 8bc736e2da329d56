#include "policies/diagnostic.h"

#include <fmt/format.h>

namespace synfluid::policies {

std::string Diagnostic::to_string() const {
  std::string place = file;
  if (line > 0) place += fmt::format(":{}:{}", line, column);
  const std::string_view kind = severity == Severity::kWarning ? "warning: " : "";
  const std::string remedy = allowed.empty() ? std::string() : fmt::format("; allowed: {}", allowed);
  return fmt::format("{}: {}{}{}", place, kind, text, remedy);
}

std::string to_string(std::span<const Diagnostic> diagnostics) {
  std::string lines;
  for (const Diagnostic& diagnostic : diagnostics) lines += diagnostic.to_string() + '\n';
  return lines;
}

}  // namespace synfluid::policies
