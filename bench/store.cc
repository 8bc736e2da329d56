// What a XenStore costs: Synfluid's daemon beside xenstored and oxenstored, each alone, in one run.
//
//   read_us, write_us            the daemon's own CPU per operation, one client
//   transaction10_us             the same for a transaction of ten writes
//   ..._64_us                    the same with 64 clients at once
//   watch_us                     from a write to its event at a waiting client, the daemon idle before
//   write_10000_clients_growth   a write among 10,000 clients with two watches each, over one among 10
//   write_170000_nodes_growth    a write among 170,000 nodes (10,000 guests of 17), over one among 1,000
//   write_us_by_clients, ..._by_watches, ..._by_nodes
//                                a write's cost at each power of ten of them, a curve; the value is its last
//                                point
//   bytes_per_node               the daemon's memory, as those nodes are added
//   introduce_us, ..._growth     an INTRODUCE of the first tenth of --domains; of the last tenth over it
//   NAME_...                     the same of the other daemons, and of ours on LMDB
//
// A figure's peer is the better of xenstored and oxenstored; the ratio is ours over it, so less is better.
// Daemons start with their quotas raised. A daemon that is not there, or refuses, is named and left out. The
// peers need Xen, and dom0's store to themselves: the lab starts this bench with no store running.
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
/// Where a peer's operation takes milliseconds, so many tell enough.
constexpr uint32_t kPeerRounds = 3;
constexpr uint32_t kPeerOperations = 200;
constexpr const char* kOurs = "synfluid";
const std::vector<std::string> kPeers = {"xenstored", "oxenstored"};

struct Options {
  StoreLoad load{};
  uint32_t together = 64;
  uint32_t clients = 10'000;
  uint32_t nodes = 170'000;
  uint32_t watches = 10'000;
  uint32_t peer_clients = 300;
  uint32_t peer_nodes = 10'000;
  uint32_t peer_watches = 1'000;
  uint32_t domains = 1'000;
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

class StoreBench {
 public:
  StoreBench(const StoreKind& kind, const Options& options, const EmptyDomains& domains)
      : kind_(kind), options_(options), growth_load_(options.load), domains_(domains) {}

  Figures run() {
    if (!ours()) {
      options_.clients = std::min(options_.clients, options_.peer_clients);
      options_.nodes = std::min(options_.nodes, options_.peer_nodes);
      options_.watches = std::min(options_.watches, options_.peer_watches);
      growth_load_.rounds = std::min(growth_load_.rounds, kPeerRounds);
      growth_load_.operations = std::min(growth_load_.operations, kPeerOperations);
    }
    simple();
    clients_growth();
    watches_curve();
    nodes_growth();
    if (!domains_.empty()) introduce_growth();
    return std::move(figures_);
  }

 private:
  bool ours() const { return kind_.name.starts_with(kOurs); }

