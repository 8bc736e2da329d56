#include "policies/report.h"

#include <algorithm>
#include <tuple>

#include <fmt/format.h>

#include "policies/utf8.h"

namespace synfluid::policies {

namespace {

/// Longer words are nobody's slip of the finger for one of ours.
constexpr size_t kLongestWord = 40;

/// Insertions, deletions, replacements and swaps of neighbours between two short words (optimal string
/// alignment).
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<size_t>> cost(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) {
    for (size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        cost[i][j] = i + j;
        continue;
      }
      const size_t replace = cost[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
      cost[i][j] = std::min({cost[i - 1][j] + 1, cost[i][j - 1] + 1, replace});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
    }
  }
  return cost[a.size()][b.size()];
}

}  // namespace

void Report::add(Diagnostic diagnostic) {
  if (diagnostic.severity == Severity::kError) ++errors_;
  if (diagnostics_.size() >= kMaxDiagnostics && diagnostic.severity == Severity::kWarning) {
    ++left_out_;
    return;
  }
  if (errors_ > kMaxDiagnostics) {
    ++left_out_;
    return;
  }
  diagnostics_.push_back(std::move(diagnostic));
}

void Report::error(Mark mark, std::string_view found, std::string text, std::string allowed) {
  add({Severity::kError, file_, mark.line, mark.column, excerpt(found), std::move(allowed), std::move(text)});
}

void Report::warning(Mark mark, std::string_view found, std::string text) {
  add({Severity::kWarning, file_, mark.line, mark.column, excerpt(found), {}, std::move(text)});
}

void Report::error_no(const YamlNode& node, std::string_view what, std::string allowed) {
  error(node.mark, node.text, fmt::format("{} is no {}", describe(node), what), std::move(allowed));
}

std::vector<Diagnostic> Report::take() {
  const auto place = [](const Diagnostic& d) { return std::tuple(d.line, d.column); };
  std::ranges::stable_sort(diagnostics_, {}, place);
  if (left_out_ > 0)
    diagnostics_.push_back({errors_ > 0 ? Severity::kError : Severity::kWarning,
                            file_,
                            0,
                            0,
                            {},
                            {},
                            fmt::format("and {} more", left_out_)});
  errors_ = left_out_ = 0;
  return std::exchange(diagnostics_, {});
}

std::string did_you_mean(std::string_view found, std::span<const std::string_view> words) {
  if (found.empty() || found.size() > kLongestWord) return {};
  const auto distance = [&](std::string_view word) { return edit_distance(found, word); };
  const auto best = std::ranges::min_element(words, {}, distance);
  if (best == words.end() || distance(*best) > std::max<size_t>(1, found.size() / 3)) return {};
  return fmt::format(", did you mean '{}'?", *best);
}

std::string describe(const YamlNode& node) {
  switch (node.kind) {
    case NodeKind::kNull:
      return "nothing";
    case NodeKind::kScalar:
      return fmt::format("'{}'", excerpt(node.text));
    case NodeKind::kSequence:
      return "a list";
    case NodeKind::kMap:
      return "a map";
  }
  return "nothing";
}

}  // namespace synfluid::policies
