// SPDX-License-Identifier: Apache-2.0
/// @file --stats=json of a real boot: it parses, what must have happened has, and times add up.
#include "base/types.h"
#include "program/program.h"

#include <fstream>
#include <nlohmann/json.hpp>

namespace gnomon::test {
namespace {

using Json = nlohmann::json;

class StatisticsOfABoot : public testing::Test {
protected:
    void SetUp() override {
        if (!have_guest_files()) GTEST_SKIP() << "no guest files: run scripts/fetch.sh";
    }

    /// The last line of stderr as JSON.
    static Json statistics(const Finished& finished) {
        const std::size_t end = finished.err.find_last_of('\n');
        const std::size_t begin = end == 0 ? end : finished.err.rfind('\n', end - 1);
        const std::string line =
            finished.err.substr(begin == std::string::npos ? 0 : begin + 1, std::string::npos);
        Json json = Json::parse(line, nullptr, false);
        EXPECT_TRUE(json.is_object()) << finished.err;
        return json;
    }

    static u64 sum(const Json& group, const char* member = nullptr) {
        u64 total = 0;
        for (const auto& [name, value] : group.items())
            total += (member != nullptr ? value.at(member) : value).get<u64>();
        return total;
    }

    static void expect_sound(const Json& s) {
        EXPECT_EQ(s.at("version"), 1);
        const Json& process = s.at("process");
        const u64 wall = process.at("wall_ns");
        EXPECT_EQ(process.at("user_ns").get<u64>() + process.at("system_ns").get<u64>(),
                  process.at("cpu_ns").get<u64>());
        EXPECT_LT(process.at("start_up_ns").get<u64>(), wall);
        EXPECT_GT(process.at("start_up_ns").get<u64>(), 0U);
        EXPECT_EQ(process.at("guest_memory_bytes"), u64{512} << 20);
        EXPECT_GT(process.at("guest_resident_bytes").get<u64>(), u64{16} << 20);
        EXPECT_LT(process.at("guest_resident_bytes").get<u64>(),
                  process.at("peak_resident_bytes").get<u64>());
        const u64 beside = process.at("peak_resident_beside_guest_bytes");
        EXPECT_LT(beside, u64{256} << 20);
        for (const char* const name : {"code_resident_bytes", "tlb_resident_bytes"}) {
            EXPECT_GT(process.at(name).get<u64>(), 0U) << name;
            EXPECT_LT(process.at(name).get<u64>(), beside) << name;
        }

        // The times of the thread that runs the machine do not overlap, and make up the whole.
        const u64 booked = sum(s.at("time"));
        EXPECT_LE(booked, wall + wall / 1000);
        EXPECT_GE(booked, wall - wall / 1000);
        EXPECT_GT(s.at("time").at("translated_code_ns").get<u64>(), wall / 10);
        for (const char* const name : {"translation_ns", "dispatch_ns", "exit_handling_ns",
                                       "shadow_faults_ns", "drains_ns", "root_loads_ns"})
            EXPECT_GT(s.at("time").at(name).get<u64>(), 0U) << name;
        EXPECT_LE(sum(s.at("exits"), "ns"), wall);

        const auto count = [&](const char* group, const char* name) {
            const Json& entry = s.at(group).at(name);
            return (entry.is_object() ? entry.at("count") : entry).get<u64>();
        };
        for (const char* const name :
             {"kicked", "page_fault", "mmio", "io", "control_register", "msr_write"})
            EXPECT_GT(count("exits", name), 0U) << name;
        for (const char* const name : {"cpuid", "rdtscp", "iret", "wrmsr", "mov_to_control", "in"})
            EXPECT_GT(count("helpers", name), 0U) << name;
        for (const char* const name : {"read_fill", "write_fill", "traced", "page_fault", "device"})
            EXPECT_GT(count("tlb_misses", name), 0U) << name;
        EXPECT_GT(count("events", "exception_pf"), 0U);
        EXPECT_GT(count("events", "external_interrupts"), 0U);
        EXPECT_GT(count("translation", "blocks"), 10'000U);
        EXPECT_GT(count("translation", "instructions"), count("translation", "blocks"));
        EXPECT_GT(s.at("translation").at("emitted_bytes").get<u64>(), u64{1} << 20);
        EXPECT_GT(count("shadow", "drains"), 0U);
        EXPECT_EQ(sum(s.at("helpers"), "count"), count("processor", "helper_calls"));
        EXPECT_EQ(sum(s.at("tlb_misses")), s.at("processor").at("slow_accesses").at("count"));
        EXPECT_EQ(sum(s.at("leaves")), count("processor", "dispatches"));
        EXPECT_EQ(sum(s.at("shadow_flushes")), count("shadow", "invalidations_all"));
        EXPECT_EQ(sum(s.at("shadow_root_flushes")), count("shadow", "invalidations_root"));
        EXPECT_GT(count("shadow", "invalidations_root"), 0U);

        // Translated code went on by itself, and only now and then left after all.
        for (const char* const kind : {"dispatch", "branch", "straddle", "helper"}) {
            EXPECT_GT(count("chains", kind), 0U) << kind;
            EXPECT_LT(count("chains", (std::string(kind) + "_left").c_str()), count("chains", kind))
                << kind;
        }
        EXPECT_GT(s.at("chains").at("branch").at("ns").get<u64>(), 0U);

        // What the shadow MMU asked for has reached the processor, which may ask itself, too.
        EXPECT_GE(count("processor", "tlb_flushes"), count("shadow", "invalidations_all"));
        EXPECT_EQ(count("processor", "tlb_root_flushes"), count("shadow", "invalidations_root"));
        EXPECT_EQ(count("processor", "tlb_page_flushes"), count("shadow", "invalidations_page"));
        EXPECT_GE(count("processor", "write_revocations"), count("shadow", "write_revocations"));
        EXPECT_GT(count("processor", "context_misses"), 0U);
        EXPECT_GE(count("processor", "context_switches"),
                  count("processor", "context_misses") + count("processor", "context_losses"));
        EXPECT_GE(count("processor", "context_flushes"),
                  count("processor", "context_misses") + count("processor", "context_losses"));
        EXPECT_EQ(count("exits", "page_fault"), count("shadow", "page_faults"));
        EXPECT_EQ(count("shadow", "fills") + count("shadow", "injected"),
                  count("shadow", "page_faults"));
    }
};

TEST_F(StatisticsOfABoot, AreSound) {
    const TemporaryFolder folder;
    const std::string map = (folder.path() / "code.map").string();
    // Without a root file system the kernel panics, and then restarts.
    const Finished finished =
        run_program(gnomon({"run", "--kernel", guest_kernel, "--no-reboot", "--stats=json",
                            "--perf-map", map, "--append", "console=ttyS0 quiet panic=-1"}));
    ASSERT_EQ(finished.status, 0) << finished.err;
    const Json s = statistics(finished);
    expect_sound(s);
    EXPECT_EQ(s.at("machine").at("lives"), 1);
    EXPECT_FALSE(s.contains("trace"));

    // A line for each routine and two for each block, which has code in the hot and in the cold
    // part, written from within the sandbox.
    std::ifstream file(map);
    u64 blocks = 0, routines = 0, lines = 0;
    for (std::string line; std::getline(file, line); ++lines) {
        if (line.find(" kernel:ffffffff") != std::string::npos) ++blocks;
        if (line.find(" gnomon:") != std::string::npos) ++routines;
    }
    EXPECT_EQ(routines, 17U);
    EXPECT_EQ(lines - routines, 2 * s.at("translation").at("blocks").get<u64>());
    EXPECT_GT(blocks, 10'000U);
}

TEST_F(StatisticsOfABoot, CountWhatATraceCosts) {
    const Finished finished = run_program(
        traced({"-o", "/dev/null", "--stats=json"}, {"sh", "-c", "ls -l / >/dev/null; sleep 0.2"}));
    ASSERT_EQ(finished.status, 0) << finished.err;
    const Json s = statistics(finished);
    expect_sound(s);
    EXPECT_GT(s.at("trace").at("calls_entered").get<u64>(), 50U);
    EXPECT_GE(s.at("trace").at("calls_entered").get<u64>(),
              s.at("trace").at("calls_returned").get<u64>() / 2);
    EXPECT_EQ(s.at("trace").at("calls_summed"), 0);
    EXPECT_GT(s.at("time").at("trace_ns").get<u64>(), 0U);
    EXPECT_GT(s.at("time").at("idle_ns").get<u64>(), 50'000'000U);
    EXPECT_GT(s.at("exits").at("hypercall").at("count").get<u64>(), 0U);
    EXPECT_GT(s.at("machine").at("idle_periods").get<u64>(), 0U);
}

// What is only counted is counted in the guest: few of its calls exit.
TEST_F(StatisticsOfABoot, CountedCallsSeldomExit) {
    const Finished finished = run_program(traced({"-c", "-o", "/dev/null", "--stats=json"},
                                                 {"sh", "-c", "ls -l / >/dev/null; sleep 0.2"}));
    ASSERT_EQ(finished.status, 0) << finished.err;
    const Json s = statistics(finished);
    expect_sound(s);
    const u64 summed = s.at("trace").at("calls_summed").get<u64>();
    const u64 told = s.at("trace").at("calls_entered").get<u64>();
    EXPECT_GT(summed, 50U);
    EXPECT_GT(summed, 2 * told);
    EXPECT_LT(s.at("exits").at("execution_hook").at("count").get<u64>() +
                  s.at("exits").at("hypercall").at("count").get<u64>(),
              summed);
}

} // namespace
} // namespace gnomon::test
