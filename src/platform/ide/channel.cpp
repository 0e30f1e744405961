// SPDX-License-Identifier: Apache-2.0
// Registers, selection, resets and the interrupt.
#include "platform/ide/channel.h"

#include "base/verify.h"

#include <poll.h>
#include <utility>

namespace gnomon::platform::ide {

namespace {

/// What is read where nothing drives the bus: it is pulled up, but for data line 7, so that nobody
/// takes it for BSY.
constexpr u8 floating = 0x7f;

} // namespace

Channel::Channel(Dma& dma, CompletionScheduler& completions, InterruptLine interrupt)
    : m_dma(dma), m_completions(completions), m_interrupt(std::move(interrupt)) {}

Channel::~Channel() {
    m_ending = true;
    m_completions.cancel(m_request);
    m_phase = Phase::resetting;
    m_control |= ControlBits::software_reset;
    while (m_at_host) {
        BlockBackEnd& disk = m_current.drive->disk;
        if (disk.reap() != 0) continue;
        pollfd waiting{disk.poll_descriptor(), POLLIN, 0};
        static_cast<void>(::poll(&waiting, 1, -1)); // if it fails, reaping says what there is
    }
    m_interrupt.set(false);
}

void Channel::attach(unsigned number, DriveParts parts) {
    VERIFY(number < drives_per_channel && m_drives[number] == nullptr);
    const unsigned device = m_completions.add_device(parts.name);
    m_drives[number] = std::make_unique<Drive>(std::move(parts), device, number == 1);
}

// --- the ports ---

u64 Channel::CommandBlock::read(u64 offset, unsigned size) {
    // The data port is as wide as the access; the others have a byte each.
    const bool wide = offset == 0 && (size == 2 || size == 4);
    u64 value = 0;
    for (unsigned i = 0; i < size && i < 8; ++i) {
        const auto reg = static_cast<CommandBlockReg>(wide ? 0 : offset + i);
        value |= u64{m_channel.read_register(reg)} << (8 * i);
    }
    return value;
}

void Channel::CommandBlock::write(u64 offset, unsigned size, u64 value) {
    const bool wide = offset == 0 && (size == 2 || size == 4);
    for (unsigned i = 0; i < size && i < 8; ++i)
        m_channel.write_register(static_cast<CommandBlockReg>(wide ? 0 : offset + i),
                                 static_cast<u8>(value >> (8 * i)));
}

u8 Channel::read_register(CommandBlockReg reg) {
    if (reg == CommandBlockReg::status) return read_status(true);
    if (reg == CommandBlockReg::data) return read_data();
    const Drive* answering = selected();
    // Device 0 answers for a device 1 that is not there.
    if (answering == nullptr && m_second_selected) answering = drive(false);
    if (answering == nullptr) return floating;
    const bool high_order = (m_control & ControlBits::high_order) != 0;
    if (reg == CommandBlockReg::error) return answering->error;
    return answering->registers.read(reg, high_order);
}

u8 Channel::read_status(bool ends_interrupt) {
    Drive* const answering = selected();
    if (answering == nullptr)
        return m_second_selected && drive(false) != nullptr ? u8{0} : floating;
    m_completions.status_polled(answering->device); // what that delivers is shown
    const u8 status = status_of(*answering);
    if (ends_interrupt) set_interrupt(*answering, false);
    return status;
}

u8 Channel::status_of(const Drive& drive) const {
    if (m_phase == Phase::idle) return drive.status;
    // Of both disks: diagnostics have another one than the selected work too.
    if (m_phase == Phase::resetting || m_phase == Phase::busy) return StatusBits::busy;
    return StatusBits::idle | StatusBits::data_request;
}

void Channel::write_register(CommandBlockReg reg, u8 value) {
    if (reg == CommandBlockReg::data) {
        write_data(value);
        return;
    }
    m_control = static_cast<u8>(m_control & ~ControlBits::high_order);
    if (m_phase != Phase::idle) return; // BSY or DRQ
    if (reg == CommandBlockReg::status) {
        write_command(value);
        return;
    }
    for (auto& drive : m_drives)
        if (drive != nullptr) drive->registers.write(reg, value);
    if (reg == CommandBlockReg::device) {
        m_second_selected = (value & DeviceBits::second) != 0;
        update_line();
    }
}

void Channel::write_command(u8 value) {
    Drive* executing = selected();
    const auto command = static_cast<Command>(value);
    // Both devices run it, and device 0 speaks for them.
    if (command == Command::execute_device_diagnostic && drive(false) != nullptr)
        executing = drive(false);
    if (executing == nullptr || executing->sleeping) return;
    m_completions.command_written(executing->device);
    if (command == Command::execute_device_diagnostic)
        for (auto& drive : m_drives)
            if (drive != nullptr) drive->interrupt = false;
    set_interrupt(*executing, false);
    executing->error = ErrorBits::none;
    m_current = {};
    m_current.drive = executing;
    m_phase = Phase::busy;
    execute(command);
}

// --- resets ---

void Channel::write_control(u8 value) {
    const bool was_set = (m_control & ControlBits::software_reset) != 0;
    m_control = value;
    if ((value & ControlBits::software_reset) != 0) {
        if (!was_set) begin_reset();
    } else if (was_set) {
        finish_reset();
    }
    update_line();
}

void Channel::begin_reset() {
    if (m_phase == Phase::busy) abandon(GuestTrouble::reset);
    m_stopping = false; // nothing is left that could start again
    m_phase = Phase::resetting;
    for (auto& drive : m_drives)
        if (drive != nullptr) drive->interrupt = false;
    update_line();
}

/// As soon as SRST is clear, and the back end has nothing of what was before.
void Channel::finish_reset() {
    if (m_phase != Phase::resetting || m_at_host || (m_control & ControlBits::software_reset) != 0)
        return;
    for (auto& drive : m_drives)
        if (drive != nullptr) drive->reset();
    m_second_selected = false;
    m_phase = Phase::idle;
    update_line();
}

void Channel::reset() {
    m_control = 0;
    begin_reset();
    m_bus_master_command = 0;
    m_bus_master_status = m_at_host && m_current.by_regions ? BusMasterStatus::active : u8{0};
    m_table = 0;
    for (auto& drive : m_drives)
        if (drive != nullptr) drive->power_on();
    finish_reset();
}

/// The guest will not hear of what is under way.
void Channel::abandon(GuestTrouble sign) {
    m_completions.trouble(m_current.drive->device, sign);
    m_completions.cancel(m_request);
    end_timing();
}

// --- the interrupt ---

void Channel::set_interrupt(Drive& drive, bool pending) {
    drive.interrupt = pending;
    update_line();
}

/// The selected device drives the line, unless it may not. The bus master keeps in mind that it
/// rose.
void Channel::update_line() {
    const Drive* const driving = selected();
    const bool asserted =
        driving != nullptr && driving->interrupt && (m_control & ControlBits::no_interrupt) == 0;
    if (asserted && !m_interrupt.asserted()) m_bus_master_status |= BusMasterStatus::interrupt;
    m_interrupt.set(asserted);
}

} // namespace gnomon::platform::ide
