#include <cstring>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/abi/card.h"
#include "guest/images.h"
#include "spawner/toolstack/domain_builder.h"
#include "spawner/toolstack/failing_xen_calls.h"
#include "tests/unit/spawner/elf_maker.h"
#include "tests/unit/spawner/fake_xen_calls.h"

namespace synfluid::spawner::toolstack {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kMemory = 512 << 10;
constexpr uint16_t kPermitAccess = 1;

class Builder : public ::testing::Test {
 protected:
  Builder() : guest_(make_guest_template(ElfMaker::usual().make(), "test", kMemory, 0).value()) {
    guest_.service = abi::ServiceKind::kFirewall;
    guest_.card_config = "key value\n";
  }

  static GuestIdentity identity(uint16_t domid = 7) {
    return {.domid = DomId(domid), .generation = 9, .event_port = EventPort(33), .entropy = {1, 2, 3, 4}};
  }

  template <class T>
  const T& page(DomId domid, uint32_t pfn) {
    return *reinterpret_cast<const T*>(xen_.frame(xen_.domains.at(domid).pages.at(pfn)));
  }

  GuestTemplate guest_;
  FakeXenCalls xen_;
  DomainBuilder builder_{xen_};
};

TEST_F(Builder, MakesADomainThatCouldRun) {
  const auto built = builder_.build(guest_, identity());
  ASSERT_TRUE(built) << built.error().text();
  const auto& domain = xen_.domains.at(built->domain.id());
  EXPECT_TRUE(domain.has_vcpu);
  EXPECT_EQ(domain.page_limit, kMemory / kPageBytes);
  EXPECT_EQ(domain.pages.size(), guest_.layout.populated_pages - 1) << "all but Xen's shared info page";
  ASSERT_TRUE(domain.context);
  EXPECT_EQ(domain.context->l4_frame, domain.pages.at(guest_.layout.page_tables_pfn));
  EXPECT_EQ(domain.context->entry, ElfMaker::kBase);
  EXPECT_EQ(domain.context->start_info, guest_.layout.address_of(guest_.layout.boot_info_pfn));
  EXPECT_FALSE(domain.running);
  EXPECT_EQ(xen_.open_maps(), 0u);
}

TEST_F(Builder, PutsTheImageAndTheCardInPlace) {
  const auto built = builder_.build(guest_, identity());
  ASSERT_TRUE(built);
  const DomId id = built->domain.id();
  EXPECT_EQ((page<std::array<uint8_t, 4096>>(id, 0)[99]), 0x90);
  EXPECT_EQ((page<std::array<uint8_t, 4096>>(id, 1)[4095]), 0x11);
  const auto& card = page<abi::Card>(id, guest_.layout.shared_area_pfn);
  EXPECT_EQ(card.fixed.magic, abi::kCardMagic);
  EXPECT_EQ(card.fixed.domid, id.value());
  EXPECT_EQ(card.fixed.generation, 9u);
  EXPECT_EQ(card.fixed.service, abi::ServiceKind::kFirewall);
  EXPECT_EQ(card.fixed.event_port, 33u);
  EXPECT_EQ(card.fixed.buffers, guest_.layout.buffers);
  EXPECT_EQ(card.fixed.entropy[3], 4u);
  EXPECT_EQ(std::string_view(card.config, card.fixed.config_bytes), "key value\n");
  const auto& rx = page<abi::NetRxRing>(id, guest_.layout.shared_area_pfn + abi::kRxRingPage);
  EXPECT_EQ(rx.indices.req_prod, guest_.layout.rx_posted);
}

TEST_F(Builder, MasksUpcallsBeforeTheFirstInstruction) {
  const auto built = builder_.build(guest_, identity());
  ASSERT_TRUE(built);
  constexpr size_t kUpcallMask = 1;  // of vcpu_info 0 in Xen's public struct shared_info
  EXPECT_EQ(xen_.frame(xen_.domains.at(built->domain.id()).shared_info)[kUpcallMask], std::byte{1});
}

TEST_F(Builder, GrantsTheSharedAreaAndNothingElse) {
  const auto built = builder_.build(guest_, identity());
  ASSERT_TRUE(built);
  const auto& domain = xen_.domains.at(built->domain.id());
  const auto grants = xen_.grants(built->domain.id());
  const auto& layout = guest_.layout;
  for (uint32_t ref = 0; ref < FakeXenCalls::kGrants; ++ref) {
    const uint32_t index = ref - abi::kFirstGrant;
    if (index >= layout.shared_area_pages) {
      EXPECT_EQ(grants[ref].flags, 0u) << ref;
      continue;
    }
    EXPECT_EQ(grants[ref].flags, kPermitAccess) << ref;
    EXPECT_EQ(grants[ref].domid, 0u) << ref;
    EXPECT_EQ(grants[ref].frame, domain.pages.at(layout.shared_area_pfn + index)) << ref;
  }
}

TEST_F(Builder, TellsAnIdInUseFromOtherTrouble) {
  const auto first = builder_.build(guest_, identity());
  ASSERT_TRUE(first);
  const auto second = builder_.build(guest_, identity());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), ErrorCode::kConflict);
  EXPECT_TRUE(xen_.domains.contains(first->domain.id()));
}

