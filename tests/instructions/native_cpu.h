// SPDX-License-Identifier: Apache-2.0
/// @file The host CPU as an oracle: runs a program in this process, at the guest's own addresses.
#pragma once

#include "base/result.h"
#include "host_state.h"
#include "machine_state.h"

#include <memory>
#include <span>

namespace gnomon::test {

/// One may exist at a time, since it owns fixed addresses and signal handlers. One thread.
class NativeCpu {
public:
    /// Call after any SoftProcessor was created: faults that are not the program's go on to the
    /// handlers found here.
    [[nodiscard]] static Result<std::unique_ptr<NativeCpu>> create();
    NativeCpu(const NativeCpu&) = delete;
    NativeCpu& operator=(const NativeCpu&) = delete;
    ~NativeCpu();

    [[nodiscard]] std::span<u8> data() { return m_data; }
    /// Places code, and makes every stop leave the program.
    void load(const Program& program);
    /// Runs the program loaded; `state` is what it starts from and becomes what it leaves.
    [[nodiscard]] Outcome run(const Program& program, MachineState& state);
    /// The state after each instruction of the last run, if it was stepped.
    [[nodiscard]] std::span<const Step> steps() const;

private:
    NativeCpu() = default;
    HostState m_host_state;
    std::vector<Step> m_steps;
    std::span<u8> m_data; ///< writable view of the data area
    std::span<u8> m_code; ///< writable view of the code area
    std::vector<void*> m_mappings;
    std::vector<std::size_t> m_sizes;
};

/// Whether RDFSBASE and its like may be used on this host.
[[nodiscard]] bool host_has_fsgsbase();

} // namespace gnomon::test
