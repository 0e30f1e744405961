// SPDX-License-Identifier: Apache-2.0
/// @file The software processor with an eye on every entry and exit: what the monitor must keep
/// true whatever the guest does is checked here, and what the guest has met is counted.
#pragma once

#include "processor/soft/soft_processor.h"

#include <map>
#include <string>

namespace gnomon::test::hostile {

/// What happened, over all guests of a process. Plain numbers: lives in memory that processes
/// share.
struct Happenings {
    u64 exits[processor::exit_reason_count] = {};
    u64 vectors[256] = {};
    u64 injections[5] = {}; ///< by the monitor, by Injection::Kind
    u64 monitor_reads = 0, monitor_writes = 0, monitor_fetches = 0; ///< faults at its addresses
    u64 device_reads = 0, device_writes = 0;
    u64 interrupt_calls = 0; ///< INT 0x80 of ring 3
};

class ObservedProcessor final : public processor::Processor {
public:
    ObservedProcessor(std::unique_ptr<processor::soft::SoftProcessor> processor,
                      Happenings& happenings)
        : m_processor(std::move(processor)), m_happenings(happenings) {}

    [[nodiscard]] processor::ControlBlock& control_block() override {
        return m_processor->control_block();
    }
    [[nodiscard]] processor::Exit enter() override;
    void kick() override { m_processor->kick(); }
    void invalidate_tlb() override { m_processor->invalidate_tlb(); }
    void invalidate_tlb(Gva gva) override { m_processor->invalidate_tlb(gva); }
    void invalidate_tlb(Gva first, u64 pages, u64 root) override {
        m_processor->invalidate_tlb(first, pages, root);
    }
    void forget_root(u64 root) override { m_processor->forget_root(root); }
    [[nodiscard]] std::string check_translations() override {
        return m_processor->check_translations();
    }
    void revoke_writes(Gpa gpa) override { m_processor->revoke_writes(gpa); }
    void invalidate_code(Gpa gpa, u64 size) override { m_processor->invalidate_code(gpa, size); }
    [[nodiscard]] gnomon::Statistics report() const override { return m_processor->report(); }

    [[nodiscard]] const processor::soft::Cpu::Statistics& statistics() const {
        return m_processor->statistics();
    }
    /// Remembers what only the monitor may change; after it has built everything.
    void remember();
    /// The guest's own value of a hooked MSR was changed from outside.
    void expect_msr(u32 index, u64 value) {
        m_own[index] = value;
        m_msr_awaited = false; // of the guest before
    }
    /// What was found wrong first; empty if nothing was.
    [[nodiscard]] const std::string& failure() const { return m_failure; }
    [[nodiscard]] u64 interrupt_calls() const { return m_interrupt_calls; }

private:
    void look_before();
    void look_after(const processor::Exit& exit);
    template <class... Args>
    void complain(fmt::format_string<Args...> format, Args&&... args) {
        if (m_failure.empty()) m_failure = fmt::format(format, std::forward<Args>(args)...);
    }

    std::unique_ptr<processor::soft::SoftProcessor> m_processor;
    Happenings& m_happenings;
    std::string m_failure;
    std::map<u32, u64> m_own; ///< the guest's values of hooked MSRs
    bool m_msr_awaited = false;
    u32 m_msr_index = 0;
    u64 m_interrupt_calls = 0;
    struct {
        Hva ram = nullptr, monitor_pages = nullptr, arena = nullptr;
        u64 low_size = 0, high_size = 0, monitor_size = 0, monitor_root = 0;
        u64 lstar = 0, cstar = 0, sysenter_eip = 0;
        Gva begin, end;
        const void* cpuid = nullptr;
        void* records = nullptr;
    } m_constant;
};

} // namespace gnomon::test::hostile
