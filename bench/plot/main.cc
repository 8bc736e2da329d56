// Draws what the benches measured: reads every *.json of a folder, leaves a CSV and the charts beside each,
// and an index.html that shows them all.
#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "bench/plot/charts.h"

namespace synfluid::bench {
namespace {

namespace fs = std::filesystem;
using ChartsByReport = std::vector<std::pair<std::string, std::vector<NamedChart>>>;

Result<NamedReport> read_report(const fs::path& path) {
  std::ifstream file(path);
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (!file) return Error::from_errno(errno, "reading " + path.string());
  return parse_report(path.stem().string(), text);
}

Result<std::vector<NamedReport>> read_reports(const fs::path& folder) {
  std::vector<fs::path> paths;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error))
    if (entry->path().extension() == ".json") paths.push_back(entry->path());
  if (error) return Error::from_errno(error.value(), folder.string());
  std::ranges::sort(paths);
  std::vector<NamedReport> reports;
  for (const fs::path& path : paths) {
    auto report = read_report(path);
    if (!report) return report.error();
    reports.push_back(std::move(*report));
  }
  if (reports.empty())
    return Error(ErrorCode::kNotFound, fmt::format("{}: there is no report (*.json) in it", folder.string()));
  return reports;
}

Status write_file(const fs::path& path, const std::string& text) {
  std::ofstream file(path);
  file << text;
  file.close();
  if (file) return {};
  return Error::from_errno(errno, "writing " + path.string());
}

Status write_charts(const fs::path& folder, const std::vector<NamedChart>& charts) {
  for (const NamedChart& chart : charts)
    if (Status written = write_file(folder / (chart.name + ".svg"), chart.svg); !written) return written;
  return {};
}

Status draw_all(const fs::path& folder) {
  const auto reports = read_reports(folder);
  if (!reports) return reports.error();
  ChartsByReport charts;
  if (auto first = overview(*reports); !first.empty()) charts.emplace_back("Overview", std::move(first));
  for (const NamedReport& report : *reports) {
    if (Status kept = write_file(folder / (report.name + ".csv"), csv_of(report)); !kept) return kept;
    charts.emplace_back(report.name, charts_of(report));
  }
  for (const auto& [name, drawn] : charts)
    if (Status written = write_charts(folder, drawn); !written) return written;
  return write_file(folder / "index.html", index_page(*reports, charts));
}

}  // namespace
}  // namespace synfluid::bench

int main(int argc, char** argv) {
  std::string folder;
  CLI::App app("Draws the benches' reports (*.json) of a folder: SVG and CSV beside each, and an index.html");
  app.add_option("folder", folder, "where the reports are")->required()->check(CLI::ExistingDirectory);
  CLI11_PARSE(app, argc, argv);
  const auto drawn = synfluid::bench::draw_all(folder);
  if (drawn) return 0;
  std::cerr << "plot: " << drawn.error().text() << '\n';
  return 1;
}
