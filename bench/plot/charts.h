// What is drawn of the benches' reports: which figures share a chart, on which axes, and the CSV beside it.
//
//   figures over a parameter (`curve`)      lines, a chart for each parameter and unit
//   samples in the order they were taken,   lines over the n-th VM, in the manner of the paper's Fig. 2(a)
//     of benches that make one VM after another
//   all others                              bars, a chart for each unit, a peer's beside ours
//
// Paper: "The Case for the Superfluid Cloud", HotCloud 2015. Threads: pure functions. Ownership: values.
// Errors: a report that is not one names its file.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/result.h"
#include "bench/plot/svg.h"

namespace synfluid::bench {

/// A report as its bench wrote it; `name` is its file's, without ending.
struct NamedReport {
  std::string name;
  nlohmann::json object;
};

/// Refuses what lacks a bench's name, its clock or its list of figures.
Result<NamedReport> parse_report(const std::string& name, const std::string& text);

struct NamedChart {
  std::string name;  ///< a file name without ending
  std::string svg;
};

std::vector<NamedChart> charts_of(const NamedReport& report);

/// Creation time of the n-th VM with every toolstack that was measured: `bootstorm` beside `breakdown`. None
/// where there is no `bootstorm` among the reports.
std::vector<NamedChart> overview(const std::vector<NamedReport>& reports);

/// Lines `figure,unit,n,value`: every sample, or the value where there are none.
std::string csv_of(const NamedReport& report);

/// The page that shows them all; `charts` as they stand in the same folder.
std::string index_page(const std::vector<NamedReport>& reports,
                       const std::vector<std::pair<std::string, std::vector<NamedChart>>>& charts);

}  // namespace synfluid::bench
