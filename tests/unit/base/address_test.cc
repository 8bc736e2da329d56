#include "base/address.h"

#include <gtest/gtest.h>

namespace synfluid {
namespace {

TEST(Address, ReadsAndPrintsBothFamilies) {
  EXPECT_EQ(Address::parse("10.1.2.3")->to_string(), "10.1.2.3");
  EXPECT_TRUE(Address::parse("10.1.2.3")->is_v4());
  EXPECT_EQ(Address::parse("2001:db8::1")->to_string(), "2001:db8::1");
  EXPECT_FALSE(Address::parse("2001:db8::1")->is_v4());
  EXPECT_FALSE(Address::parse("10.1.2"));
  EXPECT_FALSE(Address::parse(""));
}

TEST(Prefix, ContainsWhatItCovers) {
  const Prefix p = *Prefix::parse("10.20.0.0/14");
  EXPECT_TRUE(p.contains(*Address::parse("10.23.255.255")));
  EXPECT_FALSE(p.contains(*Address::parse("10.24.0.0")));
  EXPECT_FALSE(p.contains(*Address::parse("2001:db8::1")));
  EXPECT_TRUE(Prefix::parse("::/0")->contains(*Address::parse("1.2.3.4")));
  EXPECT_TRUE(Prefix::parse("192.0.2.1")->contains(*Address::parse("192.0.2.1")));
  EXPECT_EQ(p.to_string(), "10.20.0.0/14");
  EXPECT_EQ(Prefix::parse("2001:db8::/32")->to_string(), "2001:db8::/32");
}

TEST(Prefix, RefusesWhatIsNotOne) {
  for (const char* bad :
       {"10.0.0.1/8", "10.0.0.0/33", "2001:db8::/129", "10.0.0.0/", "10.0.0.0/x", "/8", "10.0.0.0/-1"})
    EXPECT_FALSE(Prefix::parse(bad)) << bad;
}

TEST(FlowKey, IsTheSameInBothDirections) {
  const Endpoint a{*Address::parse("10.0.0.1"), 40000};
  const Endpoint b{*Address::parse("10.0.0.2"), 80};
  const OrientedKey there = make_flow_key(a, b, {});
  const OrientedKey back = make_flow_key(b, a, {});
  EXPECT_EQ(there.key, back.key);
  EXPECT_NE(there.from, back.from);
  EXPECT_EQ(there.source(), a);
  EXPECT_EQ(back.source(), b);
  EXPECT_EQ(back.destination(), a);
}

TEST(FlowKey, VlansKeepFlowsApart) {
  const Endpoint a{*Address::parse("10.0.0.1"), 1};
  const Endpoint b{*Address::parse("10.0.0.2"), 2};
  EXPECT_FALSE(make_flow_key(a, b, {100, 0}).key == make_flow_key(a, b, {200, 0}).key);
}

}  // namespace
}  // namespace synfluid
