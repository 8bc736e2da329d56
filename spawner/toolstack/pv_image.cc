#include "spawner/toolstack/pv_image.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include <elf.h>
#include <fmt/format.h>
#include <xen/elfnote.h>

namespace synfluid::spawner::toolstack {

namespace {

using Bytes = std::span<const std::byte>;

constexpr size_t kMaxSegments = 64;
constexpr uint64_t kLowHalfEnd = 1ull << 47;
constexpr char kNoteName[] = "Xen";

uint64_t pages_of(uint64_t bytes) {
  return (bytes + kPageBytes - 1) / kPageBytes;
}
size_t note_padding(size_t bytes) {
  return (bytes + 3) & ~size_t{3};
}

/// A piece of the file, or nothing if it is not wholly inside.
std::optional<Bytes> piece(Bytes file, uint64_t offset, uint64_t bytes) {
  if (offset > file.size() || bytes > file.size() - offset) return std::nullopt;
  return file.subspan(offset, bytes);
}

/// The file need not be aligned for T.
template <class T>
std::optional<T> read_at(Bytes file, uint64_t offset) {
  const auto bytes = piece(file, offset, sizeof(T));
  if (!bytes) return std::nullopt;
  T value;
  std::memcpy(&value, bytes->data(), sizeof(T));
  return value;
}

struct XenNotes {
  bool any = false;
  std::optional<uint64_t> entry;
  std::optional<uint64_t> virt_base;
  uint64_t paddr_offset = 0;
};

uint64_t note_number(Bytes value) {
  if (const auto wide = read_at<uint64_t>(value, 0)) return *wide;
  if (const auto narrow = read_at<uint32_t>(value, 0)) return *narrow;
  return 0;
}

void take_note(uint32_t type, Bytes value, XenNotes& notes) {
  notes.any = true;
  if (type == XEN_ELFNOTE_ENTRY) notes.entry = note_number(value);
  if (type == XEN_ELFNOTE_VIRT_BASE) notes.virt_base = note_number(value);
  if (type == XEN_ELFNOTE_PADDR_OFFSET) notes.paddr_offset = note_number(value);
}

void read_notes(Bytes segment, XenNotes& notes) {
  size_t at = 0;
  while (const auto head = read_at<Elf64_Nhdr>(segment, at)) {
    at += sizeof(Elf64_Nhdr);
    const auto name = piece(segment, at, head->n_namesz);
    if (!name) return;
    at += note_padding(head->n_namesz);
    const auto value = piece(segment, at, head->n_descsz);
    if (!value) return;
    at += note_padding(head->n_descsz);
    if (name->size() == sizeof(kNoteName) && std::memcmp(name->data(), kNoteName, sizeof(kNoteName)) == 0) {
      take_note(head->n_type, *value, notes);
    }
  }
}

class Reader {
 public:
  Reader(Bytes file, std::string_view name) : file_(file), name_(name) {}

  Result<PvImage> read() {
    if (auto status = read_headers(); !status) return status.error();
    if (auto status = read_xen_notes(); !status) return status.error();
    for (const Elf64_Phdr& header : headers_) {
      if (header.p_type != PT_LOAD || header.p_memsz == 0) continue;
      if (auto status = add_segment(header); !status) return status.error();
    }
    return finish();
  }

 private:
  Error wrong(std::string_view what) const {
    return {ErrorCode::kInvalidArgument, fmt::format("image '{}': {}", name_, what)};
  }

  Status read_headers() {
    const auto elf = read_at<Elf64_Ehdr>(file_, 0);
    if (!elf || std::memcmp(elf->e_ident, ELFMAG, SELFMAG) != 0) return wrong("not an ELF file");
    if (elf->e_ident[EI_CLASS] != ELFCLASS64 || elf->e_machine != EM_X86_64)
      return wrong("not for 64-bit x86");
    if (elf->e_type != ET_EXEC) return wrong("not a statically placed executable");
    if (elf->e_phentsize != sizeof(Elf64_Phdr)) return wrong("broken ELF: odd program headers");
    if (elf->e_phnum == 0 || elf->e_phnum > kMaxSegments) {
      return wrong(fmt::format("broken ELF: {} program headers", elf->e_phnum));
    }
    if (elf->e_phoff > file_.size()) return wrong("broken ELF: its program headers are outside the file");
    for (uint64_t i = 0; i < elf->e_phnum; ++i) {
      const auto header = read_at<Elf64_Phdr>(file_, elf->e_phoff + i * sizeof(Elf64_Phdr));
      if (!header) return wrong("broken ELF: its program headers are outside the file");
      headers_.push_back(*header);
    }
    return {};
  }

