// A foreign guest's console ring, written by the test.
#include "spawner/xen/guest_console.h"

#include <cstring>
#include <string>
#include <vector>

#include <gtest/gtest.h>

extern "C" {
#include <xen/io/console.h>
#include <xen/xen.h>
}

namespace synfluid::spawner::xen {
namespace {

struct alignas(4096) Page {
  std::byte bytes[4096] = {};
  xencons_interface& ring() { return *reinterpret_cast<xencons_interface*>(bytes); }
  void print(std::string_view text) {
    for (const char c : text) ring().out[ring().out_prod++ % sizeof(ring().out)] = c;
  }
};

TEST(GuestConsole, WhatTheGuestPrintsIsTakenOnceAndTheRingHasRoomAgain) {
  Page page;
  page.print("hello\n");
  EXPECT_EQ(drain_console(page.bytes), "hello\n");
  EXPECT_EQ(drain_console(page.bytes), "");
  EXPECT_EQ(page.ring().out_cons, page.ring().out_prod);
  for (int i = 0; i < 1000; ++i) {
    page.print("abcdefg");
    ASSERT_EQ(drain_console(page.bytes), "abcdefg");
  }
}

TEST(GuestConsole, IndicesThatCannotBeYieldNothing) {
  Page page;
  page.ring().out_prod = 0x80000000;
  EXPECT_EQ(drain_console(page.bytes), "");
  page.print("x");
  EXPECT_EQ(drain_console(page.bytes), "x");
}

TEST(GuestConsole, OnlyTheTailIsKept) {
  std::string tail;
  for (int i = 0; i < 10'000; ++i) keep_tail(tail, "0123456789");
  EXPECT_EQ(tail.size(), kTailBytes);
}

TEST(GuestConsole, TheLastWordsAreOneCleanLine) {
  EXPECT_EQ(last_line(""), "");
  EXPECT_EQ(last_line("\r\n \n"), "");
  EXPECT_EQ(last_line("one"), "one");
  EXPECT_EQ(last_line("one\r\nKernel panic\x1b[0m\t!\r\n\n"), "Kernel panic?[0m?!");
}

}  // namespace
}  // namespace synfluid::spawner::xen
