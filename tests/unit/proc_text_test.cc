// The texts of /proc.
#include <gtest/gtest.h>

#include "base/proc_text.h"

namespace tqfpm {
namespace {

TEST(ProcText, Images) {
  EXPECT_EQ(image_bases("55d0c0a00000-55d0c0ae0000 r--p 00000000 fe:01 12345                      /usr/bin/php cgi\n"
                        "55d0c0ae0000-55d0c0e00000 r-xp 000e0000 fe:01 12345                      /usr/bin/php cgi\n"
                        "7f0000000000-7f0000001000 rw-p 00000000 00:00 0 \n"
                        "7f0000001000-7f0000002000 r--p 00000000 fe:01 9      /lib/libc.so.6 (deleted)\n"
                        "7f0000003000-7f0000004000 ---p 00000000 fe:01 9      /lib/libc.so.6\n"
                        "7ffd00000000-7ffd00001000 rw-p 00000000 00:00 0      [stack]\n"
                        "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0      [vsyscall]\n"
                        "garbage"),
            (std::vector<std::uint64_t>{0x55d0c0a00000, 0x7f0000001000}));
  EXPECT_TRUE(image_bases("").empty());
}

TEST(ProcText, MemoryOfRollup) {
  const auto use =
      memory_of_rollup("55d0-7fff ---p 00000000 00:00 0    [rollup]\nRss:        12345 kB\nPss:     678 kB\n"
                       "Pss_Dirty:     1 kB\n");
  ASSERT_TRUE(use);
  EXPECT_EQ(use->resident, 12345U);
  EXPECT_EQ(use->proportional, 678U);
  EXPECT_FALSE(memory_of_rollup("Rss: 1 kB\n"));
  EXPECT_FALSE(memory_of_rollup("Rss: x kB\nPss: 1 kB\n"));
}

TEST(ProcText, MemoryOfStatm) {
  const auto use = memory_of_statm("51234 1300 900 10 0 400 0\n", 4096);
  ASSERT_TRUE(use);
  EXPECT_EQ(use->resident, 1300U * 4096);
  EXPECT_EQ(use->shared, 900U * 4096);
  for (const char *bad : {"", "1", "1 2", "1 x 3", "1 -2 3 "})
    EXPECT_FALSE(memory_of_statm(bad, 4096)) << bad;
}

TEST(ProcText, PeakOfStatus) {
  EXPECT_EQ(peak_of_status("Name:\tphp-cgi\nVmPeak:\t  9 kB\nVmHWM:\t   123 kB\nVmRSS:\t 7 kB\n"), 123U * 1024);
  EXPECT_EQ(peak_of_status("Name:\tx\n"), 0U);
  EXPECT_EQ(peak_of_status("\nVmHWM:"), 0U);
}

TEST(ProcText, CpuOfStat) {
  const auto used = cpu_of_stat("7 (a) b) S 1 7 7 0 -1 4194304 1 0 0 0 31 42 0 0 20 0 1 0 5 6 7\n");
  ASSERT_TRUE(used);
  EXPECT_EQ(used->user, 31);
  EXPECT_EQ(used->system, 42);
  EXPECT_FALSE(cpu_of_stat("7 (a) S 1 7"));
  EXPECT_FALSE(cpu_of_stat(""));
}

} // namespace
} // namespace tqfpm
