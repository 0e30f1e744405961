// SPDX-License-Identifier: Apache-2.0
/// @file The memory of a Cpu, mapped several times: each window shows the same Cpu, and behind it
/// TLB sets of its own.
///
/// Translated code reads both at fixed distances from GS, so the base of GS chooses the sets, and
/// that costs translated code nothing. A window is
///
///   [inaccessible][Cpu, shared][inaccessible][keyed_set_count sets, slots of code pages, guesses,
///   deltas; its own][inaccessible]
///
/// where each inaccessible range is mapping_guard_size long, and the last one view_table_reach.
#pragma once

#include "base/file_descriptor.h"
#include "base/guarded_mapping.h"
#include "base/result.h"
#include "processor/soft/cpu.h"

#include <memory>

namespace gnomon::processor::soft {

class CpuWindows {
public:
    /// Makes a Cpu and `count` windows on it. The sets' pages are zeros.
    [[nodiscard]] static Result<CpuWindows> create(unsigned count);

    /// The Cpu by its one address for C++, which is that in the first window.
    [[nodiscard]] Cpu& cpu() const { return *m_cpu; }
    /// What GS is to be based at for window `n`.
    [[nodiscard]] Hva base(unsigned n) const { return m_first + n * stride; }
    /// The sets of window `n`: keyed_set_count of them.
    [[nodiscard]] Tlb* sets(unsigned n) const {
        // SAFETY: mapped by create; any bytes are a Tlb.
        return reinterpret_cast<Tlb*>(base(n) + context_offset);
    }
    /// The base slots of window `n`: code_page_limit of them.
    [[nodiscard]] u64* base_slots(unsigned n) const {
        // SAFETY: mapped by create; any bytes are numbers.
        return reinterpret_cast<u64*>(base(n) + base_slots_offset);
    }
    /// The guesses of the linear view of window `n`.
    [[nodiscard]] ViewGuesses* view_guesses(unsigned n) const {
        // SAFETY: mapped by create; any bytes are numbers.
        return reinterpret_cast<ViewGuesses*>(base(n) + view_guesses_offset);
    }
    /// The deltas of the linear view of window `n`.
    [[nodiscard]] u64* view_deltas(unsigned n) const {
        // SAFETY: mapped by create; any bytes are numbers.
        return reinterpret_cast<u64*>(base(n) + view_deltas_offset);
    }
    /// Whether an index of the deltas that has none leads to `address`.
    [[nodiscard]] bool behind_deltas(unsigned n, u64 address) const {
        const u64 end = reinterpret_cast<u64>(view_deltas(n)) + 8 * view_delta_count;
        return address - end < view_table_reach;
    }
    [[nodiscard]] bool contains(Hva address) const {
        return address >= m_mapping.base() && address < m_mapping.base() + m_mapping.size();
    }

private:
    CpuWindows() = default;
    static constexpr u64 cpu_bytes = (sizeof(Cpu) + page_offset_mask) & ~page_offset_mask;
    static constexpr u64 sets_bytes = view_deltas_offset - context_offset + 8 * view_delta_count;
    static_assert(sets_bytes % page_size == 0);
    static constexpr u64 stride =
        cpu_bytes + mapping_guard_size + sets_bytes + view_table_reach + mapping_guard_size;
    static_assert(sizeof(Cpu) % alignof(Cpu) == 0 && alignof(Cpu) <= page_size);
    static_assert(sizeof(Tlb) % alignof(Cpu) == 0);

    struct DestroyInPlace {
        void operator()(Cpu* cpu) const { cpu->~Cpu(); }
    };

    FileDescriptor m_fd; ///< the pages that all windows show
    GuardedMapping m_mapping;
    Hva m_first = nullptr; ///< base(0)
    std::unique_ptr<Cpu, DestroyInPlace> m_cpu;
};

/// Bases GS at `address`, for this thread.
void set_gs_base(Hva address);

} // namespace gnomon::processor::soft
