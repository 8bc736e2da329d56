// XenCalls that say how long each took.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/clock.h"
#include "spawner/toolstack/xen_calls.h"

namespace synfluid::bench {

class TimedXenCalls final : public spawner::toolstack::XenCalls {
 public:
  using DomainHandle = spawner::toolstack::DomainHandle;
  using DomainInfo = spawner::toolstack::DomainInfo;
  using MemoryPiece = spawner::toolstack::MemoryPiece;
  using Outfit = spawner::toolstack::Outfit;
  using VcpuStart = spawner::toolstack::VcpuStart;

  explicit TimedXenCalls(spawner::toolstack::XenCalls& inner) : inner_(inner) {}

  /// Milliseconds by the name of the call.
  const std::map<std::string, std::vector<double>>& samples() const { return samples_; }

  template <class Call>
  auto timed(const char* name, const Call& call) {
    const int64_t start = clock_.now_ns();
    auto result = call();
    samples_[name].push_back(static_cast<double>(clock_.now_ns() - start) / static_cast<double>(kNsPerMs));
    return result;
  }

  Status create_domain(DomId domid, const DomainHandle& handle) override {
    return timed("create", [&] { return inner_.create_domain(domid, handle); });
  }
  Status destroy_domain(DomId domid) override {
    return timed("destroy", [&] { return inner_.destroy_domain(domid); });
  }
  Result<Outfit> equip(DomId domid, uint64_t page_limit, std::span<MemoryPiece> memory) override {
    return timed("equip", [&] { return inner_.equip(domid, page_limit, memory); });
  }
  Result<uint64_t> populate(DomId domid, uint64_t pfn, unsigned order) override {
    return timed("memory", [&] { return inner_.populate(domid, pfn, order); });
  }
  Result<std::byte*> map_frames(DomId domid, std::span<const uint64_t> frames) override {
    return timed("map", [&] { return inner_.map_frames(domid, frames); });
  }
  void unmap_frames(std::byte* address, size_t pages) override {
    timed("unmap", [&] {
      inner_.unmap_frames(address, pages);
      return true;
    });
  }
  Status set_context(DomId domid, const VcpuStart& start) override {
    return timed("context", [&] { return inner_.set_context(domid, start); });
  }
  Status unpause(DomId domid) override {
    return timed("unpause", [&] { return inner_.unpause(domid); });
  }
  Result<std::vector<DomainInfo>> list_domains(DomId first, uint32_t max) override {
    return inner_.list_domains(first, max);
  }
  Result<uint64_t> free_memory() override { return inner_.free_memory(); }

 private:
  const SteadyClock clock_;
  spawner::toolstack::XenCalls& inner_;
  std::map<std::string, std::vector<double>> samples_;
};

}  // namespace synfluid::bench
