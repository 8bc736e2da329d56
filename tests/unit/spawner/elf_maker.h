// Puts small ELF files together, right and wrong ones, for tests of the image reader.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include <elf.h>

namespace synfluid::spawner::toolstack {

struct ElfSegment {
  uint32_t flags = PF_R;
  uint64_t address = 0;  ///< from the virtual base
  std::vector<std::byte> content;
  uint64_t memory_bytes = 0;
};

struct ElfMaker {
  static constexpr uint64_t kBase = 0x400000;

  uint64_t virt_base = kBase;
  uint64_t entry = kBase;
  std::vector<ElfSegment> segments;
  bool with_notes = true;
  bool with_entry_note = true;

  /// One page of code, one of constants, a half-filled page of data with three pages of .bss behind it.
  static ElfMaker usual() {
    ElfMaker maker;
    maker.segments = {{PF_R | PF_X, 0, std::vector<std::byte>(100, std::byte{0x90}), 100},
                      {PF_R, 0x1000, std::vector<std::byte>(4096, std::byte{0x11}), 4096},
                      {PF_R | PF_W, 0x2000, std::vector<std::byte>(2048, std::byte{0x22}), 4 * 4096}};
    return maker;
  }

  std::vector<std::byte> make() const {
    const std::vector<std::byte> notes = make_notes();
    std::vector<Elf64_Phdr> headers;
    std::vector<std::byte> body;
    const uint64_t body_at = sizeof(Elf64_Ehdr) + (segments.size() + 1) * sizeof(Elf64_Phdr);
    const auto append = [&](const std::vector<std::byte>& bytes) {
      const uint64_t at = body_at + body.size();
      body.insert(body.end(), bytes.begin(), bytes.end());
      return at;
    };
    for (const ElfSegment& segment : segments) {
      Elf64_Phdr header{};
      header.p_type = PT_LOAD;
      header.p_flags = segment.flags;
      header.p_offset = append(segment.content);
      header.p_vaddr = virt_base + segment.address;
      header.p_paddr = segment.address;
      header.p_filesz = segment.content.size();
      header.p_memsz = segment.memory_bytes;
      headers.push_back(header);
    }
    Elf64_Phdr note{};
    note.p_type = PT_NOTE;
    note.p_offset = append(notes);
    note.p_filesz = notes.size();
    headers.push_back(note);

    Elf64_Ehdr elf{};
    std::memcpy(elf.e_ident, ELFMAG, SELFMAG);
    elf.e_ident[EI_CLASS] = ELFCLASS64;
    elf.e_type = ET_EXEC;
    elf.e_machine = EM_X86_64;
    elf.e_phoff = sizeof(Elf64_Ehdr);
    elf.e_phentsize = sizeof(Elf64_Phdr);
    elf.e_phnum = static_cast<uint16_t>(headers.size());

    std::vector<std::byte> file(body_at);
    std::memcpy(file.data(), &elf, sizeof(elf));
    std::memcpy(file.data() + sizeof(elf), headers.data(), headers.size() * sizeof(Elf64_Phdr));
    file.insert(file.end(), body.begin(), body.end());
    return file;
  }

 private:
  static void add_note(std::vector<std::byte>& notes, uint32_t type, uint64_t value) {
    const Elf64_Nhdr head{.n_namesz = 4, .n_descsz = sizeof(value), .n_type = type};
    const size_t at = notes.size();
    notes.resize(at + sizeof(head) + 4 + sizeof(value));
    std::memcpy(notes.data() + at, &head, sizeof(head));
    std::memcpy(notes.data() + at + sizeof(head), "Xen", 4);
    std::memcpy(notes.data() + at + sizeof(head) + 4, &value, sizeof(value));
  }

  std::vector<std::byte> make_notes() const {
    constexpr uint32_t kEntry = 1;
    constexpr uint32_t kVirtBase = 3;
    std::vector<std::byte> notes;
    if (!with_notes) return notes;
    add_note(notes, kVirtBase, virt_base);
    if (with_entry_note) add_note(notes, kEntry, entry);
    return notes;
  }
};

}  // namespace synfluid::spawner::toolstack
