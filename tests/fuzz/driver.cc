// Runs one LLVMFuzzerTestOneInput where libFuzzer is not linked: first on every corpus file, then on seeded
// mutations of them, for so many seconds or iterations.
//
//     NAME [--seed N] [--seconds N] [--iterations N] [--max-bytes N] [FILE|FOLDER …]
//
// The same seed, files and iteration give the same input. When an input kills the process, or takes longer
// than kSlowSeconds, it is written to ./crash-SEED-ITERATION before the process goes.
//
// Threads: one. It finds far less than libFuzzer does, for it does not see coverage; it is for every build's
// tests.
#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) __attribute__((weak));
/// There with AddressSanitizer, which ends the process without a signal.
extern "C" void __sanitizer_set_death_callback(void (*callback)()) __attribute__((weak));

namespace {

using Bytes = std::vector<uint8_t>;
using Random = std::mt19937_64;

constexpr unsigned kSlowSeconds = 20;

struct Options {
  uint64_t seed = 1;
  uint64_t seconds = 1;
  uint64_t iterations = UINT64_MAX;
  size_t max_bytes = 4096;
  std::vector<std::string> paths;
};

/// What the signal handler may look at.
struct Current {
  const uint8_t* data = nullptr;
  size_t size = 0;
  char crash_file[64] = "";
};
Current current;

void write_all(int fd, const void* data, size_t size) {
  if (::write(fd, data, size) < 0) _exit(99);
}

void save_input() {
  static constexpr char kMessage[] = "\nfuzz: the input that did it is in ./";
  write_all(STDERR_FILENO, kMessage, sizeof kMessage - 1);
  write_all(STDERR_FILENO, current.crash_file, std::strlen(current.crash_file));
  write_all(STDERR_FILENO, "\n", 1);
  const int fd = ::open(current.crash_file, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
  if (fd >= 0) write_all(fd, current.data, current.size);
}

void on_fatal_signal(int number) {
  save_input();
  ::signal(number, SIG_DFL);
  ::raise(number);
}

void save_input_on_death() {
  for (const int number : {SIGABRT, SIGALRM}) ::signal(number, on_fatal_signal);
  if (__sanitizer_set_death_callback != nullptr) return __sanitizer_set_death_callback(save_input);
  for (const int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) ::signal(number, on_fatal_signal);
}

/// On a heap block of exactly its size, so that a sanitizer sees one byte too many.
void run_one(const Bytes& input, uint64_t seed, uint64_t iteration) {
  const std::vector<uint8_t> exact(input.begin(), input.end());
  current.data = exact.data();
  current.size = exact.size();
  std::snprintf(current.crash_file, sizeof current.crash_file, "crash-%llu-%llu",
                static_cast<unsigned long long>(seed), static_cast<unsigned long long>(iteration));
  ::alarm(kSlowSeconds);
  LLVMFuzzerTestOneInput(exact.data(), exact.size());
  ::alarm(0);
}

Bytes read_bytes(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

/// In the order of their names, so that a seed means the same everywhere.
std::vector<Bytes> read_corpus(const std::vector<std::string>& paths) {
  std::vector<std::filesystem::path> files;
  for (const std::string& path : paths) {
    if (!std::filesystem::is_directory(path)) {
      files.emplace_back(path);
      continue;
    }
    for (const auto& entry : std::filesystem::directory_iterator(path))
      if (entry.is_regular_file()) files.push_back(entry.path());
  }
  std::ranges::sort(files);
  std::vector<Bytes> corpus;
  for (const auto& file : files) corpus.push_back(read_bytes(file));
  return corpus;
}

size_t below(Random& random, size_t n) {
  return n == 0 ? 0 : static_cast<size_t>(random() % n);
}

class Mutator {
 public:
  Mutator(const std::vector<Bytes>& corpus, Random& random, size_t max_bytes)
      : corpus_(corpus), random_(random), max_bytes_(max_bytes) {}

  Bytes next() {
    Bytes input = corpus_.empty() ? Bytes() : corpus_[below(random_, corpus_.size())];
    for (size_t n = 1 + below(random_, 8); n > 0; --n) mutate(input);
    if (input.size() > max_bytes_) input.resize(max_bytes_);
    return input;
  }

 private:
  void mutate(Bytes& input) {
    switch (below(random_, 7)) {
      case 0:
        return flip_bit(input);
      case 1:
        return set_byte(input);
      case 2:
        return insert(input, random_bytes());
      case 3:
        return erase(input);
      case 4:
        return splice(input);
      case 5:
        return overwrite_with_number(input);
      default:
        return insert(input, piece_of(input));
    }
  }

  void flip_bit(Bytes& input) {
    if (!input.empty()) input[below(random_, input.size())] ^= static_cast<uint8_t>(1u << below(random_, 8));
  }
  void set_byte(Bytes& input) {
    if (!input.empty()) input[below(random_, input.size())] = static_cast<uint8_t>(random_());
  }
  void insert(Bytes& input, const Bytes& piece) {
    const auto at = input.begin() + static_cast<ptrdiff_t>(below(random_, input.size() + 1));
    input.insert(at, piece.begin(), piece.end());
  }
  void erase(Bytes& input) {
    const size_t at = below(random_, input.size());
    const size_t count = below(random_, std::min<size_t>(input.size() - at, 64) + 1);
    const auto first = input.begin() + static_cast<ptrdiff_t>(at);
    input.erase(first, first + static_cast<ptrdiff_t>(count));
  }
  void splice(Bytes& input) {
    if (!corpus_.empty()) insert(input, piece_of(corpus_[below(random_, corpus_.size())]));
  }
  void overwrite_with_number(Bytes& input) {
    static constexpr std::array<uint64_t, 10> kEdges{
        0, 1, 0x7f, 0x80, 0xff, 0xffff, 0x7fffffff, 0xffff'ffffull, ~uint64_t{0}, 0x8000};
    const uint64_t number = kEdges[below(random_, kEdges.size())];
    const size_t width = size_t{1} << below(random_, 4);
    if (input.size() < width) return;
    std::memcpy(input.data() + below(random_, input.size() - width + 1), &number, width);
  }
  Bytes random_bytes() {
    Bytes bytes(1 + below(random_, 8));
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random_());
    return bytes;
  }
  Bytes piece_of(const Bytes& from) {
    const size_t at = below(random_, from.size());
    const size_t count = below(random_, std::min<size_t>(from.size() - at, 256) + 1);
    const auto first = from.begin() + static_cast<ptrdiff_t>(at);
    return {first, first + static_cast<ptrdiff_t>(count)};
  }

  const std::vector<Bytes>& corpus_;
  Random& random_;
  size_t max_bytes_;
};

uint64_t number_or_exit(std::string_view option, const char* text) {
  uint64_t value = 0;
  const char* end = text == nullptr ? nullptr : text + std::strlen(text);
  if (text != nullptr && std::from_chars(text, end, value).ptr == end && end != text) return value;
  std::fprintf(stderr, "fuzz: %.*s wants a number\n", static_cast<int>(option.size()), option.data());
  std::exit(2);
}

Options parse_options(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view arg = argv[i];
    const auto value = [&] { return number_or_exit(arg, ++i < argc ? argv[i] : nullptr); };
    if (arg == "--seed") {
      options.seed = value();
    } else if (arg == "--seconds") {
      options.seconds = value();
    } else if (arg == "--iterations") {
      options.iterations = value();
    } else if (arg == "--max-bytes") {
      options.max_bytes = value();
    } else {
      options.paths.emplace_back(arg);
    }
  }
  return options;
}

uint64_t fuzz(const Options& options, const std::vector<Bytes>& corpus) {
  Random random(options.seed);
  Mutator mutator(corpus, random, options.max_bytes);
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(options.seconds);
  uint64_t iteration = 0;
  while (iteration < options.iterations && std::chrono::steady_clock::now() < end)
    run_one(mutator.next(), options.seed, ++iteration);
  return iteration;
}

}  // namespace

int main(int argc, char** argv) {
  if (LLVMFuzzerInitialize != nullptr) LLVMFuzzerInitialize(&argc, &argv);
  const Options options = parse_options(argc, argv);
  const auto seed = static_cast<unsigned long long>(options.seed);
  std::printf("fuzz: seed %llu\n", seed);
  std::fflush(stdout);
  save_input_on_death();
  const std::vector<Bytes> corpus = read_corpus(options.paths);
  for (const Bytes& input : corpus) run_one(input, options.seed, 0);
  const uint64_t iterations = fuzz(options, corpus);
  std::printf("fuzz: %zu corpus files and %llu mutations passed\n", corpus.size(),
              static_cast<unsigned long long>(iterations));
  return 0;
}
