#include "bench/store_questions.h"

#include <algorithm>
#include <array>
#include <latch>
#include <thread>

#include <fmt/format.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/report.h"

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

/// Does `turn(client, index)` so often for every client, each in a thread of its own that waits for each of
/// its replies. One client needs no thread.
template <class Turn>
Status take_turns(Clients& clients, uint32_t times, Turn turn) {
  std::vector<Status> results(clients.size());
  std::latch all_there(static_cast<std::ptrdiff_t>(clients.size()));
  const auto work = [&](uint32_t index) {
    all_there.arrive_and_wait();
    for (uint32_t i = 0; i < times && results[index]; ++i) results[index] = turn(clients[index], index);
  };
  {
    std::vector<std::jthread> threads;
    for (uint32_t i = 1; i < clients.size(); ++i) threads.emplace_back(work, i);
    work(0);
  }
  for (const Status& result : results)
    if (!result) return result;
  return {};
}

/// The daemon's CPU for each of so many operations, which `work` does.
template <class Work>
Samples cpu_per_operation(const StoreDaemon& daemon, uint32_t rounds, uint32_t operations, Work work) {
  std::vector<double> samples;
  for (uint32_t round = 0; round < rounds; ++round) {
    const int64_t before = daemon.cpu_ns();
    if (Status done = work(); !done) return done.error();
    samples.push_back(static_cast<double>(daemon.cpu_ns() - before) / operations /
                      static_cast<double>(kNsPerUs));
  }
  return samples;
}

/// Each round's operations are shared by the clients; `turn` is one of them.
template <class Turn>
Samples cpu_of_turns(const StoreDaemon& daemon, const StoreLoad& load, Clients& clients, Turn turn) {
  const auto count = static_cast<uint32_t>(clients.size());
  const uint32_t times = std::max(1u, load.operations / count);
  if (Status warm = take_turns(clients, 1, turn); !warm) return warm.error();
  return cpu_per_operation(daemon, load.rounds, times * count,
                           [&] { return take_turns(clients, times, turn); });
}

/// Of one client's operation.
template <class Operation>
Samples cpu_of_one(const StoreDaemon& daemon, const StoreLoad& load, Operation operation) {
  if (Status warm = operation(); !warm) return warm.error();
  return cpu_per_operation(daemon, load.rounds, load.operations, [&]() -> Status {
    for (uint32_t i = 0; i < load.operations; ++i)
      if (Status done = operation(); !done) return done;
    return {};
  });
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
  return cpu_of_turns(daemon, load, *clients, [&](StoreClient& client, uint32_t index) -> Status {
    const auto reply = client.call(op, payload(index));
    if (!reply) return reply.error();
    return {};
  });
}

Status transaction_of_ten(StoreClient& client, uint32_t index) {
  const auto id = client.call(StoreOp::kTransactionStart, std::string_view("", 1));
  if (!id) return id.error();
  const auto transaction = static_cast<uint32_t>(std::stoul(*id));
  for (uint32_t node = 0; node < kWritesPerTransaction; ++node)
    if (Status written = client.write(own_node(index, node), kValue, transaction); !written) return written;
  const auto ended = client.call(StoreOp::kTransactionEnd, std::string_view("T", 2), transaction);
  if (!ended) return ended.error();
  return {};
}

std::string guest_node(uint32_t index) {
  return fmt::format("/bench/domain/{}/{}", index / kNodesPerGuest, kGuestNodes[index % kNodesPerGuest]);
}

/// Requests for [from, to), many at once: this is not what is measured.
template <class Payload>
Status call_in_bulk(StoreClient& client, StoreOp op, uint32_t from, uint32_t to, Payload payload) {
  constexpr uint32_t kAtOnce = 50;
  std::vector<std::string> payloads;
  while (from < to) {
    payloads.clear();
    for (; from < to && payloads.size() < kAtOnce; ++from) payloads.push_back(payload(from));
    if (Status sent = client.send_all(op, payloads); !sent) return sent;
    for (size_t replies = 0; replies < payloads.size();) {
      const auto reply = client.receive();
      if (!reply) return reply.error().within(fmt::format("request {} of many", from));
      if (reply->op == op) ++replies;
    }
  }
  return {};
}

/// The costs at each size, to which `grow(from, to)` brings what the daemon has.
template <class Grow, class Measure>
Costs at_each_size(const std::vector<uint32_t>& sizes, Grow grow, Measure measure) {
  std::vector<std::vector<double>> costs;
  uint32_t reached = 0;
  for (const uint32_t size : sizes) {
    if (Status grown = grow(reached, size); !grown) return grown.error();
    reached = size;
    auto cost = measure(size);
    if (!cost) return cost.error();
    costs.push_back(std::move(*cost));
  }
  return costs;
}

/// Writes nodes all over the tree, one after the other.
Samples scattered_writes(const StoreDaemon& daemon, const StoreLoad& load, StoreClient& client,
                         uint32_t nodes) {
  constexpr uint32_t kStride = 7919;  // prime, so that each guest and each node has its turn
  uint32_t index = 0;
  return cpu_of_one(daemon, load, [&] {
    index = (index + kStride) % nodes;
    return client.write(guest_node(index), kValue);
  });
}

