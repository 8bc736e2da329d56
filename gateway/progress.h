// How far a long run is, on stderr: a bar on a terminal, a line every few seconds elsewhere.
//
// Threads: one. Costs one clock comparison per call unless it is time to draw.
#pragma once

#include <cstdint>
#include <string>

namespace synfluid::gateway {

class Progress {
 public:
  Progress(std::string what, uint64_t total);
  /// Ends the line of a bar that was drawn.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void at(uint64_t done, int64_t now_ns);

 private:
  void draw(uint64_t done);

  const std::string what_;
  const uint64_t total_;
  const bool terminal_;
  int64_t next_ns_ = 0;
  bool drawn_ = false;
};

}  // namespace synfluid::gateway
