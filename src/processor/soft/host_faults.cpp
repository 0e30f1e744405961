// SPDX-License-Identifier: Apache-2.0
#include "processor/soft/host_faults.h"

#include "processor/soft/tlb_contexts.h"

#include <csignal>
#include <mutex>
#include <ucontext.h>

namespace gnomon::processor::soft {

namespace {

// A signal handler has no other way to know whose fault it is: one pointer a thread.
thread_local const FaultScope* current_scope = nullptr;

constexpr int handled[] = {SIGFPE, SIGSEGV, SIGBUS, SIGILL};
struct sigaction previous[64];

void handle(int number, siginfo_t* info, void* context) {
    auto* const frame = static_cast<ucontext_t*>(context);
    auto& pc = frame->uc_mcontext.gregs[REG_RIP];
    if (const FaultScope* scope = current_scope;
        scope != nullptr && scope->cache.contains(static_cast<u64>(pc))) {
        // SIGSEGV with an address, but that of a view, is a wild access of ours, never the guest's
        // doing: let it end the process.
        const auto address = static_cast<u64>(frame->uc_mcontext.gregs[REG_CR2]);
        const bool guests =
            number == SIGFPE || number == SIGILL ||
            (number == SIGSEGV &&
             (info->si_code == SI_KERNEL ||
              (scope->cpu.view_on && scope->cpu.tlb_contexts->view_reaches(address))));
        if (guests) {
            scope->cpu.fault_host_pc = static_cast<u64>(pc);
            scope->cpu.fault_vector = static_cast<u8>(frame->uc_mcontext.gregs[REG_TRAPNO]);
            scope->cpu.fault_address = address;
            scope->cpu.fault_was_write = (frame->uc_mcontext.gregs[REG_ERR] & 2) != 0;
            scope->cpu.fault_signal =
                number == SIGFPE && info->si_code != FPE_INTDIV && info->si_code != FPE_INTOVF
                    ? -SIGFPE // floating point
                    : number;
            pc = static_cast<greg_t>(scope->thunk);
            return;
        }
    }
    const struct sigaction& old = previous[number];
    if ((old.sa_flags & SA_SIGINFO) != 0 && old.sa_sigaction != nullptr) {
        old.sa_sigaction(number, info, context);
        return;
    }
    if (old.sa_handler != SIG_DFL && old.sa_handler != SIG_IGN) {
        old.sa_handler(number);
        return;
    }
    // Default: return to the faulting instruction with the default action in place.
    ::signal(number, SIG_DFL);
}

} // namespace

void install_fault_handlers() {
    static std::once_flag once;
    std::call_once(once, [] {
        struct sigaction action {};
        action.sa_sigaction = handle;
        action.sa_flags = SA_SIGINFO | SA_NODEFER;
        sigemptyset(&action.sa_mask);
        for (const int number : handled)
            ::sigaction(number, &action, &previous[number]);
    });
}

FaultScope::FaultScope(Cpu& cpu_, const CodeCache& cache_, u32 thunk_)
    : m_outer(current_scope), cpu(cpu_), cache(cache_), thunk(thunk_) {
    current_scope = this;
}

FaultScope::~FaultScope() { current_scope = m_outer; }

} // namespace gnomon::processor::soft
