#include "base/result.h"

#include <cerrno>

#include <gtest/gtest.h>

namespace synfluid {
namespace {

Result<int> half(int n) {
  if (n % 2 != 0) return Error(ErrorCode::kInvalidArgument, "odd");
  return n / 2;
}

TEST(Result, HoldsAValueOrAnError) {
  EXPECT_EQ(half(4).value(), 2);
  ASSERT_FALSE(half(3));
  EXPECT_EQ(half(3).error().code(), ErrorCode::kInvalidArgument);
}

TEST(Result, ErrnoIsTranslatedAndKept) {
  const Error e = Error::from_errno(EACCES, "open /x");
  EXPECT_EQ(e.code(), ErrorCode::kPermission);
  EXPECT_EQ(e.sys_errno(), EACCES);
  EXPECT_EQ(e.text(), "open /x: Permission denied");
  EXPECT_EQ(e.within("start").text(), "start: open /x: Permission denied");
}

}  // namespace
}  // namespace synfluid
