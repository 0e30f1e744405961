// SPDX-License-Identifier: Apache-2.0
#include "processor/soft/masked_access.h"

#include "base/verify.h"
#include "processor/soft/access_checks.h"
#include "processor/soft/calls.h"
#include "processor/soft/mmu.h"
#include "processor/soft/slow_access.h"
#include "processor/soft/twin.h"

#include <bit>
#include <cstring>

namespace gnomon::processor::soft {

namespace {

/// Calls `function(offset, size)` for each run of selected bytes, lowest first, until it returns
/// false.
template <class Function>
bool for_each_run(u64 bytes, Function&& function) {
    unsigned at = 0;
    while (bytes != 0) {
        const auto skipped = static_cast<unsigned>(std::countr_zero(bytes));
        at += skipped;
        bytes >>= skipped;
        const auto size = static_cast<unsigned>(std::countr_one(bytes));
        if (!function(at, size)) return false;
        if (size == 64) return true;
        at += size;
        bytes >>= size;
    }
    return true;
}

/// The line keeps the operand's alignment.
u8* line_of(Cpu& cpu, Gva address) { return cpu.bounce + 64 + (address.value() & 63); }

/// Whether segments and canonical addresses let the selected elements be accessed; else `pending`.
bool allowed(Cpu& cpu, Gva address, const AccessSite& site, u64 bytes) {
    return for_each_run(bytes, [&](unsigned at, unsigned size) {
        const Gva run = address + at;
        if (!Cpu::canonical(run.value()) || !Cpu::canonical(run.value() + size - 1)) {
            cpu.raise(site.segment == seg_ss ? Vector::ss : Vector::gp, 0);
            return false;
        }
        // Vectors are not checked for alignment.
        return !site.checked || check_access(cpu, site.segment, run, size, site.write,
                                             at == 0 ? natural_alignment(site.size) : 1);
    });
}

/// The host's page of the operand, if all of it lies in one of plain RAM; else nullptr, and nothing
/// has happened.
Hva whole_page(Cpu& cpu, Gva address, const AccessSite& site) {
    if (address.page_offset() + site.size > page_size || page_is_watched(cpu, address))
        return nullptr;
    const Walk found = walk(cpu, address, site.write ? Reach::write : Reach::read, site.set);
    if (found.kind != Walk::Kind::ram ||
        (site.write && (found.traced || cpu.code_cache->has_code(found.frame))))
        return nullptr;
    fill_tlb(cpu, site.set, address, found);
    return found.host;
}

} // namespace

int resolve_masked(Cpu& cpu, Gva address, AccessSite& site, u32 commit_thunk) {
    const u64 bytes = site.masked.bytes(cpu.access_mask, site.size);
    const u64 checked = site.masked.whole ? ~u64{0} >> (64 - site.size) : bytes;
    u8* const line = line_of(cpu, address);
    // What is there is then neither used nor changed.
    if (checked == 0) return go_on(cpu, site.cont, 0, line);
    if (!allowed(cpu, address, site, checked)) return static_cast<int>(Leave::fault);
    if (address.value() % site.alignment != 0) {
        cpu.raise(Vector::gp, 0);
        return static_cast<int>(Leave::fault);
    }
    if (const Hva page = whole_page(cpu, address, site); page != nullptr)
        return go_on(cpu, site.cont, address.page_offset(), page);

    if (!site.write) {
        cpu.mmio_taken = 0;
        u8 content[64] = {};
        if (!for_each_run(bytes, [&](unsigned at, unsigned size) {
                return cpu.read(address + at, content + at, size);
            }))
            return static_cast<int>(Leave::fault);
        end_mmio_reads(cpu);
        std::memcpy(line, content, site.size);
        return go_on(cpu, site.cont, 0, line);
    }
    if (!for_each_run(checked, [&](unsigned at, unsigned size) {
            return cpu.probe_write(address + at, size);
        }))
        return static_cast<int>(Leave::fault);
    cpu.slow = {};
    cpu.slow.masked_address = address;
    cpu.slow.masked_bytes = bytes;
    if (site.twin == 0)
        call_outside(cpu, [&] { site.twin = make_twin(*cpu.code_cache, site, commit_thunk); });
    if (site.twin == 0) {
        cpu.flush_wanted = true; // run the instruction again in an empty cache
        return static_cast<int>(Leave::state);
    }
    return go_on(cpu, site.twin, 0, line);
}

int commit_masked(Cpu& cpu, AccessSite& site) {
    const Gva address = cpu.slow.masked_address;
    const u8* const line = line_of(cpu, address);
    cpu.code_changed = false;
    const bool written = for_each_run(cpu.slow.masked_bytes, [&](unsigned at, unsigned size) {
        return cpu.write(address + at, line + at, size);
    });
    VERIFY(written); // it was probed
    const bool code_written = cpu.code_changed;
    cpu.code_changed = false;
    if (cpu.deferred_exit || code_written) {
        cpu.cb.state.rip = cpu.page_base + site.page_offset + site.length;
        if (!site.code64) cpu.cb.state.rip &= 0xffffffff;
        return static_cast<int>(Leave::state);
    }
    return go_on(cpu, site.after, 0, nullptr);
}

} // namespace gnomon::processor::soft
