// SPDX-License-Identifier: Apache-2.0
#include "hostile_guest/observed_processor.h"

#include "base/canonical.h"
#include "hostile_guest/layout.h"

namespace gnomon::test::hostile {

using processor::ControlBlock;
using processor::Exit;
using processor::ExitReason;
using processor::Injection;
using processor::RegisterBlock;
using processor::Segment;

namespace {
constexpr u64 monitor_range_size = u64{1} << 20;
constexpr u32 hooked[] = {0xc0000082, 0xc0000083, 0x176};
} // namespace

void ObservedProcessor::remember() {
    const ControlBlock& cb = control_block();
    m_constant = {
        cb.ram_base,      cb.monitor_pages,       cb.shadow_arena,       cb.ram_low_size,
        cb.ram_high_size, cb.monitor_pages_size,  cb.monitor_root,       cb.state.lstar,
        cb.state.cstar,   cb.state.sysenter_eip,  cb.monitor_mode_begin, cb.monitor_mode_end,
        cb.cpuid,         cb.write_buffer.records};
}

Exit ObservedProcessor::enter() {
    look_before();
    const Exit exit = m_processor->enter();
    look_after(exit);
    return exit;
}

void ObservedProcessor::look_before() {
    const ControlBlock& cb = control_block();
    if (cb.injection.kind != Injection::Kind::none)
        ++m_happenings.injections[static_cast<unsigned>(cb.injection.kind)];
    if (!m_msr_awaited) return;
    m_msr_awaited = false;
    if (cb.injection.kind == Injection::Kind::exception &&
        cb.injection.vector == static_cast<u8>(processor::Vector::gp)) {
        complain("RDMSR of {:#x} raised #GP", m_msr_index);
        return;
    }
    const u64 shown = cb.state.gpr[processor::rdx] << 32 | cb.state.gpr[processor::rax];
    if (const u64 own = m_own[m_msr_index]; shown != own)
        complain("RDMSR of {:#x} shows {:#x}, the guest wrote {:#x}", m_msr_index, shown, own);
}

void ObservedProcessor::look_after(const Exit& exit) {
    const ControlBlock& cb = control_block();
    const RegisterBlock& s = cb.state;
    ++m_happenings.exits[static_cast<unsigned>(exit.reason)];

    const auto& c = m_constant;
    if (cb.ram_base != c.ram || cb.monitor_pages != c.monitor_pages || cb.shadow_arena != c.arena ||
        cb.ram_low_size != c.low_size || cb.ram_high_size != c.high_size ||
        cb.monitor_pages_size != c.monitor_size || cb.monitor_root != c.monitor_root ||
        cb.monitor_mode_begin != c.begin || cb.monitor_mode_end != c.end || cb.cpuid != c.cpuid ||
        cb.write_buffer.records != c.records || cb.write_buffer.count > cb.write_buffer.capacity)
        complain("a field of the control block that is the monitor's has changed");
    if (s.lstar != c.lstar || s.cstar != c.cstar || s.sysenter_eip != c.sysenter_eip)
        complain("the hook is gone: LSTAR {:#x}, CSTAR {:#x}, SYSENTER_EIP {:#x}", s.lstar, s.cstar,
                 s.sysenter_eip);

    // What no program can bring about (SDM vol. 3A sections 2.3 and 2.5).
    constexpr u64 flags_never = ~u64{0x3f7fd7} | processor::rflags::vm;
    if ((s.rflags & processor::rflags::fixed1) == 0 || (s.rflags & flags_never) != 0)
        complain("RFLAGS are {:#x}", s.rflags);
    if ((s.cr0 & processor::cr0::pg) == 0 || (s.cr0 & processor::cr0::pe) == 0 ||
        (s.efer & processor::efer::lma) == 0)
        complain("IA-32e mode ended: CR0 {:#x}, EFER {:#x}", s.cr0, s.efer);
    if (s.segment[processor::seg_cs].has(Segment::l) &&
        s.segment[processor::seg_cs].has(Segment::db))
        complain("CS has L and D set");
    if ((s.dr[6] & ~u64{0xffffffff}) != 0 || (s.dr[7] & ~u64{0xffffffff}) != 0)
        complain("DR6 {:#x}, DR7 {:#x}", s.dr[6], s.dr[7]);
    if (!s.code64() && s.rip > 0xffffffff && !cb.monitor_mode)
        complain("RIP {:#x} outside 64-bit mode", s.rip);
    for (const unsigned n : {unsigned{processor::seg_fs}, unsigned{processor::seg_gs}})
        if (!is_canonical(s.segment[n].base)) complain("a segment base is not canonical");

    switch (exit.reason) {
    case ExitReason::page_fault:
        if (exit.gva.value() - place::monitor_range < monitor_range_size) {
            if ((exit.error_code & processor::pf_error::fetch) != 0)
                ++m_happenings.monitor_fetches;
            else if ((exit.error_code & processor::pf_error::write) != 0)
                ++m_happenings.monitor_writes;
            else
                ++m_happenings.monitor_reads;
        }
        if (!is_canonical(exit.gva.value())) complain("#PF at {}", exit.gva);
        break;
    case ExitReason::mmio:
        ++(exit.write ? m_happenings.device_writes : m_happenings.device_reads);
        if (exit.size != 1 && exit.size != 2 && exit.size != 4 && exit.size != 8)
            complain("a device access of {} bytes", exit.size);
        else if (exit.gpa.value() % exit.size != 0)
            complain("a device access of {} bytes at {}", exit.size, exit.gpa);
        else if (exit.gpa.value() < c.low_size || (exit.gpa.value() >= ram_high_base &&
                                                   exit.gpa.value() - ram_high_base < c.high_size))
            complain("a device access at {}, which is RAM", exit.gpa);
        break;
    case ExitReason::msr_read:
        for (const u32 index : hooked)
            if (exit.index == index) m_msr_awaited = true, m_msr_index = index;
        break;
    case ExitReason::msr_write:
        for (const u32 index : hooked)
            if (exit.index == index && is_canonical(exit.value)) m_own[index] = exit.value;
        break;
    case ExitReason::hypercall:
        if (!cb.monitor_mode) complain("a hypercall of the guest's own");
        break;
    case ExitReason::triple_fault:
        if (cb.monitor_mode) complain("the substitute handler faulted at {:#x}", s.rip);
        break;
    case ExitReason::software_interrupt_delivered:
        if (exit.index == 0x80 && exit.from_user)
            ++m_interrupt_calls, ++m_happenings.interrupt_calls;
        break;
    default: break;
    }
}

} // namespace gnomon::test::hostile
