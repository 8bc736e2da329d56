// What the benches' reports become on paper.
#include "bench/plot/charts.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "bench/plot/svg.h"
#include "bench/report.h"

namespace synfluid::bench {
namespace {

using nlohmann::json;

NamedReport report_of(const std::string& bench, json figures) {
  const json object = {{"bench", bench}, {"clock", "instructions"}, {"figures", std::move(figures)}};
  return *parse_report(bench, object.dump());
}

json series(const std::string& name, size_t count) {
  json samples = json::array();
  for (size_t i = 0; i < count; ++i) samples.push_back(0.5 + 0.001 * static_cast<double>(i));
  return {{"name", name}, {"value", 0.5}, {"unit", "ms"}, {"spread", 0.1}, {"samples", samples}};
}

size_t count_of(const std::string& text, const std::string& word) {
  size_t found = 0;
  for (size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) ++found;
  return found;
}

TEST(Ticks, AreRoundNumbersInsideTheAxis) {
  EXPECT_EQ(ticks(0, 10, Scale::kLinear), (std::vector<double>{0, 2, 4, 6, 8, 10}));
  EXPECT_FALSE(std::signbit(ticks(0, 10, Scale::kLinear)[0])) << "nought is drawn as -0";
  EXPECT_EQ(ticks(0.5, 200, Scale::kLogarithmic), (std::vector<double>{1, 10, 100}));
  for (const double mark : ticks(3, 977, Scale::kLinear)) {
    EXPECT_GE(mark, 3);
    EXPECT_LE(mark, 977);
  }
}

TEST(Ticks, OfAnAxisWithoutExtentAreOne) {
  EXPECT_EQ(ticks(7, 7, Scale::kLinear), (std::vector<double>{7}));
}

TEST(LineCharts, LeaveOutWhatALogarithmicAxisCannotShow) {
  LineChart chart{.title = "t", .x_label = "x", .y_label = "y", .y_scale = Scale::kLogarithmic};
  chart.series.push_back({"s", {{1, 0}, {2, 10}, {3, 100}}});
  const std::string svg = draw(chart);
  EXPECT_EQ(count_of(svg, "<circle"), 2u);
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  EXPECT_EQ(svg.find("inf"), std::string::npos);
}

TEST(Charts, AreWholeEvenWithoutValues) {
  for (const std::string& svg :
       {draw(LineChart{.title = "empty", .x_label = "", .y_label = "", .series = {}}),
        draw(BarChart{.title = "empty", .label = "", .bars = {}})}) {
    EXPECT_TRUE(svg.starts_with("<svg"));
    EXPECT_TRUE(svg.ends_with("</svg>\n"));
    EXPECT_EQ(svg.find("nan"), std::string::npos);
  }
}

TEST(Charts, EscapeWhatANameMayHold) {
  const std::string svg = draw(BarChart{.title = "a<b & \"c\"", .label = "", .bars = {}});
  EXPECT_NE(svg.find("a&lt;b &amp; &quot;c&quot;"), std::string::npos);
}

TEST(Charts, OfVmsInARowAreLinesOverTheNthVm) {
  const auto charts =
      charts_of(report_of("bootstorm", {series("cold_create_ms", 20), series("growth_20", 1)}));
  ASSERT_EQ(charts.size(), 2u);
  EXPECT_NE(charts[0].svg.find("n-th VM"), std::string::npos);
  EXPECT_EQ(count_of(charts[0].svg, "<circle"), 20u);
  EXPECT_NE(charts[1].svg.find("growth_20"), std::string::npos);
}

TEST(Charts, OfAPeerInTheSameUnitStandBesideOurs) {
  const json with_peer = {{"name", "read_us"}, {"value", 2.0},      {"unit", "us"}, {"spread", 0},
                          {"peer", "other"},   {"peer_value", 4.0}, {"ratio", 0.5}};
  const auto charts = charts_of(report_of("store", {with_peer}));
  ASSERT_EQ(charts.size(), 1u);
  EXPECT_NE(charts[0].svg.find(">other<"), std::string::npos);
}

TEST(Charts, OfARatioDoNotShowThePeersOwnValue) {
  const json ratio = {{"name", "over"},      {"value", 67.0},       {"unit", ""},   {"spread", 0},
                      {"peer", "xl, in ms"}, {"peer_value", 323.0}, {"ratio", 67.0}};
  const auto charts = charts_of(report_of("breakdown", {ratio}));
  ASSERT_EQ(charts.size(), 1u);
  EXPECT_EQ(charts[0].svg.find("xl, in ms"), std::string::npos);
}

TEST(Charts, OfACurveHaveItsParameterBelow) {
  Figure figure = Figure::of("write_us", "us", {3});
  figure.curve = Curve{"clients", {{1, 3}, {64, 3.2}, {10000, 3.3}}};
  Report report("store", ClockKind::kInstructions);
  report.add(figure);
  const auto charts = charts_of(*parse_report("store", report.to_json().dump()));
  ASSERT_EQ(charts.size(), 1u);
  EXPECT_NE(charts[0].svg.find(">clients<"), std::string::npos);
  EXPECT_EQ(count_of(charts[0].svg, "<circle"), 3u);
}

TEST(Overview, SetsXlBesideOurVms) {
  const json xl = {{"name", "xl_vif_ms"}, {"value", 320.0}, {"unit", "ms"}, {"spread", 1}};
  const auto charts =
      overview({report_of("bootstorm", {series("cold_create_ms", 20)}), report_of("breakdown", {xl})});
  ASSERT_EQ(charts.size(), 1u);
  EXPECT_NE(charts[0].svg.find("xl, one vif"), std::string::npos);
}

TEST(Csv, HasEverySample) {
  const std::string csv = csv_of(report_of("bootstorm", {series("cold_create_ms", 3)}));
  EXPECT_EQ(csv,
            "figure,unit,n,value\ncold_create_ms,ms,1,0.5\ncold_create_ms,ms,2,0.501\n"
            "cold_create_ms,ms,3,0.502\n");
}

TEST(IndexPage, NamesEveryChartAndEveryFigure) {
  const auto report = report_of("stages", {series("build_ms", 3)});
  const std::string page = index_page({report}, {{"stages", charts_of(report)}});
  EXPECT_NE(page.find("stages-ms.svg"), std::string::npos);
  EXPECT_NE(page.find("build_ms"), std::string::npos);
}

TEST(Reports, ThatAreNoneNameTheirFile) {
  for (const char* text : {"", "[1", "[]", "{}", R"({"bench": "x", "clock": "wall", "figures": 3})"}) {
    const auto report = parse_report("broken", text);
    ASSERT_FALSE(report) << text;
    EXPECT_TRUE(report.error().text().starts_with("broken: ")) << report.error().text();
  }
}

TEST(Reports, WithWordsWhereNumbersBelongAreStillDrawn) {
  auto report = report_of("odd", {{{"name", 3}, {"value", "x"}, {"unit", nullptr}, {"samples", "y"}},
                                  {{"name", "curve"}, {"curve", {{"x", 1}, {"points", "z"}}}}});
  report.object["machine"] = {{"emulated", "perhaps"}};
  report.object["parameters"] = 7;
  const auto charts = charts_of(report);
  EXPECT_EQ(charts.size(), 2u);
  EXPECT_FALSE(csv_of(report).empty());
  EXPECT_FALSE(index_page({report}, {{"odd", charts}}).empty());
}

}  // namespace
}  // namespace synfluid::bench
