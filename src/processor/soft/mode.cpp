// SPDX-License-Identifier: Apache-2.0
#include "processor/soft/mode.h"

#include "processor/soft/access_checks.h"
#include "processor/soft/breakpoints.h"

namespace gnomon::processor::soft {

Mode Mode::of(const Cpu& cpu) {
    const RegisterBlock& s = cpu.cb.state;
    u32 bits = 0;
    if (cpu.cb.monitor_mode)
        bits = static_cast<u32>(TlbSet::monitor);
    else if (s.cpl() == 3)
        bits = static_cast<u32>(TlbSet::user);
    else if ((s.cr4 & cr4::smap) != 0 && (s.rflags & rflags::ac) == 0)
        bits = static_cast<u32>(TlbSet::supervisor);
    else
        bits = static_cast<u32>(TlbSet::supervisor_ac);

    if (s.code64()) {
        bits |= code64 | flat;
    } else {
        if (!s.segment[seg_cs].has(Segment::db)) bits |= code16;
        if (!s.segment[seg_ss].has(Segment::db)) bits |= stack16;
        if ((s.segment[seg_es].base | s.segment[seg_cs].base | s.segment[seg_ss].base |
             s.segment[seg_ds].base) == 0)
            bits |= flat;
        const Segment& cs = s.segment[seg_cs];
        if (!is_unrestricted_code(cs) || !is_unrestricted_data(s.segment[seg_es]) ||
            !is_unrestricted_data(s.segment[seg_ss]) || !is_unrestricted_data(s.segment[seg_ds]))
            bits |= checked;
        if (!is_unrestricted_data(s.segment[seg_fs])) bits |= checked_fs;
        if (!is_unrestricted_data(s.segment[seg_gs])) bits |= checked_gs;
        // What is fetched is checked between instructions.
        if (cs.base != 0 || cs.limit != 0xffffffff) bits |= single;
    }
    if (alignment_checked(cpu)) bits |= checked | checked_fs | checked_gs;
    // Blocks for a supervisor's set are then CPL 0's: levels 1 and 2 see each instruction's checks.
    if (s.cpl() == 1 || s.cpl() == 2) bits |= single;
    const bool ts = (s.cr0 & cr0::ts) != 0, em = (s.cr0 & cr0::em) != 0;
    if (ts) bits |= task_switched;
    if (!ts && !em) bits |= fpu;
    if (!ts && !em && (s.cr4 & cr4::osfxsr) != 0) bits |= sse;
    constexpr u64 avx_state = xcr0::avx | xcr0::sse;
    if (!ts && (s.cr4 & cr4::osxsave) != 0 && (s.xcr0 & avx_state) == avx_state) {
        bits |= avx;
        if ((s.xcr0 & xcr0::avx512) == xcr0::avx512) bits |= avx512;
    }
    // Debug breakpoints are looked at between instructions.
    if ((s.rflags & rflags::tf) != 0 || cpu.single_step_once || any_breakpoint(s)) bits |= single;
    if (cpu.view_on && s.code64() && s.cpl() == 3 &&
        (bits & (single | checked | checked_fs | checked_gs)) == 0 && !cpu.cb.monitor_mode)
        bits |= viewed;
    return Mode{bits}.at(cpu, Gva(s.rip));
}

Mode Mode::at(const Cpu& cpu, Gva place) const {
    Mode mode{bits & ~hooked};
    if (set() == TlbSet::supervisor || set() == TlbSet::supervisor_ac)
        for (const Gva hook : cpu.cb.execution_hook)
            if (hook != Gva() && hook.page() == place.page()) mode.bits |= hooked;
    return mode;
}

} // namespace gnomon::processor::soft
