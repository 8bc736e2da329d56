#include "bench/plot/svg.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string_view>

#include <fmt/format.h>

namespace synfluid::bench {

namespace {

constexpr double kWidth = 760;
constexpr double kHeight = 440;
constexpr double kTop = 44;
constexpr double kLeft = 76;
constexpr double kRight = 20;
constexpr double kBottom = 56;
constexpr double kLegendRow = 18;
constexpr double kBarRow = 26;
constexpr double kGlyph = 6.6;  ///< width of a letter at the label's size
constexpr size_t kTicksWanted = 6;

// Told apart by people who do not see red or green, and in grey.
constexpr std::array<std::string_view, 8> kColours = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                                      "#e69f00", "#56b4e9", "#555555", "#8b5e3c"};

std::string_view colour(size_t index) {
  return kColours[index % kColours.size()];
}

std::string number(double value) {
  return fmt::format("{:.4g}", value);
}

std::string text_at(double x, double y, std::string_view anchor, const std::string& words,
                    std::string_view more = "") {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\"{}>{}</text>\n", x, y, anchor, more,
                     escaped(words));
}

std::string line(double x1, double y1, double x2, double y2, std::string_view style) {
  return fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" {}/>\n", x1, y1, x2, y2,
                     style);
}

constexpr std::string_view kGrid = "stroke=\"#dddddd\"";
constexpr std::string_view kFrame = "stroke=\"#333333\"";

/// Values on one axis, and where they fall on the paper.
class Axis {
 public:
  Axis(Scale scale, double from, double to) : scale_(scale), from_(from), to_(to) {}

  bool shows(double value) const { return std::isfinite(value) && (scale_ == Scale::kLinear || value > 0); }
  void include(double value) {
    if (!shows(value)) return;
    low_ = std::min(low_, value);
    high_ = std::max(high_, value);
  }
  /// After the last include(): room around the values, and no axis without extent.
  void settle() {
    if (low_ > high_) low_ = high_ = 1;
    if (scale_ == Scale::kLogarithmic) {
      low_ = std::pow(10, std::floor(std::log10(low_)));
      high_ = std::max(low_ * 10, std::pow(10, std::ceil(std::log10(high_))));
      return;
    }
    low_ = std::min(low_, 0.0);
    high_ += (high_ - low_) * 0.05;
    if (high_ <= low_) high_ = low_ + 1;
  }
  double at(double value) const {
    const double fraction = scale_ == Scale::kLinear ? (value - low_) / (high_ - low_)
                                                     : std::log(value / low_) / std::log(high_ / low_);
    return from_ + fraction * (to_ - from_);
  }
  std::vector<double> marks() const { return ticks(low_, high_, scale_); }

 private:
  Scale scale_;
  double from_;
  double to_;
  double low_ = std::numeric_limits<double>::infinity();
  double high_ = -std::numeric_limits<double>::infinity();
};

std::string opening(double width, double height, const std::string& title) {
  return fmt::format(
             "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0:.0f} {1:.0f}\" width=\"{0:.0f}\" "
             "height=\"{1:.0f}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#222222\">\n"
             "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n",
             width, height) +
         text_at(width / 2, kTop / 2 + 4, "middle", title, " font-size=\"15\" font-weight=\"bold\"");
}

std::string draw_series(const Series& series, const Axis& x, const Axis& y, size_t index) {
  std::string path;
  std::string dots;
  const bool few = series.points.size() <= 40;
  for (const auto& [px, py] : series.points) {
    if (!x.shows(px) || !y.shows(py)) continue;
    path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : " L", x.at(px), y.at(py));
    if (few)
      dots += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\" fill=\"{}\"/>\n", x.at(px), y.at(py),
                          colour(index));
  }
  if (path.empty()) return {};
  return fmt::format("<path d=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.4\"/>\n", path,
                     colour(index)) +
         dots;
}

std::string legend(const std::vector<Series>& series, double top) {
  std::string out;
  for (size_t i = 0; i < series.size(); ++i) {
    const double y = top + kLegendRow * static_cast<double>(i);
    out += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"14\" height=\"4\" fill=\"{}\"/>\n", kLeft,
                       y - 6, colour(i));
    out += text_at(kLeft + 20, y, "start", series[i].name);
  }
  return out;
}

}  // namespace

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '&':
        out += "&amp;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::vector<double> ticks(double low, double high, Scale scale) {
  std::vector<double> found;
  if (!(high > low)) return {low};
  if (scale == Scale::kLogarithmic) {
    const double last = std::floor(std::log10(high) + 1e-9);
    for (double power = std::ceil(std::log10(low) - 1e-9); power <= last; ++power)
      found.push_back(std::pow(10, power));
    return found;
  }
  const double raw = (high - low) / kTicksWanted;
  const double magnitude = std::pow(10, std::floor(std::log10(raw)));
  double step = magnitude * 10;
  for (const double nice : {5.0, 2.0, 1.0})
    if (magnitude * nice >= raw) step = magnitude * nice;
  // Nought is never written as less than nothing.
  for (double i = std::ceil(low / step - 1e-9) + 0.0; i * step <= high * (1 + 1e-9); ++i)
    found.push_back(i * step);
  return found;
}

