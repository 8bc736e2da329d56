// A capture that can be read from its beginning as often as a replay wants.
//
// A regular file is read where it lies. What comes through a pipe ("-" is stdin; a FIFO, a device) is first
// read to its end and kept in a temporary file without a name ($TMPDIR, or /tmp), which goes with the object
// or the process. Threads: one. Ownership: of the temporary file. Errors: what cannot be opened, or kept.
#pragma once

#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace synfluid::gateway {

class TraceFile {
 public:
  static Result<TraceFile> open(const std::string& path);

  /// What people call it.
  const std::string& name() const { return name_; }
  /// Where it can be opened.
  const std::string& path() const { return path_; }

 private:
  TraceFile(std::string name, std::string path, UniqueFd kept);

  std::string name_;
  std::string path_;
  UniqueFd kept_;
};

}  // namespace synfluid::gateway
