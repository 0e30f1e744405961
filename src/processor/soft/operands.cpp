// SPDX-License-Identifier: Apache-2.0
#include "processor/soft/operands.h"

#include "base/verify.h"
#include "processor/soft/access_checks.h"

#include <cstring>

namespace gnomon::processor::soft {

namespace {

constexpr std::size_t max_items = 8;

bool canonical_range(Gva address, u64 size) {
    return Cpu::canonical(address.value()) && Cpu::canonical((address + (size - 1)).value()) &&
           address.range_fits(size);
}

// Cpu::read and write raise #GP(0) for an address that is not canonical; in the stack segment that
// is #SS(0).
bool check_segment(Cpu& cpu, unsigned segment, Gva address, u64 size, bool write,
                   unsigned alignment) {
    if (segment == seg_ss && cpu.cb.state.code64() && !canonical_range(address, size)) {
        cpu.raise(Vector::ss, 0);
        return false;
    }
    return check_access(cpu, segment, address, size, write, alignment);
}

u64 stack_mask(const Cpu& cpu) {
    if (cpu.cb.state.code64()) return ~u64{0};
    return cpu.cb.state.segment[seg_ss].has(Segment::db) ? 0xffffffff : 0xffff;
}

u64 zero_extended(u64 value, unsigned size) {
    return size == 8 ? value : value & ((u64{1} << (8 * size)) - 1);
}

// Runs `access(address, bytes, buffer offset)` over a stack range: in one piece unless it wraps
// around the stack segment.
template <class Access>
bool over_stack(Cpu& cpu, u64 pointer, unsigned size, std::size_t count, bool write,
                Access access) {
    const u64 mask = stack_mask(cpu);
    const u64 bytes = u64{size} * count;
    pointer &= mask;
    if (pointer <= mask - (bytes - 1)) {
        const Gva address = cpu.linear(seg_ss, pointer);
        return check_segment(cpu, seg_ss, address, bytes, write, size) &&
               access(address, bytes, u64{0});
    }
    for (std::size_t i = 0; i < count; ++i) {
        const Gva address = cpu.linear(seg_ss, (pointer + u64{size} * i) & mask);
        if (!check_segment(cpu, seg_ss, address, size, write, size) ||
            !access(address, u64{size}, u64{size} * i))
            return false;
    }
    return true;
}

} // namespace

bool read_operand(Cpu& cpu, const Instruction& insn, void* out, u64 size, u64 offset) {
    const Gva address = cpu.effective_address(insn) + offset;
    return check_segment(cpu, insn.segment, address, size, false, natural_alignment(size)) &&
           cpu.read(address, out, size);
}

bool write_operand(Cpu& cpu, const Instruction& insn, const void* in, u64 size) {
    const Gva address = cpu.effective_address(insn);
    // Of these only SGDT and SIDT write more than 8 bytes; their operands are aligned to 4.
    const unsigned alignment = size > 8 ? 4 : natural_alignment(size);
    return check_segment(cpu, insn.segment, address, size, true, alignment) &&
           cpu.write(address, in, size);
}

bool read_rm16(Cpu& cpu, const Instruction& insn, u16& out) {
    if (insn.is_memory) return read_operand(cpu, insn, &out, sizeof out);
    out = static_cast<u16>(cpu.gpr(insn.rm, 2));
    return true;
}

bool store_system_register(Cpu& cpu, const Instruction& insn, u64 value) {
    if (!insn.is_memory) {
        cpu.set_gpr(insn.rm, insn.operand_size, zero_extended(value, insn.operand_size));
        return true;
    }
    const u16 word = static_cast<u16>(value);
    return write_operand(cpu, insn, &word, sizeof word);
}

bool read_far_pointer(Cpu& cpu, const Instruction& insn, FarPointer& out) {
    const unsigned size = insn.operand_size;
    if (!insn.is_memory) {
        out = {zero_extended(insn.immediate, size), static_cast<u16>(insn.immediate2)};
        return true;
    }
    u8 bytes[10] = {};
    if (!read_operand(cpu, insn, bytes, size + 2U)) return false;
    out = {};
    std::memcpy(&out.offset, bytes, size);
    std::memcpy(&out.selector, bytes + size, sizeof out.selector);
    return true;
}

unsigned stack_item_size(const Cpu& cpu, const Instruction& insn) {
    if (insn.operand_size == 2) return 2;
    return cpu.cb.state.code64() ? 8 : 4;
}

bool read_stack(Cpu& cpu, u64 offset, unsigned size, std::span<u64> items) {
    VERIFY(items.size() <= max_items && size <= 8);
    u8 bytes[max_items * 8] = {};
    const auto access = [&](Gva address, u64 length, u64 at) {
        return cpu.read(address, bytes + at, length);
    };
    if (!over_stack(cpu, cpu.cb.state.gpr[rsp] + offset, size, items.size(), false, access))
        return false;
    for (std::size_t i = 0; i < items.size(); ++i) {
        items[i] = 0;
        std::memcpy(&items[i], bytes + i * size, size);
    }
    return true;
}

bool write_stack(Cpu& cpu, unsigned size, std::span<const u64> items) {
    VERIFY(items.size() <= max_items && size <= 8);
    u8 bytes[max_items * 8] = {};
    for (std::size_t i = 0; i < items.size(); ++i)
        std::memcpy(bytes + i * size, &items[i], size);
    const u64 pointer = cpu.cb.state.gpr[rsp] - u64{size} * items.size();
    const auto probe = [&](Gva address, u64 length, u64) {
        return cpu.probe_write(address, length);
    };
    const auto access = [&](Gva address, u64 length, u64 at) {
        return cpu.write(address, bytes + at, length);
    };
    return over_stack(cpu, pointer, size, items.size(), true, probe) &&
           over_stack(cpu, pointer, size, items.size(), true, access);
}

void move_stack_pointer(Cpu& cpu, u64 delta) {
    const u64 mask = stack_mask(cpu);
    const unsigned size = mask == 0xffff ? 2 : mask == 0xffffffff ? 4 : 8;
    cpu.set_gpr(rsp, size, cpu.cb.state.gpr[rsp] + delta);
}

NewStackFrame::NewStackFrame(u64 top, std::span<const u64> items)
    : m_size(8 * items.size()), m_rsp(top - m_size) {
    VERIFY(items.size() <= max_items);
    std::memcpy(m_items, items.data(), m_size);
}

bool NewStackFrame::probe(Cpu& cpu, AccessMode mode, u32 ext) const {
    // The pointer itself too, as the architecture checks it before the first push.
    if (!Cpu::canonical(m_rsp + m_size) || !canonical_range(Gva(m_rsp), m_size)) {
        cpu.raise(Vector::ss, ext);
        return false;
    }
    if (cpu.probe_write(Gva(m_rsp), m_size, mode)) return true;
    // The fault is that of the first push that fails; they go downwards.
    for (u64 offset = m_size; offset != 0; offset -= 8)
        if (!cpu.probe_write(Gva(m_rsp + offset - 8), 8, mode)) return false;
    return true;
}

bool NewStackFrame::write(Cpu& cpu, AccessMode mode) const {
    return cpu.write(Gva(m_rsp), m_items, m_size, mode);
}

} // namespace gnomon::processor::soft
