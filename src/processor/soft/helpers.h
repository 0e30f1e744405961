// SPDX-License-Identifier: Apache-2.0
/// @file The helpers: instructions that the processor executes in C++ rather than by re-emission.
///
/// A helper is called with every guest register in `cpu.cb.state`, RIP at the instruction. It
/// changes either everything the instruction changes (and returns next, dispatch or exit) or
/// nothing (and returns fault).
#pragma once

#include "processor/soft/cpu.h"

namespace gnomon::processor::soft {

using Helper = HelperResult (*)(Cpu&, const Instruction&);

// events.cpp: interrupt and exception delivery (SDM vol. 3A chapter 6)
/// Delivers cpu.cb.injection through the guest's IDT and clears it: dispatch; or fault/exit while
/// the delivery itself fails (pending says why; the injection stays).
HelperResult deliver_event(Cpu& cpu);
HelperResult int_n(Cpu&, const Instruction&); ///< CD ib, CC, F1 (INT1); exits on int_intercept
HelperResult iret(Cpu&, const Instruction&);

// far_transfer.cpp, segments.cpp
HelperResult far_jump(Cpu&, const Instruction&);
HelperResult far_call(Cpu&, const Instruction&);
HelperResult far_return(Cpu&, const Instruction&);
HelperResult mov_to_segment(Cpu&, const Instruction&);   ///< 8E /r
HelperResult mov_from_segment(Cpu&, const Instruction&); ///< 8C /r
HelperResult pop_segment(Cpu&, const Instruction&);      ///< insn.reg = segment
HelperResult push_segment(Cpu&, const Instruction&);
HelperResult load_far_pointer(Cpu&, const Instruction&); ///< LSS, LFS, LGS, LES, LDS; by mnemonic
HelperResult lgdt_lidt(Cpu&, const Instruction&);
HelperResult sgdt_sidt(Cpu&, const Instruction&); ///< UMIP
HelperResult lldt(Cpu&, const Instruction&);
HelperResult ltr(Cpu&, const Instruction&);
HelperResult sldt_str(Cpu&, const Instruction&); ///< UMIP
HelperResult lar_lsl(Cpu&, const Instruction&);
HelperResult verr_verw(Cpu&, const Instruction&);
HelperResult arpl(Cpu&, const Instruction&);

// system_call.cpp
HelperResult syscall(Cpu&, const Instruction&);
HelperResult sysret(Cpu&, const Instruction&);
HelperResult sysenter(Cpu&, const Instruction&);
HelperResult sysexit(Cpu&, const Instruction&);
HelperResult swapgs(Cpu&, const Instruction&);
HelperResult rdwr_fsgsbase(Cpu&, const Instruction&); ///< RDFSBASE, RDGSBASE, WRFSBASE, WRGSBASE

// control_registers.cpp
HelperResult mov_from_control(Cpu&, const Instruction&);
HelperResult mov_to_control(Cpu&,
                            const Instruction&); ///< exits with control_register after the checks
HelperResult mov_from_debug(Cpu&, const Instruction&);
HelperResult mov_to_debug(Cpu&, const Instruction&);
HelperResult clts(Cpu&, const Instruction&);
HelperResult lmsw(Cpu&, const Instruction&);
HelperResult smsw(Cpu&, const Instruction&);
HelperResult invlpg(Cpu&, const Instruction&);
HelperResult invpcid(Cpu&, const Instruction&);
HelperResult xsetbv(Cpu&, const Instruction&);
HelperResult xgetbv(Cpu&, const Instruction&);
HelperResult wbinvd(Cpu&, const Instruction&);

// msr.cpp
HelperResult rdmsr(Cpu&, const Instruction&);
HelperResult wrmsr(Cpu&, const Instruction&);

// flags_and_time.cpp
HelperResult cli(Cpu&, const Instruction&);
HelperResult sti(Cpu&, const Instruction&);
HelperResult pushf(Cpu&, const Instruction&);
HelperResult popf(Cpu&, const Instruction&);
HelperResult clac_stac(Cpu&, const Instruction&);
HelperResult cld_std(Cpu&, const Instruction&);
HelperResult hlt(Cpu&, const Instruction&);
HelperResult cpuid(Cpu&, const Instruction&);
HelperResult rdtsc(Cpu&, const Instruction&);
HelperResult rdtscp(Cpu&, const Instruction&);
HelperResult rdpid(Cpu&, const Instruction&);
HelperResult rdpmc(Cpu&, const Instruction&);
HelperResult vmcall(Cpu&, const Instruction&); ///< #UD outside monitor mode
HelperResult raise_ud(Cpu&, const Instruction&);
HelperResult raise_gp(Cpu&, const Instruction&); ///< #GP(0)

// port_io.cpp
HelperResult in(Cpu&, const Instruction&);
HelperResult out(Cpu&, const Instruction&);
HelperResult ins(Cpu&, const Instruction&);
HelperResult outs(Cpu&, const Instruction&);

// strings.cpp: with and without REP, every operand and address size
HelperResult movs(Cpu&, const Instruction&);
HelperResult stos(Cpu&, const Instruction&);
HelperResult lods(Cpu&, const Instruction&);
HelperResult cmps(Cpu&, const Instruction&);
HelperResult scas(Cpu&, const Instruction&);

// extended_state.cpp: these are `extended`: cb.state.extended is the live state, before and after
HelperResult fxsave(Cpu&, const Instruction&);
HelperResult fxrstor(Cpu&, const Instruction&);
HelperResult xsave(Cpu&, const Instruction&); ///< XSAVE, XSAVEC, XSAVEOPT and their 64 forms
HelperResult xrstor(Cpu&, const Instruction&);
HelperResult fnstenv(Cpu&, const Instruction&);
HelperResult fldenv(Cpu&, const Instruction&);
HelperResult fnsave(Cpu&, const Instruction&);
HelperResult frstor(Cpu&, const Instruction&);
HelperResult
maskmov(Cpu&,
        const Instruction&); ///< VMASKMOVPS/PD, VPMASKMOVD/Q load and store, MASKMOVQ, MASKMOVDQU

// gathers.cpp: likewise
HelperResult gather(Cpu&, const Instruction&);  ///< VGATHER*, VPGATHER*
HelperResult scatter(Cpu&, const Instruction&); ///< VSCATTER*, VPSCATTER*

// bits_and_stack.cpp
HelperResult bit_test_memory(
    Cpu&, const Instruction&); ///< BT, BTS, BTR, BTC [mem], reg: any bit offset, LOCK included
HelperResult enter(Cpu&, const Instruction&);
HelperResult pusha(Cpu&, const Instruction&);
HelperResult popa(Cpu&, const Instruction&);
HelperResult bound(Cpu&, const Instruction&);
HelperResult into(Cpu&, const Instruction&);
HelperResult bcd_adjust(Cpu&, const Instruction&); ///< AAA, AAS, AAM, AAD, DAA, DAS
HelperResult salc(Cpu&, const Instruction&);
HelperResult xlat(Cpu&, const Instruction&);

// translation_helpers.cpp: what translation itself needs
HelperResult raise_nm(Cpu&, const Instruction&);
HelperResult check_execution_hook(Cpu&, const Instruction&); ///< before the hooked instruction
/// Likewise in blocks of one instruction: the hook exits, whether or not it has a handler.
HelperResult check_execution_hook_singly(Cpu&, const Instruction&);
HelperResult
leave_monitor_mode(Cpu&, const Instruction&); ///< the near indirect JMP of the substitute handler

} // namespace gnomon::processor::soft
