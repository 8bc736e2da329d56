#include "gateway/progress.h"

#include <algorithm>
#include <cstdio>

#include <fmt/format.h>
#include <unistd.h>

#include "base/clock.h"

namespace synfluid::gateway {

namespace {

constexpr int64_t kBarEveryNs = 100 * kNsPerMs;
constexpr int64_t kLineEveryNs = 5 * kNsPerSecond;
constexpr uint64_t kBarWidth = 40;

}  // namespace

Progress::Progress(std::string what, uint64_t total)
    : what_(std::move(what)), total_(std::max<uint64_t>(total, 1)), terminal_(isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() {
  if (terminal_ && drawn_) fmt::print(stderr, "\n");
}

void Progress::at(uint64_t done, int64_t now_ns) {
  if (next_ns_ == 0 && !terminal_) next_ns_ = now_ns + kLineEveryNs;  // a short run needs no lines
  if (now_ns < next_ns_ && done < total_) return;
  if (done >= total_ && !terminal_ && !drawn_) return;
  next_ns_ = now_ns + (terminal_ ? kBarEveryNs : kLineEveryNs);
  draw(std::min(done, total_));
}

void Progress::draw(uint64_t done) {
  drawn_ = true;
  const uint64_t percent = done * 100 / total_;
  if (!terminal_) {
    fmt::print(stderr, "{}: {} of {} packets ({}%)\n", what_, done, total_, percent);
    return;
  }
  const uint64_t filled = done * kBarWidth / total_;
  fmt::print(stderr, "\r{} [{}{}] {:>3}%", what_, std::string(filled, '#'),
             std::string(kBarWidth - filled, ' '), percent);
  std::fflush(stderr);
}

}  // namespace synfluid::gateway
