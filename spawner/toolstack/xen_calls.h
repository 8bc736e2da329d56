// What the toolstack asks of Xen, and nothing more: one call here is one step that may fail.
//
// LibXenCalls is the real one; tests use a fake that tracks what is held, and FailingXenCalls fails the n-th
// call of either. The domain builder sees only this interface.
//
// Threads: one thread at a time. Ownership: what create_domain(), map_frames() and map_grant_table() give
// must be given back by destroy_domain(), unmap_frames() and unmap_grant_table(); domain_builder.h wraps them
// so that they are. Event channels, grants and memory of a domain go with the domain. Units: machine frames
// and pages of 4 KiB. Errors: kConflict for a domain id in use, kNoMemory, kExhausted, kPermission,
// kUnavailable; each names its call.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/strong_id.h"

namespace synfluid::spawner::toolstack {

/// Xen keeps 16 bytes for the toolstack with every domain.
using DomainHandle = std::array<uint8_t, 16>;

struct VcpuStart {
  uint64_t entry = 0;
  uint64_t l4_frame = 0;
  uint64_t start_info = 0;  ///< its address, for %rsi
};

struct DomainInfo {
  DomId domid = {};
  DomainHandle handle = {};
  bool dying = false;
  bool shut_down = false;
  bool crashed = false;  ///< shut down, and not of its own will
  uint64_t pages = 0;
  uint64_t cpu_time_ns = 0;  ///< of its vCPUs, with what Xen did for them
};

/// 2^order contiguous pages of a domain from `pfn` on.
struct MemoryPiece {
  uint32_t pfn = 0;
  unsigned order = 0;
  std::optional<uint64_t> frame = {};  ///< the first; empty until it is populated
};

/// The most pieces that equip() takes: two runs of pages, each with one piece of each size up to 32 MiB.
inline constexpr size_t kMaxPieces = 28;

/// What a new domain has been given in one go, beside its memory.
struct Outfit {
  uint64_t shared_info_frame = 0;
  uint64_t grant_frame = 0;  ///< the grant table, version 1: one frame of 512 entries
};

/// What a domain is ended by.
class DomainEnder {
 public:
  virtual ~DomainEnder() = default;
  virtual Status destroy_domain(DomId domid) = 0;
  /// Many in one go. Returns those that have to be asked for again: Xen has not come to their end.
  virtual std::vector<DomId> destroy_domains(std::span<const DomId> domids);
};

/// Xen has begun to end a domain and wants to be asked again. (4.17 goes on by itself within one call.)
bool is_still_dying(const Status& destroyed);

class XenCalls : public DomainEnder {
 public:
  /// A paused, empty PV domain under this very id.
  virtual Status create_domain(DomId domid, const DomainHandle& handle) = 0;

  /// A vCPU, the memory limit, a claim on all memory up to it, and the pieces of it that are asked for: those
  /// that Xen has not in one piece stay empty, and can be had in smaller ones.
  virtual Result<Outfit> equip(DomId domid, uint64_t page_limit, std::span<MemoryPiece> memory) = 0;

  /// Gives the domain 2^order contiguous frames at page `pfn`; returns the first frame.
  virtual Result<uint64_t> populate(DomId domid, uint64_t pfn, unsigned order) = 0;

  virtual Result<std::byte*> map_frames(DomId domid, std::span<const uint64_t> frames) = 0;
  virtual void unmap_frames(std::byte* address, size_t pages) = 0;

  /// Xen checks the page tables here: none of their pages may be mapped writable any more.
  virtual Status set_context(DomId domid, const VcpuStart& start) = 0;

  virtual Status unpause(DomId domid) = 0;

  /// Up to `max` domains from id `first` on, ascending.
  virtual Result<std::vector<DomainInfo>> list_domains(DomId first, uint32_t max) = 0;

  /// Bytes that Xen has not given to anybody.
  virtual Result<uint64_t> free_memory() = 0;
};

/// Opens the libraries' handles. Errors: kUnavailable on a host without Xen, kPermission for others than
/// root.
Result<std::unique_ptr<XenCalls>> open_xen_calls();

}  // namespace synfluid::spawner::toolstack