  Status read_xen_notes() {
    for (const Elf64_Phdr& header : headers_) {
      if (header.p_type != PT_NOTE) continue;
      const auto segment = piece(file_, header.p_offset, header.p_filesz);
      if (!segment) return wrong("broken ELF: its notes are outside the file");
      read_notes(*segment, notes_);
    }
    if (!notes_.any) return wrong("not a Xen PV kernel: it has no Xen note");
    if (!notes_.entry) return wrong("not a Xen PV kernel: no Xen note names its entry");
    image_.entry = *notes_.entry;
    image_.virt_base = notes_.virt_base.value_or(0);
    if (image_.virt_base % kPageBytes != 0) return wrong("its virtual base is not on a page boundary");
    if (image_.virt_base >= kLowHalfEnd)
      return wrong("its virtual base is not in the lower half of the addresses");
    return {};
  }

  Result<PageAccess> access_of(const Elf64_Phdr& header) const {
    const bool write = (header.p_flags & PF_W) != 0;
    const bool execute = (header.p_flags & PF_X) != 0;
    if (write && execute) return wrong("a segment is both writable and executable");
    if (execute) return PageAccess::kExecute;
    return write ? PageAccess::kReadWrite : PageAccess::kReadOnly;
  }

  Status add_segment(const Elf64_Phdr& header) {
    const auto content = piece(file_, header.p_offset, header.p_filesz);
    if (!content) return wrong("broken ELF: a segment is outside the file");
    if (header.p_filesz > header.p_memsz)
      return wrong("broken ELF: a segment is larger in the file than in memory");
    const uint64_t address = header.p_paddr - notes_.paddr_offset;
    if (address > kMaxImageBytes || header.p_memsz > kMaxImageBytes - address) {
      return wrong(
          fmt::format("a segment ends beyond the {} MiB that an image may have", kMaxImageBytes >> 20));
    }
    if (address % kPageBytes != 0) return wrong("a segment does not begin on a page boundary");
    if (image_.virt_base + address != header.p_vaddr)
      return wrong("a segment is not linked where it would be loaded");
    if (image_.content.size() + content->size() > kMaxImageBytes) return wrong("its segments overlap");
    auto access = access_of(header);
    if (!access) return access.error();
    image_.segments.push_back({.first_page = static_cast<uint32_t>(address / kPageBytes),
                               .pages = static_cast<uint32_t>(pages_of(header.p_memsz)),
                               .content_pages = static_cast<uint32_t>(pages_of(header.p_filesz)),
                               .access = *access,
                               .content_offset = image_.content.size()});
    image_.content.insert(image_.content.end(), content->begin(), content->end());
    image_.content.resize(pages_of(image_.content.size()) * kPageBytes);
    return {};
  }

  Result<PvImage> finish() {
    auto& segments = image_.segments;
    if (segments.empty()) return wrong("broken ELF: nothing to load");
    std::sort(segments.begin(), segments.end(),
              [](const auto& a, const auto& b) { return a.first_page < b.first_page; });
    for (size_t i = 1; i < segments.size(); ++i) {
      if (segments[i].first_page < segments[i - 1].first_page + segments[i - 1].pages) {
        return wrong("two segments overlap");
      }
    }
    image_.pages = segments.back().first_page + segments.back().pages;
    if (!entry_is_code()) return wrong("its entry is not inside its code");
    return std::move(image_);
  }

  bool entry_is_code() const {
    const uint64_t page = (image_.entry - image_.virt_base) / kPageBytes;
    return std::any_of(image_.segments.begin(), image_.segments.end(), [&](const ImageSegment& s) {
      return s.access == PageAccess::kExecute && page >= s.first_page &&
             page - s.first_page < s.content_pages;
    });
  }

  Bytes file_;
  std::string_view name_;
  std::vector<Elf64_Phdr> headers_;
  XenNotes notes_;
  PvImage image_;
};

}  // namespace

Result<PvImage> read_pv_image(std::span<const std::byte> elf, std::string_view name) {
  return Reader(elf, name).read();
}

}  // namespace synfluid::spawner::toolstack
