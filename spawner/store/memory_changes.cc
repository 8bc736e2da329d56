#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

#include "spawner/store/large_pages.h"
#include "spawner/store/memory_nodes.h"

namespace synfluid::spawner::store {
namespace {

/// Of a path and a value, which are within the protocol's limits. The allocator rounds 8 bytes more up to a
/// multiple of 16 anyway.
uint16_t rounded(size_t bytes) {
  return static_cast<uint16_t>((bytes + 8 + 15) / 16 * 16 - 8);
}

}  // namespace

MemoryStorage::Impl::~Impl() {
  for (const Block* block : blocks_)
    for (const Node& node : *block) std::free(node.text);
}

MemoryStorage::Impl::Block* MemoryStorage::Impl::new_block() {
  const size_t whole = blocks_.size() < kSmallBlocks ? sizeof(Block) : kLargePage;
  if (left_of_memory_ < sizeof(Block)) {
    memory_.emplace_back(whole == kLargePage ? large_pages(whole) : std::malloc(whole));
    if (memory_.back() == nullptr) throw std::bad_alloc();
    memory_bytes_ += whole;
    left_of_memory_ = whole;
  }
  auto* at = static_cast<std::byte*>(memory_.back().get()) + (whole - left_of_memory_);
  left_of_memory_ -= sizeof(Block);
  return new (at) Block();
}

NodeId MemoryStorage::Impl::allocate() {
  if (first_free_ == kNone) {
    const auto first = static_cast<NodeId>(blocks_.size() * kBlock);
    blocks_.push_back(new_block());
    for (NodeId id = first + kBlock; id-- > first;) {
      at(id).next = first_free_;
      first_free_ = id;
    }
  }
  const NodeId id = first_free_;
  first_free_ = at(id).next;
  return id;
}

void MemoryStorage::Impl::set_text(Node& node, std::string_view path, std::string_view value) {
  const uint16_t needed = rounded(path.size() + value.size());
  // Shrinks only where it pays, so that a value that varies a little stays where it is.
  if (needed > node.text_bytes || needed + 64 < node.text_bytes) {
    char* text = static_cast<char*>(std::malloc(needed));
    if (text == nullptr) throw std::bad_alloc();
    std::ranges::copy(path, text);
    if (node.text != nullptr) text_bytes_ -= node.text_bytes + 8;
    std::free(node.text);
    node.text = text;
    node.text_bytes = needed;
    text_bytes_ += needed + 8u;
  }
  node.path_bytes = static_cast<uint16_t>(path.size());
  node.value_bytes = static_cast<uint16_t>(value.size());
  if (!value.empty()) std::memmove(node.text + path.size(), value.data(), value.size());
}

void MemoryStorage::Impl::create(const Change& change) {
  const bool top = change.path == "/" || change.path[0] == '@';
  const NodeId parent = top ? kNowhere : resolve(parent_of(change.path));
  const NodeId id = allocate();
  Node& node = at(id);
  set_text(node, change.path, change.value);
  node.name_bytes = static_cast<uint16_t>(change.path == "/" ? 0
                                          : top              ? change.path.size()
                                                             : name_of(change.path).size());
  node.parent = parent;
  node.hash = hash_of(change.path);
  node.generations = {generation_, generation_, generation_};
  table_.insert(node.hash, id);
  if (parent != kNowhere) join_siblings(id, parent);
  if (change.path == "/") root_ = id;
  join_set(id, sets_.acquire(change.permissions));
  ++size_;
}

void MemoryStorage::Impl::set_value(Node& node, std::string_view value) {
  if (value.size() != node.value_bytes) {
    Usage& usage = usage_[owner_of(node)];
    usage.bytes = usage.bytes - node.value_bytes + value.size();
  }
  set_text(node, node.path(), value);
  node.generations.value = generation_;
}

void MemoryStorage::Impl::set_permissions(NodeId id, std::span<const Permission> permissions) {
  const uint32_t set = sets_.acquire(permissions);
  leave_set(id);
  join_set(id, set);
  at(id).generations.permissions = generation_;
}

void MemoryStorage::Impl::erase(NodeId top) {
  last_ = kNone;
  cursor_ = {};
  if (at(top).parent != kNowhere) leave_siblings(top);
  for (NodeId id = top;;) {
    while (at(id).first_child != kNone) id = at(id).first_child;
    if (id == top) break;
    const NodeId parent = at(id).parent;
    const NodeId next = at(id).next;
    // The ring of its siblings goes as a whole: no need to close it behind each.
    at(parent).first_child = --at(parent).children == 0 ? kNone : next;
    free_node(id);
    id = parent;
  }
  free_node(top);
}

void MemoryStorage::Impl::free_node(NodeId id) {
  Node& node = at(id);
  table_.erase(node.hash, id);
  leave_set(id);
  text_bytes_ -= node.text_bytes + 8;
  std::free(node.text);
  node = {};
  node.next = first_free_;
  first_free_ = id;
  --size_;
}

void MemoryStorage::Impl::join_siblings(NodeId id, NodeId parent_id) {
  Node& parent = at(parent_id);
  Node& node = at(id);
  if (parent.first_child == kNone) {
    parent.first_child = node.next = node.previous = id;
  } else {
    node.next = parent.first_child;
    node.previous = at(parent.first_child).previous;
    at(node.previous).next = id;
    at(node.next).previous = id;
  }
  ++parent.children;
  parent.children_bytes += node.name_bytes + 1u;
  parent.generations.children = generation_;
}

void MemoryStorage::Impl::leave_siblings(NodeId id) {
  const Node& node = at(id);
  Node& parent = at(node.parent);
  at(node.next).previous = node.previous;
  at(node.previous).next = node.next;
  --parent.children;
  if (parent.first_child == id) parent.first_child = parent.children == 0 ? kNone : node.next;
  parent.children_bytes -= node.name_bytes + 1u;
  parent.generations.children = generation_;
}

void MemoryStorage::Impl::join_set(NodeId id, uint32_t number) {
  PermissionSets::Set& set = sets_[number];
  Node& node = at(id);
  node.permission_set = number;
  node.previous_of_set = kNone;
  node.next_of_set = set.first_node;
  if (set.first_node != kNone) at(set.first_node).previous_of_set = id;
  set.first_node = id;
  Usage& usage = usage_[owner_of(node)];
  ++usage.nodes;
  usage.bytes += charge_for(node);
}

void MemoryStorage::Impl::leave_set(NodeId id) {
  const Node& node = at(id);
  const auto usage = usage_.find(owner_of(node));
  usage->second.bytes -= charge_for(node);
  if (--usage->second.nodes == 0) usage_.erase(usage);
  if (node.previous_of_set == kNone) {
    sets_[node.permission_set].first_node = node.next_of_set;
  } else {
    at(node.previous_of_set).next_of_set = node.next_of_set;
  }
  if (node.next_of_set != kNone) at(node.next_of_set).previous_of_set = node.previous_of_set;
  sets_.release(node.permission_set);
}
}  // namespace synfluid::spawner::store
