#include "policies/values.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include <fmt/format.h>

namespace synfluid::policies {

namespace {

constexpr uint64_t kPageBytes = 4096;
constexpr uint64_t kLeastMemory = uint64_t{64} << 10;
constexpr uint64_t kMostMemory = uint64_t{64} << 30;
constexpr int64_t kLongest = 24 * 3600 * kNsPerSecond;
/// More events than any machine can have, and small enough to be multiplied by a second's nanoseconds.
constexpr uint64_t kMostEvents = 1'000'000'000;
constexpr size_t kLongestName = 63;
constexpr size_t kLongestHost = 253;
constexpr size_t kLongestLabel = 63;

constexpr std::string_view kSizes = "a size such as 512KiB, 8MiB or 1GiB";
constexpr std::string_view kDurations = "a duration such as 500ms, 10s or 5m";
constexpr std::string_view kRates = "a rate such as 2000/s, 100/m or 20/10s";

struct Unit {
  std::string_view name;
  uint64_t factor;
};

constexpr std::array kSizeUnits{Unit{"", 1}, Unit{"B", 1}, Unit{"KiB", uint64_t{1} << 10},
                                Unit{"MiB", uint64_t{1} << 20}, Unit{"GiB", uint64_t{1} << 30}};
constexpr std::array kTimeUnits{Unit{"us", kNsPerUs}, Unit{"ms", kNsPerMs}, Unit{"s", kNsPerSecond},
                                Unit{"m", 60 * kNsPerSecond}, Unit{"h", 3600 * kNsPerSecond}};

template <class T>
tl::unexpected<ValueFault> fault(T&& what, std::string_view allowed) {
  return tl::unexpected(ValueFault{std::string(std::forward<T>(what)), std::string(allowed)});
}

std::optional<uint64_t> digits(std::string_view text) {
  uint64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, ec] = std::from_chars(text.data(), end, value);
  if (text.empty() || ec != std::errc{} || stop != end) return std::nullopt;
  return value;
}

/// A number and one of the units; nothing if it is neither or does not fit.
std::optional<uint64_t> with_unit(std::string_view text, std::span<const Unit> units) {
  const size_t number_end = std::min(text.find_first_not_of("0123456789"), text.size());
  const auto number = digits(text.substr(0, number_end));
  const auto unit = std::ranges::find(units, text.substr(number_end), &Unit::name);
  uint64_t product = 0;
  if (!number || unit == units.end() || __builtin_mul_overflow(*number, unit->factor, &product))
    return std::nullopt;
  return product;
}

bool is_letter_or_digit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool is_label(std::string_view label) {
  const auto fits = [](char c) { return is_letter_or_digit(c) || c == '-' || c == '_'; };
  return !label.empty() && label.size() <= kLongestLabel && std::ranges::all_of(label, fits) &&
         label.front() != '-' && label.back() != '-';
}

bool is_host(std::string_view host) {
  if (host.empty() || host.size() > kLongestHost) return false;
  for (size_t at = 0; at <= host.size();) {
    const size_t dot = std::min(host.find('.', at), host.size());
    if (!is_label(host.substr(at, dot - at))) return false;
    at = dot + 1;
  }
  return true;
}

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

/// The block that was meant: the same length, without the bits behind it.
std::optional<Prefix> without_host_bits(std::string_view text) {
  const size_t slash = text.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  const auto address = Address::parse(text.substr(0, slash));
  const auto length = digits(text.substr(slash + 1));
  if (!address || !length) return std::nullopt;
  const bool v4 = text.find(':') == std::string_view::npos;
  const uint64_t bits = *length + (v4 ? 96 : 0);
  if (bits > 128) return std::nullopt;
  Prefix prefix{*address, static_cast<uint8_t>(bits)};
  for (size_t bit = bits; bit < 128; ++bit)
    prefix.address.bytes[bit / 8] &= static_cast<uint8_t>(~(0x80u >> bit % 8));
  return prefix;
}

}  // namespace

Parsed<uint64_t> parse_count(std::string_view text, Bounds bounds) {
  const auto value = digits(text);
  const std::string allowed = fmt::format("a whole number from {} to {}", bounds.least, bounds.most);
  if (!value) return fault("is no whole number", allowed);
  if (*value < bounds.least) return fault("is too small", allowed);
  if (*value > bounds.most) return fault("is too large", allowed);
  return *value;
}

