// Xen's libraries write their errors to stderr unless told otherwise; ours reach their callers as values.
//
// Threads: the logger has no state. Ownership: static.
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

extern "C" {
#include <xentoollog.h>
}

namespace synfluid::backend::xen {

/// A logger that drops everything; never freed.
inline xentoollog_logger* quiet_logger() {
  static xentoollog_logger logger{
      .vmessage = [](xentoollog_logger*, xentoollog_level, int, const char*, const char*, va_list) {},
      .progress = [](xentoollog_logger*, const char*, const char*, int, unsigned long, unsigned long) {},
      .destroy = [](xentoollog_logger*) {},
  };
  return &logger;
}

}  // namespace synfluid::backend::xen
