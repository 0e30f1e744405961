// SPDX-License-Identifier: Apache-2.0
#include "monitor/machine.h"

#include "monitor/run_statistics.h"
#include "monitor/virtual_machine.h"

#include <thread>

namespace gnomon::monitor {

namespace {

/// Builds one life of the machine after another.
class RebootingMachine final : public Machine {
public:
    RebootingMachine(MachineOptions options, guest::KernelImage kernel)
        : m_resources{std::move(options), std::move(kernel)} {
        if (m_resources.options.observer != nullptr)
            m_resources.knowledge = std::make_shared<KernelKnowledge>(m_resources.kernel);
        if (m_resources.options.measure_time) m_resources.time = &m_time;
    }

    [[nodiscard]] Result<> build() {
        auto vm = VirtualMachine::create(m_resources);
        if (!vm) return tl::unexpected(vm.error());
        m_vm = std::move(*vm);
        // It is in RAM.
        if (m_resources.options.no_reboot) m_resources.options.initrd = std::vector<std::byte>();
        m_running.store(m_vm.get());
        return {};
    }

    [[nodiscard]] Result<RunOutcome> run() override {
        for (;;) {
            const auto outcome = m_vm->run();
            if (!outcome || outcome->end != RunEnd::reset || m_resources.options.no_reboot)
                return outcome;
            m_running.store(nullptr);
            while (m_stopping.load() != 0)
                std::this_thread::yield();
            const Booked booked(m_resources.time, Activity::set_up);
            accumulate(m_earlier, m_vm->report());
            m_vm.reset();
            if (auto built = build(); !built) return tl::unexpected(built.error());
        }
    }

    void stop() override {
        m_resources.stop.store(true);
        // While this is counted, `run` does not end the life that is looked at here.
        m_stopping.fetch_add(1);
        if (VirtualMachine* vm = m_running.load()) vm->kick();
        m_stopping.fetch_sub(1);
    }

    void process_continued() override {
        // The same thread builds and ends lives, so that this one stays while it is used.
        if (VirtualMachine* vm = m_running.load()) {
            vm->process_continued();
        } else {
            m_resources.skip_stopped_time(0);
        }
    }

    [[nodiscard]] Statistics statistics() const override {
        Statistics all = m_earlier;
        if (m_vm != nullptr) accumulate(all, m_vm->report()); // null after a failed restart
        if (m_time.started()) accumulate(all, {time_statistics(m_time)});
        return all;
    }

    [[nodiscard]] u64 guest_start_ns() const override { return m_resources.guest_start_ns; }

private:
    MachineResources m_resources;
    TimeAccount m_time;
    Statistics m_earlier; ///< of the lives before this one
    std::unique_ptr<VirtualMachine> m_vm;
    std::atomic<VirtualMachine*> m_running = nullptr;
    std::atomic<unsigned> m_stopping = 0; ///< calls of `stop` under way
};

} // namespace

Result<std::unique_ptr<Machine>> Machine::create(MachineOptions options) {
    auto kernel = guest::KernelImage::open(options.kernel);
    if (!kernel) return tl::unexpected(kernel.error());
    auto machine = std::make_unique<RebootingMachine>(std::move(options), std::move(*kernel));
    if (auto built = machine->build(); !built) return tl::unexpected(built.error());
    return machine;
}

} // namespace gnomon::monitor
