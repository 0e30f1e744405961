// SPDX-License-Identifier: Apache-2.0
/// @file VGATHER*, VPGATHER*, VSCATTER* and VPSCATTER*: one access for each element that the mask
/// selects, lowest first, and with it the element's mask is cleared. So an instruction that faults
/// goes on from there when it is run again.
#include "base/verify.h"
#include "processor/soft/access_checks.h"
#include "processor/soft/extended_state.h"
#include "processor/soft/helpers.h"
#include "processor/soft/vector_elements.h"

#include <Zydis/Zydis.h>
#include <algorithm>
#include <cstring>

namespace gnomon::processor::soft {
namespace {

using Zmm = u8[64];

struct Shape {
    unsigned index_size = 0; ///< bytes; 0: neither a gather nor a scatter
    unsigned element_size = 0;
};

Shape shape_of(u16 mnemonic) {
    switch (mnemonic) {
    case ZYDIS_MNEMONIC_VGATHERDPS:
    case ZYDIS_MNEMONIC_VPGATHERDD:
    case ZYDIS_MNEMONIC_VSCATTERDPS:
    case ZYDIS_MNEMONIC_VPSCATTERDD: return {4, 4};
    case ZYDIS_MNEMONIC_VGATHERDPD:
    case ZYDIS_MNEMONIC_VPGATHERDQ:
    case ZYDIS_MNEMONIC_VSCATTERDPD:
    case ZYDIS_MNEMONIC_VPSCATTERDQ: return {4, 8};
    case ZYDIS_MNEMONIC_VGATHERQPS:
    case ZYDIS_MNEMONIC_VPGATHERQD:
    case ZYDIS_MNEMONIC_VSCATTERQPS:
    case ZYDIS_MNEMONIC_VPSCATTERQD: return {8, 4};
    case ZYDIS_MNEMONIC_VGATHERQPD:
    case ZYDIS_MNEMONIC_VPGATHERQQ:
    case ZYDIS_MNEMONIC_VSCATTERQPD:
    case ZYDIS_MNEMONIC_VPSCATTERQQ: return {8, 8};
    default: return {};
    }
}

/// The instruction's elements: which are selected, and where they lie.
class Elements {
public:
    Elements(const Cpu& cpu, const Instruction& insn, const LiveState& live)
        : m_cpu(cpu), m_insn(insn), m_shape(shape_of(insn.mnemonic)) {
        live.get_zmm(insn.index & 31, m_index);
        m_count = insn.vector_length / std::max(m_shape.index_size, m_shape.element_size);
        if (insn.evex) {
            m_selected = static_cast<u32>(live.opmask(insn.mask) & ((u64{1} << m_count) - 1));
        } else {
            Zmm mask;
            live.get_zmm(insn.vvvv & 15, mask);
            m_selected = element_mask(mask, m_count, m_shape.element_size);
        }
    }
    [[nodiscard]] unsigned count() const { return m_count; }
    [[nodiscard]] unsigned size() const { return m_shape.element_size; }
    [[nodiscard]] u32 selected() const { return m_selected; }
    [[nodiscard]] bool is_selected(unsigned i) const { return (m_selected >> i & 1) != 0; }
    void clear(unsigned i) { m_selected &= ~(u32{1} << i); }

    [[nodiscard]] Gva address(unsigned i) const {
        const u64 base = m_insn.base <= r15 ? m_cpu.cb.state.gpr[m_insn.base] : 0;
        const u64 mask = m_insn.address_size == 8 ? ~u64{0} : 0xffffffff;
        const u64 offset = base + static_cast<u64>(index(i)) * m_insn.scale +
                           static_cast<u64>(m_insn.displacement);
        return m_cpu.linear(m_insn.segment, offset & mask);
    }

    /// The mask register as it is now: what has been done is cleared, and whatever lies above the
    /// elements.
    void store_mask(LiveState& live) const {
        if (m_insn.evex) {
            live.set_opmask(m_insn.mask, m_selected);
            return;
        }
        Zmm mask = {};
        for (unsigned i = 0; i < m_count; ++i)
            if (is_selected(i)) std::memset(mask + i * size(), 0xff, size());
        live.set_zmm(m_insn.vvvv & 15, mask);
    }

private:
    [[nodiscard]] i64 index(unsigned i) const {
        if (m_shape.index_size == 4) {
            i32 value;
            std::memcpy(&value, m_index + 4U * i, sizeof value);
            return value;
        }
        i64 value;
        std::memcpy(&value, m_index + 8U * i, sizeof value);
        return value;
    }

