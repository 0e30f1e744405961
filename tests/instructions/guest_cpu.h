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
    [[nodiscard]] static Result<std::unique_ptr<GuestCpu>> create();

    [[nodiscard]] std::span<u8> data();
    /// The data area is about to be, or was, changed from outside in [address, address + size).
    void data_changed(u64 address, u64 size);
    void load(const Program& program);
    [[nodiscard]] Outcome run(const Program& program, MachineState& state);
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
    void set_state(const MachineState& state, u64 rip);
    [[nodiscard]] Outcome run_to_end(const Program& program);
    [[nodiscard]] std::optional<Outcome> take(const processor::Exit& exit, const Program& program);
    [[nodiscard]] Outcome exception_taken(u64 halted_rip);
    bool repair(u64 address, u32 error_code);
    void withdraw_lazy_pages();

    std::optional<GuestMemory> m_memory;
    std::unique_ptr<u64[]> m_arena;
    u64 m_arena_used = 0;
    std::vector<processor::WriteRecord> m_records; ///< of this run
    std::vector<processor::WriteRecord> m_buffer;
    std::unique_ptr<processor::soft::SoftProcessor> m_processor;
    std::vector<u64> m_repaired;
    u64 m_frame_rflags = 0, m_frame_rsp = 0;
    bool m_in_handler = false;
    u64 m_restarts = 0, m_mmio_exits = 0;
};

} // namespace gnomon::test
