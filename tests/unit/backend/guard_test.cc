// The guard's rules as rows: what a VM sends, what it may, and what becomes of it.
#include "backend/guard.h"

#include <set>
#include <string>

#include <gtest/gtest.h>

namespace synfluid::backend {
namespace {

ParsedPacket packet_of(PacketKind kind, FromEnd from = FromEnd::kLow) {
  ParsedPacket p;
  p.kind = kind;
  p.flow.from = from;
  return p;
}

struct Row {
  const char* name;
  PacketKind kind;
  FromEnd from;
  VmRole role;
  FlowClaim claim;
  GuardVerdict verdict;
};

constexpr FlowClaim kLowFromAccess{true, FromEnd::kLow, Side::kAccess};
constexpr FlowClaim kHighFromCore{true, FromEnd::kHigh, Side::kCore};
constexpr GuardVerdict kToAccess{.allowed = true, .out = Side::kAccess};
constexpr GuardVerdict kToCore{.allowed = true, .out = Side::kCore};
constexpr GuardVerdict because(DropReason reason) {
  return {.allowed = false, .reason = reason};
}

constexpr auto kTcp = PacketKind::kTcp;
constexpr auto kLow = FromEnd::kLow;
constexpr auto kHigh = FromEnd::kHigh;
constexpr auto kTerminate = VmRole::kTerminate;
constexpr auto kInline = VmRole::kInline;

const Row kRows[] = {
    {"a server answers its client", kTcp, kHigh, kTerminate, kLowFromAccess, kToAccess},
    {"a server does not speak as its client", kTcp, kLow, kTerminate, kLowFromAccess,
     because(DropReason::kSpoofed)},
    {"a server answers a client at the core", kTcp, kLow, kTerminate, kHighFromCore, kToCore},
    {"an inline VM passes the client's frames on", kTcp, kLow, kInline, kLowFromAccess, kToCore},
    {"an inline VM passes the server's frames back", kTcp, kHigh, kInline, kLowFromAccess, kToAccess},
    {"an inline VM for a client at the core", kTcp, kHigh, kInline, kHighFromCore, kToAccess},
    {"another's flow", kTcp, kHigh, kTerminate, {}, because(DropReason::kSpoofed)},
    {"another's flow, inline", kTcp, kHigh, kInline, {}, because(DropReason::kSpoofed)},
    {"no TCP", PacketKind::kNotTcp, kHigh, kInline, kLowFromAccess, because(DropReason::kVmNotTcp)},
    {"no IP", PacketKind::kNotIp, kHigh, kInline, kLowFromAccess, because(DropReason::kVmNotTcp)},
    {"a fragment", PacketKind::kFragment, kHigh, kInline, kLowFromAccess, because(DropReason::kVmNotTcp)},
    {"cut short", PacketKind::kTruncated, kHigh, kInline, kLowFromAccess, because(DropReason::kVmMalformed)},
    {"contradictory", PacketKind::kMalformed, kHigh, kTerminate, {}, because(DropReason::kVmMalformed)},
};

TEST(Guard, JudgesEachRowAsWritten) {
  for (const Row& row : kRows) {
    const GuardVerdict verdict = judge_vm_frame(packet_of(row.kind, row.from), row.role, row.claim);
    EXPECT_EQ(verdict.allowed, row.verdict.allowed) << row.name;
    if (verdict.allowed)
      EXPECT_EQ(verdict.out, row.verdict.out) << row.name;
    else
      EXPECT_EQ(verdict.reason, row.verdict.reason) << row.name;
  }
}

TEST(DropReasons, HaveNamesOfTheirOwnAndSentences) {
  std::set<std::string_view> names;
  for (const DropReasonText& text : kDropReasons) {
    EXPECT_TRUE(names.insert(text.name).second) << text.name;
    EXPECT_EQ(text.name.find_first_not_of("abcdefghijklmnopqrstuvwxyz_"), std::string_view::npos)
        << text.name;
    EXPECT_TRUE(text.sentence.ends_with('.')) << text.name;
    EXPECT_EQ(describe(text.reason).name, text.name);
  }
}

}  // namespace
}  // namespace synfluid::backend