    const Cpu& m_cpu;
    const Instruction& m_insn;
    Shape m_shape;
    Zmm m_index;
    unsigned m_count = 0;
    u32 m_selected = 0;
};

/// What no instruction of these may have; true if `result` is to be returned.
bool refused(Cpu& cpu, const Instruction& insn, HelperResult& result) {
    // There is no VSIB with 16-bit addressing, and the mask is never k0.
    if (shape_of(insn.mnemonic).index_size == 0 || insn.address_size == 2 ||
        insn.index == Instruction::no_register || (insn.evex && insn.mask == 0)) {
        result = cpu.raise(Vector::ud);
        return true;
    }
    constexpr u64 avx = xcr0::sse | xcr0::avx;
    return avx_refused(cpu, result, insn.evex ? avx | xcr0::avx512 : avx);
}

} // namespace

HelperResult gather(Cpu& cpu, const Instruction& insn) {
    // The registers must differ.
    if (insn.reg == insn.index ||
        (!insn.evex && (insn.reg == insn.vvvv || insn.index == insn.vvvv)))
        return cpu.raise(Vector::ud);
    HelperResult result{};
    if (refused(cpu, insn, result)) return result;

    LiveState live(cpu);
    Elements elements(cpu, insn, live);
    const unsigned size = elements.size();
    Zmm destination;
    live.get_zmm(insn.reg & 31, destination);
    bool progress = false;
    for (unsigned i = 0; i < elements.count(); ++i) {
        if (!elements.is_selected(i)) continue;
        const Gva gva = elements.address(i);
        u8 element[8];
        if (!check_access(cpu, insn.segment, gva, size, false) || !cpu.read(gva, element, size)) {
            // What was gathered stays, so that running the instruction again goes on from here.
            if (progress) {
                live.set_zmm(insn.reg & 31, destination);
                elements.store_mask(live);
            }
            return HelperResult::fault;
        }
        std::memcpy(destination + i * size, element, size);
        elements.clear(i);
        progress = true;
        cpu.mmio_have = cpu.mmio_taken = 0; // the element is not read again
    }
    const unsigned used = elements.count() * size;
    std::memset(destination + used, 0, sizeof destination - used);
    live.set_zmm(insn.reg & 31, destination);
    elements.store_mask(live);
    return HelperResult::next;
}

HelperResult scatter(Cpu& cpu, const Instruction& insn) {
    HelperResult result{};
    if (refused(cpu, insn, result)) return result;

    LiveState live(cpu);
    Elements elements(cpu, insn, live);
    const unsigned size = elements.size();
    Zmm source;
    live.get_zmm(insn.reg & 31, source);
    // Which elements come before the first that faults.
    unsigned end = 0;
    bool some = false;
    for (; end < elements.count(); ++end) {
        if (!elements.is_selected(end)) continue;
        const Gva gva = elements.address(end);
        if (!check_access(cpu, insn.segment, gva, size, true) || !cpu.probe_write(gva, size)) {
            if (!some) return HelperResult::fault;
            break;
        }
        some = true;
    }
    const Pending pending = cpu.pending;
    const Exit exit = cpu.exit;
    for (unsigned i = 0; i < end; ++i) {
        if (!elements.is_selected(i)) continue;
        VERIFY(cpu.write(elements.address(i), source + i * size, size)); // it was probed
        elements.clear(i);
    }
    elements.store_mask(live);
    if (elements.selected() == 0) return HelperResult::next;
    if (!cpu.deferred_exit && !cpu.code_changed) {
        cpu.pending = pending;
        cpu.exit = exit;
        return HelperResult::fault;
    }
    // First what was written. When the instruction comes again it faults at once, with nothing else
    // to do.
    cpu.pending.kind = Pending::Kind::none;
    cpu.mid_repeat = true;
    return HelperResult::dispatch;
}

} // namespace gnomon::processor::soft
