// SPDX-License-Identifier: Apache-2.0
/// @file FXSAVE, FXRSTOR and the XSAVE family (SDM vol. 1 sections 10.5 and 13.7-13.10), bounded by
/// the guest's XCR0.
///
/// The live image has the standard format. The compacted one leaves no room for the extended
/// components that XCOMP_BV does not name.
#include "processor/soft/extended_state.h"
#include "processor/soft/access_checks.h"
#include "processor/soft/helpers.h"

#include <Zydis/Zydis.h>
#include <algorithm>
#include <array>
#include <span>

namespace gnomon::processor::soft {
namespace {

constexpr u32 header_offset = 512;
constexpr u32 ymm_offset = 576;
constexpr u64 compacted = u64{1} << 63; ///< XCOMP_BV: the area has the compacted format

/// Bytes [offset, offset + size) of an area in guest memory, which are `image` and on of the image.
struct Extent {
    u32 offset;
    u32 image;
    u32 size;
};

/// A list of extents in ascending order; neighbours become one.
class Extents {
public:
    void add(u32 offset, u32 size) { add(offset, offset, size); }
    void add(u32 offset, u32 image, u32 size) {
        if (size == 0) return;
        Extent* const last = m_count != 0 ? &m_extents[m_count - 1] : nullptr;
        if (last != nullptr && last->offset + last->size == offset &&
            last->image + last->size == image)
            last->size += size;
        else
            m_extents[m_count++] = {offset, image, size};
    }
    [[nodiscard]] std::span<const Extent> list() const { return {m_extents.data(), m_count}; }

private:
    std::array<Extent, 10> m_extents{};
    unsigned m_count = 0;
};

/// XMM8-15 and their upper halves exist in 64-bit mode only; elsewhere their places are left alone.
u32 vector_bytes(const Instruction& insn) { return insn.code64 ? 256 : 128; }

/// A component behind the header.
struct Component {
    u64 bit; ///< in XCR0
    u32 offset;
    u32 size;
};
constexpr Component extended_components[] = {
    {xcr0::avx, ymm_offset, sizeof ExtendedState::ymm_high},
    {xcr0::opmask, offsetof(ExtendedState, opmask), sizeof ExtendedState::opmask},
    {xcr0::zmm_high, offsetof(ExtendedState, zmm_high), sizeof ExtendedState::zmm_high},
    {xcr0::high_zmm, offsetof(ExtendedState, high_zmm), sizeof ExtendedState::high_zmm},
};
constexpr u64 all_components = xcr0::x87 | xcr0::sse | xcr0::avx | xcr0::avx512;

/// What the current mode has of it: outside 64-bit mode there are eight vector registers.
u32 accessible_bytes(const Component& c, const Instruction& insn) {
    if (insn.code64 || c.bit == xcr0::opmask) return c.size;
    return c.bit == xcr0::high_zmm ? 0 : c.size / 2;
}

/// Calls `function(component, offset in the area)` for each of `components`, lowest first.
/// @param layout the components of an area in compacted format; 0: the format is the standard one.
template <class Function>
void for_each_component(u64 components, u64 layout, Function&& function) {
    u32 compact = ymm_offset;
    for (const Component& c : extended_components) {
        if ((components & c.bit) != 0) function(c, layout != 0 ? compact : c.offset);
        if ((layout & c.bit) != 0) compact += c.size;
    }
}

void add_extended(Extents& extents, const Instruction& insn, u64 components, u64 layout) {
    for_each_component(components, layout, [&](const Component& c, u32 offset) {
        extents.add(offset, c.offset, accessible_bytes(c, insn));
    });
}

void add_x87_and_sse(Extents& extents, const Instruction& insn, bool x87, bool mxcsr, bool sse) {
    if (x87) extents.add(0, ExtendedState::mxcsr);
    if (mxcsr) extents.add(ExtendedState::mxcsr, 8);
    if (x87) extents.add(ExtendedState::st0, 128);
    if (sse) extents.add(ExtendedState::xmm0, vector_bytes(insn));
}

/// A range of guest memory, in one page or two, that is RAM to be used directly.
class DirectRange {
public:
    /// @return false if an exception or an exit is pending.
    [[nodiscard]] bool find(Cpu& cpu, Gva first, u64 size, bool write) {
        m_split = std::min<u64>(size, page_size - first.page_offset());
        if (size - m_split > page_size) return true;
        m_part[0] = cpu.direct(first, m_split, write);
        if (m_part[0] != nullptr && m_split < size)
            m_part[1] = cpu.direct(first + m_split, size - m_split, write);
        m_usable = m_part[0] != nullptr && (m_split == size || m_part[1] != nullptr);
        return m_usable || cpu.pending.kind == Pending::Kind::none;
    }
    [[nodiscard]] bool usable() const { return m_usable; }
    /// Calls `copy(host, done, size)` for the pieces of [offset, offset + size).
    template <class Copy>
    void for_each_piece(u64 offset, u64 size, Copy&& copy) const {
        const u64 low = offset >= m_split ? 0 : std::min(size, m_split - offset);
        if (low != 0) copy(m_part[0] + offset, u64{0}, low);
        if (low != size) copy(m_part[1] + (offset + low - m_split), low, size - low);
    }

private:
    Hva m_part[2] = {};
    u64 m_split = 0; ///< bytes in the first page
    bool m_usable = false;
};

/// Writes `extents` of `image` to their places from `area` on: all or, with false, none.
bool store(Cpu& cpu, Gva area, const u8* image, std::span<const Extent> extents) {
    if (extents.empty()) return true;
    const u32 begin = extents.front().offset;
    const u64 size = extents.back().offset + extents.back().size - begin;
    DirectRange range;
    if (!range.find(cpu, area + begin, size, true)) return false;
    if (range.usable()) {
        for (const Extent& e : extents)
            range.for_each_piece(e.offset - begin, e.size, [&](Hva host, u64 done, u64 bytes) {
                std::memcpy(host, image + e.image + done, bytes);
            });
        return true;
    }
    if (!cpu.probe_write(area + begin, size)) return false;
    for (const Extent& e : extents)
        if (!cpu.write(area + e.offset, image + e.image, e.size)) return false;
    return true;
}

/// Reads them to their places in `image`: all or, with false, perhaps some.
bool load(Cpu& cpu, Gva area, u8* image, std::span<const Extent> extents) {
    if (extents.empty()) return true;
    const u32 begin = extents.front().offset;
    const u64 size = extents.back().offset + extents.back().size - begin;
    DirectRange range;
    if (!range.find(cpu, area + begin, size, false)) return false;
    if (range.usable()) {
        for (const Extent& e : extents)
            range.for_each_piece(e.offset - begin, e.size, [&](Hva host, u64 done, u64 bytes) {
                std::memcpy(image + e.image + done, host, bytes);
            });
        return true;
    }
    for (const Extent& e : extents)
        if (!cpu.read(area + e.offset, image + e.image, e.size)) return false;
    return true;
}

/// The image as one run of bytes, in the order of the standard format.
u8* bytes_of(ExtendedState& state) { return reinterpret_cast<u8*>(&state); }
static_assert(offsetof(ExtendedState, header) == header_offset);
static_assert(offsetof(ExtendedState, ymm_high) == ymm_offset);

u32 mxcsr_of(const u8* image) {
    u32 value;
    std::memcpy(&value, image + ExtendedState::mxcsr, sizeof value);
    return value;
}

constexpr u64 legacy_bytes = sizeof ExtendedState::legacy;

/// Bytes of an XSAVE area with these components.
u64 area_bytes(u64 components, u64 layout) {
    u64 end = ymm_offset;
    for_each_component(components, layout,
                       [&](const Component& c, u32 offset) { end = offset + c.size; });
    return end;
}

/// Fills in what FXSAVE and FXRSTOR check before they touch memory; true if `result` is to be
/// returned.
bool fx_refused(Cpu& cpu, Gva area, HelperResult& result) {
    const u64 cr0 = cpu.cb.state.cr0;
    if ((cr0 & cr0::em) != 0)
        result = cpu.raise(Vector::ud);
    else if ((cr0 & cr0::ts) != 0)
        result = cpu.raise(Vector::nm);
    else if (area.value() % 16 != 0)
        result = cpu.raise(Vector::gp, 0);
    else
        return false;
    return true;
}

bool xsave_refused(Cpu& cpu, Gva area, HelperResult& result) {
    if ((cpu.cb.state.cr4 & cr4::osxsave) == 0)
        result = cpu.raise(Vector::ud);
    else if ((cpu.cb.state.cr0 & cr0::ts) != 0)
        result = cpu.raise(Vector::nm);
    else if (area.value() % 64 != 0)
        result = cpu.raise(Vector::gp, 0);
    else
        return false;
    return true;
}

/// The requested-feature bitmap: EDX:EAX within XCR0, and never more than what guests are shown.
u64 requested_features(const Cpu& cpu) {
    const u64 asked = cpu.gpr(rdx, 4) << 32 | cpu.gpr(rax, 4);
    return asked & cpu.cb.state.xcr0 & all_components;
}

/// The first 64 bytes of the XSAVE header (SDM vol. 1 section 13.4.2).
struct XsaveHeader {
    u64 xstate_bv = 0;
    u64 xcomp_bv = 0;
    u64 reserved[6] = {};
};
static_assert(sizeof(XsaveHeader) == 64);

/// Whether XRSTOR accepts `header` (SDM vol. 1 section 13.8); otherwise it is #GP(0).
bool header_valid(const XsaveHeader& header, u64 xcr0) {
    if ((header.xcomp_bv & compacted) == 0)
        return (header.xstate_bv & ~xcr0) == 0 && header.xcomp_bv == 0 && header.reserved[0] == 0;
    u64 reserved = 0;
    for (const u64 word : header.reserved)
        reserved |= word;
    return (header.xcomp_bv & ~(xcr0 | compacted)) == 0 &&
           (header.xstate_bv & ~(header.xcomp_bv & ~compacted)) == 0 && reserved == 0;
}

void initialise_x87(ExtendedState& state) {
    std::memset(state.legacy, 0, ExtendedState::mxcsr);
    constexpr u16 fcw = LiveState::initial_fcw;
    std::memcpy(state.legacy + ExtendedState::fcw, &fcw, sizeof fcw);
    std::memset(state.legacy + ExtendedState::st0, 0, 128);
}

} // namespace

HelperResult fxsave(Cpu& cpu, const Instruction& insn) {
    const Gva area = cpu.effective_address(insn);
    HelperResult refused{};
    if (fx_refused(cpu, area, refused)) return refused;
    if (!check_access(cpu, insn.segment, area, legacy_bytes, true)) return HelperResult::fault;
    LiveState live(cpu);
    const bool sse = (cpu.cb.state.cr4 & cr4::osfxsr) != 0;
    Extents extents;
    add_x87_and_sse(extents, insn, true, sse, sse);
    // What is reserved at the end of the image is not written, but can fault.
    if (!cpu.probe_write(area, sizeof live.image().legacy)) return HelperResult::fault;
    return store(cpu, area, bytes_of(live.image()), extents.list()) ? HelperResult::next
                                                                    : HelperResult::fault;
}

HelperResult fxrstor(Cpu& cpu, const Instruction& insn) {
    const Gva area = cpu.effective_address(insn);
    HelperResult refused{};
    if (fx_refused(cpu, area, refused)) return refused;
    if (!check_access(cpu, insn.segment, area, legacy_bytes, false)) return HelperResult::fault;
    LiveState live(cpu);
    const bool sse = (cpu.cb.state.cr4 & cr4::osfxsr) != 0;
    Extents extents;
    add_x87_and_sse(extents, insn, true, sse, sse);
    // All of the image is read, though not all of it is used.
    u8(&legacy)[512] = live.image().legacy;
    u8 content[sizeof legacy];
    if (!cpu.read(area, content, sizeof content)) return HelperResult::fault;
    if (sse && (mxcsr_of(content) & ~mxcsr_mask()) != 0) return cpu.raise(Vector::gp, 0);
    for (const Extent& e : extents.list())
        std::memcpy(legacy + e.offset, content + e.offset, e.size);
    normalise_x87(legacy);
    return HelperResult::next;
}

HelperResult xsave(Cpu& cpu, const Instruction& insn) {
    enum class Form : u8 { standard, optimized, compact } form{};
    switch (insn.mnemonic) {
    case ZYDIS_MNEMONIC_XSAVE:
    case ZYDIS_MNEMONIC_XSAVE64: form = Form::standard; break;
    case ZYDIS_MNEMONIC_XSAVEOPT:
    case ZYDIS_MNEMONIC_XSAVEOPT64: form = Form::optimized; break;
    case ZYDIS_MNEMONIC_XSAVEC:
    case ZYDIS_MNEMONIC_XSAVEC64: form = Form::compact; break;
    default: return cpu.raise(Vector::ud); // XSAVES is not shown
    }
    const Gva area = cpu.effective_address(insn);
    HelperResult refused{};
    if (xsave_refused(cpu, area, refused)) return refused;

    const u64 requested = requested_features(cpu);
    const u64 layout = form == Form::compact ? requested | compacted : 0;
    if (!check_access(cpu, insn.segment, area, area_bytes(requested, layout), true))
        return HelperResult::fault;
    LiveState live(cpu);
    const u64 all_in_use = live.in_use();
    live.seal_as(all_in_use);
    const u64 in_use = all_in_use & requested;
    u64 saved = form == Form::standard ? requested : in_use;
    bool mxcsr = (requested & (xcr0::sse | xcr0::avx)) != 0;
    XsaveHeader header;
    if (form == Form::compact) {
        // Here MXCSR is part of the SSE component, which is saved for its sake too.
        if (live.mxcsr() != LiveState::initial_mxcsr) saved |= requested & xcr0::sse;
        mxcsr = (saved & xcr0::sse) != 0;
        header.xstate_bv = saved;
        header.xcomp_bv = layout;
    } else {
        u64 old = 0;
        // The header is read and written: a fault says so.
        if (!cpu.probe_write(area + header_offset, sizeof old) ||
            !cpu.read_object(area + header_offset, old))
            return HelperResult::fault;
        header.xstate_bv = (old & ~requested) | in_use;
    }

    ExtendedState& image = live.image();
    if (!cpu.avx512_in_use) initialise_avx512(image, saved);
    std::memcpy(image.header, &header, sizeof header); // `live` writes its own behind us
    Extents extents;
    add_x87_and_sse(extents, insn, (saved & xcr0::x87) != 0, mxcsr, (saved & xcr0::sse) != 0);
    extents.add(header_offset, form == Form::compact ? 16 : 8);
    add_extended(extents, insn, saved, layout);
    return store(cpu, area, bytes_of(image), extents.list()) ? HelperResult::next
                                                             : HelperResult::fault;
}

HelperResult xrstor(Cpu& cpu, const Instruction& insn) {
    if (insn.mnemonic != ZYDIS_MNEMONIC_XRSTOR && insn.mnemonic != ZYDIS_MNEMONIC_XRSTOR64)
        return cpu.raise(Vector::ud); // XRSTORS is not shown
    const Gva area = cpu.effective_address(insn);
    HelperResult refused{};
    if (xsave_refused(cpu, area, refused)) return refused;

    XsaveHeader header;
    const u64 requested = requested_features(cpu);
    if (!check_access(cpu, insn.segment, area, ymm_offset, false) ||
        !cpu.read_object(area + header_offset, header))
        return HelperResult::fault;
    if (!header_valid(header, cpu.cb.state.xcr0)) return cpu.raise(Vector::gp, 0);
    const u64 layout = (header.xcomp_bv & compacted) != 0 ? header.xcomp_bv : 0;
    if (!check_access(cpu, insn.segment, area, area_bytes(requested, layout), false))
        return HelperResult::fault;

    LiveState live(cpu);
    const u64 loaded = requested & header.xstate_bv;
    const bool is_compact = layout != 0;
    // The standard format loads MXCSR whatever XSTATE_BV says; in the compacted one it belongs to
    // SSE.
    const bool load_mxcsr =
        is_compact ? (loaded & xcr0::sse) != 0 : (requested & (xcr0::sse | xcr0::avx)) != 0;
    Extents extents;
    add_x87_and_sse(extents, insn, (loaded & xcr0::x87) != 0, load_mxcsr,
                    (loaded & xcr0::sse) != 0);
    add_extended(extents, insn, loaded, layout);
    // Nothing changes before all has been read.
    alignas(64) u8 content[sizeof(ExtendedState)];
    if (!load(cpu, area, content, extents.list())) return HelperResult::fault;
    if (load_mxcsr && (mxcsr_of(content) & ~mxcsr_mask()) != 0) return cpu.raise(Vector::gp, 0);

    ExtendedState& image = live.image();
    for (const Extent& e : extents.list())
        std::memcpy(bytes_of(image) + e.image, content + e.image, e.size);
    if ((loaded & xcr0::x87) != 0) normalise_x87(image.legacy);
    const u64 initial = requested & ~header.xstate_bv;
    if ((initial & xcr0::x87) != 0) initialise_x87(image);
    if ((initial & xcr0::sse) != 0) {
        std::memset(image.legacy + ExtendedState::xmm0, 0, vector_bytes(insn));
        if (is_compact) {
            constexpr u32 mxcsr = LiveState::initial_mxcsr;
            std::memcpy(image.legacy + ExtendedState::mxcsr, &mxcsr, sizeof mxcsr);
        }
    }
    for_each_component(initial, 0, [&](const Component& c, u32) {
        std::memset(bytes_of(image) + c.offset, 0, accessible_bytes(c, insn));
    });
    if (!cpu.avx512_in_use && (loaded & xcr0::avx512) != 0) {
        initialise_avx512(image, ~loaded);
        live.begin_avx512();
    }
    return HelperResult::next;
}

} // namespace gnomon::processor::soft