TEST_F(Builder, FallsBackToSinglePages) {
  xen_.max_order = 0;
  const auto built = builder_.build(guest_, identity());
  ASSERT_TRUE(built) << built.error().text();
  const auto& domain = xen_.domains.at(built->domain.id());
  EXPECT_EQ(domain.pages.size(), guest_.layout.populated_pages - 1);
  std::set<uint64_t> frames;
  for (const auto& [pfn, frame] : domain.pages) frames.insert(frame);
  EXPECT_EQ(frames.size(), domain.pages.size());
}

TEST_F(Builder, TakesMemoryThatIsNoPowerOfTwo) {
  const auto guest = make_guest_template(ElfMaker::usual().make(), "test", 300 << 10, 0);
  ASSERT_TRUE(guest) << guest.error().text();
  const auto built = builder_.build(*guest, identity());
  ASSERT_TRUE(built) << built.error().text();
  EXPECT_EQ(xen_.domains.at(built->domain.id()).page_limit, 75u);
}

TEST_F(Builder, LeavesNothingBehindWhicheverStepFails) {
  const uint64_t free_before = xen_.free_frames();
  FailingXenCalls failing(xen_);
  DomainBuilder builder(failing);
  failing.faults().fail_at(FaultPlan::kNever);
  ASSERT_TRUE(builder.build(guest_, identity()));
  const uint32_t steps = failing.faults().steps();
  EXPECT_GE(steps, 6u);
  for (uint32_t step = 1; step <= steps; ++step) {
    failing.faults().fail_at(step);
    const auto built = builder.build(guest_, identity());
    // A refused piece of memory is made up for with smaller ones.
    EXPECT_TRUE(built || xen_.domains.empty()) << step;
    EXPECT_EQ(xen_.open_maps(), 0u) << step;
  }
  EXPECT_TRUE(xen_.domains.empty());
  EXPECT_EQ(xen_.free_frames(), free_before);
}

TEST_F(Builder, SaysWhenMemoryIsUsedUpAndGivesBackWhatItTook) {
  std::vector<BuiltDomain> all;
  for (uint16_t id = 1;; ++id) {
    auto built = builder_.build(guest_, identity(id));
    if (!built) {
      EXPECT_EQ(built.error().code(), ErrorCode::kNoMemory);
      break;
    }
    all.push_back(std::move(*built));
  }
  EXPECT_EQ(xen_.domains.size(), all.size());
  all.clear();
  EXPECT_EQ(xen_.free_frames(), FakeXenCalls::kFrames);
}

TEST(Handle, TellsOursFromOthers) {
  EXPECT_TRUE(is_ours(handle_of(7)));
  EXPECT_EQ(generation_of(handle_of(0xabcdef01)), 0xabcdef01u);
  EXPECT_FALSE(is_ours(DomainHandle{}));
}

TEST(Template, NamesTheImageInItsErrors) {
  const auto small = make_guest_template(ElfMaker::usual().make(), "builtin:responder", 64 << 10, 0);
  ASSERT_FALSE(small);
  EXPECT_THAT(small.error().text(), HasSubstr("image 'builtin:responder': needs"));
}

TEST(Template, TheBuiltInImageFitsIntoAQuarterMegabyte) {
  EXPECT_LT(guest::xen_image().size(), 128u << 10);
  const auto guest = make_guest_template(guest::xen_image(), "builtin:responder", 256 << 10, 0);
  EXPECT_TRUE(guest) << guest.error().text();
}

}  // namespace
}  // namespace synfluid::spawner::toolstack
