// SPDX-License-Identifier: Apache-2.0
/// @file The checks of segment loads that several instructions share (SDM vol. 3A chapter 5).
///
/// False means that Cpu::pending says what stands in the way and that no register was changed.
#pragma once

#include "processor/soft/descriptor.h"

namespace gnomon::processor::soft {

/// A segment register's content after a null selector. `dpl` matters for SS, whose DPL is the CPL.
constexpr Segment null_segment(u16 selector, unsigned dpl = 0) {
    return {0, 0, Segment::unusable | (dpl << 5), selector, {}};
}

/// The flat segments that SYSCALL, SYSRET, SYSENTER and SYSEXIT load without a descriptor.
constexpr Segment flat_code(u16 selector, unsigned dpl, bool code64) {
    return {0,
            0xffffffff,
            11 | Segment::s | (dpl << 5) | Segment::present | Segment::g |
                (code64 ? Segment::l : Segment::db),
            selector,
            {}};
}
constexpr Segment flat_stack(u16 selector, unsigned dpl) {
    return {0,
            0xffffffff,
            3 | Segment::s | (dpl << 5) | Segment::present | Segment::g | Segment::db,
            selector,
            {}};
}

/// Whether `descriptor`, as CS, means 64-bit mode now.
[[nodiscard]] bool is_code64(const Cpu& cpu, const Descriptor& descriptor);
/// Whether `descriptor` has L and D both set, which IA-32e mode forbids.
[[nodiscard]] bool has_reserved_size(const Cpu& cpu, const Descriptor& descriptor);

/// Loads ES, SS, DS, FS or GS as MOV, POP and LSS do, and marks the descriptor accessed.
[[nodiscard]] bool load_segment(Cpu& cpu, SegmentName name, u16 selector);

/// #GP(ext) unless `rip` is canonical in a 64-bit code segment, or within the limit of another.
[[nodiscard]] bool check_target(Cpu& cpu, const Descriptor& code, u64 rip, u32 ext = 0);

/// The CS of a far return or IRET: all its checks, except that of RIP.
[[nodiscard]] bool fetch_return_code(Cpu& cpu, u16 selector, Descriptor& out);

/// The SS of a far return or IRET to privilege level `cpl`.
struct ReturnStack {
    Segment segment;
    Descriptor descriptor; ///< meaningful unless the selector is null
    bool null = false;
};
[[nodiscard]] bool fetch_return_stack(Cpu& cpu, u16 selector, unsigned cpl, bool to_code64,
                                      ReturnStack& out);

/// Makes null the data segment registers that a return to the less privileged `cpl` must not leave
/// in place.
void drop_privileged_segments(Cpu& cpu, unsigned cpl);

/// Loads RSP for a return to another stack, once CS and SS are loaded: as wide as the new stack.
void set_returned_rsp(Cpu& cpu, u64 value);

/// Reads the RSP that the TSS has for privilege level `cpl`, or for interrupt stack `ist` (1-7) if
/// that is not 0. #TS(TR's selector) beyond the TSS limit. IA-32e mode only.
[[nodiscard]] bool read_tss_stack(Cpu& cpu, unsigned cpl, unsigned ist, u32 ext, u64& pointer);

} // namespace gnomon::processor::soft
