// The spawner as a worker sees it: a waist of six calls, so that a test can stand in for it.
//
// Implementations: SpawnerPort over spawner/worker_port.h; a scripted one in tests/sim. Threads: the
// worker's. Ownership: as in spawner/spawner.h; request() and give_back() take what they are given only when
// they return true.
#pragma once

#include <optional>

#include "spawner/worker_port.h"

namespace synfluid::gateway {

class SpawnPort {
 public:
  virtual ~SpawnPort() = default;
  virtual bool request(spawner::SpawnRequest&& request) = 0;
  virtual bool give_back(spawner::VmReturn&& vm) = 0;
  virtual std::optional<spawner::SpawnReply> next_reply() = 0;
  virtual std::optional<spawner::VmLost> next_lost() = 0;
  /// To sleep on; -1 if there is none.
  virtual int wake_fd() const noexcept = 0;
  virtual void before_sleep() noexcept = 0;
};

class SpawnerPort final : public SpawnPort {
 public:
  explicit SpawnerPort(spawner::WorkerPort& port) : port_(port) {}
  bool request(spawner::SpawnRequest&& request) override { return port_.request(std::move(request)); }
  bool give_back(spawner::VmReturn&& vm) override { return port_.give_back(std::move(vm)); }
  std::optional<spawner::SpawnReply> next_reply() override { return port_.next_reply(); }
  std::optional<spawner::VmLost> next_lost() override { return port_.next_lost(); }
  int wake_fd() const noexcept override { return port_.wake_fd(); }
  void before_sleep() noexcept override { port_.before_sleep(); }

 private:
  spawner::WorkerPort& port_;
};

}  // namespace synfluid::gateway
