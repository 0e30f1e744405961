// SPDX-License-Identifier: Apache-2.0
/// @file What random guests have found, each as the shortest guest that shows it.
#include "hostile_guest/hostile_machine.h"

#include <cstddef>
#include <functional>
#include <gtest/gtest.h>
#include <xbyak/xbyak.h>

namespace gnomon::test::hostile {

namespace {

using namespace Xbyak::util;
using processor::ExitReason;

class Minimized : public testing::Test {
protected:
    Minimized() {
        auto made = HostileMachine::create({}, nullptr, *statistics);
        if (!made) {
            ADD_FAILURE() << made.error().message;
            std::abort();
        }
        machine = std::move(*made);
        Random random(1);
        machine->prepare_image(random, false);
        // Handlers end the guest.
        const u64 at = place::control + offsetof(GuestControl, resumption);
        Resumption end;
        end.rip = machine->image().end_address();
        end.cs = selector::kernel_code;
        end.ss = selector::kernel_data;
        end.rsp = place::kernel_stack;
        end.rflags = 2;
        for (u64 n = 0; n <= resumption_count; ++n)
            poke(at + n * sizeof end, end);
    }

    template <class T>
    void poke(u64 gpa, const T& value) {
        ASSERT_TRUE(machine->machine().memory().write_object(Gpa(gpa), value));
    }
    template <class T = u64>
    [[nodiscard]] T peek(u64 gpa) const {
        T value{};
        EXPECT_TRUE(machine->machine().memory().read_object(Gpa(gpa), value));
        return value;
    }
    void assemble(u64 gpa, const std::function<void(Xbyak::CodeGenerator&)>& emit) {
        Xbyak::CodeGenerator code;
        emit(code);
        ASSERT_TRUE(machine->machine().memory().write(
            Gpa(gpa), std::as_bytes(std::span(code.getCode(), code.getSize()))));
        machine->processor().invalidate_code(Gpa(gpa), code.getSize());
    }
    [[nodiscard]] u64 delivered(processor::Vector vector) const {
        return peek(place::control + offsetof(GuestControl, vector_count) +
                    8 * static_cast<u64>(vector));
    }
    [[nodiscard]] processor::RegisterBlock& state() { return machine->block().state; }
    /// Without NMIs, unless it takes long.
    [[nodiscard]] std::string run() {
        return machine->run({.kicks = 10, .kick_us = 500'000}, true);
    }

    std::unique_ptr<GuestStatistics> statistics = std::make_unique<GuestStatistics>();
    std::unique_ptr<HostileMachine> machine;
};

TEST_F(Minimized, AnInstructionThatRunsIntoTheHoleOfAddressesIsNotAPageFault) {
    const u64 at = place::low_edge + page_size - 2;
    poke(place::scratch + page_size - 2, u16{0x05c7}); // mov dword [rip + d], imm32: ten bytes
    state().rip = at;
    EXPECT_EQ(run(), "");
    EXPECT_EQ(delivered(processor::Vector::gp), 1U);
    EXPECT_EQ(delivered(processor::Vector::pf), 0U);
}

TEST_F(Minimized, ACallsTimeDoesNotFollowTheTscThatTheGuestSets) {
    assemble(place::kernel_code, [](Xbyak::CodeGenerator& c) {
        for (const u32 high : {0x80U, 0U}) { // far ahead, and back
            c.mov(ecx, 0x10);
            c.mov(edx, high);
            c.wrmsr();
            c.mov(eax, 1); // logged
            c.syscall();
        }
        c.ud2();
    });
    // The guest's own entry goes back to the caller, which is in ring 0.
    assemble(GuestImage::syscall_handler(), [](Xbyak::CodeGenerator& c) { c.jmp(rcx); });
    EXPECT_EQ(run(), ""); // looks at the times
    EXPECT_EQ(statistics->entries, 2U);
}

TEST_F(Minimized, ACallOfFourBytesReadsNoMoreThanThose) {
    // CALL remembers what its return address overwrites: here the last four bytes of RAM.
    const u64 end = machine->choices().memory;
    poke(end - 4, u32{0});
    state().segment[processor::seg_cs] = state().segment[processor::seg_ss] = {};
    processor::Segment& cs = state().segment[processor::seg_cs];
    cs.selector = selector::user_code32;
    cs.limit = 0xffffffff;
    cs.rights = 0xfb | processor::Segment::db | processor::Segment::g;
    for (const unsigned n : {unsigned{processor::seg_ss}, unsigned{processor::seg_ds}}) {
        processor::Segment& data = state().segment[n];
        data.selector = selector::user_data;
        data.limit = 0xffffffff;
        data.rights = 0xf3 | processor::Segment::db | processor::Segment::g;
    }
    state().rip = place::user_code;
    state().gpr[processor::rsp] = end;
    state().gpr[processor::rax] = place::user_code + 0x100;
    poke(place::user_code, u16{0xd0ff});         // call eax
    poke(place::user_code + 0x100, u16{0x0b0f}); // ud2
    EXPECT_EQ(run(), "");
    EXPECT_EQ(delivered(processor::Vector::ud), 1U);
    EXPECT_EQ(peek<u32>(end - 4), place::user_code + 2);
}

TEST_F(Minimized, AnIdtAmongDevicesIsReadOnce) {
    // All ones, so that no gate will do: #GP, #DF, shutdown.
    state().idtr.base = u64{2} << 30;
    assemble(place::kernel_code, [](Xbyak::CodeGenerator& c) { c.ud2(); });
    EXPECT_EQ(run(), "");
    EXPECT_EQ(statistics->shut_down, 1U);
    EXPECT_EQ(statistics->happenings.device_reads, 6U) << "two for each of three gates";
}

TEST_F(Minimized, AnInterruptByAnIdtAmongDevicesComesBeforeTheNextInstruction) {
    state().idtr.base = u64{2} << 30;
    assemble(place::kernel_code, [](Xbyak::CodeGenerator& c) {
        for (unsigned n = 0; n < 64; ++n)
            c.inc(qword[rbx]);
    });
    state().gpr[processor::rbx] = place::kernel_data;
    machine->block().injection.kind = processor::Injection::Kind::nmi;
    machine->block().injection.vector = 2;
    EXPECT_EQ(run(), "");
    EXPECT_EQ(statistics->shut_down, 1U);
    EXPECT_EQ(peek(place::kernel_data), 0U);
}

} // namespace

} // namespace gnomon::test::hostile
