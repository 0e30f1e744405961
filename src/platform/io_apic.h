// SPDX-License-Identifier: Apache-2.0
/// @file The I/O APIC.
///
/// Intel 82093AA data sheet (290566) with the EOI register of version 20h (ICH family). Polarity is
/// stored but not modelled: an input is asserted when its device says so (interrupt_line.h). Edges
/// on a masked input are lost, as in silicon.
#pragma once

#include "platform/apic_bus.h"
#include "platform/device.h"
#include "platform/interrupt_line.h"
#include "platform/layout.h"

#include <array>

namespace gnomon::platform {

class IoApic final : public BusDevice, public InterruptSink, public ApicBusListener {
public:
    static constexpr unsigned pin_count = layout::io_apic_pin_count;

    /// Memory-mapped registers, 32 bits wide.
    enum class Reg : u8 {
        select = 0x00, // rw index of the register behind `window`, bits 7:0, reset 00h
        window = 0x10, // rw
        eoi = 0x40,    // -w vector, bits 7:0
    };
    enum class IndexReg : u8 {
        id = 0x00,          // rw bits 27:24, reset 00000000h
        version = 0x01,     // r- 00170020h
        arbitration = 0x02, // r- bits 27:24, follows the ID
        redirection = 0x10, // rw to 3Fh, two for each input: low, high; reset 00000000'00010000h
    };
    struct Entry {
        static constexpr u64 logical = 1 << 11, delivery_status = 1 << 12, remote_irr = 1 << 14,
                             level = 1 << 15, masked = 1 << 16;
        static constexpr u64 writable = 0xff00'0000'0001'afff;
    };

    /// `bus` must outlive the device; the owner attaches it.
    explicit IoApic(ApicBus& bus);

    [[nodiscard]] u64 read(u64 offset, unsigned size) override;
    void write(u64 offset, unsigned size, u64 value) override;
    void set_input(unsigned pin, bool asserted) override;
    void end_of_interrupt(u8 vector) override;
    void acceptance_changed() override;

    /// Whether input `pin`, to which an 8259's INTR is wired, is unmasked in ExtINT mode for the
    /// processor.
    [[nodiscard]] bool routes_external_interrupt(unsigned pin, const LocalApic& apic) const;

private:
    [[nodiscard]] u32 read_index() const;
    void write_index(u32 value);
    void service(unsigned pin);
    [[nodiscard]] bool is_level(unsigned pin) const;
    [[nodiscard]] static InterruptMessage message(u64 entry);

    ApicBus& m_bus;
    u8 m_select = 0;
    u32 m_id = u32{layout::io_apic_id} << 24;
    std::array<u64, pin_count> m_entries;
    std::array<bool, pin_count> m_inputs{};
};

} // namespace gnomon::platform
