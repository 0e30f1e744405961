// SPDX-License-Identifier: Apache-2.0
/// @file An ATA channel with up to two disks, and the bus master of a PIIX that serves it.
///
/// From command to interrupt: `write_command` (channel.cpp) takes it, `execute` (commands.cpp)
/// starts it, data go through the data port (pio.cpp) or the bus master (bus_master.cpp), the back
/// end calls `host_done`, the completion scheduler `deliver`, and that changes status, registers
/// and bus master and interrupts (completion.cpp).
#pragma once

#include "platform/completion.h"
#include "platform/device.h"
#include "platform/ide/commands.h"
#include "platform/ide/drive.h"
#include "platform/ide/prd.h"
#include "platform/interrupt_line.h"

#include <array>
#include <optional>
#include <span>
#include <vector>

namespace gnomon::platform::ide {

/// The disks share the registers: one command is under way at a time, and while it is, what is
/// written to the command block is ignored, as ATA says of a device with BSY or DRQ.
///
/// Within a command all of the guest's view - status, error, addresses, bus master, interrupt -
/// changes when its completion is delivered. What happens at once is what a disk does at once: the
/// first DRQ of a write, and the next block of a read whose data are in the buffer.
///
/// Threads: the machine's. Nothing waits for the host; where a reset, or stopping the bus master,
/// meets a request that the host has, BSY (and BMIDEA) stay until it has let go of guest memory.
class Channel {
public:
    /// All must outlive it. @param interrupt INTRQ.
    Channel(Dma& dma, CompletionScheduler& completions, InterruptLine interrupt);
    Channel(const Channel&) = delete;
    Channel& operator=(const Channel&) = delete;
    /// Waits until the back ends have nothing of it any more.
    ~Channel();

    /// Before the guest runs. @param number 0 or 1, with no disk as yet (VERIFY).
    void attach(unsigned number, DriveParts parts);

    /// Ports, as the guest finds them.
    [[nodiscard]] BusDevice& command_block() { return m_command_block; }
    [[nodiscard]] BusDevice& control_block() { return m_control_block; }
    /// @param offset 0 to 7.
    [[nodiscard]] u8 read_bus_master(unsigned offset);
    void write_bus_master(unsigned offset, u8 value);

    /// As at power-on, but for what the back end has not let go of.
    void reset();

private:
    /// What a buffer of ours holds: longer transfers by the data port take several.
    static constexpr u64 most_buffered_sectors = 2048;

    enum class Phase : u8 {
        idle,
        busy,         ///< a command is under way: BSY
        data_in,      ///< a block waits to be read from the data port: DRQ
        data_out,     ///< a block is to be written to the data port: DRQ
        awaiting_dma, ///< until the bus master is ready: DRQ
        resetting,    ///< SRST is set, or the back end has not let go: BSY
    };
    /// What a completion leads to.
    enum class Next : u8 { end, data_in, data_out };
    /// Where the data of a command are while the back end works.
    enum class Data : u8 { none, buffer, regions };

    /// Part of what the back end is to do; a command may take several, one after the other.
    struct Step {
        BlockOperation operation = BlockOperation::read;
        bool fua = false;
        u64 sector = 0, sectors = 0;
    };
    /// What a command leaves in the registers.
    struct Outcome {
        u8 error = ErrorBits::none;
        std::optional<u8> count;
        std::optional<u64> address;
        bool signature = false; ///< of both disks
    };
    /// The command under way.
    struct Current {
        Drive* drive = nullptr;
        Width width = Width::lba28;
        bool write = false, fua = false, trim = false;
        u64 sector = 0; ///< what is next to be moved, by the data port
        u64 left = 0;   ///< sectors from there on
        u64 block_bytes = sector_bytes;
        bool by_regions = false;      ///< the bus master moves data of it at present
        bool table_exhausted = false; ///< its table ended with the data
        Next next = Next::end;
        Outcome outcome;
    };

    class Request final : public BlockRequest, public Completion {
    public:
        explicit Request(Channel& channel) : m_channel(channel) {}
        void done(BlockStatus block_status) override { m_channel.host_done(block_status); }
        void deliver() override { m_channel.deliver(); }

