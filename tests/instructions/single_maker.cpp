// SPDX-License-Identifier: Apache-2.0
#include "layout.h"
#include "program_maker.h"
#include "values.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace gnomon::test {

using processor::ExtendedState;
using processor::soft::Action;
using processor::soft::gpr_number;
namespace soft = processor::soft;

namespace {

constexpr u64 stop_size = 16;       ///< room that a stop wants, natively
constexpr u64 reach = u64{1} << 20; ///< margin of the reservation that no access is aimed at

bool canonical(u64 a) { return soft::Cpu::canonical(a); }
constexpr u8 no_register = soft::Instruction::no_register;

bool is_gpr(ZydisRegister r) { return gpr_number(r) != no_register; }

class SingleMaker {
public:
    SingleMaker(const FormList& list, const Form& form, Random& random)
        : m_list(list), m_form(form), m_random(random) {}

    std::optional<Program> make() {
        place_code();
        if (!m_list.sample(m_form, m_sample.address, m_random, {}, m_sample) ||
            differs_by_vendor(m_sample.decoded))
            return std::nullopt;
        m_program.state = random_state(m_random, false);
        prepare_registers();
        for (unsigned i = 0; i < m_sample.decoded.z.operand_count; ++i) // implicit operands first
            if (!explicit_memory(operand(i)) && !aim_implicit(operand(i))) return std::nullopt;
        for (unsigned i = 0; i < m_sample.decoded.z.operand_count; ++i)
            if (explicit_memory(operand(i)) && !aim_explicit(i)) return std::nullopt;
        if (!place_branch()) return std::nullopt;
        prepare_special();
        if (!safe()) return std::nullopt;
        finish();
        return std::move(m_program);
    }

private:
    [[nodiscard]] const ZydisDecodedOperand& operand(unsigned i) const {
        return m_sample.decoded.operands[i];
    }
    [[nodiscard]] const ZydisDecodedInstruction& z() const { return m_sample.decoded.z; }
    [[nodiscard]] u64& gpr(unsigned n) { return m_program.state.gpr[n]; }
    static bool explicit_memory(const ZydisDecodedOperand& o) {
        return o.type == ZYDIS_OPERAND_TYPE_MEMORY &&
               (o.encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM ||
                o.encoding == ZYDIS_OPERAND_ENCODING_DISP16_32_64);
    }
    [[nodiscard]] bool is(std::initializer_list<ZydisMnemonic> list) const {
        return std::ranges::find(list, z().mnemonic) != list.end();
    }

    void place_code() {
        u64 offset = 0x100 + m_random.below(0xd00);
        if (m_random.percent(12)) offset = page_size - 1 - m_random.below(12); // across a page end
        m_sample.address = layout::code_begin + offset;
    }

    /// A place in the data area for `size` bytes.
    u64 choose_target(u64 size) {
        const bool masked =
            is({ZYDIS_MNEMONIC_MASKMOVQ, ZYDIS_MNEMONIC_MASKMOVDQU, ZYDIS_MNEMONIC_VMASKMOVDQU});
        if (m_random.percent(2) && !masked) return layout::data_begin - 1 - m_random.below(64);
        const u64 page = layout::data_begin + m_random.below(layout::data_pages) * page_size;
        u64 offset = m_random.below(page_size);
        const unsigned place = static_cast<unsigned>(m_random.below(100));
        // Whether the bytes that a mask leaves out can fault is up to the processor.
        if (masked) {
            const bool read_only = layout::kind_of(page) == layout::PageKind::read_only;
            return (read_only ? layout::data_begin : page) + m_random.below(page_size - size);
        }
        if (place < 15 && size > 1)
            offset = page_size - 1 - m_random.below(size - 1);
        else if (place < 22)
            offset = page_size - size % page_size;
        const bool locked =
            (z().attributes & ZYDIS_ATTRIB_HAS_LOCK) != 0 || is({ZYDIS_MNEMONIC_XCHG});
        // Locked accesses across cache lines stop all processors, and some hosts punish them.
        if (m_random.percent(locked ? 97 : 60))
            offset &= ~(std::bit_ceil(std::clamp<u64>(size, 1, 64)) - 1);
        return page + offset;
    }

