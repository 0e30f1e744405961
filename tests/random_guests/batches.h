// SPDX-License-Identifier: Apache-2.0
/// @file Runs cases in child processes, so that one that crashes or hangs is named and the run goes
/// on with the next.
#pragma once

#include "hostile_guest/hostile_machine.h"

#include <functional>
#include <string>
#include <vector>

namespace gnomon::test::hostile {

/// In memory that parent and child share.
struct Progress {
    std::atomic<u64> current = 0; ///< case under way
    std::atomic<u64> beats = 0;   ///< grows with each
    char message[16384] = {};     ///< why the child ended, if a case failed
    GuestStatistics statistics;
};

struct CaseFailure {
    u64 number = 0;
    std::string what;
};

/// Runs one case; "" if it passed. `fresh` is set at the first case of a process.
using CaseRunner = std::function<std::string(u64 number, bool fresh, GuestStatistics& statistics)>;

/// Cases [first, end) in children of at most `per_process` cases.
/// @param hang_seconds CPU time of one case at which it counts as hanging.
/// @return what failed; the run ends after `failure_limit` of them.
[[nodiscard]] std::vector<CaseFailure>
run_in_processes(u64 first, u64 end, u64 per_process, unsigned hang_seconds, unsigned failure_limit,
                 const CaseRunner& runner, GuestStatistics& statistics);

} // namespace gnomon::test::hostile
