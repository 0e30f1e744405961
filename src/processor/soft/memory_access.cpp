// SPDX-License-Identifier: Apache-2.0
/// @file Guest memory as the helpers see it: Cpu::read, write, probe_write, direct, and address
/// arithmetic.
#include "processor/soft/code_cache.h"
#include "processor/soft/mmu.h"

#include <algorithm>
#include <cstring>

namespace gnomon::processor::soft {

namespace {

TlbSet set_for(const Cpu& cpu, AccessMode mode) {
    return mode == AccessMode::supervisor ? supervisor_set(cpu) : current_set(cpu);
}

/// Host page by the TLB, or nullptr.
Hva cached(const Cpu& cpu, TlbSet set, Gva gva, bool write) {
    const Tlb& t = cpu.tlb(set);
    const unsigned i = tlb_index(gva);
    if ((write ? t.write_tag[i] : t.read_tag[i]) != tlb_tag(gva)) return nullptr;
    return reinterpret_cast<Hva>(
        t.host_page[i]); // SAFETY: filled by fill_tlb from a frame's host address
}

bool check_canonical(Cpu& cpu, Gva gva, u64 size) {
    if (Cpu::canonical(gva.value()) && Cpu::canonical(gva.value() + size - 1)) return true;
    cpu.raise(Vector::gp, 0);
    return false;
}

/// Walks for a helper's access; on a fault sets pending.
bool find(Cpu& cpu, Gva gva, bool write, TlbSet set, AccessMode mode, Walk& out) {
    ++cpu.statistics.helper_walks;
    out = walk(cpu, gva, write ? Reach::write : Reach::read, set);
    if (out.kind == Walk::Kind::fault) {
        leave_for_page_fault(cpu, gva, out.error_code, mode == AccessMode::supervisor);
        return false;
    }
    if (out.kind == Walk::Kind::ram) fill_tlb(cpu, set, gva, out);
    if (write && out.traced && !write_buffer_has_room(cpu)) {
        cpu.exit = {};
        cpu.exit.reason = ExitReason::write_buffer_full;
        cpu.pending = {Pending::Kind::exit, Vector::ud, false, 0, 0};
        return false;
    }
    return true;
}

} // namespace

bool Cpu::read(Gva gva, void* out, u64 size, AccessMode mode) {
    if (!check_canonical(*this, gva, size)) return false;
    const TlbSet set = set_for(*this, mode);
    auto* to = static_cast<u8*>(out);
    bool device = false;
    const u64 whole = size;
    while (size > 0) {
        const u64 piece = std::min(size, page_size - gva.page_offset());
        if (const Hva page = cached(*this, set, gva, false)) {
            std::memcpy(to, page + gva.page_offset(), piece);
        } else {
            Walk found;
            if (!find(*this, gva, false, set, mode, found)) return false;
            note_watched_access(*this, gva, piece, false);
            if (found.kind == Walk::Kind::ram)
                std::memcpy(to, found.host + gva.page_offset(), piece);
            else if (device = true;
                     !mmio_read(*this, found.frame + gva.page_offset(), to, static_cast<u32>(piece),
                                static_cast<u32>(to - static_cast<u8*>(out))))
                return false;
        }
        to += piece;
        gva += piece;
        size -= piece;
    }
    if (device) mmio_taken += static_cast<u32>(whole);
    return true;
}

bool Cpu::probe_write(Gva gva, u64 size, AccessMode mode) {
    if (!check_canonical(*this, gva, size)) return false;
    const TlbSet set = set_for(*this, mode);
    while (size > 0) {
        const u64 piece = std::min(size, page_size - gva.page_offset());
        Walk found;
        if (cached(*this, set, gva, true) == nullptr && !find(*this, gva, true, set, mode, found))
            return false;
        gva += piece;
        size -= piece;
    }
    return true;
}

bool Cpu::write(Gva gva, const void* in, u64 size, AccessMode mode) {
    if (gva.page_offset() + size > page_size && !probe_write(gva, size, mode)) return false;
    if (!check_canonical(*this, gva, size)) return false;
    const TlbSet set = set_for(*this, mode);
    const auto* from = static_cast<const u8*>(in);
    while (size > 0) {
        const u64 piece = std::min(size, page_size - gva.page_offset());
        if (const Hva page = cached(*this, set, gva, true)) {
            std::memcpy(page + gva.page_offset(), from, piece);
        } else {
            Walk found;
            if (!find(*this, gva, true, set, mode, found)) return false;
            note_watched_access(*this, gva, piece, true);
            const Gpa gpa = found.frame + gva.page_offset();
            if (found.kind == Walk::Kind::mmio) {
                mmio_write(*this, gpa, from, static_cast<u32>(piece));
            } else {
                note_code_write(*this, gpa, piece);
                auto* place = reinterpret_cast<u8*>(found.host + gva.page_offset());
                if (found.traced) record_write(*this, gpa, place, from, static_cast<u32>(piece));
                std::memcpy(place, from, piece);
            }
        }
        from += piece;
        gva += piece;
        size -= piece;
    }
    return true;
}

Hva Cpu::direct(Gva gva, u64 size, bool write) {
    pending.kind = Pending::Kind::none;
    if (!check_canonical(*this, gva, size)) return nullptr;
    const TlbSet set = current_set(*this);
    if (const Hva page = cached(*this, set, gva, write)) return page + gva.page_offset();
    Walk found;
    if (!find(*this, gva, write, set, AccessMode::data, found)) return nullptr;
    if (found.kind != Walk::Kind::ram || (write && found.traced) || page_is_watched(*this, gva))
        return nullptr;
    if (write) note_code_write(*this, found.frame + gva.page_offset(), size);
    return found.host + gva.page_offset();
}

bool Cpu::peek(Gva gva, u64& out) {
    if (!canonical(gva.value()) || gva.page_offset() > page_size - sizeof out) return false;
    const TlbSet set = current_set(*this);
    Hva page = cached(*this, set, gva, false);
    if (page == nullptr) {
        ++statistics.helper_walks;
        const Walk found = walk(*this, gva, Reach::read, set);
        if (found.kind != Walk::Kind::ram) return false;
        fill_tlb(*this, set, gva, found);
        page = found.host;
    }
    std::memcpy(&out, page + gva.page_offset(), sizeof out);
    return true;
}

Gva Cpu::linear(unsigned segment, u64 offset) const {
    const bool fs_gs = segment == seg_fs || segment == seg_gs;
    if (cb.state.code64()) return Gva(fs_gs ? cb.state.segment[segment].base + offset : offset);
    return Gva((cb.state.segment[segment].base + offset) & 0xffffffff);
}

Gva Cpu::effective_address(const Instruction& insn) const {
    u64 offset = static_cast<u64>(insn.displacement);
    if (insn.base == Instruction::rip_register)
        offset += cb.state.rip + insn.length;
    else if (insn.base != Instruction::no_register)
        offset += cb.state.gpr[insn.base];
    if (insn.index != Instruction::no_register && insn.index < 16)
        offset += cb.state.gpr[insn.index] * insn.scale;
    if (insn.address_size == 4) offset &= 0xffffffff;
    if (insn.address_size == 2) offset &= 0xffff;
    return linear(insn.segment, offset);
}

} // namespace gnomon::processor::soft
