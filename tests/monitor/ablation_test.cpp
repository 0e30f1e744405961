// SPDX-License-Identifier: Apache-2.0
// Ablations: each takes away one part and shows that the run which rests on it fails.
#include "support/guest.h"

#include <cstring>
#include <gtest/gtest.h>

namespace gnomon::test {
namespace {

using namespace Xbyak::util;
using monitor::CallAction;

constexpr u64 kernel_entry = place::kernel_code + 0x1000;

TEST(Ablation, AnUndefinedFirstByteOfTheHandlerStopsTheFirstCall) {
    for (const bool broken : {false, true}) {
        Recorder recorder;
        Guest g;
        g.interpose(recorder);
        ASSERT_TRUE(g.interposer().write_msr(0xc0000082, kernel_entry));
        g.assemble(kernel_entry, [](Code& c) { c.hlt(); });
        g.assemble(place::user_code, [](Code& c) { c.syscall(); });
        g.start_user();
        if (broken) {
            g.interposer().handler_code()[0] = 0x0f;
            g.interposer().handler_code()[1] = 0x0b;
        }
        const Stop stop = g.run();
        if (broken) {
            EXPECT_TRUE(stop.is(ExitReason::triple_fault)) << stop.text();
            EXPECT_EQ(stop.rip, monitor::handler_base);
        } else {
            EXPECT_TRUE(stop.halted()) << stop.text();
        }
    }
}

Hva shadow_leaf(Guest& g, u64 gva) {
    u64 table = g.block().shadow_root;
    for (unsigned level = 4; level > 1; --level) {
        u64 e = 0;
        std::memcpy(
            &e, g.block().shadow_arena + table + 8 * processor::shadow_index(Gva(gva), level), 8);
        table = processor::ShadowEntry{e}.address();
    }
    return g.block().shadow_arena + table + 8 * processor::shadow_index(Gva(gva), 1);
}

TEST(Ablation, AShadowLeafAlteredByHandRedirectsTheGuest) {
    for (const bool altered : {false, true}) {
        Guest g;
        constexpr u64 gva = 0x50000000;
        g.map(gva, place::data, pte::p | pte::w);
        g.poke<u64>(place::data, 1);
        g.poke<u64>(place::data + page_size, 2);
        g.assemble(place::kernel_code, [](Code& c) {
            c.mov(ebx, static_cast<u32>(gva));
            c.mov(rax, ptr[rbx]);
            c.hlt();
        });
        ASSERT_TRUE(g.run().halted());
        ASSERT_EQ(g.gpr(processor::rax), 1U);
        ASSERT_TRUE(g.check().ok()) << g.check().text();
        if (altered) {
            const Hva leaf = shadow_leaf(g, gva);
            u64 entry = 0;
            std::memcpy(&entry, leaf, 8);
            entry += page_size;
            std::memcpy(leaf, &entry, 8);
            g.cpu().invalidate_tlb();
        }
        g.start_kernel();
        ASSERT_TRUE(g.run().halted());
        EXPECT_EQ(g.gpr(processor::rax), altered ? 2U : 1U)
            << "the shadow is what the processor walks";
        EXPECT_EQ(g.check().ok(), !altered) << "and the strict walker sees it";
    }
}

TEST(Ablation, OneDroppedRecordIsCaught) {
    for (const bool dropped : {false, true}) {
        GuestOptions options;
        options.strict = true;
        Guest g(options);
        constexpr u64 gva = 0x50000000;
        g.map(gva, place::data, pte::p | pte::w);
        const u64 entry = g.entry_address(gva);
        g.poke<u64>(place::data, 1);
        g.poke<u64>(place::data + page_size, 2);
        g.assemble(place::kernel_code, [&](Code& c) {
            c.mov(ebx, static_cast<u32>(gva));
            c.mov(r8, ptr[rbx]);
            c.mov(edi, static_cast<u32>(entry));
            c.mov(rax, (place::data + page_size) | pte::p | pte::w);
            c.mov(ptr[rdi], rax);
            c.invlpg(rbx);
            c.mov(r9, ptr[rbx]);
            c.hlt();
        });
        g.before_handling = [&] {
            auto& buffer = g.block().write_buffer;
            if (!dropped || buffer.count == 0) return;
            for (u32 n = 0; n < buffer.count; ++n)
                if (buffer.records[n].gpa == Gpa(entry)) {
                    buffer.records[n] = buffer.records[--buffer.count];
                    return;
                }
        };
        ASSERT_TRUE(g.run().halted());
        EXPECT_EQ(g.gpr(processor::r8), 1U);
        EXPECT_EQ(g.gpr(processor::r9), dropped ? 1U : 2U);
        EXPECT_GT(g.strict_checks, 0U);
        EXPECT_EQ(g.strict_violations.empty(), !dropped) << g.strict_violations;
    }
}

} // namespace
} // namespace gnomon::test
