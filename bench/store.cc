// What a XenStore costs: Synfluid's daemon beside xenstored and oxenstored, each alone, in one run.
//
//   read_us, write_us            the daemon's own CPU per operation, one client
//   transaction10_us             the same for a transaction of ten writes
//   ..._64_us                    the same with 64 clients at once, each a thread that waits for its reply
//   watch_us                     from a write to its event at a waiting client, the daemon idle before
//   write_10000_clients_growth   a write among 10,000 clients with two watches each, over one among 10
//   write_170000_nodes_growth    a write among 170,000 nodes (10,000 guests of 17), over one among 1,000
//   write_us_by_clients, ..._by_watches, ..._by_nodes
//                                a write's cost at each power of ten of them, a curve; the value is its last
//                                point
//   bytes_per_node               the daemon's memory, as those nodes are added
//   introduce_us, ..._growth     an INTRODUCE after as many others as --domains says, and over one after ten
//   introduce_port_us            of that, what Xen and the kernel take to bind a port: Xen looks for a free
//   one
//                                through all there are
//   introduce_rest_us, ..._growth  what is left
//   NAME_...                     the same of the other daemons, and of ours on LMDB
//
// A figure's peer is the better of xenstored and oxenstored; the ratio is ours over it, so less is better.
// Peers are asked with fewer clients, nodes, watches and domains (peer_... in the parameters): what they do
// grows with each. Daemons start with their quotas raised. A daemon that is not there, or refuses, is named
// and left out. The peers need Xen, and dom0's store to themselves: the lab starts this bench with no store
// running.
#include <algorithm>
#include <filesystem>
#include <functional>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <sys/resource.h>

#include "bench/instruction_clock.h"
#include "bench/report.h"
#include "bench/store_daemon.h"
#include "bench/store_questions.h"

