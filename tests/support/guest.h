// SPDX-License-Identifier: Apache-2.0
/// @file A small guest for tests: RAM with page tables, GDT, IDT and TSS, the software processor,
/// shadow paging, and the loop around them. Code is assembled in the test and runs in 64-bit mode.
#pragma once

#include "monitor/interposer.h"
#include "monitor/shadow/shadow_mmu.h"
#include "monitor/shadow/strict_walker.h"
#include "platform/host_clock.h"
#include "processor/soft/soft_processor.h"

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>
#include <xbyak/xbyak.h>

namespace gnomon::test {

using processor::Exit;
using processor::ExitReason;
using processor::Vector;

/// Where things lie in guest-physical and, mapped to itself, in linear memory. Ring 3 has the page
/// below user_stack and everything from user_code.
namespace place {
inline constexpr u64 gdt = 0x1000, idt = 0x2000, tss = 0x3000, pml4 = 0x4000, tables = 0x5000,
                     tables_end = 0x40000, stubs = 0x40000, kernel_stack = 0x50000,
                     interrupt_stack = 0x58000, user_stack = 0x60000, kernel_code = 0x100000,
                     user_code = 0x180000, data = 0x200000, identity_end = 0x400000;
}
namespace selector {
inline constexpr u16 kernel_code = 0x08, kernel_data = 0x10, user_data = 0x23, user_code = 0x2b,
                     tss = 0x30;
}
/// Bits of the guest's page-table entries.
namespace pte {
inline constexpr u64 p = 1, w = 2, u = 4, a = 1 << 5, d = 1 << 6, ps = 1 << 7, g = 1 << 8,
                     nx = u64{1} << 63;
}

struct GuestOptions {
    u64 memory = u64{8} << 20;
    monitor::ShadowOptions shadow = {.arena_bytes = u64{8} << 20, .tlb_keyed_by_root = true};
    std::size_t code_cache_bytes = std::size_t{4} << 20;
    unsigned code_pages = processor::soft::code_page_limit;
    processor::LinearViews views = processor::LinearViews::busy;
    /// Compare the shadow with a strict walk after every exit that reconciles.
    bool strict = false;
};

/// Why `run` came back.
struct Stop {
    enum class Kind : u8 {
        exit,    ///< an exit that the loop leaves to the test: `exit`
        event,   ///< a default handler ran: `vector` and the frame it found
        timeout, ///< the guest did not come to an end
    };
    Kind kind = Kind::exit;
    Exit exit;
    u8 vector = 0;
    u32 error_code = 0; ///< 0 for vectors without one
    u64 rip = 0, cs = 0, rflags = 0, rsp = 0, ss = 0;

    [[nodiscard]] bool halted() const {
        return kind == Kind::exit && exit.reason == ExitReason::halt;
    }
    [[nodiscard]] bool is(ExitReason reason) const {
        return kind == Kind::exit && exit.reason == reason;
    }
    [[nodiscard]] bool is(Vector v) const {
        return kind == Kind::event && vector == static_cast<u8>(v);
    }
    [[nodiscard]] std::string text() const;
};

/// The assembler, with the system instructions that Xbyak lacks. Memory operands are [register],
/// not RSP, RBP, R12 or R13.
class Code : public Xbyak::CodeGenerator {
public:
    Code() : CodeGenerator(64 * 1024) {}
    void invlpg(const Xbyak::Reg64& at) { system(0x01, 7, at, 0); }
    void mov_to_cr(unsigned n, const Xbyak::Reg64& from) { system(0x22, n, from, 3); }
    void mov_from_cr(const Xbyak::Reg64& to, unsigned n) { system(0x20, n, to, 3); }
    void invpcid(const Xbyak::Reg64& type, const Xbyak::Reg64& at) {
        db(0x66);
        db(0x40U | (type.getIdx() >= 8 ? 4U : 0U) | (at.getIdx() >= 8 ? 1U : 0U));
        db(0x0f), db(0x38), db(0x82);
        db(static_cast<u32>(type.getIdx() & 7) << 3 | static_cast<u32>(at.getIdx() & 7));
    }
    void iretq() { db(0x48), db(0xcf); }
    void sysretq() { db(0x48), db(0x0f), db(0x07); }
    void endless() { db(0xeb), db(0xfe); }

private:
    void system(u32 opcode, unsigned reg, const Xbyak::Reg64& rm, unsigned mod) {
        if (rm.getIdx() >= 8) db(0x41);
        db(0x0f), db(opcode);
        db(mod << 6 | (reg & 7) << 3 | static_cast<u32>(rm.getIdx() & 7));
    }
};

/// Collects what the interposer reports.
class Recorder final : public monitor::SystemCallObserver {
public:
    std::function<monitor::CallAction(u64)> decide;
    std::function<monitor::CallAction(u64)> decide_return;
    std::vector<monitor::SystemCallEntry> entries;
    std::vector<monitor::SystemCallReturn> returns;
    std::vector<monitor::SummedCalls> sums;

