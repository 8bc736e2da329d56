#include "spawner/xen/card_reader.h"

#include <cstring>
#include <span>

namespace synfluid::spawner::xen {

Result<CardBytes> read_card(toolstack::XenCalls& xen, DomId domid, uint64_t card_frame) {
  const auto page = xen.map_frames(domid, std::span(&card_frame, 1));
  if (!page) return page.error();
  CardBytes card;
  std::memcpy(card.data(), *page, card.size());
  xen.unmap_frames(*page, 1);
  return card;
}

}  // namespace synfluid::spawner::xen
