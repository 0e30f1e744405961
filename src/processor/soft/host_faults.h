// SPDX-License-Identifier: Apache-2.0
/// @file Host signals that translated code raises, turned into guest exceptions.
///
/// A re-emitted DIV, MOVAPS or x87 instruction faults on the host as it would for the guest. The
/// handler sends such a fault to a thunk and leaves every other signal to whoever handled it
/// before.
#pragma once

#include "processor/soft/assembler.h"

namespace gnomon::processor::soft {

/// Installs the process's handlers for SIGFPE, SIGSEGV, SIGBUS and SIGILL, once. Any thread.
void install_fault_handlers();

/// While it lives, faults of this thread inside `cache` go to `thunk` with Cpu::fault_host_pc and
/// fault_signal set.
class FaultScope {
public:
    FaultScope(Cpu& cpu, const CodeCache& cache, u32 thunk);
    FaultScope(const FaultScope&) = delete;
    FaultScope& operator=(const FaultScope&) = delete;
    ~FaultScope();

private:
    const FaultScope* m_outer;

public:
    Cpu& cpu;
    const CodeCache& cache;
    u32 thunk;
};

} // namespace gnomon::processor::soft
