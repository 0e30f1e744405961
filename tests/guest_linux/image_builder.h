// SPDX-License-Identifier: Apache-2.0
/// @file Small kernel images made for tests: BTF, kallsyms tables in every layout, and the ELF file
/// around them.
#pragma once

#include "guest/linux/kallsyms_tables.h"

#include <cstring>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace gnomon::guest::linux_::test {

using Bytes = std::vector<std::byte>;

template <class T>
void append(Bytes& out, T value) {
    const std::size_t at = out.size();
    out.resize(at + sizeof value);
    std::memcpy(out.data() + at, &value, sizeof value);
}
inline void append_text(Bytes& out, std::string_view text) {
    for (const char c : text)
        out.push_back(static_cast<std::byte>(c));
}
inline void pad(Bytes& out, std::size_t alignment) {
    while (out.size() % alignment != 0)
        out.push_back(std::byte{0});
}

/// Type records in the order they are added; the first has number 1.
class BtfBuilder {
public:
    struct Member {
        std::string name; ///< empty: anonymous
        u32 type;
        u32 bit_offset;
        u32 bit_size = 0; ///< of a bit-field
    };
    u32 integer(std::string_view name, u32 bytes);
    u32 reference(u32 kind, std::string_view name, u32 type); ///< PTR, CONST, TYPEDEF, ...
    u32 array(u32 element, u32 count);
    u32 composite(u32 kind, std::string_view name, u32 bytes, const std::vector<Member>& members);
    /// The number that the next record will get.
    [[nodiscard]] u32 next() const { return m_count + 1; }
    [[nodiscard]] Bytes build() const;

private:
    u32 string(std::string_view text);
    u32 record(std::string_view name, u32 info, u32 size_or_type);

    Bytes m_types;
    Bytes m_strings{std::byte{0}};
    u32 m_count = 0;
};

enum class KallsymsLayout {
    v5_0,  ///< base-relative, addresses first
    v6_2,  ///< the same with seqs_of_names between markers and token_table
    v6_4,  ///< addresses last
    v6_15, ///< addresses last, no per-CPU exception
    v7_0,  ///< addresses last, relative to their place, aligned to 4
    absolute_first,
    absolute_last,
};

struct BuiltSymbol {
    u64 address;
    char type;
    std::string name;
};

/// The tables as they stand in .rodata at `address`, with other data before and behind.
Bytes build_kallsyms(const std::vector<BuiltSymbol>& symbols, KallsymsLayout layout, Gva address);

/// Symbols of a small kernel: the ones that matter, and enough others for several markers.
std::vector<BuiltSymbol> small_kernel_symbols(KallsymsLayout layout);
/// BTF of a small kernel's task_struct, pt_regs, pid, upid and ksignal.
Bytes small_kernel_btf();

struct BuiltSection {
    std::string name; ///< empty: none in the section table
    Gva address;
    Bytes bytes;
};
/// One PT_LOAD segment and one section for each.
Bytes build_elf(const std::vector<BuiltSection>& sections, bool with_section_table = true);

/// A whole small kernel.
Bytes small_kernel(KallsymsLayout layout = KallsymsLayout::v5_0, bool with_section_table = true);

} // namespace gnomon::guest::linux_::test
