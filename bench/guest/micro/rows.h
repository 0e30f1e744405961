// SPDX-License-Identifier: Apache-2.0
/// @file The micro benchmarks, one function for each row. docs/bench.md says what an operation of
/// each is.
#pragma once

#include "measure.h"

namespace bench {

// calls.cpp
Outcome null_call(Budget budget);
Outcome stat_call(Budget budget);
// pipes.cpp
Outcome pipe_round_trip(Budget budget);
Outcome switch_two_processes(Budget budget);
Outcome switch_eight_processes(Budget budget);
// signals.cpp
Outcome signal_install(Budget budget);
Outcome signal_catch(Budget budget);
// processes.cpp
Outcome fork_exit(Budget budget);
Outcome fork_execute(Budget budget);
// memory.cpp
Outcome fault_anonymous(Budget budget);
Outcome fault_file(Budget budget);
Outcome map_unmap(Budget budget);
// fft.cpp, matrix.cpp, scalar.cpp
Outcome fast_fourier_transform(Budget budget);
Outcome matrix_product(Budget budget);
Outcome scalar_double(Budget budget);
Outcome call_and_return(Budget budget);
Outcome indirect_call(Budget budget);

} // namespace bench
