// One of the store daemons, started for a bench and ended with it.
//
// Threads: one. Ownership: the process is killed, and its folder removed, when the object goes. Errors: a
// daemon that is not there or does not start is kUnavailable.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <sys/types.h>

#include "base/result.h"

namespace synfluid::bench {

/// How a daemon is started. In the words, {dir} is its folder, {socket} where our own listens.
struct StoreKind {
  std::string name;
  std::vector<std::string> words;
  std::string config;               ///< written to {dir}/config
  bool lives_in_one_place = false;  ///< takes the standard socket, whatever it is told
};

/// xenstored, oxenstored, synfluid-store, and synfluid-store on LMDB, with the quotas out of the way.
std::vector<StoreKind> all_stores(const std::string& our_program);

class StoreDaemon {
 public:
  static Result<StoreDaemon> start(const StoreKind& kind);
  StoreDaemon(StoreDaemon&& other) noexcept;
  StoreDaemon& operator=(StoreDaemon&&) = delete;
  ~StoreDaemon();

  const std::string& socket() const { return socket_; }
  /// What the process has had of the CPU, after it has gone back to sleep.
  int64_t cpu_ns() const;
  /// Memory that is the process's alone.
  uint64_t private_bytes() const;

 private:
  StoreDaemon(std::string folder, pid_t pid) : folder_(std::move(folder)), pid_(pid) {}
  Status wait_for_socket(const StoreKind& kind);

  std::string folder_;
  pid_t pid_;
  std::string socket_{};
};

}  // namespace synfluid::bench
