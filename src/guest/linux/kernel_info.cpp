// SPDX-License-Identifier: Apache-2.0
#include "guest/linux/kernel_info.h"

#include "guest/linux/kernel_range.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace gnomon::guest::linux_ {

namespace {

/// The bytes of linux_banner that are looked at, and of the release that are kept (__NEW_UTS_LEN).
constexpr u64 banner_bytes = 256;
constexpr std::size_t max_release_bytes = 64;

struct SymbolRow {
    std::optional<Gva> KernelSymbols::*field;
    std::array<std::string_view, 3> names; ///< the first that exists; kernels rename
    bool expected = true;                  ///< whether its absence is worth a line
};

constexpr SymbolRow symbol_rows[] = {
    {&KernelSymbols::text, {"_text", "_stext"}},
    {&KernelSymbols::end, {"_end", "__brk_limit"}},
    {&KernelSymbols::init_task, {"init_task"}},
    {&KernelSymbols::per_cpu_offset, {"__per_cpu_offset"}},
    {&KernelSymbols::linux_banner, {"linux_banner"}},
    {&KernelSymbols::entry_syscall_64, {"entry_SYSCALL_64"}},
    {&KernelSymbols::entry_syscall_64_trampoline, {"entry_SYSCALL_64_trampoline"}, false},
    {&KernelSymbols::entry_syscall_compat, {"entry_SYSCALL_compat"}},
    {&KernelSymbols::entry_sysenter_compat, {"entry_SYSENTER_compat"}},
    // An IDT entry of its own kind since 6.7 and in the stable branches' later releases.
    {&KernelSymbols::entry_int80, {"asm_int80_emulation", "entry_INT80_compat"}},
    {&KernelSymbols::syscall_exit_to_user_mode, {"syscall_exit_to_user_mode"}},
    {&KernelSymbols::getname_flags, {"getname_flags"}},
};

template <class Layout>
struct MemberRow {
    std::optional<u32> Layout::*field;
    std::string_view type;
    std::string_view path;
};

constexpr MemberRow<TaskLayout> task_rows[] = {
    {&TaskLayout::pid, "task_struct", "pid"},
    {&TaskLayout::tgid, "task_struct", "tgid"},
    {&TaskLayout::comm, "task_struct", "comm"},
    {&TaskLayout::real_parent, "task_struct", "real_parent"},
    {&TaskLayout::signal, "task_struct", "signal"},
    {&TaskLayout::group_leader, "task_struct", "group_leader"},
    {&TaskLayout::mm, "task_struct", "mm"},
    {&TaskLayout::start_time, "task_struct", "start_time"},
    {&TaskLayout::start_boottime, "task_struct", "start_boottime"},
    {&TaskLayout::thread_pid, "task_struct", "thread_pid"},
    {&TaskLayout::nsproxy, "task_struct", "nsproxy"},
    {&TaskLayout::files, "task_struct", "files"},
    {&TaskLayout::fs, "task_struct", "fs"},
    {&TaskLayout::cred, "task_struct", "cred"},
    {&TaskLayout::flags, "task_struct", "flags"},
    {&TaskLayout::thread_info_flags, "task_struct", "thread_info.flags"},
    {&TaskLayout::exit_code, "task_struct", "exit_code"},
    {&TaskLayout::stack, "task_struct", "stack"},
    {&TaskLayout::fs_base, "task_struct", "thread.fsbase"},
};

constexpr MemberRow<PidLayout> pid_rows[] = {
    {&PidLayout::level, "pid", "level"},
    {&PidLayout::numbers, "pid", "numbers"},
    {&PidLayout::nr, "upid", "nr"},
};

constexpr MemberRow<RegistersLayout> register_rows[] = {
    {&RegistersLayout::ax, "pt_regs", "ax"},   {&RegistersLayout::orig_ax, "pt_regs", "orig_ax"},
    {&RegistersLayout::bx, "pt_regs", "bx"},   {&RegistersLayout::cx, "pt_regs", "cx"},
    {&RegistersLayout::dx, "pt_regs", "dx"},   {&RegistersLayout::si, "pt_regs", "si"},
    {&RegistersLayout::di, "pt_regs", "di"},   {&RegistersLayout::bp, "pt_regs", "bp"},
    {&RegistersLayout::sp, "pt_regs", "sp"},   {&RegistersLayout::r8, "pt_regs", "r8"},
    {&RegistersLayout::r9, "pt_regs", "r9"},   {&RegistersLayout::r10, "pt_regs", "r10"},
    {&RegistersLayout::r11, "pt_regs", "r11"}, {&RegistersLayout::r12, "pt_regs", "r12"},
    {&RegistersLayout::r13, "pt_regs", "r13"}, {&RegistersLayout::r14, "pt_regs", "r14"},
    {&RegistersLayout::r15, "pt_regs", "r15"}, {&RegistersLayout::ip, "pt_regs", "ip"},
    {&RegistersLayout::cs, "pt_regs", "cs"},   {&RegistersLayout::flags, "pt_regs", "flags"},
    {&RegistersLayout::ss, "pt_regs", "ss"},
};

constexpr MemberRow<SignalLayout> signal_rows[] = {
    {&SignalLayout::number, "ksignal", "sig"},
    {&SignalLayout::info, "ksignal", "info"},
};

void learn_symbols(KernelInfo& info) {
    for (const SymbolRow& row : symbol_rows) {
        for (const std::string_view name : row.names) {
            if (name.empty() || info.symbols.*row.field) continue;
            info.symbols.*row.field = info.kallsyms->lookup(name);
        }
        if (!(info.symbols.*row.field) && row.expected)
            info.missing.push_back(fmt::format("symbol {}", row.names.front()));
    }
}

template <class Layout, std::size_t count>
void learn_members(KernelInfo& info, Layout& layout, const MemberRow<Layout> (&rows)[count]) {
    for (const auto& row : rows) {
        if (const auto offset = info.btf->offset_of(row.type, row.path))
            layout.*row.field = *offset;
        else
            info.missing.push_back(fmt::format("member {}.{}", row.type, row.path));
    }
}

void learn_sizes(KernelInfo& info) {
    if (const auto size = info.btf->size_of("upid"))
        info.pid.upid_bytes = *size;
    else
        info.missing.emplace_back("size of upid");
    if (const auto size = info.btf->size_of("pt_regs"))
        info.registers.size = *size;
    else
        info.missing.emplace_back("size of pt_regs");
}

/// `current`: a variable of its own up to 6.1 and again since 6.15, in between the first of a group
/// of hot ones.
void learn_current_task(KernelInfo& info) {
    std::optional<Gva> variable;
    if (const auto hot = info.kallsyms->lookup("pcpu_hot")) {
        const auto member = info.btf == nullptr ? Result<u32>(u32{0})
                                                : info.btf->offset_of("pcpu_hot", "current_task");
        if (member) variable = *hot + *member;
    } else {
        variable = info.kallsyms->lookup("current_task");
    }
    if (!variable) {
        info.missing.emplace_back("per-CPU variable current_task");
        return;
    }
    info.current_task =
        PerCpuVariable{.value = variable->value(), .linked_in_image = in_kernel_image(*variable)};
}

/// "Linux version RELEASE (builder...) ..."
void learn_release(KernelInfo& info, const ElfImage& image) {
    if (!info.symbols.linux_banner) return;
    const auto bytes = image.at_most(*info.symbols.linux_banner, banner_bytes);
    // SAFETY: bytes as characters
    std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    constexpr std::string_view prefix = "Linux version ";
    if (!text.starts_with(prefix)) return;
    text.remove_prefix(prefix.size());
    text = text.substr(0, text.find(' '));
    const auto plain = [](char c) {
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
               std::string_view(".-_+~").find(c) != std::string_view::npos;
    };
    if (text.size() <= max_release_bytes && std::all_of(text.begin(), text.end(), plain))
        info.release = text;
}

/// The BTF bytes: by section, or, in an image without a section table, by the symbols that the
/// kernel itself finds them by.
std::optional<std::span<const std::byte>> btf_section(const ElfImage& image,
                                                      const Kallsyms* symbols) {
    if (const auto section = image.section(".BTF"); section && !section->bytes.empty())
        return section->bytes;
    if (symbols == nullptr) return std::nullopt;
    const auto begin = symbols->lookup("__start_BTF");
    const auto end = symbols->lookup("__stop_BTF");
    if (!begin || !end || *end <= *begin) return std::nullopt;
    return image.at(*begin, *end - *begin);
}

} // namespace

