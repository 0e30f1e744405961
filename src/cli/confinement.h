// SPDX-License-Identifier: Apache-2.0
/// @file What Gnomon's process gives up, and when: the order of the sandbox's steps in a run.
#pragma once

#include "base/result.h"
#include "sandbox/sandbox.h"

#include <string>
#include <vector>

namespace gnomon::cli {

/// Made before any file is opened; then the two steps in their order, by the main thread.
class Confinement {
public:
    /// @param seccomp false: the second step is left out (--no-seccomp).
    explicit Confinement(bool seccomp);

    /// First step, when every file but the kernel is open or read, and before any thread of ours is
    /// made (each inherits it): gives up access to files by path, but for reading `kernel` and
    /// writing to terminals that are our stdout or stderr (OutputPump opens these anew).
    void give_up_files(const std::string& kernel) const;

    /// Second step, before the first instruction of the guest: closes the descriptors that came
    /// from our parent beside 0, 1 and 2, and gives up the system calls that no machine needs, for
    /// all threads.
    [[nodiscard]] Result<> give_up_system_calls(const sandbox::SystemCallNeeds& needs) const;

private:
    bool m_seccomp;
    std::vector<int> m_inherited; ///< descriptors from 3 on that were open when the object was made
};

} // namespace gnomon::cli
