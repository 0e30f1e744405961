// SPDX-License-Identifier: Apache-2.0
#include "platform/i8042.h"

namespace gnomon::platform {

namespace {

constexpr u8 keyboard_interrupt = 1 << 0; // command byte
constexpr u8 system_flag = 1 << 2;
constexpr u8 disable_keyboard = 1 << 4, disable_auxiliary = 1 << 5;
constexpr u8 self_test_passed = 0x55, interface_test_passed = 0x00, clock_stuck_low = 0x01,
             resend = 0xfe;
constexpr u8 reset_line = 1 << 0;

constexpr u8 flag(I8042::Status s) { return static_cast<u8>(s); }

} // namespace

void I8042::respond(u8 value, u8 flags) {
    m_output = value;
    m_status = static_cast<u8>(m_status & ~(flag(Status::auxiliary) | flag(Status::time_out)));
    m_status |= static_cast<u8>(flags | flag(Status::output_full));
    if ((flags & flag(Status::auxiliary)) == 0 && (m_memory[0] & keyboard_interrupt) != 0)
        m_irq1.set(true);
}

void I8042::time_out(u8 flags) { respond(resend, static_cast<u8>(flags | flag(Status::time_out))); }

u8 I8042::read_data() {
    m_status = static_cast<u8>(
        m_status & ~(flag(Status::output_full) | flag(Status::auxiliary) | flag(Status::time_out)));
    m_irq1.set(false);
    return m_output;
}

void I8042::write_data(u8 value) {
    m_status = static_cast<u8>(m_status & ~flag(Status::command));
    const u8 command = m_pending_command;
    m_pending_command = 0;
    if (command >= static_cast<u8>(Command::write_memory) &&
        command < static_cast<u8>(Command::write_memory) + 32) {
        m_memory[command & 31] = value;
        if ((command & 31) == 0)
            m_status = static_cast<u8>((m_status & ~flag(Status::system)) | (value & system_flag));
        return;
    }
    switch (static_cast<Command>(command)) {
    case Command::write_output_port:
        m_output_port = value;
        if ((value & reset_line) == 0) m_power.request(PowerRequest::reset);
        break;
    case Command::write_keyboard_output: respond(value); break;
    case Command::write_auxiliary_output: respond(value, flag(Status::auxiliary)); break;
    case Command::write_auxiliary: time_out(flag(Status::auxiliary)); break;
    default: // for the keyboard
        m_memory[0] = static_cast<u8>(m_memory[0] & ~disable_keyboard);
        time_out(0);
        break;
    }
}

void I8042::write_command(u8 value) {
    m_status |= flag(Status::command);
    m_pending_command = 0;
    if (value >= static_cast<u8>(Command::pulse_output_port)) {
        if ((value & reset_line) == 0) m_power.request(PowerRequest::reset);
        return;
    }
    if (value >= 0x20 && value < 0x40) return respond(m_memory[value & 31]);
    if (value >= 0x60 && value < 0x80) {
        m_pending_command = value;
        return;
    }
    switch (static_cast<Command>(value)) {
    case Command::disable_auxiliary: m_memory[0] |= disable_auxiliary; break;
    case Command::enable_auxiliary:
        m_memory[0] = static_cast<u8>(m_memory[0] & ~disable_auxiliary);
        break;
    case Command::test_auxiliary: respond(clock_stuck_low); break; // there is no such port
    case Command::self_test:
        m_status |= flag(Status::system);
        m_memory[0] |= system_flag;
        respond(self_test_passed);
        break;
    case Command::test_keyboard: respond(interface_test_passed); break;
    case Command::disable_keyboard: m_memory[0] |= disable_keyboard; break;
    case Command::enable_keyboard:
        m_memory[0] = static_cast<u8>(m_memory[0] & ~disable_keyboard);
        break;
    case Command::read_output_port: respond(m_output_port); break;
    case Command::write_output_port:
    case Command::write_keyboard_output:
    case Command::write_auxiliary_output:
    case Command::write_auxiliary: m_pending_command = value; break;
    default: break;
    }
}

} // namespace gnomon::platform
