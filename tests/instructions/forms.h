// SPDX-License-Identifier: Apache-2.0
/// @file The forms of instruction that the instruction table permits, found by decoding all
/// opcodes, and the making of random instructions of a form.
#pragma once

#include "processor/soft/decoder.h"
#include "random.h"

#include <set>
#include <string>
#include <unordered_map>
#include <vector>

namespace gnomon::test {

/// What distinguishes the encodings of one form. Registers and addresses are not part of it.
struct Encoding {
    bool vex = false, evex = false, lock = false, memory = false, has_modrm = false;
    bool w = false, l = false;
    u8 vector_length = 0;                ///< EVEX.L'L
    bool evex_b = false, masked = false; ///< EVEX.b; EVEX.aaa is not 0
    u8 map = 0;                          ///< 0: one byte, 1: 0F, 2: 0F38, 3: 0F3A
    u8 mandatory = 0;                    ///< 66, F2, F3 or 0
    bool operand_size_too = false;       ///< 66 besides F2 or F3
    bool address_size = false;           ///< 67, where it makes another instruction
    u8 opcode = 0;
    u8 reg = 0, rm = 0; ///< ModRM fields with which the form was found
};

/// Instructions of one mnemonic whose operands have the same kinds and sizes, such as "add m32,
/// r32".
struct Form {
    std::string key;
    ZydisMnemonic mnemonic = ZYDIS_MNEMONIC_INVALID;
    ZydisISASet isa_set = ZYDIS_ISA_SET_INVALID;
    processor::soft::Action action = processor::soft::Action::refuse;
    std::vector<Encoding> encodings;
    u64 found = 0;                ///< encodings, of which `encodings` is a sample
    u64 cases = 0;                ///< how often it was exercised
    bool accesses_memory = false; ///< so a case has found
    std::set<unsigned>
        met; ///< places that its operand had: numbers of Place, with those that it cannot have
};

/// An instruction at an address.
struct Sample {
    u64 address = 0;
    std::vector<u8> bytes;
    processor::soft::DecodedInstruction decoded;

    [[nodiscard]] std::string text() const;
};

/// How the memory operand is to be addressed, when that is not left to chance.
struct Addressing {
    bool fixed = false;
    u8 base = 0;
    u8 index = processor::soft::Instruction::no_register;
    u8 scale = 1;
    i32 displacement = 0;
};

/// Encodings that Intel's processors, which guests are shown, and AMD's execute differently.
[[nodiscard]] bool differs_by_vendor(const processor::soft::DecodedInstruction& d);

/// The part of an address that `width` bits hold: 16, 32 or 64.
[[nodiscard]] constexpr u64 within_width(u64 address, unsigned width) {
    return width >= 64 ? address : address & ((u64{1} << width) - 1);
}

class FormList {
public:
    /// @param code32 the forms of 32-bit code rather than of 64-bit code.
    FormList(bool code32, processor::soft::FeatureSet features);
    [[nodiscard]] bool code32() const { return m_code32; }
    [[nodiscard]] std::vector<Form>& forms() { return m_forms; }
    [[nodiscard]] processor::soft::FeatureSet features() const { return m_features; }

    /// The form of an instruction; nullptr if it has none.
    [[nodiscard]] const Form* form_of(const processor::soft::DecodedInstruction& d) const;
    /// A random instruction of `form` at `address`; false if chance gave none.
    [[nodiscard]] bool sample(const Form& form, u64 address, Random& random,
                              const Addressing& addressing, Sample& out) const;
    /// Decodes `out.bytes` anew.
    [[nodiscard]] bool decode(Sample& out) const;

private:
    void enumerate();
    void enumerate_evex();
    void consider(const Encoding& encoding);

    bool m_code32;
    processor::soft::FeatureSet m_features;
    processor::soft::Decoder m_decoder;
    std::vector<Form> m_forms;
    std::unordered_map<std::string, std::size_t>
        m_index; ///< of m_forms, by key, while they are found
    Random m_choice{1};
};

/// Patterns of forms that are not compared, each with its reason: lines "pattern # reason", `*`
/// matches anything. Those that begin with "code32 " are for 32-bit code only.
class Exclusions {
public:
    [[nodiscard]] static Result<Exclusions> load(const std::string& path);
    [[nodiscard]] bool match(const std::string& key, bool code32);
    /// Patterns that never matched.
    [[nodiscard]] std::vector<std::string> unused() const;

private:
    struct Entry {
        std::string pattern;
        bool used = false;
    };
    std::vector<Entry> m_entries;
};

} // namespace gnomon::test
