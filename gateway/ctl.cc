#include "gateway/ctl.h"

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "gateway/control_socket.h"

namespace synfluid::gateway {

using nlohmann::json;

namespace {

std::string text_of(const json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

/// "group.name  value", a line each.
void print_tree(const json& value, const std::string& prefix) {
  for (const auto& [name, item] : value.items()) {
    const std::string path = prefix.empty() ? name : fmt::format("{}.{}", prefix, name);
    if (item.is_object())
      print_tree(item, path);
    else
      fmt::print("{:<32} {}\n", path, text_of(item));
  }
}

struct Column {
  const char* title;
  const char* field;
};

void print_table(const json& rows, const std::vector<Column>& columns) {
  std::vector<size_t> widths;
  for (const Column& c : columns) {
    size_t width = std::string_view(c.title).size();
    for (const json& row : rows)
      if (row.contains(c.field)) width = std::max(width, text_of(row[c.field]).size());
    widths.push_back(width);
  }
  const auto print_row = [&](auto&& cell) {
    for (size_t i = 0; i < columns.size(); ++i) fmt::print("{:<{}}  ", cell(columns[i]), widths[i]);
    fmt::print("\n");
  };
  print_row([](const Column& c) { return std::string(c.title); });
  for (const json& row : rows)
    print_row(
        [&](const Column& c) { return row.contains(c.field) ? text_of(row[c.field]) : std::string("-"); });
}

void print_for_people(const std::string& command, const json& result) {
  if (command == "vms")
    return print_table(result, {{"DOMID", "domid"},
                                {"GEN", "generation"},
                                {"SERVICE", "service"},
                                {"PER", "per"},
                                {"STATE", "state"},
                                {"SUBSCRIBER", "subscriber"},
                                {"FLOW", "flow"},
                                {"AGE MS", "age_ms"}});
  if (command == "flows")
    return print_table(result, {{"SOURCE", "source"},
                                {"DESTINATION", "destination"},
                                {"STATE", "state"},
                                {"VM", "vm"},
                                {"HELD", "held"},
                                {"FROM CLIENT", "bytes_from_client"},
                                {"FROM SERVER", "bytes_from_server"}});
  if (result.is_string()) return fmt::print("{}\n", result.get<std::string>());
  print_tree(result, "");
}

}  // namespace

Status ask_gateway(const CtlConfig& config) {
  const auto result = ask_control_socket(config.socket, {config.command, config.argument});
  if (!result) return result.error();
  if (config.json)
    fmt::print("{}\n", result->dump(2));
  else
    print_for_people(config.command, *result);
  return {};
}

}  // namespace synfluid::gateway
