// SPDX-License-Identifier: Apache-2.0
// What translated code costs: small loops on the software processor, beside the same bytes called
// on the host. Of each loop three figures a turn: `guest` and `native` in cycles of the host's TSC,
// minima over the benchmark's repetitions, and `ratio`.
//
//   gnomon_bench_processor [--benchmark_filter=REGEX] [--benchmark_min_time=SECONDS]
#include "loops.h"
#include "support/guest.h"

#include <algorithm>
#include <benchmark/benchmark.h>
#include <limits>
#include <x86intrin.h>

namespace gnomon::bench {
namespace {

using test::Guest;
namespace place = test::place;

/// Turns that are timed together: few enough to be done before another process takes the CPU.
constexpr u64 timed_turns = 20'000;

/// The loop on the host: a function of memory and turns.
class Native {
public:
    explicit Native(const Loop& loop) : m_code(64 * 1024) {
        using namespace Xbyak::util;
        for (const auto& r : {rbx, rbp, r12, r13, r14, r15})
            m_code.push(r);
        m_code.sub(rsp, 8);
        m_code.jmp("loop", Xbyak::CodeGenerator::T_NEAR);
        while (m_code.getSize() % page_size != 0)
            m_code.nop();
        m_code.L("loop");
        loop.emit(m_code);
        m_code.add(rsp, 8);
        for (const auto& r : {r15, r14, r13, r12, rbp, rbx})
            m_code.pop(r);
        m_code.ret();
    }
    void run(u64 data, u64 count) { m_code.getCode<void (*)(u64, u64)>()(data, count); }

private:
    Xbyak::CodeGenerator m_code;
};

template <class Run>
u64 cycles(Run run) {
    unsigned unused = 0;
    _mm_lfence();
    const u64 begin = __rdtsc();
    run();
    return __rdtscp(&unused) - begin;
}

void run_loop(benchmark::State& state, const Loop& loop) {
    if (loop.avx && !(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))) {
        state.SkipWithError("the host has no AVX2");
        return;
    }
    Guest guest;
    guest.assemble(place::kernel_code, [&](test::Code& c) {
        loop.emit(c);
        c.hlt();
    });
    std::vector<u8> data(data_bytes);
    if (loop.prepare != nullptr) loop.prepare(data, place::data);
    if (!guest.memory().write(Gpa(place::data), std::as_bytes(std::span(data)))) std::abort();
    alignas(page_size) static u8 native_data[data_bytes];
    std::fill(std::begin(native_data), std::end(native_data), u8{0});
    if (loop.prepare != nullptr)
        loop.prepare(std::span<u8>(native_data), reinterpret_cast<std::uintptr_t>(native_data));
    Native native(loop);

    const auto run_guest = [&](u64 count) {
        guest.start_kernel();
        guest.gpr(processor::rdi) = place::data;
        guest.gpr(processor::rsi) = count;
        const test::Stop stop = guest.run();
        if (!stop.halted()) state.SkipWithError(stop.text().c_str());
    };
    const u64 turns = timed_turns / loop.weight;
    run_guest(turns); // translates, and fills what is cached
    u64 best_guest = std::numeric_limits<u64>::max(), best_native = best_guest;
    for (auto _ : state) {
        best_guest = std::min(best_guest, cycles([&] { run_guest(turns); }));
        best_native = std::min(best_native, cycles([&] {
                                   native.run(reinterpret_cast<std::uintptr_t>(native_data), turns);
                               }));
    }
    const auto a_turn = [&](u64 all) {
        return static_cast<double>(all) / static_cast<double>(turns);
    };
    state.counters["guest"] = a_turn(best_guest);
    state.counters["native"] = a_turn(best_native);
    state.counters["ratio"] = a_turn(best_guest) / a_turn(best_native);
}

} // namespace
} // namespace gnomon::bench

int main(int argc, char** argv) {
    for (const gnomon::bench::Loop& loop : gnomon::bench::loops())
        benchmark::RegisterBenchmark(
            std::string(loop.name).c_str(),
            [&loop](benchmark::State& state) { gnomon::bench::run_loop(state, loop); })
            ->Unit(benchmark::kMillisecond)
            ->UseRealTime();
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
    benchmark::RunSpecifiedBenchmarks();
    benchmark::Shutdown();
    return 0;
}
