// What the policy loader has to say about a file: one line for a person, with its place.
//
// Values: no threads, no ownership. Lines and columns count from 1; 0 means the file as a whole.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace synfluid::policies {

enum class Severity : uint8_t {
  kError,    ///< the policy is not loaded
  kWarning,  ///< the policy is loaded, but a part of it does nothing
};

struct Diagnostic {
  Severity severity = Severity::kError;
  std::string file;
  int line = 0;
  int column = 0;
  std::string found;    ///< the text in the file that is wrong; may be empty
  std::string allowed;  ///< what could stand there instead; may be empty
  std::string text;     ///< the sentence, without place and without `allowed`

  /// "policy.yaml:12:9: 'terminat' is no mode; allowed: terminate, inline". A warning says so behind the
  /// place.
  std::string to_string() const;
};

/// One diagnostic a line, each with its line end.
std::string to_string(std::span<const Diagnostic> diagnostics);

}  // namespace synfluid::policies
