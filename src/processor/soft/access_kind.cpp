// SPDX-License-Identifier: Apache-2.0
#include "processor/soft/access_kind.h"

#include "processor/soft/mmu.h"

#include <iterator>

namespace gnomon::processor::soft {

namespace {

/// Whether translated code goes on with the bounce line in place of the page.
bool on_bounce_line(const Cpu& cpu) {
    const u64 line = reinterpret_cast<u64>(std::begin(cpu.bounce)); // SAFETY: compared only
    return cpu.next_r14 - line < sizeof cpu.bounce;
}

} // namespace

AccessKind access_kind(const Cpu& cpu, Gva address, const AccessSite& site, int result) {
    if (static_cast<Leave>(result) == Leave::fault) {
        if (cpu.pending.kind != Pending::Kind::exit) return AccessKind::refused;
        switch (cpu.exit.reason) {
        case ExitReason::page_fault: return AccessKind::page_fault;
        case ExitReason::write_buffer_full: return AccessKind::buffer_full;
        default: return AccessKind::device;
        }
    }
    if (address.page_offset() + site.size > page_size) return AccessKind::straddling;
    if (result == 0 && on_bounce_line(cpu)) return AccessKind::device;
    if (site.write) { // then `slow` is of this access
        if (cpu.slow.traced[0]) return AccessKind::traced;
        if (cpu.slow.code_written) return AccessKind::code;
    }
    if (!tlb_has(cpu, site.set, address, site.write)) return AccessKind::unfilled;
    return site.write ? AccessKind::write_fill : AccessKind::read_fill;
}

AccessKind access_kind(const Cpu& cpu, const GroupSite& site, int result) {
    if (static_cast<Leave>(result) == Leave::fault) return AccessKind::page_fault;
    return result == 0 && cpu.next_host == site.cont ? AccessKind::group_fill
                                                     : AccessKind::group_singly;
}

} // namespace gnomon::processor::soft
