// Inline: every frame goes back out as it came, from the page it came in.
#include "guest/services/service.h"

namespace synfluid::guest {
namespace {

class Passthrough final : public Service {
 public:
  explicit Passthrough(net::Netfront& netfront) : netfront_(netfront) {}

  void on_frame(const net::RxFrame& frame, uint64_t) override {
    if (netfront_.forward(frame)) return;
    ++counters_.dropped;
    netfront_.recycle(frame);
  }
  void on_buffers(uint64_t) override {}
  bool wants_buffers() const override { return false; }
  void run_timers(uint64_t) override {}
  uint64_t next_deadline_ns() const override { return kNever; }
  ServiceCounters counters() const override { return counters_; }

 private:
  net::Netfront& netfront_;
  ServiceCounters counters_;
};

}  // namespace

Service* make_passthrough(const ServiceParts& parts) {
  return parts.arena.make<Passthrough>(parts.netfront);
}

}  // namespace synfluid::guest
