// SPDX-License-Identifier: Apache-2.0
/// @file FNSTENV, FLDENV, FNSAVE and FRSTOR: the protected-mode formats of 28 and 14 bytes, and of
/// 108 and 94 with the registers (SDM vol. 1 section 8.1.10). The instruction and data pointers in
/// them are zero, see LiveState.
#include "processor/soft/access_checks.h"
#include "processor/soft/extended_state.h"
#include "processor/soft/helpers.h"

namespace gnomon::processor::soft {
namespace {

constexpr u64 register_bytes = 10;
constexpr u64 largest_environment = 28;
constexpr u64 largest_image = largest_environment + 8 * register_bytes;

/// Seven fields of 4 bytes, or of 2 with an operand-size prefix.
constexpr u64 environment_bytes(const Instruction& insn) {
    return insn.operand_size == 2 ? 14 : largest_environment;
}

/// The two-bit tags of the full tag word: 0 valid, 1 zero, 2 special, 3 empty. FXSAVE's abridged
/// word only says whether a register is empty; the rest follows from what it holds.
u16 full_tag_word(const LiveState& live) {
    const unsigned top = LiveState::top_of(live.fsw());
    unsigned tags = 0;
    for (unsigned physical = 0; physical < 8; ++physical) {
        unsigned tag = 3;
        if ((live.ftw() >> physical & 1) != 0) {
            const u8* const value = live.st(physical - top);
            u64 significand;
            u16 exponent;
            std::memcpy(&significand, value, sizeof significand);
            std::memcpy(&exponent, value + 8, sizeof exponent);
            exponent &= 0x7fff;
            if (exponent == 0 && significand == 0)
                tag = 1;
            else if (exponent == 0 || exponent == 0x7fff || significand >> 63 == 0)
                tag = 2;
            else
                tag = 0;
        }
        tags |= tag << (2 * physical);
    }
    return static_cast<u16>(tags);
}

u8 abridged_tag_word(u16 full) {
    unsigned abridged = 0;
    for (unsigned physical = 0; physical < 8; ++physical)
        if ((full >> (2 * physical) & 3) != 3) abridged |= 1U << physical;
    return static_cast<u8>(abridged);
}

void format_environment(const LiveState& live, const Instruction& insn, u8* out) {
    const u16 words[] = {live.fcw(), live.fsw(), full_tag_word(live)};
    std::memset(out, 0, environment_bytes(insn));
    if (insn.operand_size == 2) {
        std::memcpy(out, words, sizeof words);
        return;
    }
    constexpr u16 reserved = 0xffff; // what the upper halves of 16-bit fields are written as
    for (unsigned i = 0; i < 3; ++i) {
        std::memcpy(out + 4 * i, &words[i], sizeof words[i]);
        std::memcpy(out + 4 * i + 2, &reserved, sizeof reserved);
    }
    std::memcpy(out + 26, &reserved, sizeof reserved);
}

void apply_environment(LiveState& live, const Instruction& insn, const u8* in) {
    const unsigned field = insn.operand_size == 2 ? 2 : 4;
    u16 words[3];
    for (unsigned i = 0; i < 3; ++i)
        std::memcpy(&words[i], in + field * i, sizeof words[i]);
    live.set_x87_words(words[0], words[1], abridged_tag_word(words[2]));
}

bool x87_unavailable(const Cpu& cpu) { return (cpu.cb.state.cr0 & (cr0::em | cr0::ts)) != 0; }

/// Images are aligned to 2 or 4 bytes, by operand size (SDM vol. 3A table 6-7).
unsigned image_alignment(const Instruction& insn) { return insn.operand_size == 2 ? 2 : 4; }

bool read_image(Cpu& cpu, const Instruction& insn, u8* out, u64 size) {
    const Gva gva = cpu.effective_address(insn);
    return check_access(cpu, insn.segment, gva, size, false, image_alignment(insn)) &&
           cpu.read(gva, out, size);
}

bool write_image(Cpu& cpu, const Instruction& insn, const u8* in, u64 size) {
    const Gva gva = cpu.effective_address(insn);
    return check_access(cpu, insn.segment, gva, size, true, image_alignment(insn)) &&
           cpu.write(gva, in, size);
}

} // namespace

HelperResult fnstenv(Cpu& cpu, const Instruction& insn) {
    if (x87_unavailable(cpu)) return cpu.raise(Vector::nm);
    LiveState live(cpu);
    u8 environment[largest_environment];
    format_environment(live, insn, environment);
    if (!write_image(cpu, insn, environment, environment_bytes(insn))) return HelperResult::fault;
    live.set_x87_words(live.fcw() | 0x3f, live.fsw(), live.ftw());
    return HelperResult::next;
}

HelperResult fldenv(Cpu& cpu, const Instruction& insn) {
    if (x87_unavailable(cpu)) return cpu.raise(Vector::nm);
    LiveState live(cpu);
    if (live.x87_exception_pending()) return cpu.raise(Vector::mf);
    u8 environment[largest_environment];
    if (!read_image(cpu, insn, environment, environment_bytes(insn))) return HelperResult::fault;
    apply_environment(live, insn, environment);
    return HelperResult::next;
}

HelperResult fnsave(Cpu& cpu, const Instruction& insn) {
    if (x87_unavailable(cpu)) return cpu.raise(Vector::nm);
    LiveState live(cpu);
    u8 image[largest_image];
    const u64 environment = environment_bytes(insn);
    format_environment(live, insn, image);
    for (unsigned i = 0; i < 8; ++i)
        std::memcpy(image + environment + register_bytes * i, live.st(i), register_bytes);
    if (!write_image(cpu, insn, image, environment + 8 * register_bytes))
        return HelperResult::fault;
    live.set_x87_words(LiveState::initial_fcw, 0, 0);
    return HelperResult::next;
}

HelperResult frstor(Cpu& cpu, const Instruction& insn) {
    if (x87_unavailable(cpu)) return cpu.raise(Vector::nm);
    LiveState live(cpu);
    if (live.x87_exception_pending()) return cpu.raise(Vector::mf);
    u8 image[largest_image];
    const u64 environment = environment_bytes(insn);
    if (!read_image(cpu, insn, image, environment + 8 * register_bytes)) return HelperResult::fault;
    apply_environment(live, insn, image);
    for (unsigned i = 0; i < 8; ++i)
        std::memcpy(live.st(i), image + environment + register_bytes * i, register_bytes);
    return HelperResult::next;
}

} // namespace gnomon::processor::soft
