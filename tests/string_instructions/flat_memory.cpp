// SPDX-License-Identifier: Apache-2.0
#include "flat_memory.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace gnomon::processor::soft {

FlatMemory::FlatMemory(u64 base, u64 pages)
    : m_base(base), m_pages(pages), m_frames(pages * page_size) {
    for (u64 i = 0; i < pages; ++i)
        m_pages[i].frame = i;
}

void FlatMemory::set_all(PageKind kind) {
    for (Page& page : m_pages)
        page.kind = kind;
}

const FlatMemory::Page* FlatMemory::page_at(u64 gva) const {
    if (gva < m_base || gva - m_base >= m_pages.size() * page_size) return nullptr;
    return &m_pages[(gva - m_base) / page_size];
}

bool FlatMemory::allowed(Cpu& cpu, u64 gva, u64 size, bool write) {
    for (u64 at = gva; at < gva + size; at = (at & ~page_offset_mask) + page_size) {
        const Page* const page = page_at(at);
        const bool present = page != nullptr && page->kind != PageKind::absent;
        if (present && !(write && page->kind == PageKind::read_only)) continue;
        fault_address = at;
        static_cast<void>(cpu.raise(Vector::pf, (present ? pf_error::present : 0) |
                                                    (write ? pf_error::write : 0)));
        return false;
    }
    return true;
}

bool FlatMemory::access(Cpu& cpu, u64 gva, void* data, u64 size, bool write, bool probe) {
    if (!allowed(cpu, gva, size, write)) return false;
    if (probe) return true;
    auto* bytes = static_cast<std::byte*>(data);
    while (size != 0) {
        const Page& page = *page_at(gva);
        const u64 part = std::min(size, page_size - (gva & page_offset_mask));
        std::byte* const host = frame(page.frame) + (gva & page_offset_mask);
        if (page.kind == PageKind::mmio) {
            if (write) {
                u64 value = 0;
                std::memcpy(&value, bytes, std::min<u64>(part, 8));
                mmio_writes.push_back({gva, value, part});
                cpu.deferred_exit = true;
            } else if (cpu.cb.io_data_valid) {
                std::memcpy(bytes, &cpu.cb.io_data, std::min<u64>(part, 8));
                cpu.cb.io_data_valid = false;
            } else {
                ++mmio_reads;
                cpu.pending = {Pending::Kind::exit, Vector::ud, false, 0, 0};
                cpu.exit.reason = ExitReason::mmio;
                return false;
            }
        } else {
            if (page.kind == PageKind::careful) ++careful_accesses;
            std::memcpy(write ? host : bytes, write ? bytes : host, part);
        }
        bytes += part;
        gva += part;
        size -= part;
    }
    return true;
}

Hva FlatMemory::direct(Cpu& cpu, u64 gva, u64 size, bool write) {
    if (poll_after != 0 && --poll_after == 0) cpu.poll = 1;
    // A caller must not ask for more than one page.
    if (size == 0 || (gva & page_offset_mask) + size > page_size) std::abort();
    if (!allowed(cpu, gva, size, write)) return nullptr;
    const Page& page = *page_at(gva);
    if (page.kind == PageKind::careful || page.kind == PageKind::mmio) return nullptr;
    return frame(page.frame) + (gva & page_offset_mask);
}

namespace {
/// Every Cpu of this program is a FlatCpu.
FlatMemory& memory_of(Cpu& cpu) { return static_cast<FlatCpu&>(cpu).memory; }
} // namespace

bool Cpu::read(Gva gva, void* out, u64 size, AccessMode) {
    return memory_of(*this).access(*this, gva.value(), out, size, false, false);
}

bool Cpu::write(Gva gva, const void* in, u64 size, AccessMode) {
    return memory_of(*this).access(*this, gva.value(), const_cast<void*>(in), size, true, false);
}

bool Cpu::probe_write(Gva gva, u64 size, AccessMode) {
    return memory_of(*this).access(*this, gva.value(), nullptr, size, true, true);
}

Hva Cpu::direct(Gva gva, u64 size, bool write) {
    return memory_of(*this).direct(*this, gva.value(), size, write);
}

Gva Cpu::linear(unsigned segment, u64 offset) const {
    const u64 base = cb.state.segment[segment].base;
    if (cb.state.code64()) return Gva(segment >= seg_fs ? base + offset : offset);
    return Gva((base + offset) & 0xffffffff);
}

Gva Cpu::effective_address(const Instruction& insn) const {
    u64 offset = static_cast<u64>(insn.displacement);
    if (insn.base <= r15) offset += cb.state.gpr[insn.base];
    if (insn.index <= r15) offset += cb.state.gpr[insn.index] * insn.scale;
    if (insn.address_size < 8) offset &= (u64{1} << (8 * insn.address_size)) - 1;
    return linear(insn.segment, offset);
}

} // namespace gnomon::processor::soft
