// SPDX-License-Identifier: Apache-2.0
/// @file The software processor's MMU: it walks shadow tables only, and caches what it finds in the
/// TLB sets.
#pragma once

#include "processor/soft/cpu.h"

namespace gnomon::processor::soft {

enum class Reach : u8 { read, write, execute };

/// What a walk of the shadow tables found.
struct Walk {
    enum class Kind : u8 { ram, mmio, fault };
    Kind kind = Kind::fault;
    Gpa frame;
    Hva host = nullptr;    ///< of the page; RAM and monitor pages only
    bool writable = false; ///< a write by the same set would be allowed and needs no dirty bit set
    bool traced = false;
    u32 error_code = 0; ///< fault
};

/// The set by which data accesses of the current CPL, AC and mode go.
[[nodiscard]] TlbSet current_set(const Cpu& cpu);
[[nodiscard]] TlbSet supervisor_set(const Cpu& cpu); ///< implicit supervisor accesses

/// Host address of a frame: RAM or monitor page, else nullptr.
[[nodiscard]] Hva frame_host(const ControlBlock& cb, Gpa frame);

[[nodiscard]] Walk walk(const Cpu& cpu, Gva gva, Reach reach, TlbSet set);
/// The same by the tables under `root`.
[[nodiscard]] Walk walk(const Cpu& cpu, u64 root, Gva gva, Reach reach, TlbSet set);

/// Caches a RAM walk for reads and, where it needs no further look, for writes.
void fill_tlb(Cpu& cpu, TlbSet set, Gva gva, const Walk& found);
/// Whether the TLB would now answer such an access.
[[nodiscard]] bool tlb_has(const Cpu& cpu, TlbSet set, Gva gva, bool write);

/// A write to [gpa, gpa + size) within one page is about to happen: drops translations that it
/// changes.
void note_code_write(Cpu& cpu, Gpa gpa, u64 size);

/// Records a write through a traced mapping. The caller has seen to it that there is room.
void record_write(Cpu& cpu, Gpa gpa, const u8* before, const u8* after, u32 size);
/// Free records that must be left before an instruction writes through traced mappings: more than
/// any one instruction makes.
inline constexpr u32 record_reserve = 64;
[[nodiscard]] inline bool write_buffer_has_room(const Cpu& cpu) {
    return cpu.cb.write_buffer.count + record_reserve <= cpu.cb.write_buffer.capacity;
}

/// Whether a data breakpoint lies in the page; such a page is never cached, so that every access is
/// seen.
[[nodiscard]] bool page_is_watched(const Cpu& cpu, Gva gva);
/// Notes the data breakpoints (SDM vol. 3B section 18.2.5) that an access meets, for the trap after
/// the instruction.
void note_watched_access(Cpu& cpu, Gva gva, u64 size, bool write);

/// Sets `pending` to a page_fault exit at the current instruction.
void leave_for_page_fault(Cpu& cpu, Gva gva, u32 error_code, bool implicit_supervisor);

/// Reads from MMIO, piece by piece: false until the monitor has supplied the last piece (pending
/// says which is wanted).
/// `earlier` is how many bytes of the same access lie before these, on another page; earlier + size
/// is at most 4096. Whoever has all of an access adds its size to Cpu::mmio_taken: an instruction
/// with several reads runs again for each, and then finds the earlier ones here. The end of the
/// instruction is `end_mmio_reads`.
[[nodiscard]] bool mmio_read(Cpu& cpu, Gpa gpa, u8* out, u32 size, u32 earlier);
inline void end_mmio_reads(Cpu& cpu) { cpu.mmio_have = cpu.mmio_taken = 0; }
/// Takes the data that the monitor supplied. A monitor that waits for the interrupt window could
/// not inject while they were under way: translated code is to look up after this instruction.
inline u64 take_io_data(Cpu& cpu) {
    cpu.cb.io_data_valid = false;
    if (cpu.cb.interrupt_window) cpu.poll = 1;
    return cpu.cb.io_data;
}
/// Writes to MMIO: becomes the deferred exit (and queued further ones) of the current instruction.
void mmio_write(Cpu& cpu, Gpa gpa, const u8* in, u32 size);

} // namespace gnomon::processor::soft
