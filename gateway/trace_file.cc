#include "gateway/trace_file.h"

#include <array>
#include <cerrno>
#include <cstdlib>
#include <span>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

namespace synfluid::gateway {

namespace {

constexpr size_t kChunkBytes = 1 << 16;

Result<UniqueFd> file_without_a_name() {
  const char* folder = std::getenv("TMPDIR");
  std::string path =
      fmt::format("{}/synfluid-trace-XXXXXX", folder != nullptr && *folder != '\0' ? folder : "/tmp");
  UniqueFd fd(mkostemp(path.data(), O_CLOEXEC));
  if (!fd) return Error::from_errno(errno, fmt::format("a temporary file {}", path));
  unlink(path.c_str());
  return fd;
}

Status write_all(int to, std::span<const char> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(to, bytes.data(), bytes.size());
    if (written < 0) return Error::from_errno(errno, "keeping it in a temporary file");
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
  return {};
}

Status copy(int from, int to) {
  std::array<char, kChunkBytes> chunk;
  for (;;) {
    const ssize_t got = read(from, chunk.data(), chunk.size());
    if (got == 0) return {};
    if (got < 0) return Error::from_errno(errno, "reading it");
    if (Status written = write_all(to, std::span(chunk).first(static_cast<size_t>(got))); !written)
      return written;
  }
}

}  // namespace

TraceFile::TraceFile(std::string name, std::string path, UniqueFd kept)
    : name_(std::move(name)), path_(std::move(path)), kept_(std::move(kept)) {}

Result<TraceFile> TraceFile::open(const std::string& path) {
  const bool is_stdin = path == "-";
  const std::string name = is_stdin ? "stdin" : path;
  UniqueFd source(is_stdin ? dup(STDIN_FILENO) : ::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status {};
  if (!source || fstat(source.get(), &status) != 0) return Error::from_errno(errno, name);
  if (S_ISDIR(status.st_mode)) return Error::from_errno(EISDIR, name);
  if (S_ISREG(status.st_mode) && !is_stdin) return TraceFile(name, path, {});
  auto kept = file_without_a_name();
  if (!kept) return kept.error().within(name);
  if (Status copied = copy(source.get(), kept->get()); !copied) return copied.error().within(name);
  const std::string kept_path = fmt::format("/proc/self/fd/{}", kept->get());
  return TraceFile(name, kept_path, std::move(*kept));
}

}  // namespace synfluid::gateway
