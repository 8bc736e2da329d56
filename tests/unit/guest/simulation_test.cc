// Whole conversations over a network that loses, delays, reorders and duplicates, for many seeds.
#include <gtest/gtest.h>

#include "guest/services/http_response.h"
#include "tests/unit/guest/sim_client.h"

namespace synfluid::guest::testing {
namespace {

constexpr uint64_t kSecond = 1'000'000'000;

std::string expected_bytes(size_t count) {
  std::string out(count, '\0');
  for (size_t i = 0; i < count; ++i) out[i] = pattern_byte(i);
  return out;
}

std::string body_of(const std::string& response) {
  const size_t end = response.find("\r\n\r\n");
  return end == std::string::npos ? "" : response.substr(end + 4);
}

std::string get_bytes(size_t count) {
  return "GET /bytes/" + std::to_string(count) + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
}

struct Weather {
  const char* name;
  double loss;
  double duplication;
  uint64_t jitter_ns;
};

class Simulated : public ::testing::TestWithParam<Weather> {};

TEST_P(Simulated, ADownloadArrivesWholeWhateverTheNetworkDoes) {
  const Weather& weather = GetParam();
  constexpr size_t kBytes = 150'000;
  const std::string expected = expected_bytes(kBytes);
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    Rig rig({.buffers = 16, .rx_posted = 8});
    std::vector<SimClient> clients;
    clients.emplace_back(SimClient::Config{.v6 = seed % 2 == 0, .request = get_bytes(kBytes)});
    simulate(rig, clients,
             {.seed = seed,
              .loss = weather.loss,
              .duplication = weather.duplication,
              .jitter_ns = weather.jitter_ns},
             300 * kSecond);
    ASSERT_TRUE(body_of(clients[0].received()) == expected)
        << clients[0].received().size() << ' ' << weather.name << " seed " << seed;
    ASSERT_TRUE(clients[0].got_fin()) << weather.name << " seed " << seed;
    ASSERT_FALSE(clients[0].was_reset()) << weather.name << " seed " << seed;
  }
}

TEST_P(Simulated, ManyClientsShareAGuestWithFewBuffers) {
  const Weather& weather = GetParam();
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    Rig rig({.buffers = 8, .rx_posted = 4});
    std::vector<SimClient> clients;
    for (uint16_t i = 0; i < 20; ++i)
      clients.emplace_back(SimClient::Config{.port = static_cast<uint16_t>(5000 + i),
                                             .isn = 0xffffff00u + i * 77u,
                                             .mss = static_cast<uint16_t>(i % 2 == 0 ? 1460 : 536),
                                             .request = get_bytes(3000 + 1000u * i)});
    simulate(rig, clients,
             {.seed = seed,
              .loss = weather.loss,
              .duplication = weather.duplication,
              .jitter_ns = weather.jitter_ns},
             300 * kSecond);
    for (size_t i = 0; i < clients.size(); ++i)
      ASSERT_TRUE(body_of(clients[i].received()) == expected_bytes(3000 + 1000 * i))
          << clients[i].received().size() << ' ' << weather.name << " seed " << seed << " client " << i;
  }
}

TEST_P(Simulated, ARequestOverManySegmentsIsReassembled) {
  const Weather& weather = GetParam();
  std::string request = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
  for (int i = 0; i < 40; ++i)
    request += "X-Header-" + std::to_string(i) + ": " + std::string(100, 'a') + "\r\n";
  request += "\r\n";
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    Rig rig({});
    std::vector<SimClient> clients;
    clients.emplace_back(SimClient::Config{.mss = 200, .request = request, .closes_first = seed % 2 == 0});
    simulate(rig, clients,
             {.seed = seed,
              .loss = weather.loss,
              .duplication = weather.duplication,
              .jitter_ns = weather.jitter_ns},
             120 * kSecond);
    ASSERT_EQ(clients[0].received().substr(0, 15), "HTTP/1.1 200 OK") << weather.name << " seed " << seed;
    ASSERT_TRUE(clients[0].closed()) << weather.name << " seed " << seed;
  }
}

TEST_P(Simulated, AClientThatReadsSlowlyGetsAllThroughItsSmallWindow) {
  const Weather& weather = GetParam();
  constexpr size_t kBytes = 40'000;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Rig rig({});
    std::vector<SimClient> clients;
    clients.emplace_back(
        SimClient::Config{.window = 4000, .reads_per_ack = 1500, .request = get_bytes(kBytes)});
    simulate(rig, clients,
             {.seed = seed,
              .loss = weather.loss,
              .duplication = weather.duplication,
              .jitter_ns = weather.jitter_ns},
             300 * kSecond);
    ASSERT_TRUE(body_of(clients[0].received()) == expected_bytes(kBytes))
        << clients[0].received().size() << ' ' << weather.name << " seed " << seed;
  }
}

TEST_P(Simulated, AFirewallLetsADownloadThroughWhole) {
  const Weather& weather = GetParam();
  const std::string expected = expected_bytes(30'000);
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Rig server({});
    Rig firewall({.service = abi::ServiceKind::kFirewall, .config = "block_hosts ads.example.net\n"});
    std::vector<SimClient> clients;
    // Small segments, so that the request takes many and they overtake each other.
    clients.emplace_back(SimClient::Config{.mss = static_cast<uint16_t>(seed % 2 == 0 ? 64 : 1460),
                                           .request = get_bytes(expected.size())});
    simulate(server, clients,
             {.seed = seed,
              .loss = weather.loss / 2,  // on either half of the way
              .duplication = weather.duplication,
              .jitter_ns = weather.jitter_ns,
              .inline_rig = &firewall},
             600 * kSecond);
    ASSERT_TRUE(body_of(clients[0].received()) == expected) << weather.name << " seed " << seed;
    ASSERT_EQ(firewall.report().flows_blocked, 0u);
  }
}

TEST_P(Simulated, AFirewallLetsNothingOfABlockedHostThrough) {
  const Weather& weather = GetParam();
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    Rig server({});
    Rig firewall({.service = abi::ServiceKind::kFirewall, .config = "block_hosts ads.example.net\n"});
    std::vector<SimClient> clients;
    clients.emplace_back(SimClient::Config{.mss = static_cast<uint16_t>(8 + seed),
                                           .request = "GET / HTTP/1.1\r\nHost: ads.example.net\r\n\r\n"});
    simulate(server, clients,
             {.seed = seed,
              .loss = weather.loss / 2,  // on either half of the way
              .duplication = weather.duplication,
              .jitter_ns = weather.jitter_ns,
              .inline_rig = &firewall},
             600 * kSecond);
    ASSERT_TRUE(clients[0].was_reset()) << weather.name << " seed " << seed;
    ASSERT_EQ(clients[0].received(), "") << weather.name << " seed " << seed;
    ASSERT_EQ(firewall.report().flows_blocked, 1u);
  }
}

INSTANTIATE_TEST_SUITE_P(Networks, Simulated,
                         ::testing::Values(Weather{"clear", 0, 0, 0}, Weather{"loss", 0.05, 0, 0},
                                           Weather{"reordering", 0, 0.02, 3'000'000},
                                           Weather{"all", 0.05, 0.05, 5'000'000},
                                           Weather{"storm", 0.20, 0.10, 20'000'000}),
                         [](const auto& network) { return std::string(network.param.name); });

}  // namespace
}  // namespace synfluid::guest::testing
