// SPDX-License-Identifier: Apache-2.0
#include "guest_cpu.h"

#include "base/verify.h"
#include "layout.h"

#include <algorithm>
#include <cstring>

namespace gnomon::test {

using processor::Exit;
using processor::ExitReason;
using processor::Segment;
using processor::ShadowEntry;
using processor::Vector;

namespace {

// Guest-physical places.
constexpr u64 memory_size = u64{4} << 20;
constexpr u64 code_gpa = 0x100000, data_gpa = 0x110000, system_gpa = 0x140000;

// Supervisor pages, at an address of their own.
constexpr u64 system_begin = 0x30000000;
constexpr u64 idt_page = 0, handler_page = 1, table_page = 2, stack_page = 3, system_pages = 4;
constexpr u64 handlers = system_begin + handler_page * page_size; ///< one HLT for each vector
constexpr u64 gdt = system_begin + table_page * page_size, tss = gdt + 0x100;
constexpr u64 stack_top = system_begin + (stack_page + 1) * page_size;
using layout::kernel_cs;
constexpr u64 gate_size = 16, vectors = 256;

constexpr u64 arena_pages = 32, table_entries = 512;
constexpr u8 stop_vector = 0x80;
constexpr u8 stop_bytes[] = {0xcd, stop_vector};
constexpr unsigned exit_limit = 20000; ///< of one program: more is a processor that does not go on

constexpr u64 present_user = ShadowEntry::present | ShadowEntry::user | ShadowEntry::accessed;
constexpr u64 all_rights = present_user | ShadowEntry::writable | ShadowEntry::dirty;

/// Every feature that helpers ask for.
constexpr processor::CpuidLeaf cpuid_leaves[] = {
    {.leaf = 0, .eax = 7},
    {.leaf = 1, .ecx = 0xffffffff, .edx = 0xffffffff},
    {.leaf = 7, .subleaf = 0, .has_subleaf = true, .ebx = 0xffffffff},
    {.leaf = 0x80000000, .eax = 0x80000001},
    {.leaf = 0x80000001, .ecx = 0xffffffff, .edx = 0xffffffff},
};

Segment segment(u16 selector, u32 rights) {
    Segment s;
    s.selector = selector;
    s.limit = 0xffffffff;
    s.rights = rights;
    return s;
}
Segment null_segment() {
    Segment s;
    s.rights = Segment::unusable;
    return s;
}
constexpr u32 user_dpl = 3 << 5;
constexpr u32 code_rights = 11 | Segment::s | user_dpl | Segment::present | Segment::l | Segment::g;
constexpr u32 code32_rights = code_rights ^ (Segment::l | Segment::db);
constexpr u32 data_rights = 3 | Segment::s | user_dpl | Segment::present | Segment::db | Segment::g;
constexpr u32 tss_rights = 11 | Segment::present;

constexpr u64 gdt_entries = 16;
/// A flat descriptor (SDM vol. 3A figure 3-8) with these rights.
constexpr u64 flat_descriptor(u32 rights) {
    return 0xffff | u64{rights & 0xf0ff} << 40 | u64{0xf} << 48;
}

} // namespace

Result<std::unique_ptr<GuestCpu>> GuestCpu::create(processor::soft::FeatureSet withheld,
                                                   processor::LinearViews views) {
    std::unique_ptr<GuestCpu> g(new GuestCpu);
    auto memory = GuestMemory::create(memory_size);
    if (!memory) return tl::unexpected(memory.error());
    g->m_memory.emplace(std::move(*memory));
    // Small enough that a run empties the code cache now and then.
    auto made = processor::soft::SoftProcessor::create(
        {.code_cache_bytes = std::size_t{16} << 20, .withheld = withheld, .views = views});
    if (!made) return tl::unexpected(made.error());
    g->m_processor = std::move(*made);
    g->build_tables();
    g->build_system();
    return g;
}

std::span<u8> GuestCpu::data() {
    return {reinterpret_cast<u8*>(m_memory->hva(Gpa(data_gpa), layout::data_size)),
            layout::data_size};
}

u64& GuestCpu::leaf(u64 address) {
    u64 table = page_size; // the root; byte offsets in the arena
    for (unsigned level = processor::shadow_levels;; --level) {
        u64& entry = m_arena[(table / 8) + processor::shadow_index(Gva(address), level)];
        if (level == 1) return entry;
        if (entry == 0) {
            VERIFY(m_arena_used < arena_pages);
            entry = m_arena_used++ * page_size | all_rights;
        }
        table = ShadowEntry{entry}.address();
    }
}

void GuestCpu::map(u64 address, u64 gpa, u64 bits) { leaf(address) = gpa | bits; }

void GuestCpu::build_tables() {
    using layout::PageKind;
    m_arena = std::make_unique<u64[]>(arena_pages * table_entries);
    m_arena_used = 2;
    for (u64 i = 0; i < layout::code_pages; ++i)
        map(layout::code_begin + i * page_size, code_gpa + i * page_size, present_user);
    for (u64 i = 0; i < layout::data_pages; ++i) {
        u64 bits = all_rights;
        switch (layout::data_kinds[i]) {
        case PageKind::plain:
        case PageKind::code: break;
        case PageKind::traced: bits |= ShadowEntry::traced; break;
        case PageKind::mmio: bits |= ShadowEntry::mmio; break;
        case PageKind::read_only: bits = present_user; break;
        case PageKind::lazy:
        case PageKind::absent:
        case PageKind::count: bits = 0; break;
        }
        if (bits != 0) map(layout::data_begin + i * page_size, data_gpa + i * page_size, bits);
    }
    for (u64 i = 0; i < system_pages; ++i)
        map(system_begin + i * page_size, system_gpa + i * page_size,
            ShadowEntry::present | ShadowEntry::accessed | ShadowEntry::writable |
                ShadowEntry::dirty);
}

void GuestCpu::build_system() {
    const auto put = [this](u64 address, const void* bytes, std::size_t size) {
        VERIFY(m_memory->write(Gpa(system_gpa + (address - system_begin)),
                               std::as_bytes(std::span(static_cast<const u8*>(bytes), size))));
    };
    for (u64 v = 0; v < vectors; ++v) {
        const u64 handler = handlers + v;
        const u8 halt = 0xf4;
        put(handler, &halt, 1);
        // Linux lets programs use the gates of INT3 and INTO.
        const bool for_programs =
            v == static_cast<u64>(Vector::bp) || v == static_cast<u64>(Vector::of);
        const u64 rights = for_programs ? 0xee : 0x8e;
        const u64 gate[] = {(handler & 0xffff) | u64{kernel_cs} << 16 | rights << 40 |
                                (handler & 0xffff0000) << 32,
                            handler >> 32};
        put(system_begin + idt_page * page_size + v * gate_size, gate, sizeof gate);
    }
    u64 table[gdt_entries] = {};
    const auto describe = [&table](u16 selector, u32 rights) {
        table[selector / 8] = flat_descriptor(rights);
    };
    constexpr u16 kernel_cs32 = 0x08, kernel_ds = 0x18;
    describe(kernel_cs32, code32_rights & ~user_dpl);
    describe(kernel_cs, code_rights & ~user_dpl);
    describe(kernel_ds, data_rights & ~user_dpl);
    describe(layout::user_cs32, code32_rights);
    describe(layout::user_ss, data_rights);
    describe(layout::user_cs, code_rights);
    table[layout::tss_selector / 8] = 0x67 | (tss & 0xffffff) << 16 | u64{tss_rights} << 40 |
                                      (tss >> 24 & 0xff) << 56; // its upper half is zero
    put(gdt, table, sizeof table);
    put(tss + 4, &stack_top, sizeof stack_top); // RSP0
    constexpr u16 no_io_bitmap = 0xffff;
    put(tss + 0x66, &no_io_bitmap, sizeof no_io_bitmap);

    m_buffer.resize(4096);
    processor::ControlBlock& cb = m_processor->control_block();
    cb.ram_base = m_memory->base();
    cb.ram_file = m_memory->fd();
    cb.ram_low_size = m_memory->low_size();
    cb.ram_high_size = m_memory->high_size();
    cb.shadow_arena = reinterpret_cast<Hva>(m_arena.get());
    cb.shadow_root = page_size;
    cb.write_buffer = {m_buffer.data(), static_cast<u32>(m_buffer.size()), 0};
    cb.cpuid = cpuid_leaves;
    cb.cpuid_count = std::size(cpuid_leaves);
    cb.int_intercept.set(stop_vector);
    m_processor->invalidate_tlb();
}

void GuestCpu::data_changed(u64 address, u64 size) {
    m_processor->invalidate_code(Gpa(data_gpa + (address - layout::data_begin)), size);
}

void GuestCpu::load(const Program& program) {
    const auto place = [this](u64 address, std::span<const u8> bytes) {
        VERIFY(address >= layout::code_begin && address + bytes.size() <= layout::code_end);
        const Gpa gpa(code_gpa + (address - layout::code_begin));
        VERIFY(m_memory->write(gpa, std::as_bytes(bytes)));
        m_processor->invalidate_code(gpa, bytes.size());
    };
    for (const Bytes& b : program.code)
        place(b.address, b.content);
    for (const Stop& stop : program.stops)
        place(stop.address, stop_bytes);
}

void GuestCpu::withdraw_lazy_pages() {
    for (const u64 page : m_repaired) {
        leaf(page) = 0;
        m_processor->invalidate_tlb(Gva(page));
    }
    m_repaired.clear();
}

bool GuestCpu::repair(u64 address, u32 error_code) {
    const u64 page = address & ~page_offset_mask;
    if (!layout::in_data(address) || layout::kind_of(address) != layout::PageKind::lazy)
        return false;
    u64& entry = leaf(page);
    if (entry == 0) {
        entry = (data_gpa + (page - layout::data_begin)) | present_user | ShadowEntry::writable;
        m_repaired.push_back(page);
    } else if ((error_code & processor::pf_error::write) != 0 &&
               !ShadowEntry{entry}.has(ShadowEntry::dirty)) {
        entry |= ShadowEntry::dirty;
    } else {
        return false; // it was repaired, and still faults
    }
    ++m_restarts;
    return true;
}

void GuestCpu::set_state(const MachineState& state, u64 rip, bool code32) {
    processor::ControlBlock& cb = m_processor->control_block();
    processor::RegisterBlock& s = cb.state;
    s = {};
    std::memcpy(s.gpr, state.gpr, sizeof s.gpr);
    s.rip = rip;
    s.rflags = state.rflags | processor::rflags::if_ | processor::rflags::fixed1;
    s.segment[processor::seg_cs] =
        code32 ? segment(layout::user_cs32, code32_rights) : segment(layout::user_cs, code_rights);
    for (const auto name : {processor::seg_es, processor::seg_ss, processor::seg_ds,
                            processor::seg_fs, processor::seg_gs})
        s.segment[name] = segment(layout::user_ss, data_rights);
    s.segment[processor::seg_fs].base = state.fs_base;
    s.segment[processor::seg_gs].base = state.gs_base;
    s.ldtr = null_segment();
    s.tr = segment(layout::tss_selector, tss_rights);
    s.tr.base = tss;
    s.tr.limit = 0x67;
    s.gdtr = {gdt, gdt_entries * 8 - 1, 0};
    s.idtr = {system_begin + idt_page * page_size, vectors * gate_size - 1, 0};
    using namespace processor;
    s.cr0 = cr0::pe | cr0::mp | cr0::et | cr0::ne | cr0::wp | cr0::am | cr0::pg;
    s.cr4 = cr4::pae | cr4::pge | cr4::osfxsr | cr4::osxmmexcpt | cr4::osxsave | cr4::fsgsbase |
            cr4::umip;
    s.efer = efer::sce | efer::lme | efer::lma | efer::nxe;
    s.xcr0 = xcr0::x87 | xcr0::sse | xcr0::avx;
    if (features().has(processor::soft::Feature::avx512)) s.xcr0 |= xcr0::avx512;
    s.extended = state.extended;
    cb.injection = {};
    cb.interrupt_shadow = false;
    cb.io_data_valid = false;
    m_in_handler = false;
}

std::optional<Outcome> GuestCpu::exception_taken(u64 halted_rip, const Program& program) {
    Outcome out;
    const u64 vector = halted_rip - 1 - handlers;
    if (vector >= vectors) {
        out.note = fmt::format("halted at {:#x}", halted_rip);
        return out;
    }
    out.kind = Outcome::Kind::faulted;
    out.vector = static_cast<u8>(vector);
    const u64 rsp = m_processor->control_block().state.gpr[processor::rsp];
    const u64 bytes = stack_top - rsp;
    if (bytes != 40 && bytes != 48) {
        out.kind = Outcome::Kind::unexpected;
        out.note = fmt::format("a stack frame of {} bytes", bytes);
        return out;
    }
    u64 frame[6] = {};
    VERIFY(m_memory->read(
        Gpa(system_gpa + (rsp - system_begin)),
        std::as_writable_bytes(std::span(frame + (bytes == 40 ? 1 : 0), bytes / 8))));
    m_frame = {frame[0], frame[1], frame[2], frame[3] & ~processor::rflags::rf, frame[4], frame[5]};
    out.error_code = static_cast<u32>(m_frame.error_code);
    out.rip = m_frame.rip;
    if (vector == static_cast<u64>(Vector::pf)) out.cr2 = m_processor->control_block().state.cr2;
    m_in_handler = true;
    if (!program.stepped || vector != static_cast<u64>(Vector::db)) return out;
    note_step();
    if (std::ranges::find(program.stops, m_frame.rip, &Stop::address) != program.stops.end())
        out.kind = Outcome::Kind::stopped;
    else if (m_step_count == step_limit)
        out = {.note = "more steps than are recorded"};
    else {
        return_from_handler();
        return std::nullopt;
    }
    return out;
}

/// Keeps the state that the single-step trap just taken has interrupted.
void GuestCpu::note_step() {
    const processor::RegisterBlock& s = m_processor->control_block().state;
    if (m_steps.empty()) m_steps.resize(step_limit);
    Step& step = m_steps[m_step_count++];
    step.rip = m_frame.rip;
    step.rflags = m_frame.rflags;
    std::memcpy(step.gpr, s.gpr, sizeof step.gpr);
    step.gpr[processor::rsp] = m_frame.rsp;
    step.cs = static_cast<u16>(m_frame.cs);
    step.extended = s.extended;
}

/// What IRET at the end of the handler would do.
void GuestCpu::return_from_handler() {
    processor::RegisterBlock& s = m_processor->control_block().state;
    s.rip = m_frame.rip;
    s.rflags = m_frame.rflags;
    s.gpr[processor::rsp] = m_frame.rsp;
    const bool code32 = m_frame.cs == layout::user_cs32;
    s.segment[processor::seg_cs] =
        segment(static_cast<u16>(m_frame.cs), code32 ? code32_rights : code_rights);
    s.segment[processor::seg_ss] = segment(static_cast<u16>(m_frame.ss), data_rights);
    m_in_handler = false;
}

/// Deals with one exit; the outcome if it was the last.
std::optional<Outcome> GuestCpu::take(const Exit& exit, const Program& program) {
    processor::ControlBlock& cb = m_processor->control_block();
    Outcome out;
    switch (exit.reason) {
    case ExitReason::kicked: return std::nullopt;
    case ExitReason::software_interrupt:
        if (exit.index == stop_vector &&
            std::ranges::find(program.stops, cb.state.rip, &Stop::address) != program.stops.end()) {
            out.kind = Outcome::Kind::stopped;
            out.rip = cb.state.rip;
            return out;
        }
        out.note = fmt::format("INT {:#x} at {:#x}", exit.index, cb.state.rip);
        return out;
    case ExitReason::halt: return exception_taken(cb.state.rip, program);
    case ExitReason::page_fault:
        if (repair(exit.gva.value(), exit.error_code)) return std::nullopt;
        if (exit.during_delivery) {
            out.note = fmt::format("page fault at {:#x} during delivery", exit.gva.value());
            return out;
        }
        // As a monitor does: delivery also ends what the instruction had under way.
        cb.injection = {};
        cb.injection.kind = processor::Injection::Kind::exception;
        cb.injection.vector = static_cast<u8>(Vector::pf);
        cb.injection.has_error_code = true;
        cb.injection.error_code = exit.error_code;
        cb.injection.cr2 = exit.gva.value();
        return std::nullopt;
    case ExitReason::mmio: {
        ++m_mmio_exits;
        u64 data = exit.data;
        const auto bytes =
            std::span(reinterpret_cast<std::byte*>(&data), std::min<std::size_t>(exit.size, 8));
        const u64 gpa = exit.gpa.value();
        if (gpa < data_gpa || gpa + exit.size > data_gpa + layout::data_size ||
            layout::kind_of(layout::data_begin + (gpa - data_gpa)) != layout::PageKind::mmio) {
            out.note = fmt::format("MMIO at {:#x}", gpa);
            return out;
        }
        if (exit.write) {
            VERIFY(m_memory->write(exit.gpa, bytes));
        } else {
            data = 0;
            VERIFY(m_memory->read(exit.gpa, bytes));
            cb.io_data = data;
            cb.io_data_valid = true;
        }
        return std::nullopt;
    }
    case ExitReason::write_buffer_full:
        m_records.insert(m_records.end(), cb.write_buffer.contents().begin(),
                         cb.write_buffer.contents().end());
        cb.write_buffer.count = 0;
        return std::nullopt;
    default:
        out.note = fmt::format("exit reason {} at {:#x}", static_cast<unsigned>(exit.reason),
                               cb.state.rip);
        return out;
    }
}

Outcome GuestCpu::run_to_end(const Program& program) {
    for (unsigned n = 0; n < exit_limit; ++n)
        if (auto done = take(m_processor->enter(), program)) return std::move(*done);
    Outcome out;
    out.note = "no end";
    return out;
}

Outcome GuestCpu::run(const Program& program, MachineState& state) {
    processor::ControlBlock& cb = m_processor->control_block();
    withdraw_lazy_pages();
    m_records.clear();
    cb.write_buffer.count = 0;
    for (const u64 place : program.translated) {
        Program there;
        there.stops = {{place, program.code32}};
        MachineState calm = state;
        calm.rflags &= ~processor::rflags::tf;
        set_state(calm, place, program.code32);
        if (const Outcome o = run_to_end(there); o.kind != Outcome::Kind::stopped) return o;
    }
    set_state(state, program.rip, program.code32);
    m_step_count = 0;
    const Outcome out = run_to_end(program);
    m_records.insert(m_records.end(), cb.write_buffer.contents().begin(),
                     cb.write_buffer.contents().end());
    const processor::RegisterBlock& s = cb.state;
    std::memcpy(state.gpr, s.gpr, sizeof s.gpr);
    state.rflags = s.rflags;
    for (unsigned i = 0; i < processor::segment_count; ++i)
        state.selector[i] = s.segment[i].selector;
    if (m_in_handler) {
        state.rflags = m_frame.rflags;
        state.gpr[processor::rsp] = m_frame.rsp;
        state.selector[processor::seg_cs] = static_cast<u16>(m_frame.cs);
        state.selector[processor::seg_ss] = static_cast<u16>(m_frame.ss);
    }
    state.fs_base = s.segment[processor::seg_fs].base;
    state.gs_base = s.segment[processor::seg_gs].base;
    state.extended = s.extended;
    return out;
}

std::string GuestCpu::check_records(std::span<const u8> before) {
    const auto traced = [](u64 page) {
        return layout::data_kinds[page] == layout::PageKind::traced;
    };
    const std::span<const u8> now = data();
    m_content.resize(before.size());
    for (u64 i = 0; i < layout::data_pages; ++i)
        if (traced(i))
            std::memcpy(m_content.data() + i * page_size, before.data() + i * page_size, page_size);
    for (const processor::WriteRecord& r : m_records) {
        const u64 at = r.gpa.value() - data_gpa;
        if (r.gpa.value() < data_gpa || at + r.size > m_content.size() || r.size == 0 ||
            r.size > sizeof r.before)
            return fmt::format("record of {} bytes at {:#x}", r.size, r.gpa.value());
        if (!traced(at / page_size))
            return fmt::format("record of a page that is not traced, at {:#x}", r.gpa.value());
        if (std::memcmp(m_content.data() + at, r.before, r.size) != 0)
            return fmt::format("`before` of the record at {:#x} is not what was there",
                               r.gpa.value());
        std::memcpy(m_content.data() + at, r.after, r.size);
    }
    for (u64 i = 0; i < layout::data_pages; ++i)
        if (traced(i) && std::memcmp(m_content.data() + i * page_size, now.data() + i * page_size,
                                     page_size) != 0)
            return fmt::format("traced page {} changed otherwise than its records say", i);
    return {};
}

} // namespace gnomon::test
