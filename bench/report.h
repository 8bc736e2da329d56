// What every bench program prints: a table for people, one JSON object for programs.
//
//   { "bench": "flowtable", "machine": {…}, "build": {…}, "clock": "wall", "parameters": {…},
//     "figures": [ { "name": "hit_1m", "value": 61.2, "unit": "M/s", "spread": 0.9, "samples": […],
//                    "peer": "rte_hash", "peer_value": 27.5, "ratio": 2.22 } ] }
//
// `value` is the median of `samples`, `spread` their interquartile range, in the figure's unit. The three
// peer fields are there only where the figure has a peer, measured in the same run. A build that is not
// optimised, or a machine that is emulated, says so in `build` and `machine`, and in a warning before the
// table.
//
// Threads: one. Ownership: values. Errors: a file that cannot be written.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/result.h"

namespace synfluid::bench {

/// What a bench's figures were measured with.
enum class ClockKind { kWall, kCycles, kInstructions };

double median(std::vector<double> samples);
/// Third quartile minus first.
double interquartile_range(std::vector<double> samples);

struct PeerValue {
  std::string name;
  double value = 0;  ///< in the figure's unit, or in the unit of what the ratio compares
  double ratio = 0;  ///< ours to the peer's, so that more is better
};

/// The same measurement at several values of one parameter. In JSON: "curve": {"x": name, "points": [[x,
/// y]]}.
struct Curve {
  std::string x;  ///< what the parameter is, with its unit: "clients", "nodes"
  std::vector<std::pair<double, double>> points;  ///< parameter, and the value in the figure's unit
};

struct Figure {
  std::string name;
  double value = 0;
  std::string unit;
  double spread = 0;
  std::optional<PeerValue> peer{};
  std::vector<double> samples{};
  std::optional<Curve> curve{};

  static Figure of(std::string name, std::string unit, std::vector<double> samples);
};

class Report {
 public:
  Report(std::string bench, ClockKind clock);

  void set_parameter(const std::string& name, nlohmann::json value);
  void add(Figure figure);

  nlohmann::json to_json() const;
  /// The table goes to standard output, or to standard error where `json_path` is "-" and the object takes
  /// its place. An empty path writes no object.
  Status write(const std::string& json_path) const;

 private:
  std::string table() const;

  const std::string bench_;
  const ClockKind clock_;
  nlohmann::json parameters_ = nlohmann::json::object();
  std::vector<Figure> figures_;
};

}  // namespace synfluid::bench
