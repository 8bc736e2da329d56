#include "backend/control_ring.h"

namespace synfluid::backend {

namespace {

/// Entries of a list that one call maps or unmaps: a few system calls each, as many as a burst has frames.
constexpr uint32_t kEntriesPerCall = 32;

}  // namespace

void ControlRing::serve() noexcept {
  if (!state_.broken.empty()) return;
  if (work_ == Work::kNone && !take_up()) return;
  switch (work_) {
    case Work::kNone:
      break;  // answered at once
    case Work::kAdd:
      return add_some();
    case Work::kUndo:
      return undo_some();
    case Work::kRemove:
      return remove_some();
  }
}

bool ControlRing::arm() noexcept {
  const bool more = ring_.arm() || work_ != Work::kNone;
  check_index();
  return more && state_.broken.empty();
}

void ControlRing::check_index() noexcept {
  if (ring_.broken()) state_.broken = "control ring: impossible producer index";
}

bool ControlRing::take_up() noexcept {
  const uint32_t available = ring_.available(1);
  check_index();
  if (available == 0) return false;
  request_ = ring_.peek(0);
  ring_.consume(1);
  const bool is_our_queue = request_.data[0] == 0;
  switch (request_.type) {
    case abi::kCtrlGetGrefMappingSize:
      if (is_our_queue)
        finish(abi::kCtrlStatusSuccess, grants_.capacity());
      else
        finish(abi::kCtrlStatusInvalidParameter);
      break;
    case abi::kCtrlAddGrefMapping:
      begin(Work::kAdd);
      break;
    case abi::kCtrlDelGrefMapping:
      begin(Work::kRemove);
      break;
    default:
      finish(abi::kCtrlStatusNotSupported);
  }
  return true;
}

/// A list of nothing is no list, nor is one that no page can hold.
void ControlRing::begin(Work work) noexcept {
  const uint32_t count = request_.data[2];
  const bool fits = count != 0 && count <= room_.size() && (work == Work::kRemove || grants_.has_room(count));
  if (request_.data[0] != 0 || !fits) return finish(abi::kCtrlStatusInvalidParameter);
  list_ = std::span(room_).first(count);
  if (!copy_list(GrantCopy::Direction::kFromGuest)) return finish(abi::kCtrlStatusInvalidParameter);
  work_ = work;
  done_ = removed_ = 0;
}

void ControlRing::add_some() noexcept {
  for (uint32_t i = 0; i < kEntriesPerCall && done_ < list_.size(); ++i, ++done_) {
    if (grants_.add(list_[done_])) continue;
    work_ = Work::kUndo;
    return;
  }
  if (done_ == list_.size()) finish(abi::kCtrlStatusSuccess);
}

void ControlRing::undo_some() noexcept {
  for (uint32_t i = 0; i < kEntriesPerCall && done_ > 0; ++i) grants_.remove(list_[--done_].gref);
  if (done_ == 0) finish(abi::kCtrlStatusInvalidParameter);
}

void ControlRing::remove_some() noexcept {
  for (uint32_t i = 0; i < kEntriesPerCall && done_ < list_.size(); ++i, ++done_) {
    const bool was_there = grants_.remove(list_[done_].gref);
    const uint32_t status = was_there ? abi::kCtrlStatusSuccess : abi::kCtrlStatusInvalidParameter;
    list_[done_].status = static_cast<uint16_t>(status);
    removed_ += was_there ? 1 : 0;
  }
  if (done_ < list_.size()) return;
  const bool is_told = copy_list(GrantCopy::Direction::kToGuest);
  finish(is_told ? abi::kCtrlStatusSuccess : abi::kCtrlStatusInvalidParameter, removed_);
}

void ControlRing::finish(uint32_t status, uint32_t data) noexcept {
  work_ = Work::kNone;
  if (status != abi::kCtrlStatusSuccess) {
    state_.tallies.bad_control_request.add();
    state_.note_bad();
  }
  ring_.respond({request_.id, request_.type, status, data});
  if (!ring_.publish()) return;
  control_.notify();
  state_.tallies.notifications.add();
}

bool ControlRing::copy_list(GrantCopy::Direction direction) noexcept {
  GrantCopy piece{.direction = direction,
                  .gref = GrantRef{request_.data[1]},
                  .offset = 0,
                  .length = static_cast<uint16_t>(list_.size_bytes()),
                  .host = reinterpret_cast<std::byte*>(list_.data()),
                  .status = abi::kRspError};
  link_.copy({&piece, 1});
  return piece.status == abi::kRspOkay;
}

}  // namespace synfluid::backend