    /// Something to find at a place.
    void fill_around(u64 target, u64 size) {
        const u64 begin = std::clamp(target - 32, layout::data_begin, layout::data_end);
        const u64 end = std::clamp(target + size + 32, layout::data_begin, layout::data_end);
        if (begin >= end) return;
        Bytes b{begin, std::vector<u8>(end - begin)};
        fill_interesting(m_random, b.content);
        m_program.memory.push_back(std::move(b));
        m_targets.push_back({target, size});
        if (layout::in_data(target) && layout::kind_of(target) == layout::PageKind::code &&
            target % page_size <= page_size - 2 && m_random.percent(70)) {
            m_program.translated.push_back(target);
        }
    }
    void put(u64 address, std::span<const u8> bytes) {
        if (address < layout::data_begin || address + bytes.size() > layout::data_end) return;
        m_program.memory.push_back({address, {bytes.begin(), bytes.end()}});
    }
    void put(u64 address, std::initializer_list<u8> bytes) {
        put(address, std::span(bytes.begin(), bytes.size()));
    }
    void put_word(u64 address, u64 value, std::size_t size) {
        u8 bytes[8];
        std::memcpy(bytes, &value, 8);
        put(address, std::span<const u8>(bytes, size));
    }
    [[nodiscard]] u64 word_at(u64 address, std::size_t size) const {
        u8 bytes[8] = {};
        for (std::size_t i = 0; i < size; ++i)
            for (const Bytes& b : m_program.memory)
                if (address + i >= b.address && address + i < b.address + b.content.size())
                    bytes[i] = b.content[address + i - b.address];
        u64 value;
        std::memcpy(&value, bytes, 8);
        return value;
    }

    [[nodiscard]] bool uses_feature_mask() const {
        return is({ZYDIS_MNEMONIC_XSAVE, ZYDIS_MNEMONIC_XSAVE64, ZYDIS_MNEMONIC_XSAVEC,
                   ZYDIS_MNEMONIC_XSAVEC64, ZYDIS_MNEMONIC_XSAVEOPT, ZYDIS_MNEMONIC_XSAVEOPT64,
                   ZYDIS_MNEMONIC_XRSTOR, ZYDIS_MNEMONIC_XRSTOR64});
    }

    void prepare_registers() {
        const ZydisDecodedInstruction& i = z();
        if ((i.attributes &
             (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE)) != 0 ||
            m_form.action == Action::loop) {
            gpr(processor::rcx) = m_random.percent(85) ? m_random.below(24) : m_random.below(1500);
            if (i.address_width == 32 && m_random.percent(50))
                gpr(processor::rcx) |= m_random.next() << 32;
        }
        if (is({ZYDIS_MNEMONIC_DIV, ZYDIS_MNEMONIC_IDIV}) && m_random.percent(75)) {
            gpr(processor::rdx) = 0;
            gpr(processor::rax) &= m_random.percent(50) ? 0xff : 0x7fffffff;
        }
        if (uses_feature_mask()) {
            gpr(processor::rax) &= m_random.percent(50) ? ~u64{0xfffffff8} : ~u64{0xffffffff};
            gpr(processor::rax) |= m_random.below(8);
            gpr(processor::rdx) &= ~u64{0xffffffff};
        }
        if (is({ZYDIS_MNEMONIC_WRFSBASE, ZYDIS_MNEMONIC_WRGSBASE}) && m_random.percent(70))
            for (u64& r : m_program.state.gpr)
                r &= 0x7fffffffffff;
    }

    /// Gives a register of an address the value that makes it `wanted` in as many bits as the
    /// address has.
    void set_address_register(u8 n, u64 wanted) {
        if (z().address_width == 32)
            wanted = (wanted & 0xffffffff) | (m_random.percent(50) ? m_random.next() << 32 : 0);
        gpr(n) = wanted;
    }
    [[nodiscard]] u64 segment_base(const ZydisDecodedOperand& o) const {
        if (o.mem.segment == ZYDIS_REGISTER_FS) return m_program.state.fs_base;
        if (o.mem.segment == ZYDIS_REGISTER_GS) return m_program.state.gs_base;
        return 0;
    }

