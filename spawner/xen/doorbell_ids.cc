#include "spawner/xen/doorbell_ids.h"

namespace synfluid::spawner::xen {

namespace {

/// Domains that Xen may walk past to insert a returned id: a dozen instructions each.
constexpr int kLongWalk = 512;

}  // namespace

DoorbellId::~DoorbellId() {
  if (home_ == nullptr) return;
  home_->returned_.insert(id_);
  home_->opener_failed_ = false;
}

void DoorbellId::set_aside() && {
  std::exchange(home_, nullptr)->aside_.push_back(id_);
}

Status DoorbellId::move_to(DoorbellIds& ids) {
  if (is_from(ids)) return {};
  auto port = ids.opener_.open(id_.domid);
  if (!port) return port.error();
  home_->opener_.close(id_.port);
  home_ = &ids;
  id_.port = *port;
  return {};
}

Result<DoorbellId> DoorbellIds::take() {
  if (ready() > 0) return DoorbellId(*this, take_ready());
  auto opened = open_fresh();
  if (opened) return DoorbellId(*this, *opened);
  if (aside_.empty()) return opened.error();
  const OpenId id = aside_.front();
  aside_.pop_front();
  return DoorbellId(*this, id);
}

OpenId DoorbellIds::take_ready() {
  const bool returned_is_near =
      !returned_.empty() &&
      (unused_.empty() || returned_.begin()->domid.value() - unused_.front().domid.value() <= kLongWalk);
  if (returned_is_near) return returned_.extract(returned_.begin()).value();
  const OpenId id = unused_.front();
  unused_.pop_front();
  return id;
}

Result<OpenId> DoorbellIds::open_fresh() {
  if (!fresh_.any()) return Error(ErrorCode::kExhausted, "all domain ids are in use");
  const DomId domid = fresh_.next();
  auto port = opener_.open(domid);
  if (!port) return port.error();
  fresh_.take();
  return OpenId{domid, *port};
}

bool DoorbellIds::open_ahead() {
  if (ready() >= ahead_ || opener_failed_ || !fresh_.any()) return false;
  const auto opened = open_fresh();
  if (opened) unused_.push_back(*opened);
  opener_failed_ = !opened;
  return static_cast<bool>(opened);
}

}  // namespace synfluid::spawner::xen
