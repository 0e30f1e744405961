// SPDX-License-Identifier: Apache-2.0
#include "support/guest.h"

#include "monitor/cpuid.h"
#include "processor/exceptions.h"

#include <cstdlib>
#include <cstring>

namespace gnomon::test {

using processor::Injection;
using processor::RegisterBlock;
using processor::Segment;

namespace {

constexpr u64 stub_size = 16;
constexpr auto time_limit = std::chrono::seconds(10);
constexpr u32 code_rights = 0xb | Segment::s | Segment::present | Segment::l | Segment::g;
constexpr u32 data_rights = 0x3 | Segment::s | Segment::present | Segment::db | Segment::g;
constexpr u32 msr_efer = 0xc0000080;

Segment flat(u16 sel, u32 rights) {
    Segment s;
    s.selector = sel;
    s.limit = 0xffffffff;
    s.rights = rights | static_cast<u32>(sel & 3) << 5;
    return s;
}

template <class T>
T must(Result<T> result) {
    if (!result) {
        fmt::print(stderr, "{}\n", result.error().message);
        std::abort();
    }
    return std::move(*result);
}

bool pushes_error_code(u8 vector) {
    return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17;
}

} // namespace

std::string Stop::text() const {
    if (kind == Kind::timeout) return fmt::format("timeout at rip {:#x}", rip);
    if (kind == Kind::event)
        return fmt::format("vector {} error {:#x} rip {:#x} rflags {:#x} rsp {:#x}", vector,
                           error_code, rip, rflags, rsp);
    return fmt::format("exit {} gva {:#x} gpa {:#x} port {:#x} error {:#x} index {:#x} rip {:#x}",
                       static_cast<unsigned>(exit.reason), exit.gva.value(), exit.gpa.value(),
                       exit.port, exit.error_code, exit.index, rip);
}

Guest::Guest(const GuestOptions& options)
    : m_options(options), m_memory(must(GuestMemory::create(options.memory))),
      m_cpu(
          must(processor::soft::SoftProcessor::create({.code_cache_bytes = options.code_cache_bytes,
                                                       .code_pages = options.code_pages,
                                                       .views = options.views}))),
      m_tlb(*m_cpu), m_mmu(must(monitor::ShadowMmu::create(m_memory, m_tlb, options.shadow))) {
    processor::ControlBlock& cb = block();
    cb.ram_base = m_memory.base();
    cb.ram_file = m_memory.fd();
    cb.ram_low_size = m_memory.low_size();
    cb.ram_high_size = m_memory.high_size();
    cb.tsc_offset = m_clock.tsc_offset();
    m_cpuid = monitor::guest_cpuid(m_clock.tsc_hz(), 0);
    cb.cpuid = m_cpuid.data();
    cb.cpuid_count = static_cast<u32>(m_cpuid.size());
    m_mmu->attach(cb);

    for (u64 at = 0; at < place::identity_end; at += page_size) {
        const bool user = at >= place::user_code || at == place::user_stack - page_size;
        map(at, at, pte::p | pte::w | (user ? pte::u : 0));
    }

    constexpr u64 tss_limit = 0x67;
    const u64 gdt[] = {0,
                       0x00af9b000000ffff,
                       0x00cf93000000ffff,
                       0x00cffb000000ffff,
                       0x00cff3000000ffff,
                       0x00affb000000ffff,
                       u64{0x8b} << 40 | place::tss << 16 | tss_limit,
                       0};
    poke(place::gdt, gdt);
    poke(place::tss + 4, place::kernel_stack);       // RSP0
    poke(place::tss + 0x24, place::interrupt_stack); // IST1
    poke(place::tss + 0x66, static_cast<u16>(0x68)); // no I/O permission bit map
    for (unsigned v = 0; v < 256; ++v) {
        poke(place::stubs + v * stub_size, u8{0xf4}); // HLT: `describe` knows which
        set_gate(static_cast<u8>(v), place::stubs + v * stub_size, v == 3 ? 3 : 0);
    }

    RegisterBlock& s = state();
    s.cr0 = processor::cr0::pe | processor::cr0::mp | processor::cr0::et | processor::cr0::ne |
            processor::cr0::wp | processor::cr0::pg;
    s.cr3 = place::pml4;
    s.cr4 = processor::cr4::pae | processor::cr4::pge | processor::cr4::osfxsr |
            processor::cr4::osxmmexcpt | processor::cr4::osxsave | processor::cr4::fsgsbase;
    s.efer =
        processor::efer::sce | processor::efer::lme | processor::efer::lma | processor::efer::nxe;
    s.xcr0 = processor::xcr0::x87 | processor::xcr0::sse | processor::xcr0::avx;
    s.gdtr = {place::gdt, sizeof gdt - 1, 0};
    s.idtr = {place::idt, 0xfff, 0};
    s.tr = flat(selector::tss, 0xb | Segment::present);
    s.tr.base = place::tss;
    s.tr.limit = tss_limit;
    s.ldtr.rights = Segment::unusable;
    s.star = u64{0x1b} << 48 | u64{selector::kernel_code} << 32;
    s.sysenter_cs = selector::kernel_code;
    s.sysenter_esp = place::kernel_stack;
    const u16 fcw = 0x37f;
    const u32 mxcsr = 0x1f80;
    std::memcpy(s.extended.legacy + processor::ExtendedState::fcw, &fcw, sizeof fcw);
    std::memcpy(s.extended.legacy + processor::ExtendedState::mxcsr, &mxcsr, sizeof mxcsr);
    start_kernel();
    m_mmu->load_root(s.cr3, monitor::PagingRole::of(s));
    m_watchdog = std::thread([this] { watch(); });
}

Guest::~Guest() {
    {
        const std::lock_guard lock(m_mutex);
        m_done = true;
    }
    m_done_changed.notify_all();
    m_watchdog.join();
    m_mmu->detach();
}

void Guest::watch() {
    std::unique_lock lock(m_mutex);
    if (m_done_changed.wait_for(lock, time_limit, [this] { return m_done; })) return;
    m_expired = true;
    while (!m_done_changed.wait_for(lock, std::chrono::milliseconds(10), [this] { return m_done; }))
        m_cpu->kick();
}

u64 Guest::assemble(u64 gpa, const std::function<void(Code&)>& emit) {
    Code code;
    emit(code);
    const auto bytes = std::as_bytes(std::span(code.getCode(), code.getSize()));
    if (!m_memory.write(Gpa(gpa), bytes)) std::abort();
    m_cpu->invalidate_code(Gpa(gpa), bytes.size());
    return gpa + code.getSize();
}

u64 Guest::table_page() {
    if (m_next_table >= place::tables_end) std::abort();
    const u64 page = m_next_table;
    m_next_table += page_size;
    return page;
}

void Guest::map(u64 gva, u64 gpa, u64 bits, u64 root, unsigned level) {
    u64 table = root;
    for (unsigned n = 4; n > level; --n) {
        const u64 at = table + 8 * processor::shadow_index(Gva(gva), n);
        u64 entry = peek(at);
        if ((entry & pte::p) == 0) {
            entry = table_page() | pte::p | pte::w | pte::u;
            poke(at, entry);
        }
        table = entry & monitor::guest_entry::address_mask;
    }
    poke(table + 8 * processor::shadow_index(Gva(gva), level),
         gpa | bits | (level > 1 ? pte::ps : 0));
}

u64 Guest::entry_address(u64 gva, unsigned level, u64 root) const {
    u64 table = root;
    for (unsigned n = 4; n > level; --n)
        table = peek(table + 8 * processor::shadow_index(Gva(gva), n)) &
                monitor::guest_entry::address_mask;
    return table + 8 * processor::shadow_index(Gva(gva), level);
}

void Guest::set_gate(u8 vector, u64 handler, unsigned dpl, unsigned ist) {
    const u64 low = (handler & 0xffff) | u64{selector::kernel_code} << 16 | u64{ist} << 32 |
                    u64{0x8e | dpl << 5} << 40 | (handler >> 16 & 0xffff) << 48;
    poke(place::idt + 16 * vector, low);
    poke(place::idt + 16 * vector + 8, handler >> 32);
}

void Guest::start_kernel(u64 rip) {
    RegisterBlock& s = state();
    for (Segment& segment : s.segment)
        segment = flat(selector::kernel_data, data_rights);
    s.segment[processor::seg_cs] = flat(selector::kernel_code, code_rights);
    s.rip = rip;
    s.gpr[processor::rsp] = place::kernel_stack;
    s.rflags = processor::rflags::fixed1;
}

void Guest::start_user(u64 rip) {
    RegisterBlock& s = state();
    for (Segment& segment : s.segment)
        segment = flat(selector::user_data, data_rights);
    s.segment[processor::seg_cs] = flat(selector::user_code, code_rights);
    s.rip = rip;
    s.gpr[processor::rsp] = place::user_stack;
    s.rflags = processor::rflags::fixed1;
}

monitor::Interposer& Guest::interpose(monitor::SystemCallObserver& observer,
                                      const platform::Clock* clock) {
    m_interposer = must(monitor::Interposer::create(
        block(), m_memory, *m_mmu, clock != nullptr ? *clock : m_clock, observer, nullptr));
    return *m_interposer;
}

// ---------------------------------------------------------------- the loop

u64 Guest::all_exits() const {
    u64 sum = 0;
    for (const u64 n : m_exits)
        sum += n;
    return sum;
}

Stop Guest::describe(const Exit& exit) {
    Stop stop;
    stop.exit = exit;
    const RegisterBlock& s = state();
    stop.rip = s.rip;
    const u64 stub = s.rip - 1 - place::stubs;
    if (exit.reason != ExitReason::halt || stub >= 256 * stub_size || stub % stub_size != 0)
        return stop;
    stop.kind = Stop::Kind::event;
    stop.vector = static_cast<u8>(stub / stub_size);
    u64 frame = s.gpr[processor::rsp];
    if (pushes_error_code(stop.vector)) {
        stop.error_code = peek<u32>(frame);
        frame += 8;
    }
    stop.rip = peek(frame);
    stop.cs = peek(frame + 8);
    stop.rflags = peek(frame + 16);
    stop.rsp = peek(frame + 24);
    stop.ss = peek(frame + 32);
    return stop;
}

Stop Guest::run() {
    for (;;) {
        const Exit exit = m_cpu->enter();
        ++m_exits[static_cast<unsigned>(exit.reason)];
        if (m_expired) {
            Stop stop;
            stop.kind = Stop::Kind::timeout;
            stop.rip = state().rip;
            return stop;
        }
        if (before_handling) before_handling();
        if (!handle(exit)) return describe(exit);
        if (m_triple_fault) {
            Stop stop;
            stop.exit.reason = ExitReason::triple_fault;
            stop.rip = state().rip;
            return stop;
        }
    }
}

bool Guest::handle(const Exit& exit) {
    bool reconciles = true;
    switch (exit.reason) {
    case ExitReason::page_fault: handle_page_fault(exit); break;
    case ExitReason::control_register: handle_control_register(exit); break;
    case ExitReason::invlpg:
    case ExitReason::invpcid:
        m_mmu->flush();
        advance(exit);
        break;
    case ExitReason::write_buffer_full: m_mmu->reconcile(block().write_buffer); break;
    case ExitReason::msr_read:
    case ExitReason::msr_write: return handle_msr(exit);
    case ExitReason::hypercall:
        if (m_interposer == nullptr) return false;
        m_interposer->on_hypercall();
        reconciles = false;
        break;
    case ExitReason::execution_hook:
        if (m_interposer == nullptr) return false;
        m_interposer->on_execution_hook(exit);
        block().execution_hook_armed = false;
        reconciles = false;
        break;
    case ExitReason::software_interrupt_delivered:
        if (m_interposer == nullptr) return false;
        m_interposer->on_software_interrupt(exit);
        reconciles = false;
        break;
    default: return false;
    }
    if (m_options.strict && reconciles && block().write_buffer.count == 0) {
        ++strict_checks;
        if (const auto report = check(); !report.ok() && strict_violations.empty())
            strict_violations = report.text();
    }
    return true;
}

void Guest::advance(const Exit& exit) {
    state().rip += exit.instruction_length;
    block().interrupt_shadow = false;
}

void Guest::inject(Vector vector, std::optional<u32> error_code, u64 cr2) {
    Injection event;
    event.kind = Injection::Kind::exception;
    event.vector = static_cast<u8>(vector);
    event.has_error_code = error_code.has_value();
    event.error_code = error_code.value_or(0);
    event.cr2 = cr2;
    block().injection = event;
}

void Guest::handle_page_fault(const Exit& exit) {
    const monitor::FaultOutcome outcome = m_mmu->handle_page_fault(exit, state());
    if (outcome.kind == monitor::FaultOutcome::Kind::retry) return;
    const Injection first = block().injection;
    inject(Vector::pf, outcome.error_code, exit.gva.value());
    if (!exit.during_delivery) return;
    if (const auto combined = processor::combine_exceptions(first, block().injection))
        block().injection = *combined;
    else
        m_triple_fault = true;
}

void Guest::handle_control_register(const Exit& exit) {
    RegisterBlock& s = state();
    const u64 cr0 = s.cr0, cr4 = s.cr4;
    switch (exit.index) {
    case 0:
        s.cr0 = exit.value;
        m_mmu->control_registers_changed(s, cr0, cr4, s.efer);
        break;
    case 3:
        s.cr3 = exit.value & ~(u64{1} << 63);
        m_mmu->load_root(s.cr3, monitor::PagingRole::of(s));
        if (m_interposer != nullptr) m_interposer->root_loaded();
        break;
    case 4:
        s.cr4 = exit.value;
        m_mmu->control_registers_changed(s, cr0, cr4, s.efer);
        break;
    default: s.cr8 = exit.value & 15; break;
    }
    advance(exit);
}

bool Guest::handle_msr(const Exit& exit) {
    RegisterBlock& s = state();
    const bool hooked = m_interposer != nullptr && monitor::Interposer::owns_msr(exit.index);
    if (exit.reason == ExitReason::msr_read) {
        if (!hooked) return false;
        const u64 value = m_interposer->read_msr(exit.index).value_or(0);
        s.gpr[processor::rax] = value & 0xffffffff;
        s.gpr[processor::rdx] = value >> 32;
    } else if (exit.index == msr_efer) {
        const u64 old = s.efer;
        s.efer = (exit.value & ~processor::efer::lma) | (old & processor::efer::lma);
        m_mmu->control_registers_changed(s, s.cr0, s.cr4, old);
    } else if (!hooked) {
        return false;
    } else if (!m_interposer->write_msr(exit.index, exit.value)) {
        inject(Vector::gp, 0);
        return true;
    }
    advance(exit);
    return true;
}

monitor::StrictReport Guest::check() {
    const monitor::StrictWalker walker(m_memory, m_mmu->arena(), m_mmu->arena_size());
    return walker.check(m_mmu->root(), monitor::PagingState::of(state()));
}

} // namespace gnomon::test
