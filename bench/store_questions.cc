#include "bench/store_questions.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <unistd.h>

#include "base/clock.h"

namespace synfluid::bench {

namespace {

using Clients = std::vector<StoreClient>;

constexpr uint32_t kWritesPerTransaction = 10;
constexpr uint32_t kNodesPerGuest = 17;
/// What a guest with one vif has in the store, and how long the values are.
constexpr std::array<const char*, kNodesPerGuest> kGuestNodes = {
    "name",
    "domid",
    "memory/target",
    "control/shutdown",
    "device/vif/0/backend",
    "device/vif/0/backend-id",
    "device/vif/0/state",
    "device/vif/0/handle",
    "device/vif/0/mac",
    "backend/vif/0/frontend",
    "backend/vif/0/frontend-id",
    "backend/vif/0/state",
    "backend/vif/0/handle",
    "backend/vif/0/mac",
    "backend/vif/0/online",
    "backend/vif/0/feature-rx-copy",
    "backend/vif/0/hotplug-status",
};
constexpr std::string_view kValue = "00:16:3e:12:34:56";

std::string own_node(uint32_t client, uint32_t node = 0) {
  return fmt::format("/bench/client/{}/{}", client, node);
}

Result<Clients> connect_all(const StoreDaemon& daemon, uint32_t count) {
  Clients clients;
  clients.reserve(count);
  for (uint32_t i = 0; i < count; ++i) {
    auto client = StoreClient::connect(daemon.socket());
    if (!client) return client.error().within(fmt::format("client {}", i));
    clients.push_back(std::move(*client));
  }
  return clients;
}

/// Every client sends what `payload` says, then every reply is taken. The replies' payloads.
template <class Payload>
Result<std::vector<std::string>> all_call(Clients& clients, StoreOp op, Payload payload,
                                          const std::vector<uint32_t>& transactions = {}) {
  for (uint32_t i = 0; i < clients.size(); ++i) {
    const uint32_t transaction = transactions.empty() ? 0 : transactions[i];
    if (Status sent = clients[i].send(op, payload(i), transaction); !sent) return sent.error();
  }
  std::vector<std::string> replies;
  for (StoreClient& client : clients) {
    auto reply = client.receive();
    if (!reply) return reply.error();
    replies.push_back(std::move(reply->payload));
  }
  return replies;
}

/// Runs `turn`, which does `per_turn` operations, until a round is full; the CPU per operation of each round.
template <class Turn>
Samples cpu_per_operation(const StoreDaemon& daemon, const StoreLoad& load, uint32_t per_turn, Turn turn) {
  std::vector<double> samples;
  if (Status warm = turn(); !warm) return warm.error();
  for (uint32_t round = 0; round < load.rounds; ++round) {
    const int64_t before = daemon.cpu_ns();
    uint32_t done = 0;
    for (; done < load.operations; done += per_turn)
      if (Status status = turn(); !status) return status.error();
    samples.push_back(static_cast<double>(daemon.cpu_ns() - before) / done / static_cast<double>(kNsPerUs));
  }
  return samples;
}

Status make_nodes(Clients& clients, uint32_t nodes) {
  for (uint32_t i = 0; i < clients.size(); ++i)
    for (uint32_t node = 0; node < nodes; ++node)
      if (Status written = clients[i].write(own_node(i, node), kValue); !written) return written.error();
  return {};
}

/// The same request by every client, on a node of its own.
template <class Payload>
Samples simple_us(const StoreDaemon& daemon, const StoreLoad& load, uint32_t count, StoreOp op,
                  Payload payload) {
  auto clients = connect_all(daemon, count);
  if (!clients) return clients.error();
  if (Status made = make_nodes(*clients, 1); !made) return made.error();
  return cpu_per_operation(daemon, load, count, [&]() -> Status {
    const auto replies = all_call(*clients, op, payload);
    if (!replies) return replies.error();
    return {};
  });
}

Status transactions_of_ten(Clients& clients) {
  const auto started =
      all_call(clients, StoreOp::kTransactionStart, [](uint32_t) { return std::string(1, '\0'); });
  if (!started) return started.error();
  std::vector<uint32_t> ids;
  for (const std::string& id : *started) ids.push_back(static_cast<uint32_t>(std::stoul(id)));
  for (uint32_t node = 0; node < kWritesPerTransaction; ++node) {
    const auto written = all_call(
        clients, StoreOp::kWrite, [&](uint32_t i) { return write_payload(own_node(i, node), kValue); }, ids);
    if (!written) return written.error();
  }
  const auto ended = all_call(
      clients, StoreOp::kTransactionEnd, [](uint32_t) { return std::string("T\0", 2); }, ids);
  if (!ended) return ended.error();
  return {};
}

std::string guest_node(uint32_t index) {
  return fmt::format("/bench/domain/{}/{}", index / kNodesPerGuest, kGuestNodes[index % kNodesPerGuest]);
}

/// Many requests on their way at once: this is not what is measured.
Status add_guest_nodes(StoreClient& client, uint32_t from, uint32_t to) {
  constexpr uint32_t kAtOnce = 50;
  for (uint32_t first = from; first < to; first += kAtOnce) {
    const uint32_t last = std::min(first + kAtOnce, to);
    for (uint32_t i = first; i < last; ++i)
      if (Status sent = client.send(StoreOp::kWrite, write_payload(guest_node(i), kValue)); !sent)
        return sent;
    for (uint32_t i = first; i < last; ++i)
      if (const auto reply = client.receive(); !reply) return reply.error();
  }
  return {};
}

/// Writes nodes all over the tree, one after the other.
Samples scattered_writes(const StoreDaemon& daemon, const StoreLoad& load, StoreClient& client,
                         uint32_t nodes) {
  constexpr uint32_t kStride = 7919;  // prime, so that each guest and each node has its turn
  uint32_t index = 0;
  return cpu_per_operation(daemon, load, 1, [&] {
    index = (index + kStride) % nodes;
    return client.write(guest_node(index), kValue);
  });
}

}  // namespace

Samples read_us(const StoreDaemon& daemon, const StoreLoad& load, uint32_t clients) {
  return simple_us(daemon, load, clients, StoreOp::kRead,
                   [](uint32_t i) { return strings_payload({own_node(i)}); });
}

Samples write_us(const StoreDaemon& daemon, const StoreLoad& load, uint32_t clients) {
  return simple_us(daemon, load, clients, StoreOp::kWrite,
                   [](uint32_t i) { return write_payload(own_node(i), kValue); });
}

Samples transaction10_us(const StoreDaemon& daemon, const StoreLoad& load, uint32_t count) {
  auto clients = connect_all(daemon, count);
  if (!clients) return clients.error();
  if (Status made = make_nodes(*clients, kWritesPerTransaction); !made) return made.error();
  const StoreLoad fewer{.rounds = load.rounds,
                        .operations = std::max(1u, load.operations / kWritesPerTransaction)};
  return cpu_per_operation(daemon, fewer, count, [&] { return transactions_of_ten(*clients); });
}

Samples watch_us(const StoreDaemon& daemon, const StoreLoad& load) {
  auto clients = connect_all(daemon, 2);
  if (!clients) return clients.error();
  StoreClient& writer = (*clients)[0];
  StoreClient& watcher = (*clients)[1];
  if (Status made = make_nodes(*clients, 1); !made) return made.error();
  if (Status watched = watcher.watch(own_node(0), "token"); !watched) return watched.error();
  if (const auto first = watcher.receive(); !first) return first.error();
  const SteadyClock clock;
  std::vector<double> samples;
  for (uint32_t i = 0; i < load.operations / 10; ++i) {
    constexpr useconds_t kIdleUs = 1'000;
    ::usleep(kIdleUs);
    const int64_t before = clock.now_ns();
    const Status sent = writer.send(StoreOp::kWrite, write_payload(own_node(0), kValue));
    const auto event = watcher.receive();
    samples.push_back(static_cast<double>(clock.now_ns() - before) / static_cast<double>(kNsPerUs));
    const auto reply = writer.receive();
    if (!sent || !event || !reply) return Error(ErrorCode::kProtocol, "a write or its event is missing");
  }
  return samples;
}

Samples write_among_clients_us(const StoreDaemon& daemon, const StoreLoad& load, uint32_t count) {
  auto clients = connect_all(daemon, count);
  if (!clients) return clients.error();
  for (uint32_t i = 0; i < count; ++i) {
    for (uint32_t node = 0; node < 2; ++node) {
      const std::string payload = strings_payload({own_node(i, node), "token"});
      if (Status sent = (*clients)[i].send(StoreOp::kWatch, payload); !sent) return sent.error();
    }
  }
  // A reply and a first event for each.
  for (StoreClient& client : *clients)
    for (int messages = 0; messages < 4; ++messages)
      if (const auto reply = client.receive(); !reply) return reply.error();
  auto writer = StoreClient::connect(daemon.socket());
  if (!writer) return writer.error();
  return cpu_per_operation(daemon, load, 1, [&] { return writer->write("/bench/writer", kValue); });
}

Samples write_among_watches_us(const StoreDaemon& daemon, const StoreLoad& load, uint32_t watches) {
  auto clients = connect_all(daemon, 2);
  if (!clients) return clients.error();
  StoreClient& watcher = (*clients)[0];
  StoreClient& writer = (*clients)[1];
  for (uint32_t i = 0; i < watches; ++i)
    if (Status watched = watcher.watch(own_node(i), "token"); !watched) return watched.error();
  return cpu_per_operation(daemon, load, 1, [&] { return writer.write("/bench/writer", kValue); });
}

Result<NodesResult> write_among_nodes(const StoreDaemon& daemon, const StoreLoad& load,
                                      const std::vector<uint32_t>& sizes) {
  auto client = StoreClient::connect(daemon.socket());
  if (!client) return client.error();
  NodesResult result;
  uint32_t nodes = 0;
  uint64_t first_bytes = 0;
  for (const uint32_t size : sizes) {
    if (Status added = add_guest_nodes(*client, nodes, size); !added) return added.error();
    nodes = size;
    if (result.costs.empty()) first_bytes = daemon.private_bytes();
    if (result.costs.size() + 1 == sizes.size() && size > sizes.front())
      result.bytes_per_node =
          (static_cast<double>(daemon.private_bytes()) - static_cast<double>(first_bytes)) /
          (size - sizes.front());
    auto cost = scattered_writes(daemon, load, *client, size);
    if (!cost) return cost.error();
    result.costs.push_back(std::move(*cost));
  }
  return result;
}

Samples introduce_us(const StoreDaemon& daemon,
                     const std::vector<spawner::store::xen::EmptyDomain>& domains) {
  constexpr size_t kAtOnce = 10;
  auto client = StoreClient::connect(daemon.socket());
  if (!client) return client.error();
  std::vector<double> samples;
  for (size_t first = 0; first + kAtOnce <= domains.size(); first += kAtOnce) {
    const int64_t before = daemon.cpu_ns();
    for (size_t i = first; i < first + kAtOnce; ++i) {
      const auto& domain = domains[i];
      const auto introduced = client->call(
          StoreOp::kIntroduce,
          strings_payload({fmt::format("{}", domain.domid().value()), fmt::format("{}", domain.frame()),
                           fmt::format("{}", domain.port().value())}));
      if (!introduced) return introduced.error().within(fmt::format("domain {}", domain.domid().value()));
    }
    samples.push_back(static_cast<double>(daemon.cpu_ns() - before) / kAtOnce /
                      static_cast<double>(kNsPerUs));
  }
  return samples;
}

}  // namespace synfluid::bench
