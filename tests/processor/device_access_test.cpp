// SPDX-License-Identifier: Apache-2.0
// The processor's contract: exits for device registers and ports.
#include "support/guest.h"

#include <cstring>
#include <gtest/gtest.h>
#include <map>

namespace gnomon::test {
namespace {

using namespace Xbyak::util;

constexpr u64 device_gva = 0x40000000, device_gpa = 0xfd000000;

/// Registers that remember, byte by byte, and count accesses.
struct Device {
    std::map<u64, u8> bytes;
    std::vector<unsigned> read_sizes, write_sizes;
    bool misaligned = false;

    u64 read(Gpa gpa, unsigned size) {
        read_sizes.push_back(size);
        misaligned |= gpa.value() % size != 0;
        u64 value = 0;
        for (unsigned n = 0; n < size; ++n)
            value |= u64{bytes[gpa.value() + n]} << (8 * n);
        return value;
    }
    void write(Gpa gpa, unsigned size, u64 value) {
        write_sizes.push_back(size);
        misaligned |= gpa.value() % size != 0;
        for (unsigned n = 0; n < size; ++n)
            bytes[gpa.value() + n] = static_cast<u8>(value >> (8 * n));
    }
    void fill(u64 at, unsigned size) {
        for (unsigned n = 0; n < size; ++n)
            bytes[device_gpa + at + n] = static_cast<u8>(0x11 * (n + 1) + at);
    }
};

class DeviceAccess : public testing::Test {
protected:
    DeviceAccess() {
        g.map(device_gva, device_gpa, pte::p | pte::w | pte::u);
        g.map(device_gva + page_size, device_gpa + page_size, pte::p | pte::w | pte::u);
        g.gpr(processor::rbx) = device_gva;
        g.gpr(processor::rdi) = place::data;
    }
    Stop run(const std::function<void(Code&)>& emit) {
        g.assemble(place::kernel_code, [&](Code& c) {
            emit(c);
            c.hlt();
        });
        for (;;) {
            const Stop stop = g.run();
            if (!stop.is(ExitReason::mmio)) return stop;
            if (stop.exit.write) {
                device.write(stop.exit.gpa, stop.exit.size, stop.exit.data);
            } else {
                g.block().io_data = device.read(stop.exit.gpa, stop.exit.size);
                g.block().io_data_valid = true;
            }
        }
    }
    Guest g;
    Device device;
};

TEST_F(DeviceAccess, ReadsOfEachSize) {
    device.fill(0, 8);
    ASSERT_TRUE(run([](Code& c) {
                    c.mov(rax, ~u64{0});
                    c.mov(al, ptr[rbx + 1]);
                    c.mov(r8, rax);
                    c.mov(rax, ~u64{0});
                    c.mov(ax, ptr[rbx + 2]);
                    c.mov(r9, rax);
                    c.mov(r10d, ptr[rbx + 4]);
                    c.mov(r11, ptr[rbx]);
                    c.movzx(r12d, byte[rbx + 7]);
                    c.movsx(r13, byte[rbx + 7]);
                }).halted());
    EXPECT_EQ(g.gpr(processor::r8), 0xffffffffffffff22U);
    EXPECT_EQ(g.gpr(processor::r9), 0xffffffffffff4433U);
    EXPECT_EQ(g.gpr(processor::r10), 0x88776655U);
    EXPECT_EQ(g.gpr(processor::r11), 0x8877665544332211U);
    EXPECT_EQ(g.gpr(processor::r12), 0x88U);
    EXPECT_EQ(g.gpr(processor::r13), 0xffffffffffffff88U);
    EXPECT_EQ(device.read_sizes, (std::vector<unsigned>{1, 2, 4, 8, 1, 1}));
}

TEST_F(DeviceAccess, WritesOfEachSize) {
    ASSERT_TRUE(run([](Code& c) {
                    c.mov(rax, u64{0x1122334455667788});
                    c.mov(ptr[rbx], al);
                    c.mov(ptr[rbx + 2], ax);
                    c.mov(ptr[rbx + 4], eax);
                    c.mov(ptr[rbx + 8], rax);
                    c.mov(dword[rbx + 16], 0xcafe);
                    c.mov(r8d, 1);
                }).halted());
    EXPECT_EQ(device.write_sizes, (std::vector<unsigned>{1, 2, 4, 8, 4}));
    EXPECT_EQ(device.read(Gpa(device_gpa), 1), 0x88U);
    EXPECT_EQ(device.read(Gpa(device_gpa + 2), 2), 0x7788U);
    EXPECT_EQ(device.read(Gpa(device_gpa + 4), 4), 0x55667788U);
    EXPECT_EQ(device.read(Gpa(device_gpa + 8), 8), 0x1122334455667788U);
    EXPECT_EQ(device.read(Gpa(device_gpa + 16), 4), 0xcafeU);
    EXPECT_EQ(g.gpr(processor::r8), 1U);
    EXPECT_TRUE(device.read_sizes.size() == 5) << "stores do not read";
}

TEST_F(DeviceAccess, ReadModifyWriteReadsOnceAndWritesOnce) {
    device.fill(0, 4);
    ASSERT_TRUE(run([](Code& c) {
                    c.or_(dword[rbx], 0x80000000);
                    c.mov(eax, 5);
                    c.xchg(ptr[rbx + 8], eax);
                    c.lock();
                    c.add(dword[rbx + 8], 2);
                }).halted());
    EXPECT_EQ(device.read_sizes, (std::vector<unsigned>{4, 4, 4}));
    EXPECT_EQ(device.write_sizes, (std::vector<unsigned>{4, 4, 4}));
    EXPECT_EQ(device.read(Gpa(device_gpa), 4), 0xc4332211U);
    EXPECT_EQ(device.read(Gpa(device_gpa + 8), 4), 7U);
    EXPECT_EQ(g.gpr(processor::rax), 0U);
}

TEST_F(DeviceAccess, VectorsOf16And32Bytes) {
    device.fill(0x20, 32);
    ASSERT_TRUE(run([](Code& c) {
                    c.movups(xmm1, ptr[rbx + 0x20]);
                    c.movups(ptr[rdi], xmm1);
                    c.movups(ptr[rbx + 0x80], xmm1);
                    c.vmovdqu(ymm2, ptr[rbx + 0x20]);
                    c.vmovdqu(ptr[rdi + 0x40], ymm2);
                    c.vmovdqu(ptr[rbx + 0x100], ymm2);
                }).halted());
    for (unsigned n = 0; n < 32; ++n) {
        const u8 expected = device.bytes[device_gpa + 0x20 + n];
        if (n < 16) {
            EXPECT_EQ(g.peek<u8>(place::data + n), expected) << n;
            EXPECT_EQ(device.bytes[device_gpa + 0x80 + n], expected) << n;
        }
        EXPECT_EQ(g.peek<u8>(place::data + 0x40 + n), expected) << n;
        EXPECT_EQ(device.bytes[device_gpa + 0x100 + n], expected) << n;
    }
    EXPECT_EQ(device.read_sizes, std::vector<unsigned>(6, 8));
    EXPECT_EQ(device.write_sizes, std::vector<unsigned>(6, 8));
    EXPECT_FALSE(device.misaligned);
}

TEST_F(DeviceAccess, MisalignedAccessesComeInAlignedPieces) {
    device.fill(0x30, 8);
    ASSERT_TRUE(run([](Code& c) {
                    c.mov(rax, ptr[rbx + 0x31]);
                    c.mov(ptr[rbx + 0x103], rax);
                }).halted());
    device.misaligned = false;
    std::vector<unsigned> wanted{1, 2, 4, 1};
    EXPECT_EQ(device.read_sizes, wanted);
    EXPECT_EQ(device.write_sizes, (std::vector<unsigned>{1, 4, 2, 1}));
    for (unsigned n = 0; n < 8; ++n)
        EXPECT_EQ(device.bytes[device_gpa + 0x103 + n],
                  static_cast<u8>(g.gpr(processor::rax) >> (8 * n)));
}

TEST_F(DeviceAccess, AcrossTwoDevicePagesAndFromRamIntoADevice) {
    g.map(device_gva - page_size, place::data + page_size, pte::p | pte::w | pte::u);
    g.poke<u32>(place::data + 2 * page_size - 4, 0x04030201);
    device.fill(0, 4);
    device.fill(page_size - 4, 4);
    device.fill(page_size, 4);
    ASSERT_TRUE(run([](Code& c) {
                    c.mov(r8, ptr[rbx - 4]);
                    c.mov(r9, ptr[rbx + 0xffc]);
                    c.mov(rax, u64{0xaabbccdd11223344});
                    c.mov(ptr[rbx - 4], rax);
                }).halted());
    EXPECT_EQ(g.gpr(processor::r8), 0x4433221104030201U);
    EXPECT_EQ(static_cast<u32>(g.gpr(processor::r9)), device.read(Gpa(device_gpa + 0xffc), 4));
    EXPECT_EQ(g.gpr(processor::r9) >> 32, device.read(Gpa(device_gpa + 0x1000), 4));
    EXPECT_EQ(g.peek<u32>(place::data + 2 * page_size - 4), 0x11223344U);
    EXPECT_EQ(device.read(Gpa(device_gpa), 4), 0xaabbccddU);
}

TEST_F(DeviceAccess, StringInstructionsReachTheDevice) {
    g.poke<u64>(place::data, 0x8877665544332211);
    ASSERT_TRUE(run([](Code& c) {
                    c.mov(rsi, rdi);
                    c.lea(rdi, ptr[rbx + 0x40]);
                    c.mov(ecx, 8);
                    c.rep();
                    c.movsb();
                    c.lea(rsi, ptr[rbx + 0x40]);
                    c.mov(edi, place::data + 0x100);
                    c.mov(ecx, 2);
                    c.rep();
                    c.movsd();
                }).halted());
    EXPECT_EQ(g.peek(place::data + 0x100), 0x8877665544332211U);
    EXPECT_EQ(g.gpr(processor::rcx), 0U);
    EXPECT_EQ(device.write_sizes, std::vector<unsigned>(8, 1));
    EXPECT_EQ(device.read_sizes, std::vector<unsigned>(2, 4));
}

TEST_F(DeviceAccess, PushAndCallIntoADevice) {
    ASSERT_TRUE(run([](Code& c) {
                    Xbyak::Label there;
                    c.mov(r15, rsp);
                    c.lea(rsp, ptr[rbx + 0x80]);
                    c.push(0x77);
                    c.call(there);
                    c.L(there);
                    c.mov(rsp, r15);
                }).halted());
    EXPECT_EQ(device.read(Gpa(device_gpa + 0x78), 8), 0x77U);
    EXPECT_GT(device.read(Gpa(device_gpa + 0x70), 8), place::kernel_code);
}

// ---------------------------------------------------------------- ports

TEST(PortAccess, InAndOutOfEachSize) {
    Guest g;
    g.assemble(place::kernel_code, [](Code& c) {
        c.mov(rax, u64{0x1122334455667788});
        c.mov(edx, 0x3f8);
        c.out_(dx, al);
        c.out_(dx, ax);
        c.out_(dx, eax);
        c.out_(0x80, al);
        c.in_(al, dx);
        c.in_(ax, dx);
        c.in_(eax, dx);
        c.hlt();
    });
    const struct {
        u16 port;
        u8 size;
        bool write;
        u64 data;
    } wanted[] = {{0x3f8, 1, true, 0x88}, {0x3f8, 2, true, 0x7788}, {0x3f8, 4, true, 0x55667788},
                  {0x80, 1, true, 0x88},  {0x3f8, 1, false, 0},     {0x3f8, 2, false, 0},
                  {0x3f8, 4, false, 0}};
    for (const auto& w : wanted) {
        const Stop stop = g.run();
        ASSERT_TRUE(stop.is(ExitReason::io)) << stop.text();
        EXPECT_EQ(stop.exit.port, w.port);
        EXPECT_EQ(stop.exit.size, w.size);
        EXPECT_EQ(stop.exit.write, w.write);
        EXPECT_EQ(stop.exit.data, w.data);
        if (!w.write) {
            if (w.size == 4) {
                EXPECT_EQ(g.gpr(processor::rax), 0x112233445566eeddU);
            }
            g.block().io_data = 0xffeeddccbbaaeeddU;
            g.block().io_data_valid = true;
        }
    }
    ASSERT_TRUE(g.run().halted());
    EXPECT_EQ(g.gpr(processor::rax), 0xbbaaeeddU) << "a 4-byte IN clears the upper half";
}

TEST(PortAccess, StringInAndOut) {
    Guest g;
    g.poke<u32>(place::data, 0xddccbbaa);
    g.assemble(place::kernel_code, [](Code& c) {
        c.mov(esi, place::data);
        c.mov(edi, place::data + 0x10);
        c.mov(edx, 0x1f0);
        c.mov(ecx, 4);
        c.rep();
        c.db(0x6e); // OUTSB
        c.mov(ecx, 3);
        c.rep();
        c.db(0x66), c.db(0x6d); // INSW
        c.hlt();
    });
    for (const u64 byte : {0xaa, 0xbb, 0xcc, 0xdd}) {
        const Stop stop = g.run();
        ASSERT_TRUE(stop.is(ExitReason::io) && stop.exit.write) << stop.text();
        EXPECT_EQ(stop.exit.data, byte);
        EXPECT_EQ(stop.exit.size, 1);
    }
    for (unsigned n = 0; n < 3; ++n) {
        const Stop stop = g.run();
        ASSERT_TRUE(stop.is(ExitReason::io) && !stop.exit.write) << stop.text();
        EXPECT_EQ(stop.exit.size, 2);
        g.block().io_data = 0x1010U + n;
        g.block().io_data_valid = true;
    }
    ASSERT_TRUE(g.run().halted());
    EXPECT_EQ(g.peek<u16>(place::data + 0x10), 0x1010);
    EXPECT_EQ(g.peek<u16>(place::data + 0x14), 0x1012);
    EXPECT_EQ(g.gpr(processor::rcx), 0U);
    EXPECT_EQ(g.gpr(processor::rdi), place::data + 0x16);
    EXPECT_EQ(g.gpr(processor::rsi), place::data + 4);
}

// An INS whose destination is not mapped faults before the device is asked.
TEST(PortAccess, InsFaultsBeforeTheDeviceIsAsked) {
    Guest g;
    g.assemble(place::kernel_code, [](Code& c) {
        c.mov(rdi, 0x70000000);
        c.mov(edx, 0x1f0);
        c.db(0x6c);
        c.hlt();
    });
    const Stop stop = g.run();
    EXPECT_TRUE(stop.is(Vector::pf)) << stop.text();
    EXPECT_EQ(g.exits(ExitReason::io), 0U);
}

} // namespace
} // namespace gnomon::test