  /// Every question has a fresh daemon.
  template <class Question>
  void ask(const std::string& name, const std::string& unit, Question question) {
    const auto daemon = StoreDaemon::start(kind_);
    const Samples samples = daemon ? question(*daemon) : Samples(daemon.error());
    if (!samples) return left_out(kind_.name, name, samples.error());
    figures_.emplace(name, Figure::of(name, unit, *samples));
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

  void add_growth(const std::string& name, const std::vector<double>& few, const std::vector<double>& many) {
    figures_.emplace(name, Figure::of(name, "", {median(many) / median(few)}));
  }

  void add_curve(const std::string& x, const std::vector<uint32_t>& sizes,
                 const std::vector<std::vector<double>>& costs) {
    Figure figure = Figure::of("write_us_by_" + x, "us", costs.back());
    figure.curve = Curve{.x = x, .points = {}};
    for (size_t i = 0; i < costs.size(); ++i) figure.curve->points.emplace_back(sizes[i], median(costs[i]));
    figures_.emplace(figure.name, figure);
  }

  /// A fresh daemon for each size.
  template <class Question>
  std::optional<std::vector<std::vector<double>>> ask_at(const std::string& name,
                                                         const std::vector<uint32_t>& sizes,
                                                         Question question) {
    std::vector<std::vector<double>> costs;
    for (const uint32_t size : sizes) {
      const auto daemon = StoreDaemon::start(kind_);
      const Samples samples = daemon ? question(*daemon, size) : Samples(daemon.error());
      if (!samples) {
        left_out(kind_.name, name, samples.error());
        return std::nullopt;
      }
      costs.push_back(*samples);
    }
    return costs;
  }

  void clients_growth() {
    const std::string name = fmt::format("write_{}_clients_growth", options_.clients);
    const auto sizes = decades(kFewClients, options_.clients);
    const auto costs = ask_at(name, sizes, [&](const auto& daemon, uint32_t clients) {
      return write_among_clients_us(daemon, growth_load_, clients);
    });
    if (!costs) return;
    add_growth(name, costs->front(), costs->back());
    add_curve("clients", sizes, *costs);
  }

  void watches_curve() {
    const auto sizes = decades(kFewWatches, options_.watches);
    const auto costs = ask_at("write_us_by_watches", sizes, [&](const auto& daemon, uint32_t watches) {
      return write_among_watches_us(daemon, growth_load_, watches);
    });
    if (costs) add_curve("watches", sizes, *costs);
  }

  void nodes_growth() {
    const std::string name = fmt::format("write_{}_nodes_growth", options_.nodes);
    const auto sizes = decades(kFewNodes, options_.nodes);
    const auto daemon = StoreDaemon::start(kind_);
    const auto result =
        daemon ? write_among_nodes(*daemon, growth_load_, sizes) : Result<NodesResult>(daemon.error());
    if (!result) return left_out(kind_.name, name, result.error());
    add_growth(name, result->costs.front(), result->costs.back());
    add_curve("nodes", sizes, result->costs);
    figures_.emplace("bytes_per_node", Figure::of("bytes_per_node", "B", {result->bytes_per_node}));
  }

  void introduce_growth() {
    const auto daemon = StoreDaemon::start(kind_);
    const Samples samples = daemon ? introduce_us(*daemon, domains_) : Samples(daemon.error());
    if (!samples) return left_out(kind_.name, "introduce_us", samples.error());
    const auto tenth = static_cast<std::ptrdiff_t>(samples->size() / 10);
    if (tenth == 0) return;
    // The first of all pays for the kernel's pool of pages to map grants at.
    const std::vector<double> first(samples->begin() + 1, samples->begin() + 1 + tenth);
    figures_.emplace("introduce_us", Figure::of("introduce_us", "us", first));
    add_growth("introduce_us_growth", first, {samples->end() - tenth, samples->end()});
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

Status run(const Options& options) {
  raise_descriptors(options.clients);
  Report report("store", detect_clock());
  report.set_parameter("operations", options.load.operations);
  report.set_parameter("rounds", options.load.rounds);
  report.set_parameter("clients", options.clients);
  report.set_parameter("nodes", options.nodes);
  report.set_parameter("watches", options.watches);
  const auto control = spawner::store::xen::XenControl::open();
  const EmptyDomains domains = control ? make_domains(*control, options.domains) : EmptyDomains();
  report.set_parameter("domains", domains.size());
  std::map<std::string, Figures> stores;
  for (const StoreKind& kind : all_stores(find_program(options.program))) {
    if (!options.only.empty() && std::ranges::find(options.only, kind.name) == options.only.end()) continue;
    if (const auto daemon = StoreDaemon::start(kind); !daemon) {
      left_out(kind.name, "everything", daemon.error());
      continue;
    }
    std::cerr << "store: " << kind.name << '\n';
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
  app.add_option("--operations", options.load.operations, "of each round")->check(CLI::Range(100, 1'000'000));
  app.add_option("--rounds", options.load.rounds, "of each figure")->check(CLI::Range(1, 1'000));
  app.add_option("--clients", options.clients, "connected at once, for ours")->check(CLI::Range(10, 100'000));
  app.add_option("--nodes", options.nodes, "in the tree, for ours")->check(CLI::Range(2'000, 10'000'000));
  app.add_option("--watches", options.watches, "of one client, for ours")->check(CLI::Range(10, 1'000'000));
  app.add_option("--peer-clients", options.peer_clients, "for the others")->check(CLI::Range(10, 100'000));
  app.add_option("--peer-nodes", options.peer_nodes, "for the others")->check(CLI::Range(2'000, 10'000'000));
  app.add_option("--peer-watches", options.peer_watches, "for the others")->check(CLI::Range(10, 1'000'000));
  app.add_option("--domains", options.domains, "to introduce; 0 for none")->check(CLI::Range(0, 29'000));
  app.add_option("--only", options.only, "these daemons alone");
  app.add_option("--program", options.program, "our daemon");
  app.add_option("--json", options.json, "write the figures there as JSON; - for standard output");
  CLI11_PARSE(app, argc, argv);
  const auto status = synfluid::bench::run(options);
  if (status) return 0;
  std::cerr << "store: " << status.error().text() << '\n';
  return 1;
}
