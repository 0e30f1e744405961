// SPDX-License-Identifier: Apache-2.0
// The machine as a whole: tiny ELF guests that print, power off, reset, fail, or never end.
#include "base/host_time.h"
#include "monitor/machine.h"
#include "support/guest.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <elf.h>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>

namespace gnomon::test {
namespace {

using namespace Xbyak::util;
using monitor::Machine;
using monitor::MachineOptions;
using monitor::RunEnd;
using Clock = std::chrono::steady_clock;

constexpr u64 load_address = 0x100000;

/// Collects what the guest prints; `on_text` is called after each byte.
class Printed final : public monitor::SerialEndpoint {
public:
    std::string text;
    std::function<void()> on_text;
    std::size_t transmitted(std::span<const std::byte> data) override {
        for (const std::byte b : data)
            text.push_back(static_cast<char>(b));
        if (on_text) on_text();
        return data.size();
    }
    std::size_t receive(std::span<std::byte>) override { return 0; }
};

/// An ELF executable of one segment in a file of its own, removed with this.
class Kernel {
public:
    explicit Kernel(const std::function<void(Code&)>& emit) {
        Code code;
        emit(code);
        Elf64_Ehdr header{};
        std::memcpy(header.e_ident, ELFMAG, SELFMAG);
        header.e_ident[EI_CLASS] = ELFCLASS64;
        header.e_ident[EI_DATA] = ELFDATA2LSB;
        header.e_ident[EI_VERSION] = EV_CURRENT;
        header.e_type = ET_EXEC;
        header.e_machine = EM_X86_64;
        header.e_version = EV_CURRENT;
        header.e_entry = load_address;
        header.e_phoff = sizeof header;
        header.e_ehsize = sizeof header;
        header.e_phentsize = sizeof(Elf64_Phdr);
        header.e_phnum = 1;
        Elf64_Phdr segment{};
        segment.p_type = PT_LOAD;
        segment.p_flags = PF_R | PF_W | PF_X;
        segment.p_offset = sizeof header + sizeof segment;
        segment.p_vaddr = segment.p_paddr = load_address;
        segment.p_filesz = code.getSize();
        segment.p_memsz = code.getSize() + page_size;

        std::string name =
            (std::filesystem::temp_directory_path() / "gnomon-kernel.XXXXXX").string();
        const FileDescriptor file(::mkstemp(name.data()));
        EXPECT_TRUE(file);
        m_path = name;
        std::ofstream out(m_path, std::ios::binary);
        const auto put = [&](const auto& object) {
            std::array<char, sizeof object> bytes{};
            std::memcpy(bytes.data(), &object, sizeof object);
            out.write(bytes.data(), bytes.size());
        };
        put(header);
        put(segment);
        for (std::size_t n = 0; n < code.getSize(); ++n)
            out.put(static_cast<char>(code.getCode()[n]));
    }
    Kernel(const Kernel&) = delete;
    Kernel& operator=(const Kernel&) = delete;
    ~Kernel() {
        std::error_code ignored;
        std::filesystem::remove(m_path, ignored);
    }
    [[nodiscard]] const std::string& path() const { return m_path; }

private:
    std::string m_path;
};

void print(Code& c, const std::string& text) {
    for (const char ch : text) {
        Xbyak::Label wait;
        c.L(wait);
        c.mov(edx, 0x3fd); // line status: wait for the transmitter
        c.in_(al, dx);
        c.test(al, 0x20);
        c.jz(wait);
        c.mov(edx, 0x3f8);
        c.mov(al, static_cast<u32>(ch));
        c.out_(dx, al);
    }
}
void power_off(Code& c) {
    c.mov(edx, 0x604); // PM1a control: S5, SLP_EN
    c.mov(eax, 5 << 10 | 1 << 13);
    c.out_(dx, ax);
}
void reset(Code& c) {
    c.mov(edx, 0xcf9);
    c.mov(al, 2);
    c.out_(dx, al);
    c.mov(al, 6);
    c.out_(dx, al);
}

std::unique_ptr<Machine> machine(const Kernel& kernel, Printed& printed, bool no_reboot = true,
                                 monitor::SystemCallObserver* observer = nullptr,
                                 bool measure_time = false) {
    MachineOptions options;
    options.kernel = kernel.path();
    options.memory = u64{32} << 20;
    options.no_reboot = no_reboot;
    options.serial[0] = &printed;
    options.observer = observer;
    options.measure_time = measure_time;
    auto made = Machine::create(std::move(options));
    EXPECT_TRUE(made) << made.error().message;
    return made ? std::move(*made) : nullptr;
}

TEST(Machine, PrintsAndPowersOff) {
    const Kernel kernel([](Code& c) {
        print(c, "Hello, world\n");
        power_off(c);
        c.endless();
    });
    Printed printed;
    const auto m = machine(kernel, printed);
    const auto outcome = m->run();
    ASSERT_TRUE(outcome) << outcome.error().message;
    EXPECT_EQ(outcome->end, RunEnd::power_off);
    EXPECT_EQ(printed.text, "Hello, world\n");
}

TEST(Machine, ResetEndsTheRunWithNoReboot) {
    const Kernel kernel([](Code& c) {
        print(c, "x");
        reset(c);
        c.endless();
    });
    Printed printed;
    const auto outcome = machine(kernel, printed)->run();
    ASSERT_TRUE(outcome);
    EXPECT_EQ(outcome->end, RunEnd::reset);
    EXPECT_EQ(printed.text, "x");
}

TEST(Machine, ResetStartsAgainWithFreshMemory) {
    // Counts its lives in memory, which a reset clears; so it always prints 'a'.
    const Kernel kernel([](Code& c) {
        c.mov(ebx, 0x800000);
        c.inc(dword[rbx]);
        c.mov(edx, 0x3f8);
        c.mov(eax, ptr[rbx]);
        c.add(eax, 'a' - 1);
        c.out_(dx, al);
        reset(c);
        c.endless();
    });
    Printed printed;
    const auto m = machine(kernel, printed, false);
    printed.on_text = [&] {
        if (printed.text.size() == 4) m->stop();
    };
    const auto outcome = m->run();
    ASSERT_TRUE(outcome) << outcome.error().message;
    EXPECT_EQ(outcome->end, RunEnd::stopped);
    EXPECT_EQ(printed.text, "aaaa");
}

u64 number(const Statistics& all, const char* group, const char* name) {
    const Statistic* const entry = find(all, group, name);
    EXPECT_NE(entry, nullptr) << group << "." << name;
    return entry != nullptr ? entry->value : 0;
}

TEST(Machine, StatisticsAreOfAllLives) {
    const Kernel kernel([](Code& c) {
        print(c, "0123456789");
        reset(c);
        c.endless();
    });
    for (const bool measure_time : {false, true}) {
        Printed printed;
        const auto m = machine(kernel, printed, false, nullptr, measure_time);
        EXPECT_EQ(m->guest_start_ns(), 0U);
        const u64 begin = monotonic_ns();
        printed.on_text = [&] {
            if (printed.text.size() == 25) m->stop();
        };
        ASSERT_TRUE(m->run());
        const u64 end = monotonic_ns();
        EXPECT_GE(m->guest_start_ns(), begin);
        EXPECT_LE(m->guest_start_ns(), end);

        const Statistics all = m->statistics();
        EXPECT_EQ(number(all, "machine", "lives"), 3U);
        // Each byte takes a read of the line's status and a write; each life ends in two.
        EXPECT_GE(number(all, "exits", "io"), u64{25} * 2 + 4);
        EXPECT_GE(number(all, "exits", "page_fault"), 3U);
        EXPECT_GE(number(all, "helpers", "out"), 25U);
        EXPECT_GE(number(all, "helpers", "in"), 25U);
        EXPECT_EQ(number(all, "helpers", "cpuid"), 0U);
        EXPECT_GE(number(all, "translation", "instructions"), u64{3} * 70);
        EXPECT_GE(number(all, "leaves", "exit"), 25U);
        EXPECT_EQ(number(all, "events", "external_interrupts"), 0U);

        const Statistic* const io = find(all, "exits", "io");
        EXPECT_EQ(io->ns.has_value(), measure_time);
        EXPECT_EQ(find(all, "time", "translated_code") != nullptr, measure_time);
        if (!measure_time) continue;
        u64 booked = 0;
        for (const StatisticGroup& group : all)
            if (group.name == "time")
                for (const Statistic& entry : group.entries)
                    booked += entry.value;
        EXPECT_GT(booked, 0U);
        // The factor from ticks to nanoseconds is measured too: a part in a thousand.
        EXPECT_LE(booked, (end - begin) + (end - begin) / 1000 + 10'000);
        for (const char* const busy : {"translated_code", "translation", "dispatch",
                                       "exit_handling", "shadow_faults", "set_up"})
            EXPECT_GT(number(all, "time", busy), 0U) << busy;
        EXPECT_EQ(number(all, "time", "trace"), 0U);
        EXPECT_GT(*io->ns, 0U);
        EXPECT_LE(*io->ns, number(all, "time", "exit_handling"));
    }
}

class RecordedMap final : public processor::CodeMap {
public:
    struct Entry {
        u64 host, size, guest;
        bool user;
    };
    std::vector<Entry> translations;
    std::vector<std::string> routines;
    u64 routines_end = 0;

    void translated(u64 host, u64 size, Gva guest, bool user) override {
        translations.push_back({host, size, guest.value(), user});
    }
    void routine(u64 host, u64 size, const char* name) override {
        routines.emplace_back(name);
        EXPECT_GE(host, routines_end) << name;
        routines_end = host + size;
        EXPECT_GT(size, 0U) << name;
        EXPECT_LT(size, 16U * 1024) << name;
    }
};

TEST(Machine, TellsWhereTranslatedCodeLies) {
    const Kernel kernel([](Code& c) {
        print(c, "ab");
        power_off(c);
        c.endless();
    });
    Printed printed;
    RecordedMap map;
    MachineOptions options;
    options.kernel = kernel.path();
    options.memory = u64{32} << 20;
    options.serial[0] = &printed;
    options.code_map = &map;
    const auto m = Machine::create(std::move(options));
    ASSERT_TRUE(m) << m.error().message;
    EXPECT_TRUE(map.translations.empty());
    EXPECT_EQ(std::count(map.routines.begin(), map.routines.end(), "helper"), 1);
    ASSERT_TRUE((*m)->run());
    ASSERT_GE(map.translations.size(), 4U);
    EXPECT_EQ(map.translations.front().guest, load_address);
    std::sort(map.translations.begin(), map.translations.end(),
              [](const auto& a, const auto& b) { return a.host < b.host; });
    u64 end = map.routines_end;
    for (const RecordedMap::Entry& entry : map.translations) {
        EXPECT_FALSE(entry.user);
        EXPECT_GE(entry.guest, load_address);
        EXPECT_LT(entry.guest, load_address + page_size);
        EXPECT_GT(entry.size, 0U);
        EXPECT_GE(entry.host, end) << "no two of them in one place";
        const auto same_guest = [&](const auto& other) { return other.guest == entry.guest; };
        EXPECT_EQ(std::count_if(map.translations.begin(), map.translations.end(), same_guest), 2)
            << "hot code and cold code";
        end = entry.host + entry.size;
    }
}

TEST(Machine, TripleFaultGivesTheState) {
    const Kernel kernel([](Code& c) {
        c.mov(rax, u64{0x1122334455667788});
        c.ud2();
    });
    Printed printed;
    const auto outcome = machine(kernel, printed)->run();
    ASSERT_TRUE(outcome);
    EXPECT_EQ(outcome->end, RunEnd::triple_fault);
    EXPECT_NE(outcome->processor_state.find("RAX=1122334455667788"), std::string::npos)
        << outcome->processor_state;
    EXPECT_NE(outcome->processor_state.find(fmt::format("RIP={:016x}", load_address + 10)),
              std::string::npos)
        << outcome->processor_state;
}

struct Restless {
    const char* name;
    void (*emit)(Code&);
};
class Stopping : public testing::TestWithParam<Restless> {};

TEST_P(Stopping, EndsTheRunSoon) {
    const Kernel kernel([](Code& c) {
        print(c, "go");
        GetParam().emit(c);
    });
    for (const int delay_ms : {0, 1, 50}) {
        Printed printed;
        const auto m = machine(kernel, printed);
        std::thread stopper([&] {
            std::this_thread::sleep_for(std::chrono::milliseconds(delay_ms));
            m->stop();
        });
        const auto begin = Clock::now();
        const auto outcome = m->run();
        stopper.join();
        ASSERT_TRUE(outcome);
        EXPECT_EQ(outcome->end, RunEnd::stopped);
        EXPECT_LT(Clock::now() - begin, std::chrono::seconds(3));
    }
}
const Restless restless[] = {
    {"Spinning", [](Code& c) { c.endless(); }},
    {"Halted",
     [](Code& c) {
         c.cli();
         c.hlt();
         c.endless();
     }},
    {"HaltedWithInterrupts",
     [](Code& c) {
         Xbyak::Label l;
         c.L(l);
         c.sti();
         c.hlt();
         c.jmp(l);
     }},
    {"Polling",
     [](Code& c) {
         Xbyak::Label l;
         c.mov(edx, 0x3fd);
         c.L(l);
         c.in_(al, dx);
         c.jmp(l);
     }},
    {"Faulting", // every access faults in, page after page
     [](Code& c) {
         Xbyak::Label l;
         c.mov(ebx, 0x200000);
         c.L(l);
         c.mov(rax, ptr[rbx]);
         c.add(rbx, 4096);
         c.and_(ebx, 0x1ffffff);
         c.mov_from_cr(rax, 3);
         c.mov_to_cr(3, rax);
         c.jmp(l);
     }},
};
INSTANTIATE_TEST_SUITE_P(Guests, Stopping, testing::ValuesIn(restless),
                         [](const auto& p) { return std::string(p.param.name); });

TEST(Machine, StopBeforeRunCounts) {
    const Kernel kernel([](Code& c) { c.endless(); });
    Printed printed;
    const auto m = machine(kernel, printed);
    m->stop();
    const auto outcome = m->run();
    ASSERT_TRUE(outcome);
    EXPECT_EQ(outcome->end, RunEnd::stopped);
}

TEST(Machine, StopWhileItResetsAllTheTime) {
    const Kernel kernel([](Code& c) {
        reset(c);
        c.endless();
    });
    for (int n = 0; n < 5; ++n) {
        Printed printed;
        const auto m = machine(kernel, printed, false);
        std::thread stopper([&] {
            std::this_thread::sleep_for(std::chrono::milliseconds(7 * n));
            m->stop();
        });
        const auto outcome = m->run();
        stopper.join();
        ASSERT_TRUE(outcome) << outcome.error().message;
        EXPECT_EQ(outcome->end, RunEnd::stopped);
    }
}

// Ablation, in the whole machine: a guest with a system call powers off with the hook, and the
// observer has seen the call.
TEST(Machine, ObserverSeesTheCallsOfABareGuest) {
    const Kernel kernel([](Code& c) {
        Xbyak::Label entry;
        c.lea(rax, ptr[rip + entry]);
        c.mov(rdx, rax);
        c.shr(rdx, 32);
        c.mov(ecx, 0xc0000082);
        c.wrmsr();
        c.mov(ecx, 0xc0000080);
        c.rdmsr();
        c.or_(eax, 1); // SCE
        c.wrmsr();
        c.mov(eax, 1234);
        c.mov(edi, 5);
        c.syscall();
        c.ud2();
        c.L(entry);
        power_off(c);
        c.endless();
    });
    Printed printed;
    Recorder recorder;
    const auto outcome = machine(kernel, printed, true, &recorder)->run();
    ASSERT_TRUE(outcome) << outcome.error().message;
    EXPECT_EQ(outcome->end, RunEnd::power_off) << outcome->processor_state;
    ASSERT_EQ(recorder.entries.size(), 1U);
    EXPECT_EQ(recorder.entries[0].number, 1234U);
    EXPECT_EQ(recorder.entries[0].args[0], 5U);
}

TEST(Machine, MissingKernelIsAnErrorThatNamesIt) {
    MachineOptions options;
    options.kernel = "/nonexistent/kernel";
    const auto made = Machine::create(std::move(options));
    ASSERT_FALSE(made);
    EXPECT_NE(made.error().message.find("/nonexistent/kernel"), std::string::npos);
}

} // namespace
} // namespace gnomon::test
