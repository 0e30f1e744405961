// SPDX-License-Identifier: Apache-2.0
/// @file Every address, interrupt number and clock frequency of the board `gnomon-pc`. Constants
/// only, so that the code that writes ACPI tables and the code that builds the board cannot
/// disagree.
#pragma once

#include "base/types.h"

#include <array>

namespace gnomon::platform::layout {

// --- port space: first port and number of ports ---
inline constexpr u16 pic_master_port = 0x20, pic_slave_port = 0xa0, pic_port_count = 2;
inline constexpr u16 pic_elcr_port = 0x4d0, pic_elcr_port_count = 2;
inline constexpr u16 pit_port = 0x40, pit_port_count = 4;
inline constexpr u16 system_control_b_port =
    0x61; ///< PIT channel 2 gate and output, refresh toggle
inline constexpr u16 i8042_data_port = 0x60, i8042_command_port = 0x64;
inline constexpr u16 rtc_port = 0x70, rtc_port_count = 2;
/// Of the primary and the secondary IDE channel, where there is a controller.
inline constexpr std::array<u16, 2> ide_command_port = {0x1f0, 0x170},
                                    ide_control_port = {0x3f6, 0x376};
inline constexpr u16 pci_config_port = 0xcf8, pci_config_port_count = 8;
inline constexpr u16 reset_control_port =
    0xcf9; ///< byte access only; lies within the PCI configuration ports

inline constexpr unsigned serial_count = 4;
inline constexpr u16 serial_port_count = 8;
inline constexpr std::array<u16, serial_count> serial_port = {0x3f8, 0x2f8, 0x3e8, 0x2e8};

// --- ACPI fixed hardware (ACPI 6.4 section 4.8) ---
inline constexpr u16 acpi_pm_port = 0x600, acpi_pm_port_count = 0xc;
inline constexpr u16 acpi_pm1a_event_offset = 0, acpi_pm1_event_length = 4;
inline constexpr u16 acpi_pm1a_control_offset = 4, acpi_pm1_control_length = 2;
inline constexpr u16 acpi_pm_timer_offset = 8, acpi_pm_timer_length = 4;
inline constexpr u16 acpi_pm1a_event_port = acpi_pm_port + acpi_pm1a_event_offset;
inline constexpr u16 acpi_pm1a_control_port = acpi_pm_port + acpi_pm1a_control_offset;
inline constexpr u16 acpi_pm_timer_port = acpi_pm_port + acpi_pm_timer_offset;
inline constexpr u8 acpi_s5_sleep_type = 5;   ///< SLP_TYPa of \_S5
inline constexpr u8 acpi_reset_value = 0x06;  ///< FADT RESET_VALUE for reset_control_port
inline constexpr u8 rtc_century_index = 0x32; ///< FADT CENTURY
static_assert(acpi_pm1a_event_port == 0x600 && acpi_pm1a_control_port == 0x604 &&
              acpi_pm_timer_port == 0x608);

// --- guest-physical memory ---
inline constexpr u64 local_apic_base =
    0xfee0'0000; ///< of every processor, until it writes IA32_APIC_BASE
inline constexpr u64 local_apic_size = 0x1000;
inline constexpr u64 io_apic_base = 0xfec0'0000;
inline constexpr u64 io_apic_size = 0x1000;
/// The memory window to PCI configuration space (MCFG). There is one bus; addresses up to 256 of
/// them are kept free (DSDT: \_SB.MRES).
inline constexpr u64 pci_ecam_base = 0xe000'0000;
inline constexpr unsigned pci_bus_count = 1;

// --- interrupts ---
inline constexpr unsigned isa_irq_count = 16;
inline constexpr unsigned io_apic_pin_count = 24;
inline constexpr u8 io_apic_id = 0;
inline constexpr unsigned io_apic_gsi_base = 0;
/// ISA IRQ n is I/O APIC pin n, except that IRQ 0 is pin 2 (MADT: interrupt source override 0 -> 2,
/// edge, high).
inline constexpr unsigned pit_gsi = 2;
inline constexpr unsigned pit_irq = 0, i8042_irq = 1, rtc_irq = 8;
/// Level-triggered, active high (MADT: interrupt source override 9 -> 9).
inline constexpr unsigned sci_irq = 9;
inline constexpr std::array<unsigned, serial_count> serial_irq = {4, 3, 5, 7};
inline constexpr std::array<unsigned, 2> ide_irq = {14, 15};
/// First I/O APIC pin without an ISA device; pins from here are for PCI INTx.
inline constexpr unsigned first_pci_gsi = 16;
/// INTA of device n on bus 0 is I/O APIC pin 16 + n % 8 (DSDT: _PRT); and, level-triggered, IRQ 10
/// or 11 of the 8259s, for systems that leave the APICs alone.
constexpr unsigned pci_gsi(unsigned device) { return first_pci_gsi + device % 8; }
constexpr unsigned pci_isa_irq(unsigned gsi) { return 10 + gsi % 2; }

// --- frequencies, in Hz ---
inline constexpr u64 pit_hz = 1'193'182;
inline constexpr u64 acpi_pm_timer_hz = 3'579'545;
inline constexpr u64 rtc_hz = 32'768;
inline constexpr u64 uart_clock_hz = 1'843'200;
/// Input of the local APIC timers' divider unless BoardOptions says otherwise. CPUID leaf 0x15 must
/// show the same value as its crystal clock (ECX) where it shows one.
inline constexpr u64 apic_timer_hz = 1'000'000'000;

} // namespace gnomon::platform::layout
