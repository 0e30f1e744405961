// SPDX-License-Identifier: Apache-2.0
/// @file kallsyms tables in hostile read-only data: the search, and what is decoded of its finds.
#include "guest/linux/kallsyms.h"
#include "fuzz/support/input.h"

#include <array>
#include <elf.h>
#include <vector>

using namespace gnomon;
using namespace gnomon::fuzz;
namespace linux_ = gnomon::guest::linux_;

namespace {

constexpr Gva base{0xffff'ffff'8110'0000};

bool inside(std::span<const std::byte> region, const void* begin, std::size_t size) {
    const auto first = reinterpret_cast<std::uintptr_t>(region.data());
    const auto at = reinterpret_cast<std::uintptr_t>(begin);
    return size == 0 ||
           (at >= first && at - first <= region.size() && size <= region.size() - (at - first));
}

/// An image with one segment that holds the region.
std::vector<std::byte> image_around(std::span<const std::byte> region) {
    Elf64_Ehdr header{};
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_ident[EI_VERSION] = EV_CURRENT;
    header.e_type = ET_EXEC;
    header.e_machine = EM_X86_64;
    header.e_phoff = sizeof header;
    header.e_phentsize = sizeof(Elf64_Phdr);
    header.e_phnum = 1;
    Elf64_Phdr program{};
    program.p_type = PT_LOAD;
    program.p_flags = PF_R;
    program.p_offset = sizeof header + sizeof program;
    program.p_vaddr = base.value();
    program.p_filesz = program.p_memsz = region.size();
    std::vector<std::byte> out(sizeof header + sizeof program);
    std::memcpy(out.data(), &header, sizeof header);
    std::memcpy(out.data() + sizeof header, &program, sizeof program);
    out.insert(out.end(), region.begin(), region.end());
    return out;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    const auto region = std::as_bytes(std::span(data, size));
    if (const auto tables = linux_::find_kallsyms_tables(region, base)) {
        require(tables->count != 0 && tables->addresses.size() == tables->count, "the count");
        require(std::ranges::is_sorted(tables->addresses), "addresses are not ascending");
        require(inside(region, tables->names.data(), tables->names.size()), "names are elsewhere");
        for (const std::string_view token : tables->tokens)
            require(inside(region, token.data(), token.size()), "a token is elsewhere");
        std::size_t at = 0;
        u32 names = 0;
        while (const auto name = linux_::next_kallsyms_name(tables->names, at)) {
            require(inside(tables->names, name->data(), name->size()), "a name is elsewhere");
            ++names;
        }
        require(names == tables->count && at == tables->names.size(),
                "names are not exactly those of the symbols");
    }

    const auto file = image_around(region);
    const auto image = linux_::ElfImage::parse(file);
    require(image.has_value(), "the image around the tables");
    const auto symbols = linux_::Kallsyms::from_vmlinux(*image);
    if (!symbols) return 0;
    for (std::size_t i = 0; i < symbols->size(); ++i) {
        const auto symbol = symbols->at(i);
        const auto found = symbols->lookup(symbol.name);
        require(found && *found <= symbol.address, "a symbol is not found by its name");
        const auto location = symbols->symbol_at(symbol.address);
        require(location && location->offset == 0 && location->symbol.address == symbol.address,
                "a symbol is not found by its address");
    }
    require(symbols->at(symbols->size()).name.empty(), "a symbol behind the last");
    return 0;
}
