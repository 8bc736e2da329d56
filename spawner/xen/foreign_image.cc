#include "spawner/xen/foreign_image.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <string_view>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backend/xen/quiet_logger.h"
#include "base/unique_fd.h"
#include "spawner/xen/libxenguest.h"

namespace synfluid::spawner::xen {

namespace {

struct CloseInterface {
  void operator()(xc_interface* xc) const noexcept { xc_interface_close(xc); }
};
struct ReleaseImage {
  void operator()(xc_dom_image* dom) const noexcept { xc_dom_release(dom); }
};

Error wrong(const std::string& name, std::string_view what) {
  return {ErrorCode::kInvalidArgument, fmt::format("{}: {}", name, what)};
}

Result<std::vector<std::byte>> read_file(const std::string& path) {
  // A pipe would be waited for, until somebody writes into it.
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat info {};
  if (!fd || ::fstat(fd.get(), &info) != 0) return Error::from_errno(errno, path);
  if (!S_ISREG(info.st_mode)) return wrong(path, "is not a file");
  if (info.st_size == 0) return wrong(path, "is empty");
  if (static_cast<uint64_t>(info.st_size) > kMaxForeignFileBytes)
    return wrong(path, fmt::format("is larger than {} MiB", kMaxForeignFileBytes >> 20));
  std::vector<std::byte> bytes(static_cast<size_t>(info.st_size));
  for (size_t at = 0; at < bytes.size();) {
    const ssize_t got = ::read(fd.get(), bytes.data() + at, bytes.size() - at);
    if (got < 0) return Error::from_errno(errno, path);
    if (got == 0) return wrong(path, "was cut short while it was read");
    at += static_cast<size_t>(got);
  }
  return bytes;
}

bool has(std::span<const std::byte> file, size_t at, std::string_view magic) {
  return at + magic.size() <= file.size() &&
         std::equal(magic.begin(), magic.end(), file.begin() + static_cast<ptrdiff_t>(at),
                    [](char a, std::byte b) { return static_cast<std::byte>(a) == b; });
}

constexpr std::string_view kElf64Little =
    "\x7f"
    "ELF\x02\x01";
constexpr std::string_view kElf =
    "\x7f"
    "ELF";
constexpr std::string_view kGzip = "\x1f\x8b";
constexpr size_t kLinuxHeader = 0x202;

Status check_kind(std::span<const std::byte> file, const std::string& name) {
  if (has(file, 0, kElf64Little) || has(file, 0, kGzip) || has(file, kLinuxHeader, "HdrS")) return {};
  if (has(file, 0, kElf)) return wrong(name, "is an ELF file, but not for 64-bit x86");
  return wrong(name, "is neither an ELF file nor a Linux bzImage");
}

/// The library's reason without its source line: "panic: FILE:LINE: FUNCTION: REASON".
std::string library_words(xc_interface* xc) {
  std::string_view words = xc_get_last_error(xc)->message;
  if (words.starts_with("panic: "))
    for (int part = 0; part < 3 && words.find(": ") != std::string_view::npos; ++part)
      words.remove_prefix(words.find(": ") + 2);
  return words.empty() ? "libxenguest gives no reason" : std::string(words);
}

/// What a Xen that runs 64-bit PV guests says of itself; the dummy interface can't ask one.
constexpr std::string_view kCapabilities = "xen-3.0-x86_64";

Status apply(ForeignImage& image, const std::string& key, const std::string& value) {
  if (key == "cmdline") {
    image.command_line = value;
    return {};
  }
  if (key == "ramdisk") {
    auto ramdisk = read_file(value);
    if (!ramdisk) return ramdisk.error().within("ramdisk");
    image.ramdisk = std::move(*ramdisk);
    return {};
  }
  if (key == "control_ring") {
    image.offers_control_ring = value == "on";
    if (value == "on" || value == "off") return {};
    return wrong(image.path, fmt::format("control_ring is '{}'; allowed: on, off", value));
  }
  return wrong(
      image.path,
      fmt::format("config key '{}' is not known to such an image; allowed: cmdline, control_ring, ramdisk",
                  key));
}

Status check_memory(const ForeignImage& image) {
  if (image.memory_bytes < kMinForeignBytes)
    return wrong(image.path, fmt::format("memory of {} KiB is too little; it needs {} MiB or more",
                                         image.memory_bytes >> 10, kMinForeignBytes >> 20));
  if (image.kernel.size() + image.ramdisk.size() > image.memory_bytes)
    return wrong(image.path,
                 fmt::format("kernel and ramdisk have {} MiB, the guest has {}",
                             (image.kernel.size() + image.ramdisk.size()) >> 20, image.memory_bytes >> 20));
  return {};
}

}  // namespace

Result<std::vector<std::byte>> unpack_kernel(std::span<const std::byte> file, const std::string& name) {
  if (const Status kind = check_kind(file, name); !kind) return kind.error();
  auto* logger = backend::xen::quiet_logger();
  // A dummy interface parses and unpacks, but speaks to no Xen.
  const std::unique_ptr<xc_interface, CloseInterface> xc(
      xc_interface_open(logger, logger, XC_OPENFLAG_DUMMY));
  if (!xc) return Error(ErrorCode::kSystem, "libxenctrl gives no interface");
  const std::unique_ptr<xc_dom_image, ReleaseImage> dom(xc_dom_allocate(xc.get(), "", nullptr));
  if (!dom) return Error(ErrorCode::kNoMemory, fmt::format("{}: no memory to read it", name));
  dom->container_type = xc_dom_image::XC_DOM_PV_CONTAINER;
  std::copy(kCapabilities.begin(), kCapabilities.end(), dom->xen_caps);
  if (xc_dom_kernel_max_size(dom.get(), kMaxForeignFileBytes) != 0 ||
      xc_dom_kernel_mem(dom.get(), file.data(), file.size()) != 0 || xc_dom_parse_image(dom.get()) != 0)
    return wrong(name, fmt::format("is not a Xen PV kernel ({})", library_words(xc.get())));
  if (dom->guest_type == nullptr || std::string_view(dom->guest_type) != "xen-3.0-x86_64")
    return wrong(name, "is not a 64-bit Xen PV kernel");
  const std::span unpacked(static_cast<const std::byte*>(dom->kernel_blob), dom->kernel_size);
  return std::vector<std::byte>(unpacked.begin(), unpacked.end());
}

Result<ForeignImage> read_foreign_image(const ImageSpec& spec) {
  ForeignImage image;
  image.service = spec.service;
  image.path = spec.image;
  if (spec.memory_bytes != 0) image.memory_bytes = spec.memory_bytes;
  const auto file = read_file(spec.image);
  if (!file) return file.error();
  auto kernel = unpack_kernel(*file, spec.image);
  if (!kernel) return kernel.error();
  image.kernel = std::move(*kernel);
  for (const auto& [key, value] : spec.config)
    if (const Status applied = apply(image, key, value); !applied) return applied.error();
  if (const Status enough = check_memory(image); !enough) return enough.error();
  return image;
}

}  // namespace synfluid::spawner::xen
