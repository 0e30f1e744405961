// SPDX-License-Identifier: Apache-2.0
#include "layout.h"
#include "program_maker.h"
#include "values.h"

#include <algorithm>
#include <cstring>
#include <xbyak/xbyak.h>

namespace gnomon::test {

using processor::soft::Action;
using processor::soft::gpr_number;
using processor::soft::Instruction;

namespace {

constexpr unsigned pointer_count = 3;
constexpr u64 alignment = 64;
constexpr u64 loop_limit = 6; ///< turns

/// One instruction, or a branch whose displacement is known once all are placed.
struct Item {
    std::vector<u8> bytes;
    std::optional<std::size_t>
        target{}; ///< number of the item that the displacement at the end of `bytes` leads to
    unsigned displacement_size = 0;
    bool call = false;
    bool inside = false;         ///< of a run of accesses, which is entered at its begin only
    bool within = false;         ///< a branch within a run
    std::optional<u64> places{}; ///< address that the RIP-relative displacement at the end leads to
};

/// The bytes of one instruction.
template <class Emit>
std::vector<u8> assembled(Emit emit) {
    u8 bytes[32];
    Xbyak::CodeGenerator code(sizeof bytes, bytes);
    emit(code);
    return {bytes, bytes + code.getSize()};
}

class SequenceMaker {
public:
    SequenceMaker(const FormList& list, const std::vector<const Form*>& forms, Random& random)
        : m_list(list), m_forms(forms), m_random(random) {}

