// SPDX-License-Identifier: Apache-2.0
/// @file The ACPI tables of gnomon-pc: RSDP, XSDT, FADT, MADT, MCFG, FACS, and the DSDT compiled
/// from gnomon.asl (ACPI specification 6.4, chapter 5; MCFG: PCI Firmware Specification 3.2,
/// section 4.1.2).
///
/// ACPI mode is always on: there is no SMI command port,
/// and SCI_EN must read as 1. Power-off is SLP_TYP 5 with SLP_EN in PM1a_CNT.
#pragma once

#include "base/address.h"
#include "base/guest_memory.h"
#include "base/result.h"

#include <optional>
#include <span>
#include <vector>

namespace gnomon::guest {

/// Where the board has what the tables describe. The defaults are gnomon-pc's.
struct AcpiConfig {
    /// Processors have local APIC ids 0 to processor_count - 1. 1 to max_acpi_processors.
    unsigned processor_count = 1;

    Gpa local_apic{0xfee00000};
    Gpa io_apic{0xfec00000};
    /// Default: the first id behind those of the processors, or 0 where that has more than 8 bits.
    std::optional<u8> io_apic_id{};
    Gpa pci_ecam{0xe0000000};   ///< the window to PCI configuration space; the DSDT reserves it
    unsigned pci_bus_count = 1; ///< how many buses it shows, from 0. 1 to 256
    u8 sci = 9;                 ///< ISA interrupt of the SCI; level, active high
    u16 pm1a_event = 0x600;     ///< PM1a_STS and PM1a_EN, 4 ports
    u16 pm1a_control = 0x604;   ///< PM1a_CNT, 2 ports
    u16 pm_timer = 0x608;       ///< PM_TMR, 4 ports; 32 bits at 3.579545 MHz
    u16 reset_port = 0xcf9;
    u8 reset_value = 6;
    u8 cmos_century = 0x32; ///< index of the century in CMOS; 0 where there is none

    /// The tables lie in [base, base + size), below 4 GiB; base is 16-byte aligned and holds the
    /// RSDP.
    Gpa base{0xe0000};
    u64 size = 0x20000;
};

inline constexpr unsigned max_acpi_processors = 1024;

/// The tables as they are in memory from `base` on; the RSDP is at `base`.
struct AcpiTables {
    Gpa base;
    std::vector<std::byte> bytes;
};

[[nodiscard]] Result<AcpiTables> build_acpi_tables(const AcpiConfig& config);

/// Builds the tables and writes them into RAM. Again for each reboot. @return the RSDP's address.
[[nodiscard]] Result<Gpa> write_acpi_tables(GuestMemory& memory, const AcpiConfig& config);

/// The compiled DSDT, with header and checksum.
[[nodiscard]] std::span<const std::byte> acpi_dsdt();

} // namespace gnomon::guest
