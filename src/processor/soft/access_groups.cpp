// SPDX-License-Identifier: Apache-2.0
#include "processor/soft/access_groups.h"

#include "processor/soft/emission.h"
#include "processor/soft/masked_access.h"

#include <algorithm>

namespace gnomon::processor::soft {

namespace {

/// The longest range looked up at once. The longer, the more often it crosses a page end.
constexpr i64 max_extent = 1024;

/// What a register holds: a value that nobody knows, by number, plus a known difference.
struct Symbol {
    u32 value; // without initializers: arrays of these are filled as far as they are used
    i64 offset;
};
constexpr u32 no_value = ~u32{0};       ///< zero: there is no such register
constexpr u32 page_value = ~u32{0} - 1; ///< the page's address, as RIP-relative operands have it

using Registers = std::array<Symbol, 16>;

/// What accesses must share to be of one group.
struct Key {
    u32 base = no_value, index = no_value;
    u8 scale = 1;
    u8 segment = seg_ds;
    friend bool operator==(const Key&, const Key&) = default;
};

struct Access {
    Key key;
    i64 offset = 0; ///< from what the key names
    unsigned size = 0;
    bool write = false;
    bool plain = true; ///< nothing but paging can forbid it
};

struct Candidate {
    Key key;
    i64 begin = 0, end = 0;
    bool write = false;
    unsigned first = 0; ///< the instruction of the first access
    unsigned floor = 0; ///< it can be looked up before this instruction or a later one
    unsigned count = 0;
    Access first_access;
    u8 group = GroupedAccess::no_group;
};

class Planner {
public:
    Planner(std::span<const DecodedInstruction> block, Mode mode, std::span<const u16> flags_live)
        : m_block(block), m_mode(mode), m_flags_live(flags_live) {
        for (Symbol& r : m_registers)
            r = fresh();
        m_candidates.reserve(m_block.size());
        m_members.reserve(m_block.size());
    }

    AccessPlan plan() {
        for (m_at = 0; m_at < m_block.size(); ++m_at) {
            m_before[m_at] = m_registers;
            look_at(m_block[m_at]);
        }
        AccessPlan plan;
        if (m_members.empty()) return plan;
        plan.groups.reserve(access_group_count);
        for (Candidate& c : m_candidates)
            if (plan.groups.size() < access_group_count) accept(c, plan);
        for (const Member& member : m_members) {
            const Candidate& c = m_candidates[member.candidate];
            GroupedAccess& access = (member.stack ? plan.stack : plan.memory)[member.instruction];
            access.group = c.group;
            access.displacement = static_cast<u16>(member.offset - c.begin);
        }
        return plan;
    }

private:
    struct Member {
        unsigned instruction;
        bool stack;
        std::size_t candidate;
        i64 offset;
    };

    Symbol fresh() { return {m_next_value++, 0}; }

    /// What comes after the current instruction has nothing to do with what comes before it.
    void forget() {
        for (Symbol& r : m_registers)
            r = fresh();
        m_floor = m_at + 1;
        m_open = m_candidates.size();
    }

    [[nodiscard]] bool is_checked(u8 segment) const {
        if (segment == seg_fs) return m_mode.has(Mode::checked_fs);
        if (segment == seg_gs) return m_mode.has(Mode::checked_gs);
        return m_mode.has(Mode::checked);
    }

    void add(const Access& access, bool stack) {
        if (is_checked(access.key.segment)) return;
        const i64 end = access.offset + static_cast<i64>(access.size);
        for (std::size_t n = m_candidates.size(); n-- > m_open;) {
            Candidate& c = m_candidates[n];
            if (c.key != access.key) continue;
            // What may not come to pass must not ask for the right to write.
            if (access.write && !c.write && c.first < m_branch_floor) continue;
            const i64 low = std::min(c.begin, access.offset), high = std::max(c.end, end);
            if (high - low > max_extent) continue;
            c.begin = low;
            c.end = high;
            c.write |= access.write;
            ++c.count;
            m_members.push_back({m_at, stack, n, access.offset});
            return;
        }
        Candidate c;
        c.key = access.key;
        c.begin = access.offset;
        c.end = end;
        c.write = access.write;
        c.first = m_at;
        c.first_access = access;
        c.floor = std::max(m_floor, m_branch_floor);
        c.count = 1;
        m_candidates.push_back(c);
        m_members.push_back({m_at, stack, m_candidates.size() - 1, access.offset});
    }

