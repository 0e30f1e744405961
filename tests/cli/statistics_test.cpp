// SPDX-License-Identifier: Apache-2.0
#include "cli/perf_map.h"
#include "cli/process_files.h"
#include "cli/statistics_format.h"
#include "support/temporary_folder.h"

#include <fstream>
#include <gtest/gtest.h>
#include <iterator>

namespace gnomon::cli {
namespace {

using Unit = Statistic::Unit;

Statistic timed(const char* name, u64 count, u64 ns) {
    Statistic entry{name, count};
    entry.ns = ns;
    return entry;
}

const Statistics example{
    {"process", {{"wall", 2'000'000'000, Unit::nanoseconds}, {"memory", 537919488, Unit::bytes}}},
    {"time",
     {{"idle", 12'345, Unit::nanoseconds},
      {"translated_code", 1'500'000'000, Unit::nanoseconds},
      {"trace", 0, Unit::nanoseconds}}},
    {"exits",
     {timed("io", 1234567, 1'000'000), timed("page_fault", 2, 20'000'000), timed("mmio", 0, 0)}},
    {"shadow", {{"fills", 999}, {"drains", 999'500}, {"records", 0}}},
    {"nothing", {{"at_all", 0}}}};

TEST(StatisticsText, IsGroupedSortedAndScaled) {
    EXPECT_EQ(statistics_text(example),
              R"(process                              size       time      share
  wall                                        2.00 s    100.0 %
  memory                          513 MiB

time                                 time      share
  translated code                  1.50 s     75.0 %
  idle                            12.3 us      0.0 %

exits                               count       time      share       each
  page fault                          2      20.0 ms      1.0 %    10.0 ms
  io                               1.23 M    1.00 ms      0.1 %       0 ns

shadow
  drains                           1.00 M
  fills                             999
)");
}

TEST(StatisticsText, WithoutAWallTimeThereAreNoShares) {
    EXPECT_EQ(statistics_text({{"exits", {timed("io", 4, 4'000)}}}),
              R"(exits                               count       time      share       each
  io                                  4      4.00 us               1.00 us
)");
    EXPECT_EQ(statistics_text({}), "");
}

TEST(StatisticsJson, HasEveryNumberAndItsUnit) {
    EXPECT_EQ(
        statistics_json(example),
        R"({"version":1,"process":{"wall_ns":2000000000,"memory_bytes":537919488},)"
        R"("time":{"idle_ns":12345,"translated_code_ns":1500000000,"trace_ns":0},)"
        R"("exits":{"io":{"count":1234567,"ns":1000000},"page_fault":{"count":2,"ns":20000000},)"
        R"("mmio":{"count":0,"ns":0}},"shadow":{"fills":999,"drains":999500,"records":0},)"
        R"("nothing":{"at_all":0}})"
        "\n");
}

TEST(PerfMap, HasALineForEachPiece) {
    const test::TemporaryFolder folder;
    const std::string path = (folder.path() / "map").string();
    {
        auto map = PerfMap::create(path);
        ASSERT_TRUE(map) << map.error().message;
        (*map)->routine(0x40000000, 0x80, "helper");
        (*map)->translated(0x40000080, 0x1f, Gva(0xffffffff81000000), false);
        (*map)->translated(0x400000a0, 0x20, Gva(0x401000), true);
        EXPECT_TRUE((*map)->finish());
    }
    std::ifstream file(path);
    const std::string text(std::istreambuf_iterator<char>(file), {});
    EXPECT_EQ(text, "40000000 80 gnomon:helper\n"
                    "40000080 1f kernel:ffffffff81000000\n"
                    "400000a0 20 user:401000\n");
}

TEST(PerfMap, SaysWhatItCannotWrite) {
    const auto absent = PerfMap::create("/nowhere/map");
    ASSERT_FALSE(absent);
    EXPECT_EQ(absent.error().message, "--perf-map /nowhere/map: No such file or directory");
    auto full = PerfMap::create("/dev/full");
    ASSERT_TRUE(full);
    for (int n = 0; n < 10'000; ++n)
        (*full)->translated(1, 2, Gva(3), true);
    const auto finished = (*full)->finish();
    ASSERT_FALSE(finished);
    EXPECT_EQ(finished.error().message, "--perf-map /dev/full: not all of it could be written");
}

TEST(ProcessFiles, UserTimeIsAPartOfAll) {
    const std::string fields = " S 1 2 3 4 5 6 7 8 9 10 75 25 99 99\n";
    EXPECT_EQ(user_share("12 (gnomon)" + fields), 0.75);
    EXPECT_EQ(user_share("12 (a) b) 1 (c)" + fields), 0.75);
    EXPECT_FALSE(user_share("12 (gnomon) S 1 2 3"));
    EXPECT_FALSE(user_share("12 (gnomon) S 1 2 3 4 5 6 7 8 9 10 0 0 1"));
    EXPECT_FALSE(user_share("12 (gnomon) S 1 2 3 4 5 6 7 8 9 10 x 5 1"));
    EXPECT_FALSE(user_share(""));
}

TEST(ProcessFiles, PeakResident) {
    EXPECT_EQ(peak_resident("Name:\tgnomon\nVmPeak:\t  900 kB\nVmHWM:\t  217 kB\nVmRSS:\t 1 kB\n"),
              u64{217} * 1024);
    EXPECT_FALSE(peak_resident("VmPeak:\t  900 kB\n"));
    EXPECT_FALSE(peak_resident("VmHWM:\t  900 MB\n"));
    EXPECT_FALSE(peak_resident("VmHWM:"));
}

TEST(ProcessFiles, ResidentMappingsByName) {
    const std::string smaps =
        "7f00-7f10 rw-s 00000000 00:01 5   /memfd:gnomon-ram (deleted)\nSize:   64 kB\nRss:  40 "
        "kB\n"
        "7f20-7f30 rw-p 00000000 00:00 0 \nRss:  8 kB\n"
        "7f40-7f50 rw-s 00000000 00:01 5   /memfd:gnomon-ram (deleted)\nRss:  2 kB\nVmFlags: rd\n"
        "7f60-7f70 rw-s 00000000 00:01 6   /memfd:gnomon-code (deleted)\nRss:  99 kB\n";
    EXPECT_EQ(resident_of(smaps, "memfd:gnomon-ram"), u64{42} * 1024);
    EXPECT_FALSE(resident_of(smaps, "memfd:nothing"));
    EXPECT_FALSE(resident_of("", "memfd:gnomon-ram"));
}

} // namespace
} // namespace gnomon::cli
