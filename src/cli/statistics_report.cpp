// SPDX-License-Identifier: Apache-2.0
#include "cli/statistics_report.h"

#include "base/host_time.h"
#include "cli/process_files.h"
#include "cli/statistics_format.h"

#include <algorithm>
#include <cstdio>
#include <fcntl.h>
#include <string>
#include <unistd.h>

namespace gnomon::cli {

namespace {

FileDescriptor open_own(const char* path) {
    return FileDescriptor(::open(path, O_RDONLY | O_CLOEXEC));
}

/// All of a file below /proc as it is now; empty if it cannot be read.
std::string read_again(const FileDescriptor& file) {
    std::string text;
    if (!file || ::lseek(file.get(), 0, SEEK_SET) != 0) return text;
    char block[16 * 1024];
    for (;;) {
        const ssize_t got = ::read(file.get(), block, sizeof block);
        if (got <= 0) return text;
        text.append(block, static_cast<std::size_t>(got));
    }
}

/// Names in /proc/self/smaps, of GuestMemory::create, CodeCache::create and CpuWindows::create.
constexpr const char* guest_mapping = "memfd:gnomon-ram";
constexpr const char* code_mapping = "memfd:gnomon-code";
constexpr const char* tlb_mapping = "memfd:gnomon-cpu";

u64 minus(u64 a, u64 b) { return a > b ? a - b : 0; }

} // namespace

StatisticsReport::StatisticsReport(std::optional<StatisticsFormat> format) : m_format(format) {
    if (!format) return;
    // What came before main, the dynamic linker above all, was hardly ever waiting.
    m_start_ns = minus(monotonic_ns(), host_time_ns(CLOCK_PROCESS_CPUTIME_ID));
    m_status = open_own("/proc/self/status");
    m_smaps = open_own("/proc/self/smaps");
    m_stat = open_own("/proc/self/stat");
}

void StatisticsReport::add_process(Statistics& all, const monitor::Machine& machine,
                                   u64 guest_memory) const {
    using Unit = Statistic::Unit;
    StatisticGroup process{"process", {}};
    const auto add = [&](const char* name, u64 value, Unit unit) {
        process.entries.push_back({name, value, unit});
    };
    const u64 wall = minus(monotonic_ns(), m_start_ns);
    const u64 start_up =
        machine.guest_start_ns() != 0 ? minus(machine.guest_start_ns(), m_start_ns) : wall;
    add("wall", wall, Unit::nanoseconds);
    const u64 cpu = host_time_ns(CLOCK_PROCESS_CPUTIME_ID);
    add("cpu", cpu, Unit::nanoseconds);
    if (const auto share = user_share(read_again(m_stat))) {
        const auto user = static_cast<u64>(static_cast<double>(cpu) * *share);
        add("user", user, Unit::nanoseconds);
        add("system", cpu - user, Unit::nanoseconds);
    }
    add("start_up", start_up, Unit::nanoseconds);
    add("guest_memory", guest_memory, Unit::bytes);
    const auto peak = peak_resident(read_again(m_status));
    const std::string smaps = read_again(m_smaps);
    const auto guest = resident_of(smaps, guest_mapping);
    if (peak && guest) {
        add("peak_resident", *peak, Unit::bytes);
        add("guest_resident", *guest, Unit::bytes);
        add("peak_resident_beside_guest", minus(*peak, *guest), Unit::bytes);
    }
    // Pages that are mapped twice count twice, as they do above.
    if (const auto code = resident_of(smaps, code_mapping))
        add("code_resident", *code, Unit::bytes);
    if (const auto tlb = resident_of(smaps, tlb_mapping)) add("tlb_resident", *tlb, Unit::bytes);
    all.insert(all.begin(), std::move(process));

    // What the machine's thread did not book came before and behind the guest's run.
    const auto time = std::find_if(all.begin(), all.end(),
                                   [](const StatisticGroup& g) { return g.name == "time"; });
    if (time == all.end()) return;
    u64 booked = start_up;
    for (const Statistic& entry : time->entries)
        booked += entry.value;
    time->entries.push_back({"start_up", start_up, Unit::nanoseconds});
    time->entries.push_back({"closing", minus(wall, booked), Unit::nanoseconds});
    std::rotate(all.begin() + 1, time, time + 1);
}

void StatisticsReport::print(const monitor::Machine& machine, u64 guest_memory) const {
    Statistics all = machine.statistics();
    add_process(all, machine, guest_memory);
    const std::string text =
        *m_format == StatisticsFormat::json ? statistics_json(all) : statistics_text(all);
    std::fwrite(text.data(), 1, text.size(), stderr);
    std::fflush(stderr);
}

} // namespace gnomon::cli
