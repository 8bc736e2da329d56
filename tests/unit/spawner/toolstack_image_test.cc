#include <cstring>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "spawner/toolstack/pv_image.h"
#include "tests/unit/spawner/elf_maker.h"

namespace synfluid::spawner::toolstack {
namespace {

using ::testing::HasSubstr;

std::string complaint(const std::vector<std::byte>& file) {
  const auto image = read_pv_image(file, "test");
  return image ? "" : image.error().text();
}

template <class T>
void poke(std::vector<std::byte>& file, size_t at, T value) {
  std::memcpy(file.data() + at, &value, sizeof(value));
}

TEST(PvImage, IsReadByPagesWithItsAccess) {
  const auto image = read_pv_image(ElfMaker::usual().make(), "test");
  ASSERT_TRUE(image) << image.error().text();
  EXPECT_EQ(image->virt_base, ElfMaker::kBase);
  EXPECT_EQ(image->entry, ElfMaker::kBase);
  EXPECT_EQ(image->pages, 6u);
  ASSERT_EQ(image->segments.size(), 3u);
  EXPECT_EQ(image->segments[0].access, PageAccess::kExecute);
  EXPECT_EQ(image->segments[1].access, PageAccess::kReadOnly);
  EXPECT_EQ(image->segments[2].access, PageAccess::kReadWrite);
  EXPECT_EQ(image->segments[2].first_page, 2u);
  EXPECT_EQ(image->segments[2].pages, 4u);
  EXPECT_EQ(image->segments[2].content_pages, 1u);
}

TEST(PvImage, FillsTheRestOfAPageWithZeroes) {
  const auto image = read_pv_image(ElfMaker::usual().make(), "test");
  ASSERT_TRUE(image);
  const std::byte* code = image->content.data() + image->segments[0].content_offset;
  EXPECT_EQ(code[99], std::byte{0x90});
  EXPECT_EQ(code[100], std::byte{0});
  EXPECT_EQ(code[4095], std::byte{0});
}

TEST(PvImage, SaysWhatIsNoElf) {
  EXPECT_THAT(complaint({}), HasSubstr("image 'test': not an ELF file"));
  EXPECT_THAT(complaint(std::vector<std::byte>(10'000)), HasSubstr("not an ELF file"));
}

TEST(PvImage, SaysWhatIsNoXenKernel) {
  auto maker = ElfMaker::usual();
  maker.with_entry_note = false;
  EXPECT_THAT(complaint(maker.make()), HasSubstr("no Xen note names its entry"));
  maker.with_notes = false;
  EXPECT_THAT(complaint(maker.make()), HasSubstr("not a Xen PV kernel: it has no Xen note"));
}

TEST(PvImage, RefusesOtherMachines) {
  auto file = ElfMaker::usual().make();
  poke(file, offsetof(Elf64_Ehdr, e_machine), uint16_t{EM_AARCH64});
  EXPECT_THAT(complaint(file), HasSubstr("not for 64-bit x86"));
}

TEST(PvImage, RefusesSegmentsThatOverlap) {
  auto maker = ElfMaker::usual();
  maker.segments[1].address = 0x2000;
  EXPECT_THAT(complaint(maker.make()), HasSubstr("overlap"));
}

TEST(PvImage, RefusesWritableCode) {
  auto maker = ElfMaker::usual();
  maker.segments[0].flags = PF_R | PF_W | PF_X;
  EXPECT_THAT(complaint(maker.make()), HasSubstr("both writable and executable"));
}

TEST(PvImage, RefusesAnEntryOutsideTheCode) {
  auto maker = ElfMaker::usual();
  for (const uint64_t entry : {uint64_t{0}, ElfMaker::kBase - 1, ElfMaker::kBase + 0x1000, ~uint64_t{0}}) {
    maker.entry = entry;
    EXPECT_THAT(complaint(maker.make()), HasSubstr("entry is not inside its code")) << entry;
  }
}

TEST(PvImage, RefusesSizesThatWrapAround) {
  for (const uint64_t huge : {~uint64_t{0}, ~uint64_t{0} - 4095, uint64_t{1} << 63, kMaxImageBytes + 1}) {
    auto maker = ElfMaker::usual();
    maker.segments[2].memory_bytes = huge;
    EXPECT_FALSE(complaint(maker.make()).empty()) << huge;
    maker = ElfMaker::usual();
    maker.segments[2].address = huge & ~uint64_t{4095};
    EXPECT_FALSE(complaint(maker.make()).empty()) << huge;
    maker = ElfMaker::usual();
    maker.virt_base = huge & ~uint64_t{4095};
    EXPECT_FALSE(complaint(maker.make()).empty()) << huge;
  }
}

TEST(PvImage, RefusesEveryTruncation) {
  const auto whole = ElfMaker::usual().make();
  for (size_t size = 0; size < whole.size(); size += 7) {
    EXPECT_FALSE(read_pv_image(std::span(whole).first(size), "test")) << size;
  }
}

TEST(PvImage, SurvivesBrokenBytes) {
  const auto seed = std::random_device{}();
  RecordProperty("seed", std::to_string(seed));
  std::mt19937 random(seed);
  const auto whole = ElfMaker::usual().make();
  const size_t headers = sizeof(Elf64_Ehdr) + 4 * sizeof(Elf64_Phdr);
  for (int round = 0; round < 5000; ++round) {
    auto file = whole;
    for (int i = 0; i < 3; ++i) file[random() % headers] = static_cast<std::byte>(random());
    const auto image = read_pv_image(file, "test");
    if (!image) continue;
    for (const ImageSegment& segment : image->segments) {
      ASSERT_LE(segment.content_pages, segment.pages) << "seed " << seed;
      ASSERT_LE(segment.content_offset + segment.content_pages * kPageBytes, image->content.size())
          << "seed " << seed;
      ASSERT_LE(segment.first_page + segment.pages, image->pages) << "seed " << seed;
    }
  }
}

}  // namespace
}  // namespace synfluid::spawner::toolstack
