// SPDX-License-Identifier: Apache-2.0
#include "processor/soft/helper_kinds.h"

#include "processor/soft/block_emitter.h"

#include <algorithm>
#include <iterator>

namespace gnomon::processor::soft {

namespace {

#define KIND(function)                                                                             \
    HelperKind { function, #function }

constexpr HelperKind kinds[] = {
    {nullptr, "other"},
    KIND(int_n),
    KIND(iret),
    KIND(far_jump),
    KIND(far_call),
    KIND(far_return),
    KIND(mov_to_segment),
    KIND(mov_from_segment),
    KIND(pop_segment),
    KIND(push_segment),
    KIND(load_far_pointer),
    KIND(lgdt_lidt),
    KIND(sgdt_sidt),
    KIND(lldt),
    KIND(ltr),
    KIND(sldt_str),
    KIND(lar_lsl),
    KIND(verr_verw),
    KIND(arpl),
    KIND(syscall),
    KIND(sysret),
    KIND(sysenter),
    KIND(sysexit),
    KIND(swapgs),
    KIND(rdwr_fsgsbase),
    KIND(mov_from_control),
    KIND(mov_to_control),
    KIND(mov_from_debug),
    KIND(mov_to_debug),
    KIND(clts),
    KIND(lmsw),
    KIND(smsw),
    KIND(invlpg),
    KIND(invpcid),
    KIND(xsetbv),
    KIND(xgetbv),
    KIND(wbinvd),
    KIND(rdmsr),
    KIND(wrmsr),
    KIND(cli),
    KIND(sti),
    KIND(pushf),
    KIND(popf),
    KIND(clac_stac),
    KIND(cld_std),
    KIND(hlt),
    KIND(cpuid),
    KIND(rdtsc),
    KIND(rdtscp),
    KIND(rdpid),
    KIND(rdpmc),
    KIND(vmcall),
    KIND(raise_ud),
    KIND(raise_gp),
    KIND(in),
    KIND(out),
    KIND(ins),
    KIND(outs),
    KIND(movs),
    KIND(stos),
    KIND(lods),
    KIND(cmps),
    KIND(scas),
    KIND(fxsave),
    KIND(fxrstor),
    KIND(xsave),
    KIND(xrstor),
    KIND(fnstenv),
    KIND(fldenv),
    KIND(fnsave),
    KIND(frstor),
    KIND(maskmov),
    KIND(gather),
    KIND(scatter),
    KIND(bit_test_memory),
    KIND(enter),
    KIND(pusha),
    KIND(popa),
    KIND(bound),
    KIND(into),
    KIND(bcd_adjust),
    KIND(salc),
    KIND(xlat),
    KIND(raise_nm),
    KIND(check_execution_hook),
    KIND(check_execution_hook_singly),
    KIND(leave_monitor_mode),
};
static_assert(std::size(kinds) <= helper_kind_limit);

} // namespace

std::span<const HelperKind> helper_kinds() { return kinds; }

u8 helper_kind(Helper helper) {
    const auto* const kind = std::find_if(std::begin(kinds), std::end(kinds),
                                          [&](const HelperKind& k) { return k.helper == helper; });
    return kind != std::end(kinds) ? static_cast<u8>(kind - kinds) : u8{0};
}

} // namespace gnomon::processor::soft
