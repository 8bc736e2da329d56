// A piece of memory that the host shares with one guest process: a sealed memfd, mapped.
//
// The seals keep whoever holds the descriptor from shrinking the memory under the host's feet (SIGBUS).
// Threads: one owner. Ownership: unmapped and closed by the destructor. Units: bytes, whole pages.
// Errors: Result with the system's words. Source: memfd_create(2), fcntl(2) on F_ADD_SEALS.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace synfluid::backend {

class SharedMemory {
 public:
  /// Zeroed memory. `name` shows up in /proc/PID/maps.
  static Result<SharedMemory> create(const std::string& name, size_t bytes);

  SharedMemory(SharedMemory&& other) noexcept;
  SharedMemory& operator=(SharedMemory&& other) noexcept;
  ~SharedMemory();

  std::span<std::byte> bytes() const noexcept { return bytes_; }
  /// To be passed to the guest; -1 once given up.
  int fd() const noexcept { return fd_.get(); }
  /// The mapping stays; thousands of guests need not cost a descriptor each.
  void close_fd() noexcept { fd_.reset(); }

 private:
  SharedMemory(UniqueFd fd, std::span<std::byte> bytes) : fd_(std::move(fd)), bytes_(bytes) {}

  UniqueFd fd_;
  std::span<std::byte> bytes_;
};

}  // namespace synfluid::backend
