#include "spawner/faulty_hypervisor.h"

#include <fmt/format.h>

namespace synfluid::spawner {
namespace {

class FaultyVm final : public Vm {
 public:
  FaultyVm(std::unique_ptr<Vm> inner, FaultPlan& faults) : inner_(std::move(inner)), faults_(faults) {}

  VmId id() const override { return inner_->id(); }
  Status start() override {
    if (Status step = faults_.step("start"); !step) return step;
    return inner_->start();
  }
  Status set_doorbell(WorkerId worker, backend::DoorbellToken doorbell) override {
    if (Status step = faults_.step("set_doorbell"); !step) return step;
    return inner_->set_doorbell(worker, doorbell);
  }
  std::unique_ptr<backend::GuestLink> take_link() override {
    if (!faults_.step("take_link")) return nullptr;
    return inner_->take_link();
  }
  bool link_ready() const override { return inner_->link_ready(); }
  Result<std::string> console() override { return inner_->console(); }

  std::unique_ptr<Vm> take_inner() { return std::move(inner_); }

 private:
  std::unique_ptr<Vm> inner_;
  FaultPlan& faults_;
};

}  // namespace

Status FaultPlan::step(std::string_view what) {
  const uint32_t number = steps_.fetch_add(1) + 1;
  if (number != fail_at_.load()) return {};
  return Error(ErrorCode::kSystem, fmt::format("injected fault at step {}: {}", number, what));
}

Result<std::unique_ptr<PreparedImage>> FaultyHypervisor::prepare(const ImageSpec& spec) {
  if (const Status step = faults_.step("prepare"); !step) return step.error();
  return inner_.prepare(spec);
}

Result<std::unique_ptr<Vm>> FaultyHypervisor::create(const PreparedImage& image, const VmConfig& config) {
  if (const Status step = faults_.step("create"); !step) return step.error();
  Result<std::unique_ptr<Vm>> vm = inner_.create(image, config);
  if (!vm) return vm.error();
  return std::unique_ptr<Vm>(std::make_unique<FaultyVm>(std::move(*vm), faults_));
}

void FaultyHypervisor::destroy_many(std::vector<std::unique_ptr<Vm>> vms) {
  for (auto& vm : vms) vm = static_cast<FaultyVm&>(*vm).take_inner();
  inner_.destroy_many(std::move(vms));
}

Result<uint64_t> FaultyHypervisor::memory_left() {
  if (const Status step = faults_.step("memory_left"); !step) return step.error();
  return inner_.memory_left();
}

Result<uint32_t> FaultyHypervisor::sweep() {
  if (const Status step = faults_.step("sweep"); !step) return step.error();
  return inner_.sweep();
}

}  // namespace synfluid::spawner
