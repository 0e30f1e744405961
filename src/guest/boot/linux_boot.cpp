// SPDX-License-Identifier: Apache-2.0
#include "guest/boot/linux_boot.h"

#include "guest/boot/boot_params.h"
#include "guest/boot/little_endian.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace gnomon::guest {

namespace {

constexpr u64 mib = u64{1} << 20;

// The loader's structures, inside [boot_data_begin, boot_data_end).
constexpr u64 gdt_address = 0x6000;
constexpr u64 tss_address = 0x6100;
constexpr u64 boot_params_address = 0x7000;
constexpr u64 stack_top = 0x9000;
constexpr u64 page_tables_address = 0x9000; // PML4, PDPT, four page directories
constexpr u64 setup_data_address = 0xf000;
constexpr u64 command_line_address = 0x10000;
constexpr u64 command_line_room = 0x10000;
static_assert(gdt_address == boot_data_begin &&
              command_line_address + command_line_room == boot_data_end);

// What a PC has below 1 MiB.
constexpr u64 hole_begin = 0xa0000;     // VGA memory and option ROMs
constexpr u64 reserved_begin = 0xe0000; // system ROM; the ACPI tables
constexpr u64 first_mib_end = 0x100000;

constexpr unsigned identity_mapped_gib = 4;
constexpr u16 boot_cs = 0x10;
constexpr u16 boot_ds = 0x18;
constexpr u16 boot_tr = 0x20;
constexpr u32 tss_limit = 103;
/// Protocol version that boot_params claims for an ELF kernel, which has no header of its own.
constexpr u16 elf_protocol_version = 0x020f;
constexpr u64 elf_kernel_alignment = 16 * mib;
constexpr u64 elf_initrd_addr_max = 0x7fffffff;
constexpr u64 elf_command_line_size = 2047;

constexpr u64 align_up(u64 value, u64 alignment) {
    return (value + (alignment - 1)) & ~(alignment - 1);
}

constexpr u64 in_mib(u64 bytes) { return align_up(bytes, mib) / mib; }

/// Where the kernel lies in RAM, and where it begins.
struct Placement {
    u64 entry = 0;
    u64 end =
        0; ///< behind the last byte that it loads, clears or uses before it reads the memory map
    u64 initrd_addr_max = 0;
    u64 command_line_size = 0;
};

bool store(GuestMemory& memory, u64 address, std::span<const std::byte> bytes) {
    // An empty view may have no address at all, which a copy must not be given.
    return bytes.empty() || memory.write(Gpa(address), bytes);
}

auto does_not_fit(const KernelImage& kernel, u64 needed, const GuestMemory& memory) {
    return fail(
        "the kernel {} needs {} MiB of memory below 3 GiB and the guest has {} MiB; give it "
        "more memory",
        kernel.name(), in_mib(needed), memory.low_size() / mib);
}

Result<Placement> place_bz_image(GuestMemory& memory, const KernelImage& kernel) {
    const KernelImage::SetupHeader& header = kernel.setup_header();
    // All three are below 2^33, so their sums do not overflow.
    const u64 span = std::max(header.init_size, header.kernel_size);
    const u64 low = memory.low_size();
    const auto fits = [&](u64 address) {
        return address >= first_mib_end && range_within(address, span, low);
    };
    const u64 lowest = align_up(first_mib_end, header.alignment);
    u64 address = header.preferred_address;
    if (!fits(address)) {
        if (!header.relocatable) {
            if (header.preferred_address > ram_low_limit)
                return fail(
                    "the kernel {} must be loaded at {:#x}, where there is no memory; use a "
                    "relocatable kernel",
                    kernel.name(), header.preferred_address);
            return does_not_fit(kernel, header.preferred_address + span, memory);
        }
        address = lowest;
        if (!fits(address)) return does_not_fit(kernel, lowest + span, memory);
    }
    if (!store(memory, address, kernel.bytes().subspan(header.kernel_offset, header.kernel_size)))
        return does_not_fit(kernel, address + span, memory);
    return Placement{.entry = address + boot_params::entry_64_offset,
                     .end = address + span,
                     .initrd_addr_max = header.initrd_addr_max,
                     .command_line_size = header.command_line_size};
}

Result<Placement> place_elf(GuestMemory& memory, const KernelImage& kernel) {
    u64 low_end = 0;
    for (const KernelImage::Segment& segment : kernel.segments()) {
        const u64 begin = segment.physical_address;
        if (begin < boot_data_end && begin + segment.memory_size > boot_data_begin)
            return fail("the segment at {:#x} of {} lies on the loader's structures ({:#x} to "
                        "{:#x}); link it elsewhere",
                        begin, kernel.name(), boot_data_begin, boot_data_end);
        if (begin < first_mib_end && begin + segment.memory_size > hole_begin)
            return fail(
                "the segment at {:#x} of {} lies on {:#x} to {:#x}, which is not RAM on a PC; "
                "link it elsewhere",
                begin, kernel.name(), hole_begin, first_mib_end);
        const Hva destination = memory.hva(Gpa(begin), segment.memory_size);
        if (destination == nullptr)
            return fail(
                "the segment of {} at {:#x} ({} bytes) lies outside the guest's memory; give it "
                "more memory",
                kernel.name(), begin, segment.memory_size);
        const auto contents = kernel.bytes().subspan(segment.file_offset, segment.file_size);
        if (!contents.empty()) std::memcpy(destination, contents.data(), contents.size());
        std::memset(destination + contents.size(), 0, segment.memory_size - contents.size());
        if (begin < ram_low_limit) low_end = std::max(low_end, begin + segment.memory_size);
    }
    return Placement{.entry = kernel.entry(),
                     .end = low_end,
                     .initrd_addr_max = elf_initrd_addr_max,
                     .command_line_size = elf_command_line_size};
}

/// As high as the kernel and low memory allow, above the kernel; 0 for an empty initrd.
Result<u64> place_initrd(GuestMemory& memory, const LinuxBootInputs& inputs,
                         const Placement& kernel) {
    const u64 size = inputs.initrd.size();
    if (size == 0) return 0;
    const u64 top = std::min(memory.low_size(), kernel.initrd_addr_max + 1);
    const u64 bottom = align_up(std::max(kernel.end, first_mib_end), page_size);
    const u64 highest = size <= top ? (top - size) & ~page_offset_mask : 0;
    if (highest < bottom) {
        if (kernel.initrd_addr_max < memory.low_size() - 1)
            return fail("the initrd of {} MiB does not fit below {:#x}, above which the kernel {} "
                        "accepts none; make it smaller, or use a disk",
                        in_mib(size), kernel.initrd_addr_max, inputs.kernel.name());
        return fail(
            "the initrd of {} MiB does not fit above the kernel in {} MiB of memory; give the "
            "guest at least {} MiB, or use a disk",
            in_mib(size), memory.low_size() / mib, in_mib(bottom + size));
    }
    if (!store(memory, highest, inputs.initrd))
        return fail("the initrd of {} MiB does not fit into memory; give the guest more memory",
                    in_mib(size));
    return highest;
}

std::vector<boot_params::E820Entry> memory_map(const GuestMemory& memory) {
    std::vector<boot_params::E820Entry> map{
        {0, hole_begin, boot_params::e820_ram},
        {reserved_begin, first_mib_end - reserved_begin, boot_params::e820_reserved}};
    if (memory.low_size() > first_mib_end)
        map.push_back({first_mib_end, memory.low_size() - first_mib_end, boot_params::e820_ram});
    if (memory.high_size() != 0)
        map.push_back({ram_high_base, memory.high_size(), boot_params::e820_ram});
    return map;
}

/// boot_params under construction; all offsets are constants inside it.
class ZeroPage {
public:
    template <class T>
    void set(u64 offset, T value) {
        std::memcpy(m_page.data() + offset, &value, sizeof value);
    }
    void copy(u64 offset, std::span<const std::byte> bytes) {
        std::memcpy(m_page.data() + offset, bytes.data(), bytes.size());
    }
    [[nodiscard]] std::span<const std::byte> bytes() const { return m_page; }

private:
    std::array<std::byte, boot_params::size> m_page{};
};

bool write_boot_params(GuestMemory& memory, const LinuxBootInputs& inputs, u64 initrd) {
    using namespace boot_params;
    ZeroPage page;
    if (inputs.kernel.format() == KernelImage::Format::bz_image) {
        const u64 header_size = inputs.kernel.setup_header().header_end - setup_sects;
        page.copy(setup_sects, inputs.kernel.bytes().subspan(setup_sects, header_size));
    } else {
        page.set<u16>(boot_flag, boot_flag_value);
        page.set<u32>(header, header_magic);
        page.set<u16>(version, elf_protocol_version);
        page.set<u8>(loadflags, loaded_high);
        page.set<u32>(kernel_alignment, static_cast<u32>(elf_kernel_alignment));
    }
    page.set<u16>(vid_mode, video_normal);
    page.set<u8>(type_of_loader, loader_undefined);
    page.set<u32>(ramdisk_image, static_cast<u32>(initrd)); // low memory ends at 3 GiB
    page.set<u32>(ramdisk_size, static_cast<u32>(inputs.initrd.size()));
    page.set<u32>(cmd_line_ptr, static_cast<u32>(command_line_address));
    page.set<u64>(setup_data, inputs.rng_seed ? setup_data_address : 0);
    page.set<u64>(acpi_rsdp_addr, inputs.acpi_rsdp ? inputs.acpi_rsdp->value() : 0);
    u64 offset = e820_table;
    u8 count = 0;
    for (const E820Entry& entry : memory_map(memory)) {
        page.set(offset, entry);
        offset += sizeof entry;
        ++count;
    }
    page.set<u8>(e820_entries, count);
    return store(memory, boot_params_address, page.bytes());
}

bool write_command_line(GuestMemory& memory, std::string_view command_line) {
    return store(memory, command_line_address, std::as_bytes(std::span(command_line))) &&
           memory.write_object(Gpa(command_line_address + command_line.size()), u8{0});
}

bool write_setup_data(GuestMemory& memory, const std::array<std::byte, 32>& seed) {
    const boot_params::SetupData head{
        .next = 0, .type = boot_params::setup_rng_seed, .length = static_cast<u32>(seed.size())};
    return memory.write_object(Gpa(setup_data_address), head) &&
           store(memory, setup_data_address + sizeof head, seed);
}

/// One PML4, one PDPT and a page directory of 2 MiB pages for each GiB (SDM vol. 3A section 4.5).
bool write_page_tables(GuestMemory& memory) {
    constexpr u64 present = 1, writable = 2, page_2m = 1 << 7;
    constexpr u64 entries = 512;
    std::vector<u64> tables((2 + identity_mapped_gib) * entries, 0);
    const u64 pdpt = page_tables_address + page_size;
    const u64 directories = pdpt + page_size;
    tables[0] = pdpt | present | writable;
    for (u64 gib = 0; gib < identity_mapped_gib; ++gib)
        tables[entries + gib] = (directories + gib * page_size) | present | writable;
    for (u64 i = 0; i < identity_mapped_gib * entries; ++i)
        tables[2 * entries + i] = (i << 21) | present | writable | page_2m;
    static_assert(page_tables_address + (2 + identity_mapped_gib) * page_size <=
                  setup_data_address);
    return store(memory, page_tables_address, std::as_bytes(std::span(tables)));
}

/// Descriptors as in SDM vol. 3A figures 3-8 and 8-4.
bool write_descriptors(GuestMemory& memory, u32& gdt_limit) {
    constexpr u64 flat_code =
        0x00af9b000000ffff; // G, L, limit 0xfffff, P, code, readable, accessed
    constexpr u64 flat_data =
        0x00cf93000000ffff; // G, B, limit 0xfffff, P, data, writable, accessed
    constexpr u64 busy_tss = (u64{0x8b} << 40) | ((tss_address & 0xffffff) << 16) |
                             ((tss_address >> 24) << 56) | tss_limit;
    const std::array<u64, 6> gdt{0, 0, flat_code, flat_data, busy_tss, tss_address >> 32};
    static_assert(boot_cs == 2 * 8 && boot_ds == 3 * 8 && boot_tr == 4 * 8);
    gdt_limit = sizeof gdt - 1;
    const std::array<std::byte, tss_limit + 1> tss{};
    return memory.write_object(Gpa(gdt_address), gdt) && store(memory, tss_address, tss);
}

} // namespace

