#include "bench/cpus.h"

#include <gtest/gtest.h>

namespace synfluid::bench {
namespace {

TEST(Timeslices, AreTheLastOfThreeNumbers) {
  EXPECT_EQ(*parse_timeslices("1391046 72205 18446744073709551615\n"), 18446744073709551615u);
  EXPECT_EQ(*parse_timeslices("0 0 0"), 0u);
}

TEST(Timeslices, AreNotInATextOfAnotherKind) {
  for (const char* text :
       {"", "\n", " ", "7", "7 8", "7 8 ", "7 8 x\n", "7 8 9x\n", "7 8 99999999999999999999\n"})
    EXPECT_FALSE(parse_timeslices(text)) << "'" << text << "'";
}

TEST(Timeslices, OfThisThreadCanBeRead) {
  const auto count = timeslices(own_schedstat());
  ASSERT_TRUE(count) << count.error().text();
  EXPECT_GT(*count, 0u);
  EXPECT_EQ(timeslices("/proc/no-such-thread").error().code(), ErrorCode::kNotFound);
}

TEST(OnCpu, GivesTheCpusBack) {
  cpu_set_t before;
  cpu_set_t inside;
  cpu_set_t after;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  int cpu = 0;
  while (!CPU_ISSET(cpu, &before)) ++cpu;
  {
    const OnCpu here(cpu);
    ASSERT_EQ(sched_getaffinity(0, sizeof inside, &inside), 0);
  }
  ASSERT_EQ(sched_getaffinity(0, sizeof after, &after), 0);
  EXPECT_EQ(CPU_COUNT(&inside), 1);
  EXPECT_TRUE(CPU_ISSET(cpu, &inside));
  EXPECT_TRUE(CPU_EQUAL(&before, &after));
  EXPECT_THROW(run_on(CPU_SETSIZE - 1), std::runtime_error);
}

}  // namespace
}  // namespace synfluid::bench
