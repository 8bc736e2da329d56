// The spawner without its thread: requests to VMs, VMs to pools and to teardown. Private to the room.
//
// Threads: one at a time, the spawner's. Each worker's rings are used from the spawner's end only, but in
// retire(). Bounded: a turn takes at most kRequestsPerTurn requests of each worker, and requests only as long
// as their replies have room. The dying wait for a turn without requests, in which one batch of them goes; of
// more than kMostDying, as many go in every turn as were asked for, so that neither starves the other.
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "spawner/log_limiter.h"
#include "spawner/pool_size.h"
#include "spawner/spawner.h"
#include "spawner/vm_record.h"
#include "spawner/worker_port.h"

namespace synfluid::spawner {

struct AtomicSpawnerCounters {
  std::atomic<uint64_t> requests{0}, served_cold{0}, served_pooled{0}, shared{0}, failed{0}, spawned{0},
      destroyed{0}, crashed{0}, exited{0}, vms{0}, peak{0};
};

/// One writer: no locked instruction.
inline void count(std::atomic<uint64_t>& counter) {
  counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

class LifeCycle {
 public:
  LifeCycle(const Spawner::Config& config, std::vector<std::unique_ptr<WorkerPort>>& ports);
  ~LifeCycle();

  bool step();
  std::optional<int64_t> next_deadline_ns();

  Result<std::shared_ptr<const ServiceSet>> prepare(std::shared_ptr<const policies::Policy> policy);
  void activate(std::shared_ptr<const ServiceSet> services);
  void drain();
  void retire(WorkerId worker);
  /// Destroys everything. Precondition: no worker uses its port any more.
  void shut_down();

  std::vector<VmInfo> snapshot() const;
  Result<std::string> console(DomId domid) const;
  const AtomicSpawnerCounters& counters() const { return counters_; }

 private:
  struct Pool {
    PoolSize size;
    std::deque<VmRecord*> ready;
    uint32_t building = 0;  // foreign ones that have not connected yet
  };

  // One turn.
  bool take_events();
  bool take_returns();
  int take_requests();
  bool expire();
  bool tend_dying(int asked);
  bool tend_pools();
  bool send_lost();

  // Requests (life_cycle_requests.cc).
  void handle(WorkerId worker, SpawnRequest request);
  bool answer_from_scope(WorkerId worker, SpawnRequest& request, const ScopeKey& key);
  void answer_shared(WorkerId worker, SpawnRequest request, const VmRecord& record);
  void build_for(WorkerId worker, SpawnRequest request, const std::optional<ScopeKey>& key);
  void serve(VmRecord& record, WorkerId worker, SpawnRequest request);
  Status hand_over(VmRecord& record, WorkerId worker, const SpawnRequest& request);
  void wait_for(VmRecord& record, WorkerId worker, SpawnRequest request);
  void answer_waiters(VmRecord& record);
  void fail_waiters(VmRecord& record, const Error& error);
  void fail(WorkerId worker, uint64_t cookie, const Error& error);
  bool make_room();

  // VMs.
  struct BuildOrder {
    std::shared_ptr<const ServiceSet> services;
    uint16_t service;
    WorkerId near;
    backend::DoorbellToken doorbell;
  };
  Result<VmRecord*> build(BuildOrder order);
  void handle(const VmEvent& event);
  void connected(VmRecord& record);
  void died(VmRecord& record, const VmEvent& event);
  void remove(VmRecord& record);
  void destroy_oldest_dying(size_t at_most);
  VmRecord* find(VmId id);

  // Pools (life_cycle_pools.cc).
  VmRecord* take_pooled(WorkerId worker, const SpawnRequest& request);
  uint32_t held(uint16_t service) const;
  bool shrink_one(int64_t now_ns);
  bool yield_memory(int64_t now_ns);
  bool has_memory_for(uint64_t bytes);
  bool fill_one(int64_t now_ns);
  void put_in_pool(VmRecord& record);
  void leave_pool(VmRecord& record);
  bool give_up_one_pooled();
  void empty_pools();
  bool is_active(const std::shared_ptr<const ServiceSet>& services) const { return services == active_; }
  bool at_max_vms(const ServiceSet& services) const;

  void drop_unused_sets();

  const Spawner::Config config_;
  std::vector<std::unique_ptr<WorkerPort>>& ports_;
  std::vector<std::shared_ptr<const ServiceSet>> sets_;
  std::shared_ptr<const ServiceSet> active_;
  bool draining_ = false;
  std::vector<Pool> pools_;  // by service index of active_

  std::unordered_map<VmId, std::unique_ptr<VmRecord>, VmIdHash> vms_;
  std::unordered_map<ScopeKey, VmRecord*, ScopeKeyHash> scopes_;
  std::deque<std::unique_ptr<VmRecord>> dying_;
  std::vector<VmRecord*> timed_;   // foreign ones with a deadline
  std::vector<uint32_t> waiting_;  // per worker: requests in `waiters`
  std::vector<std::deque<VmLost>> unsent_lost_;

  uint32_t next_generation_ = 1;
  uint32_t next_set_ = 1;
  uint16_t next_near_ = 0;
  int64_t next_fill_ns_ = 0;
  int64_t fill_backoff_ns_ = 0;
  int64_t next_memory_check_ns_ = 0;
  LogLimiter failure_log_;
  LogLimiter fill_log_;
  LogLimiter death_log_;
  AtomicSpawnerCounters counters_;
};

}  // namespace synfluid::spawner
