// SPDX-License-Identifier: Apache-2.0
/// Every number of both ABIs with hostile registers and memory: nothing may crash, and text stays
/// bounded.
#include "fixture.h"

#include <gtest/gtest.h>
#include <random>

namespace gnomon::trace::test {
namespace {

/// Memory that returns random bytes, the same byte, or nothing, at random.
class HostileMemory final : public MemoryReader {
public:
    explicit HostileMemory(std::mt19937_64& random) : m_random(random) {}
    bool read(u64 address, std::span<std::byte> out) override {
        m_bytes += out.size();
        if (m_mode == 0 || address > ~u64{0} - out.size()) return false;
        if (m_mode == 1 && (m_random() & 3) == 0) return false;
        if (m_mode == 2) {
            std::memset(out.data(), 0xff, out.size());
            return true;
        }
        if (m_mode == 3) {
            std::memset(out.data(), 0, out.size());
            return true;
        }
        u64 word = 0;
        for (size_t i = 0; i < out.size(); ++i) {
            if (i % 8 == 0) word = m_mode == 4 ? m_random() & 0x0f0f0f0f : m_random();
            out[i] = static_cast<std::byte>(word >> (i % 8 * 8));
        }
        return true;
    }
    void mode(unsigned m) { m_mode = m; }
    [[nodiscard]] u64 bytes() const { return m_bytes; }

private:
    std::mt19937_64& m_random;
    unsigned m_mode = 0;
    u64 m_bytes = 0;
};

class CountingSink final : public Sink {
public:
    Result<> write(std::string_view text) override {
        for (const char c : text) {
            const bool printable = (c >= 0x20 && c < 0x7f) || c == '\n';
            if (!printable && !utf8) ++unprintable;
        }
        bytes += text.size();
        return {};
    }
    Result<> flush() override { return {}; }
    u64 bytes = 0;
    u64 unprintable = 0;
    bool utf8 = false;
};

u64 hostile_value(std::mt19937_64& random) {
    switch (random() % 8) {
    case 0: return 0;
    case 1: return ~u64{0};
    case 2: return random() % 64;
    case 3: return u64{1} << (random() % 64);
    case 4: return ~u64{0} - random() % 4096;
    case 5: return random() % 100000;
    case 6: return static_cast<u32>(random());
    default: return random();
    }
}

void attack(const TraceOptions& options, unsigned rounds, u64 seed,
            u64 bytes_per_call = 64 * 1024) {
    std::mt19937_64 random(seed);
    CountingSink sink;
    sink.utf8 = options.json;
    Tracer tracer(options, Filter{}, sink);
    HostileMemory memory(random);
    u64 calls = 0;
    for (unsigned round = 0; round < rounds; ++round)
        for (const Abi abi : {Abi::x86_64, Abi::i386, Abi::x32})
            for (u64 number = 0; number < 560; ++number) {
                memory.mode(static_cast<unsigned>(random() % 6));
                SyscallEnter e;
                e.task = task(static_cast<i32>(random() % 3), std::string("a\n\x1b\0b", 5));
                e.task.known = random() % 8 != 0;
                e.abi = abi;
                e.number = abi == Abi::x32 ? number | x32_syscall_bit : number;
                for (u64& arg : e.args)
                    arg = hostile_value(random);
                e.user_sp = hostile_value(random);
                tracer.on_enter(e, memory);
                ++calls;
                memory.mode(static_cast<unsigned>(random() % 6));
                if (random() % 16 == 0) continue;
                SyscallExit x;
                x.task = e.task;
                x.abi = abi;
                x.number = e.number;
                x.result = random() % 2 != 0 ? static_cast<i64>(hostile_value(random))
                                             : -static_cast<i64>(random() % 600);
                tracer.on_exit(x, memory);
            }
    SignalDelivered s;
    for (i32 signal = -2; signal < 70; ++signal)
        for (i32 code = -70; code < 140; ++code) {
            s.signo = signal;
            s.code = code;
            s.error = static_cast<i32>(random());
            s.value = random();
            s.address = random();
            tracer.on_signal(s);
        }
    ASSERT_TRUE(tracer.finish());
    const CallCounters c = tracer.counters();
    EXPECT_EQ(c.entered, calls);
    EXPECT_EQ(c.entered, c.returned + c.never_return + c.lost_returns + c.in_progress);
    EXPECT_EQ(sink.unprintable, 0u);
    // A call can make the tracer read and print only so much.
    EXPECT_LT(memory.bytes() / calls, bytes_per_call);
    EXPECT_LT(sink.bytes / calls, bytes_per_call);
}

TEST(Hostile, Text) { attack({}, 6, 1); }

TEST(Hostile, Json) {
    TraceOptions o;
    o.json = true;
    attack(o, 4, 2);
}

TEST(Hostile, LongAndShortStrings) {
    TraceOptions o;
    o.string_limit = 0;
    attack(o, 2, 3);
    o.string_limit = 300;
    attack(o, 1, 4, 256 * 1024);
    o.string_limit = 100000;
    attack(o, 1, 6, 1024 * 1024);
}

TEST(Hostile, TasksWithoutEndAreBounded) {
    TraceOptions o;
    o.summary = true; // no lines
    Bench b(o);
    constexpr u64 tasks = 300'000;
    for (u64 i = 0; i < tasks; ++i) {
        TaskId id = task(1);
        id.key = i * 64;
        b.tracer.on_enter(enter(id, "pause"), b.memory);
    }
    TaskId shared;
    shared.key = 5;
    SyscallEnter e = enter(shared, "pause");
    for (int i = 0; i < 5000; ++i)
        b.tracer.on_enter(e, b.memory);
    const CallCounters c = b.tracer.counters();
    EXPECT_LT(c.in_progress, 150'000u);
    EXPECT_EQ(c.entered, tasks + 5000);
    EXPECT_EQ(c.entered, c.lost_returns + c.in_progress);
}

TEST(Hostile, HugeStringLimitIsBounded) {
    TraceOptions o;
    o.string_limit = ~u32{0};
    std::mt19937_64 random(5);
    HostileMemory memory(random);
    memory.mode(2);
    StringSink sink;
    Tracer tracer(o, Filter{}, sink);
    tracer.on_enter(enter(task(1), "write", {1, 0x1000, ~u64{0} >> 1}), memory);
    tracer.on_exit(leave(task(1), "write", -14), memory);
    tracer.on_enter(enter(task(1), "sethostname", {0x1000, 64}), memory);
    tracer.on_exit(leave(task(1), "sethostname", -14), memory);
    EXPECT_LT(sink.text().size(), u64{8} << 20);
}

/// Buffers that are looked at in vain cost as much as those that are printed.
TEST(Hostile, ManyBuffersThatAreAbsentAreBounded) {
    class Absent final : public MemoryReader {
    public:
        bool read(u64 address, std::span<std::byte> out) override {
            asked += out.size();
            constexpr u64 base = 0x10'0000'0000, size = u64{1} << 20;
            if (address < 0x1000 || address + out.size() > 0x1000 + 1024 * 16) return false;
            for (size_t i = 0; i < out.size(); ++i) { // iovec: base, size, base ...
                const u64 word = (address + i) / 8 % 2 == 0 ? base : size;
                out[i] = static_cast<std::byte>(word >> ((address + i) % 8 * 8));
            }
            return true;
        }
        u64 asked = 0;
    } memory;
    TraceOptions o;
    o.string_limit = ~u32{0};
    StringSink sink;
    Tracer tracer(o, Filter{}, sink);
    tracer.on_enter(enter(task(1), "vmsplice", {1, 0x1000, 1024, 0}), memory);
    tracer.on_exit(leave(task(1), "vmsplice", -14), memory);
    EXPECT_GT(memory.asked, u64{1} << 20);
    EXPECT_LT(memory.asked, u64{32} << 20);
}

} // namespace
} // namespace gnomon::trace::test
