// SPDX-License-Identifier: Apache-2.0
#include "monitor/interposer.h"

#include "base/canonical.h"
#include "base/signal_mask.h"
#include "base/verify.h"

#include <bit>
#include <cstring>
#include <utility>

namespace gnomon::monitor {

namespace linux_ = guest::linux_;
using processor::ControlBlock;
using processor::RegisterBlock;

namespace {

constexpr u32 msr_sysenter_eip = 0x176, msr_lstar = 0xc0000082, msr_cstar = 0xc0000083;
constexpr unsigned int80_vector = 0x80;

enum Hook : unsigned { hook_return, hook_exit, hook_signal, hook_exec };

} // namespace

KernelKnowledge::KernelKnowledge(const guest::KernelImage& image) {
    const SignalsBlocked blocked; // they go to the thread that runs the machine
    m_future = std::async(std::launch::async, [&image]() -> Result<linux_::KernelInfo> {
                   const auto vmlinux = guest::extract_vmlinux(image);
                   if (!vmlinux) return tl::unexpected(vmlinux.error());
                   return linux_::KernelInfo::from_vmlinux(*vmlinux);
               }).share();
}

Interposer::Interposer(ControlBlock& block, const GuestMemory& memory, ShadowMmu& shadow,
                       const platform::Clock& clock, SystemCallObserver& observer,
                       std::shared_ptr<KernelKnowledge> knowledge, AnonymousMapping pages)
    : m_block(block), m_memory(memory), m_shadow(shadow), m_clock(clock), m_observer(observer),
      m_knowledge(std::move(knowledge)), m_pages(std::move(pages)), m_code(m_pages.array<u8>()) {
    // SAFETY: the data pages follow the code page in zero-filled memory; HandlerData is plain
    // integers.
    m_data = new (m_code + handler_code_size) HandlerData;
}

Interposer::~Interposer() = default;

Result<std::unique_ptr<Interposer>> Interposer::create(ControlBlock& block,
                                                       const GuestMemory& memory, ShadowMmu& shadow,
                                                       const platform::Clock& clock,
                                                       SystemCallObserver& observer,
                                                       std::shared_ptr<KernelKnowledge> knowledge) {
    auto pages =
        AnonymousMapping::create(handler_code_size + handler_data_size, "the substitute handler");
    if (!pages) return tl::unexpected(pages.error());
    std::unique_ptr<Interposer> interposer(new Interposer(block, memory, shadow, clock, observer,
                                                          std::move(knowledge), std::move(*pages)));
    if (auto installed = interposer->install(); !installed)
        return tl::unexpected(installed.error());
    return interposer;
}

Result<> Interposer::install() {
    m_layout = assemble_handler(std::span(m_code, handler_code_size));
    m_block.monitor_pages = m_pages.base();
    m_block.monitor_pages_size = m_pages.size();
    for (u64 at = 0; at < handler_code_size + handler_data_size; at += page_size) {
        const u64 rights = at < handler_code_size ? 0
                                                  : processor::ShadowEntry::writable |
                                                        processor::ShadowEntry::execute_disable;
        if (auto mapped = m_shadow.map_monitor_page(
                Gva(handler_base + at), Gpa(processor::monitor_frame_base + at), rights);
            !mapped)
            return mapped;
    }
    m_data->current_pointer = handler_base + handler_code_size + offsetof(HandlerData, no_task);
    root_loaded();
    for (unsigned n = 0; n < handler_call_numbers; ++n) {
        m_data->action[n] = static_cast<u8>(m_observer.action(n));
        m_data->return_action[n] = static_cast<u8>(m_observer.return_action(n));
    }

    m_block.monitor_mode_begin = Gva(handler_base);
    m_block.monitor_mode_end = Gva(handler_base + m_layout.end);
    m_block.state.lstar = handler_base + m_layout.syscall;
    m_block.state.cstar = handler_base + m_layout.cstar;
    m_block.state.sysenter_eip = handler_base + m_layout.sysenter;
    for (const u32 index : {msr_lstar, msr_cstar, msr_sysenter_eip}) {
        m_block.msr_read_intercept.set(index);
        m_block.msr_write_intercept.set(index);
    }
    m_block.int_delivery_exit.set(int80_vector);
    return {};
}

// ---------------------------------------------------------------- M1.2

bool Interposer::owns_msr(u32 index) {
    return index == msr_lstar || index == msr_cstar || index == msr_sysenter_eip;
}

std::optional<u64> Interposer::read_msr(u32 index) const {
    switch (index) {
    case msr_lstar: return m_guest_lstar;
    case msr_cstar: return m_guest_cstar;
    case msr_sysenter_eip: return m_guest_sysenter;
    default: return std::nullopt;
    }
}

bool Interposer::write_msr(u32 index, u64 value) {
    if (!is_canonical(value)) return false;
    switch (index) {
    case msr_lstar:
        m_guest_lstar = m_data->guest_lstar = value;
        if (value != 0) learn_kernel(value);
        return true;
    case msr_cstar: m_guest_cstar = m_data->guest_cstar = value; return true;
    case msr_sysenter_eip: m_guest_sysenter = m_data->guest_sysenter = value; return true;
    default: return false;
    }
}

/// The guest's own LSTAR says where KASLR put its kernel; from there on its symbols have addresses.
void Interposer::learn_kernel(u64 lstar) {
    if (m_knowledge == nullptr || m_info != nullptr) return;
    const auto complain = [&](const std::string& why) {
        if (!m_complained) m_observer.knowledge_missing(why);
        m_complained = true;
    };
    const auto& knowledge = m_knowledge->get();
    if (!knowledge) {
        complain(knowledge.error().message);
        return;
    }
    const auto slide = knowledge->slide_from(Gva(lstar));
    if (!slide) {
        complain("the system-call entry that the guest set is not the kernel image's");
        return;
    }
    m_info = &*knowledge;
    m_slide = *slide;
    if (m_info->symbols.init_task) m_probe = *m_info->symbols.init_task + m_slide;
    if (auto reader = linux_::TaskReader::create(*m_info, m_slide))
        m_tasks.emplace(std::move(*reader));
    else
        complain(reader.error().message);

    if (m_info->symbols.syscall_exit_to_user_mode)
        watch_returns(*m_info->symbols.syscall_exit_to_user_mode + m_slide, m_info->registers,
                      m_tasks ? place_of_current() : std::nullopt);
    else
        complain("the kernel has no symbol syscall_exit_to_user_mode: returns are not seen");
    if (m_info->kallsyms != nullptr) {
        if (const auto do_exit = m_info->kallsyms->lookup("do_exit"))
            m_block.execution_hook[hook_exit] = *do_exit + m_slide;
        if (const auto done = m_info->kallsyms->lookup("signal_setup_done"))
            m_block.execution_hook[hook_signal] = *done + m_slide;
        // Called so since 5.8.
        auto exec = m_info->kallsyms->lookup("begin_new_exec");
        if (!exec) exec = m_info->kallsyms->lookup("flush_old_exec");
        if (exec) m_block.execution_hook[hook_exec] = *exec + m_slide;
    }
}

/// Of the per-CPU variable, whose page never moves.
std::optional<Gpa> Interposer::place_of_current() const {
    if (!m_info->current_task) return std::nullopt;
    // syscall_init runs on its own per-CPU area: the kernel's GS base is in place.
    const Gva base(m_block.state.segment[processor::seg_gs].base);
    return linux_::translate(m_memory, m_block.state.cr3,
                             m_info->current_task->address(base, m_slide));
}

void Interposer::watch_returns(Gva hook, const linux_::RegistersLayout& registers,
                               std::optional<Gpa> current) {
    m_registers = registers;
    m_block.execution_hook[hook_return] = hook;
    // The handler sees `current` by a mapping of its own.
    const Gva view(handler_base + handler_view_offset);
    if (current && m_memory.is_ram(*current) && current->page_offset() <= page_size - 8 &&
        m_shadow.map_monitor_page(view, current->page(), processor::ShadowEntry::execute_disable)) {
        m_current = *current;
        m_data->current_pointer = view.value() + current->page_offset();
    } else {
        // Returns that exit name their task, so entries must too.
        for (u8& action : m_data->action)
            if (action != static_cast<u8>(CallAction::none))
                action = static_cast<u8>(CallAction::hypercall);
        report_other_returns();
    }
    if (!registers.ax || !registers.orig_ax || !registers.cs) return;
    processor::HookHandler& handler = m_block.hook_handler[hook_return];
    handler.base = processor::rdi;
    const std::optional<u32> words[] = {registers.ax, registers.orig_ax, registers.cs};
    static_assert(sizeof(ReturnOperands) == processor::hook_operand_count * sizeof(u64));
    for (unsigned n = 0; n < processor::hook_operand_count; ++n)
        handler.offset[n] = static_cast<i32>(*words[n]);
    handler.operands = handler_code_size + offsetof(HandlerData, returned);
    m_data->return_hook = hook.value();
    handler.entry = Gva(handler_base + m_layout.returned);
}

/// From now on returns are not logged.
void Interposer::report_other_returns() {
    for (u8& action : m_data->return_action)
        if (action == static_cast<u8>(CallAction::log))
            action = static_cast<u8>(CallAction::hypercall);
}

// ---------------------------------------------------------------- who

std::optional<u64> Interposer::kernel_cr3() const {
    const u64 cr3 = m_block.state.cr3;
    if (!m_probe) return std::nullopt;
    return linux_::kernel_cr3(m_memory, cr3, *m_probe);
}

Caller Interposer::caller(u64 gs_base) const {
    Caller c;
    c.cr3 = m_block.state.cr3 & ~page_offset_mask;
    if (!m_tasks) return c;
    const auto cr3 = kernel_cr3();
    if (!cr3) return c;
    const linux_::PageTableReader kernel(m_memory, *cr3);
    if (const auto task = m_tasks->current(kernel, Gva(gs_base)))
        c.task = m_tasks->identify(kernel, *task);
    return c;
}

/// What is known about a task by its address alone.
Caller Interposer::identity(Gva task) const {
    Caller c;
    c.cr3 = m_block.state.cr3 & ~page_offset_mask;
    if (!m_tasks) return c;
    if (const auto cr3 = kernel_cr3())
        c.task = m_tasks->identify(linux_::PageTableReader(m_memory, *cr3), task);
    return c;
}

void Interposer::report_entry(SystemCallAbi abi, u32 number, const std::array<u64, 6>& args,
                              u64 user_ip, u64 user_sp) {
    drain_ring();
    report_pending_of_current();
    // 32-bit calls have numbers of their own, and so have their returns.
    if (abi != SystemCallAbi::x86_64) report_other_returns();
    SystemCallEntry entry;
    // The entry's SWAPGS is still to come: the kernel's GS base is in IA32_KERNEL_GS_BASE.
    entry.caller = caller(m_block.state.kernel_gs_base);
    entry.abi = abi;
    entry.number = number;
    entry.args = args;
    entry.user_ip = user_ip;
    entry.user_sp = user_sp;
    entry.time_ns = m_clock.now_ns();
    const linux_::PageTableReader user(m_memory, m_block.state.cr3,
                                       linux_::PageTableReader::Access::user);
    m_observer.entered(entry, user);
}

/// A call that was to be added up is an entry like others.
void Interposer::report_pending(PendingCall& call) {
    if (call.task == 0) return;
    SystemCallEntry entry;
    entry.caller = identity(Gva(call.task));
    entry.number = call.number;
    entry.time_ns = platform::TickRate(m_clock.tsc_hz()).passed_ns(call.tsc - m_tsc_adjust);
    call = {};
    const linux_::PageTableReader user(m_memory, m_block.state.cr3,
                                       linux_::PageTableReader::Access::user);
    m_observer.entered(entry, user);
}

/// Before anything else is reported about the task that runs.
void Interposer::report_pending_of_current() {
    u64 task = 0;
    if (!m_current || !m_memory.read_object(*m_current, task)) return;
    if (PendingCall& call = m_data->pending[pending_slot(task)]; call.task == task)
        report_pending(call);
}

void Interposer::report_all_pending() {
    for (PendingCall& call : m_data->pending)
        report_pending(call);
}

void Interposer::root_loaded() { m_data->cr3 = m_block.state.cr3; }

void Interposer::set_tsc_adjust(u64 adjust) {
    drain_ring(); // what waits there has the time as it was
    report_all_pending();
    m_tsc_adjust = adjust;
}

void Interposer::idle() {
    drain_ring();
    m_observer.idle();
}

void Interposer::finish() {
    drain_ring();
    report_all_pending();
    const platform::TickRate rate(m_clock.tsc_hz());
    for (unsigned n = 0; n < handler_call_numbers; ++n) {
        const CallSums sums = std::exchange(m_data->sums[n], {});
        if (sums.calls != 0)
            m_observer.summed({n, sums.calls, sums.errors, rate.passed_ns(sums.ticks)});
    }
}

void Interposer::drain_ring() {
    HandlerData& d = *m_data;
    const platform::TickRate rate(m_clock.tsc_hz());
    while (d.ring_tail != d.ring_head) {
        const HandlerEvent event = d.ring[d.ring_tail % handler_ring_size];
        ++d.ring_tail;
        Caller caller = event.task != 0 ? identity(Gva(event.task)) : Caller{};
        caller.cr3 = event.cr3 & ~page_offset_mask;
        // From the event alone: it has no part in when this is run, or interrupted.
        const u64 time_ns = rate.passed_ns(event.tsc - m_tsc_adjust);
        const linux_::PageTableReader user(m_memory, m_block.state.cr3,
                                           linux_::PageTableReader::Access::user);
        // One that it made before, and that has not returned.
        if (PendingCall& call = d.pending[pending_slot(event.task)];
            call.task == event.task && call.tsc < event.tsc)
            report_pending(call);
        if (event.kind == HandlerEvent::exit) {
            SystemCallReturn r;
            r.caller = std::move(caller);
            r.result = static_cast<i64>(event.args[0]);
            r.original_number = event.number;
            r.time_ns = time_ns;
            m_observer.returned(r, user);
            continue;
        }
        SystemCallEntry entry;
        entry.caller = std::move(caller);
        entry.number = event.number;
        std::copy(std::begin(event.args), std::end(event.args), entry.args.begin());
        entry.user_ip = event.user_rip;
        entry.user_sp = event.user_rsp;
        entry.time_ns = time_ns;
        m_observer.entered(entry, user);
    }
}

// ---------------------------------------------------------------- exits

void Interposer::on_hypercall() {
    const RegisterBlock& s = m_block.state;
    const auto& g = s.gpr;
    using namespace processor;
    if (s.rip == handler_base + m_layout.return_hypercall) {
        drain_ring();
        report_return();
        return;
    }
    if (s.rip == handler_base + m_layout.syscall_hypercall) {
        // The kernel takes the number from EAX, whatever is above it in RAX.
        report_entry(SystemCallAbi::x86_64, static_cast<u32>(g[rax]),
                     {g[rdi], g[rsi], g[rdx], g[r10], g[r8], g[r9]}, g[rcx], g[rsp]);
        return;
    }
    const auto low = [&](unsigned r) { return g[r] & 0xffffffff; };
    // The 32-bit entries keep the sixth argument on the user's stack, at EBP.
    const u64 second = s.rip == handler_base + m_layout.cstar_hypercall ? low(rbp) : low(rcx);
    report_entry(SystemCallAbi::i386, static_cast<u32>(g[rax]),
                 {low(rbx), second, low(rdx), low(rsi), low(rdi), compat_sixth_argument(low(rbp))},
                 0, low(rbp));
}

u64 Interposer::compat_sixth_argument(u64 address) const {
    const linux_::PageTableReader user(m_memory, m_block.state.cr3,
                                       linux_::PageTableReader::Access::user);
    std::array<std::byte, 4> bytes{};
    if (!user.read(Gva(address), bytes)) return 0;
    return std::bit_cast<u32>(bytes);
}

void Interposer::on_software_interrupt(const processor::Exit& exit) {
    const RegisterBlock& s = m_block.state;
    if (exit.index != int80_vector || !exit.from_user) return;
    const auto low = [&](unsigned r) { return s.gpr[r] & 0xffffffff; };
    using namespace processor;
    report_entry(SystemCallAbi::i386, static_cast<u32>(s.gpr[rax]),
                 {low(rbx), low(rcx), low(rdx), low(rsi), low(rdi), low(rbp)}, exit.value,
                 exit.gva.value());
}

/// The task that runs goes back to its program, and RDI names its registers.
void Interposer::report_return() {
    report_pending_of_current();
    const RegisterBlock& s = m_block.state;
    const linux_::PageTableReader memory(m_memory, s.cr3);
    const auto read64 = [&](std::optional<u32> offset) -> std::optional<u64> {
        std::array<std::byte, 8> bytes{};
        if (!offset || !memory.read(Gva(s.gpr[processor::rdi] + *offset), bytes))
            return std::nullopt;
        return std::bit_cast<u64>(bytes);
    };
    const auto ax = read64(m_registers.ax);
    const auto original = read64(m_registers.orig_ax);
    const auto cs = read64(m_registers.cs);
    if (!ax) return; // not a pt_regs: a kernel that calls this otherwise
    SystemCallReturn r;
    r.caller = caller(s.segment[processor::seg_gs].base);
    r.result = static_cast<i64>(*ax);
    r.original_number = static_cast<i64>(original.value_or(~u64{0}));
    r.compat = cs && (*cs & 0xffff) == 0x23;
    r.time_ns = m_clock.now_ns();
    m_observer.returned(
        r, linux_::PageTableReader(m_memory, s.cr3, linux_::PageTableReader::Access::user));
}

void Interposer::on_execution_hook(const processor::Exit& exit) {
    drain_ring();
    if (exit.index == hook_return) {
        report_return();
        return;
    }
    report_pending_of_current();
    const RegisterBlock& s = m_block.state;
    const linux_::PageTableReader memory(m_memory, s.cr3);
    const u64 gs_base = s.segment[processor::seg_gs].base;
    switch (exit.index) {
    case hook_exit: {
        TaskExit e;
        e.caller = caller(gs_base);
        if (e.caller.task && e.caller.task->kernel_thread) return; // never made a system call
        e.code = static_cast<i64>(s.gpr[processor::rdi]);
        e.time_ns = m_clock.now_ns();
        m_observer.task_exited(e);
        return;
    }
    case hook_exec:
        m_observer.executing(
            caller(gs_base),
            linux_::PageTableReader(m_memory, s.cr3, linux_::PageTableReader::Access::user));
        return;
    case hook_signal: {
        // signal_setup_done(failed, ksig, stepping): struct ksignal { k_sigaction ka;
        // kernel_siginfo info; int sig; }
        SignalDelivery d;
        d.caller = caller(gs_base);
        d.time_ns = m_clock.now_ns();
        const u64 ksignal = s.gpr[processor::rsi];
        const auto& [sig, info] = m_info->signal;
        std::array<std::byte, 4> number{};
        if (!sig || !memory.read(Gva(ksignal + *sig), number)) return;
        d.number = std::bit_cast<i32>(number);
        if (info) {
            std::array<std::byte, 48>
                head{}; // sizeof(kernel_siginfo): the union's longest used member ends here
            if (memory.read(Gva(ksignal + *info), head)) {
                std::memcpy(d.info.data(), head.data(), head.size());
                d.has_info = true;
            }
        }
        m_observer.signal(d);
        return;
    }
    default: return;
    }
}

} // namespace gnomon::monitor
