// SPDX-License-Identifier: Apache-2.0
// M2.1 Shadow, M2.2 Trace, M2.3 Record, M2.5 Bounded: what becomes of a guest's writes to its own
// page tables, by instruction.
#include "support/guest.h"

#include <cstring>
#include <gtest/gtest.h>

namespace gnomon::test {
namespace {

using namespace Xbyak::util;

constexpr u64 window = 0x50000000; ///< mapped by a leaf table of its own

class Traced : public testing::Test {
protected:
    explicit Traced(const GuestOptions& options = {}) : g(options) {
        g.map(window, place::data, pte::p | pte::w);
        table = g.entry_address(window) & ~page_offset_mask;
    }
    /// Runs code that ends by halting.
    void run(const std::function<void(Code&)>& emit) {
        g.assemble(place::kernel_code, [&](Code& c) {
            emit(c);
            c.hlt();
        });
        g.start_kernel();
        const Stop stop = g.run();
        ASSERT_TRUE(stop.halted()) << stop.text();
    }
    /// Uses the window, and has the table page itself translated for writing.
    void warm_up() {
        run([&](Code& c) {
            c.mov(ebx, static_cast<u32>(window));
            c.mov(rax, ptr[rbx]);
            c.mov(edi, static_cast<u32>(table));
            c.mov(ptr[rdi + 8 * 300], rax);
            c.mov(ptr[rdi + static_cast<int>(page_size)], rax);
        });
        g.mmu().reconcile(g.block().write_buffer);
        ASSERT_TRUE(g.mmu().is_traced(Gpa(table)));
    }
    /// The records made by `emit`, with RDI at the table, and no exit but the HLT's.
    std::vector<processor::WriteRecord> records_of(const std::function<void(Code&)>& emit) {
        g.assemble(place::kernel_code, [&](Code& c) {
            c.mov(edi, static_cast<u32>(table));
            emit(c);
            c.hlt();
        });
        g.start_kernel();
        const u64 before = g.all_exits();
        const Stop stop = g.run();
        EXPECT_TRUE(stop.halted()) << stop.text();
        EXPECT_EQ(g.all_exits(), before + 1) << "a traced write makes no exit";
        const auto contents = g.block().write_buffer.contents();
        std::vector<processor::WriteRecord> records(contents.begin(), contents.end());
        g.mmu().reconcile(g.block().write_buffer);
        EXPECT_TRUE(g.check().ok()) << g.check().text();
        return records;
    }
    void fill_table(unsigned slot, unsigned bytes) {
        for (unsigned n = 0; n < bytes; ++n)
            g.poke<u8>(table + 8 * slot + n,
                       static_cast<u8>(2 * n + 2)); // bit 0 clear: not present
    }
    Guest g;
    u64 table = 0;
};
class M2_1_Shadow : public Traced {};
class M2_2_Trace : public Traced {};
class M2_3_Record : public Traced {};

// ---------------------------------------------------------------- M2.1

TEST_F(M2_1_Shadow, TheProcessorNeverReadsTheGuestsTables) {
    run([](Code& c) {
        c.mov(ebx, static_cast<u32>(window));
        c.mov(rax, ptr[rbx]);
    });
    // A change behind everybody's back has no effect before the monitor is told.
    g.poke<u64>(place::data, 1);
    g.poke<u64>(place::data + page_size, 2);
    g.poke<u64>(table, (place::data + page_size) | pte::p | pte::w | pte::a | pte::d);
    g.cpu().invalidate_tlb();
    const auto load = [&] {
        g.start_kernel();
        EXPECT_TRUE(g.run().halted());
        return g.gpr(processor::rax);
    };
    EXPECT_EQ(load(), 1U);
    g.mmu().note_write(Gpa(table), 8);
    EXPECT_EQ(load(), 2U);
}

TEST_F(M2_1_Shadow, AccessedAndDirtyAreSetAsTheAccessesAsk) {
    const u64 levels[] = {g.entry_address(window, 1), g.entry_address(window, 2),
                          g.entry_address(window, 3), g.entry_address(window, 4)};
    for (const u64 entry : levels)
        ASSERT_EQ(g.peek(entry) & (pte::a | pte::d), 0U);
    run([](Code& c) {
        c.mov(ebx, static_cast<u32>(window));
        c.mov(rax, ptr[rbx]);
    });
    for (const u64 entry : levels)
        EXPECT_EQ(g.peek(entry) & (pte::a | pte::d), pte::a);
    run([](Code& c) {
        c.mov(ebx, static_cast<u32>(window));
        c.mov(ptr[rbx], rax);
    });
    EXPECT_EQ(g.peek(levels[0]) & (pte::a | pte::d), pte::a | pte::d);
    EXPECT_EQ(g.peek(levels[1]) & pte::d, 0U);
    EXPECT_TRUE(g.check().ok()) << g.check().text();
}

TEST_F(M2_1_Shadow, DirtyIsSetForPagesOutsideRamToo) {
    constexpr u64 address = u64{3} << 39, device = 0xd0000000;
    g.map(address, device, pte::p | pte::w);
    g.assemble(place::kernel_code, [&](Code& c) {
        c.mov(rbx, address);
        c.mov(ptr[rbx], rax);
        c.hlt();
    });
    g.start_kernel();
    const Stop stop = g.run();
    EXPECT_TRUE(stop.is(ExitReason::mmio) && stop.exit.write) << stop.text();
    EXPECT_EQ(stop.exit.gpa, Gpa(device));
    EXPECT_EQ(g.peek(g.entry_address(address)) & (pte::a | pte::d), pte::a | pte::d);
    EXPECT_TRUE(g.check().ok()) << g.check().text();
}

TEST_F(M2_1_Shadow, RightsAreThoseOfAllLevels) {
    // Read-only at level 2, then user access withheld at level 3, XD at level 4.
    const struct {
        unsigned level;
        u64 clear, set;
        u32 error;
        bool user;
        void (*emit)(Code&);
    } cases[] = {
        {2, pte::w, 0, 3, false, [](Code& c) { c.mov(ptr[rbx], rax); }},
        {2, pte::w, 0, 7, true, [](Code& c) { c.mov(ptr[rbx], rax); }},
        {3, pte::u, 0, 5, true, [](Code& c) { c.mov(rax, ptr[rbx]); }},
        {4, 0, pte::nx, 0x11, false, [](Code& c) { c.jmp(rbx); }},
        {1, 0, u64{1} << 45, 9, false, [](Code& c) { c.mov(rax, ptr[rbx]); }},
        {1, pte::p, 0, 0, false, [](Code& c) { c.mov(rax, ptr[rbx]); }},
    };
    for (const auto& test : cases) {
        Guest guest;
        // A 512 GiB slot of its own, so that the case concerns nothing else.
        constexpr u64 address = u64{3} << 39;
        guest.map(address, place::data, pte::p | pte::w | pte::u);
        const u64 entry = guest.entry_address(address, test.level);
        guest.poke(entry, (guest.peek(entry) & ~test.clear) | test.set);
        const u64 where = test.user ? place::user_code : place::kernel_code;
        guest.assemble(where, [&](Code& c) {
            c.mov(rbx, address);
            test.emit(c);
        });
        if (test.user) guest.start_user();
        const Stop stop = guest.run();
        ASSERT_TRUE(stop.is(Vector::pf)) << test.level << stop.text();
        EXPECT_EQ(stop.error_code, test.error);
        EXPECT_EQ(guest.state().cr2, address);
    }
}

TEST_F(M2_1_Shadow, LargePages) {
    constexpr u64 address = 0x60000000;
    g.map(address, 0x400000, pte::p | pte::w | pte::u, place::pml4, 2);
    g.poke<u64>(0x400000 + 0x1ff000, 0x77);
    run([](Code& c) {
        c.mov(ebx, address);
        c.mov(rax, ptr[rbx + 0x1ff000]);
        c.mov(ptr[rbx + 0x3000], rax);
    });
    EXPECT_EQ(g.peek(0x403000), 0x77U);
    EXPECT_EQ(g.peek(g.entry_address(address, 2)) & (pte::a | pte::d), pte::a | pte::d);
    EXPECT_TRUE(g.check().ok()) << g.check().text();
}

// ---------------------------------------------------------------- M2.2

TEST_F(M2_2_Trace, TablesOfEveryLevelAreTracedOnceTheyAreUsed) {
    EXPECT_FALSE(g.mmu().is_traced(Gpa(table)));
    warm_up();
    for (unsigned level = 1; level <= 4; ++level)
        EXPECT_TRUE(g.mmu().is_traced(Gpa(g.entry_address(window, level)))) << level;
    EXPECT_FALSE(g.mmu().is_traced(Gpa(place::data)));
}

// The right to write that the TLB holds from the time before must go.
TEST_F(M2_2_Trace, CachedTranslationsCarryTheIndicationToo) {
    run([&](Code& c) {
        c.mov(edi, static_cast<u32>(table));
        c.mov(ebx, static_cast<u32>(window));
        c.mov(ptr[rdi + 8 * 100], rax); // an ordinary page still
        c.mov(rax, ptr[rbx]);           // now it is a table
        c.mov(qword[rdi + 8 * 101], 0x1234560);
    });
    const auto contents = g.block().write_buffer.contents();
    ASSERT_EQ(contents.size(), 1U);
    EXPECT_EQ(contents[0].gpa, Gpa(table + 8 * 101));
}

TEST_F(M2_2_Trace, AliasesAreTraced) {
    constexpr u64 alias = 0x70000000;
    g.map(alias, table, pte::p | pte::w);
    run([&](Code& c) {
        c.mov(esi, static_cast<u32>(alias));
        c.mov(ebx, static_cast<u32>(window));
        c.mov(qword[rsi + 8 * 100], 0);
        c.mov(rax, ptr[rbx]);
        c.mov(qword[rsi + 8 * 101], 0x40);
    });
    const auto contents = g.block().write_buffer.contents();
    ASSERT_EQ(contents.size(), 1U);
    EXPECT_EQ(contents[0].gpa, Gpa(table + 8 * 101));
}

TEST_F(M2_2_Trace, OrdinaryPagesAreNot) {
    warm_up();
    const auto emit = [](Code& c) {
        c.mov(ebx, place::data);
        c.mov(qword[rbx], 5);
        c.push(rax);
    };
    run(emit); // the pages get their dirty bits
    g.mmu().reconcile(g.block().write_buffer);
    EXPECT_TRUE(records_of(emit).empty());
}

// ---------------------------------------------------------------- M2.3

/// One way to write, with what it makes of the bytes there.
struct WriteForm {
    const char* name;
    unsigned size;
    void (*emit)(Code&); ///< to [rdi + 8 * 64]
};
constexpr int at = 8 * 64;

const WriteForm write_forms[] = {
    {"mov8", 1, [](Code& c) { c.mov(byte[rdi + at], 0x90); }},
    {"mov16", 2, [](Code& c) { c.mov(word[rdi + at], 0x9190); }},
    {"mov32", 4, [](Code& c) { c.mov(dword[rdi + at], 0x12345670); }},
    {"mov64", 8, [](Code& c) { c.mov(qword[rdi + at], 0x12345670); }},
    {"xchg", 8,
     [](Code& c) {
         c.mov(eax, 0x770);
         c.xchg(ptr[rdi + at], rax);
     }},
    {"lock_add", 8,
     [](Code& c) {
         c.lock();
         c.add(qword[rdi + at], 0x10);
     }},
    {"lock_or32", 4,
     [](Code& c) {
         c.lock();
         c.or_(dword[rdi + at], 0x10000);
     }},
    {"lock_bts", 4,
     [](Code& c) {
         c.lock();
         c.bts(dword[rdi + at], 20);
     }},
    {"and", 8, [](Code& c) { c.and_(qword[rdi + at], ~0xff); }},
    {"inc16", 2, [](Code& c) { c.add(word[rdi + at], 0x20); }},
    {"not", 8,
     [](Code& c) {
         c.or_(qword[rdi + at], 1);
         c.not_(qword[rdi + at]);
     }},
    {"cmpxchg", 8,
     [](Code& c) {
         c.mov(rax, ptr[rdi + at]);
         c.mov(ecx, 0x550);
         c.lock();
         c.cmpxchg(ptr[rdi + at], rcx);
     }},
    {"xadd", 8,
     [](Code& c) {
         c.mov(eax, 0x40);
         c.lock();
         c.xadd(ptr[rdi + at], rax);
     }},
    {"push", 8,
     [](Code& c) {
         c.mov(r15, rsp);
         c.lea(rsp, ptr[rdi + at + 8]);
         c.push(0x660);
         c.mov(rsp, r15);
     }},
    {"call", 8,
     [](Code& c) {
         Xbyak::Label l;
         c.align(2);
         c.mov(r15, rsp);
         c.lea(rsp, ptr[rdi + at + 8]);
         c.call(l);
         c.L(l);
         c.mov(rsp, r15);
     }},
    {"stosq", 8,
     [](Code& c) {
         c.mov(eax, 0x330);
         c.lea(rdi, ptr[rdi + at]);
         c.stosq();
     }},
    {"movaps", 16,
     [](Code& c) {
         c.pcmpeqd(xmm1, xmm1);
         c.psllq(xmm1, 4);
         c.movaps(ptr[rdi + at], xmm1);
     }},
    {"movups", 16,
     [](Code& c) {
         c.pcmpeqd(xmm1, xmm1);
         c.psllq(xmm1, 5);
         c.movups(ptr[rdi + at], xmm1);
     }},
    {"movnti", 8,
     [](Code& c) {
         c.mov(eax, 0x880);
         c.movnti(ptr[rdi + at], rax);
     }},
    {"vmovdqu", 32,
     [](Code& c) {
         c.vpcmpeqd(ymm1, ymm1, ymm1);
         c.vpsllq(ymm1, ymm1, 3);
         c.vmovdqu(ptr[rdi + at], ymm1);
     }},
    {"setc", 1,
     [](Code& c) {
         c.clc();
         c.setc(byte[rdi + at]);
     }},
    {"fistp", 8,
     [](Code& c) {
         c.fldz();
         c.fistp(qword[rdi + at]);
     }},
    {"cmpxchg16b", 16,
     [](Code& c) {
         c.mov(rax, ptr[rdi + at]);
         c.mov(rdx, ptr[rdi + at + 8]);
         c.mov(ebx, 0x110);
         c.mov(ecx, 0x220);
         c.lock();
         c.db(0x48), c.db(0x0f), c.db(0xc7), c.db(0x8f), c.dd(at);
     }},
};

class EveryWrite : public M2_3_Record, public testing::WithParamInterface<WriteForm> {};

TEST_P(EveryWrite, IsCompletedAndRecordedWithAddressExtentBeforeAndAfter) {
    const WriteForm& form = GetParam();
    warm_up();
    fill_table(64, 64);
    std::array<u8, 64> before = g.peek<std::array<u8, 64>>(table + at);
    auto records = records_of([&](Code& c) {
        form.emit(c);
        c.mov(edi, static_cast<u32>(table));
        c.mov(r14, ptr[rdi + at]); // completed: the guest reads it back at once
    });
    const auto after = g.peek<std::array<u8, 64>>(table + at);
    EXPECT_EQ(std::memcmp(&g.gpr(processor::r14), after.data(), 8), 0);
    if (std::strcmp(form.name, "setc") != 0 && std::strcmp(form.name, "fistp") != 0) {
        EXPECT_NE(std::memcmp(before.data(), after.data(), form.size), 0)
            << "the test writes nothing";
    }
    EXPECT_EQ(std::memcmp(before.data() + form.size, after.data() + form.size, 64 - form.size), 0);
    if (std::strcmp(form.name, "not") == 0) { // two writes: the record of the second
        ASSERT_EQ(records.size(), 2U);
        EXPECT_EQ(std::memcmp(records[0].before, before.data(), form.size), 0);
        std::memcpy(before.data(), records[0].after, form.size);
        records.erase(records.begin());
    }
    ASSERT_EQ(records.size(), 1U);
    EXPECT_EQ(records[0].gpa, Gpa(table + at));
    EXPECT_EQ(records[0].size, form.size);
    EXPECT_EQ(std::memcmp(records[0].before, before.data(), form.size), 0);
    EXPECT_EQ(std::memcmp(records[0].after, after.data(), form.size), 0);
    for (unsigned n = form.size; n < 32; ++n)
        EXPECT_EQ(records[0].before[n] | records[0].after[n], 0)
            << "content beyond the size is zero";
}
INSTANTIATE_TEST_SUITE_P(Forms, EveryWrite, testing::ValuesIn(write_forms),
                         [](const auto& p) { return std::string(p.param.name); });

TEST_F(M2_3_Record, RepStosAndRepMovsRecordEveryByte) {
    warm_up();
    run([](Code& c) {
        c.mov(esi, place::data);
        c.mov(rax, ptr[rsi]);
    });
    for (const bool move : {false, true}) {
        fill_table(100, 160);
        const auto before = g.peek<std::array<u8, 160>>(table + 800);
        const auto records = records_of([&](Code& c) {
            c.lea(rdi, ptr[rdi + 800]);
            c.mov(ecx, 20);
            c.mov(esi, place::data);
            c.mov(rax, u64{0x1020304050607080});
            c.rep();
            if (move) {
                c.db(0x48), c.db(0xa5);
            } else {
                c.db(0x48), c.db(0xab);
            }
        });
        const auto after = g.peek<std::array<u8, 160>>(table + 800);
        std::array<u8, 160> covered{};
        for (const auto& r : records) {
            const u64 begin = r.gpa.value() - table - 800;
            ASSERT_LE(begin + r.size, 160U);
            for (u32 n = 0; n < r.size; ++n) {
                EXPECT_EQ(covered[begin + n]++, 0);
                EXPECT_EQ(r.before[n], before[begin + n]);
                EXPECT_EQ(r.after[n], after[begin + n]);
            }
        }
        for (unsigned n = 0; n < 160; ++n)
            EXPECT_EQ(covered[n], 1) << n;
        EXPECT_EQ(g.gpr(processor::rcx), 0U);
    }
}

TEST_F(M2_3_Record, AcrossAPageEndEachPageHasItsOwnRecord) {
    // The page behind the table is no table: only the first half is recorded; then both.
    constexpr u64 second_window = window + (u64{512} << 12);
    for (const bool both : {false, true}) {
        Guest guest;
        guest.map(window, place::data, pte::p | pte::w);
        guest.map(second_window, place::data, pte::p | pte::w);
        const u64 first = guest.entry_address(window) & ~page_offset_mask;
        ASSERT_EQ(guest.entry_address(second_window) & ~page_offset_mask, first + page_size);
        const auto program = [&](bool write) {
            guest.assemble(place::kernel_code, [&](Code& c) {
                c.mov(ebx, static_cast<u32>(window));
                c.mov(rax, ptr[rbx]);
                if (both) c.mov(rax, ptr[rbx + static_cast<int>(second_window - window)]);
                c.mov(edi, static_cast<u32>(first + page_size - 3));
                c.mov(rax, u64{0x1818161614141212});
                if (write) c.mov(ptr[rdi], rax);
                c.mov(r14, ptr[rdi]);
                c.hlt();
            });
            guest.start_kernel();
            ASSERT_TRUE(guest.run().halted());
        };
        // The second table's first entry maps the window: keep what must stay present.
        program(false);
        guest.mmu().reconcile(guest.block().write_buffer);
        const auto before = guest.peek<std::array<u8, 8>>(first + page_size - 3);
        program(true);
        const auto contents = guest.block().write_buffer.contents();
        ASSERT_EQ(contents.size(), both ? 2U : 1U);
        EXPECT_EQ(guest.gpr(processor::r14), 0x1818161614141212U);
        EXPECT_EQ(contents[0].gpa, Gpa(first + page_size - 3));
        EXPECT_EQ(contents[0].size, 3U);
        EXPECT_EQ(std::memcmp(contents[0].before, before.data(), 3), 0);
        EXPECT_EQ(contents[0].after[2], 0x14);
        if (both) {
            EXPECT_EQ(contents[1].gpa, Gpa(first + page_size));
            EXPECT_EQ(contents[1].size, 5U);
            EXPECT_EQ(std::memcmp(contents[1].before, before.data() + 3, 5), 0);
            EXPECT_EQ(contents[1].after[4], 0x18);
        }
    }
}

// A write that faults half-way, or that does not happen, leaves no record.
TEST_F(M2_3_Record, WritesThatDoNotHappenAreNotRecorded) {
    warm_up();
    g.assemble(place::kernel_code, [&](Code& c) {
        c.mov(edi, static_cast<u32>(table + 8));
        c.mov(esi, 0x70000000);
        c.movsq(); // the source faults
    });
    g.start_kernel();
    ASSERT_TRUE(g.run().is(Vector::pf));
    EXPECT_EQ(g.block().write_buffer.count, 0U);
}

// ---------------------------------------------------------------- M2.5

class M2_5_Bounded : public Traced {
protected:
    static GuestOptions small() {
        GuestOptions options;
        options.shadow.write_buffer_records = 128;
        options.strict = true;
        return options;
    }
    M2_5_Bounded() : Traced(small()) {}
};

// The root in use is traced for ever, so every write to it has its record.
TEST_F(M2_5_Bounded, ThousandsOfWritesToOneTableLoseNothing) {
    warm_up();
    const auto start = g.mmu().statistics();
    constexpr u32 rounds = 10, slots = 500;
    run([&](Code& c) {
        Xbyak::Label round, slot;
        c.mov(ecx, rounds);
        c.xor_(eax, eax);
        c.L(round);
        c.mov(edi, static_cast<u32>(place::pml4 + 8 * 10));
        c.mov(edx, slots);
        c.L(slot);
        c.mov(ptr[rdi], rax); // bit 0 stays clear: not present
        c.add(rax, 2);
        c.add(rdi, 8);
        c.dec(edx);
        c.jnz(slot);
        c.dec(ecx);
        c.jnz(round);
        c.invlpg(rdi);
    });
    const auto end = g.mmu().statistics();
    EXPECT_EQ(end.records - start.records, u64{rounds} * slots);
    EXPECT_GE(g.exits(ExitReason::write_buffer_full), u64{rounds} * slots / 128 - 1);
    EXPECT_EQ(g.strict_violations, "");
    EXPECT_EQ(g.peek(place::pml4 + 8 * 509), u64{rounds} * slots * 2 - 2);
}

TEST_F(M2_5_Bounded, ThousandsOfEntriesEndUpAsTheGuestWroteThem) {
    warm_up();
    constexpr u32 rounds = 10, slots = 500;
    for (u64 n = 0; n < 4; ++n)
        g.poke<u64>(place::data + n * page_size, n);
    run([&](Code& c) {
        Xbyak::Label round, slot, look;
        c.mov(ecx, rounds);
        c.xor_(r9d, r9d);
        c.L(round);
        c.mov(edi, static_cast<u32>(table + 8));
        c.mov(edx, slots);
        c.lea(rax, ptr[rcx + 1]); // the frame of the first slot changes with the round
        c.and_(eax, 3);
        c.shl(eax, 12);
        c.add(rax, static_cast<u32>(place::data | pte::p | pte::w | pte::a | pte::d));
        c.L(slot);
        c.mov(ptr[rdi], rax);
        c.add(rdi, 8);
        c.xor_(rax, 0x1000);
        c.dec(edx);
        c.jnz(slot);
        c.mov_from_cr(rax, 3);
        c.mov_to_cr(3, rax);
        c.mov(ebx, static_cast<u32>(window + page_size));
        c.mov(edx, slots);
        c.L(look); // the sum of what each page of the window holds
        c.imul(r9, r9, 5);
        c.add(r9, ptr[rbx]);
        c.add(rbx, static_cast<u32>(page_size));
        c.dec(edx);
        c.jnz(look);
        c.dec(ecx);
        c.jnz(round);
    });
    u64 expected = 0;
    for (u32 n = rounds; n > 0; --n)
        for (u32 slot = 0; slot < slots; ++slot)
            expected = expected * 5 + (((n + 1) & 3) ^ (slot & 1));
    EXPECT_EQ(g.gpr(processor::r9), expected);
    EXPECT_GT(g.exits(ExitReason::write_buffer_full), 10U);
    EXPECT_GT(g.strict_checks, 50U);
    EXPECT_EQ(g.strict_violations, "");
    EXPECT_TRUE(g.check().ok()) << g.check().text();
}

TEST_F(M2_5_Bounded, TheExitComesBeforeTheWriteThatDoesNotFit) {
    warm_up();
    g.assemble(place::kernel_code, [&](Code& c) {
        Xbyak::Label again;
        c.mov(edi, static_cast<u32>(table + 8));
        c.xor_(eax, eax);
        c.L(again);
        c.inc(eax);
        c.shl(rax, 1);
        c.mov(ptr[rdi], rax);
        c.shr(rax, 1);
        c.jmp(again);
    });
    g.start_kernel();
    Exit exit;
    do {
        exit = g.cpu().enter();
    } while (exit.reason == ExitReason::page_fault && g.handle(exit));
    ASSERT_EQ(exit.reason, ExitReason::write_buffer_full);
    const auto& buffer = g.block().write_buffer;
    ASSERT_GT(buffer.count, 0U);
    ASSERT_LE(buffer.count, buffer.capacity);
    // RAX counts the writes begun; memory holds the last that was completed.
    EXPECT_EQ(g.gpr(processor::rax) / 2, buffer.count + 1);
    EXPECT_EQ(g.peek(table + 8), u64{buffer.count} * 2);
    u64 last = 0;
    std::memcpy(&last, buffer.records[buffer.count - 1].after, 8);
    EXPECT_EQ(last, u64{buffer.count} * 2);
    g.mmu().reconcile(g.block().write_buffer);
    exit = g.cpu().enter();
    ASSERT_EQ(exit.reason, ExitReason::write_buffer_full);
    EXPECT_EQ(g.peek(table + 8), u64{g.gpr(processor::rax)} - 2);
}

TEST_F(M2_5_Bounded, StringsLongerThanTheBufferLoseNothing) {
    warm_up();
    constexpr u64 first = 64, count = 448;
    const auto start = g.mmu().statistics();
    run([&](Code& c) {
        Xbyak::Label again;
        c.mov(edx, 8);
        c.L(again);
        c.mov(edi, static_cast<u32>(place::pml4 + 8 * first));
        c.mov(ecx, count);
        c.lea(rax, ptr[rdx * 8]);
        c.shl(rax, 1);
        c.rep();
        c.db(0x48), c.db(0xab); // STOSQ
        c.mov(edi, static_cast<u32>(place::pml4 + 8 * first));
        c.mov(ecx, count * 8); // byte by byte
        c.rep();
        c.stosb();
        c.dec(edx);
        c.jnz(again);
        c.mov_from_cr(rax, 3);
        c.mov_to_cr(3, rax);
    });
    for (u64 n = 0; n < count; ++n)
        ASSERT_EQ(g.peek(place::pml4 + 8 * (first + n)), 0x1010101010101010U);
    const auto end = g.mmu().statistics();
    EXPECT_GE((end.records - start.records) * 32, 16 * count * 8) << "every byte is in a record";
    EXPECT_EQ(g.strict_violations, "");
    EXPECT_TRUE(g.check().ok()) << g.check().text();
}

} // namespace
} // namespace gnomon::test
