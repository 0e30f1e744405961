// SPDX-License-Identifier: Apache-2.0
/// @file Runs programs on both processors from the same state and says what differs.
#pragma once

#include "guest_cpu.h"
#include "native_cpu.h"

namespace gnomon::test {

class Comparison {
public:
    /// @param seed of the data area's content.
    [[nodiscard]] static Result<std::unique_ptr<Comparison>> create(u64 seed);
    Comparison(const Comparison&) = delete;
    Comparison& operator=(const Comparison&) = delete;

    /// Runs `program` on both: what differs, a line each; empty if nothing does. The data area is
    /// as before afterwards.
    [[nodiscard]] std::string run(const Program& program);

    [[nodiscard]] GuestCpu& guest() { return *m_guest; }
    [[nodiscard]] u64 faults() const { return m_faults; }
    /// Outcome of the last run on the host CPU.
    [[nodiscard]] const Outcome& native_outcome() const { return m_native_outcome; }

private:
    Comparison() = default;
    void restore();
    void place(const Program& program);

    std::unique_ptr<GuestCpu>
        m_guest; ///< made before the native side, whose signal handlers come first
    std::unique_ptr<NativeCpu> m_native;
    std::vector<u8> m_base, m_start; ///< the data area before all programs, and before this one
    Outcome m_native_outcome;
    u64 m_faults = 0;
};

} // namespace gnomon::test