    bool aim_implicit(const ZydisDecodedOperand& o) {
        if (o.type != ZYDIS_OPERAND_TYPE_MEMORY) return true;
        const u8 base = gpr_number(o.mem.base);
        if (base == no_register) return true;
        const u64 size = std::max<u64>(o.size / 8U, 1);
        u64 target = choose_target(size);
        if (base == processor::rsp || base == processor::rbp) {
            if (m_random.percent(80)) target &= ~u64{7};
            gpr(processor::rsp) = target;
            fill_around(target - 64, 128);
            if (m_form.action == Action::leave || is({ZYDIS_MNEMONIC_ENTER})) {
                const u64 frame = choose_target(8);
                gpr(processor::rbp) = frame;
                fill_around(frame - 32, 64);
            }
            return true;
        }
        const bool masked =
            is({ZYDIS_MNEMONIC_MASKMOVQ, ZYDIS_MNEMONIC_MASKMOVDQU, ZYDIS_MNEMONIC_VMASKMOVDQU});
        if (m_random.percent(2) && !masked) { // not canonical
            set_address_register(base, m_random.next() | u64{1} << 62);
            return true;
        }
        const u64 offset = base == processor::rbx ? gpr(processor::rax) & 0xff : 0; // XLAT
        set_address_register(base, target - segment_base(o) - offset);
        fill_around(target, std::max<u64>(size, 16));
        return true;
    }

    bool aim_explicit(unsigned number) {
        const ZydisDecodedOperand o = operand(number);
        if (m_form.action == Action::lea || m_form.action == Action::nothing) return true;
        const u64 size = std::max<u64>(o.size / 8U, 1);
        m_target = choose_target(size);
        const auto& mem = o.mem;
        const u64 displacement = mem.disp.has_displacement ? static_cast<u64>(mem.disp.value) : 0;
        const u64 effective = m_target - segment_base(o);
        const u8 base = gpr_number(mem.base);
        const bool vsib = mem.type == ZYDIS_MEMOP_TYPE_VSIB;
        const u8 index = vsib ? no_register : gpr_number(mem.index);
        const u64 scale = mem.scale;
        if (mem.base == ZYDIS_REGISTER_RIP || mem.base == ZYDIS_REGISTER_EIP) {
            if (!patch_displacement(effective - (m_sample.address + z().length))) return false;
        } else if (vsib) {
            if (!aim_gather(o, base, effective - displacement)) return false;
        } else if (base == no_register && index == no_register) {
            if (!patch_displacement(effective)) return false;
        } else if (base == no_register) {
            set_address_register(index,
                                 static_cast<u64>(static_cast<i64>(effective - displacement) /
                                                  static_cast<i64>(scale)));
        } else if (index == no_register) {
            set_address_register(base, effective - displacement);
        } else if (index == base) {
            const u64 factor = scale + 1;
            u64 inverse = factor; // modulo 2^64, by Newton, for odd factors
            for (unsigned i = 0; i < 6; ++i)
                inverse *= 2 - factor * inverse;
            set_address_register(base, scale == 1 ? (effective - displacement) / 2
                                                  : (effective - displacement) * inverse);
        } else {
            if (m_random.percent(60)) gpr(index) = m_random.below(2000) - 1000;
            set_address_register(base, effective - displacement - gpr(index) * scale);
        }
        if (m_random.percent(2) && base != no_register && !vsib)
            gpr(base) = m_random.next() | u64{1} << 62; // not canonical
        limit_bit_offset(base, index);
        if (!vsib) { // where it really is: an index without a base is rounded
            const ZydisDecodedOperand& now = operand(number);
            m_target = offset_of(now);
            if (z().address_width == 32) m_target &= 0xffffffff;
            m_target += segment_base(now);
        }
        fill_around(m_target, std::max<u64>(size, 16));
        return true;
    }

