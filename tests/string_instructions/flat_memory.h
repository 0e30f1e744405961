// SPDX-License-Identifier: Apache-2.0
/// @file A stand-in for the processor's memory accesses: a range of guest-virtual pages, each of a
/// kind that can be changed at will. It defines Cpu::read, write, probe_write, direct,
/// effective_address and linear.
#pragma once

#include "processor/soft/cpu.h"

#include <vector>

namespace gnomon::processor::soft {

enum class PageKind : u8 {
    ram,
    read_only,
    absent,
    careful, ///< RAM that Cpu::direct does not give out, as traced pages and pages with code
    mmio,
};

class FlatMemory {
public:
    /// Pages of RAM, filled with zeros, from the page-aligned address `base` on. Every other
    /// address is absent.
    FlatMemory(u64 base, u64 pages);

    void set_kind(u64 page, PageKind kind) { m_pages[page].kind = kind; }
    void set_all(PageKind kind);
    /// Makes `page` show the frame that `other` has.
    void alias(u64 page, u64 other) { m_pages[page].frame = m_pages[other].frame; }
    /// The bytes of `page`, whatever its kind; the pages' frames follow one another.
    [[nodiscard]] std::byte* frame(u64 page) { return m_frames.data() + page * page_size; }
    [[nodiscard]] u64 size() const { return m_frames.size(); }

    struct MmioWrite {
        u64 gva;
        u64 data;
        u64 size;
    };
    std::vector<MmioWrite> mmio_writes;
    u64 mmio_reads = 0;    ///< that exited
    u64 fault_address = 0; ///< of the last page fault
    u64 careful_accesses = 0;
    u64 poll_after = 0; ///< sets Cpu::poll at the n-th call of Cpu::direct from now; 0: never

    // What the member functions of Cpu do.
    bool access(Cpu& cpu, u64 gva, void* data, u64 size, bool write, bool probe);
    Hva direct(Cpu& cpu, u64 gva, u64 size, bool write);

private:
    struct Page {
        PageKind kind = PageKind::ram;
        u64 frame = 0;
    };
    [[nodiscard]] const Page* page_at(u64 gva) const;
    [[nodiscard]] bool allowed(Cpu& cpu, u64 gva, u64 size, bool write);

    u64 m_base;
    std::vector<Page> m_pages;
    std::vector<std::byte> m_frames;
};

/// A processor that has nothing but a FlatMemory, which must outlive it.
struct FlatCpu : Cpu {
    explicit FlatCpu(FlatMemory& flat) : memory(flat) {}
    FlatMemory& memory;
};

} // namespace gnomon::processor::soft
