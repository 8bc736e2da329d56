#include "tests/lab/static_grants.h"

#include <cstddef>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "backend/vif.h"
#include "backend/xen/xen_link.h"
#include "base/abi/card.h"
#include "spawner/toolstack/libxenctrl.h"

namespace synfluid {
namespace {

using List = std::vector<abi::NetGref>;

// What the buffers of the area are used for.
constexpr uint32_t kControlRing = 0;
constexpr uint32_t kList = 1;
constexpr uint32_t kReceive = 2;
constexpr uint32_t kTransmit = 3;
constexpr uint32_t kLeftMapped = 4;
constexpr uint32_t kBuffersNeeded = 5;

constexpr size_t kFrameBytes = 1000;
/// More calls than any of the requests takes.
constexpr int kPatience = 8;

constexpr uint32_t gref(uint32_t buffer) {
  return abi::kFirstGrant + abi::kFirstBufferPage + buffer;
}

/// What only the guest, or Xen's control calls in its name, can do. Its pages are mapped by their frames: a
/// grant that anybody has mapped is good for every other map and copy, revoked or not.
class GuestsHand {
 public:
  GuestsHand(DomId guest, uint32_t pages)
      : guest_(guest),
        pages_(pages),
        xc_(xc_interface_open(nullptr, nullptr, 0)),
        memory_(xenforeignmemory_open(nullptr, 0)) {
    void* table = nullptr;
    table_map_ = xenforeignmemory_map_resource(memory_, guest.value(), XENMEM_resource_grant_table,
                                               XENMEM_resource_grant_table_id_shared, 0, 1, &table,
                                               PROT_READ | PROT_WRITE, 0);
    table_ = static_cast<grant_entry_v1_t*>(table);
    if (table_map_ == nullptr) return;
    std::vector<xen_pfn_t> frames(pages);
    for (uint32_t i = 0; i < pages; ++i) frames[i] = table_[abi::kFirstGrant + i].frame;
    area_ = static_cast<std::byte*>(
        xenforeignmemory_map(memory_, guest.value(), PROT_READ | PROT_WRITE, pages, frames.data(), nullptr));
  }
  GuestsHand(const GuestsHand&) = delete;
  GuestsHand& operator=(const GuestsHand&) = delete;
  ~GuestsHand() {
    if (area_ != nullptr) xenforeignmemory_unmap(memory_, area_, pages_);
    if (table_map_ != nullptr) xenforeignmemory_unmap_resource(memory_, table_map_);
    xenforeignmemory_close(memory_);
    xc_interface_close(xc_);
  }

  /// nullptr if its pages could not be mapped.
  std::byte* area() const { return area_; }
  EventPort open_port() const {
    return EventPort(static_cast<uint32_t>(xc_evtchn_alloc_unbound(xc_, guest_.value(), 0)));
  }
  void revoke(uint32_t ref) const { __atomic_store_n(&table_[ref].flags, uint16_t{0}, __ATOMIC_SEQ_CST); }

 private:
  DomId guest_;
  uint32_t pages_;
  xc_interface* xc_;
  xenforeignmemory_handle* memory_;
  xenforeignmemory_resource_handle* table_map_ = nullptr;
  grant_entry_v1_t* table_ = nullptr;
  std::byte* area_ = nullptr;
};

/// Counts what the vif asks of Xen.
class CountingLink final : public backend::GuestLink {
 public:
  CountingLink(std::unique_ptr<GuestLink> link, int& copies) : link_(std::move(link)), copies_(copies) {}

  FrontEnd front_end() const noexcept override { return link_->front_end(); }
  abi::NetTxRing& tx_ring() noexcept override { return link_->tx_ring(); }
  abi::NetRxRing& rx_ring() noexcept override { return link_->rx_ring(); }
  std::byte* card() noexcept override { return link_->card(); }
  Seeded seeded() noexcept override { return link_->seeded(); }
  std::byte* map(GrantRef gref) noexcept override { return link_->map(gref); }
  bool is_persistent() const noexcept override { return link_->is_persistent(); }
  backend::ControlLink* control() noexcept override { return link_->control(); }
  void copy(std::span<backend::GrantCopy> batch) noexcept override {
    ++copies_;
    link_->copy(batch);
  }
  void notify() noexcept override { link_->notify(); }

 private:
  std::unique_ptr<GuestLink> link_;
  int& copies_;
};

class StaticGrantsFrontEnd {
 public:
  StaticGrantsFrontEnd(std::byte* area, std::unique_ptr<backend::GuestLink> link)
      : area_(area), vif_(std::make_unique<CountingLink>(std::move(link), copies_)) {}

  /// Before a back end is told of the rings.
  static void lay_out(std::byte* area) {
    for (const uint32_t page : {abi::kTxRingPage, abi::kRxRingPage, abi::kFirstBufferPage + kControlRing}) {
      std::byte* ring = area + size_t{page} * abi::kPageBytes;
      std::memset(ring, 0, abi::kPageBytes);
      auto& indices = *reinterpret_cast<abi::RingIndices*>(ring);
      indices.req_event = indices.rsp_event = 1;
    }
  }

  abi::NetCtrlResponse ask(uint16_t type, const List& list) {
    std::memcpy(buffer(kList), list.data(), list.size() * sizeof(list[0]));
    auto& ring = *reinterpret_cast<abi::NetCtrlRing*>(buffer(kControlRing));
    const uint32_t slot = ring.indices.req_prod;
    ring.entries[slot].request = {1, type, {0, gref(kList), static_cast<uint32_t>(list.size())}};
    ring.indices.req_prod = slot + 1;
    for (int i = 0; i < kPatience && ring.indices.rsp_prod != slot + 1; ++i) vif_.flush();
    return ring.entries[slot].response;
  }

