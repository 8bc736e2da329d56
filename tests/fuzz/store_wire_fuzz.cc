// The store's wire vocabulary on any bytes: fields, paths, permissions and ids agree with themselves.
#include <cstdlib>
#include <string>

#include "spawner/store/wire.h"

namespace {

using namespace synfluid::spawner::store;

void require(bool holds) {
  if (!holds) std::abort();
}

void check_path(std::string_view path) {
  require(is_absolute_path(path) + is_relative_path(path) + is_special_path(path) <= 1);
  if (!is_absolute_path(path)) return;
  require(is_absolute_path(parent_of(path)));
  require(is_at_or_below(path, parent_of(path)));
  require(path == "/" || !name_of(path).empty());
  require(name_of(path).find('/') == std::string_view::npos);
  const std::string joined = std::string(parent_of(path)) + (parent_of(path) == "/" ? "" : "/");
  require(joined + std::string(name_of(path)) == path);
}

void check_permission(std::string_view text) {
  const auto permission = parse_permission(text);
  if (!permission) return;
  std::string back;
  append_permission(back, *permission);
  require(parse_permission(back) == permission);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  if (size >= kHeaderBytes) require(!to_string(parse_header(text).type).empty());
  size_t bytes = 0;
  Fields fields({text.data(), text.size()});
  while (const auto field = fields.next()) {
    bytes += field->size() + 1;
    check_path(*field);
    check_permission(*field);
    if (const auto domid = parse_domid(*field)) require(parse_domid(std::to_string(domid->value())) == domid);
  }
  require(bytes + fields.rest().size() == size);
  check_path(text);
  return 0;
}