    void add_memory(const DecodedInstruction& d, unsigned size, bool write) {
        const Instruction& i = d.compact;
        if (i.address_size != 8 || !i.is_memory) return;
        Access access;
        access.key.segment = i.segment == seg_fs || i.segment == seg_gs ? i.segment : u8{seg_ds};
        access.offset = i.displacement;
        access.size = size;
        access.write = write;
        // Vectors may have to be aligned, and their unit or x87's may be off.
        access.plain = d.disposition.feature == Feature::base && size <= 8;
        if (i.base == Instruction::rip_register) {
            access.key.base = page_value;
            access.offset += i64{i.page_offset} + i.length;
        } else if (i.base != none) {
            access.key.base = m_registers[i.base].value;
            access.offset = wrap(access.offset, m_registers[i.base].offset, 1);
        }
        if (i.index != none) {
            access.key.index = m_registers[i.index].value;
            access.key.scale = i.scale;
            access.offset = wrap(access.offset, m_registers[i.index].offset, i.scale);
        }
        add(access, false);
    }

    void add_stack(unsigned reg, i64 displacement, bool write, bool plain = true) {
        Access access;
        access.key.base = m_registers[reg].value;
        access.offset = wrap(displacement, m_registers[reg].offset, 1);
        access.size = 8;
        access.write = write;
        access.plain = plain;
        add(access, true);
    }

    /// a + b * factor as addresses are added.
    static i64 wrap(i64 a, i64 b, u64 factor) {
        return static_cast<i64>(static_cast<u64>(a) + static_cast<u64>(b) * factor);
    }
    static constexpr u64 minus_one = ~u64{0};
    void move_by(unsigned reg, i64 difference) {
        m_registers[reg].offset = wrap(m_registers[reg].offset, difference, 1);
    }

    /// Registers after an instruction that is passed.
    void follow(const DecodedInstruction& d) {
        const ZydisDecodedOperand& to = d.operands[0];
        const u8 target = d.z.operand_count_visible >= 1 && to.type == ZYDIS_OPERAND_TYPE_REGISTER
                              ? gpr_number(to.reg.value)
                              : none;
        if (target != none && d.z.operand_width == 64 && to.size == 64) {
            const ZydisDecodedOperand& from = d.operands[1];
            const bool immediate =
                d.z.operand_count_visible >= 2 && from.type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
            switch (d.z.mnemonic) {
            case ZYDIS_MNEMONIC_MOV:
                if (from.type != ZYDIS_OPERAND_TYPE_REGISTER || gpr_number(from.reg.value) == none)
                    break;
                m_registers[target] = m_registers[gpr_number(from.reg.value)];
                return;
            case ZYDIS_MNEMONIC_ADD:
                if (!immediate) break;
                move_by(target, static_cast<i64>(from.imm.value.u));
                return;
            case ZYDIS_MNEMONIC_SUB:
                if (!immediate) break;
                move_by(target, wrap(0, static_cast<i64>(from.imm.value.u), minus_one));
                return;
            default: break;
            }
        }
        for (unsigned n = 0; n < d.z.operand_count; ++n) {
            const ZydisDecodedOperand& o = d.operands[n];
            if (o.type != ZYDIS_OPERAND_TYPE_REGISTER || !writes(o)) continue;
            if (const u8 reg = gpr_number(o.reg.value); reg != none) m_registers[reg] = fresh();
        }
    }

    void pass(const DecodedInstruction& d) {
        // What a mask leaves out of an operand may be anywhere.
        const ZydisDecodedOperand* memory = d.memory();
        if (memory != nullptr && masked_elements(d).mask == 0)
            add_memory(d, access_size(d, *memory), writes(*memory));
        follow(d);
    }

    void look_at(const DecodedInstruction& d) {
        const Instruction& i = d.compact;
        const ZydisDecodedOperand& o = d.operands[0];
        const bool near = d.z.meta.branch_type != ZYDIS_BRANCH_TYPE_FAR;
        const bool by_memory = o.type == ZYDIS_OPERAND_TYPE_MEMORY;
        const bool by_register =
            o.type == ZYDIS_OPERAND_TYPE_REGISTER && gpr_number(o.reg.value) != none;
        switch (d.disposition.action) {
        case Action::pass: pass(d); return;
        case Action::nothing: return;
        case Action::helper:
            if (d.z.mnemonic != ZYDIS_MNEMONIC_RDTSC) break;
            m_registers[rax] = fresh(); // and that is all, whether or not by its helper
            m_registers[rdx] = fresh();
            return;
        case Action::jump_if: m_branch_floor = m_at + 1; return;
        case Action::bit_test:
            if (d.memory() != nullptr && d.operands[1].type == ZYDIS_OPERAND_TYPE_REGISTER) break;
            pass(d);
            return;
        case Action::mov_or_segment:
            for (unsigned n = 0; n < 2; ++n) {
                const ZydisDecodedOperand& m = d.operands[n];
                if (m.type == ZYDIS_OPERAND_TYPE_REGISTER && gpr_number(m.reg.value) == none) {
                    forget();
                    return;
                }
            }
            pass(d);
            return;
        case Action::lea: {
            Symbol value = fresh();
            if (i.operand_size == 8 && i.address_size == 8 && i.index == none) {
                if (i.base == Instruction::rip_register)
                    value = {page_value, i64{i.page_offset} + i.length + i.displacement};
                else if (i.base != none)
                    value = {m_registers[i.base].value,
                             wrap(m_registers[i.base].offset, i.displacement, 1)};
            }
            m_registers[i.reg] = value;
            return;
        }
        case Action::push:
            if (!by_memory && !by_register && o.type != ZYDIS_OPERAND_TYPE_IMMEDIATE) break;
            if (!by_memory && i.operand_size == 8) add_stack(rsp, -8, true);
            move_by(rsp, -i64{i.operand_size});
            return;
        case Action::pop:
            if (!by_memory && !by_register) break;
            if (by_register && i.operand_size == 8) add_stack(rsp, 0, false);
            move_by(rsp, i.operand_size);
            if (by_register) m_registers[gpr_number(o.reg.value)] = fresh();
            return;
        case Action::leave:
            if (i.operand_size == 8) add_stack(rbp, 0, false);
            m_registers[rsp] = m_registers[rbp];
            move_by(rsp, i.operand_size);
            m_registers[rbp] = fresh();
            return;
        case Action::call:
            if (!near) break;
            if (by_memory && o.size == 64) add_memory(d, 8, false);
            add_stack(rsp, -8, true, o.type == ZYDIS_OPERAND_TYPE_IMMEDIATE);
            break;
        case Action::ret:
            if (near) add_stack(rsp, 0, false);
            break;
        case Action::jump:
            if (near && by_memory && o.size == 64) add_memory(d, 8, false);
            break;
        default: break;
        }
        forget();
    }