/// With two watches on nodes of its own, which have fired.
Status add_watching_clients(const StoreDaemon& daemon, uint32_t from, uint32_t to, Clients& clients) {
  for (uint32_t i = from; i < to; ++i) {
    auto client = StoreClient::connect(daemon.socket());
    if (!client) return client.error().within(fmt::format("client {}", i));
    const std::array<std::string, 2> watches = {strings_payload({own_node(i, 0), "token"}),
                                                strings_payload({own_node(i, 1), "token"})};
    if (Status sent = client->send_all(StoreOp::kWatch, watches); !sent) return sent;
    clients.push_back(std::move(*client));
  }
  // A reply and a first event for each.
  for (uint32_t i = from; i < to; ++i)
    for (int messages = 0; messages < 4; ++messages)
      if (const auto reply = clients[i].receive(); !reply) return reply.error();
  return {};
}

Result<double> binding_a_port_us(const spawner::store::xen::EmptyDomain& domain) {
  constexpr int kTries = 5;
  std::vector<double> samples;
  for (int i = 0; i < kTries; ++i) {
    const auto ns = time_of_bind(domain, SteadyClock());
    if (!ns) return ns.error();
    samples.push_back(static_cast<double>(*ns) / static_cast<double>(kNsPerUs));
  }
  return median(samples);
}

std::string introduce_payload(const spawner::store::xen::EmptyDomain& domain) {
  return strings_payload({fmt::format("{}", domain.domid().value()), fmt::format("{}", domain.frame()),
                          fmt::format("{}", domain.port().value())});
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
  const StoreLoad fewer{.rounds = load.rounds, .operations = load.operations / kWritesPerTransaction};
  return cpu_of_turns(daemon, fewer, *clients, transaction_of_ten);
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

Costs write_us_among_clients(const StoreDaemon& daemon, const StoreLoad& load,
                             const std::vector<uint32_t>& sizes) {
  auto writer = StoreClient::connect(daemon.socket());
  if (!writer) return writer.error();
  Clients clients;
  return at_each_size(
      sizes, [&](uint32_t from, uint32_t to) { return add_watching_clients(daemon, from, to, clients); },
      [&](uint32_t) {
        return cpu_of_one(daemon, load, [&] { return writer->write("/bench/writer", kValue); });
      });
}

Costs write_us_among_watches(const StoreDaemon& daemon, const StoreLoad& load,
                             const std::vector<uint32_t>& sizes) {
  auto clients = connect_all(daemon, 2);
  if (!clients) return clients.error();
  StoreClient& watcher = (*clients)[0];
  StoreClient& writer = (*clients)[1];
  return at_each_size(
      sizes,
      [&](uint32_t from, uint32_t to) {
        return call_in_bulk(watcher, StoreOp::kWatch, from, to, [](uint32_t i) {
          return strings_payload({own_node(i), "token"});
        });
      },
      [&](uint32_t) {
        return cpu_of_one(daemon, load, [&] { return writer.write("/bench/writer", kValue); });
      });
}

Costs write_us_among_nodes(const StoreDaemon& daemon, const StoreLoad& load,
                           const std::vector<uint32_t>& sizes, double& bytes_per_node) {
  auto client = StoreClient::connect(daemon.socket());
  if (!client) return client.error();
  double first_bytes = 0;
  return at_each_size(
      sizes,
      [&](uint32_t from, uint32_t to) {
        return call_in_bulk(*client, StoreOp::kWrite, from, to,
                            [](uint32_t i) { return write_payload(guest_node(i), kValue); });
      },
      [&](uint32_t size) {
        const auto bytes = static_cast<double>(daemon.private_bytes());
        if (size == sizes.front())
          first_bytes = bytes;
        else
          bytes_per_node = (bytes - first_bytes) / (size - sizes.front());
        return scattered_writes(daemon, load, *client, size);
      });
}

Costs introduce_us(const StoreDaemon& daemon, uint32_t rounds,
                   const std::vector<spawner::store::xen::EmptyDomain>& domains,
                   const std::vector<uint32_t>& sizes, std::vector<double>& port_us) {
  auto client = StoreClient::connect(daemon.socket());
  if (!client) return client.error();
  uint32_t next = 0;
  const auto introduce_next = [&](uint32_t count) {
    const uint32_t from = next;
    next += count;
    return call_in_bulk(*client, StoreOp::kIntroduce, from, next,
                        [&](uint32_t i) { return introduce_payload(domains[i]); });
  };
  return at_each_size(
      sizes, [&](uint32_t, uint32_t to) { return introduce_next(to - next); },
      [&](uint32_t) -> Samples {
        const auto port = binding_a_port_us(domains.back());
        if (!port) return port.error();
        port_us.push_back(*port);
        return cpu_per_operation(daemon, rounds, kIntroducedARound,
                                 [&] { return introduce_next(kIntroducedARound); });
      });
}

}  // namespace synfluid::bench