Result<BootState> load_linux(GuestMemory& memory, const LinuxBootInputs& inputs) {
    const KernelImage& kernel = inputs.kernel;
    const auto placement = kernel.format() == KernelImage::Format::bz_image
                               ? place_bz_image(memory, kernel)
                               : place_elf(memory, kernel);
    if (!placement) return tl::unexpected(placement.error());
    const u64 longest = std::min(placement->command_line_size, command_line_room - 1);
    if (inputs.command_line.size() > longest)
        return usage_error("the kernel command line has {} characters and the kernel {} takes {}; "
                           "shorten it",
                           inputs.command_line.size(), kernel.name(), longest);
    if (inputs.command_line.find('\0') != std::string_view::npos)
        return usage_error("the kernel command line contains a NUL; remove it");
    const auto initrd = place_initrd(memory, inputs, *placement);
    if (!initrd) return tl::unexpected(initrd.error());

    BootState state;
    if (!write_boot_params(memory, inputs, *initrd) ||
        !write_command_line(memory, inputs.command_line) || !write_page_tables(memory) ||
        !write_descriptors(memory, state.gdt_limit) ||
        (inputs.rng_seed && !write_setup_data(memory, *inputs.rng_seed)))
        return fail("the guest's memory is too small for the boot structures; give it more memory");

    constexpr u64 cr0_pe = 1, cr0_et = 1 << 4, cr0_ne = 1 << 5, cr0_wp = 1 << 16,
                  cr0_pg = u64{1} << 31;
    constexpr u64 cr4_pae = 1 << 5;
    constexpr u64 efer_lme = 1 << 8, efer_lma = 1 << 10;
    state.rip = placement->entry;
    state.rsi = boot_params_address;
    state.rsp = stack_top;
    state.cr0 = cr0_pe | cr0_et | cr0_ne | cr0_wp | cr0_pg;
    state.cr3 = page_tables_address;
    state.cr4 = cr4_pae;
    state.efer = efer_lme | efer_lma;
    state.gdt_base = gdt_address;
    state.cs = boot_cs;
    state.ds = boot_ds;
    state.tr = boot_tr;
    state.tr_base = tss_address;
    state.tr_limit = tss_limit;
    return state;
}

} // namespace gnomon::guest
