// SPDX-License-Identifier: Apache-2.0
/// @file What stands between a data access and paging: the limits and types of segments outside
/// 64-bit mode (SDM vol. 3A sections 5.3 and 5.5) and alignment checking (section 6.15,
/// interrupt 17).
///
/// Translated code leaves these out while they cannot fail: Mode says so. Else its accesses take
/// the slow path, and ask here, as helpers always do.
#pragma once

#include "processor/soft/cpu.h"

namespace gnomon::processor::soft {

/// Whether data references of the current privilege level must be aligned.
[[nodiscard]] inline bool alignment_checked(const Cpu& cpu) {
    const RegisterBlock& s = cpu.cb.state;
    return (s.rflags & rflags::ac) != 0 && (s.cr0 & cr0::am) != 0 && s.cpl() == 3 &&
           !cpu.cb.monitor_mode;
}

/// Whether no access by way of the segment can fail for its sake: writable data of 4 GiB.
[[nodiscard]] constexpr bool is_unrestricted_data(const Segment& segment) {
    constexpr u32 looked_at =
        Segment::unusable | Segment::s | Segment::code | Segment::writable | Segment::expand_down;
    return (segment.rights & looked_at) == (Segment::s | Segment::writable) &&
           segment.limit == 0xffffffff;
}
/// The same of CS, by way of which nothing can be written.
[[nodiscard]] constexpr bool is_unrestricted_code(const Segment& segment) {
    return segment.has(Segment::readable) && segment.limit == 0xffffffff;
}

/// The multiple that the address of an operand of `size` bytes must be (SDM vol. 3A table 6-7);
/// 1: any will do. Larger operands of vector instructions are not checked, which the manual leaves
/// to the processor.
[[nodiscard]] constexpr unsigned natural_alignment(u64 size) {
    switch (size) {
    case 2:
    case 4:
    case 8: return static_cast<unsigned>(size);
    case 6: return 4;  // a far pointer
    case 10: return 8; // extended precision; a far pointer
    default: return 1;
    }
}

/// Whether `size` bytes at the linear `address`, which `segment` has led to, may be accessed as far
/// as segment and alignment go. If not, Cpu::pending says why. Paging, and canonical addresses in
/// 64-bit mode, are looked at by others.
[[nodiscard]] bool check_access(Cpu& cpu, unsigned segment, Gva address, u64 size, bool write,
                                unsigned alignment);
[[nodiscard]] inline bool check_access(Cpu& cpu, unsigned segment, Gva address, u64 size,
                                       bool write) {
    return check_access(cpu, segment, address, size, write, natural_alignment(size));
}

} // namespace gnomon::processor::soft
