// SPDX-License-Identifier: Apache-2.0
#include "guest/acpi/tables.h"

#include "base/verify.h"

#include <cstring>
#include <string_view>

// The compiled DSDT, embedded by the build (src/guest/CMakeLists.txt).
extern "C" const std::byte gnomon_acpi_dsdt_begin[];
extern "C" const std::byte gnomon_acpi_dsdt_end[];

namespace gnomon::guest {

namespace {

using Bytes = std::vector<std::byte>;

constexpr std::size_t header_size = 36; // ACPI 6.4 section 5.2.6
constexpr std::size_t checksum_offset = 9;
constexpr std::size_t rsdp_size = 36;    // section 5.2.5.3
constexpr std::size_t rsdp_v1_size = 20; // what the first checksum covers
constexpr std::size_t fadt_size = 276;   // section 5.2.9, revision 6
constexpr std::size_t facs_size = 64;    // section 5.2.10
constexpr u64 facs_alignment = 64;
constexpr u64 table_alignment = 16;

template <class T>
void put(Bytes& bytes, std::size_t offset, T value) {
    VERIFY(offset + sizeof value <= bytes.size()); // offsets are constants of ours
    std::memcpy(bytes.data() + offset, &value, sizeof value);
}

template <class T>
void append(Bytes& bytes, T value) {
    bytes.resize(bytes.size() + sizeof value);
    put(bytes, bytes.size() - sizeof value, value);
}

void put_text(Bytes& bytes, std::size_t offset, std::string_view text) {
    VERIFY(offset + text.size() <= bytes.size());
    std::memcpy(bytes.data() + offset, text.data(), text.size());
}

/// The value that makes the sum of the first `size` bytes 0 modulo 256, if the place of the
/// checksum holds 0.
u8 checksum(const Bytes& bytes, std::size_t size) {
    u8 sum = 0;
    for (std::size_t i = 0; i < size; ++i)
        sum = static_cast<u8>(sum + std::to_integer<u8>(bytes[i]));
    return static_cast<u8>(-sum);
}

/// A table's standard header, with length and checksum still 0.
Bytes start_table(std::string_view signature, u8 revision, std::size_t size = header_size) {
    Bytes table(size);
    put_text(table, 0, signature);
    put<u8>(table, 8, revision);
    put_text(table, 10, "GNOMON");   // OEM ID
    put_text(table, 16, "GNOMONPC"); // OEM table ID
    put<u32>(table, 24, 1);          // OEM revision
    put_text(table, 28, "GNMN");     // creator ID
    put<u32>(table, 32, 1);          // creator revision
    return table;
}

Bytes finish_table(Bytes table) {
    put<u32>(table, 4, static_cast<u32>(table.size()));
    put<u8>(table, checksum_offset, checksum(table, table.size()));
    return table;
}

enum class AccessSize : u8 { byte = 1, word = 2, dword = 3 };

/// A Generic Address Structure for an I/O port (section 5.2.3.2).
void put_port(Bytes& table, std::size_t offset, u16 port, u8 bits, AccessSize access) {
    constexpr u8 system_io = 1;
    put<u8>(table, offset, system_io);
    put<u8>(table, offset + 1, bits);
    put<u8>(table, offset + 2, 0); // bit offset
    put<u8>(table, offset + 3, static_cast<u8>(access));
    put<u64>(table, offset + 4, port);
}

Bytes build_fadt(const AcpiConfig& config, u64 facs, u64 dsdt) {
    constexpr u32 wbinvd = 1 << 0, proc_c1 = 1 << 2, slp_button_absent = 1 << 5,
                  rtc_wake_not_fixed = 1 << 6, tmr_val_ext = 1 << 8, reset_reg_sup = 1 << 10;
    constexpr u16 legacy_devices = 1 << 0, has_8042 = 1 << 1, vga_not_present = 1 << 2;
    constexpr u8 profile_desktop = 1;
    constexpr u16 no_c2 = 101, no_c3 = 1001; // latencies above the limit say "not supported"
    Bytes table = start_table("FACP", 6, fadt_size);
    put<u32>(table, 36, static_cast<u32>(facs)); // FIRMWARE_CTRL; X_FIRMWARE_CTRL stays 0
    put<u32>(table, 40, static_cast<u32>(dsdt)); // DSDT
    put<u8>(table, 45, profile_desktop);
    put<u16>(table, 46, config.sci);          // SCI_INT; SMI_CMD stays 0: always in ACPI mode
    put<u32>(table, 56, config.pm1a_event);   // PM1a_EVT_BLK
    put<u32>(table, 64, config.pm1a_control); // PM1a_CNT_BLK
    put<u32>(table, 76, config.pm_timer);     // PM_TMR_BLK
    put<u8>(table, 88, 4);                    // PM1_EVT_LEN
    put<u8>(table, 89, 2);                    // PM1_CNT_LEN
    put<u8>(table, 91, 4);                    // PM_TMR_LEN
    put<u16>(table, 96, no_c2);               // P_LVL2_LAT
    put<u16>(table, 98, no_c3);               // P_LVL3_LAT
    put<u8>(table, 108, config.cmos_century); // CENTURY
    put<u16>(table, 109, legacy_devices | has_8042 | vga_not_present); // IAPC_BOOT_ARCH
    put<u32>(table, 112,
             wbinvd | proc_c1 | slp_button_absent | rtc_wake_not_fixed | tmr_val_ext |
                 reset_reg_sup);
    put_port(table, 116, config.reset_port, 8, AccessSize::byte); // RESET_REG
    put<u8>(table, 128, config.reset_value);                      // RESET_VALUE
    put<u8>(table, 131, 4);                                       // minor version: 6.4
    put<u64>(table, 140, dsdt);                                   // X_DSDT
    put_port(table, 148, config.pm1a_event, 32, AccessSize::word);
    put_port(table, 172, config.pm1a_control, 16, AccessSize::word);
    put_port(table, 208, config.pm_timer, 32, AccessSize::dword);
    put_text(table, 268, "GNOMON"); // Hypervisor Vendor Identity
    return finish_table(std::move(table));
}

Bytes build_facs() {
    Bytes table(facs_size);
    put_text(table, 0, "FACS");
    put<u32>(table, 4, facs_size);
    put<u8>(table, 32, 2); // version
    return table;          // a FACS has no checksum
}

void append_processor(Bytes& table, u32 id) {
    constexpr u32 enabled = 1;
    if (id < 0xff) { // Processor Local APIC (section 5.2.12.2)
        append<u8>(table, 0);
        append<u8>(table, 8);
        append<u8>(table, static_cast<u8>(id)); // processor UID
        append<u8>(table, static_cast<u8>(id)); // APIC id
        append<u32>(table, enabled);
        return;
    }
    append<u8>(table, 9); // Processor Local x2APIC (section 5.2.12.12)
    append<u8>(table, 16);
    append<u16>(table, 0);
    append<u32>(table, id); // APIC id
    append<u32>(table, enabled);
    append<u32>(table, id); // processor UID
}

void append_interrupt_override(Bytes& table, u8 isa_irq, u32 gsi, u16 flags) {
    append<u8>(table, 2); // section 5.2.12.5
    append<u8>(table, 10);
    append<u8>(table, 0); // bus: ISA
    append<u8>(table, isa_irq);
    append<u32>(table, gsi);
    append<u16>(table, flags);
}

Bytes build_madt(const AcpiConfig& config) {
    constexpr u32 pcat_compat = 1; // the board has a pair of 8259s too
    constexpr u16 conforming = 0, active_high_level = 0b1101;
    Bytes table = start_table("APIC", 5);
    append<u32>(table, static_cast<u32>(config.local_apic.value()));
    append<u32>(table, pcat_compat);
    for (u32 id = 0; id < config.processor_count; ++id)
        append_processor(table, id);

    const u8 default_id =
        config.processor_count < 0xff ? static_cast<u8>(config.processor_count) : u8{0};
    append<u8>(table, 1); // I/O APIC (section 5.2.12.3)
    append<u8>(table, 12);
    append<u8>(table, config.io_apic_id.value_or(default_id));
    append<u8>(table, 0);
    append<u32>(table, static_cast<u32>(config.io_apic.value()));
    append<u32>(table, 0); // first global system interrupt

    append_interrupt_override(table, 0, 2, conforming); // the PIT is wired to input 2
    append_interrupt_override(table, config.sci, config.sci, active_high_level);

    append<u8>(table, 4); // Local APIC NMI (section 5.2.12.7)
    append<u8>(table, 6);
    append<u8>(table, 0xff); // all processors
    append<u16>(table, conforming);
    append<u8>(table, 1); // LINT1
    if (config.processor_count > 0xff) {
        append<u8>(table, 10); // Local x2APIC NMI (section 5.2.12.13), for the ids above 254
        append<u8>(table, 12);
        append<u16>(table, conforming);
        append<u32>(table, 0xffffffff); // all processors
        append<u8>(table, 1);           // LINT1
        append<u8>(table, 0);
        append<u16>(table, 0);
    }
    return finish_table(std::move(table));
}

Bytes build_mcfg(const AcpiConfig& config) {
    Bytes table = start_table("MCFG", 1);
    append<u64>(table, 0); // reserved
    append<u64>(table, config.pci_ecam.value());
    append<u16>(table, 0); // segment group
    append<u8>(table, 0);  // first bus
    append<u8>(table, static_cast<u8>(config.pci_bus_count - 1));
    append<u32>(table, 0); // reserved
    return finish_table(std::move(table));
}

Bytes build_rsdp(u64 xsdt) {
    Bytes rsdp(rsdp_size);
    put_text(rsdp, 0, "RSD PTR ");
    put_text(rsdp, 9, "GNOMON");
    put<u8>(rsdp, 15, 2); // revision; the RSDT's address stays 0
    put<u32>(rsdp, 20, rsdp_size);
    put<u64>(rsdp, 24, xsdt);
    put<u8>(rsdp, 8, checksum(rsdp, rsdp_v1_size));
    put<u8>(rsdp, 32, checksum(rsdp, rsdp_size));
    return rsdp;
}

/// Adds `table` behind what is there. @return its guest-physical address.
u64 place(AcpiTables& tables, const Bytes& table, u64 alignment = table_alignment) {
    const u64 end = tables.base.value() + tables.bytes.size();
    const u64 address = (end + (alignment - 1)) & ~(alignment - 1);
    tables.bytes.resize(static_cast<std::size_t>(address - tables.base.value()));
    tables.bytes.insert(tables.bytes.end(), table.begin(), table.end());
    return address;
}

} // namespace

std::span<const std::byte> acpi_dsdt() { return {gnomon_acpi_dsdt_begin, gnomon_acpi_dsdt_end}; }

Result<AcpiTables> build_acpi_tables(const AcpiConfig& config) {
    if (config.processor_count == 0 || config.processor_count > max_acpi_processors)
        return usage_error("{} processors: choose 1 to {}", config.processor_count,
                           max_acpi_processors);
    if (config.pci_bus_count == 0 || config.pci_bus_count > 256)
        return fail("{} PCI buses: the board's layout has 1 to 256", config.pci_bus_count);
    const u64 base = config.base.value();
    constexpr u64 four_gib = u64{1} << 32;
    if (base % table_alignment != 0 || base >= four_gib || config.size > four_gib - base ||
        config.local_apic.value() >= four_gib || config.io_apic.value() >= four_gib)
        return fail("the ACPI tables cannot lie at {:#x}: they and the APICs belong below 4 GiB; "
                    "correct the board's layout",
                    base);
    AcpiTables tables{config.base, Bytes(rsdp_size)};
    const u64 facs = place(tables, build_facs(), facs_alignment);
    const auto dsdt_bytes = acpi_dsdt();
    const u64 dsdt = place(tables, Bytes(dsdt_bytes.begin(), dsdt_bytes.end()));
    const u64 fadt = place(tables, build_fadt(config, facs, dsdt));
    const u64 madt = place(tables, build_madt(config));
    const u64 mcfg = place(tables, build_mcfg(config));
    Bytes xsdt = start_table("XSDT", 1);
    append<u64>(xsdt, fadt);
    append<u64>(xsdt, madt);
    append<u64>(xsdt, mcfg);
    const Bytes rsdp = build_rsdp(place(tables, finish_table(std::move(xsdt))));
    std::memcpy(tables.bytes.data(), rsdp.data(), rsdp.size());
    if (tables.bytes.size() > config.size)
        return fail("the ACPI tables need {} bytes and have room for {}; choose fewer processors",
                    tables.bytes.size(), config.size);
    return tables;
}

Result<Gpa> write_acpi_tables(GuestMemory& memory, const AcpiConfig& config) {
    const auto tables = build_acpi_tables(config);
    if (!tables) return tl::unexpected(tables.error());
    if (!memory.write(tables->base, tables->bytes))
        return fail(
            "the ACPI tables at {:#x} do not fit into the guest's memory; give it more memory",
            tables->base.value());
    return tables->base;
}

} // namespace gnomon::guest
