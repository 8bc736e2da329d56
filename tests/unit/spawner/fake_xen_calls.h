// A Xen of ordinary memory, for tests: keeps domains, their pages, maps and grants, and knows what is held.
//
// Threads: one.
#pragma once

#include <algorithm>
#include <bit>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "spawner/toolstack/pv_image.h"
#include "spawner/toolstack/xen_calls.h"

namespace synfluid::spawner::toolstack {

class FakeXenCalls : public XenCalls {
 public:
  static constexpr uint64_t kFirstFrame = 0x1000;
  static constexpr uint64_t kFrames = 4096;
  static constexpr uint32_t kGrants = 512;

  /// As Xen's public grant_table.h has it, version 1.
  struct GrantEntry {
    uint16_t flags;
    uint16_t domid;
    uint32_t frame;
  };

  struct Domain {
    DomainHandle handle = {};
    bool has_vcpu = false;
    uint64_t page_limit = 0;
    std::map<uint64_t, uint64_t> pages;  ///< pfn to frame
    uint64_t shared_info = 0;
    std::optional<VcpuStart> context;
    uint64_t grant_frame = 0;
    bool running = false;
    bool shut_down = false;
    bool crashed = false;
  };

  FakeXenCalls() : memory_(kFrames * kPageBytes), used_(kFrames, false) {}

  // What a test looks at and sets up.
  std::map<DomId, Domain> domains;
  unsigned max_order = 20;  ///< larger pieces are refused, as when memory is in small pieces
  uint64_t free_frames() const {
    return static_cast<uint64_t>(std::count(used_.begin(), used_.end(), false));
  }
  size_t open_maps() const { return maps_.size(); }
  std::span<const GrantEntry> grants(DomId domid) {
    return {reinterpret_cast<const GrantEntry*>(frame(domains.at(domid).grant_frame)), kGrants};
  }
  std::byte* frame(uint64_t frame) { return memory_.data() + (frame - kFirstFrame) * kPageBytes; }

  Status create_domain(DomId domid, const DomainHandle& handle) override {
    if (domains.contains(domid)) return Error(ErrorCode::kConflict, "domain id in use");
    if (free_frames() < 2) return Error(ErrorCode::kNoMemory, "no memory");
    Domain domain;
    domain.handle = handle;
    domain.shared_info = take_frames(0).value();
    domain.grant_frame = take_frames(0).value();
    std::memset(frame(domain.shared_info), 0, kPageBytes);
    std::memset(frame(domain.grant_frame), 0, kPageBytes);
    domains.emplace(domid, std::move(domain));
    return {};
  }

  Status destroy_domain(DomId domid) override {
    const auto found = domains.find(domid);
    if (found == domains.end()) return Error(ErrorCode::kNotFound, "no such domain");
    give_back(found->second.shared_info);
    give_back(found->second.grant_frame);
    for (const auto& [pfn, frame_number] : found->second.pages) give_back(frame_number);
    domains.erase(found);
    return {};
  }

  Result<Outfit> equip(DomId domid, uint64_t page_limit, std::span<MemoryPiece> memory) override {
    Domain& domain = domains.at(domid);
    domain.has_vcpu = true;
    domain.page_limit = page_limit;
    for (MemoryPiece& piece : memory)
      if (const auto frame = populate(domid, piece.pfn, piece.order)) piece.frame = *frame;
    return Outfit{.shared_info_frame = domain.shared_info, .grant_frame = domain.grant_frame};
  }

  Result<uint64_t> populate(DomId domid, uint64_t pfn, unsigned order) override {
    Domain& domain = domains.at(domid);
    const uint64_t pages = 1ull << order;
    if (domain.pages.size() + pages > domain.page_limit) return Error(ErrorCode::kNoMemory, "over the limit");
    if (order > max_order) return Error(ErrorCode::kNoMemory, "no piece so large");
    const auto first = take_frames(order);
    if (!first) return Error(ErrorCode::kNoMemory, "no memory");
    for (uint64_t i = 0; i < pages; ++i) domain.pages[pfn + i] = *first + i;
    return *first;
  }

  Result<std::byte*> map_frames(DomId, std::span<const uint64_t> frames) override {
    auto copy = std::make_unique<std::byte[]>(frames.size() * kPageBytes);
    for (size_t i = 0; i < frames.size(); ++i)
      std::memcpy(copy.get() + i * kPageBytes, frame(frames[i]), kPageBytes);
    std::byte* address = copy.get();
    maps_.emplace(address, Map{std::move(copy), {frames.begin(), frames.end()}});
    return address;
  }

  /// What was written to a map is in memory from now on.
  void unmap_frames(std::byte* address, size_t) override {
    const auto found = maps_.find(address);
    const Map& map = found->second;
    for (size_t i = 0; i < map.frames.size(); ++i)
      std::memcpy(frame(map.frames[i]), address + i * kPageBytes, kPageBytes);
    maps_.erase(found);
  }

  Status set_context(DomId domid, const VcpuStart& start) override {
    if (!maps_.empty()) return Error(ErrorCode::kSystem, "a page table is still mapped writable");
    domains.at(domid).context = start;
    return {};
  }

  Status unpause(DomId domid) override {
    domains.at(domid).running = true;
    return {};
  }

  Result<std::vector<DomainInfo>> list_domains(DomId first, uint32_t max) override {
    std::vector<DomainInfo> infos;
    for (auto at = domains.lower_bound(first); at != domains.end() && infos.size() < max; ++at) {
      DomainInfo info;
      info.domid = at->first;
      info.handle = at->second.handle;
      info.shut_down = at->second.shut_down;
      info.crashed = at->second.crashed;
      info.pages = at->second.pages.size();
      infos.push_back(info);
    }
    return infos;
  }
  Result<uint64_t> free_memory() override { return free_frames() * kPageBytes; }

 private:
  struct Map {
    std::unique_ptr<std::byte[]> copy;
    std::vector<uint64_t> frames;
  };

  std::optional<uint64_t> take_frames(unsigned order) {
    const uint64_t pages = 1ull << order;
    for (uint64_t at = 0; at + pages <= kFrames; at += pages) {
      const auto first = used_.begin() + static_cast<ptrdiff_t>(at);
      if (std::find(first, first + static_cast<ptrdiff_t>(pages), true) !=
          first + static_cast<ptrdiff_t>(pages)) {
        continue;
      }
      std::fill_n(first, pages, true);
      std::memset(frame(kFirstFrame + at), 0xdb,
                  pages * kPageBytes);  // what a domain before it may have left
      return kFirstFrame + at;
    }
    return std::nullopt;
  }
  void give_back(uint64_t frame_number) { used_[frame_number - kFirstFrame] = false; }

  std::vector<std::byte> memory_;
  std::vector<bool> used_;
  std::map<std::byte*, Map> maps_;
};

}  // namespace synfluid::spawner::toolstack