std::string draw(const LineChart& chart) {
  const double legend_top = kTop + kHeight + kBottom + kLegendRow / 2;
  const double height = legend_top + kLegendRow * static_cast<double>(chart.series.size());
  Axis x(chart.x_scale, kLeft, kWidth - kRight);
  Axis y(chart.y_scale, kTop + kHeight, kTop);
  for (const Series& series : chart.series)
    for (const auto& [px, py] : series.points) {
      x.include(px);
      y.include(py);
    }
  x.settle();
  y.settle();
  std::string out = opening(kWidth, height, chart.title);
  for (const double mark : y.marks()) {
    out += line(kLeft, y.at(mark), kWidth - kRight, y.at(mark), kGrid);
    out += text_at(kLeft - 6, y.at(mark) + 4, "end", number(mark));
  }
  for (const double mark : x.marks()) {
    out += line(x.at(mark), kTop, x.at(mark), kTop + kHeight, kGrid);
    out += text_at(x.at(mark), kTop + kHeight + 16, "middle", number(mark));
  }
  out += line(kLeft, kTop, kLeft, kTop + kHeight, kFrame);
  out += line(kLeft, kTop + kHeight, kWidth - kRight, kTop + kHeight, kFrame);
  out += text_at((kLeft + kWidth - kRight) / 2, kTop + kHeight + 38, "middle", chart.x_label);
  out += text_at(18, kTop + kHeight / 2, "middle", chart.y_label,
                 fmt::format(" transform=\"rotate(-90 18 {:.1f})\"", kTop + kHeight / 2));
  for (size_t i = 0; i < chart.series.size(); ++i) out += draw_series(chart.series[i], x, y, i);
  return out + legend(chart.series, legend_top) + "</svg>\n";
}

std::string draw(const BarChart& chart) {
  size_t longest = 0;
  for (const Bar& bar : chart.bars) longest = std::max(longest, bar.name.size());
  const double left = 16 + kGlyph * static_cast<double>(longest);
  const double bottom = kTop + kBarRow * static_cast<double>(chart.bars.size());
  constexpr double kValueRoom = 64;
  const double width = std::max(kWidth, left + 300);
  Axis axis(chart.scale, left, width - kValueRoom);
  for (const Bar& bar : chart.bars) axis.include(bar.value + bar.spread / 2);
  for (const Bar& bar : chart.bars) axis.include(bar.value);
  axis.settle();
  std::string out = opening(width, bottom + kBottom, chart.title);
  const std::vector<double> marks = axis.marks();
  for (const double mark : marks) {
    out += line(axis.at(mark), kTop, axis.at(mark), bottom, kGrid);
    out += text_at(axis.at(mark), bottom + 16, "middle", number(mark));
  }
  for (size_t i = 0; i < chart.bars.size(); ++i) {
    const Bar& bar = chart.bars[i];
    const double top = kTop + kBarRow * static_cast<double>(i);
    out += text_at(left - 6, top + kBarRow / 2 + 4, "end", bar.name);
    if (!axis.shows(bar.value)) continue;
    const double end = axis.at(bar.value);
    out += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" fill=\"{}\"/>\n",
                       left, top + 4, std::max(1.0, end - left), kBarRow - 8, colour(bar.colour));
    if (bar.spread > 0 && axis.shows(bar.value - bar.spread / 2))
      out += line(axis.at(bar.value - bar.spread / 2), top + kBarRow / 2, axis.at(bar.value + bar.spread / 2),
                  top + kBarRow / 2, kFrame);
    out +=
        text_at(axis.at(bar.value + bar.spread / 2) + 5, top + kBarRow / 2 + 4, "start", number(bar.value));
  }
  out += line(left, kTop, left, bottom, kFrame);
  out += text_at((left + width - kValueRoom) / 2, bottom + 38, "middle", chart.label);
  return out + "</svg>\n";
}

}  // namespace synfluid::bench
