#include "bench/plot/charts.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <map>
#include <string_view>

#include <fmt/format.h>

namespace synfluid::bench {

namespace {

using nlohmann::json;

/// Samples of these are of the first, the second, … VM.
constexpr std::array<std::string_view, 2> kOrdinalBenches = {"bootstorm", "teardown"};
constexpr size_t kFewestForLines = 10;
/// A chart whose largest value is so many times its smallest gets a logarithmic axis.
constexpr double kWide = 30;

std::string string_of(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

double number_of(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number() ? found->get<double>() : 0;
}

std::vector<double> samples_of(const json& figure) {
  std::vector<double> samples;
  const auto found = figure.find("samples");
  if (found == figure.end() || !found->is_array()) return samples;
  for (const json& sample : *found)
    if (sample.is_number()) samples.push_back(sample.get<double>());
  return samples;
}

Series points_of(const json& figure, const json& curve) {
  Series series{string_of(figure, "name"), {}};
  const auto points = curve.find("points");
  if (points == curve.end()) return series;
  for (const json& point : *points)
    if (point.is_array() && point.size() == 2 && point[0].is_number() && point[1].is_number())
      series.points.emplace_back(point[0].get<double>(), point[1].get<double>());
  return series;
}

Series by_order(const std::string& name, const std::vector<double>& samples) {
  Series series{name, {}};
  for (size_t i = 0; i < samples.size(); ++i)
    series.points.emplace_back(static_cast<double>(i + 1), samples[i]);
  return series;
}

Scale scale_for(const std::vector<Series>& series, bool of_x) {
  double low = 0;
  double high = 0;
  for (const Series& s : series)
    for (const auto& point : s.points) {
      const double value = of_x ? point.first : point.second;
      if (value <= 0) continue;
      low = low == 0 ? value : std::min(low, value);
      high = std::max(high, value);
    }
  return low > 0 && high / low > kWide ? Scale::kLogarithmic : Scale::kLinear;
}

Scale scale_for(const std::vector<Bar>& bars) {
  Series values;
  for (const Bar& bar : bars) values.points.emplace_back(0, bar.value);
  return scale_for({values}, false);
}

std::string file_name(const std::string& report, const std::string& part) {
  std::string name = report + "-" + part;
  for (char& c : name)
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '-';
  return name;
}

std::string unit_label(const std::string& unit) {
  return unit.empty() ? "ratio" : unit;
}

/// Only a peer in the figure's own unit stands beside it; others compare something else.
void add_bars(std::vector<Bar>& bars, const json& figure) {
  const size_t colour = 0;
  bars.push_back(
      {string_of(figure, "name"), number_of(figure, "value"), number_of(figure, "spread"), colour});
  const bool is_a_ratio = number_of(figure, "ratio") == number_of(figure, "value");
  if (figure.contains("peer_value") && !is_a_ratio)
    bars.push_back({string_of(figure, "peer"), number_of(figure, "peer_value"), 0, 1});
}

bool is_ordinal(const NamedReport& report) {
  return std::ranges::find(kOrdinalBenches, string_of(report.object, "bench")) != kOrdinalBenches.end();
}

std::string title_of(const NamedReport& report) {
  return fmt::format("{} ({} clock)", report.name, string_of(report.object, "clock"));
}

LineChart lines(const NamedReport& report, const std::string& x_label, const std::string& unit,
                std::vector<Series> series) {
  return {.title = title_of(report),
          .x_label = x_label,
          .y_label = unit_label(unit),
          .x_scale = scale_for(series, true),
          .y_scale = scale_for(series, false),
          .series = std::move(series)};
}

struct Sorted {
  std::map<std::pair<std::string, std::string>, std::vector<Series>> curves;  ///< by parameter and unit
  std::map<std::string, std::vector<Series>> in_order;                        ///< by unit
  std::map<std::string, std::vector<Bar>> bars;                               ///< by unit
};

Sorted sort_out(const NamedReport& report) {
  Sorted sorted;
  for (const json& figure : report.object["figures"]) {
    const std::string unit = string_of(figure, "unit");
    const std::vector<double> samples = samples_of(figure);
    if (const auto curve = figure.find("curve"); curve != figure.end() && curve->is_object())
      sorted.curves[{string_of(*curve, "x"), unit}].push_back(points_of(figure, *curve));
    else if (is_ordinal(report) && samples.size() >= kFewestForLines)
      sorted.in_order[unit].push_back(by_order(string_of(figure, "name"), samples));
    else
      add_bars(sorted.bars[unit], figure);
  }
  return sorted;
}

const json* figure_named(const NamedReport& report, std::string_view name) {
  for (const json& figure : report.object["figures"])
    if (string_of(figure, "name") == name) return &figure;
  return nullptr;
}

/// A value that was measured with few VMs, as a line from the first VM to the n-th.
Series level(const std::string& name, double value, double until) {
  return {name, {{1, value}, {until, value}}};
}

const NamedReport* bench_named(const std::vector<NamedReport>& reports, std::string_view bench) {
  for (const NamedReport& report : reports)
    if (string_of(report.object, "bench") == bench) return &report;
  return nullptr;
}

json object_of(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_object() ? *found : json::object();
}

std::string details(const NamedReport& report) {
  const json machine = object_of(report.object, "machine");
  const auto emulated = machine.find("emulated");
  return fmt::format("{}{}; {} clock; {}", string_of(machine, "cpu"),
                     emulated != machine.end() && *emulated == json(true) ? "; an emulated machine" : "",
                     string_of(report.object, "clock"), object_of(report.object, "parameters").dump());
}

std::string table_of(const NamedReport& report) {
  std::string rows = "<table><tr><th>figure<th>median<th>spread<th>unit<th>peer<th>peer's<th>ratio</tr>\n";
  for (const json& f : report.object["figures"]) {
    const bool peer = f.contains("peer_value");
    rows += fmt::format("<tr><td>{}<td>{:.4g}<td>{:.2g}<td>{}<td>{}<td>{}<td>{}</tr>\n",
                        escaped(string_of(f, "name")), number_of(f, "value"), number_of(f, "spread"),
                        escaped(string_of(f, "unit")), escaped(string_of(f, "peer")),
                        peer ? fmt::format("{:.4g}", number_of(f, "peer_value")) : "",
                        peer ? fmt::format("{:.3g}", number_of(f, "ratio")) : "");
  }
  return rows + "</table>\n";
}

}  // namespace

Result<NamedReport> parse_report(const std::string& name, const std::string& text) {
  json object = json::parse(text, nullptr, false);
  if (object.is_discarded()) return Error(ErrorCode::kInvalidArgument, fmt::format("{}: no JSON", name));
  if (!object.is_object() || string_of(object, "bench").empty() || string_of(object, "clock").empty() ||
      !object.contains("figures") || !object["figures"].is_array())
    return Error(ErrorCode::kInvalidArgument,
                 fmt::format("{}: no report of a bench; one has a bench, a clock and figures", name));
  return NamedReport{name, std::move(object)};
}

std::vector<NamedChart> charts_of(const NamedReport& report) {
  Sorted sorted = sort_out(report);
  std::vector<NamedChart> charts;
  for (auto& [key, series] : sorted.curves)
    charts.push_back({file_name(report.name, fmt::format("{}-{}", key.first, unit_label(key.second))),
                      draw(lines(report, key.first, key.second, std::move(series)))});
  for (auto& [unit, series] : sorted.in_order)
    charts.push_back({file_name(report.name, "nth-" + unit_label(unit)),
                      draw(lines(report, "n-th VM", unit, std::move(series)))});
  for (auto& [unit, bars] : sorted.bars) {
    const Scale scale = scale_for(bars);
    charts.push_back({file_name(report.name, unit_label(unit)),
                      draw(BarChart{title_of(report), unit_label(unit), scale, std::move(bars)})});
  }
  return charts;
}

std::vector<NamedChart> overview(const std::vector<NamedReport>& reports) {
  const NamedReport* const storm = bench_named(reports, "bootstorm");
  if (storm == nullptr) return {};
  std::vector<Series> series;
  double until = 1;
  for (const json& figure : storm->object["figures"]) {
    const std::vector<double> samples = samples_of(figure);
    if (samples.size() < kFewestForLines || string_of(figure, "name") == "destroy_ms") continue;
    series.push_back(by_order("Synfluid, " + string_of(figure, "name"), samples));
    until = std::max(until, static_cast<double>(samples.size()));
  }
  if (const NamedReport* const breakdown = bench_named(reports, "breakdown"); breakdown != nullptr) {
    if (const json* xl = figure_named(*breakdown, "xl_ms"))
      series.push_back(level("xl, no vif (with no other guest there)", number_of(*xl, "value"), until));
    if (const json* xl = figure_named(*breakdown, "xl_vif_ms"))
      series.push_back(level("xl, one vif (with no other guest there)", number_of(*xl, "value"), until));
  }
  LineChart chart{.title = fmt::format("Time of the n-th VM ({} clock)", string_of(storm->object, "clock")),
                  .x_label = "n-th VM",
                  .y_label = "ms",
                  .x_scale = Scale::kLinear,
                  .y_scale = Scale::kLogarithmic,
                  .series = std::move(series)};
  return {{"nth-vm", draw(chart)}};
}

std::string csv_of(const NamedReport& report) {
  std::string out = "figure,unit,n,value\n";
  for (const json& figure : report.object["figures"]) {
    std::vector<double> samples = samples_of(figure);
    if (samples.empty()) samples.push_back(number_of(figure, "value"));
    for (size_t i = 0; i < samples.size(); ++i)
      out += fmt::format("{},{},{},{}\n", string_of(figure, "name"), string_of(figure, "unit"), i + 1,
                         samples[i]);
  }
  return out;
}

std::string index_page(const std::vector<NamedReport>& reports,
                       const std::vector<std::pair<std::string, std::vector<NamedChart>>>& charts) {
  std::string page =
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Synfluid: figures</title>\n"
      "<style>body{font-family:sans-serif;max-width:60em;margin:2em auto;color:#222}"
      "table{border-collapse:collapse}td,th{border-bottom:1px solid #ddd;padding:.2em .8em;text-align:left}"
      "img{max-width:100%}p{color:#555}</style></head><body>\n<h1>Synfluid: figures</h1>\n";
  for (const auto& [name, drawn] : charts) {
    page += fmt::format("<h2>{}</h2>\n", escaped(name));
    for (const NamedChart& chart : drawn)
      page += fmt::format("<img src=\"{0}.svg\" alt=\"{0}\">\n", escaped(chart.name));
    const auto report = std::ranges::find(reports, name, &NamedReport::name);
    if (report == reports.end()) continue;
    page += fmt::format("<p>{}; <a href=\"{}.csv\">CSV</a>, <a href=\"{}.json\">JSON</a></p>\n",
                        escaped(details(*report)), escaped(name), escaped(name));
    page += table_of(*report);
  }
  return page + "</body></html>\n";
}

}  // namespace synfluid::bench