    [[nodiscard]] monitor::CallAction action(u64 number) override {
        return decide ? decide(number) : monitor::CallAction::none;
    }
    [[nodiscard]] monitor::CallAction return_action(u64 number) override {
        return decide_return ? decide_return(number) : monitor::CallAction::hypercall;
    }
    void entered(const monitor::SystemCallEntry& entry, const monitor::UserMemory&) override {
        entries.push_back(entry);
    }
    void returned(const monitor::SystemCallReturn& r, const monitor::UserMemory&) override {
        returns.push_back(r);
    }
    void summed(const monitor::SummedCalls& calls) override { sums.push_back(calls); }
    void signal(const monitor::SignalDelivery&) override {}
    void task_exited(const monitor::TaskExit&) override {}
    void knowledge_missing(const std::string&) override {}
};

/// Built ready to run in ring 0 at place::kernel_code, with interrupts off.
class Guest {
public:
    explicit Guest(const GuestOptions& options = {});
    Guest(const Guest&) = delete;
    Guest& operator=(const Guest&) = delete;
    ~Guest();

    [[nodiscard]] processor::ControlBlock& block() { return m_cpu->control_block(); }
    [[nodiscard]] processor::RegisterBlock& state() { return block().state; }
    [[nodiscard]] processor::soft::SoftProcessor& cpu() { return *m_cpu; }
    [[nodiscard]] monitor::ShadowMmu& mmu() { return *m_mmu; }
    [[nodiscard]] GuestMemory& memory() { return m_memory; }
    [[nodiscard]] u64& gpr(processor::Gpr r) { return state().gpr[r]; }

    // --- before it runs ---

    /// Assembles at a guest-physical address. @return the address behind.
    u64 assemble(u64 gpa, const std::function<void(Code&)>& emit);
    template <class T>
    void poke(u64 gpa, const T& value) {
        if (!m_memory.write_object(Gpa(gpa), value)) std::abort();
    }
    template <class T = u64>
    [[nodiscard]] T peek(u64 gpa) const {
        T value{};
        if (!m_memory.read_object(Gpa(gpa), value)) std::abort();
        return value;
    }
    /// Maps a page in the tables under `root`, making tables as needed: a loader's write that no
    /// processor sees. `bits` on the leaf; tables grant everything. `level` 2 for 2 MiB.
    void map(u64 gva, u64 gpa, u64 bits, u64 root = place::pml4, unsigned level = 1);
    /// Guest-physical address of the entry for `gva` at `level`; the tables must exist.
    [[nodiscard]] u64 entry_address(u64 gva, unsigned level = 1, u64 root = place::pml4) const;
    /// A zeroed page for a table.
    [[nodiscard]] u64 table_page();
    void set_gate(u8 vector, u64 handler, unsigned dpl = 0, unsigned ist = 0);
    void start_kernel(u64 rip = place::kernel_code);
    void start_user(u64 rip = place::user_code);
    /// Sets the hook. @param observer outlives this. @param clock what the hook takes the time
    /// from, and outlives this; this machine's own if null
    monitor::Interposer& interpose(monitor::SystemCallObserver& observer,
                                   const platform::Clock* clock = nullptr);
    [[nodiscard]] platform::HostClock& clock() { return m_clock; }
    [[nodiscard]] monitor::Interposer& interposer() { return *m_interposer; }

    // --- running ---

    /// Runs until something that the loop does not handle: page faults, control registers,
    /// invalidations, a full buffer, EFER and the interposer's exits are handled.
    Stop run();
    /// One exit, handled or not: whether `run` would have gone on.
    bool handle(const Exit& exit);
    void inject(Vector vector, std::optional<u32> error_code = std::nullopt, u64 cr2 = 0);
    void advance(const Exit& exit);

    [[nodiscard]] u64 exits(ExitReason reason) const {
        return m_exits[static_cast<unsigned>(reason)];
    }
    [[nodiscard]] u64 all_exits() const;
    /// Called before an exit is handled: for tampering.
    std::function<void()> before_handling;

    [[nodiscard]] monitor::StrictReport check();
    u64 strict_checks = 0;
    std::string strict_violations; ///< of the first check that failed

private:
    class Tlb final : public monitor::TlbControl {
    public:
        explicit Tlb(processor::Processor& p) : m_processor(p) {}
        void invalidate_all() override { m_processor.invalidate_tlb(); }
        void invalidate(Gva gva) override { m_processor.invalidate_tlb(gva); }
        void invalidate(Gva first, u64 pages, u64 root) override {
            m_processor.invalidate_tlb(first, pages, root);
        }
        void forget_root(u64 root) override { m_processor.forget_root(root); }
        void revoke_writes(Gpa gpa) override { m_processor.revoke_writes(gpa); }
        void invalidate_code(Gpa gpa, u64 size) override { m_processor.invalidate_code(gpa, size); }

    private:
        processor::Processor& m_processor;
    };
    [[nodiscard]] Stop describe(const Exit& exit);
    void handle_page_fault(const Exit& exit);
    void handle_control_register(const Exit& exit);
    [[nodiscard]] bool handle_msr(const Exit& exit);
    void watch();

    GuestOptions m_options;
    GuestMemory m_memory;
    std::unique_ptr<processor::soft::SoftProcessor> m_cpu;
    Tlb m_tlb;
    std::unique_ptr<monitor::ShadowMmu> m_mmu;
    platform::HostClock m_clock{2'000'000'000};
    std::unique_ptr<monitor::Interposer> m_interposer;
    std::vector<processor::CpuidLeaf> m_cpuid;
    u64 m_next_table = place::tables;
    bool m_triple_fault = false;
    u64 m_exits[processor::exit_reason_count] = {};

    // The watchdog: kicks a guest that does not end.
    std::mutex m_mutex;
    std::condition_variable m_done_changed;
    bool m_done = false;
    std::atomic<bool> m_expired = false;
    std::thread m_watchdog;
};

} // namespace gnomon::test
