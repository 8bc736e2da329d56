// Collects everything wrong with one file.
//
// Threads: none. Ownership: the caller's. Bounded: after kMaxDiagnostics only their number is kept.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "policies/diagnostic.h"
#include "policies/yaml_tree.h"

namespace synfluid::policies {

/// Nobody reads more at once.
inline constexpr size_t kMaxDiagnostics = 100;

class Report {
 public:
  explicit Report(std::string file) : file_(std::move(file)) {}

  /// `text` is a whole sentence; `allowed` may be empty.
  void error(Mark mark, std::string_view found, std::string text, std::string allowed = {});
  void warning(Mark mark, std::string_view found, std::string text);

  /// "'found' is no WHAT", with what is allowed.
  void error_no(const YamlNode& node, std::string_view what, std::string allowed);

  bool has_errors() const { return errors_ > 0; }
  /// All that was reported, in the order of the file. The report is empty afterwards.
  std::vector<Diagnostic> take();

 private:
  void add(Diagnostic diagnostic);

  std::string file_;
  std::vector<Diagnostic> diagnostics_;
  size_t errors_ = 0;
  size_t left_out_ = 0;
};

/// ", did you mean 'terminate'?" if one of the words is close to `found`; else nothing.
std::string did_you_mean(std::string_view found, std::span<const std::string_view> words);

/// What a node is, for a person: its text in quotes, or "a list", "a map", "nothing".
std::string describe(const YamlNode& node);

}  // namespace synfluid::policies
