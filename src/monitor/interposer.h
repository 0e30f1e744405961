// SPDX-License-Identifier: Apache-2.0
/// @file The interposer (M1.1-M1.5): hooks the system-call vectors, hides that it does, and reports
/// calls and returns.
///
/// The guest's values of LSTAR, CSTAR and SYSENTER_EIP live here; the register block holds the
/// hooked vectors. Reads are spoofed, writes become the guest's value while the hook stays. Returns
/// are seen at the kernel's syscall_exit_to_user_mode, by an execution hook of the processor: every
/// way back to user mode passes it. The hook leads to the substitute handler, as the vectors do.
#pragma once

#include "base/guest_memory.h"
#include "guest/boot/kernel_image.h"
#include "guest/linux/kernel_info.h"
#include "guest/linux/page_walk.h"
#include "guest/linux/task.h"
#include "monitor/shadow/anonymous_mapping.h"
#include "monitor/shadow/shadow_mmu.h"
#include "monitor/substitute_handler.h"
#include "platform/clock.h"
#include "processor/control_block.h"
#include "processor/exit.h"

#include <array>
#include <future>
#include <memory>
#include <optional>

namespace gnomon::monitor {

enum class SystemCallAbi : u8 {
    x86_64, ///< SYSCALL
    i386,   ///< INT 0x80, SYSENTER, and SYSCALL from compatibility mode: ia32 numbers and registers
};

/// Who made a call: what the kernel's own structures say, or only the address space.
struct Caller {
    std::optional<guest::linux_::TaskIdentity> task;
    u64 cr3 = 0;
};

struct SystemCallEntry {
    Caller caller;
    SystemCallAbi abi = SystemCallAbi::x86_64;
    u64 number = 0; ///< EAX: Linux takes 32 bits
    std::array<u64, 6> args{};
    u64 user_ip = 0;
    u64 user_sp = 0;
    u64 time_ns = 0; ///< virtual time
    unsigned cpu = 0;
};

struct SystemCallReturn {
    Caller caller;
    i64 result = 0;
    i64 original_number = -1; ///< pt_regs.orig_ax
    bool compat = false;      ///< the task returns to 32-bit code
    u64 time_ns = 0;
    unsigned cpu = 0;
};

/// Calls of one number that were added up in the guest instead of being reported one by one.
struct SummedCalls {
    u64 number = 0; ///< x86-64
    u64 calls = 0;  ///< entered and returned
    u64 errors = 0; ///< of these: results from -4095 to -1
    u64 time_ns = 0;
};

struct TaskExit {
    Caller caller;
    i64 code = 0; ///< as passed to do_exit: wait status format
    u64 time_ns = 0;
    unsigned cpu = 0;
};

struct SignalDelivery {
    Caller caller;
    i32 number = 0;
    std::array<u8, 128>
        info{}; ///< siginfo as the kernel holds it: signo, errno, code, then the union
    bool has_info = false;
    u64 time_ns = 0;
    unsigned cpu = 0;
};

/// Memory of the caller, as its program sees it, valid during the call that got it.
using UserMemory = guest::linux_::GuestVirtualMemory;

/// What the interposer reports to. Called from the thread that runs the machine, with the guest
/// stopped.
class SystemCallObserver {
public:
    virtual ~SystemCallObserver() = default;
    /// Asked once a call number when the hook is set: what to do with such calls.
    /// CallAction::sum: they are told by `summed`, but for those that one event or another makes
    /// special, which are reported; then `entered` lacks all but number, caller and time.
    [[nodiscard]] virtual CallAction action(u64 number) = 0;
    /// Likewise for returns, of calls by any door whose number this is: hypercall, log if nothing
    /// of the caller's memory is looked at (only calls by SYSCALL are then logged), or none. Sums
    /// are decided by `action` alone.
    [[nodiscard]] virtual CallAction return_action(u64 number) {
        static_cast<void>(number);
        return CallAction::hypercall;
    }
    virtual void entered(const SystemCallEntry& entry, const UserMemory& memory) = 0;
    virtual void returned(const SystemCallReturn& exit, const UserMemory& memory) = 0;
    /// What was added up since this was called last; before the machine's end.
    virtual void summed(const SummedCalls& calls) { static_cast<void>(calls); }
    virtual void signal(const SignalDelivery& delivery) = 0;
    virtual void task_exited(const TaskExit& exit) = 0;
    /// The kernel has read what execve was asked and is about to replace the caller's program:
    /// `memory` is the old program's for the last time.
    virtual void executing(const Caller& caller, const UserMemory& memory) {
        static_cast<void>(caller);
        static_cast<void>(memory);
    }
    /// The guest waits, and so may what was kept back to be written in one piece: it is up to date.
    virtual void idle() {}
    /// Said once, when the kernel's image could not tell who runs: names go missing, calls do not.
    virtual void knowledge_missing(const std::string& why) = 0;
};

/// What the kernel's image tells, found out in the background while the guest boots.
class KernelKnowledge {
public:
    /// Begins at once. `image` must outlive the result.
    explicit KernelKnowledge(const guest::KernelImage& image);
    /// Waits for the end of it.
    [[nodiscard]] const Result<guest::linux_::KernelInfo>& get() const { return m_future.get(); }

private:
    std::shared_future<Result<guest::linux_::KernelInfo>> m_future;
};

class Interposer {
public:
    /// All must outlive the result. Sets the hook.
    [[nodiscard]] static Result<std::unique_ptr<Interposer>>
    create(processor::ControlBlock& block, const GuestMemory& memory, ShadowMmu& shadow,
           const platform::Clock& clock, SystemCallObserver& observer,
           std::shared_ptr<KernelKnowledge> knowledge);
    Interposer(const Interposer&) = delete;
    Interposer& operator=(const Interposer&) = delete;
    ~Interposer();

