// SPDX-License-Identifier: Apache-2.0
#include "forms.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fnmatch.h>
#include <fstream>

namespace gnomon::test {

using processor::soft::Action;
using processor::soft::DecodedInstruction;
using processor::soft::DecodeStatus;
using processor::soft::gpr_number;
using processor::soft::Instruction;
using processor::soft::Mode;

namespace {

constexpr Mode user_mode(bool code32) {
    return Mode{static_cast<u32>(processor::soft::TlbSet::user) | (code32 ? 0 : Mode::code64) |
                Mode::flat | Mode::fpu | Mode::sse | Mode::avx | Mode::avx512};
}
constexpr std::size_t encodings_per_form = 48;

const char* register_class(ZydisRegister reg) {
    switch (ZydisRegisterGetClass(reg)) {
    case ZYDIS_REGCLASS_GPR8: return "r8";
    case ZYDIS_REGCLASS_GPR16: return "r16";
    case ZYDIS_REGCLASS_GPR32: return "r32";
    case ZYDIS_REGCLASS_GPR64: return "r64";
    case ZYDIS_REGCLASS_X87: return "st";
    case ZYDIS_REGCLASS_MMX: return "mm";
    case ZYDIS_REGCLASS_XMM: return "xmm";
    case ZYDIS_REGCLASS_YMM: return "ymm";
    case ZYDIS_REGCLASS_ZMM: return "zmm";
    case ZYDIS_REGCLASS_MASK: return "k";
    case ZYDIS_REGCLASS_SEGMENT: return "sreg";
    case ZYDIS_REGCLASS_CONTROL: return "cr";
    case ZYDIS_REGCLASS_DEBUG: return "dr";
    default: return "reg";
    }
}

std::string key_of(const DecodedInstruction& d) {
    std::string key = (d.z.attributes & ZYDIS_ATTRIB_HAS_LOCK) != 0    ? "lock "
                      : (d.z.attributes & ZYDIS_ATTRIB_HAS_REP) != 0   ? "rep "
                      : (d.z.attributes & ZYDIS_ATTRIB_HAS_REPE) != 0  ? "repe "
                      : (d.z.attributes & ZYDIS_ATTRIB_HAS_REPNE) != 0 ? "repne "
                                                                       : "";
    const bool evex = d.z.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX;
    if (evex) key += "{evex} ";
    key += ZydisMnemonicGetString(d.z.mnemonic);
    if (d.z.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR) key += " far";
    for (unsigned i = 0; i < d.z.operand_count_visible; ++i) {
        const ZydisDecodedOperand& o = d.operands[i];
        if (o.encoding == ZYDIS_OPERAND_ENCODING_MASK) {
            if (d.z.raw.evex.aaa != 0) key += " {k}";
            continue;
        }
        key += i == 0 ? " " : ", ";
        switch (o.type) {
        case ZYDIS_OPERAND_TYPE_REGISTER:
            if (o.encoding == ZYDIS_OPERAND_ENCODING_NONE)
                key += ZydisRegisterGetString(o.reg.value);
            else
                key += register_class(o.reg.value);
            break;
        case ZYDIS_OPERAND_TYPE_MEMORY:
            key += o.mem.type == ZYDIS_MEMOP_TYPE_VSIB
                       ? fmt::format("vm{}", register_class(o.mem.index))
                   : o.encoding == ZYDIS_OPERAND_ENCODING_DISP16_32_64
                       ? fmt::format("moffs{}", o.size)
                       : fmt::format("m{}", o.size);
            break;
        case ZYDIS_OPERAND_TYPE_IMMEDIATE: key += fmt::format("imm{}", d.z.raw.imm[0].size); break;
        default: key += "ptr"; break;
        }
    }
    if (evex && d.z.raw.evex.b != 0)
        key += d.memory() != nullptr                                  ? " {bcst}"
               : d.z.avx.rounding.mode != ZYDIS_ROUNDING_MODE_INVALID ? " {er}"
                                                                      : " {sae}";
    // Operand sizes that no visible operand shows.
    if (d.z.operand_count_visible == 0 || d.z.meta.category == ZYDIS_CATEGORY_STRINGOP)
        key += fmt::format(" /{}", d.z.operand_width);
    return key;
}

/// Lays out `e` with random registers, addressing and immediates.
class Builder {
public:
    Builder(const Encoding& e, bool code32, Random& random, const Addressing& addressing)
        : m(e), m_code32(code32), m_registers(code32 ? 8 : 16), m_random(random),
          m_addressing(addressing) {}

