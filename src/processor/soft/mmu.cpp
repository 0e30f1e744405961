// SPDX-License-Identifier: Apache-2.0
#include "processor/soft/mmu.h"

#include "processor/soft/breakpoints.h"
#include "processor/soft/calls.h"
#include "processor/soft/code_cache.h"
#include "processor/soft/mode.h"
#include "processor/soft/tlb_contexts.h"

#include <algorithm>
#include <cstring>
#include <iterator>

namespace gnomon::processor::soft {

namespace {

/// Largest naturally aligned piece of 1, 2, 4 or 8 bytes at `gpa`, at most `left`.
u8 mmio_piece(Gpa gpa, u32 left) {
    u8 piece = 8;
    while (piece > left || gpa.value() % piece != 0)
        piece /= 2;
    return piece;
}

} // namespace

TlbSet supervisor_set(const Cpu& cpu) {
    if (cpu.cb.monitor_mode) return TlbSet::monitor;
    return (cpu.cb.state.cr4 & cr4::smap) != 0 ? TlbSet::supervisor : TlbSet::supervisor_ac;
}

TlbSet current_set(const Cpu& cpu) {
    if (cpu.cb.monitor_mode) return TlbSet::monitor;
    if (cpu.cpl() == 3) return TlbSet::user;
    return (cpu.cb.state.rflags & rflags::ac) != 0 ? TlbSet::supervisor_ac : supervisor_set(cpu);
}

Hva frame_host(const ControlBlock& cb, Gpa frame) {
    const u64 a = frame.value();
    if (a < cb.ram_low_size) return cb.ram_base + a;
    if (a >= ram_high_base && a - ram_high_base < cb.ram_high_size)
        return cb.ram_base + ram_low_limit + (a - ram_high_base);
    if (a >= monitor_frame_base && a - monitor_frame_base < cb.monitor_pages_size)
        return cb.monitor_pages + (a - monitor_frame_base);
    return nullptr;
}

Walk walk(const Cpu& cpu, Gva gva, Reach reach, TlbSet set) {
    const u64 root = set == TlbSet::monitor ? cpu.cb.monitor_root : cpu.cb.shadow_root;
    return walk(cpu, root, gva, reach, set);
}

Walk walk(const Cpu& cpu, u64 root, Gva gva, Reach reach, TlbSet set) {
    const ControlBlock& cb = cpu.cb;
    const RegisterBlock& s = cb.state;
    const bool user = set == TlbSet::user;
    Walk result;
    result.error_code = (reach == Reach::write ? pf_error::write : 0) |
                        (user ? pf_error::user : 0) |
                        (reach == Reach::execute ? pf_error::fetch : 0);
    u64 table = root;
    u64 rights = ShadowEntry::writable | ShadowEntry::user;
    u64 execute_disable = 0;
    ShadowEntry entry;
    for (unsigned level = shadow_levels; level > 0; --level) {
        std::memcpy(&entry, cb.shadow_arena + table + 8 * shadow_index(gva, level), sizeof entry);
        if (!entry.has(ShadowEntry::present)) return result;
        rights &= entry.bits;
        execute_disable |= entry.bits & ShadowEntry::execute_disable;
        table = entry.address();
    }
    result.error_code |= pf_error::present;

    const bool user_page = (rights & ShadowEntry::user) != 0;
    bool may_write = (rights & ShadowEntry::writable) != 0;
    if (set != TlbSet::monitor) {
        if (user && !user_page) return result;
        if (!user) {
            if (reach == Reach::execute) {
                if (user_page && (s.cr4 & cr4::smep) != 0) return result;
            } else if (user_page && set == TlbSet::supervisor) {
                return result; // SMAP
            }
            if ((s.cr0 & cr0::wp) == 0) may_write = true;
        }
    }
    if (reach == Reach::execute && execute_disable != 0) return result;
    if (reach == Reach::write && !may_write) return result;
    const bool dirty = entry.has(ShadowEntry::dirty);
    if (reach == Reach::write && !dirty) return result;

    result.frame = Gpa(entry.address());
    result.traced = entry.has(ShadowEntry::traced);
    result.writable = may_write && dirty;
    result.host = entry.has(ShadowEntry::mmio) ? nullptr : frame_host(cb, result.frame);
    result.kind = result.host != nullptr ? Walk::Kind::ram : Walk::Kind::mmio;
    return result;
}

namespace {

bool is_data_breakpoint(const Breakpoint& b) {
    return b.type == Breakpoint::Type::write || b.type == Breakpoint::Type::access;
}

} // namespace

bool page_is_watched(const Cpu& cpu, Gva gva) {
    // The guest's breakpoints do not see the monitor's own accesses (M1.4).
    if (!any_breakpoint(cpu.cb.state) || cpu.cb.monitor_mode) return false;
    for (unsigned n = 0; n < 4; ++n) {
        const Breakpoint b = breakpoint(cpu.cb.state, n);
        if (is_data_breakpoint(b) && Gva(b.begin).page() == gva.page()) return true;
    }
    return false;
}

void note_watched_access(Cpu& cpu, Gva gva, u64 size, bool write) {
    if (!any_breakpoint(cpu.cb.state) || cpu.cb.monitor_mode) return;
    for (unsigned n = 0; n < 4; ++n) {
        const Breakpoint b = breakpoint(cpu.cb.state, n);
        if (is_data_breakpoint(b) && (write || b.type == Breakpoint::Type::access) &&
            b.covers(gva.value(), size))
            cpu.watch_hits |= u64{1} << n;
    }
}

void fill_tlb(Cpu& cpu, TlbSet set, Gva gva, const Walk& found) {
    if (page_is_watched(cpu, gva)) return;
    const bool plain = found.writable && !found.traced && !cpu.code_cache->has_code(found.frame);
    cpu.tlb_contexts->fill(set, gva, found.host, plain);
    if (cpu.view_on && set == TlbSet::user) cpu.view_wanted = gva.page().value();
    ++cpu.statistics.tlb_fills;
}

bool tlb_has(const Cpu& cpu, TlbSet set, Gva gva, bool write) {
    const Tlb& t = cpu.tlb(set);
    return (write ? t.write_tag : t.read_tag)[tlb_index(gva)] == tlb_tag(gva);
}

void note_code_write(Cpu& cpu, Gpa gpa, u64 size) {
    if (!cpu.code_cache->overlaps_code(gpa, size)) return;
    call_outside(cpu, [&] { cpu.code_cache->drop(gpa.page()); });
    cpu.code_changed = true;
    ++cpu.statistics.code_invalidations;
}

void record_write(Cpu& cpu, Gpa gpa, const u8* before, const u8* after, u32 size) {
    WriteBuffer& buffer = cpu.cb.write_buffer;
    for (u32 at = 0; at < size && buffer.count < buffer.capacity; at += 32) {
        WriteRecord& r = buffer.records[buffer.count++];
        r = {};
        r.gpa = gpa + at;
        r.size = std::min<u32>(32, size - at);
        std::memcpy(r.before, before + at, r.size);
        std::memcpy(r.after, after + at, r.size);
    }
    ++cpu.statistics.traced_writes;
}

void leave_for_page_fault(Cpu& cpu, Gva gva, u32 error_code, bool implicit_supervisor) {
    cpu.exit = {};
    cpu.exit.reason = ExitReason::page_fault;
    cpu.exit.gva = gva;
    cpu.exit.error_code = error_code;
    cpu.exit.implicit_supervisor = implicit_supervisor;
    cpu.pending = {Pending::Kind::exit, Vector::pf, false, 0, 0};
}

bool mmio_read(Cpu& cpu, Gpa gpa, u8* out, u32 size, u32 earlier) {
    ControlBlock& cb = cpu.cb;
    if (cpu.mmio_rip != cb.state.rip)
        end_mmio_reads(cpu); // another instruction: the parts of an abandoned read are void
    cpu.mmio_rip = cb.state.rip;
    if (cpu.mmio_taken + earlier + size > sizeof cpu.mmio_data) end_mmio_reads(cpu);
    earlier += cpu.mmio_taken;
    if (cpu.mmio_have < earlier) cpu.mmio_have = earlier; // the mapping has changed meanwhile
    const u32 end = earlier + size;
    if (cb.io_data_valid && cpu.mmio_have < end) {
        const u8 piece = mmio_piece(gpa + (cpu.mmio_have - earlier), end - cpu.mmio_have);
        std::memcpy(cpu.mmio_data + cpu.mmio_have, &cb.io_data, piece);
        cpu.mmio_have += piece;
        take_io_data(cpu);
    }
    if (cpu.mmio_have >= end) {
        std::memcpy(out, cpu.mmio_data + earlier, size);
        return true;
    }
    cpu.exit = {};
    cpu.exit.reason = ExitReason::mmio;
    cpu.exit.gpa = gpa + (cpu.mmio_have - earlier);
    cpu.exit.size = mmio_piece(cpu.exit.gpa, end - cpu.mmio_have);
    cpu.pending = {Pending::Kind::exit, Vector::ud, false, 0, 0};
    return false;
}

void mmio_write(Cpu& cpu, Gpa gpa, const u8* in, u32 size) {
    for (u32 at = 0; at < size;) {
        const u8 piece = mmio_piece(gpa + at, size - at);
        u64 data = 0;
        std::memcpy(&data, in + at, piece);
        if (!cpu.deferred_exit) {
            cpu.exit = {};
            cpu.exit.reason = ExitReason::mmio;
            cpu.exit.write = true;
            cpu.exit.gpa = gpa + at;
            cpu.exit.size = piece;
            cpu.exit.data = data;
            cpu.deferred_exit = true;
        } else if (cpu.mmio_write_count < std::size(cpu.mmio_writes)) {
            cpu.mmio_writes[cpu.mmio_write_count++] = {gpa + at, data, piece};
        }
        at += piece;
    }
}

} // namespace gnomon::processor::soft
