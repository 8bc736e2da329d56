// A line of text put together without a heap or a libc, for the death note.
#pragma once

#include <cstddef>
#include <cstdint>

namespace synfluid::guest::xen_pv {

class Note {
 public:
  Note& text(const char* words) {
    while (*words != '\0') add(*words++);
    return *this;
  }

  /// In hexadecimal, with 0x.
  Note& number(uint64_t value) {
    text("0x");
    bool started = false;
    for (int shift = 60; shift >= 0; shift -= 4) {
      const auto digit = static_cast<unsigned>(value >> shift) & 0xf;
      started = started || digit != 0 || shift == 0;
      if (started) add("0123456789abcdef"[digit]);
    }
    return *this;
  }

  const char* c_str() const { return line_; }

 private:
  void add(char c) {
    if (used_ + 1 < sizeof(line_)) line_[used_++] = c;
  }

  char line_[96] = {};
  size_t used_ = 0;
};

}  // namespace synfluid::guest::xen_pv