Result<KernelInfo> KernelInfo::from_vmlinux(std::span<const std::byte> vmlinux) {
    const auto image = ElfImage::parse(vmlinux);
    if (!image) return tl::unexpected(image.error());

    KernelInfo info;
    if (auto symbols = Kallsyms::from_vmlinux(*image))
        info.kallsyms = std::make_shared<const Kallsyms>(std::move(*symbols));
    else
        info.missing.push_back(fmt::format("all symbols: {}", symbols.error().message));

    if (const auto section = btf_section(*image, info.kallsyms.get()); !section)
        info.missing.emplace_back("all members: the kernel image carries no type information "
                                  "(CONFIG_DEBUG_INFO_BTF)");
    else if (auto types = Btf::parse(*section))
        info.btf = std::make_shared<const Btf>(std::move(*types));
    else
        info.missing.push_back(fmt::format("all members: {}", types.error().message));

    if (info.kallsyms != nullptr) {
        learn_symbols(info);
        learn_current_task(info);
        learn_release(info, *image);
    }
    if (info.btf != nullptr) {
        learn_members(info, info.task, task_rows);
        learn_members(info, info.pid, pid_rows);
        learn_members(info, info.registers, register_rows);
        learn_members(info, info.signal, signal_rows);
        learn_sizes(info);
    }
    return info;
}

std::optional<u64> KernelInfo::slide_from(Gva lstar_written_by_guest) const {
    if (!symbols.entry_syscall_64) return std::nullopt;
    return slide_from(*symbols.entry_syscall_64, lstar_written_by_guest);
}

std::optional<u64> KernelInfo::slide_from(Gva link_time, Gva run_time) const {
    // KASLR never moves the kernel below its link address, and keeps all of it inside its range.
    if (!in_kernel_image(link_time) || !in_kernel_image(run_time) || run_time < link_time)
        return std::nullopt;
    const u64 slide = run_time - link_time;
    if (slide % kernel_slide_alignment != 0) return std::nullopt;
    if (symbols.end && in_kernel_image(*symbols.end) && slide > kernel_image_end - *symbols.end)
        return std::nullopt;
    return slide;
}

} // namespace gnomon::guest::linux_