    private:
        Channel& m_channel;
    };
    class CommandBlock final : public BusDevice {
    public:
        explicit CommandBlock(Channel& channel) : m_channel(channel) {}
        [[nodiscard]] u64 read(u64 offset, unsigned size) override;
        void write(u64 offset, unsigned size, u64 value) override;

    private:
        Channel& m_channel;
    };
    class ControlBlock final : public ByteDevice {
    public:
        explicit ControlBlock(Channel& channel) : m_channel(channel) {}
        [[nodiscard]] u8 read_byte(u64) override { return m_channel.read_status(false); }
        void write_byte(u64, u8 value) override { m_channel.write_control(value); }

    private:
        Channel& m_channel;
    };

    // channel.cpp: registers and resets
    [[nodiscard]] Drive* drive(bool second) { return m_drives[second ? 1 : 0].get(); }
    [[nodiscard]] Drive* selected() { return drive(m_second_selected); }
    [[nodiscard]] u8 read_register(CommandBlockReg reg);
    void write_register(CommandBlockReg reg, u8 value);
    [[nodiscard]] u8 read_status(bool ends_interrupt);
    [[nodiscard]] u8 status_of(const Drive& drive) const;
    void write_command(u8 value);
    void write_control(u8 value);
    void begin_reset();
    void finish_reset();
    void abandon(GuestTrouble sign);
    void set_interrupt(Drive& drive, bool pending);
    void update_line();

    // commands.cpp: what commands do
    void execute(Command command);
    void execute_device_diagnostic();
    void initialize_device_parameters();
    void set_multiple_mode();
    void set_features();
    [[nodiscard]] bool set_transfer_mode(u8 mode);
    void flush();
    void seek();
    void verify(Width width);
    void begin_trim();
    void trim();
    /// The sectors that the command names. False: they are not the disk's, and that was said.
    [[nodiscard]] bool take_sectors(Width width);
    void begin_read(Width width, u64 block_sectors);
    void begin_write(Width width, u64 block_sectors, bool fua);
    void begin_dma(Width width, bool write, bool fua);
    [[nodiscard]] bool refuse_write();

    // pio.cpp: the data port
    [[nodiscard]] u8 read_data();
    void write_data(u8 value);
    void present(std::span<const u8> data);
    void load_buffer();
    void begin_buffer();
    void begin_block(Phase phase);
    void block_read();
    void block_written();

    // bus_master.cpp
    void write_bus_master_command(u8 value);
    void start_dma();
    void stop_dma();
    void host_let_go_of_regions();

    // completion.cpp: how commands end
    void finish(u8 error = ErrorBits::none);
    void fail(u64 sector);
    void run_steps(Data data);
    void submit_step();
    void end_timing();
    void host_done(BlockStatus status);
    [[nodiscard]] static u8 error_of(BlockOperation operation, BlockStatus status);
    void deliver();

    Dma& m_dma;
    CompletionScheduler& m_completions;
    InterruptLine m_interrupt;
    std::array<std::unique_ptr<Drive>, drives_per_channel> m_drives;
    CommandBlock m_command_block{*this};
    ControlBlock m_control_block{*this};

    bool m_second_selected = false;
    u8 m_control = 0; ///< ControlBits
    u8 m_bus_master_command = 0, m_bus_master_status = 0;
    u32 m_table = 0;

    Phase m_phase = Phase::idle;
    Current m_current;
    Request m_request{*this};
    std::vector<Step> m_steps;
    std::size_t m_next_step = 0;
    std::size_t m_timed_steps = 0; ///< whose delays were asked for, and not ended
    Data m_data = Data::none;
    std::vector<Region> m_regions;
    std::vector<std::byte> m_buffer;
    std::size_t m_position = 0, m_block_end = 0; ///< in m_buffer
    bool m_at_host = false;                      ///< the back end has the request
    bool m_stopping = false; ///< the bus master was stopped, but the back end has not let go
    bool m_ending = false;   ///< being destroyed: nobody is left to hear of anything
};

} // namespace gnomon::platform::ide
