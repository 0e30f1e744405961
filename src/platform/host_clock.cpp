// SPDX-License-Identifier: Apache-2.0
#include "platform/host_clock.h"

#include <algorithm>
#include <cpuid.h>
#include <ctime>
#include <limits>
#include <optional>
#include <x86intrin.h>

namespace gnomon::platform {

namespace {

/// One instant on both clocks.
struct Sample {
    u64 tsc = 0;
    u64 ns = 0;
};

u64 raw_ns() {
    timespec t{};
    ::clock_gettime(CLOCK_MONOTONIC_RAW, &t);
    return static_cast<u64>(t.tv_sec) * ns_per_second + static_cast<u64>(t.tv_nsec);
}

/// Reads both clocks several times and keeps the pair least disturbed, since a thread may be
/// descheduled in between.
Sample sample() {
    Sample best;
    u64 best_width = std::numeric_limits<u64>::max();
    for (int attempt = 0; attempt < 16; ++attempt) {
        const u64 before = __rdtsc();
        const u64 ns = raw_ns();
        const u64 width = __rdtsc() - before;
        if (width < best_width) {
            best_width = width;
            best = {before + width / 2, ns};
        }
    }
    return best;
}

u64 measured_hz(u64 duration_ns) {
    const Sample first = sample();
    timespec wait{0, static_cast<long>(duration_ns)};
    ::nanosleep(&wait,
                nullptr); // an early return by a signal is harmless: the real duration is measured
    Sample last = sample();
    while (last.ns - first.ns < duration_ns)
        last = sample();
    return static_cast<u64>(static_cast<unsigned __int128>(last.tsc - first.tsc) * ns_per_second /
                            (last.ns - first.ns));
}

/// SDM vol. 2A, CPUID leaf 0x15: TSC frequency = crystal clock (ECX) * EBX / EAX.
std::optional<u64> hz_stated_by_cpuid() {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0) return std::nullopt;
    const bool hypervisor = (ecx & (1U << 31)) != 0;
    if (hypervisor) {
        __cpuid(0x4000'0000, eax, ebx, ecx, edx);
        if (eax < 0x4000'0010 || eax > 0x4000'ffff) return std::nullopt;
        __cpuid(0x4000'0010, eax, ebx, ecx, edx);
        if (eax == 0) return std::nullopt;
        return u64{eax} * 1000;
    }
    if (__get_cpuid_count(0x15, 0, &eax, &ebx, &ecx, &edx) == 0 || eax == 0 || ebx == 0 || ecx == 0)
        return std::nullopt;
    return u64{ecx} * ebx / eax;
}

} // namespace

u64 host_tsc_hz() {
    constexpr u64 check_ns = 1'000'000, calibration_ns = 10'000'000;
    if (const std::optional<u64> stated = hz_stated_by_cpuid()) {
        const u64 measured = measured_hz(check_ns);
        const u64 difference = *stated > measured ? *stated - measured : measured - *stated;
        if (difference < measured / 100) return *stated;
    }
    return measured_hz(calibration_ns);
}

HostClock::HostClock() : HostClock(host_tsc_hz()) {}

HostClock::HostClock(u64 tsc_hz) : m_rate(tsc_hz), m_offset(u64{0} - __rdtsc()) {}

u64 HostClock::tsc() const {
    for (;;) {
        const u64 offset = tsc_offset();
        const u64 host = __rdtsc();
        m_read.store(host, std::memory_order_relaxed);
        std::atomic_signal_fence(std::memory_order_seq_cst);
        // A handler that skipped time meanwhile did not know of this reading.
        if (tsc_offset() == offset) return host + offset;
    }
}

u64 HostClock::now_ns() const { return m_rate.passed_ns(tsc()); }

void HostClock::skip(u64 since) {
    const u64 from = std::max(since, m_read.load(std::memory_order_relaxed));
    const u64 now = __rdtsc();
    if (now > from) m_offset.fetch_sub(now - from, std::memory_order_relaxed);
}

} // namespace gnomon::platform
