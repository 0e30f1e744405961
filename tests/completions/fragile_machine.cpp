// SPDX-License-Identifier: Apache-2.0
#include "completions/fragile_machine.h"

#include "base/host_time.h"
#include "platform/block/open_disk.h"

#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <thread>

namespace gnomon::test {

namespace {

class Console final : public monitor::SerialEndpoint {
public:
    std::size_t transmitted(std::span<const std::byte> data) override {
        for (const std::byte b : data)
            text.push_back(static_cast<char>(b));
        return data.size();
    }
    std::size_t receive(std::span<std::byte>) override { return 0; }
    std::string text;
};

/// Stops a machine that does not come to its end.
class Watchdog {
public:
    Watchdog(monitor::Machine& machine, u64 seconds)
        : m_thread([this, &machine, seconds] {
              std::unique_lock lock(m_mutex);
              if (!m_changed.wait_for(lock, std::chrono::seconds(seconds),
                                      [this] { return m_done; }))
                  machine.stop();
          }) {}
    Watchdog(const Watchdog&) = delete;
    Watchdog& operator=(const Watchdog&) = delete;
    ~Watchdog() {
        {
            const std::lock_guard lock(m_mutex);
            m_done = true;
        }
        m_changed.notify_one();
        m_thread.join();
    }

private:
    std::mutex m_mutex;
    std::condition_variable m_changed;
    bool m_done = false;
    std::thread m_thread;
};

Result<std::unique_ptr<platform::BlockBackEnd>> back_end(const FragileRun& run) {
    if (!run.file.empty()) return platform::open_disk(run.file, {});
    auto disk = RamDisk::create(run.disk);
    if (!disk) return tl::unexpected(disk.error());
    return std::unique_ptr<platform::BlockBackEnd>(std::move(*disk));
}

} // namespace

u64 FragileOutcome::statistic(const std::string& name) const {
    const Statistic* const found = find(statistics, group, name);
    return found != nullptr ? found->value : 0;
}

FragileOutcome run_fragile(const FragileRun& run) {
    FragileOutcome outcome;
    auto disk = back_end(run);
    if (!disk) {
        outcome.text = disk.error().message;
        return outcome;
    }
    const bool ide = run.model == monitor::DiskModel::ide;
    outcome.group = ide ? "completions_ide0" : "completions_nvme0";
    Console console;
    monitor::MachineOptions options;
    options.kernel = ide ? FRAGILE_GUESTS "/fragile_ide.elf" : FRAGILE_GUESTS "/fragile_nvme.elf";
    options.append =
        fmt::format("bug={} requests={} depth={} batch={} spin={} work={} parts={} stack={} "
                    "seed={}",
                    static_cast<unsigned>(run.bug), run.requests, run.depth, run.batch ? 1 : 0,
                    run.spin ? 1 : 0, run.work, run.parts, run.stack, run.seed);
    options.memory = u64{32} << 20;
    options.no_reboot = true;
    options.serial[0] = &console;
    options.disks.push_back({run.model, std::move(*disk), "FRAGILE1", false, run.profile});
    options.completions = run.policy;
    options.completion_rules = run.rules;
    auto machine = monitor::Machine::create(std::move(options));
    if (!machine) {
        outcome.text = machine.error().message;
        return outcome;
    }
    const u64 begin = monotonic_ns(), cpu_begin = host_time_ns(CLOCK_PROCESS_CPUTIME_ID);
    const auto ended = [&] {
        const Watchdog watchdog(**machine, run.limit_s);
        return (*machine)->run();
    }();
    outcome.run_ns = monotonic_ns() - begin;
    outcome.cpu_ns = host_time_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu_begin;
    outcome.statistics = (*machine)->statistics();
    outcome.text = console.text;
    if (!ended)
        outcome.text += ended.error().message;
    else if (ended->end == monitor::RunEnd::triple_fault)
        outcome.text += "triple fault\n" + ended->processor_state;
    else if (ended->end != monitor::RunEnd::power_off)
        outcome.text += "no end in time: an answer is missing\n";
    const std::string done = fmt::format("DONE {} deepest ", run.requests);
    outcome.survived = outcome.text.starts_with(done);
    if (outcome.survived)
        outcome.deepest = std::strtoull(outcome.text.c_str() + done.size(), nullptr, 10);
    return outcome;
}

} // namespace gnomon::test