    std::vector<u8> build(bool fixed_registers, bool vsib) {
        m_fixed = fixed_registers;
        m_vsib = vsib;
        choose();
        prefixes();
        if (m.evex)
            evex();
        else if (m.vex)
            vex();
        else
            legacy();
        if (m.has_modrm) modrm();
        for (unsigned i = 0; i < 10; ++i)
            m_bytes.push_back(m_random.byte()); // displacement or immediates, if any
        return m_bytes;
    }

private:
    void choose() {
        m_address_size =
            m.address_size || (!m_addressing.fixed && m_random.percent(m.memory ? 10 : 4));
        if (m_vsib && m_code32) m_address_size = false; // no vector index with 16-bit addressing
        m_reg = m_fixed ? m.reg : static_cast<u8>(m_random.below(m_registers));
        if (m.memory) {
            if (m_addressing.fixed) {
                m_base = m_addressing.base;
                m_index = m_addressing.index;
                m_scale = m_addressing.scale;
                m_displacement = m_addressing.displacement;
                // EVEX counts a byte in units of the operand.
                m_mod = m_displacement == static_cast<i8>(m_displacement) && !m.evex ? 1 : 2;
                return;
            }
            m_mod = static_cast<u8>(m_random.below(3));
            m_base = static_cast<u8>(m_random.below(m_registers));
            m_scale = static_cast<u8>(1U << m_random.below(4));
            m_index = m_vsib || m_random.percent(40) ? static_cast<u8>(m_random.below(m_registers))
                                                     : Instruction::no_register;
            if (m_index == processor::rsp && !m_vsib) m_index = Instruction::no_register;
            m_displacement = static_cast<i32>(m_random.percent(70) ? m_random.below(0x400) - 0x200
                                                                   : m_random.next());
            m_special =
                m_mod == 0 && m_random.percent(25) && !m_vsib; // RIP-relative, absolute, index only
        } else {
            m_rm = m_fixed ? m.rm : static_cast<u8>(m_random.below(m_registers));
        }
        m_plain_rex = !m_code32 && m_random.percent(25);
        if (m.evex) choose_evex();
        m_vvvv = m.l || m_random.percent(50) ? static_cast<u8>(m_random.below(m_registers)) : 0;
    }
    void put(unsigned byte) { m_bytes.push_back(static_cast<u8>(byte)); }
    void prefixes() {
        if (!m_addressing.fixed) {
            // 16-bit addresses reach the data area by a segment base only.
            const bool sixteen = m_code32 && m_address_size && m_random.percent(80);
            if (sixteen || m_random.percent(6))
                put(m_random.pick<u8>({0x64, 0x65}));
            else if (m_random.percent(m_code32 ? 8 : 2))
                put(m_random.pick<u8>({0x26, 0x2e, 0x36, 0x3e}));
        }
        if (m_address_size) put(0x67);
        if (m.vex || m.evex) return;
        if (m.operand_size_too) put(0x66);
        if (m.mandatory != 0) put(m.mandatory);
        if (m.lock) put(0xf0);
    }
    [[nodiscard]] bool x() const {
        return m.memory && m_index != Instruction::no_register && m_index >= 8;
    }
    [[nodiscard]] bool b() const { return m.memory ? m_base >= 8 : m_rm >= 8; }
    void legacy() {
        const unsigned rex =
            (m.w ? 8U : 0) | (m.has_modrm && m_reg >= 8 ? 4U : 0) | (x() ? 2U : 0) | (b() ? 1U : 0);
        if (rex != 0 || m_plain_rex) put(0x40 | rex);
        if (m.map != 0) put(0x0f);
        if (m.map == 2) put(0x38);
        if (m.map == 3) put(0x3a);
        put(m.opcode);
    }
    void vex() {
        const unsigned pp = m.mandatory == 0x66   ? 1
                            : m.mandatory == 0xf3 ? 2
                            : m.mandatory == 0xf2 ? 3
                                                  : 0;
        const unsigned vvvv = m_zero_vvvv ? 15U : ~unsigned{m_vvvv} & 15U;
        const unsigned last = vvvv << 3 | (m.l ? 4U : 0) | pp;
        if (m.map == 1 && !m.w && !x() && !b() && m_random.percent(70)) {
            put(0xc5);
            put((m_reg >= 8 ? 0 : 0x80U) | last);
        } else {
            put(0xc4);
            put((m_reg >= 8 ? 0 : 0x80U) | (x() ? 0 : 0x40U) | (b() ? 0 : 0x20U) | m.map);
            put((m.w ? 0x80U : 0) | last);
        }
        put(m.opcode);
    }
    /// The bits that only EVEX has.
    void choose_evex() {
        m_mask = m.masked ? static_cast<u8>(1 + m_random.below(7)) : 0;
        m_zeroing = m.masked && m_random.percent(40);
        // What is no vector register has no such bit, and 32-bit code has none at all.
        const bool extended = !m_code32 && !m_fixed;
        m_high_reg = extended && m_random.percent(40);
        m_high_rm = extended && !m.memory && m_random.percent(40);
        m_high_vvvv = extended && m_random.percent(40);
    }
    void evex() {
        const unsigned pp = m.mandatory == 0x66   ? 1
                            : m.mandatory == 0xf3 ? 2
                            : m.mandatory == 0xf2 ? 3
                                                  : 0;
        const unsigned vvvv = m_zero_vvvv ? 15U : ~unsigned{m_vvvv} & 15U;
        const bool high_vvvv = m_high_vvvv && (!m_zero_vvvv || m_vsib);
        put(0x62);
        put((m_reg >= 8 ? 0 : 0x80U) | (x() || m_high_rm ? 0 : 0x40U) | (b() ? 0 : 0x20U) |
            (m_high_reg ? 0 : 0x10U) | m.map);
        put((m.w ? 0x80U : 0) | vvvv << 3 | 4 | pp);
        put((m_zeroing ? 0x80U : 0) | unsigned{m.vector_length} << 5 | (m.evex_b ? 0x10U : 0) |
            (high_vvvv ? 0 : 8U) | m_mask);
        put(m.opcode);
    }
    void modrm() {
        const unsigned reg = (m_reg & 7U) << 3;
        if (!m.memory) {
            put(0xc0 | reg | (m_rm & 7U));
            return;
        }
        if (m_code32 && m_address_size) {
            sixteen_bit(reg);
            return;
        }
        unsigned mod = m_mod;
        bool four = mod == 2;
        bool sib = m_index != Instruction::no_register || (m_base & 7) == 4;
        if (m_special) {
            if (m_random.percent(40)) { // RIP-relative
                put(reg | 5);
                displacement(true);
                return;
            }
            put(reg | 4);
            const unsigned index = m_index == Instruction::no_register ? 4 : m_index & 7U;
            put(scale_bits() << 6 | index << 3 | 5);
            displacement(true);
            return;
        }
        if (mod == 0 && (m_base & 7) == 5) mod = 1;
        put(mod << 6 | reg | (sib ? 4U : m_base & 7U));
        if (sib) {
            const unsigned index = m_index == Instruction::no_register ? 4 : m_index & 7U;
            put(scale_bits() << 6 | index << 3 | (m_base & 7U));
        }
        if (mod != 0) displacement(four);
    }
    /// 16-bit addressing: SDM vol. 2A table 2-1.
    void sixteen_bit(unsigned reg) {
        const unsigned rm = m_special ? 6U : m_base & 7U;
        const unsigned mod = m_special ? 0U : m_mod;
        put(mod << 6 | reg | rm);
        const unsigned bytes = mod == 1 ? 1 : mod == 2 || rm == 6 ? 2 : 0;
        for (unsigned i = 0; i < bytes; ++i)
            put(static_cast<u32>(m_displacement) >> (8 * i) & 0xff);
    }
    [[nodiscard]] unsigned scale_bits() const {
        return m_scale == 8 ? 3 : m_scale == 4 ? 2 : m_scale == 2 ? 1 : 0;
    }
    void displacement(bool four) {
        u8 bytes[4];
        std::memcpy(bytes, &m_displacement, sizeof bytes);
        m_bytes.insert(m_bytes.end(), bytes, bytes + (four ? 4 : 1));
    }

public:
    bool m_zero_vvvv = false; ///< VEX.vvvv must be 1111

private:
    const Encoding& m;
    const bool m_code32;
    const u64 m_registers;
    Random& m_random;
    const Addressing& m_addressing;
    std::vector<u8> m_bytes;
    bool m_fixed = false, m_vsib = false, m_plain_rex = false, m_special = false,
         m_address_size = false;
    bool m_zeroing = false, m_high_reg = false, m_high_rm = false, m_high_vvvv = false;
    u8 m_mask = 0;
    u8 m_reg = 0, m_rm = 0, m_vvvv = 0, m_base = 0, m_index = Instruction::no_register, m_scale = 1,
       m_mod = 0;
    i32 m_displacement = 0;
};

} // namespace

bool differs_by_vendor(const DecodedInstruction& d) {
    const auto has_prefix = [&d](u8 prefix) {
        for (u8 i = 0; i < d.z.raw.prefix_count; ++i)
            if (d.z.raw.prefixes[i].value == prefix) return true;
        return false;
    };
    // Far pointers with 64-bit offsets are Intel's.
    if (d.z.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR && d.z.raw.rex.W != 0 &&
        d.z.mnemonic != ZYDIS_MNEMONIC_IRETQ && d.z.mnemonic != ZYDIS_MNEMONIC_RET)
        return true;
    // EVEX.X makes no other register of a general one. AMD's read an RSP with it that may be old.
    if (d.compact.evex && d.memory() == nullptr && (d.bytes[d.z.raw.evex.offset + 1] & 0x40) == 0)
        for (unsigned i = 0; i < d.z.operand_count_visible; ++i)
            if (d.operands[i].encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM &&
                d.operands[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
                gpr_number(d.operands[i].reg.value) != Instruction::no_register)
                return true;
    switch (d.z.mnemonic) {
    case ZYDIS_MNEMONIC_VPEXTRD: // with W set, AMD's are no instructions of 32-bit code
    case ZYDIS_MNEMONIC_VPINSRD:
        if (!d.compact.code64 && (d.compact.evex ? d.z.raw.evex.W : d.z.raw.vex.W) != 0)
            return true;
        break;
    case ZYDIS_MNEMONIC_LSS:
    case ZYDIS_MNEMONIC_LFS:
    case ZYDIS_MNEMONIC_LGS:
        if (d.z.raw.rex.W != 0) return true;
        break;
    default: break;
    }
    switch (d.disposition.action) {
    case Action::loop:
        // F2 or F3 before LOOPE and LOOPNE takes the place of the opcode's condition on some.
        if (has_prefix(0xf2) || has_prefix(0xf3)) return true;
        [[fallthrough]];
    case Action::call:
    case Action::ret:
    case Action::jump:
    case Action::jump_if:
        // With AMD, near branches go to 16-bit targets in 64-bit mode, too.
        if (d.compact.code64 && has_prefix(0x66) && d.z.meta.branch_type != ZYDIS_BRANCH_TYPE_FAR)
            return true;
        break;
    default: break;
    }
    // 0F 0D with a register: a NOP with Intel, invalid with AMD.
    return d.z.opcode_map == ZYDIS_OPCODE_MAP_0F && d.z.opcode == 0x0d && d.z.raw.modrm.mod == 3;
}

std::string Sample::text() const {
    ZydisFormatter formatter;
    ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
    char line[256];
    ZydisFormatterFormatInstruction(&formatter, &decoded.z, decoded.operands,
                                    decoded.z.operand_count_visible, line, sizeof line, address,
                                    nullptr);
    std::string hex;
    for (const u8 b : bytes)
        hex += fmt::format("{:02x} ", b);
    return fmt::format("{:#x}: {:<40}{}", address, hex, line);
}

FormList::FormList(bool code32, processor::soft::FeatureSet features)
    : m_code32(code32), m_features(features) {
    enumerate();
}

bool FormList::decode(Sample& s) const {
    if (m_decoder.decode(s.bytes, user_mode(m_code32), static_cast<u16>(s.address % page_size),
                         m_features, s.decoded) != DecodeStatus::ok ||
        s.decoded.disposition.action == Action::refuse)
        return false;
    s.bytes.resize(s.decoded.z.length);
    return true;
}

/// Adds `e` to its form if the table permits it. Zydis decides what the bytes mean.
void FormList::consider(const Encoding& e) {
    u8 bytes[24] = {};
    unsigned n = 0;
    const auto put = [&](unsigned b) { bytes[n++] = static_cast<u8>(b); };
    const unsigned pp = e.mandatory == 0x66   ? 1
                        : e.mandatory == 0xf3 ? 2
                        : e.mandatory == 0xf2 ? 3
                                              : 0;
    if (e.evex) {
        put(0x62), put(0xf0U | e.map);
        put((e.w ? 0x80U : 0) | (e.rm == 8 ? 0x78U : 0x58U) | 4 | pp);
        put(unsigned{e.vector_length} << 5 | (e.evex_b ? 0x10U : 0) | 8 | (e.masked ? 1U : 0));
    } else if (e.vex) {
        put(0xc4), put(0xe0U | e.map);
        put((e.w ? 0x80U : 0) | (e.rm == 8 ? 0x78U : 0x58U) | (e.l ? 4U : 0) |
            pp); // vvvv 1111, or a register
    } else {
        if (e.address_size) put(0x67);
        if (e.operand_size_too) put(0x66);
        if (e.mandatory != 0) put(e.mandatory);
        if (e.lock) put(0xf0);
        if (e.w) put(0x48);
        if (e.map != 0) put(0x0f);
        if (e.map == 2) put(0x38);
        if (e.map == 3) put(0x3a);
    }
    put(e.opcode);
    if (e.memory)
        put(unsigned{e.reg} << 3 | 4U), put(1U << 3); // [rax + rcx]
    else
        put(0xc0U | unsigned{e.reg} << 3 | (e.rm & 7U));
    for (unsigned i = 0; i < 9; ++i)
        put(0x11);

    DecodedInstruction d;
    if (m_decoder.decode(std::span(bytes, 15), user_mode(m_code32), 0, m_features, d) !=
        DecodeStatus::ok)
        return;
    constexpr ZydisOpcodeMap maps[] = {ZYDIS_OPCODE_MAP_DEFAULT, ZYDIS_OPCODE_MAP_0F,
                                       ZYDIS_OPCODE_MAP_0F38, ZYDIS_OPCODE_MAP_0F3A};
    if (d.disposition.action == Action::refuse || d.z.opcode != e.opcode ||
        d.z.opcode_map != maps[e.map])
        return;
    Encoding encoding = e;
    encoding.has_modrm = (d.z.attributes & ZYDIS_ATTRIB_HAS_MODRM) != 0;
    if (!encoding.has_modrm) {
        if (e.memory || e.reg != 0 || e.rm != (e.vex || e.evex ? 8 : 0)) return;
    } else if (e.memory != (d.z.raw.modrm.mod != 3)) {
        return;
    }
    const std::string key = key_of(d);
    const auto [it, fresh] = m_index.try_emplace(key, m_forms.size());
    if (fresh) {
        m_forms.push_back({});
        m_forms.back().key = key;
        m_forms.back().mnemonic = d.z.mnemonic;
        m_forms.back().isa_set = d.z.meta.isa_set;
        m_forms.back().action = d.disposition.action;
    }
    Form& form = m_forms[it->second];
    ++form.found;
    if (form.encodings.size() < encodings_per_form)
        form.encodings.push_back(encoding);
    else if (const u64 at = m_choice.below(form.found); at < encodings_per_form)
        form.encodings[at] = encoding;
}

void FormList::enumerate_evex() {
    const auto consider_at = [this](Encoding e) {
        // ModRM.reg is part of the opcode in the shifts by an immediate, and in prefetches.
        const bool group = (e.map == 1 && e.opcode >= 0x71 && e.opcode <= 0x73) ||
                           (e.map == 2 && (e.opcode & 0xfe) == 0xc6);
        for (u8 reg = 0; reg < (group ? 8 : 1); ++reg)
            for (const bool memory : {true, false})
                for (const u8 rm : {u8{0}, u8{8}}) { // vvvv is a register, or 1111
                    e.reg = reg, e.memory = memory, e.rm = rm;
                    consider(e);
                }
    };
    for (u8 map = 1; map < 4; ++map)
        for (unsigned opcode = 0; opcode < 256; ++opcode)
            for (const u8 mandatory : {u8{0}, u8{0x66}, u8{0xf2}, u8{0xf3}})
                for (unsigned bits = 0; bits < 32; ++bits) {
                    Encoding e;
                    e.evex = true, e.map = map, e.opcode = static_cast<u8>(opcode),
                    e.mandatory = mandatory;
                    e.w = (bits & 1) != 0;
                    e.evex_b = (bits & 2) != 0;
                    e.masked = (bits & 4) != 0;
                    e.vector_length = static_cast<u8>(bits >> 3);
                    consider_at(e);
                }
}

void FormList::enumerate() {
    struct Prefixes {
        u8 mandatory;
        bool operand_size_too, lock;
    };
    constexpr Prefixes legacy[] = {{0, false, false},    {0x66, false, false}, {0xf2, false, false},
                                   {0xf3, false, false}, {0xf2, true, false},  {0xf3, true, false},
                                   {0, false, true},     {0x66, false, true}};
    const auto with_modrm = [this](Encoding e, unsigned rm_count) {
        for (u8 reg = 0; reg < 8; ++reg) {
            e.reg = reg;
            e.memory = true, e.rm = 0;
            consider(e);
            if (e.vex || e.evex) e.rm = 8, consider(e);
            e.memory = false;
            for (u8 rm = 0; rm < rm_count; ++rm)
                e.rm = rm, consider(e);
        }
    };
    for (u8 map = 0; map < 4; ++map)
        for (unsigned opcode = 0; opcode < 256; ++opcode) {
            Encoding e;
            e.map = map;
            e.opcode = static_cast<u8>(opcode);
            for (const Prefixes& p : legacy)
                for (const bool w : {false, true}) {
                    if (w && m_code32) continue; // REX is INC and DEC there
                    e.mandatory = p.mandatory, e.operand_size_too = p.operand_size_too,
                    e.lock = p.lock, e.w = w;
                    with_modrm(e, 8);
                    if (map != 0 || opcode != 0xe3) continue; // JCXZ, JECXZ, JRCXZ
                    Encoding other = e;
                    other.address_size = true;
                    with_modrm(other, 8);
                }
        }
    for (u8 map = 1; map < 4; ++map)
        for (unsigned opcode = 0; opcode < 256; ++opcode)
            for (const u8 mandatory : {u8{0}, u8{0x66}, u8{0xf2}, u8{0xf3}})
                for (const bool w : {false, true})
                    for (const bool l : {false, true}) {
                        Encoding e;
                        e.vex = true, e.map = map, e.opcode = static_cast<u8>(opcode),
                        e.mandatory = mandatory;
                        e.w = w, e.l = l;
                        with_modrm(e, 9);
                    }
    enumerate_evex();
    m_index.clear();
    std::ranges::sort(m_forms, {}, &Form::key);
}

const Form* FormList::form_of(const DecodedInstruction& d) const {
    const std::string key = key_of(d);
    const auto at = std::ranges::lower_bound(m_forms, key, {}, &Form::key);
    return at != m_forms.end() && at->key == key ? &*at : nullptr;
}

bool FormList::sample(const Form& form, u64 address, Random& random, const Addressing& addressing,
                      Sample& out) const {
    const bool vsib =
        form.key.find(" vm") != std::string::npos || form.key.find(", vm") != std::string::npos;
    for (unsigned attempt = 0; attempt < 12; ++attempt) {
        const Encoding& e = form.encodings[random.below(form.encodings.size())];
        Builder builder(e, m_code32, random, addressing);
        builder.m_zero_vvvv = (e.vex || e.evex) && attempt % 2 == 1;
        out.address = address;
        out.bytes = builder.build(attempt >= 6, vsib);
        out.bytes.resize(std::min<std::size_t>(out.bytes.size(), 15));
        if (decode(out) && key_of(out.decoded) == form.key) return true;
    }
    return false;
}

Result<Exclusions> Exclusions::load(const std::string& path) {
    std::ifstream file(path);
    if (!file) return fail("{}: {}", path, std::strerror(errno));
    Exclusions list;
    for (std::string line; std::getline(file, line);) {
        const std::size_t mark = line.find('#');
        std::string pattern = line.substr(0, mark);
        pattern.erase(pattern.find_last_not_of(" \t") + 1);
        if (pattern.empty()) continue;
        if (mark == std::string::npos) return fail("{}: '{}' has no reason", path, pattern);
        list.m_entries.push_back({pattern, false});
    }
    return list;
}

bool Exclusions::match(const std::string& key, bool code32) {
    const std::string key32 = "code32 " + key;
    bool found = false;
    for (Entry& e : m_entries)
        if (::fnmatch(e.pattern.c_str(), key.c_str(), 0) == 0 ||
            (code32 && ::fnmatch(e.pattern.c_str(), key32.c_str(), 0) == 0))
            e.used = found = true;
    return found;
}

std::vector<std::string> Exclusions::unused() const {
    std::vector<std::string> out;
    for (const Entry& e : m_entries)
        if (!e.used) out.push_back(e.pattern);
    return out;
}

} // namespace gnomon::test
