// SPDX-License-Identifier: Apache-2.0
#include "image_builder.h"

#include <algorithm>
#include <array>
#include <elf.h>
#include <fmt/format.h>
#include <linux/btf.h>

namespace gnomon::guest::linux_::test {

u32 BtfBuilder::string(std::string_view text) {
    if (text.empty()) return 0;
    const auto at = static_cast<u32>(m_strings.size());
    append_text(m_strings, text);
    m_strings.push_back(std::byte{0});
    return at;
}

u32 BtfBuilder::record(std::string_view name, u32 info, u32 size_or_type) {
    append(m_types, string(name));
    append(m_types, info);
    append(m_types, size_or_type);
    return ++m_count;
}

u32 BtfBuilder::integer(std::string_view name, u32 bytes) {
    const u32 id = record(name, u32{BTF_KIND_INT} << 24, bytes);
    append(m_types, bytes * 8);
    return id;
}

u32 BtfBuilder::reference(u32 kind, std::string_view name, u32 type) {
    return record(name, kind << 24, type);
}

u32 BtfBuilder::array(u32 element, u32 count) {
    const u32 id = record("", u32{BTF_KIND_ARRAY} << 24, 0);
    append(m_types, element);
    append(m_types, element); // any type does for the index
    append(m_types, count);
    return id;
}

u32 BtfBuilder::composite(u32 kind, std::string_view name, u32 bytes,
                          const std::vector<Member>& members) {
    const bool bit_fields = std::any_of(members.begin(), members.end(),
                                        [](const Member& m) { return m.bit_size != 0; });
    const u32 id = record(
        name, (bit_fields ? u32{1} << 31 : 0) | kind << 24 | static_cast<u32>(members.size()),
        bytes);
    for (const Member& member : members) {
        append(m_types, string(member.name));
        append(m_types, member.type);
        append(m_types, member.bit_offset | (bit_fields ? member.bit_size << 24 : 0));
    }
    return id;
}

Bytes BtfBuilder::build() const {
    btf_header header{};
    header.magic = BTF_MAGIC;
    header.version = BTF_VERSION;
    header.hdr_len = sizeof header;
    header.type_len = static_cast<u32>(m_types.size());
    header.str_off = header.type_len;
    header.str_len = static_cast<u32>(m_strings.size());
    Bytes out;
    append(out, header);
    out.insert(out.end(), m_types.begin(), m_types.end());
    out.insert(out.end(), m_strings.begin(), m_strings.end());
    return out;
}

namespace {

/// Characters stand for themselves; some of the other numbers for pieces of names.
std::array<std::string, 256> token_table() {
    std::array<std::string, 256> tokens;
    for (unsigned c = '$'; c <= 'z'; ++c)
        tokens[c] = std::string(1, static_cast<char>(c));
    tokens[0] = "entry_";
    tokens[1] = "SYSCALL";
    tokens[2] = "filler_function_";
    tokens[200] = "_compat";
    tokens[255] = "to_user";
    return tokens;
}

Bytes compress(const std::array<std::string, 256>& tokens, std::string_view text) {
    Bytes out;
    while (!text.empty()) {
        std::size_t best = static_cast<u8>(text.front());
        for (std::size_t i = 0; i < tokens.size(); ++i)
            if (tokens[i].size() > tokens[best].size() && text.starts_with(tokens[i])) best = i;
        out.push_back(static_cast<std::byte>(best));
        text.remove_prefix(tokens[best].size());
    }
    return out;
}

} // namespace

Bytes build_kallsyms(const std::vector<BuiltSymbol>& symbols, KallsymsLayout layout, Gva address) {
    const auto tokens = token_table();
    const std::size_t alignment = layout == KallsymsLayout::v7_0 ? 4 : 8;
    const bool addresses_first = layout == KallsymsLayout::v5_0 || layout == KallsymsLayout::v6_2 ||
                                 layout == KallsymsLayout::absolute_first;
    const u64 base = 0xffff'ffff'8100'0000;
    Bytes out;
    append_text(out, "what the compiler put before: 0123456789");
    out.push_back(std::byte{0});

    const auto addresses = [&] {
        pad(out, alignment);
        for (const BuiltSymbol& symbol : symbols) {
            switch (layout) {
            case KallsymsLayout::absolute_first:
            case KallsymsLayout::absolute_last: append(out, symbol.address); break;
            case KallsymsLayout::v6_15: append(out, static_cast<u32>(symbol.address - base)); break;
            case KallsymsLayout::v7_0:
                append(out, static_cast<u32>(symbol.address - (address + out.size()).value()));
                break;
            default:
                append(out, static_cast<u32>(symbol.address < base ? symbol.address
                                                                   : base - 1 - symbol.address));
            }
        }
        if (layout == KallsymsLayout::v7_0 || layout == KallsymsLayout::absolute_first ||
            layout == KallsymsLayout::absolute_last)
            return;
        pad(out, 8);
        append(out, base);
    };
    const auto seqs_of_names = [&] {
        pad(out, alignment);
        for (std::size_t i = 0; i < symbols.size(); ++i) {
            const std::size_t seq = symbols.size() - 1 - i;
            for (const unsigned shift : {16u, 8u, 0u})
                out.push_back(static_cast<std::byte>(seq >> shift & 0xff));
        }
    };

    if (addresses_first) addresses();
    pad(out, alignment);
    append(out, static_cast<u32>(symbols.size()));
    pad(out, alignment);
    std::vector<u32> markers;
    const std::size_t names = out.size();
    for (std::size_t i = 0; i < symbols.size(); ++i) {
        if (i % 256 == 0) markers.push_back(static_cast<u32>(out.size() - names));
        const Bytes entry = compress(tokens, std::string(1, symbols[i].type) + symbols[i].name);
        if (entry.size() >= 0x80) {
            out.push_back(static_cast<std::byte>((entry.size() & 0x7f) | 0x80));
            out.push_back(static_cast<std::byte>(entry.size() >> 7));
        } else {
            out.push_back(static_cast<std::byte>(entry.size()));
        }
        out.insert(out.end(), entry.begin(), entry.end());
    }
    pad(out, alignment);
    for (const u32 marker : markers)
        append(out, marker);
    if (layout == KallsymsLayout::v6_2) seqs_of_names();
    pad(out, alignment);
    std::vector<u16> index;
    const std::size_t table = out.size();
    for (const std::string& token : tokens) {
        index.push_back(static_cast<u16>(out.size() - table));
        append_text(out, token);
        out.push_back(std::byte{0});
    }
    pad(out, alignment);
    for (const u16 i : index)
        append(out, i);
    if (!addresses_first) addresses();
    if (!addresses_first) seqs_of_names();
    append_text(out, "what it put behind");
    return out;
}

std::vector<BuiltSymbol> small_kernel_symbols(KallsymsLayout layout) {
    const u64 base = 0xffff'ffff'8100'0000;
    std::vector<BuiltSymbol> symbols;
    const bool per_cpu_in_image = layout == KallsymsLayout::v6_15 || layout == KallsymsLayout::v7_0;
    if (!per_cpu_in_image) {
        symbols.push_back({0, 'A', "__per_cpu_start"});
        symbols.push_back({0x1fb80, 'A', "current_task"});
    }
    symbols.push_back({base, 'T', "_text"});
    symbols.push_back({base, 'T', "_stext"});
    for (u32 i = 0; i < 900; ++i)
        symbols.push_back({base + 0x1000 + i * 64, i % 3 == 0 ? 't' : 'T',
                           fmt::format("filler_function_{}.constprop.{}", i / 2, i % 7)});
    symbols.push_back({base + 0x20000, 'T', std::string(300, 'q')});
    const char* entries[] = {"syscall_exit_to_user_mode", "entry_SYSCALL_64",
                             "entry_SYSENTER_compat",     "entry_SYSCALL_compat",
                             "asm_int80_emulation",       "getname_flags"};
    for (u32 i = 0; i < std::size(entries); ++i)
        symbols.push_back({base + 0x21000 + i * 0x200, 'T', entries[i]});
    symbols.push_back({base + 0x30000, 'd', "linux_banner"});
    symbols.push_back({base + 0x31000, 'r', "__start_BTF"});
    symbols.push_back({base + 0x31000 + small_kernel_btf().size(), 'r', "__stop_BTF"});
    symbols.push_back({base + 0x41000, 'D', "init_task"});
    symbols.push_back({base + 0x42000, 'D', "__per_cpu_offset"});
    if (per_cpu_in_image) symbols.push_back({base + 0x43000, 'D', "current_task"});
    symbols.push_back({base + 0x50000, 'B', "_end"});
    return symbols;
}

Bytes small_kernel_btf() {
    BtfBuilder b;
    const u32 u64_type = b.integer("unsigned long", 8);
    const u32 int_type = b.integer("int", 4);
    const u32 char_type = b.integer("char", 1);
    const u32 pointer = b.reference(BTF_KIND_PTR, "", 0);
    const u32 comm = b.array(char_type, 16);
    const u32 pid_t_type = b.reference(BTF_KIND_TYPEDEF, "pid_t", int_type);
    const u32 const_pid = b.reference(BTF_KIND_CONST, "", pid_t_type);
    const u32 thread_info = b.composite(BTF_KIND_STRUCT, "thread_info", 16,
                                        {{"flags", u64_type, 0}, {"status", int_type, 64}});
    const u32 thread = b.composite(BTF_KIND_STRUCT, "thread_struct", 64,
                                   {{"sp", u64_type, 0}, {"fsbase", u64_type, 40 * 8}});
    // As in a randomised task_struct: most members inside an anonymous structure, some inside a
    // union in it.
    const u32 inner_union =
        b.composite(BTF_KIND_UNION, "", 8, {{"start_boottime", u64_type, 0}, {"u", int_type, 0}});
    const u32 inner = b.composite(BTF_KIND_STRUCT, "", 256,
                                  {{"pid", const_pid, 0},
                                   {"tgid", pid_t_type, 32},
                                   {"real_parent", pointer, 64},
                                   {"group_leader", pointer, 128},
                                   {"comm", comm, 192},
                                   {"signal", pointer, 320},
                                   {"mm", pointer, 384},
                                   {"start_time", u64_type, 448},
                                   {"", inner_union, 512},
                                   {"thread_pid", pointer, 576},
                                   {"nsproxy", pointer, 640},
                                   {"files", pointer, 704},
                                   {"fs", pointer, 768},
                                   {"cred", pointer, 832},
                                   {"flags", int_type, 896},
                                   {"exit_code", int_type, 928},
                                   {"stack", pointer, 960}});
    b.composite(
        BTF_KIND_STRUCT, "task_struct", 400,
        {{"thread_info", thread_info, 0}, {"", inner, 16 * 8}, {"thread", thread, 320 * 8}});
    const u32 upid =
        b.composite(BTF_KIND_STRUCT, "upid", 16, {{"nr", int_type, 0}, {"ns", pointer, 64}});
    const u32 upids = b.array(upid, 1);
    b.composite(BTF_KIND_STRUCT, "pid", 32, {{"level", int_type, 32}, {"numbers", upids, 16 * 8}});
    std::vector<BtfBuilder::Member> registers;
    for (const char* name :
         {"r15", "r14", "r13", "r12", "bp",      "bx", "r11", "r10",   "r9", "r8", "ax",
          "cx",  "dx",  "si",  "di",  "orig_ax", "ip", "cs",  "flags", "sp", "ss"})
        registers.push_back({name, u64_type, static_cast<u32>(registers.size() * 64)});
    b.composite(BTF_KIND_STRUCT, "pt_regs", 168, registers);
    const u32 info =
        b.composite(BTF_KIND_STRUCT, "kernel_siginfo", 48, {{"si_signo", int_type, 0}});
    b.composite(BTF_KIND_STRUCT, "ksignal", 88,
                {{"info", info, 32 * 8}, {"sig", int_type, 80 * 8}});
    return b.build();
}

Bytes build_elf(const std::vector<BuiltSection>& sections, bool with_section_table) {
    Elf64_Ehdr header{};
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_ident[EI_VERSION] = EV_CURRENT;
    header.e_type = ET_EXEC;
    header.e_machine = EM_X86_64;
    header.e_phoff = sizeof header;
    header.e_phentsize = sizeof(Elf64_Phdr);
    header.e_phnum = static_cast<u16>(sections.size());

    Bytes body;
    std::vector<Elf64_Phdr> programs;
    std::vector<Elf64_Shdr> table(1);
    std::string names(1, '\0');
    const std::size_t body_at = sizeof header + sections.size() * sizeof(Elf64_Phdr);
    for (const BuiltSection& section : sections) {
        while ((body_at + body.size()) % 16 != 0)
            body.push_back(std::byte{0});
        Elf64_Phdr program{};
        program.p_type = PT_LOAD;
        program.p_flags = PF_R | PF_X;
        program.p_offset = body_at + body.size();
        program.p_vaddr = section.address.value();
        program.p_filesz = program.p_memsz = section.bytes.size();
        programs.push_back(program);
        Elf64_Shdr row{};
        row.sh_name = static_cast<u32>(names.size());
        row.sh_type = SHT_PROGBITS;
        row.sh_addr = program.p_vaddr;
        row.sh_offset = program.p_offset;
        row.sh_size = program.p_filesz;
        table.push_back(row);
        names += section.name + '\0';
        body.insert(body.end(), section.bytes.begin(), section.bytes.end());
    }
    if (with_section_table) {
        Elf64_Shdr strings{};
        strings.sh_name = static_cast<u32>(names.size());
        names += std::string(".shstrtab") + '\0';
        strings.sh_type = SHT_STRTAB;
        strings.sh_offset = body_at + body.size();
        strings.sh_size = names.size();
        append_text(body, names);
        header.e_shoff = body_at + body.size();
        header.e_shentsize = sizeof(Elf64_Shdr);
        header.e_shstrndx = static_cast<u16>(table.size());
        table.push_back(strings);
        header.e_shnum = static_cast<u16>(table.size());
        for (const Elf64_Shdr& row : table)
            append(body, row);
    }
    Bytes out;
    append(out, header);
    for (const Elf64_Phdr& program : programs)
        append(out, program);
    out.insert(out.end(), body.begin(), body.end());
    return out;
}

Bytes small_kernel(KallsymsLayout layout, bool with_section_table) {
    const Gva base(0xffff'ffff'8100'0000);
    const Gva rodata(base + 0x100000);
    Bytes banner;
    append_text(banner, "Linux version 6.1.0-test+1 (somebody@somewhere) #1 SMP");
    return build_elf(
        {{".text", base, Bytes(0x400)},
         {".banner", base + 0x30000, banner},
         {".rodata", rodata, build_kallsyms(small_kernel_symbols(layout), layout, rodata)},
         {".BTF", base + 0x31000, small_kernel_btf()}},
        with_section_table);
}

} // namespace gnomon::guest::linux_::test
