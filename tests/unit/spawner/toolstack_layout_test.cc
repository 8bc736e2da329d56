#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <numeric>
#include <optional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/abi/card.h"
#include "spawner/toolstack/boot_info.h"
#include "spawner/toolstack/layout.h"
#include "spawner/toolstack/page_tables.h"
#include "tests/unit/spawner/elf_maker.h"

namespace synfluid::spawner::toolstack {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kKiB = 1024;

PvImage usual_image() {
  return read_pv_image(ElfMaker::usual().make(), "test").value();
}

TEST(GuestLayout, RegionsFollowEachOtherWithoutHoles) {
  for (const uint64_t memory : {256 * kKiB, 320 * kKiB, 512 * kKiB, 4096 * kKiB, 65536 * kKiB}) {
    const auto layout = lay_out_guest(usual_image(), memory, 0);
    ASSERT_TRUE(layout) << layout.error().text();
    EXPECT_EQ(layout->page_tables_pfn, 6u);
    EXPECT_EQ(layout->boot_info_pfn, layout->page_tables_pfn + layout->page_table_pages);
    EXPECT_EQ(layout->shared_area_pfn, layout->boot_info_pfn + layout->boot_info_pages);
    EXPECT_EQ(layout->shared_info_pfn, layout->shared_area_pfn + abi::shared_pages(layout->buffers));
    EXPECT_EQ(layout->memory_pfn, layout->shared_info_pfn + 1);
    EXPECT_GE(layout->pages, layout->memory_pfn + kMinMemoryPages);
    EXPECT_EQ(layout->ready_pages(), kReadyMemoryPages);
    EXPECT_LT(layout->populated_pages, layout->pages);
    EXPECT_GE(layout->buffers, kMinBuffers);
    EXPECT_LE(layout->rx_posted, layout->buffers);
    EXPECT_GE(layout->rx_posted, 1u);
    EXPECT_GE(size_t{layout->boot_info_pages} * kPageBytes, kP2mOffset + size_t{layout->populated_pages} * 8);
  }
}

TEST(GuestLayout, LeavesRoomForThePageTablesThatTheGuestAdds) {
  for (const uint64_t memory : {256 * kKiB, 4096 * kKiB, 65536 * kKiB, uint64_t{512} * 1024 * kKiB}) {
    const auto layout = lay_out_guest(usual_image(), memory, 0);
    ASSERT_TRUE(layout) << layout.error().text();
    const uint64_t end = layout->address_of(layout->pages) - 1;
    const uint64_t tables = (end >> 21) - (layout->virt_base >> 21) + 1;
    const uint64_t added = tables - (layout->page_table_pages - 3);
    EXPECT_EQ(layout->memory_pages, memory / kPageBytes);
    EXPECT_LE(layout->pages - 1 + added, layout->memory_pages);
    EXPECT_GE(layout->pages - 1 + added, layout->memory_pages - 1) << "at the most a page is lost";
  }
}

TEST(GuestLayout, HasTablesForAllThatIsPopulated) {
  const auto layout = lay_out_guest(usual_image(), 8192 * kKiB, abi::kMaxBuffers);
  ASSERT_TRUE(layout) << layout.error().text();
  EXPECT_EQ(layout->page_table_pages, 4u);
  auto image = usual_image();
  image.pages = 500;
  const auto large = lay_out_guest(image, 8192 * kKiB, 0);
  ASSERT_TRUE(large) << large.error().text();
  EXPECT_EQ(large->page_table_pages, 5u);
}

TEST(GuestLayout, SaysWhatIsNeededAndWhatIsThere) {
  const auto layout = lay_out_guest(usual_image(), 64 * kKiB, 0);
  ASSERT_FALSE(layout);
  EXPECT_THAT(layout.error().text(), HasSubstr("needs 120 KiB of memory, has 64"));
  EXPECT_TRUE(lay_out_guest(usual_image(), 120 * kKiB, 0));
  EXPECT_FALSE(lay_out_guest(usual_image(), 116 * kKiB, 0));
}

TEST(GuestLayout, RefusesWhatNoGuestMayHave) {
  EXPECT_FALSE(lay_out_guest(usual_image(), kMaxGuestBytes + kPageBytes, 0));
  EXPECT_FALSE(lay_out_guest(usual_image(), 1024 * kKiB, abi::kMaxBuffers + 1));
  EXPECT_FALSE(lay_out_guest(usual_image(), 1024 * kKiB, 1));
  EXPECT_FALSE(lay_out_guest(usual_image(), 0, 0));
}

/// A guest's memory with its page tables written, and an MMU to walk them.
class Guest {
 public:
  Guest(const PvImage& image, uint64_t memory) : layout_(lay_out_guest(image, memory, 0).value()) {
    const auto tables = make_page_tables(image, layout_);
    tables_ = static_cast<uint32_t>(tables.size());
    frames_.resize(layout_.populated_pages);
    // Scattered, so that a page number taken for a frame number is noticed.
    for (uint32_t pfn = 0; pfn < layout_.populated_pages; ++pfn)
      frames_[pfn] = kBaseFrame + uint64_t{pfn} * 3;
    for (uint32_t i = 0; i < tables.size(); ++i) {
      auto& table = written_[frames_[layout_.page_tables_pfn + i]];
      table.fill(0xdbdb'dbdb'dbdb'dbdb);
      write_table(tables[i], frames_, table);
    }
  }

  /// The L1 entry for an address, or nothing where none is present.
  std::optional<uint64_t> walk(uint64_t address) const {
    uint64_t frame = frames_[layout_.page_tables_pfn];
    for (int shift = 39; shift >= 21; shift -= 9) {
      const uint64_t entry = written_.at(frame)[address >> shift & 511];
      if ((entry & kPtePresent) == 0) return std::nullopt;
      frame = frame_of(entry);
    }
    const uint64_t entry = written_.at(frame)[address >> 12 & 511];
    if ((entry & kPtePresent) == 0) return std::nullopt;
    return entry;
  }

  static uint64_t frame_of(uint64_t entry) { return entry << 12 >> 24; }
  const GuestLayout& layout() const { return layout_; }
  uint64_t frame(uint32_t pfn) const { return frames_[pfn]; }
  uint32_t tables() const { return tables_; }
  uint64_t present_entries() const {
    uint64_t count = 0;
    for (const auto& [frame_number, table] : written_) {
      count += static_cast<uint64_t>(std::count_if(
          table.begin(), table.end(), [](uint64_t entry) { return (entry & kPtePresent) != 0; }));
    }
    return count;
  }

 private:
  static constexpr uint64_t kBaseFrame = 0x123450;

  GuestLayout layout_;
  std::vector<uint64_t> frames_;
  std::map<uint64_t, std::array<uint64_t, kTableEntries>> written_;
  uint32_t tables_ = 0;
};

TEST(PageTables, MapEveryPopulatedPageToItsFrame) {
  for (const uint64_t memory : {256 * kKiB, 8192 * kKiB}) {
    const Guest guest(usual_image(), memory);
    ASSERT_EQ(guest.tables(), guest.layout().page_table_pages);
    for (uint32_t pfn = 0; pfn < guest.layout().populated_pages; ++pfn) {
      const auto entry = guest.walk(guest.layout().address_of(pfn));
      ASSERT_TRUE(entry) << pfn;
      EXPECT_EQ(Guest::frame_of(*entry), guest.frame(pfn)) << pfn;
    }
  }
}

TEST(PageTables, MapNothingElse) {
  const Guest guest(usual_image(), 512 * kKiB);
  EXPECT_FALSE(guest.walk(0));
  EXPECT_FALSE(guest.walk(ElfMaker::kBase - 1));
  EXPECT_FALSE(guest.walk(guest.layout().address_of(guest.layout().populated_pages)));
  EXPECT_EQ(guest.present_entries(), uint64_t{guest.layout().populated_pages} + 3);
}

TEST(PageTables, GiveEveryPageItsAccess) {
  const Guest guest(usual_image(), 512 * kKiB);
  const auto& layout = guest.layout();
  const auto flags = [&](uint32_t pfn) {
    return *guest.walk(layout.address_of(pfn)) & (kPteWritable | kPteNoExecute);
  };
  EXPECT_EQ(flags(0), 0u) << "code";
  EXPECT_EQ(flags(1), kPteNoExecute) << "constants";
  EXPECT_EQ(flags(2), kPteNoExecute | kPteWritable) << "data";
  for (uint32_t i = 0; i < layout.page_table_pages; ++i)
    EXPECT_EQ(flags(layout.page_tables_pfn + i), kPteNoExecute);
  EXPECT_EQ(flags(layout.boot_info_pfn), kPteNoExecute);
  EXPECT_EQ(flags(layout.shared_area_pfn), kPteNoExecute | kPteWritable);
  EXPECT_EQ(flags(layout.memory_pfn), kPteNoExecute | kPteWritable);
  EXPECT_EQ(flags(layout.shared_info_pfn), kPteNoExecute | kPteWritable) << "shared info";
}

TEST(PageTables, LeaveAHoleInTheImageUnmapped) {
  auto maker = ElfMaker::usual();
  maker.segments[2].address = 0x5000;
  const auto image = read_pv_image(maker.make(), "test");
  ASSERT_TRUE(image) << image.error().text();
  const Guest guest(*image, 512 * kKiB);
  EXPECT_FALSE(guest.walk(guest.layout().address_of(3)));
  EXPECT_TRUE(guest.walk(guest.layout().address_of(5)));
}

TEST(BootInfo, TellsTheGuestWhereItsCardIs) {
  const auto layout = lay_out_guest(usual_image(), 512 * kKiB, 0).value();
  std::vector<uint64_t> frames(layout.populated_pages);
  std::iota(frames.begin(), frames.end(), 0x777);
  std::vector<std::byte> page(layout.boot_info_pages * kPageBytes, std::byte{0xdb});
  write_boot_info(layout, frames, page);
  // Offsets of Xen's public struct start_info on x86-64.
  const auto word = [&](size_t at) {
    uint64_t value = 0;
    std::memcpy(&value, page.data() + at, sizeof(value));
    return value;
  };
  EXPECT_EQ(std::memcmp(page.data(), "xen-3.0-x86_64", 15), 0);
  EXPECT_EQ(word(32), layout.pages) << "nr_pages";
  EXPECT_EQ(word(40), frames[layout.shared_info_pfn] * kPageBytes) << "shared_info";
  EXPECT_EQ(word(88), layout.address_of(layout.page_tables_pfn)) << "pt_base";
  EXPECT_EQ(word(112), layout.address_of(layout.shared_area_pfn)) << "mod_start";
  EXPECT_EQ(word(120), layout.shared_area_pages * kPageBytes) << "mod_len";
  EXPECT_EQ(word(kP2mOffset), frames[0]);
  EXPECT_EQ(word(kP2mOffset + 8 * (layout.populated_pages - 1)), frames.back());
}

}  // namespace
}  // namespace synfluid::spawner::toolstack