Parsed<uint64_t> parse_memory(std::string_view text) {
  const auto bytes = with_unit(text, kSizeUnits);
  if (!bytes) return fault("is no size", kSizes);
  if (*bytes < kLeastMemory) return fault("is too little memory", "64KiB to 64GiB");
  if (*bytes > kMostMemory) return fault("is too much memory", "64KiB to 64GiB");
  if (*bytes % kPageBytes != 0) return fault("is not a whole number of pages", "multiples of 4KiB");
  return *bytes;
}

Parsed<int64_t> parse_duration(std::string_view text) {
  const auto ns = with_unit(text, kTimeUnits);
  if (!ns) return fault("is no duration", kDurations);
  if (*ns < uint64_t{kNsPerMs}) return fault("is too short", "1ms to 24h");
  if (*ns > uint64_t{kLongest}) return fault("is too long", "1ms to 24h");
  return static_cast<int64_t>(*ns);
}

Parsed<Rate> parse_rate(std::string_view text) {
  const size_t slash = text.find('/');
  if (slash == std::string_view::npos) return fault("is no rate", kRates);
  const auto events = digits(text.substr(0, slash));
  const std::string_view unit = text.substr(slash + 1);
  const bool bare = !unit.empty() && !(unit.front() >= '0' && unit.front() <= '9');
  const auto per = with_unit(bare ? fmt::format("1{}", unit) : std::string(unit), kTimeUnits);
  if (!events || !per) return fault("is no rate", kRates);
  if (*events == 0 || *events > kMostEvents) return fault("is out of range", "1 to 1000000000 events");
  if (*per < uint64_t{kNsPerMs} || *per > uint64_t{kLongest})
    return fault("is out of range", "events per 1ms to 24h");
  return Rate{*events, static_cast<int64_t>(*per)};
}

Parsed<Range> parse_range(std::string_view text, Bounds bounds, std::string_view example) {
  const size_t dash = text.find('-');
  const auto first = digits(text.substr(0, dash));
  const auto last = dash == std::string_view::npos ? first : digits(text.substr(dash + 1));
  const std::string allowed =
      fmt::format("a number from {} to {}, or a range such as \"{}\"", bounds.least, bounds.most, example);
  if (!first || !last) return fault("is no number and no range", allowed);
  if (*first < bounds.least || *last > bounds.most || *first > bounds.most)
    return fault("is out of range", allowed);
  if (*first > *last) return fault("ends before it begins", fmt::format("\"{}-{}\"", *last, *first));
  return Range{static_cast<uint16_t>(*first), static_cast<uint16_t>(*last)};
}

Parsed<std::string> parse_name(std::string_view text) {
  const auto fits = [](char c) { return is_letter_or_digit(c) || c == '-' || c == '_' || c == '.'; };
  if (text.empty() || text.size() > kLongestName || !is_letter_or_digit(text.front()) ||
      !std::ranges::all_of(text, fits))
    return fault("is no name", "1 to 63 letters, digits, '-', '_' and '.', beginning with a letter or digit");
  return std::string(text);
}

Parsed<std::string> parse_host_pattern(std::string_view text) {
  std::string_view name = text;
  if (name.starts_with("*.")) name.remove_prefix(2);
  if (name.ends_with('.')) name.remove_suffix(1);
  if (!is_host(name))
    return fault("is no host name",
                 "a DNS name such as ads.example.net, or one behind a wildcard: \"*.example.net\"");
  std::string pattern(text.substr(0, text.size() - (text.ends_with('.') ? 1 : 0)));
  std::ranges::transform(pattern, pattern.begin(), lower);
  return pattern;
}

Parsed<Prefix> parse_prefix(std::string_view text) {
  if (auto prefix = Prefix::parse(text)) return *prefix;
  if (const auto meant = without_host_bits(text))
    return fault("has address bits set behind its prefix length", fmt::format("\"{}\"", meant->to_string()));
  return fault("is no address and no prefix",
               "an address, or a prefix such as 10.20.0.0/16 or \"2001:db8::/32\"");
}

}  // namespace synfluid::policies