    /// Where a register before instruction `at` holds a value, or none.
    [[nodiscard]] u8 holder(unsigned at, u32 value) const {
        const Registers& r = m_before[at];
        for (u8 n = 0; n < r.size(); ++n)
            if (r[n].value == value) return n;
        return none;
    }

    /// The group as it is looked up before instruction `at`, if that can be.
    [[nodiscard]] bool place(const Candidate& c, unsigned at, AccessGroup& group) const {
        group.probe = static_cast<u16>(at);
        group.segment = c.key.segment;
        group.scale = c.key.scale;
        group.size = static_cast<u16>(c.end - c.begin);
        group.write = c.write;
        group.displacement = c.begin;
        group.base = group.index = none;
        if (c.key.base == page_value && c.key.index == no_value) {
            group.base = Instruction::rip_register;
        } else if (c.key.base != no_value) {
            group.base = holder(at, c.key.base);
            if (group.base == none) return false;
            group.displacement =
                wrap(group.displacement, m_before[at][group.base].offset, minus_one);
        }
        if (c.key.index != no_value) {
            group.index = holder(at, c.key.index);
            if (group.index == none || group.index == rsp) return false;
            group.displacement =
                wrap(group.displacement, m_before[at][group.index].offset, 0 - u64{c.key.scale});
        }
        return group.base == Instruction::rip_register || fits_i32(group.displacement);
    }

    void accept(Candidate& c, AccessPlan& plan) const {
        // As late as can be where the flags may be lost; else at the first access.
        AccessGroup group;
        bool found = false;
        for (unsigned at = c.first + 1; at-- > c.floor && !found;)
            found = m_flags_live[at] == 0 && place(c, at, group);
        const bool moved = found && group.probe != c.first;
        if (c.count < 2 && !moved) return;
        if (!found && !place(c, c.first, group)) return;
        if (!moved && c.first_access.plain) {
            group.first_displacement = static_cast<u16>(c.first_access.offset - c.begin);
            group.first_size = static_cast<u8>(c.first_access.size);
            group.first_write = c.first_access.write;
        }
        c.group = static_cast<u8>(plan.groups.size());
        plan.groups.push_back(group);
    }

    std::span<const DecodedInstruction> m_block;
    Mode m_mode;
    std::span<const u16> m_flags_live;
    unsigned m_at = 0;
    unsigned m_floor = 0;        ///< behind the last instruction that may do anything
    unsigned m_branch_floor = 0; ///< behind the last conditional branch
    u32 m_next_value = 0;
    Registers m_registers;
    std::array<Registers, max_block_instructions> m_before;
    std::vector<Candidate> m_candidates;
    std::vector<Member> m_members;
    std::size_t m_open = 0; ///< candidates before this have ended
};

} // namespace

unsigned access_size(const DecodedInstruction& d, const ZydisDecodedOperand& memory) {
    // CLFLUSH names a line by any byte of it, and touches no other line.
    const bool line = d.z.mnemonic == ZYDIS_MNEMONIC_CLFLUSH ||
                      d.z.mnemonic == ZYDIS_MNEMONIC_CLFLUSHOPT ||
                      d.z.mnemonic == ZYDIS_MNEMONIC_CLWB;
    return line ? 1 : std::clamp<unsigned>(memory.size / 8U, 1, 64);
}

AccessPlan plan_accesses(std::span<const DecodedInstruction> block, Mode mode,
                         std::span<const u16> flags_live) {
    return Planner(block, mode, flags_live).plan();
}

} // namespace gnomon::processor::soft
