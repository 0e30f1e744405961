// SPDX-License-Identifier: Apache-2.0
/// @file Runs programs on both processors from the same state and says what differs.
#pragma once

#include "guest_cpu.h"
#include "native_cpu.h"

namespace gnomon::test {

/// Kinds of run that the software processor translates the same instruction in different ways for.
struct Variant {
    const char* name;
    bool code32 = false;       ///< compatibility mode
    bool without_bmi2 = false; ///< look-ups without PEXT, which keep the flags by PUSHF and POPF
    bool without_loop = false; ///< look-ups without LOOP, as for hosts that are slow at it
    bool viewed = false;       ///< data accesses by the linear view
    bool stepped = false;      ///< TF set: blocks of one instruction, compared after each
};

class Comparison {
public:
    /// @param seed of the data area's content.
    [[nodiscard]] static Result<std::unique_ptr<Comparison>> create(const Variant& variant,
                                                                    u64 seed);
    Comparison(const Comparison&) = delete;
    Comparison& operator=(const Comparison&) = delete;

    /// Runs `program` on both: what differs, a line each; empty if nothing does.
    /// @param loaded its code is what the last run had.
    [[nodiscard]] std::string run(const Program& program, bool loaded = false);

    [[nodiscard]] const Variant& variant() const { return m_variant; }
    [[nodiscard]] GuestCpu& guest() { return *m_guest; }
    /// Outcome of the last run on the host CPU.
    [[nodiscard]] const Outcome& native_outcome() const { return m_native_outcome; }

    struct Counts {
        u64 programs = 0, faults = 0;
        u64 instructions = 0; ///< executed on both sides, at least: see Program::instructions
        u64 steps = 0;        ///< after each of which the state was compared
    };
    [[nodiscard]] const Counts& counts() const { return m_counts; }

private:
    Comparison() = default;
    void restore();
    void place(const Program& program, bool loaded);

    Variant m_variant{};
    std::unique_ptr<GuestCpu>
        m_guest; ///< made before the native side, whose signal handlers come first
    std::unique_ptr<NativeCpu> m_native;
    std::vector<u8> m_base, m_start; ///< the data area before all programs, and before this one
    std::vector<Range> m_placed;     ///< where they differ
    bool m_differed = false;         ///< after the last run
    Outcome m_native_outcome;
    Counts m_counts;
};

} // namespace gnomon::test
