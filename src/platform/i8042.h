// SPDX-License-Identifier: Apache-2.0
/// @file The 8042 keyboard controller with nothing plugged in: there for its self-test and for the
/// reset line.
///
/// Intel 8242 data sheet (290395); IBM PS/2 Technical Reference, keyboard and auxiliary device
/// controller. A byte sent to the absent keyboard or mouse is answered by a transmit time-out
/// (status TO, data FEh), as the controller does.
#pragma once

#include "platform/device.h"
#include "platform/interrupt_line.h"
#include "platform/power.h"

#include <array>

namespace gnomon::platform {

class I8042 {
public:
    enum class Status : u8 {  // r- port 64h, reset 18h
        output_full = 1 << 0, // a byte waits at port 60h
        input_full = 1 << 1,  // never: commands take no time
        system = 1 << 2,      // the self-test has passed
        command = 1 << 3,     // the last byte was written to port 64h
        unlocked = 1 << 4,    // no key lock
        auxiliary = 1 << 5,   // the waiting byte is the mouse's
        time_out = 1 << 6,    // the device did not answer
    };
    enum class Command : u8 { // -w port 64h
        read_memory = 0x20,   // to 3Fh
        write_memory = 0x60,  // to 7Fh, a byte follows
        disable_auxiliary = 0xa7,
        enable_auxiliary = 0xa8,
        test_auxiliary = 0xa9,
        self_test = 0xaa,
        test_keyboard = 0xab,
        disable_keyboard = 0xad,
        enable_keyboard = 0xae,
        read_output_port = 0xd0,
        write_output_port = 0xd1,      // a byte follows; bit 0 is the reset line, active low
        write_keyboard_output = 0xd2,  // a byte follows, appears as if from the keyboard
        write_auxiliary_output = 0xd3, // a byte follows, appears as if from the mouse
        write_auxiliary = 0xd4,        // a byte follows
        pulse_output_port = 0xf0,      // to FFh: bits that are 0 pulse low
    };

    /// `power` must outlive the device. Nothing is wired to IRQ 12: there is no mouse.
    I8042(InterruptLine irq1, PowerControl& power)
        : m_irq1(std::move(irq1)), m_power(power), m_data(*this), m_command(*this) {}

    [[nodiscard]] BusDevice& data_port() { return m_data; }       ///< 60h
    [[nodiscard]] BusDevice& command_port() { return m_command; } ///< 64h

private:
    class Port final : public ByteDevice {
    public:
        explicit Port(I8042& controller) : m_controller(controller) {}
        [[nodiscard]] u8 read_byte(u64) override {
            return this == &m_controller.m_data ? m_controller.read_data() : m_controller.m_status;
        }
        void write_byte(u64, u8 value) override {
            if (this == &m_controller.m_data)
                m_controller.write_data(value);
            else
                m_controller.write_command(value);
        }

    private:
        I8042& m_controller;
    };

    [[nodiscard]] u8 read_data();
    void write_data(u8 value);
    void write_command(u8 value);
    void respond(u8 value, u8 flags = 0);
    void time_out(u8 flags);

    InterruptLine m_irq1;
    PowerControl& m_power;
    Port m_data, m_command;
    std::array<u8, 32> m_memory{}; ///< byte 0 is the command byte, reset 00h
    u8 m_status = static_cast<u8>(Status::command) | static_cast<u8>(Status::unlocked);
    u8 m_output = 0;
    u8 m_output_port = 0x03;  ///< bit 0 reset line, bit 1 A20
    u8 m_pending_command = 0; ///< a command that waits for its byte, 0 if none
};

} // namespace gnomon::platform
