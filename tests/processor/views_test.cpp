// SPDX-License-Identifier: Apache-2.0
// User memory by way of the linear view: whatever a place in translated code counts on, an access
// goes where the guest's tables say.
#include "support/guest.h"

#include <gtest/gtest.h>

namespace gnomon::test {
namespace {

using namespace Xbyak::util;

constexpr u64 frame_of_code = place::data;
constexpr u64 first_frame = place::data + 0x1000;
constexpr u64 code = 0x50000000;
constexpr u64 border = 0x1000000000; ///< between two regions of the view
constexpr u64 user = pte::p | pte::w | pte::u;

/// Data pages in which each quadword tells its page and place.
class ViewGuest : public Guest {
public:
    ViewGuest() : Guest({.views = processor::LinearViews::all, .strict = true}) {
        map(code, frame_of_code, user);
    }
    [[nodiscard]] bool has_views() { return cpu().features().has(processor::soft::Feature::bmi2); }
    void data(u64 gva) {
        const u64 frame = first_frame + page_size * m_pages++;
        map(gva, frame, user);
        for (u64 at = 0; at < page_size; at += 8)
            poke(frame + at, content(gva + at));
    }
    [[nodiscard]] static u64 content(u64 gva) { return gva ^ 0xa5a5'0000'0000'0000; }
    Stop go(u64 rip, u64 rdi) {
        start_user(rip);
        gpr(processor::rdi) = rdi;
        const Stop stop = run();
        EXPECT_EQ(cpu().check_translations(), "");
        EXPECT_EQ(strict_violations, "");
        return stop;
    }

private:
    u64 m_pages = 0;
};

#define VIEWS_OR_SKIP(guest)                                                                       \
    if (!(guest).has_views()) GTEST_SKIP() << "no linear views without BMI2"

/// With flags that are lost anyway, and with flags that must not be.
void load_in_both_ways(Code& c, int displacement) {
    c.mov(rax, ptr[rdi + displacement]);
    c.xor_(ecx, ecx);
    c.stc();
    c.mov(rbx, ptr[rdi + displacement]);
    c.sbb(rcx, 0); // -1 if CF has been kept
    c.ud2();
}

constexpr u64 many_places[] = {0x10000000,     0xc000001000,   0x555500000000,  0x7f0000001000,
                               0x7f2200002000, 0x7ffff0000000, border - 0x1000, border};

TEST(LinearView, APlaceMayMeetManyRegions) {
    ViewGuest g;
    VIEWS_OR_SKIP(g);
    g.assemble(frame_of_code, [](Code& c) { load_in_both_ways(c, 16); });
    for (const u64 page : many_places)
        g.data(page);
    u64 guesses = 0;
    for (int round = 0; round < 12; ++round) {
        guesses = g.cpu().statistics().view_guesses;
        for (const u64 page : many_places) {
            const Stop stop = g.go(code, page + 8);
            ASSERT_TRUE(stop.is(Vector::ud)) << stop.text();
            EXPECT_EQ(g.gpr(processor::rax), ViewGuest::content(page + 24));
            EXPECT_EQ(g.gpr(processor::rbx), ViewGuest::content(page + 24));
            EXPECT_EQ(g.gpr(processor::rcx), ~u64{0});
        }
    }
    EXPECT_GT(guesses, 0U) << "nothing was counted on";
    EXPECT_EQ(g.cpu().statistics().view_guesses, guesses) << "it is counted on for ever";
}

TEST(LinearView, ADisplacementMayLeadToAnotherRegion) {
    constexpr int far = 0x7ffffff0, back = -0x7ffffff8;
    ViewGuest g;
    VIEWS_OR_SKIP(g);
    for (const u64 page : {border - page_size, border, border + 0x7ffff000, border - 0x80000000})
        g.data(page);
    u64 at = 0;
    for (const int displacement : {-8, 8, far, back}) {
        g.assemble(frame_of_code + at,
                   [displacement](Code& c) { load_in_both_ways(c, displacement); });
        for (int round = 0; round < 3; ++round) {
            const u64 wanted = border + static_cast<u64>(i64{displacement});
            const Stop stop = g.go(code + at, border);
            ASSERT_TRUE(stop.is(Vector::ud)) << stop.text();
            EXPECT_EQ(g.gpr(processor::rax), ViewGuest::content(wanted));
            EXPECT_EQ(g.gpr(processor::rbx), ViewGuest::content(wanted));
        }
        at += 0x100;
    }
    // And to where there is nothing.
    for (const u64 base : {border + 0x2000, border - 0x3000}) {
        const Stop stop = g.go(code, base);
        EXPECT_TRUE(stop.is(Vector::pf)) << stop.text();
        EXPECT_EQ(g.state().cr2, base - 8);
        EXPECT_EQ(stop.error_code, 4U);
    }
}

TEST(LinearView, AddressesThatAreNoUsersFault) {
    ViewGuest g;
    VIEWS_OR_SKIP(g);
    g.data(0x10000000);
    g.map(0xffffffffc0000000, first_frame, pte::p | pte::w); // the kernel's
    g.assemble(frame_of_code, [](Code& c) { load_in_both_ways(c, 0); });
    g.assemble(frame_of_code + 0x100, [](Code& c) {
        c.movaps(xmm0, ptr[rdi + 4]);
        c.xor_(ecx, ecx);
        c.ud2();
    });
    for (int round = 0; round < 3; ++round) {
        ASSERT_TRUE(g.go(code, 0x10000000).is(Vector::ud));
        for (const u64 address : {0xffffffffc0000008, 0xfffffffffffffff0, 0xffff800000000000}) {
            const Stop stop = g.go(code, address);
            EXPECT_TRUE(stop.is(Vector::pf)) << stop.text();
            EXPECT_EQ(g.state().cr2, address);
            EXPECT_EQ(stop.error_code, address == 0xffffffffc0000008 ? 5U : 4U);
            EXPECT_EQ(stop.rip, code);
        }
        for (const u64 address : {u64{1} << 63, u64{1} << 47, 0xffff700000000000}) {
            const Stop stop = g.go(code, address);
            EXPECT_TRUE(stop.is(Vector::gp)) << std::hex << address << ' ' << stop.text();
        }
        // Alignment comes first.
        for (const u64 address : {0xffffffffc0000008, u64{0x10000000}})
            EXPECT_TRUE(g.go(code + 0x100, address).is(Vector::gp)) << std::hex << address;
    }
}

/// One translation serves a page of code wherever it is mapped; what it names by RIP is elsewhere
/// each time.
TEST(LinearView, DataNamedByRipBelongToTheAddressOfTheCode) {
    constexpr u64 places[] = {code, border, 0x7f1234560000, 0x7f1234570000, 0xffffffffff600000};
    ViewGuest g;
    VIEWS_OR_SKIP(g);
    g.assemble(frame_of_code, [](Code& c) {
        c.stc();
        c.mov(rax, ptr[rip + 0x1008]); // 8 bytes into the code
        c.mov(rbx, ptr[rip - 0x100f]); // 15 bytes into it
        c.adc(ecx, 0);
        c.add(qword[rip + 0x1000], 1);
        c.ud2();
    });
    for (const u64 page : places) {
        g.map(page, frame_of_code, user);
        g.data(page - page_size);
        g.data(page + page_size);
    }
    for (int round = 0; round < 4; ++round)
        for (const u64 page : places) {
            const Stop stop = g.go(page, 0);
            ASSERT_TRUE(stop.is(Vector::ud)) << std::hex << page << ' ' << stop.text();
            EXPECT_EQ(g.gpr(processor::rax), ViewGuest::content(page + 0x1010)) << std::hex << page;
            EXPECT_EQ(g.gpr(processor::rbx), ViewGuest::content(page - page_size))
                << std::hex << page;
        }
}

/// Accesses of one group, in pieces that the code has and has not met before.
TEST(LinearView, GroupsFindTheirRegionOnce) {
    ViewGuest g;
    VIEWS_OR_SKIP(g);
    g.assemble(frame_of_code, [](Code& c) {
        c.xor_(ecx, ecx);
        c.mov(rax, ptr[rdi + 8]);
        c.mov(rbx, ptr[rdi + 16]);
        c.mov(r13, rdi);
        c.mov(r14, ptr[r13 + 24]);
        c.add(rdi, 0x400);
        c.mov(rsi, ptr[rdi - 0x400 + 32]);
        c.lea(r15, ptr[rdi - 0x400]);
        c.mov(ptr[r15 + 40], r14);
        c.push(rax);
        c.push(r14);
        c.pop(rdx);
        c.pop(rbp);
        c.mov(r8, ptr[rsp - 8]);
        c.mov(r9, ptr[r15 + rcx * 8 + 48]);
        c.mov(r10, ptr[r15 + rcx * 8 + 56]);
        c.xor_(ecx, ecx);
        c.ud2();
    });
    for (const u64 page : many_places)
        g.data(page);
    for (int round = 0; round < 6; ++round)
        for (const u64 page : many_places) {
            const auto content = [page](u64 at) { return ViewGuest::content(page + at); };
            const Stop stop = g.go(code, page);
            ASSERT_TRUE(stop.is(Vector::ud)) << stop.text();
            EXPECT_EQ(g.gpr(processor::rax), content(8));
            EXPECT_EQ(g.gpr(processor::rbx), content(16));
            EXPECT_EQ(g.gpr(processor::r14), content(24));
            EXPECT_EQ(g.gpr(processor::rsi), content(32));
            EXPECT_EQ(g.gpr(processor::rdx), content(24));
            EXPECT_EQ(g.gpr(processor::rbp), content(8));
            EXPECT_EQ(g.gpr(processor::r8), content(8));
            EXPECT_EQ(g.gpr(processor::r9), content(48));
            EXPECT_EQ(g.gpr(processor::r10), content(56));
        }
    // The one that was written.
    g.assemble(frame_of_code + 0x800, [](Code& c) { load_in_both_ways(c, 40); });
    for (const u64 page : many_places) {
        ASSERT_TRUE(g.go(code + 0x800, page).is(Vector::ud));
        EXPECT_EQ(g.gpr(processor::rax), ViewGuest::content(page + 24));
    }
}

} // namespace
} // namespace gnomon::test