namespace synfluid::bench {
namespace {

constexpr uint32_t kFewClients = 10;
constexpr uint32_t kFewNodes = 1'000;
constexpr uint32_t kFewWatches = 10;
constexpr uint32_t kFewDomains = 10;
/// Where a peer's operation takes milliseconds, so many tell enough.
constexpr uint32_t kPeerOperations = 100;
/// By the instruction clock a round differs from the next by less than a fiftieth.
constexpr StoreLoad kInstructionsLoad = {.rounds = 3, .operations = 320};
constexpr StoreLoad kWallLoad = {.rounds = 7, .operations = 2'000};
constexpr const char* kOurs = "synfluid";
const std::vector<std::string> kPeers = {"xenstored", "oxenstored"};

struct Options {
  std::optional<uint32_t> rounds{};
  std::optional<uint32_t> operations{};
  StoreLoad load = kWallLoad;
  uint32_t together = 64;
  uint32_t clients = 10'000;
  uint32_t nodes = 170'000;
  uint32_t watches = 10'000;
  uint32_t peer_clients = 100;
  uint32_t peer_nodes = 10'000;
  uint32_t peer_watches = 1'000;
  uint32_t domains = 10'000;
  uint32_t peer_domains = 1'000;
  std::vector<std::string> only{};
  std::string program = "synfluid-store";
  std::string json{};
};

/// Figures by name, of one daemon.
using Figures = std::map<std::string, Figure>;

void left_out(const std::string& store, const std::string& figure, const Error& error) {
  std::cerr << fmt::format("store: {} of {} is left out: {}\n", figure, store, error.text());
}

using EmptyDomains = std::vector<spawner::store::xen::EmptyDomain>;

/// From `first` on, tenfold each, and `last`.
std::vector<uint32_t> decades(uint32_t first, uint32_t last) {
  std::vector<uint32_t> sizes;
  for (uint64_t size = first; size < last; size *= 10) sizes.push_back(static_cast<uint32_t>(size));
  sizes.push_back(last);
  return sizes;
}

Figure with_curve(Figure figure, const std::string& x, const std::vector<uint32_t>& sizes,
                  const std::vector<std::vector<double>>& costs) {
  Curve curve{.x = x, .points = {}};
  for (size_t i = 0; i < sizes.size(); ++i) curve.points.emplace_back(sizes[i], median(costs[i]));
  figure.curve = std::move(curve);
  return figure;
}

class StoreBench {
 public:
  StoreBench(const StoreKind& kind, const Options& options, const EmptyDomains& domains)
      : kind_(kind), options_(options), growth_load_(options.load), domains_(domains) {}

  Figures run() {
    if (!ours()) {
      options_.clients = std::min(options_.clients, options_.peer_clients);
      options_.nodes = std::min(options_.nodes, options_.peer_nodes);
      options_.watches = std::min(options_.watches, options_.peer_watches);
      options_.domains = std::min(options_.domains, options_.peer_domains);
      growth_load_.operations = std::min(growth_load_.operations, kPeerOperations);
    }
    simple();
    growths();
    return std::move(figures_);
  }

 private:
  bool ours() const { return kind_.name.starts_with(kOurs); }

  /// A whole run takes a while: what is known is told.
  void keep(const Figure& figure) {
    std::cerr << fmt::format("store: {}: {} {:.4g} {}\n", kind_.name, figure.name, figure.value, figure.unit);
    figures_.emplace(figure.name, figure);
  }

  /// Every question has a fresh daemon.
  template <class Question>
  void ask(const std::string& name, const std::string& unit, Question question) {
    const auto daemon = StoreDaemon::start(kind_);
    const Samples samples = daemon ? question(*daemon) : Samples(daemon.error());
    if (!samples) return left_out(kind_.name, name, samples.error());
    keep(Figure::of(name, unit, *samples));
  }

  void simple() {
    const StoreLoad& load = options_.load;
    for (const uint32_t clients : {1u, options_.together}) {
      const std::string suffix = clients == 1 ? "us" : fmt::format("{}_us", clients);
      ask("read_" + suffix, "us", [&](const auto& daemon) { return read_us(daemon, load, clients); });
      ask("write_" + suffix, "us", [&](const auto& daemon) { return write_us(daemon, load, clients); });
      ask("transaction10_" + suffix, "us",
          [&](const auto& daemon) { return transaction10_us(daemon, load, clients); });
    }
    ask("watch_us", "us", [&](const auto& daemon) { return watch_us(daemon, load); });
  }

  /// One daemon brought through the sizes: the figure at the last of them, the curve, and the growth over the
  /// first. False when it is left out.
  template <class Question>
  bool ask_growth(const std::string& name, const std::string& growth, const std::string& x, uint32_t first,
                  uint32_t last, Question question) {
    const auto sizes = decades(first, last);
    const auto daemon = StoreDaemon::start(kind_);
    const Costs costs = daemon ? question(*daemon, sizes) : Costs(daemon.error());
    if (!costs) {
      left_out(kind_.name, name, costs.error());
      return false;
    }
    keep(with_curve(Figure::of(name, "us", costs->back()), x, sizes, *costs));
    keep(Figure::of(growth, "", {median(costs->back()) / median(costs->front())}));
    return true;
  }

  void growths() {
    const StoreLoad& load = growth_load_;
    ask_growth("write_us_by_clients", fmt::format("write_{}_clients_growth", options_.clients), "clients",
               kFewClients, options_.clients, [&](const auto& daemon, const auto& sizes) {
                 return write_us_among_clients(daemon, load, sizes);
               });
    ask_growth("write_us_by_watches", fmt::format("write_{}_watches_growth", options_.watches), "watches",
               kFewWatches, options_.watches, [&](const auto& daemon, const auto& sizes) {
                 return write_us_among_watches(daemon, load, sizes);
               });
    double bytes_per_node = 0;
    if (ask_growth("write_us_by_nodes", fmt::format("write_{}_nodes_growth", options_.nodes), "nodes",
                   kFewNodes, options_.nodes, [&](const auto& daemon, const auto& sizes) {
                     return write_us_among_nodes(daemon, load, sizes, bytes_per_node);
                   }))
      keep(Figure::of("bytes_per_node", "B", {bytes_per_node}));
    if (options_.domains > 0) introduce_growth();
  }

  /// The port that is bound for each domain is looked for by Xen, through all that there are: what is left
  /// without it is ours.
  void introduce_growth() {
    std::vector<double> port_us;
    if (!ask_growth("introduce_us", "introduce_us_growth", "domains", kFewDomains, options_.domains,
                    [&](const auto& daemon, const auto& sizes) {
                      return introduce_us(daemon, growth_load_.rounds, domains_, sizes, port_us);
                    }))
      return;
    const auto whole = figures_.at("introduce_us").curve->points;
    std::vector<std::vector<double>> port;
    std::vector<std::vector<double>> rest;
    for (size_t i = 0; i < port_us.size(); ++i) {
      port.push_back({port_us[i]});
      rest.push_back({whole[i].second - port_us[i]});
    }
    const auto sizes = decades(kFewDomains, options_.domains);
    keep(with_curve(Figure::of("introduce_port_us", "us", port.back()), "domains", sizes, port));
    keep(with_curve(Figure::of("introduce_rest_us", "us", rest.back()), "domains", sizes, rest));
    const double growth = rest.back()[0] / rest.front()[0];
    keep(Figure::of("introduce_rest_us_growth", "", {growth}));
  }

  StoreKind kind_;
  Options options_;
  StoreLoad growth_load_;
  const EmptyDomains& domains_;
  Figures figures_;
};

/// Ours with the better peer beside it.
Figure with_peer(Figure figure, const std::map<std::string, Figures>& stores) {
  for (const std::string& peer : kPeers) {
    const auto store = stores.find(peer);
    if (store == stores.end()) continue;
    const auto theirs = store->second.find(figure.name);
    // Curves end at different sizes.
    if (theirs == store->second.end() || figure.curve) continue;
    if (figure.peer && figure.peer->value <= theirs->second.value) continue;
    figure.peer = PeerValue{peer, theirs->second.value, figure.value / theirs->second.value};
  }
  return figure;
}

void fill(Report& report, const std::map<std::string, Figures>& stores) {
  if (const auto ours = stores.find(kOurs); ours != stores.end())
    for (const auto& [name, figure] : ours->second) report.add(with_peer(figure, stores));
  for (const auto& [store, figures] : stores) {
    if (store == kOurs) continue;
    for (auto [name, figure] : figures) {
      figure.name = fmt::format("{}_{}", store, name);
      report.add(figure);
    }
  }
}

void raise_descriptors(uint32_t clients) {
  const rlim_t wanted = clients + 1'000;
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_cur >= wanted) return;
  limit.rlim_cur = wanted;
  limit.rlim_max = std::max(limit.rlim_max, wanted);
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
    std::cerr << fmt::format("store: no more than the usual descriptors: {} clients need {}\n", clients,
                             wanted);
}

/// The program of the same build, where this one is run from a build directory.
std::string find_program(const std::string& program) {
  std::error_code ignored;
  const auto bench = std::filesystem::read_symlink("/proc/self/exe", ignored).parent_path();
  const auto built = bench.parent_path() / "spawner" / "store" / program;
  return std::filesystem::exists(built, ignored) ? built.string() : program;
}

/// Domains for INTRODUCE; none where there is no Xen to make them.
EmptyDomains make_domains(const spawner::store::xen::XenControl& control, uint32_t count) {
  constexpr uint16_t kHighestId = 30'000;
  EmptyDomains domains;
  for (uint32_t i = 0; i < count; ++i) {
    auto domain =
        spawner::store::xen::EmptyDomain::create(control, DomId(static_cast<uint16_t>(kHighestId - i)));
    if (!domain) {
      std::cerr << fmt::format("store: only {} domains: {}\n", i, domain.error().text());
      break;
    }
    domains.push_back(std::move(*domain));
  }
  return domains;
}

/// After the last of the others, so many are timed; and one gives its port alone.
uint32_t timed_domains(const Options& options) {
  return options.load.rounds * kIntroducedARound + 1;
}

/// As many as there may be; the options say then how many of them the timed ones come after.
EmptyDomains domains_for(Options& options, const Result<spawner::store::xen::XenControl>& control) {
  const uint32_t wanted = options.domains == 0 ? 0 : options.domains + timed_domains(options);
  EmptyDomains domains = control ? make_domains(*control, wanted) : EmptyDomains();
  const auto there = static_cast<uint32_t>(domains.size());
  options.domains = there < kFewDomains + timed_domains(options) ? 0 : there - timed_domains(options);
  return domains;
}

Status run(Options options) {
  raise_descriptors(options.clients);
  const ClockKind clock = detect_clock();
  options.load = clock == ClockKind::kInstructions ? kInstructionsLoad : kWallLoad;
  options.load.rounds = options.rounds.value_or(options.load.rounds);
  options.load.operations = options.operations.value_or(options.load.operations);
  Report report("store", clock);
  report.set_parameter("operations", options.load.operations);
  report.set_parameter("rounds", options.load.rounds);
  report.set_parameter("clients", options.clients);
  report.set_parameter("nodes", options.nodes);
  report.set_parameter("watches", options.watches);
  const auto control = spawner::store::xen::XenControl::open();
  const EmptyDomains domains = domains_for(options, control);
  report.set_parameter("domains", options.domains);
  report.set_parameter("peer_clients", options.peer_clients);
  report.set_parameter("peer_nodes", options.peer_nodes);
  report.set_parameter("peer_watches", options.peer_watches);
  report.set_parameter("peer_domains", options.peer_domains);
  std::map<std::string, Figures> stores;
  for (const StoreKind& kind : all_stores(find_program(options.program))) {
    if (!options.only.empty() && std::ranges::find(options.only, kind.name) == options.only.end()) continue;
    if (const auto daemon = StoreDaemon::start(kind); !daemon) {
      left_out(kind.name, "everything", daemon.error());
      continue;
    }
    stores.emplace(kind.name, StoreBench(kind, options, domains).run());
  }
  fill(report, stores);
  return report.write(options.json);
}

}  // namespace
}  // namespace synfluid::bench

