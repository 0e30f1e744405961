// SPDX-License-Identifier: Apache-2.0
/// @file The software processor under test: runs a program in user mode, in a guest that consists
/// of shadow tables, an IDT and little else.
#pragma once

#include "machine_state.h"
#include "processor/soft/soft_processor.h"

#include <memory>
#include <optional>
#include <span>

namespace gnomon::test {

class GuestCpu {
public:
    /// @param withheld features that the processor does without.
    [[nodiscard]] static Result<std::unique_ptr<GuestCpu>>
    create(processor::soft::FeatureSet withheld, processor::LinearViews views);

    [[nodiscard]] std::span<u8> data();
    /// The data area is about to be, or was, changed from outside in [address, address + size).
    void data_changed(u64 address, u64 size);
    void load(const Program& program);
    [[nodiscard]] Outcome run(const Program& program, MachineState& state);
    /// The state after each instruction of the last run, if it was stepped.
    [[nodiscard]] std::span<const Step> steps() const { return {m_steps.data(), m_step_count}; }
    /// Forgets all cached translations of addresses.
    void flush_tlb() { m_processor->invalidate_tlb(); }

    /// What is wrong with the records of the last run's traced writes, which began at the content
    /// `before`; empty if nothing is.
    [[nodiscard]] std::string check_records(std::span<const u8> before);

    [[nodiscard]] const processor::soft::Cpu::Statistics& statistics() const {
        return m_processor->statistics();
    }
    [[nodiscard]] processor::soft::FeatureSet features() const { return m_processor->features(); }
    [[nodiscard]] u64 restarts() const { return m_restarts; } ///< page faults that were repaired
    [[nodiscard]] u64 mmio_exits() const { return m_mmio_exits; }

private:
    GuestCpu() = default;
    [[nodiscard]] u64& leaf(u64 address);
    void map(u64 address, u64 gpa, u64 bits);
    void build_tables();
    void build_system();
    void set_state(const MachineState& state, u64 rip, bool code32);
    [[nodiscard]] Outcome run_to_end(const Program& program);
    [[nodiscard]] std::optional<Outcome> take(const processor::Exit& exit, const Program& program);
    [[nodiscard]] std::optional<Outcome> exception_taken(u64 halted_rip, const Program& program);
    void note_step();
    void return_from_handler();
    bool repair(u64 address, u32 error_code);
    void withdraw_lazy_pages();

    std::optional<GuestMemory> m_memory;
    std::unique_ptr<u64[]> m_arena;
    u64 m_arena_used = 0;
    std::vector<processor::WriteRecord> m_records; ///< of this run
    std::vector<processor::WriteRecord> m_buffer;
    std::unique_ptr<processor::soft::SoftProcessor> m_processor;
    std::vector<u64> m_repaired;
    struct Frame {
        u64 error_code, rip, cs, rflags, rsp, ss;
    } m_frame{};               ///< of the last exception
    std::vector<u8> m_content; ///< of traced pages, as the records say
    std::vector<Step> m_steps;
    std::size_t m_step_count = 0;
    bool m_in_handler = false;
    u64 m_restarts = 0, m_mmio_exits = 0;
};

} // namespace gnomon::test
