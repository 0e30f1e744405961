// SPDX-License-Identifier: Apache-2.0
/// @file A virtual machine for one hostile guest after another, with everything around it that must
/// not change under watch.
#pragma once

#include "hostile_guest/guest_image.h"
#include "hostile_guest/observed_processor.h"
#include "hostile_guest/program_maker.h"
#include "monitor/virtual_machine.h"

#include <memory>
#include <string>
#include <vector>

namespace gnomon::test::hostile {

/// How the machine is made, which guests cannot choose.
struct MachineChoices {
    u64 memory = place::memory_size;
    std::size_t code_cache_bytes = std::size_t{4} << 20;
    monitor::ShadowOptions shadow;
    bool count_instructions = false;
    processor::LinearViews views = processor::LinearViews::busy;

    /// The usual ones, or some that are tight.
    [[nodiscard]] static MachineChoices of(Random& random);
};

/// A real kernel, for its code and for what the interposer then does.
class Kernel {
public:
    /// Null if there is no readable kernel at `path`.
    [[nodiscard]] static std::shared_ptr<Kernel> open(const std::string& path);

    guest::KernelImage image;
    std::shared_ptr<monitor::KernelKnowledge> knowledge;
    std::vector<std::byte> vmlinux;
    std::vector<u64> addresses; ///< values for LSTAR that are believed, and the hooked functions

private:
    explicit Kernel(guest::KernelImage i) : image(std::move(i)) {}
};

/// Statistics of guests; plain numbers, in memory that processes share.
struct GuestStatistics {
    Happenings happenings;
    u64 guests = 0, ring3 = 0, machines = 0;
    u64 ended = 0, shut_down = 0, powered_off = 0, out_of_time = 0; ///< how they came to an end
    u64 kicks = 0, steps = 0;
    u64 entries = 0, calls_uncounted = 0; ///< system calls reported; filtered out
    u64 strict_checks = 0, strict_leaves = 0, canary_pages = 0;
    // Guests in which it happened at least once.
    u64 rewrote_code = 0, used_devices = 0, straddled = 0, wrote_tables = 0, made_calls = 0,
        touched_monitor = 0, flushed_cache = 0;
    u64 pieces[piece_count] = {};
    /// Guests by the instructions of their own that they retired, where those were counted.
    static constexpr unsigned retired_limit = 4096;
    u64 retired[retired_limit + 1] = {};
    u64 counted = 0;

    [[nodiscard]] u64 median_retired() const;
    [[nodiscard]] std::string text() const;
};

/// What ends a guest.
struct Budget {
    unsigned steps = 1500; ///< exits
    unsigned kicks = 8;    ///< interruptions, each of which sends an NMI
#ifdef __SANITIZE_ADDRESS__
    unsigned kick_us = 1000; ///< between them; translating takes several times as long there
#else
    unsigned kick_us = 250; ///< between them
#endif
};

class HostileMachine {
public:
    /// @param kernel may be null; outlives the result, as `statistics` does.
    [[nodiscard]] static Result<std::unique_ptr<HostileMachine>>
    create(const MachineChoices& choices, std::shared_ptr<Kernel> kernel,
           GuestStatistics& statistics);
    HostileMachine(const HostileMachine&) = delete;
    HostileMachine& operator=(const HostileMachine&) = delete;
    ~HostileMachine();

    /// Makes RAM and registers those of a new guest by `random`.
    void prepare(Random& random);
    /// Runs it until it ends by itself or by `budget`, and looks at everything.
    /// @param thorough also the shadow tables, by a strict walk. @return what is wrong, or "".
    [[nodiscard]] std::string run(const Budget& budget, bool thorough);
    /// Whether another guest can follow: not after the power has gone.
    [[nodiscard]] bool usable() const { return m_usable; }

    /// Makes them those of a guest whose program, and everything else, is `input`.
    void prepare(std::span<const u8> input);
    /// RAM and registers for a guest that the caller makes: the image alone, in ring 0 or 3.
    void prepare_image(Random& random, bool ring3);
    [[nodiscard]] monitor::VirtualMachine& machine() { return *m_machine; }
    [[nodiscard]] monitor::MachineResources& resources() { return *m_resources; }
    [[nodiscard]] processor::ControlBlock& block() { return m_processor->control_block(); }
    [[nodiscard]] ObservedProcessor& processor() { return *m_processor; }
    [[nodiscard]] const GuestImage& image() const { return m_image; }
    [[nodiscard]] const MachineChoices& choices() const { return m_choices; }
    [[nodiscard]] std::string check(bool thorough);

private:
    class Observer;
    HostileMachine(const MachineChoices& choices, GuestStatistics& statistics);
    void clear_memory();
    void forget_memory();
    void reset_registers();
    void place_canaries();
    void end_monitor_mode();
    [[nodiscard]] std::string check_accounts();
    void account(const processor::soft::Cpu::Statistics& before, const Happenings& happened);

    MachineChoices m_choices;
    GuestStatistics& m_statistics;
    std::shared_ptr<Kernel> m_kernel;
    GuestImage m_image;
    ProgramMaker m_maker;
    std::unique_ptr<Observer> m_observer;
    std::unique_ptr<monitor::MachineResources> m_resources;
    std::unique_ptr<monitor::VirtualMachine> m_machine;
    ObservedProcessor* m_processor = nullptr; ///< m_machine's
    std::vector<u8> m_handler;                ///< the substitute handler as it was made
    std::vector<u64> m_calls_before;
    u64 m_hooked_before = 0, m_int80_before = 0;
    std::vector<void*> m_canaries;
    bool m_usable = true;
    bool m_used = false;
    std::string m_failure;
};

/// Kicks a machine from a signal handler (SIGALRM), at an interval; one at a time.
class Kicker {
public:
    Kicker(processor::Processor& processor, unsigned interval_us);
    Kicker(const Kicker&) = delete;
    Kicker& operator=(const Kicker&) = delete;
    ~Kicker();
    [[nodiscard]] unsigned count() const;
};

} // namespace gnomon::test::hostile