    bool patch_displacement(u64 value) {
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

    bool aim_gather(const ZydisDecodedOperand& o, u8 base, u64 wanted) {
        if (base == no_register) return false;
        set_address_register(base, wanted);
        const bool wide_index = is({ZYDIS_MNEMONIC_VGATHERQPS, ZYDIS_MNEMONIC_VGATHERQPD,
                                    ZYDIS_MNEMONIC_VPGATHERQD, ZYDIS_MNEMONIC_VPGATHERQQ});
        const auto n = static_cast<unsigned>(ZydisRegisterGetId(o.mem.index));
        const std::size_t size = wide_index ? 8 : 4;
        for (std::size_t at = 0; at < 32; at += size) {
            const i64 value =
                static_cast<i64>(m_random.below(400)) - (m_random.percent(20) ? 200 : 0);
            u8* const to = at < 16
                               ? m_program.state.extended.legacy + ExtendedState::xmm0 + 16 * n + at
                               : m_program.state.extended.ymm_high[n] + (at - 16);
            std::memcpy(to, &value, size);
        }
        return true;
    }

    /// The bit offset of BT and its like reaches far: keep it in the neighbourhood.
    void limit_bit_offset(u8 base, u8 index) {
        if (m_form.action != Action::bit_test || operand(1).type != ZYDIS_OPERAND_TYPE_REGISTER)
            return;
        const u8 n = gpr_number(operand(1).reg.value);
        if (n == base || n == index) return;
        const u64 offset =
            m_random.percent(50) ? m_random.below(256) : m_random.below(65536) - 32768;
        const unsigned width = operand(1).size;
        const u64 mask = width == 64 ? ~u64{0} : (u64{1} << width) - 1;
        gpr(n) = (gpr(n) & ~mask) | (offset & mask);
    }

    /// Points near branches at a second stop.
    bool place_branch() {
        const Action action = m_form.action;
        const u64 next = m_sample.address + z().length;
        m_program.stops = {next};
        u64 taken = layout::code_begin + 0x20 + m_random.below(2 * page_size);
        const auto clear = [&](u64 a) {
            return a + stop_size <= m_sample.address || a >= next + stop_size;
        };
        if (action == Action::jump_if || action == Action::loop || action == Action::call ||
            action == Action::ret || action == Action::jump) {
            const bool relative =
                operand(0).type == ZYDIS_OPERAND_TYPE_IMMEDIATE && action != Action::ret;
            if (relative) {
                const auto& imm = z().raw.imm[0];
                if (imm.size == 8)
                    taken = next + (m_random.percent(50) ? stop_size + m_random.below(100)
                                                         : u64{0} - 48 - m_random.below(80));
                if (!clear(taken)) return false;
                const u64 relative_target = taken - next;
                std::memcpy(m_sample.bytes.data() + imm.offset, &relative_target, imm.size / 8U);
                if (!m_list.decode(m_sample)) return false;
            } else {
                if (!clear(taken)) return false;
                if (action == Action::ret)
                    put_word(gpr(processor::rsp), taken, 8);
                else if (operand(0).type == ZYDIS_OPERAND_TYPE_MEMORY)
                    put_word(m_target, taken, operand(0).size / 8U);
                else
                    gpr(gpr_number(operand(0).reg.value)) = taken;
            }
            m_program.stops.push_back(taken);
        }
        return true;
    }

    void prepare_special() {
        switch (z().mnemonic) {
        case ZYDIS_MNEMONIC_CMPXCHG:
            if (m_random.percent(50)) {
                const u64 size = operand(0).size / 8U;
                const u64 old =
                    m_target != 0 ? word_at(m_target, size) : gpr(gpr_number(operand(0).reg.value));
                gpr(processor::rax) = old;
            }
            break;
        case ZYDIS_MNEMONIC_CMPXCHG8B:
        case ZYDIS_MNEMONIC_CMPXCHG16B:
            if (m_random.percent(50)) {
                const u64 half = operand(0).size / 16U;
                gpr(processor::rax) = word_at(m_target, half);
                gpr(processor::rdx) = word_at(m_target + half, half);
            }
            break;
        case ZYDIS_MNEMONIC_LDMXCSR:
        case ZYDIS_MNEMONIC_VLDMXCSR:
            if (m_random.percent(85)) put_word(m_target, m_random.next() & 0xffff, 4);
            break;
        case ZYDIS_MNEMONIC_POPF:
        case ZYDIS_MNEMONIC_POPFD:
        case ZYDIS_MNEMONIC_POPFQ: {
            // Single-stepping and alignment checks natively stop this process.
            constexpr u64 off =
                processor::rflags::tf | processor::rflags::ac | processor::rflags::nt;
            put_word(gpr(processor::rsp), word_at(gpr(processor::rsp), 8) & ~off, 8);
            break;
        }
        case ZYDIS_MNEMONIC_FXRSTOR:
        case ZYDIS_MNEMONIC_FXRSTOR64:
        case ZYDIS_MNEMONIC_XRSTOR:
        case ZYDIS_MNEMONIC_XRSTOR64:
            if (m_random.percent(90)) {
                std::vector<u8> image(sizeof(ExtendedState));
                fill_extended_image(m_random, image);
                put(m_target, image);
            }
            break;
        default: break;
        }
        ignore_x87_pointers();
    }

    /// The last-instruction pointers in memory images: guests see zeros, since what they would see
    /// is where the translation lies.
    void ignore_x87_pointers() {
        switch (z().mnemonic) {
        case ZYDIS_MNEMONIC_FNSTENV:
        case ZYDIS_MNEMONIC_FNSAVE:
            if (z().operand_width == 16)
                m_program.not_compared.push_back({m_target + 6, 8});
            else
                m_program.not_compared.push_back({m_target + 12, 14});
            break;
        case ZYDIS_MNEMONIC_FXSAVE:
        case ZYDIS_MNEMONIC_FXSAVE64:
        case ZYDIS_MNEMONIC_XSAVE:
        case ZYDIS_MNEMONIC_XSAVE64:
        case ZYDIS_MNEMONIC_XSAVEC:
        case ZYDIS_MNEMONIC_XSAVEC64:
        case ZYDIS_MNEMONIC_XSAVEOPT:
        case ZYDIS_MNEMONIC_XSAVEOPT64: m_program.not_compared.push_back({m_target + 6, 18}); break;
        default: break;
        }
    }

    /// Sum of the registers and the displacement of a memory operand.
    [[nodiscard]] u64 offset_of(const ZydisDecodedOperand& o) {
        u64 offset = o.mem.disp.has_displacement ? static_cast<u64>(o.mem.disp.value) : 0;
        if (o.mem.base == ZYDIS_REGISTER_RIP || o.mem.base == ZYDIS_REGISTER_EIP)
            offset += m_sample.address + z().length;
        else if (is_gpr(o.mem.base))
            offset += gpr(gpr_number(o.mem.base));
        if (is_gpr(o.mem.index)) offset += gpr(gpr_number(o.mem.index)) * o.mem.scale;
        return offset;
    }

    /// An x87 store whose exception is not masked stores nothing. On device registers, which must
    /// not be read to learn what to leave there, the guest's stores zeros: known, and not compared.
    [[nodiscard]] bool stores_to_mmio_perhaps() {
        u16 fcw;
        std::memcpy(&fcw, m_program.state.extended.legacy + ExtendedState::fcw, sizeof fcw);
        if ((fcw & 0x3f) == 0x3f || m_form.key.front() != 'f' || memory_size() == 0) return false;
        const u64 last = m_target + memory_size() - 1;
        return (layout::in_data(m_target) && layout::kind_of(m_target) == layout::PageKind::mmio) ||
               (layout::in_data(last) && layout::kind_of(last) == layout::PageKind::mmio);
    }

    /// Whether every access stays in the reservation, or is not canonical.
    bool safe() {
        const auto on = [](u64 address, layout::PageKind kind) {
            return layout::in_data(address) && layout::kind_of(address) == kind;
        };
        // Whether parts of the area that are not written can fault is up to the processor.
        if (uses_feature_mask() &&
            (!layout::in_data(m_target) || on(m_target, layout::PageKind::read_only)))
            return false;
        // The frame that ENTER copies from is what it has just pushed: on device registers nobody
        // can tell what that is.
        if (is({ZYDIS_MNEMONIC_ENTER}) && on(gpr(processor::rsp), layout::PageKind::mmio) &&
            gpr(processor::rsp) - gpr(processor::rbp) + 512 < 1024)
            return false;
        if (stores_to_mmio_perhaps()) return false;
        if (uses_feature_mask() &&
            ((gpr(processor::rax) & 0xfffffff8) != 0 || (gpr(processor::rdx) & 0xffffffff) != 0))
            return false; // the host has components that guests are not shown
        for (unsigned n = 0; n < z().operand_count; ++n) {
            const ZydisDecodedOperand& o = operand(n);
            if (o.type != ZYDIS_OPERAND_TYPE_MEMORY || o.mem.type == ZYDIS_MEMOP_TYPE_AGEN)
                continue;
            if (m_form.action == Action::nothing) continue;
            u64 address = offset_of(o);
            if (m_form.action == Action::bit_test &&
                operand(1).type == ZYDIS_OPERAND_TYPE_REGISTER) {
                const unsigned shift = 64U - operand(1).size;
                address += static_cast<u64>(
                    static_cast<i64>(gpr(gpr_number(operand(1).reg.value)) << shift) >> shift >> 3);
            }
            if (z().address_width == 32 && o.mem.base != ZYDIS_REGISTER_RSP) address &= 0xffffffff;
            address += segment_base(o);
            const bool inside =
                address >= layout::reserve_begin + reach && address < layout::reserve_end - reach;
            if (!inside && (canonical(address) || canonical(address + o.size / 8U))) return false;
        }
        return true;
    }

    void finish() {
        for (const u64 place : m_program.translated)
            put(place, {0xcd, 0x80}); // what the guest runs to have code there
        m_program.rip = m_sample.address;
        m_program.code.push_back({m_sample.address, m_sample.bytes});
        m_program.text = m_sample.text() + "\n";
        for (const Range& t : m_targets)
            m_program.text += fmt::format("  memory at {:#x}, {} bytes\n", t.address, t.size);
        // By design: flags that the instruction overwrites anyway may be lost when it faults.
        const soft::DecodedInstruction& d = m_sample.decoded;
        constexpr u16 all = processor::rflags::arithmetic;
        m_program.flags_compared_on_fault = ((all & ~d.flags_written) | d.flags_read) != 0;
        // Repeated comparisons that fault leave the flags as before them with Intel, those of the
        // last element with AMD.
        if ((z().attributes & (ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE)) != 0)
            m_program.flags_compared_on_fault = false;
        // Pushes of ENTER that came before the fault stay, below the stack pointer.
        if (is({ZYDIS_MNEMONIC_ENTER}))
            m_program.not_compared_on_fault.push_back({gpr(processor::rsp) - 512, 512});
        for (unsigned i = 0; i < z().operand_count; ++i) {
            const ZydisDecodedOperand& o = operand(i);
            if (!explicit_memory(o) || o.mem.type == ZYDIS_MEMOP_TYPE_VSIB) continue;
            u64 address = offset_of(o);
            if (z().address_width == 32) address &= 0xffffffff;
            m_program.operand = {address + segment_base(o), o.size / 8U};
        }
        // Which of several faults comes first is up to the processor.
        m_program.several_faults =
            is({ZYDIS_MNEMONIC_ENTER, ZYDIS_MNEMONIC_CMPSB, ZYDIS_MNEMONIC_CMPSW,
                ZYDIS_MNEMONIC_CMPSQ}) ||
            (is({ZYDIS_MNEMONIC_CMPSD}) && m_form.action == Action::helper) ||
            is({ZYDIS_MNEMONIC_MOVSB, ZYDIS_MNEMONIC_MOVSW, ZYDIS_MNEMONIC_MOVSQ}) ||
            (is({ZYDIS_MNEMONIC_MOVSD}) && m_form.action == Action::helper);
        const u64 size = m_program.operand.size;
        m_program.misaligned =
            size >= 16 && m_program.operand.address % std::min<u64>(std::bit_floor(size), 64) != 0;
        // Which elements a gather has done before it faults is up to the processor.
        const bool gather = m_form.key.find(" vm") != std::string::npos;
        // MASKMOVQ may change TOP and the tags first.
        m_program.vectors_compared_on_fault = !gather && !is({ZYDIS_MNEMONIC_MASKMOVQ});
    }

    [[nodiscard]] u64 memory_size() const {
        for (unsigned i = 0; i < z().operand_count; ++i)
            if (explicit_memory(operand(i))) return operand(i).size / 8U;
        return 0;
    }

    const FormList& m_list;
    const Form& m_form;
    Random& m_random;
    Sample m_sample;
    Program m_program;
    u64 m_target = 0; ///< of the explicit memory operand
    std::vector<Range> m_targets;
};

} // namespace

std::optional<Program> make_single(const FormList& list, const Form& form, Random& random) {
    for (unsigned attempt = 0; attempt < 20; ++attempt)
        if (auto made = SingleMaker(list, form, random).make()) return made;
    return std::nullopt;
}

} // namespace gnomon::test