    std::optional<Program> make() {
        m_program.code32 = m_list.code32();
        m_program.state = random_state(m_random, true, m_program.code32);
        m_program.state.rflags &= ~processor::rflags::df;
        choose_registers();
        // The main part, which ends in a stop, then a subroutine.
        const std::size_t main_items = 4 + m_random.below(44);
        const std::size_t loop_begin = m_random.below(main_items);
        const bool looped = m_random.percent(50);
        std::vector<std::size_t> calls;
        while (m_items.size() < main_items) {
            if (m_random.percent(12))
                skip(main_items);
            else if (!m_program.code32 && m_random.percent(10))
                run();
            else if (m_random.percent(6))
                calls.push_back(m_items.size()), branch({0xe8}, 0, 4), m_items.back().call = true;
            else
                plain();
        }
        for (Item& item : m_items)
            if (item.target && !item.call && !item.within) item.target = begin_of_run(*item.target);
        if (looped) loop(begin_of_run(loop_begin));
        const std::size_t main_end = m_items.size();
        if (!calls.empty()) {
            for (const std::size_t c : calls)
                m_items[c].target = main_end;
            m_in_subroutine = true;
            for (u64 n = 1 + m_random.below(3); n > 0; --n)
                if (!m_program.code32 && m_random.percent(20))
                    run();
                else
                    plain();
            m_items.push_back({{0xc3}, std::nullopt});
        }
        place(main_end);
        return std::move(m_program);
    }

private:
    void choose_registers() {
        std::vector<u8> all = {0, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
        if (m_program.code32) all.resize(6);
        for (std::size_t i = all.size(); i-- > 1;)
            std::swap(all[i], all[m_random.below(i + 1)]);
        m_protected = 1U << processor::rsp | 1U << processor::rcx;
        // On the pages where nothing faults, with room around.
        constexpr u64 first = layout::data_begin + 0x1000,
                      last = layout::data_begin + layout::calm_pages * page_size - 0x1000;
        const u64 rsp = m_program.state.gpr[processor::rsp] =
            (first + m_random.below(last - first)) & ~u64{15};
        for (unsigned i = 0; i < pointer_count; ++i) {
            m_pointers[i] = all[i];
            m_protected |= 1U << all[i];
            u64& pointer = m_program.state.gpr[all[i]];
            do
                pointer = (first + m_random.below(last - first)) & ~(alignment - 1);
            while (pointer - rsp + 0x800 < 0x1000); // the stack is not for others to write
        }
        m_index = all[pointer_count];
        m_protected |= 1U << m_index;
        m_program.state.gpr[m_index] = alignment * m_random.below(2);
        m_program.state.gpr[processor::rcx] = 1 + m_random.below(loop_limit);
        m_program.kept_registers = m_protected;
        for (unsigned i = 0; i < pointer_count; ++i) {
            Bytes b{m_program.state.gpr[m_pointers[i]] - 0x200, std::vector<u8>(0x400)};
            fill_interesting(m_random, b.content);
            m_program.memory.push_back(std::move(b));
        }
    }

    [[nodiscard]] Addressing addressing() {
        Addressing a;
        a.fixed = true;
        a.base = m_random.percent(10) && !m_in_subroutine
                     ? u8{processor::rsp}
                     : m_pointers[m_random.below(pointer_count)];
        if (m_random.percent(30))
            a.index = m_index, a.scale = static_cast<u8>(1U << m_random.below(2));
        a.displacement = static_cast<i32>(m_random.below(4) * alignment) - 128;
        return a;
    }

    /// Whether the instruction leaves the registers of addresses alone and accesses nothing else.
    [[nodiscard]] bool acceptable(const Sample& s, Action action) const {
        const bool stack = action == Action::push || action == Action::pop ||
                           s.decoded.z.mnemonic == ZYDIS_MNEMONIC_PUSHF ||
                           s.decoded.z.mnemonic == ZYDIS_MNEMONIC_PUSHFD ||
                           s.decoded.z.mnemonic == ZYDIS_MNEMONIC_PUSHFQ;
        // With REX.B it exchanges RAX and R8, whatever Zydis says; it is passed as it is.
        if (s.decoded.z.mnemonic == ZYDIS_MNEMONIC_PAUSE && s.decoded.z.raw.rex.B != 0)
            return false;
        // The return address lies on the stack.
        if (differs_by_vendor(s.decoded) || (stack && m_in_subroutine)) return false;
        for (unsigned i = 0; i < s.decoded.z.operand_count; ++i) {
            const ZydisDecodedOperand& o = s.decoded.operands[i];
            const bool hidden = o.visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN;
            if (o.type == ZYDIS_OPERAND_TYPE_MEMORY) {
                if (hidden && !stack) return false;
                if (o.size > 512 || o.mem.type == ZYDIS_MEMOP_TYPE_VSIB) return false;
            }
            if (o.type != ZYDIS_OPERAND_TYPE_REGISTER ||
                (o.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) == 0)
                continue;
            const u8 n = gpr_number(o.reg.value);
            if (n == Instruction::no_register || (hidden && stack)) continue;
            if ((m_protected >> n & 1) != 0) return false;
        }
        // A bit offset in a register reaches anywhere.
        return action != Action::bit_test || s.decoded.memory() == nullptr ||
               s.decoded.operands[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
    }

    void plain() {
        for (unsigned attempt = 0; attempt < 20; ++attempt) {
            const Form& form = *m_forms[m_random.below(m_forms.size())];
            Sample s;
            if (!m_list.sample(form, layout::code_begin, m_random, addressing(), s) ||
                !acceptable(s, form.action))
                continue;
            m_items.push_back({s.bytes, std::nullopt});
            return;
        }
        m_items.push_back({{0x90}, std::nullopt});
    }

    // --- runs of accesses by way of the same registers, as compilers make them ---

    using Code = Xbyak::CodeGenerator;

    /// One instruction of a run; the first of a run is where it is entered.
    template <class Emit>
    void put(Emit emit, std::optional<u64> places = std::nullopt) {
        m_items.push_back({assembled(emit), std::nullopt});
        m_items.back().inside = m_items.size() - 1 != m_run_begin;
        m_items.back().places = places;
    }
    /// What a branch to an item is to lead to instead, if that is inside a run.
    [[nodiscard]] std::size_t begin_of_run(std::size_t item) const {
        while (item < m_items.size() && m_items[item].inside)
            --item;
        return item;
    }
    /// A register that no address is made of.
    [[nodiscard]] u8 free_register() {
        for (;;)
            if (const auto n = static_cast<u8>(m_random.below(16)); (m_protected >> n & 1) == 0)
                return n;
    }
    /// A load, store or read-modify-write at `place`.
    void access(const Xbyak::RegExp& place, std::optional<u64> places = std::nullopt) {
        const u8 data = free_register();
        const unsigned bits = m_random.pick({8U, 16U, 32U, 64U, 64U, 64U});
        const u64 kind = m_random.below(10);
        const Xbyak::Xmm vector(static_cast<int>(m_random.below(16)));
        const auto emit = [&](Code& c, const Xbyak::Address& at) {
            const Xbyak::Reg r = general(data, bits);
            switch (kind) {
            case 0: c.movdqu(vector, at); break;
            case 1: c.movdqu(at, vector); break;
            case 2: c.add(at, r); break;
            case 3: c.xor_(r, at); break;
            case 4: c.cmp(r, at); break;
            case 5:
            case 6: c.mov(at, r); break;
            default: c.mov(r, at); break;
            }
        };
        put(
            [&](Code& c) {
                if (places)
                    emit(c, c.ptr[c.rip]);
                else
                    emit(c, c.ptr[place]);
            },
            places);
    }
    static Xbyak::Reg general(u8 number, unsigned bits) {
        switch (bits) {
        case 8: return Xbyak::Reg8(number, number >= 4 && number < 8);
        case 16: return Xbyak::Reg16(number);
        case 32: return Xbyak::Reg32(number);
        default: return Xbyak::Reg64(number);
        }
    }
    [[nodiscard]] static Xbyak::Reg64 wide(u8 number) { return Xbyak::Reg64(number); }
    static std::size_t offset(i64 displacement) { return static_cast<std::size_t>(displacement); }
    [[nodiscard]] i64 small_offset() { return static_cast<i64>(m_random.below(160)) - 64; }

    void run() {
        m_run_begin = m_items.size();
        const u32 kept = m_protected;
        switch (m_random.below(4)) {
        case 0: stack_run(); break;
        case 1: pointer_run(); break;
        case 2: register_run(); break;
        default: relative_run(); break;
        }
        m_protected = kept;
        m_run_begin = ~std::size_t{0};
    }
    /// Between accesses: other instructions, and branches over one access.
    void something_else() {
        if (m_random.percent(15)) plain(), m_items.back().inside = true;
        if (m_random.percent(15)) {
            branch({static_cast<u8>(0x70 | m_random.below(16))}, m_items.size() + 2, 1);
            m_items.back().inside = m_items.back().within = true;
        }
    }
    /// Pushes, accesses to what was pushed, pops.
    void stack_run() {
        i64 depth = 0; // bytes
        for (u64 n = 1 + m_random.below(6); n > 0; --n) {
            const auto value = static_cast<u32>(m_random.next());
            const auto source = static_cast<u8>(m_random.below(16));
            const u64 kind = m_random.below(10);
            put([&](Code& c) {
                if (kind == 0)
                    c.push(Xbyak::Reg16(source));
                else if (kind < 3)
                    c.push(value);
                else
                    c.push(wide(source));
            });
            depth += kind == 0 ? 2 : 8;
        }
        if (m_random.percent(50)) {
            const i64 room = 8 * static_cast<i64>(2 + m_random.below(8)); // for any access
            put([&](Code& c) {
                if (room % 16 == 0)
                    c.sub(c.rsp, static_cast<u32>(room));
                else
                    c.lea(c.rsp, c.ptr[c.rsp + offset(-room)]);
            });
            for (u64 n = m_random.below(5); n > 0; --n) {
                something_else();
                access(wide(processor::rsp) + m_random.below(static_cast<u64>(room) - 15));
            }
            put([&](Code& c) { c.add(c.rsp, static_cast<u32>(room)); });
        }
        for (; depth >= 8 && m_random.percent(80); depth -= 8) {
            const u8 to = free_register();
            put([&](Code& c) { c.pop(wide(to)); });
        }
        if (depth > 0) put([&](Code& c) { c.lea(c.rsp, c.ptr[c.rsp + offset(depth)]); });
    }

    /// Accesses by a pointer that moves by known amounts, and by a copy of it.
    void pointer_run() {
        const u8 pointer = m_pointers[m_random.below(pointer_count)];
        const u8 copy = free_register();
        m_protected |= 1U << copy;
        put([&](Code& c) { c.mov(wide(copy), wide(pointer)); });
        i64 moved = 0;
        for (u64 n = 2 + m_random.below(7); n > 0; --n) {
            const i64 by = static_cast<i64>(m_random.below(80)) - 40;
            switch (m_random.below(8)) {
            case 0:
                moved += by;
                put([&](Code& c) { c.add(wide(pointer), static_cast<u32>(by)); });
                break;
            case 1:
                moved -= by;
                put([&](Code& c) { c.sub(wide(pointer), static_cast<u32>(by)); });
                break;
            case 2:
                moved += by;
                put([&](Code& c) { c.lea(wide(pointer), c.ptr[wide(pointer) + offset(by)]); });
                break;
            case 3:
                put([&](Code& c) { c.lea(wide(copy), c.ptr[wide(pointer) + offset(by)]); });
                break;
            default:
                something_else();
                access_by(m_random.percent(60) ? pointer : copy);
                break;
            }
        }
        put([&](Code& c) { c.lea(wide(pointer), c.ptr[wide(pointer) + offset(-moved)]); });
    }
    /// [register], with or without an index.
    void access_by(u8 base) {
        Xbyak::RegExp place(wide(base));
        if (m_random.percent(30)) place = place + wide(m_index) * (1 << m_random.below(2));
        access(place + offset(small_offset()));
    }
    /// Accesses relative to RIP, and by a register that holds such an address.
    void relative_run() {
        const u64 about = m_program.state.gpr[m_pointers[m_random.below(pointer_count)]];
        const u8 copy = free_register();
        m_protected |= 1U << copy;
        put([&](Code& c) { c.lea(wide(copy), c.ptr[c.rip]); },
            about + static_cast<u64>(small_offset()));
        for (u64 n = 1 + m_random.below(5); n > 0; --n) {
            something_else();
            if (m_random.percent(35))
                access({}, about + static_cast<u64>(small_offset()));
            else
                access_by(copy);
        }
    }

    /// Chains of results in the last registers, between accesses by them and of them.
    void register_run() {
        constexpr u64 address_kind = 25;
        const u8 pointer = m_pointers[m_random.below(pointer_count)];
        for (u64 n = 4 + m_random.below(12); n > 0; --n) {
            u64 kind = m_random.below(address_kind + 1);
            if ((kind == 10 || kind == 11) && !permits(ZYDIS_MNEMONIC_ADCX)) kind = 4;
            if ((kind == 12 || kind == 13) && !permits(ZYDIS_MNEMONIC_MULX)) kind = 14;
            // What is branched over is one instruction; a run does not begin with a branch.
            if (kind != address_kind && m_items.size() != m_run_begin && m_random.percent(10))
                something_else();
            const u8 a = late_register(), b = late_register(), other = free_register();
            const Xbyak::Reg64 to = wide(a), from = wide(m_random.percent(70) ? b : other);
            const Xbyak::Reg32 to32(a), from32(from.getIdx());
            const auto place = wide(pointer) + offset(small_offset());
            const auto value = static_cast<u32>(m_random.next());
            const auto bits = static_cast<u8>(m_random.below(64));
            switch (kind) {
            case 0: put([&](Code& c) { c.mov(to, from); }); break;
            case 1: put([&](Code& c) { c.mov(to32, from32); }); break;
            case 2: put([&](Code& c) { c.mov(wide(other), to); }); break;
            case 3: put([&](Code& c) { c.mov(to, value); }); break;
            case 4: put([&](Code& c) { c.add(to, from); }); break;
            case 5: put([&](Code& c) { c.adc(to32, from32); }); break;
            case 6: put([&](Code& c) { c.sbb(to, static_cast<i8>(value)); }); break;
            case 7: put([&](Code& c) { c.xor_(to32, from32); }); break;
            case 8: put([&](Code& c) { c.xor_(to32, to32); }); break;
            case 9: put([&](Code& c) { c.cmp(to, from); }); break;
            case 10: put([&](Code& c) { c.adcx(to, from); }); break;
            case 11: put([&](Code& c) { c.adox(to, from); }); break;
            case 12: put([&](Code& c) { c.mulx(to, wide(other), from); }); break;
            case 13: put([&](Code& c) { c.mulx(wide(other), to, c.ptr[place]); }); break;
            case 14: put([&](Code& c) { c.imul(to, from, static_cast<i8>(value)); }); break;
            case 15: put([&](Code& c) { c.lea(to, c.ptr[to + from * 2 + 3]); }); break;
            case 16: put([&](Code& c) { c.xchg(to, from); }); break;
            case 17: put([&](Code& c) { c.movzx(to32, Xbyak::Reg16(from.getIdx())); }); break;
            case 18:
                put([&](Code& c) { c.mov(Xbyak::Reg16(a), Xbyak::Reg16(from.getIdx())); });
                break;
            case 19: put([&](Code& c) { c.cmovb(to, from); }); break;
            case 20: put([&](Code& c) { c.rol(to, bits); }); break;
            case 21: put([&](Code& c) { c.mov(to, c.ptr[place]); }); break;
            case 22: put([&](Code& c) { c.mov(c.ptr[place], to); }); break;
            case 23: put([&](Code& c) { c.add(to, c.ptr[place]); }); break;
            case 24: put([&](Code& c) { c.add(c.ptr[place], to); }); break;
            case address_kind:
                if (m_random.percent(50))
                    address_in(a, pointer);
                else
                    replaced_value(a, other);
                break;
            }
        }
    }
    [[nodiscard]] bool permits(ZydisMnemonic mnemonic) const {
        return std::any_of(m_forms.begin(), m_forms.end(),
                           [mnemonic](const Form* f) { return f->mnemonic == mnemonic; });
    }
    /// A value that is used, replaced, and used again much later.
    void replaced_value(u8 reg, u8 other) {
        if (reg == other) return;
        put([&](Code& c) { c.lea(wide(reg), c.ptr[wide(reg) + 5]); });
        put([&](Code& c) { c.add(wide(other), wide(reg)); });
        put([&](Code& c) { c.mov(wide(reg), wide(other)); });
        for (unsigned n = 0; n < 4; ++n)
            put([](Code& c) { c.nop(); });
        put([&](Code& c) { c.add(wide(other), wide(reg)); });
    }
    /// An access by a register that is made an address just before, and afterwards of its own.
    void address_in(u8 reg, u8 pointer) {
        if ((m_protected >> reg & 1) != 0) return;
        put([&](Code& c) { c.lea(wide(reg), c.ptr[wide(pointer) + 24]); });
        const u32 kept = m_protected;
        m_protected |= 1U << reg;
        access_by(reg);
        if (m_random.percent(50)) access_by(reg);
        m_protected = kept;
    }
    /// A register that no address is made of, R13 to R15 if it can be.
    [[nodiscard]] u8 late_register() {
        const auto n = static_cast<u8>(processor::r13 + m_random.below(3));
        return (m_protected >> n & 1) == 0 ? n : free_register();
    }

    void branch(std::vector<u8> opcode, std::size_t target, unsigned size) {
        opcode.resize(opcode.size() + size);
        m_items.push_back({std::move(opcode), target, size});
    }
    /// A conditional jump over up to three instructions.
    void skip(std::size_t limit) {
        const std::size_t target = std::min(m_items.size() + 1 + m_random.below(4), limit);
        const auto condition = static_cast<u8>(m_random.below(16));
        if (m_random.percent(50))
            branch({static_cast<u8>(0x70 | condition)}, target, 1);
        else
            branch({0x0f, static_cast<u8>(0x80 | condition)}, target, 4);
    }
    void loop(std::size_t begin) {
        std::size_t size = 0;
        for (std::size_t i = begin; i < m_items.size(); ++i)
            size += m_items[i].bytes.size();
        m_loop_begin = begin;
        m_loop_end = m_items.size();
        if (size < 100 && m_random.percent(50)) {
            branch({static_cast<u8>(0xe0 + m_random.below(3))}, begin, 1); // LOOPNE, LOOPE, LOOP
        } else {
            m_counted = true;
            m_items.push_back({{0xff, 0xc9}, std::nullopt}); // DEC ECX
            branch({0x0f, 0x85}, begin, 4);                  // JNZ
        }
    }

    /// Gives every item its address, and the branches their displacements.
    void place(std::size_t main_end) {
        constexpr u64 stop_size = 16;
        u64 address = layout::code_begin + 0x100 + m_random.below(0x800);
        if (m_random.percent(30))
            address = layout::code_begin + page_size - 1 - m_random.below(100); // across a page end
        m_program.rip = address;
        std::vector<u64> addresses;
        for (std::size_t i = 0; i <= m_items.size(); ++i) {
            if (i == main_end) {
                m_program.stops = {{address, m_program.code32}};
                addresses.push_back(address);
                address += stop_size;
                // Branches to the end of the main part lead to the stop, calls to what follows it.
                m_subroutine = address;
            } else {
                addresses.push_back(address);
            }
            if (i < m_items.size()) address += m_items[i].bytes.size();
        }
        Bytes before{m_program.rip, {}}, after{m_subroutine, {}};
        for (std::size_t i = 0; i < m_items.size(); ++i) {
            Item& item = m_items[i];
            const u64 here =
                i < main_end ? addresses[i] : (i == main_end ? m_subroutine : addresses[i]);
            if (item.target) {
                const u64 to = item.call ? m_subroutine : addresses[*item.target];
                const u64 relative = to - (here + item.bytes.size());
                std::memcpy(item.bytes.data() + item.bytes.size() - item.displacement_size,
                            &relative, item.displacement_size);
            }
            if (item.places) {
                const auto relative = static_cast<u32>(*item.places - (here + item.bytes.size()));
                std::memcpy(item.bytes.data() + item.bytes.size() - sizeof relative, &relative,
                            sizeof relative);
            }
            Sample s{here, item.bytes, {}};
            m_program.text += (m_list.decode(s) ? s.text() : "undecodable") + "\n";
            auto& code = (i < main_end ? before : after).content;
            code.insert(code.end(), item.bytes.begin(), item.bytes.end());
        }
        m_program.instructions = count(main_end);
        m_program.code.push_back(std::move(before));
        if (!after.content.empty()) m_program.code.push_back(std::move(after));
        m_program.flags_compared_on_fault = false; // a later instruction may overwrite them
    }

    /// Instructions of the main part that every way through it executes, the turns of a loop that
    /// only counts included; the subroutine is left out.
    [[nodiscard]] u64 count(std::size_t main_end) const {
        std::vector<bool> certain(main_end, true);
        for (std::size_t i = 0; i < main_end; ++i)
            if (m_items[i].target && !m_items[i].call)
                for (std::size_t k = i + 1; k < std::min(*m_items[i].target, main_end); ++k)
                    certain[k] = false;
        u64 n = 0;
        for (std::size_t i = 0; i < main_end; ++i) {
            const bool repeated = m_counted && i >= m_loop_begin && i < m_loop_end + 2;
            if (certain[i]) n += repeated ? m_program.state.gpr[processor::rcx] : 1;
        }
        return n;
    }

    const FormList& m_list;
    const std::vector<const Form*>& m_forms;
    Random& m_random;
    Program m_program;
    std::vector<Item> m_items;
    std::size_t m_run_begin = ~std::size_t{0}; ///< item with which the current run begins
    std::size_t m_loop_begin = 0, m_loop_end = 0;
    bool m_counted = false; ///< the loop's end depends on RCX alone
    u8 m_pointers[pointer_count] = {};
    u8 m_index = 0;
    u32 m_protected = 0; ///< registers, by number, that keep what addresses are made of
    u64 m_subroutine = 0;
    bool m_in_subroutine = false;
};

} // namespace

bool fits_sequence(const Form& form) {
    switch (form.action) {
    case Action::pass:
    case Action::nothing:
    case Action::lea:
    case Action::push:
    case Action::pop:
    case Action::bit_test:
    case Action::mov_or_segment: break;
    case Action::helper:
        switch (form.mnemonic) {
        case ZYDIS_MNEMONIC_PUSHF:
        case ZYDIS_MNEMONIC_PUSHFD:
        case ZYDIS_MNEMONIC_PUSHFQ:
        case ZYDIS_MNEMONIC_CLD:
        case ZYDIS_MNEMONIC_SALC: return true;
        default: return false;
        }
    default: return false;
    }
    switch (form.mnemonic) {
    case ZYDIS_MNEMONIC_DIV: // these may fault
    case ZYDIS_MNEMONIC_IDIV:
    case ZYDIS_MNEMONIC_LDMXCSR: // these may let others fault
    case ZYDIS_MNEMONIC_VLDMXCSR:
    case ZYDIS_MNEMONIC_FLDCW: return false;
    default:
        return form.key.find("moffs") == std::string::npos &&
               form.key.find("sreg") == std::string::npos &&
               form.key.find(" es") == std::string::npos && // PUSH ES and POP ES, and so on
               form.key.find(" cs") == std::string::npos &&
               form.key.find(" ss") == std::string::npos &&
               form.key.find(" ds") == std::string::npos &&
               form.key.find(" fs") == std::string::npos &&
               form.key.find(" gs") == std::string::npos;
    }
}

void vary_sequence(Program& program, Random& random) {
    MachineState state = random_state(random, true, program.code32);
    state.rflags &= ~processor::rflags::df;
    state.rflags |= program.state.rflags & processor::rflags::tf;
    for (unsigned n = 0; n < 16; ++n)
        if ((program.kept_registers >> n & 1) != 0) state.gpr[n] = program.state.gpr[n];
    program.state = state;
    for (Bytes& b : program.memory)
        fill_interesting(random, b.content);
}

std::optional<Program> make_sequence(const FormList& list, const std::vector<const Form*>& forms,
                                     Random& random) {
    return SequenceMaker(list, forms, random).make();
}

} // namespace gnomon::test