    // M1.2
    [[nodiscard]] static bool owns_msr(u32 index);
    [[nodiscard]] std::optional<u64> read_msr(u32 index) const;
    [[nodiscard]] bool write_msr(u32 index, u64 value);

    void on_hypercall();
    void on_software_interrupt(const processor::Exit& exit);
    void on_execution_hook(const processor::Exit& exit);
    /// The register block has a new CR3.
    void root_loaded();
    /// What the guest has added to its TSC, beside the clock's (IA32_TSC_ADJUST).
    void set_tsc_adjust(u64 adjust);
    /// Reports the calls that wait in the ring.
    void drain_ring();
    /// The machine has come to its end: reports the ring, the calls under way, and the sums.
    void finish();
    /// Returns are seen from now on, at `hook`, where RDI names a pt_regs. Called when the kernel
    /// is known.
    /// @param current where the kernel keeps the pointer to the task that runs, a page that never
    /// moves; nullopt: unknown, and then nothing is logged or added up
    void watch_returns(Gva hook, const guest::linux_::RegistersLayout& registers,
                       std::optional<Gpa> current);
    /// The guest waits: the observer gets all there is, and is told so.
    void idle();
    /// SYSCALL entries counted in the guest, by number.
    [[nodiscard]] std::span<const u64, handler_call_numbers> calls() const { return m_data->calls; }
    /// The handler's first byte in the monitor's memory: for the ablation that shows it carries the
    /// weight.
    [[nodiscard]] u8* handler_code() { return m_code; }

private:
    Interposer(processor::ControlBlock& block, const GuestMemory& memory, ShadowMmu& shadow,
               const platform::Clock& clock, SystemCallObserver& observer,
               std::shared_ptr<KernelKnowledge> knowledge, AnonymousMapping pages);
    [[nodiscard]] Result<> install();
    void learn_kernel(u64 lstar);
    [[nodiscard]] std::optional<Gpa> place_of_current() const;
    void report_return();
    void report_other_returns();
    [[nodiscard]] Caller identity(Gva task) const;
    void report_pending(PendingCall& call);
    void report_pending_of_current();
    void report_all_pending();
    [[nodiscard]] std::optional<u64> kernel_cr3() const;
    [[nodiscard]] Caller caller(u64 gs_base) const;
    void report_entry(SystemCallAbi abi, u32 number, const std::array<u64, 6>& args, u64 user_ip,
                      u64 user_sp);
    [[nodiscard]] u64 compat_sixth_argument(u64 address) const;

    processor::ControlBlock& m_block;
    const GuestMemory& m_memory;
    ShadowMmu& m_shadow;
    const platform::Clock& m_clock;
    SystemCallObserver& m_observer;
    std::shared_ptr<KernelKnowledge> m_knowledge;
    AnonymousMapping m_pages;
    u8* m_code;
    HandlerData* m_data;
    HandlerLayout m_layout;

    u64 m_guest_lstar = 0, m_guest_cstar = 0, m_guest_sysenter = 0;
    const guest::linux_::KernelInfo* m_info = nullptr;
    std::optional<guest::linux_::TaskReader> m_tasks;
    guest::linux_::RegistersLayout m_registers; ///< pt_regs
    std::optional<Gpa> m_current;               ///< where `current` is kept
    u64 m_slide = 0;
    u64 m_tsc_adjust = 0;
    std::optional<Gva> m_probe; ///< kernel data that user page tables never map
    bool m_complained = false;
};

} // namespace gnomon::monitor
