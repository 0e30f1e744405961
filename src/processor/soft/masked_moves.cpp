// SPDX-License-Identifier: Apache-2.0
/// @file Masked moves: VMASKMOVPS/PD, VPMASKMOVD/Q, MASKMOVQ, (V)MASKMOVDQU.
///
/// What the mask leaves out is not accessed and cannot fault (SDM vol. 2, the instructions' own
/// pages).
#include "processor/soft/access_checks.h"
#include "processor/soft/extended_state.h"
#include "processor/soft/helpers.h"
#include "processor/soft/vector_elements.h"

#include <Zydis/Zydis.h>
#include <algorithm>
#include <bit>

namespace gnomon::processor::soft {
namespace {

constexpr unsigned ymm_bytes = 32;
using Ymm = u8[ymm_bytes];

/// Calls `function(first, count)` for every run of enabled elements, lowest first, until it returns
/// false.
template <class Function>
bool for_each_run(u32 enabled, Function&& function) {
    for (u64 rest = enabled; rest != 0;) {
        const auto first = static_cast<unsigned>(std::countr_zero(rest));
        const auto count = static_cast<unsigned>(std::countr_one(rest >> first));
        if (!function(first, count)) return false;
        rest &= ~(((u64{1} << count) - 1) << first);
    }
    return true;
}

/// The host address of the bytes from the first to the last enabled element, if they lie in one
/// directly usable page. Returns false if an exception is pending. `first` is the offset of the
/// first enabled element.
bool span_direct(Cpu& cpu, Gva gva, u32 enabled, unsigned size, bool write, Hva& host,
                 unsigned& first) {
    first = static_cast<unsigned>(std::countr_zero(enabled)) * size;
    const unsigned end = static_cast<unsigned>(std::bit_width(enabled)) * size;
    const Gva start = gva + first;
    host = nullptr;
    if (start.page_offset() + (end - first) > page_size) return true;
    cpu.pending.kind = Pending::Kind::none;
    host = cpu.direct(start, end - first, write);
    return host != nullptr || cpu.pending.kind == Pending::Kind::none;
}

/// Stores the enabled elements of `source`: all of them or, with false, none.
bool masked_store(Cpu& cpu, Gva gva, const u8* source, u32 enabled, unsigned size) {
    if (enabled == 0) return true;
    Hva host;
    unsigned first;
    if (!span_direct(cpu, gva, enabled, size, true, host, first)) return false;
    if (host != nullptr)
        return for_each_run(enabled, [&](unsigned run, unsigned count) {
            std::memcpy(host + (run * size - first), source + run * size, count * size);
            return true;
        });
    const auto probe = [&](unsigned run, unsigned count) {
        return cpu.probe_write(gva + run * size, count * size);
    };
    const auto write = [&](unsigned run, unsigned count) {
        for (unsigned i = run; i < run + count; ++i)
            if (!cpu.write(gva + i * size, source + i * size, size)) return false;
        return true;
    };
    return for_each_run(enabled, probe) && for_each_run(enabled, write);
}

/// Loads the enabled elements into `out`, which keeps its other bytes. With false, `out` may be
/// partly changed.
bool masked_load(Cpu& cpu, Gva gva, u8* out, u32 enabled, unsigned size) {
    if (enabled == 0) return true;
    Hva host;
    unsigned first;
    if (!span_direct(cpu, gva, enabled, size, false, host, first)) return false;
    return for_each_run(enabled, [&](unsigned run, unsigned count) {
        for (unsigned i = run; i < run + count; ++i) {
            if (host != nullptr)
                std::memcpy(out + i * size, host + (i * size - first), size);
            else if (!cpu.read(gva + i * size, out + i * size, size))
                return false;
        }
        return true;
    });
}

/// Whether the segment lets the enabled elements at `gva` be accessed. Alignment is not checked.
bool check_elements(Cpu& cpu, unsigned segment, Gva gva, u32 enabled, unsigned size, bool write) {
    return for_each_run(enabled, [&](unsigned run, unsigned count) {
        return check_access(cpu, segment, gva + run * size, count * size, write, 1);
    });
}

/// VMASKMOVPS/PD, VPMASKMOVD/Q: reg is the data, vvvv the mask.
HelperResult vector_maskmov(Cpu& cpu, const Instruction& insn, unsigned element_size) {
    HelperResult refused{};
    if (avx_refused(cpu, refused)) return refused;
    LiveState live(cpu);
    const unsigned elements = insn.vector_length / element_size;
    Ymm mask;
    live.get_ymm(insn.vvvv & 15, mask);
    const u32 enabled = element_mask(mask, elements, element_size);
    const Gva gva = cpu.effective_address(insn);
    const bool is_store = insn.opcode == 0x2e || insn.opcode == 0x2f || insn.opcode == 0x8e;
    if (!check_elements(cpu, insn.segment, gva, enabled, element_size, is_store))
        return HelperResult::fault;
    if (is_store) {
        Ymm source;
        live.get_ymm(insn.reg & 15, source);
        return masked_store(cpu, gva, source, enabled, element_size) ? HelperResult::next
                                                                     : HelperResult::fault;
    }
    Ymm destination = {}; // elements left out, and above a 128-bit destination, become zero
    if (!masked_load(cpu, gva, destination, enabled, element_size)) return HelperResult::fault;
    live.set_ymm(insn.reg & 15, destination);
    return HelperResult::next;
}

/// Stores bytes at DS:rDI, or another segment by prefix: the hidden operand of the byte-wise masked
/// moves.
bool store_bytes(Cpu& cpu, const Instruction& insn, const u8* source, u32 enabled) {
    const Gva gva = cpu.linear(insn.segment, cpu.gpr(rdi, insn.address_size));
    // The segment must be writable even if nothing is written, as processors have it.
    if (enabled == 0) return check_access(cpu, insn.segment, gva, 1, true, 1);
    return check_elements(cpu, insn.segment, gva, enabled, 1, true) &&
           masked_store(cpu, gva, source, enabled, 1);
}

/// (V)MASKMOVDQU: reg is the data, rm the mask.
HelperResult maskmovdqu(Cpu& cpu, const Instruction& insn) {
    const RegisterBlock& state = cpu.cb.state;
    HelperResult refused{};
    if (insn.mnemonic == ZYDIS_MNEMONIC_VMASKMOVDQU) {
        if (avx_refused(cpu, refused)) return refused;
    } else {
        if ((state.cr0 & cr0::em) != 0 || (state.cr4 & cr4::osfxsr) == 0)
            return cpu.raise(Vector::ud);
        if ((state.cr0 & cr0::ts) != 0) return cpu.raise(Vector::nm);
    }
    LiveState live(cpu);
    const u32 enabled = element_mask(live.xmm(insn.rm & 15), 16, 1);
    return store_bytes(cpu, insn, live.xmm(insn.reg & 15), enabled) ? HelperResult::next
                                                                    : HelperResult::fault;
}

HelperResult maskmovq(Cpu& cpu, const Instruction& insn) {
    const RegisterBlock& state = cpu.cb.state;
    if ((state.cr0 & cr0::em) != 0) return cpu.raise(Vector::ud);
    if ((state.cr0 & cr0::ts) != 0) return cpu.raise(Vector::nm);
    LiveState live(cpu);
    if (live.x87_exception_pending()) return cpu.raise(Vector::mf);
    const unsigned top = LiveState::top_of(live.fsw());
    const u8* const mask = live.st((insn.rm & 7U) - top);
    const u8* const data = live.st((insn.reg & 7U) - top);
    const u32 enabled = element_mask(mask, 8, 1);
    if (!store_bytes(cpu, insn, data, enabled)) return HelperResult::fault;
    // Every MMX instruction but EMMS makes TOP zero and all tags valid (SDM vol. 1 section 9.5.1).
    const auto fsw = static_cast<u16>(live.fsw() & ~LiveState::fsw_top);
    live.set_x87_words(live.fcw(), fsw, 0xff);
    return HelperResult::next;
}

} // namespace

HelperResult maskmov(Cpu& cpu, const Instruction& insn) {
    switch (insn.mnemonic) {
    case ZYDIS_MNEMONIC_VMASKMOVPS:
    case ZYDIS_MNEMONIC_VPMASKMOVD: return vector_maskmov(cpu, insn, 4);
    case ZYDIS_MNEMONIC_VMASKMOVPD:
    case ZYDIS_MNEMONIC_VPMASKMOVQ: return vector_maskmov(cpu, insn, 8);
    case ZYDIS_MNEMONIC_MASKMOVDQU:
    case ZYDIS_MNEMONIC_VMASKMOVDQU: return maskmovdqu(cpu, insn);
    case ZYDIS_MNEMONIC_MASKMOVQ: return maskmovq(cpu, insn);
    default: return cpu.raise(Vector::ud);
    }
}

} // namespace gnomon::processor::soft
