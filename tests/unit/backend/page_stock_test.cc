#include "backend/xen/page_stock.h"

#include <gtest/gtest.h>

namespace synfluid::backend::xen {
namespace {

constexpr uint32_t kAhead = PageStock::kAhead;

TEST(PageStock, IsLowUntilItHasBeenAskedFor) {
  PageStock stock;
  EXPECT_TRUE(stock.is_low());
  stock.asked();
  EXPECT_FALSE(stock.is_low());
}

TEST(PageStock, IsLowWhenHalfOfWhatWasAheadIsUsed) {
  PageStock stock;
  stock.asked();
  stock.take(kAhead / 2);
  EXPECT_FALSE(stock.is_low());
  stock.take(1);
  EXPECT_TRUE(stock.is_low());
}

/// The kernel keeps what it made: guests that come and go need no more of it.
TEST(PageStock, WhatIsGivenBackIsThereAgain) {
  PageStock stock;
  stock.asked();
  for (int i = 0; i < 100; ++i) {
    stock.take(kAhead / 2);
    EXPECT_FALSE(stock.is_low());
    stock.give_back(kAhead / 2);
  }
}

TEST(PageStock, FewerInUseTakeNothingAway) {
  PageStock stock;
  stock.take(kAhead);
  stock.asked();
  stock.give_back(kAhead);
  stock.asked();
  stock.take(kAhead + kAhead / 2);
  EXPECT_FALSE(stock.is_low());
}

}  // namespace
}  // namespace synfluid::backend::xen
