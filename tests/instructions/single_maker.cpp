// SPDX-License-Identifier: Apache-2.0
#include "single_maker.h"

#include "host_state.h"
#include "values.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

namespace gnomon::test {

using processor::ExtendedState;
using processor::soft::Action;
using processor::soft::gpr_number;
namespace soft = processor::soft;

namespace {

constexpr u64 reach = u64{1} << 20; ///< margin of the reservation that no access is aimed at
constexpr u8 no_register = soft::Instruction::no_register;

bool canonical(u64 a) { return soft::Cpu::canonical(a); }
bool is_gpr(ZydisRegister r) { return gpr_number(r) != no_register; }
bool is_instruction_pointer(ZydisRegister r) {
    return r == ZYDIS_REGISTER_RIP || r == ZYDIS_REGISTER_EIP;
}
bool on(u64 address, layout::PageKind kind) {
    return layout::in_data(address) && layout::kind_of(address) == kind;
}

} // namespace

bool SingleMaker::choose_instruction(const Sample* given) {
    place_code();
    if (given == nullptr) return m_list.sample(m_form, m_sample.address, m_random, {}, m_sample);
    m_sample.bytes = given->bytes;
    return m_list.decode(m_sample);
}

std::optional<Program> SingleMaker::make(const Sample* given) {
    if (!choose_instruction(given) || differs_by_vendor(m_sample.decoded)) return std::nullopt;
    m_program.code32 = m_list.code32();
    m_program.state = random_state(m_random, false, m_program.code32);
    prepare_registers();
    const bool addresses = m_form.action != Action::lea && m_form.action != Action::nothing;
    // What registers alone address comes first. The place is for the explicit operand, if any.
    bool has_explicit = false;
    for (unsigned i = 0; i < z().operand_count; ++i)
        has_explicit = has_explicit || explicit_memory(operand(i));
    const std::optional<Place> place = m_place;
    if (has_explicit) m_place.reset();
    for (unsigned i = 0; i < z().operand_count && addresses; ++i)
        if (!explicit_memory(operand(i)) && !aim_implicit(operand(i))) return std::nullopt;
    if (has_explicit) m_place = place;
    for (unsigned i = 0; i < z().operand_count && addresses; ++i)
        if (explicit_memory(operand(i)) && !aim_explicit(i)) return std::nullopt;
    if (!place_transfer()) return std::nullopt;
    prepare_special();
    if (!safe()) return std::nullopt;
    finish();
    return std::move(m_program);
}

bool SingleMaker::uses_feature_mask() const {
    return is({ZYDIS_MNEMONIC_XSAVE, ZYDIS_MNEMONIC_XSAVE64, ZYDIS_MNEMONIC_XSAVEC,
               ZYDIS_MNEMONIC_XSAVEC64, ZYDIS_MNEMONIC_XSAVEOPT, ZYDIS_MNEMONIC_XSAVEOPT64,
               ZYDIS_MNEMONIC_XRSTOR, ZYDIS_MNEMONIC_XRSTOR64});
}

u64 SingleMaker::segment_base(const ZydisDecodedOperand& o) const {
    if (o.mem.segment == ZYDIS_REGISTER_FS) return m_program.state.fs_base;
    if (o.mem.segment == ZYDIS_REGISTER_GS) return m_program.state.gs_base;
    return 0;
}

/// Sum of the registers and the displacement of a memory operand, within the address size.
u64 SingleMaker::effective_address(const ZydisDecodedOperand& o) {
    u64 offset = o.mem.disp.has_displacement ? static_cast<u64>(o.mem.disp.value) : 0;
    if (is_instruction_pointer(o.mem.base))
        offset += m_sample.address + z().length;
    else if (is_gpr(o.mem.base))
        offset += gpr(gpr_number(o.mem.base));
    if (is_gpr(o.mem.index)) offset += gpr(gpr_number(o.mem.index)) * o.mem.scale;
    const u64 size = o.size / 8U;
    const bool stack = !explicit_memory(o) && o.mem.base != ZYDIS_REGISTER_NONE &&
                       gpr_number(o.mem.base) == processor::rsp;
    if (stack && (o.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0) offset -= size;
    // POP [rSP + n] counts from the stack pointer after the pop.
    if (is({ZYDIS_MNEMONIC_POP}) && explicit_memory(o) && gpr_number(o.mem.base) == processor::rsp)
        offset += size;
    if (is({ZYDIS_MNEMONIC_XLAT})) offset += gpr(processor::rax) & 0xff;
    if (m_form.action == Action::bit_test && operand(1).type == ZYDIS_OPERAND_TYPE_REGISTER) {
        const unsigned width = operand(1).size, shift = 64U - width;
        const i64 bit = static_cast<i64>(gpr(gpr_number(operand(1).reg.value)) << shift) >> shift;
        offset += static_cast<u64>(bit >> (width == 64 ? 6 : width == 32 ? 5 : 4)) * size;
    }
    // Implicit stack accesses go by the stack's size.
    return within_width(offset, stack ? z().stack_width : z().address_width);
}

Range SingleMaker::accessed(const ZydisDecodedOperand& o) {
    u64 address = effective_address(o) + segment_base(o);
    if (m_program.code32) address = within_width(address, 32);
    return {address, std::max<u64>(o.size / 8U, 1)};
}

void SingleMaker::place_code() {
    u64 offset = 0x100 + m_random.below(0xd00);
    if (m_random.percent(12)) offset = page_size - 1 - m_random.below(12); // across a page end
    m_sample.address = layout::code_begin + offset;
}

/// Whether the outcome there is the architecture's to say, and harmless.
bool SingleMaker::can_have(const Place& place, u64 size) const {
    if (place.across && size < 2) return false;
    // Locked accesses across cache lines stop all processors, and some hosts punish them.
    if (place.across && is_locked()) return false;
    if (place.across && pushes_wide_selector() && place.guarded()) return false;
    // Whether the bytes that a mask leaves out can fault is up to the processor.
    return !(is_masked_move() || uses_feature_mask()) || !place.guarded();
}

/// A place in the data area for `size` bytes.
u64 SingleMaker::choose_target(u64 size) {
    if (m_place) {
        const Place place = *std::exchange(m_place, std::nullopt);
        if (can_have(place, size)) return address_at(place, size, m_random);
        m_program.place_refused = true;
    }
    const bool masked = is_masked_move();
    if (m_random.percent(2) && !masked) return layout::data_begin - 1 - m_random.below(64);
    const u64 page = layout::data_begin + m_random.below(layout::data_pages) * page_size;
    u64 offset = m_random.below(page_size);
    const unsigned place = static_cast<unsigned>(m_random.below(100));
    if (masked) {
        const u64 calm = m_random.below(layout::calm_pages) * page_size;
        return layout::data_begin + calm + m_random.below(page_size - size);
    }
    if (place < 15 && size > 1)
        offset = page_size - 1 - m_random.below(size - 1);
    else if (place < 22)
        offset = page_size - size % page_size;
    if (is_locked() || m_random.percent(60))
        offset &= ~(std::bit_ceil(std::clamp<u64>(size, 1, 64)) - 1);
    return page + offset;
}

/// Something to find at a place.
void SingleMaker::fill_around(u64 target, u64 size) {
    const u64 begin = std::clamp(target - 32, layout::data_begin, layout::data_end);
    const u64 end = std::clamp(target + size + 32, layout::data_begin, layout::data_end);
    if (begin >= end) return;
    Bytes b{begin, std::vector<u8>(end - begin)};
    fill_interesting(m_random, b.content);
    m_program.memory.push_back(std::move(b));
    m_targets.push_back({target, size});
    // Two bytes of code, of which the bytes of another must not change one.
    if (on(target, layout::PageKind::code) && target % page_size <= page_size - 2 &&
        m_random.percent(70) && std::ranges::none_of(m_program.translated, [&](u64 other) {
            return other + 1 == target || target + 1 == other;
        }))
        m_program.translated.push_back(target);
}

void SingleMaker::prepare_registers() {
    const ZydisDecodedInstruction& i = z();
    if ((i.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE)) !=
            0 ||
        m_form.action == Action::loop) {
        gpr(processor::rcx) = m_random.percent(85) ? m_random.below(24) : m_random.below(1500);
        // Whether a count of zero comes before the check of privilege is up to the processor.
        if (i.meta.category == ZYDIS_CATEGORY_IOSTRINGOP) gpr(processor::rcx) += 1;
        if (i.address_width == 32 && !m_program.code32 && m_random.percent(50))
            gpr(processor::rcx) |= m_random.next() << 32;
    }
    if (is({ZYDIS_MNEMONIC_DIV, ZYDIS_MNEMONIC_IDIV}) && m_random.percent(75)) {
        gpr(processor::rdx) = 0;
        gpr(processor::rax) &= m_random.percent(50) ? 0xff : 0x7fffffff;
    }
    if (uses_feature_mask()) {
        gpr(processor::rax) &= ~u64{0xffffffff};
        gpr(processor::rax) |= m_random.next() & HostState::components();
        gpr(processor::rdx) &= ~u64{0xffffffff};
    }
    if (is({ZYDIS_MNEMONIC_WRFSBASE, ZYDIS_MNEMONIC_WRGSBASE}) && m_random.percent(70))
        for (u64& r : m_program.state.gpr)
            r &= 0x7fffffffffff;
}

/// Gives a register of an address the value that makes it `wanted` in as many bits as the address
/// has.
void SingleMaker::set_address_register(u8 n, u64 wanted) {
    const unsigned width = z().address_width;
    if (width == 64) {
        gpr(n) = wanted;
        return;
    }
    const u64 mask = (u64{1} << width) - 1;
    u64 rest = m_random.percent(50) ? m_random.next() : 0;
    if (m_program.code32) rest &= 0xffffffff;
    gpr(n) = (rest & ~mask) | (wanted & mask);
}

void SingleMaker::aim_stack(const ZydisDecodedOperand& o) {
    const u64 size = std::max<u64>(o.size / 8U, 1);
    const bool placed = m_place.has_value();
    u64 target = choose_target(size);
    if (!placed && m_random.percent(80)) target &= ~u64{7};
    fill_around(target - 64, 128 + size);
    if (m_form.action == Action::leave) { // the frame is what is read
        gpr(processor::rbp) = target;
        gpr(processor::rsp) = choose_target(8);
        return;
    }
    const bool pushes = (o.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0;
    gpr(processor::rsp) = target + (pushes ? size : 0);
    if (is({ZYDIS_MNEMONIC_ENTER})) {
        const u64 frame = choose_target(8);
        gpr(processor::rbp) = frame;
        fill_around(frame - 32, 64);
    }
}

bool SingleMaker::aim_implicit(const ZydisDecodedOperand& o) {
    if (o.type != ZYDIS_OPERAND_TYPE_MEMORY) return true;
    const u8 base = gpr_number(o.mem.base);
    if (base == no_register) return true;
    if (base == processor::rsp || base == processor::rbp) {
        aim_stack(o);
        return true;
    }
    // MOVS and CMPS have two operands: now the one, now the other is where the case wants it.
    const bool two = is({ZYDIS_MNEMONIC_MOVSB, ZYDIS_MNEMONIC_MOVSW, ZYDIS_MNEMONIC_MOVSD,
                         ZYDIS_MNEMONIC_MOVSQ, ZYDIS_MNEMONIC_CMPSB, ZYDIS_MNEMONIC_CMPSW,
                         ZYDIS_MNEMONIC_CMPSD, ZYDIS_MNEMONIC_CMPSQ});
    const std::optional<Place> kept = m_place;
    const bool other = two && m_place && m_random.percent(50);
    if (other) m_place.reset();
    const u64 size = std::max<u64>(o.size / 8U, 1);
    const u64 target = choose_target(size);
    if (other) m_place = kept;
    if (m_random.percent(2) && !is_masked_move() && z().address_width == 64) { // not canonical
        set_address_register(base, m_random.next() | u64{1} << 62);
        return true;
    }
    if (z().address_width == 16) { // as far as a segment's base allows
        u64& segment =
            o.mem.segment == ZYDIS_REGISTER_GS ? m_program.state.gs_base : m_program.state.fs_base;
        if (segment_base(o) != 0) segment = target - m_random.below(0xf000);
    }
    const u64 offset = base == processor::rbx ? gpr(processor::rax) & 0xff : 0; // XLAT
    set_address_register(base, target - segment_base(o) - offset);
    fill_around(target, std::max<u64>(size, 16));
    return true;
}

bool SingleMaker::aim_explicit(unsigned number) {
    const ZydisDecodedOperand o = operand(number);
    const u64 size = std::max<u64>(o.size / 8U, 1);
    m_target = choose_target(size);
    const auto& mem = o.mem;
    if (z().address_width == 16 && segment_base(o) != 0)
        (mem.segment == ZYDIS_REGISTER_FS ? m_program.state.fs_base : m_program.state.gs_base) =
            m_target - m_random.below(0xf000);
    const u64 displacement = mem.disp.has_displacement ? static_cast<u64>(mem.disp.value) : 0;
    const u64 effective = m_target - segment_base(o);
    const u8 base = gpr_number(mem.base);
    const bool vsib = mem.type == ZYDIS_MEMOP_TYPE_VSIB;
    const u8 index = vsib ? no_register : gpr_number(mem.index);
    if (is_instruction_pointer(mem.base)) {
        if (!patch_displacement(effective - (m_sample.address + z().length))) return false;
    } else if (vsib) {
        if (!aim_gather(o, base, effective - displacement)) return false;
    } else if (base == no_register && index == no_register) {
        if (!patch_displacement(effective)) return false;
    } else {
        aim_by_registers(o, effective - displacement, base, index);
    }
    const bool far = z().meta.branch_type == ZYDIS_BRANCH_TYPE_FAR; // of which the stack is another
    if (m_random.percent(2) && base != no_register && !vsib && !m_program.code32 && !far)
        gpr(base) = m_random.next() | u64{1} << 62; // not canonical
    limit_bit_offset(base, index);
    if (!vsib) m_target = accessed(operand(number)).address; // where it really is
    fill_around(m_target, std::max<u64>(size, 16));
    return true;
}

/// Chooses the registers of an address so that their sum is `wanted`, as nearly as they allow.
void SingleMaker::aim_by_registers(const ZydisDecodedOperand& o, u64 wanted, u8 base, u8 index) {
    const u64 scale = o.mem.scale;
    // Both count from where the operand really begins.
    if (is({ZYDIS_MNEMONIC_POP}) && base == processor::rsp) wanted -= o.size / 8U;
    if (base == no_register) {
        set_address_register(index,
                             static_cast<u64>(static_cast<i64>(wanted) / static_cast<i64>(scale)));
    } else if (index == no_register) {
        set_address_register(base, wanted);
    } else if (index == base) {
        const u64 factor = scale + 1;
        u64 inverse = factor; // modulo 2^64, by Newton, for odd factors
        for (unsigned i = 0; i < 6; ++i)
            inverse *= 2 - factor * inverse;
        set_address_register(base, scale == 1 ? wanted / 2 : wanted * inverse);
    } else {
        if (m_random.percent(60)) {
            gpr(index) = m_random.below(2000) - 1000;
            if (m_program.code32) gpr(index) &= 0xffffffff;
        }
        set_address_register(base, wanted - gpr(index) * scale);
    }
}

bool SingleMaker::patch_displacement(u64 value) {
    const auto& raw = z().raw.disp;
    const std::size_t bytes = raw.size / 8U;
    if (bytes == 0) return false;
    if (z().address_width == 32 && bytes == 4)
        value = static_cast<u64>(static_cast<i64>(static_cast<i32>(value)));
    if (bytes == 4 && value != static_cast<u64>(static_cast<i64>(static_cast<i32>(value))))
        return false;
    std::memcpy(m_sample.bytes.data() + raw.offset, &value, bytes);
    return m_list.decode(m_sample);
}

bool SingleMaker::aim_gather(const ZydisDecodedOperand& o, u8 base, u64 wanted) {
    if (base == no_register) return false;
    const bool wide_index =
        is({ZYDIS_MNEMONIC_VGATHERQPS, ZYDIS_MNEMONIC_VGATHERQPD, ZYDIS_MNEMONIC_VPGATHERQD,
            ZYDIS_MNEMONIC_VPGATHERQQ, ZYDIS_MNEMONIC_VSCATTERQPS, ZYDIS_MNEMONIC_VSCATTERQPD,
            ZYDIS_MNEMONIC_VPSCATTERQD, ZYDIS_MNEMONIC_VPSCATTERQQ});
    const auto n = static_cast<unsigned>(ZydisRegisterGetId(o.mem.index));
    const std::size_t size = wide_index ? 8 : 4;
    set_address_register(base, wanted); // the first element is at `m_target`
    ExtendedState& e = m_program.state.extended;
    for (std::size_t at = 0; at < 64; at += size) {
        const i64 value =
            at == 0 ? 0 : static_cast<i64>(m_random.below(400)) - (m_random.percent(20) ? 200 : 0);
        u8* const to = n >= 16   ? e.high_zmm[n - 16] + at
                       : at < 16 ? e.legacy + ExtendedState::xmm0 + 16 * n + at
                       : at < 32 ? e.ymm_high[n] + (at - 16)
                                 : e.zmm_high[n] + (at - 32);
        std::memcpy(to, &value, size);
    }
    return true;
}

/// The bit offset of BT and its like reaches far: keep it in the neighbourhood.
void SingleMaker::limit_bit_offset(u8 base, u8 index) {
    if (m_form.action != Action::bit_test || operand(1).type != ZYDIS_OPERAND_TYPE_REGISTER) return;
    const u8 n = gpr_number(operand(1).reg.value);
    if (n == base || n == index) return;
    const unsigned width = operand(1).size;
    const u64 offset = m_random.percent(50)   ? m_random.below(width)
                       : m_random.percent(50) ? m_random.below(256)
                                              : m_random.below(65536) - 32768;
    const u64 mask = width == 64 ? ~u64{0} : (u64{1} << width) - 1;
    gpr(n) = (gpr(n) & ~mask) | (offset & mask);
}

/// An x87 store whose exception is not masked stores nothing. On device registers, which must not
/// be read to learn what to leave there, the guest's stores zeros: known, and not compared.
bool SingleMaker::stores_to_mmio_perhaps() {
    u16 fcw;
    std::memcpy(&fcw, m_program.state.extended.legacy + ExtendedState::fcw, sizeof fcw);
    if ((fcw & 0x3f) == 0x3f || m_form.key.front() != 'f') return false;
    for (unsigned i = 0; i < z().operand_count; ++i) {
        if (!explicit_memory(operand(i))) continue;
        const u64 last = m_target + std::max(operand(i).size / 8U, 1U) - 1;
        if (on(m_target, layout::PageKind::mmio) || on(last, layout::PageKind::mmio)) return true;
    }
    return false;
}

/// Whether every access stays in the reservation, or cannot be mapped.
bool SingleMaker::safe() {
    // Whether parts of the area that are not written can fault is up to the processor.
    if (uses_feature_mask()) {
        const u64 end = m_target + 0xa00; // more than guests are shown
        for (const u64 at : {m_target, end})
            if (!layout::in_data(at) || on(at, layout::PageKind::read_only) ||
                on(at, layout::PageKind::absent))
                return false;
        if ((gpr(processor::rax) & 0xffffffff & ~HostState::components()) != 0 ||
            (gpr(processor::rdx) & 0xffffffff) != 0)
            return false; // the host has components that guests are not shown
    }
    // The frame that ENTER copies from is what it has just pushed: on device registers nobody can
    // tell what that is.
    if (is({ZYDIS_MNEMONIC_ENTER}) && on(gpr(processor::rsp) - 1, layout::PageKind::mmio) &&
        gpr(processor::rsp) - gpr(processor::rbp) + 512 < 1024)
        return false;
    if (stores_to_mmio_perhaps()) return false;
    // Whether a far call's stack is as wide as the old code's or the new code's is up to the
    // processor.
    if (z().meta.branch_type == ZYDIS_BRANCH_TYPE_FAR && !canonical(gpr(processor::rsp)))
        return false;
    // Whether the stack after a far return is looked at before the selector is up to the processor.
    if (z().meta.branch_type == ZYDIS_BRANCH_TYPE_FAR && m_form.action == Action::ret &&
        z().operand_count_visible != 0) {
        const Range end = {gpr(processor::rsp) + z().operand_width / 4U +
                               (z().raw.imm[0].value.u & 0xffff),
                           z().operand_width / 8U};
        if (may_fault(end)) return false;
    }
    if (pushes_wide_selector() && may_fault({gpr(processor::rsp) - 2, 2})) return false;
    if (m_form.action == Action::nothing) return true;
    for (unsigned n = 0; n < z().operand_count; ++n) {
        const ZydisDecodedOperand& o = operand(n);
        if (o.type != ZYDIS_OPERAND_TYPE_MEMORY || o.mem.type == ZYDIS_MEMOP_TYPE_AGEN) continue;
        const auto [address, size] = accessed(o);
        const u64 effective = address - segment_base(o);
        // Whether a sum that only the base makes canonical is taken, and where the bytes behind
        // offset 0xffff lie, is up to the processor.
        if (!m_program.code32 && canonical(address) && !canonical(effective)) return false;
        if (z().address_width == 16 && (effective & 0xffff) + size > 0x10000) return false;
        const bool inside =
            address >= layout::reserve_begin + reach && address < layout::reserve_end - reach;
        // Whether the bytes that a mask leaves out can fault is up to the processor.
        const bool low =
            address < layout::low_end && address + size <= layout::low_end && !is_masked_move();
        if (inside || low) continue;
        if (m_program.code32 || canonical(address) || canonical(address + size)) return false;
    }
    return true;
}

/// Instructions that push or pop several items access each for itself.
void SingleMaker::note_stack_items() {
    const u64 size = z().operand_width / 8U;
    const bool far = z().meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;
    const bool iret = is({ZYDIS_MNEMONIC_IRET, ZYDIS_MNEMONIC_IRETD, ZYDIS_MNEMONIC_IRETQ});
    const bool call = m_form.action == Action::call;
    const bool pusha = is({ZYDIS_MNEMONIC_PUSHA, ZYDIS_MNEMONIC_PUSHAD}),
               popa = is({ZYDIS_MNEMONIC_POPA, ZYDIS_MNEMONIC_POPAD});
    const u64 stack = gpr(processor::rsp);
    const auto items = [&](u64 first, u64 count) {
        for (u64 n = 0; n < count; ++n)
            m_program.accesses.push_back({first + n * size, size});
    };
    if (iret)
        items(stack, 5);
    else if (far && m_form.action == Action::ret)
        items(stack, 2);
    else if (far && call)
        items(stack - 2 * size, 2);
    else if (pusha)
        items(stack - 8 * size, 8);
    else if (popa)
        items(stack, 8);
    if (is({ZYDIS_MNEMONIC_ENTER})) {
        const u64 level = z().raw.imm[1].value.u & 31;
        const u64 pushed = (level + 1) * size;
        items(stack - pushed, level + 1);
        if (level > 1) items(gpr(processor::rbp) - (level - 1) * size, level - 1);
        m_program.accesses.push_back({stack - pushed - (z().raw.imm[0].value.u & 0xffff), size});
        // What was pushed before the fault stays, below the stack pointer.
        m_program.not_compared_on_fault.push_back({stack - pushed, pushed});
    }
    if (pusha) m_program.not_compared_on_fault.push_back({stack - 8 * size, 8 * size}); // likewise
    if (far && call) m_program.not_compared_on_fault.push_back({stack - 2 * size, 2 * size});
}

/// The operand that the case is about: the explicit one, else the first implicit one.
void SingleMaker::note_accesses() {
    if (m_form.action == Action::lea || m_form.action == Action::nothing) return;
    for (const bool wanted : {true, false})
        for (unsigned i = 0; i < z().operand_count; ++i) {
            const ZydisDecodedOperand& o = operand(i);
            if (o.type != ZYDIS_OPERAND_TYPE_MEMORY || o.mem.type == ZYDIS_MEMOP_TYPE_AGEN ||
                explicit_memory(o) != wanted)
                continue;
            Range range = accessed(o);
            if (m_program.operand.size == 0) m_program.operand = range;
            if ((z().attributes &
                 (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE)) != 0) {
                const u64 count =
                    std::max<u64>(within_width(gpr(processor::rcx), z().address_width), 1);
                const bool backward = (m_program.state.rflags & processor::rflags::df) != 0;
                if (backward) range.address -= (count - 1) * range.size;
                range.size *= count;
            }
            m_program.accesses.push_back(range);
        }
    constexpr u64 one_piece = 32;
    m_program.in_pieces =
        m_program.operand.size > one_piece || is({ZYDIS_MNEMONIC_FNSTENV, ZYDIS_MNEMONIC_FLDENV});
    note_stack_items();
}

void SingleMaker::finish() {
    for (const u64 place : m_program.translated)
        put(place, std::initializer_list<u8>{0xcd, 0x80}); // what the guest runs to have code there
    m_program.rip = m_sample.address;
    m_program.code.push_back({m_sample.address, m_sample.bytes});
    m_program.text = m_sample.text() + "\n";
    for (const Range& t : m_targets)
        m_program.text += fmt::format("  memory at {:#x}, {} bytes\n", t.address, t.size);
    // By design: flags that the instruction overwrites anyway may be lost when it faults. With TF
    // set every instruction is a block, after which all flags are live - but those that it
    // overwrites are lost within the block.
    const soft::DecodedInstruction& d = m_sample.decoded;
    constexpr u16 all = processor::rflags::arithmetic;
    m_program.flags_compared_on_fault = ((all & ~d.flags_written) | d.flags_read) != 0;
    // Repeated comparisons that fault leave the flags as before them with Intel, those of the last
    // element with AMD.
    if ((z().attributes & (ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE)) != 0)
        m_program.flags_compared_on_fault = false;
    note_accesses();
    note_undefined();
    const u64 size = m_program.operand.size;
    m_program.misaligned =
        size >= 16 && m_program.operand.address % std::min<u64>(std::bit_floor(size), 64) != 0;
    // Which elements a gather has done before it faults is up to the processor.
    const bool gather = m_form.key.find(" vm") != std::string::npos;
    // MASKMOVQ may change TOP and the tags first.
    m_program.vectors_compared_on_fault = !gather && !is({ZYDIS_MNEMONIC_MASKMOVQ});
}

bool SingleMaker::placed(const Program& program) const {
    if (!m_wanted || program.place_refused || program.operand.size == 0) return true;
    const auto place = place_of(program.operand);
    return place && places()[*place] == *m_wanted;
}

std::optional<Program> make_single(const FormList& list, const Form& form,
                                   std::optional<unsigned> place, Random& random) {
    std::optional<Program> last;
    for (unsigned attempt = 0; attempt < 20; ++attempt) {
        SingleMaker maker(list, form, place, random);
        auto made = maker.make();
        if (!made) continue;
        if (maker.placed(*made)) return made;
        last = std::move(made);
    }
    return last;
}

std::optional<Program> make_single_of(const FormList& list, const Form& form, const Sample& sample,
                                      Random& random) {
    return SingleMaker(list, form, std::nullopt, random).make(&sample);
}

} // namespace gnomon::test
