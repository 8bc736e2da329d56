// Charts as SVG text: lines over a number, and bars over names.
//
// A chart says what it shows; where its ticks fall, how wide its labels are and which colour a series has is
// decided here. Values that a logarithmic axis cannot show (zero and below) are left out of it.
//
// Threads: pure functions. Ownership: values. Units: whatever the chart's labels say. Errors: none; an empty
// chart is a frame with its title.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace synfluid::bench {

enum class Scale { kLinear, kLogarithmic };

struct Series {
  std::string name;
  std::vector<std::pair<double, double>> points;
};

struct LineChart {
  std::string title;
  std::string x_label;
  std::string y_label;
  Scale x_scale = Scale::kLinear;
  Scale y_scale = Scale::kLinear;
  std::vector<Series> series = {};
};

struct Bar {
  std::string name;
  double value = 0;
  double spread = 0;  ///< interquartile range, drawn around the value
  size_t colour = 0;  ///< bars that belong together share one
};

struct BarChart {
  std::string title;
  std::string label;  ///< of the values
  Scale scale = Scale::kLinear;
  std::vector<Bar> bars = {};
};

/// Ticks for an axis from `low` to `high`: round numbers, all inside it; powers of ten where logarithmic.
std::vector<double> ticks(double low, double high, Scale scale);

std::string draw(const LineChart& chart);
std::string draw(const BarChart& chart);

/// Text as it may stand in XML.
std::string escaped(const std::string& text);

}  // namespace synfluid::bench
