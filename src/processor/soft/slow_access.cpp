// SPDX-License-Identifier: Apache-2.0
#include "processor/soft/slow_access.h"

#include "processor/soft/access_checks.h"
#include "processor/soft/calls.h"
#include "processor/soft/masked_access.h"
#include "processor/soft/mmu.h"
#include "processor/soft/singly.h"
#include "processor/soft/twin.h"

#include <algorithm>
#include <cstring>

namespace gnomon::processor::soft {

int resolve_access(Cpu& cpu, Gva address, AccessSite& site, u32 commit_thunk) {
    ++cpu.statistics.slow_accesses;
    cpu.cb.state.rip = cpu.page_base + site.page_offset;
    if (!site.code64) cpu.cb.state.rip &= 0xffffffff;
    cpu.pending.kind = Pending::Kind::none;
    if (site.masked.mask != 0) return resolve_masked(cpu, address, site, commit_thunk);
    const u32 size = site.size;
    // The target of a CALL is looked at before the push.
    if (site.indirect_call && site.code64 && !Cpu::canonical(cpu.branch_target)) {
        cpu.raise(Vector::gp, 0);
        return static_cast<int>(Leave::fault);
    }
    if (!Cpu::canonical(address.value()) || !Cpu::canonical(address.value() + size - 1)) {
        cpu.raise(site.segment == seg_ss ? Vector::ss : Vector::gp, 0);
        return static_cast<int>(Leave::fault);
    }
    if (site.checked && !check_access(cpu, site.segment, address, size, site.write))
        return static_cast<int>(Leave::fault);
    // Alignment comes before paging. Where the page is at hand, the host's own instruction looks.
    if (address.value() % site.alignment != 0) {
        cpu.raise(Vector::gp, 0);
        return static_cast<int>(Leave::fault);
    }

    Cpu::SlowAccess& slow = cpu.slow;
    const u32 first = static_cast<u32>(std::min<u64>(size, page_size - address.page_offset()));
    const unsigned pages = first < size ? 2 : 1;
    Walk found[2];
    for (unsigned n = 0; n < pages; ++n) {
        const Gva at = n == 0 ? address : address + first;
        found[n] = walk(cpu, at, site.write ? Reach::write : Reach::read, site.set);
        if (found[n].kind == Walk::Kind::fault) {
            leave_for_page_fault(cpu, at, found[n].error_code, false);
            cpu.exit.instruction_length = site.length;
            return static_cast<int>(Leave::fault);
        }
        if (found[n].kind == Walk::Kind::ram) fill_tlb(cpu, site.set, at, found[n]);
    }
    const bool ram =
        found[0].kind == Walk::Kind::ram && (pages == 1 || found[1].kind == Walk::Kind::ram);
    const bool traced = site.write && (found[0].traced || (pages == 2 && found[1].traced));
    if (traced && !write_buffer_has_room(cpu)) {
        cpu.exit = {};
        cpu.exit.reason = ExitReason::write_buffer_full;
        cpu.pending = {Pending::Kind::exit, Vector::ud, false, 0, 0};
        return static_cast<int>(Leave::fault);
    }

    note_watched_access(cpu, address, size, site.write);
    if (!site.write && ram && pages == 1)
        return go_on(cpu, site.cont, address.page_offset(), found[0].host);

    slow = {};
    slow.size = size;
    slow.write = site.write;
    slow.first_size = first;
    for (unsigned n = 0; n < pages; ++n) {
        const Gva at = n == 0 ? address : address + first;
        slow.gpa[n] = found[n].frame + at.page_offset();
        slow.host[n] =
            found[n].kind == Walk::Kind::ram ? found[n].host + at.page_offset() : nullptr;
        slow.traced[n] = site.write && found[n].traced;
    }
    if (pages == 2) ++cpu.statistics.straddles;
    const auto second_size = size - first;

    // Reads come first, into the bounce line if the place is not one piece of RAM. The line keeps
    // the alignment.
    slow.bounced = !ram || pages == 2;
    u8* const line = cpu.bounce + 64 + (address.value() & 63);
    if (slow.bounced) {
        u8 content[64] = {};
        cpu.mmio_taken = 0;
        for (unsigned n = 0; n < pages; ++n) {
            u8* const to = content + (n == 0 ? 0 : first);
            const u32 piece = n == 0 ? first : second_size;
            if (slow.host[n] != nullptr)
                std::memcpy(to, slow.host[n], piece);
            else if (site.read && !mmio_read(cpu, slow.gpa[n], to, piece, n == 0 ? 0 : first))
                return static_cast<int>(Leave::fault);
        }
        end_mmio_reads(cpu);
        std::memcpy(line, content, size);
        std::memcpy(slow.before, content, size);
        if (!site.write) return go_on(cpu, site.cont, 0, line);
    } else if (traced) {
        std::memcpy(slow.before, slow.host[0], size);
    }

    // A write. Translated code that it changes goes first, so that nothing stale can be entered
    // afterwards.
    cpu.code_changed = false;
    for (unsigned n = 0; n < pages; ++n)
        if (slow.host[n] != nullptr)
            note_code_write(cpu, slow.gpa[n], n == 0 ? first : second_size);
    slow.code_written = cpu.code_changed;
    cpu.code_changed = false;
    if (!slow.bounced && !traced && !slow.code_written)
        return go_on(cpu, site.cont, address.page_offset(), found[0].host);

    if (site.twin == 0)
        call_outside(cpu, [&] { site.twin = make_twin(*cpu.code_cache, site, commit_thunk); });
    if (site.twin == 0) {
        cpu.flush_wanted = true; // run the instruction again in an empty cache
        return static_cast<int>(Leave::state);
    }
    if (slow.bounced) return go_on(cpu, site.twin, 0, line);
    return go_on(cpu, site.twin, address.page_offset(), found[0].host);
}

int resolve_group(Cpu& cpu, Gva address, GroupSite& site) {
    ++cpu.statistics.slow_accesses;
    cpu.cb.state.rip = cpu.page_base + site.page_offset;
    cpu.pending.kind = Pending::Kind::none;
    bool for_good = true; // whether this place is likely to need single accesses again
    if (address.page_offset() + site.size <= page_size && Cpu::canonical(address.value())) {
        const TlbSet set = site.page->mode.set();
        const Walk found = walk(cpu, address, site.write ? Reach::write : Reach::read, set);
        const bool plain = found.kind == Walk::Kind::ram && !page_is_watched(cpu, address) &&
                           !(site.write && (found.traced || cpu.code_cache->has_code(found.frame)));
        if (plain) {
            fill_tlb(cpu, set, address, found);
            return go_on(cpu, site.cont, address.page_offset(), found.host);
        }
        if (found.kind == Walk::Kind::fault) {
            // The page is most often touched for the first time, by the first access.
            for_good = false;
            const Gva at = address + site.first_displacement;
            const Walk first = walk(cpu, at, site.first_write ? Reach::write : Reach::read, set);
            if (site.first_size != 0 && first.kind == Walk::Kind::fault) {
                leave_for_page_fault(cpu, at, first.error_code, false);
                cpu.exit.instruction_length = site.length;
                return static_cast<int>(Leave::fault);
            }
        }
    }
    if (site.singly == 0) call_outside(cpu, [&] { site.singly = translate_singly(cpu, site); });
    if (site.singly == 0) {
        cpu.flush_wanted = true; // run the instruction again in an empty cache
        return static_cast<int>(Leave::state);
    }
    // From then on a miss does not ask. The accesses fill the TLB, and a hit uses the group again.
    if (for_good) cpu.code_cache->patch(site.jump, site.singly);
    return go_on(cpu, site.singly, 0, nullptr);
}

int commit_access(Cpu& cpu, AccessSite& site) {
    if (site.masked.mask != 0) return commit_masked(cpu, site);
    Cpu::SlowAccess& slow = cpu.slow;
    const u32 second_size = slow.size - slow.first_size;
    const unsigned pages = second_size != 0 ? 2 : 1;
    u8 after[64] = {};
    if (slow.bounced) {
        // The line's place follows from the address's low bits, and pages are 64-byte aligned.
        std::memcpy(after, cpu.bounce + 64 + (slow.gpa[0].value() & 63), slow.size);
    } else {
        std::memcpy(after, slow.host[0], slow.size);
    }
    for (unsigned n = 0; n < pages; ++n) {
        const u32 at = n == 0 ? 0 : slow.first_size;
        const u32 piece = n == 0 ? slow.first_size : second_size;
        if (slow.bounced) {
            if (slow.host[n] != nullptr)
                std::memcpy(slow.host[n], after + at, piece);
            else
                mmio_write(cpu, slow.gpa[n], after + at, piece);
        }
        if (slow.traced[n] && slow.host[n] != nullptr)
            record_write(cpu, slow.gpa[n], slow.before + at, after + at, piece);
    }
    if (cpu.deferred_exit || slow.code_written) {
        if (site.completes) {
            cpu.cb.state.rip = cpu.page_base + site.page_offset + site.length;
            if (!site.code64) cpu.cb.state.rip &= 0xffffffff;
            return static_cast<int>(Leave::state);
        }
        cpu.poll = 1; // the branch of the CALL comes first; the deferred exit is taken after it
    }
    return go_on(cpu, site.after, 0, nullptr);
}

} // namespace gnomon::processor::soft