int main(int argc, char** argv) {
  synfluid::bench::Options options;
  CLI::App app("What a XenStore costs, beside xenstored and oxenstored");
  app.add_option("--operations", options.operations, "of each round")->check(CLI::Range(100, 1'000'000));
  app.add_option("--rounds", options.rounds, "of each figure")->check(CLI::Range(1, 1'000));
  app.add_option("--clients", options.clients, "connected at once, for ours")->check(CLI::Range(10, 100'000));
  app.add_option("--nodes", options.nodes, "in the tree, for ours")->check(CLI::Range(2'000, 10'000'000));
  app.add_option("--watches", options.watches, "of one client, for ours")->check(CLI::Range(10, 1'000'000));
  app.add_option("--peer-clients", options.peer_clients, "for the others")->check(CLI::Range(10, 100'000));
  app.add_option("--peer-nodes", options.peer_nodes, "for the others")->check(CLI::Range(2'000, 10'000'000));
  app.add_option("--peer-watches", options.peer_watches, "for the others")->check(CLI::Range(10, 1'000'000));
  app.add_option("--domains", options.domains, "to introduce, for ours; 0 for none")
      ->check(CLI::Range(0, 29'000));
  app.add_option("--peer-domains", options.peer_domains, "for the others")->check(CLI::Range(10, 29'000));
  app.add_option("--only", options.only, "these daemons alone");
  app.add_option("--program", options.program, "our daemon");
  app.add_option("--json", options.json, "write the figures there as JSON; - for standard output");
  CLI11_PARSE(app, argc, argv);
  const auto status = synfluid::bench::run(options);
  if (status) return 0;
  std::cerr << "store: " << status.error().text() << '\n';
  return 1;
}
