// rte_hash, with its own CRC hash, on memory of ours given to DPDK as an external heap: so that its pages are
// those of the others.
#include <atomic>
#include <string>

#include <fmt/format.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_hash.h>
#include <rte_malloc.h>
#include <unistd.h>

#include "bench/contender.h"

namespace synfluid::bench {

namespace {

static_assert(kMostLookups == RTE_HASH_LOOKUP_BULK_MAX);

using flowtable::Pages;
using flowtable::PageSize;

Error dpdk_error(int code, std::string_view what) {
  return Error::from_errno(code < 0 ? -code : code, what);
}

/// Once per process: no huge pages, no devices, no files; only the allocator and rte_hash are wanted.
Status start_eal() {
  static bool started = false;
  if (started) return {};
  // The bench's one thread stays free to run on any core.
  const std::string lcores = fmt::format("0@(0-{})", sysconf(_SC_NPROCESSORS_ONLN) - 1);
  std::vector<std::string> words{"flowtable",      "--no-huge", "--no-pci", "--no-shconf",      "-m", "64",
                                 "--no-telemetry", "--lcores",  lcores,     "--log-level=error"};
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  if (rte_eal_init(static_cast<int>(argv.size()), argv.data()) < 0)
    return dpdk_error(rte_errno, "starting DPDK");
  started = true;
  return {};
}

/// A DPDK heap made of pages of ours.
class ExternalHeap {
 public:
  static Result<std::unique_ptr<ExternalHeap>> create(size_t bytes, PageSize page_size) {
    static std::atomic<unsigned> number{0};
    auto pages = Pages::map(bytes, page_size);
    if (!pages) return pages.error();
    std::unique_ptr<ExternalHeap> heap(new ExternalHeap(fmt::format("flows{}", number++), std::move(*pages)));
    if (rte_malloc_heap_create(heap->name_.c_str()) != 0) return dpdk_error(rte_errno, "creating a heap");
    const size_t unit = size_t{2} << 20;
    if (rte_malloc_heap_memory_add(heap->name_.c_str(), heap->pages_.data(), heap->pages_.size(), nullptr,
                                   static_cast<unsigned>(heap->pages_.size() / unit), unit) != 0)
      return dpdk_error(rte_errno, "adding memory to a heap");
    heap->added_ = true;
    return heap;
  }
  ~ExternalHeap() {
    if (added_) rte_malloc_heap_memory_remove(name_.c_str(), pages_.data(), pages_.size());
    rte_malloc_heap_destroy(name_.c_str());
  }
  int socket() const { return rte_malloc_heap_get_socket(name_.c_str()); }

 private:
  ExternalHeap(std::string name, Pages pages) : name_(std::move(name)), pages_(std::move(pages)) {}

  const std::string name_;
  const Pages pages_;
  bool added_ = false;
};

class RteHash final : public Contender {
 public:
  RteHash(std::unique_ptr<ExternalHeap> heap, rte_hash* table, size_t bytes)
      : heap_(std::move(heap)), table_(table), bytes_(bytes) {}
  ~RteHash() override { rte_hash_free(table_); }

  std::string_view name() const override { return "rte_hash"; }
  size_t add(std::span<const FlowKey> keys) override {
    size_t added = 0;
    for (const FlowKey& key : keys) added += rte_hash_add_key(table_, &key) >= 0;
    return added;
  }

  size_t lookup(std::span<const FlowKey> keys) override {
    const void* pointers[kMostLookups];
    int32_t positions[kMostLookups];
    for (size_t i = 0; i < keys.size(); ++i) pointers[i] = &keys[i];
    rte_hash_lookup_bulk(table_, pointers, static_cast<uint32_t>(keys.size()), positions);
    size_t found = 0;
    for (size_t i = 0; i < keys.size(); ++i) found += positions[i] >= 0;
    return found;
  }

  size_t churn(std::span<const FlowKey> opened, std::span<const FlowKey> closed) override {
    size_t done = opened.size() - lookup(opened);
    done += add(opened) + lookup(closed);
    for (const FlowKey& key : closed) done += rte_hash_del_key(table_, &key) >= 0;
    return done;
  }

  size_t memory_bytes() const override { return bytes_; }

 private:
  const std::unique_ptr<ExternalHeap> heap_;
  rte_hash* const table_;
  const size_t bytes_;
};

size_t heap_bytes_used(int socket) {
  rte_malloc_socket_stats stats{};
  return rte_malloc_get_socket_stats(socket, &stats) == 0 ? stats.heap_allocsz_bytes : 0;
}

}  // namespace

Result<std::unique_ptr<Contender>> make_rte_hash(const ContenderConfig& config) {
  if (Status started = start_eal(); !started) return started.error();
  // 64 bytes of buckets per 8 slots, 48 of key and 4 of free list (a power of two of them) per slot.
  constexpr size_t kBytesPerSlot = 8 + 48 + 8;
  constexpr size_t kRoom = size_t{16} << 20;
  auto heap = ExternalHeap::create(config.capacity * kBytesPerSlot + kRoom, config.pages);
  if (!heap) return heap.error();
  static unsigned number = 0;
  const std::string name = fmt::format("flows{}", number++);
  rte_hash_parameters parameters{};
  parameters.name = name.c_str();
  parameters.entries = config.capacity;
  parameters.key_len = sizeof(FlowKey);
  parameters.socket_id = (*heap)->socket();
  rte_hash* table = rte_hash_create(&parameters);
  if (table == nullptr) return dpdk_error(rte_errno, "creating an rte_hash");
  const size_t bytes = heap_bytes_used(parameters.socket_id);
  return std::unique_ptr<Contender>(new RteHash(std::move(*heap), table, bytes));
}

}  // namespace synfluid::bench