  /// One frame each way. The statuses that the back end gave to the buffers.
  std::pair<int, int> exchange() {
    auto& rx = *reinterpret_cast<abi::NetRxRing*>(page(abi::kRxRingPage));
    auto& tx = *reinterpret_cast<abi::NetTxRing*>(page(abi::kTxRingPage));
    const uint32_t slot = exchanged_++;
    rx.entries[slot].request = {kReceive, 0, gref(kReceive)};
    tx.entries[slot].request = {gref(kTransmit), 0, 0, kTransmit, kFrameBytes};
    rx.indices.req_prod = tx.indices.req_prod = exchanged_;
    std::memset(buffer(kReceive), 0, abi::kPageBytes);
    std::memset(buffer(kTransmit), static_cast<int>(exchanged_), abi::kPageBytes);
    vif_.send(std::vector<std::byte>(kFrameBytes, std::byte{0x5a}));
    is_whole_ = vif_.receive(frame_) == kFrameBytes && frame_[kFrameBytes - 1] == std::byte(exchanged_);
    vif_.flush();
    is_whole_ = is_whole_ && buffer(kReceive)[kFrameBytes - 1] == std::byte{0x5a};
    return {rx.entries[slot].response.status, tx.entries[slot].response.status};
  }
  bool is_whole() const { return is_whole_; }
  int copies() const { return copies_; }

 private:
  std::byte* page(uint32_t i) const { return area_ + size_t{i} * abi::kPageBytes; }
  std::byte* buffer(uint32_t i) const { return page(abi::kFirstBufferPage + i); }

  std::byte* area_;
  int copies_ = 0;
  backend::Vif vif_;
  std::vector<std::byte> frame_ = std::vector<std::byte>(backend::kMaxFrameBytes);
  uint32_t exchanged_ = 0;
  bool is_whole_ = false;
};

std::string run(StaticGrantsFrontEnd& front, const GuestsHand& guest, uint32_t pages) {
  const List both = {{gref(kReceive), 0, 0}, {gref(kTransmit), abi::kGrefReadOnly, 0}};
  if (front.ask(abi::kCtrlGetGrefMappingSize, {}).data != backend::xen::kMaxStaticGrants)
    return "the table has another size";
  const List beyond = {{gref(kReceive), 0, 0}, {abi::kFirstGrant + pages, 0, 0}};
  if (front.ask(abi::kCtrlAddGrefMapping, beyond).status != abi::kCtrlStatusInvalidParameter)
    return "a page that is not granted was mapped";
  if (front.ask(abi::kCtrlAddGrefMapping, both).status != abi::kCtrlStatusSuccess)
    return "its pages were not mapped";
  guest.revoke(gref(kReceive));
  guest.revoke(gref(kTransmit));
  const int copies = front.copies();
  if (front.exchange() != std::pair(int{kFrameBytes}, int{abi::kRspOkay}) || !front.is_whole() ||
      front.copies() != copies)
    return "its pages were not reached by their maps";
  const auto removed = front.ask(abi::kCtrlDelGrefMapping, both);
  if (removed.status != abi::kCtrlStatusSuccess || removed.data != both.size())
    return "its pages were not unmapped";
  if (front.exchange() != std::pair(int{abi::kRspError}, int{abi::kRspError}))
    return "pages were reached that are neither mapped nor granted";
  if (front.ask(abi::kCtrlAddGrefMapping, both).status != abi::kCtrlStatusInvalidParameter)
    return "pages were mapped whose grants are revoked";
  const List left = {{gref(kLeftMapped), 0, 0}};
  return front.ask(abi::kCtrlAddGrefMapping, left).status == abi::kCtrlStatusSuccess
             ? ""
             : "the last was not mapped";
}

Result<std::unique_ptr<backend::GuestLink>> connect(backend::xen::GrantMapper& grants,
                                                    backend::xen::XenDoorbells& doorbells,
                                                    const GuestsHand& hand, DomId guest,
                                                    uint32_t control_ring) {
  const EventPort port = hand.open_port();
  return backend::xen::connect_foreign(
      grants, doorbells,
      {.domid = guest,
       .tx_ring = GrantRef{abi::kFirstGrant + abi::kTxRingPage},
       .rx_ring = GrantRef{abi::kFirstGrant + abi::kRxRingPage},
       .tx_port = port,
       .rx_port = port,
       .control = backend::xen::ControlRingDetails{.ring = GrantRef{control_ring}, .port = hand.open_port()},
       .token = 1});
}

}  // namespace

std::string use_static_grants(backend::xen::GrantMapper& grants, backend::xen::XenDoorbells& doorbells,
                              DomId guest, uint32_t pages) {
  if (pages < abi::shared_pages(kBuffersNeeded)) return "the guest has too few buffers";
  const GuestsHand hand(guest, pages);
  if (hand.area() == nullptr) return "the guest's pages cannot be mapped";
  StaticGrantsFrontEnd::lay_out(hand.area());
  auto link = connect(grants, doorbells, hand, guest, gref(kControlRing));
  if (!link) return link.error().text();
  StaticGrantsFrontEnd front(hand.area(), std::move(*link));
  return run(front, hand, pages);
}

std::string name_no_control_ring(backend::xen::GrantMapper& grants, backend::xen::XenDoorbells& doorbells,
                                 DomId guest, uint32_t pages) {
  const auto link = connect(grants, doorbells, GuestsHand(guest, pages), guest, abi::kFirstGrant + pages);
  if (link) return "it was connected";
  const bool is_the_ring = link.error().text().find("mapping 1 grants") != std::string::npos;
  return is_the_ring ? "" : link.error().text();
}

}  // namespace synfluid
