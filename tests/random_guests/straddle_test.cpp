// SPDX-License-Identifier: Apache-2.0
/// @file Accesses of every size across the border of two pages of every kind, in both rings: what
/// they do is what they do within one page, or the fault that the first forbidden page gives, with
/// nothing changed.
#include "hostile_guest/hostile_machine.h"

#include <cstddef>
#include <cstring>
#include <gtest/gtest.h>

namespace gnomon::test::hostile {

namespace {

using processor::Vector;

/// An instruction with its memory operand at [RBX]; strings have it at [RDI].
struct Operation {
    const char* name;
    std::vector<u8> code;
    u32 size;
    bool reads, writes;
    u32 alignment = 1;
    bool restartable = false; ///< in the middle: what came before the fault stays
};

const std::vector<Operation>& operations() {
    static const std::vector<Operation> list = {
        {"mov eax, [rbx]", {0x8b, 0x03}, 4, true, false},
        {"mov rax, [rbx]", {0x48, 0x8b, 0x03}, 8, true, false},
        {"movzx eax, word [rbx]", {0x0f, 0xb7, 0x03}, 2, true, false},
        {"movups xmm0, [rbx]", {0x0f, 0x10, 0x03}, 16, true, false},
        {"vmovdqu ymm0, [rbx]", {0xc5, 0xfe, 0x6f, 0x03}, 32, true, false},
        {"vpaddb ymm0, ymm0, [rbx]", {0xc5, 0xfd, 0xfc, 0x03}, 32, true, false},
        {"fld tbyte [rbx]; fstp tbyte [r8+64]",
         {0xdb, 0x2b, 0x41, 0xdb, 0x78, 0x40},
         10,
         true,
         false},
        {"fldenv [rbx]; fninit", {0xd9, 0x23, 0xdb, 0xe3}, 28, true, false},
        {"mov [rbx], ax", {0x66, 0x89, 0x03}, 2, false, true},
        {"mov [rbx], eax", {0x89, 0x03}, 4, false, true},
        {"mov [rbx], rax", {0x48, 0x89, 0x03}, 8, false, true},
        {"movbe [rbx], rax", {0x48, 0x0f, 0x38, 0xf1, 0x03}, 8, false, true},
        {"movnti [rbx], rax", {0x48, 0x0f, 0xc3, 0x03}, 8, false, true},
        {"movups [rbx], xmm0", {0x0f, 0x11, 0x03}, 16, false, true},
        {"vmovdqu [rbx], ymm0", {0xc5, 0xfe, 0x7f, 0x03}, 32, false, true},
        {"fnstenv [rbx]", {0xd9, 0x33}, 28, false, true},
        {"fld1; fstp tbyte [rbx]", {0xd9, 0xe8, 0xdb, 0x3b}, 10, false, true},
        {"add [rbx], rax", {0x48, 0x01, 0x03}, 8, true, true},
        {"xchg [rbx], rax", {0x48, 0x87, 0x03}, 8, true, true},
        {"lock xadd [rbx], rax", {0xf0, 0x48, 0x0f, 0xc1, 0x03}, 8, true, true},
        {"lock cmpxchg [rbx], ecx", {0xf0, 0x0f, 0xb1, 0x0b}, 4, true, true},
        {"lock cmpxchg8b [rbx]", {0xf0, 0x0f, 0xc7, 0x0b}, 8, true, true},
        {"lock bts [rbx], 63", {0xf0, 0x48, 0x0f, 0xba, 0x2b, 0x3f}, 8, true, true},
        {"fxsave [rbx]", {0x0f, 0xae, 0x03}, 512, false, true, 16},
        {"fxrstor [rbx]", {0x0f, 0xae, 0x0b}, 512, true, false, 16},
        {"xsave [rbx]", {0x0f, 0xae, 0x23}, 832, true, true, 64},
        {"rep stosb", {0xf3, 0xaa}, 100, false, true, 1, true},
        {"rep stosq", {0xf3, 0x48, 0xab}, 96, false, true, 1, true},
        {"rep movsb", {0xf3, 0xa4}, 100, false, true, 1, true},
        {"repe scasb", {0xf3, 0xae}, 100, true, false, 1, true},
    };
    return list;
}

/// What a page is.
enum class Kind : u8 { ram, other_ram, last_ram, read_only, supervisor, absent, table, hole, apic };
constexpr unsigned kind_count = 9;
const char* const kind_names[] = {"RAM",          "RAM",        "the last page of RAM",
                                  "read-only",    "supervisor", "absent",
                                  "a page table", "no device",  "local APIC"};

bool is_device(Kind k) { return k == Kind::hole || k == Kind::apic; }

constexpr u64 first_frame = place::scratch, second_frame = place::scratch + 0x5000,
              reference = place::scratch + 0x10000, results = place::scratch + 0x20000,
              source = place::scratch + 0x22000, tables_frame = place::scratch + 0x30000;

class Straddle : public testing::TestWithParam<bool> {
protected:
    Straddle() {
        auto made = HostileMachine::create({}, nullptr, *statistics);
        if (!made) {
            ADD_FAILURE() << made.error().message;
            std::abort();
        }
        machine = std::move(*made);
        Random random(1);
        machine->prepare_image(random, GetParam());
        GuestMemory& memory = machine->machine().memory();
        Resumption end;
        end.rip = machine->image().end_address();
        end.cs = selector::kernel_code;
        end.ss = selector::kernel_data;
        end.rsp = place::kernel_stack;
        end.rflags = 2;
        for (u64 n = 0; n <= resumption_count; ++n)
            EXPECT_TRUE(memory.write_object(
                Gpa(place::control + offsetof(GuestControl, resumption) + n * sizeof end), end));
        initial = machine->block().state;
        // The page table of the windows, as the guest would find it.
        u64 table = initial.cr3;
        for (unsigned level = 4; level > 1; --level) {
            u64 entry = 0;
            EXPECT_TRUE(memory.read_object(
                Gpa(table + 8 * processor::shadow_index(Gva(place::windows), level)), entry));
            table = entry & 0x000f'ffff'ffff'f000;
        }
        window_table = table;
        // `tables_frame` serves as a page table, for nothing that is used.
        u64 directory = initial.cr3;
        for (unsigned level = 4; level > 2; --level) {
            u64 entry = 0;
            EXPECT_TRUE(memory.read_object(
                Gpa(directory + 8 * processor::shadow_index(Gva(place::windows), level)), entry));
            directory = entry & 0x000f'ffff'ffff'f000;
        }
        poke(directory + 8 * processor::shadow_index(Gva(place::windows + (u64{2} << 20)), 2),
             tables_frame | 0x67);
    }

    template <class T>
    void poke(u64 gpa, const T& value) {
        ASSERT_TRUE(machine->machine().memory().write_object(Gpa(gpa), value));
        machine->machine().shadow().note_write(Gpa(gpa), sizeof value);
    }
    [[nodiscard]] u8* at(u64 gpa) {
        // SAFETY: bytes as bytes.
        return reinterpret_cast<u8*>(machine->machine().memory().base() + gpa);
    }
    [[nodiscard]] u64 frame(Kind k, bool second) const {
        switch (k) {
        case Kind::last_ram: return machine->choices().memory - page_size;
        case Kind::table: return tables_frame;
        case Kind::hole: return 0xd000'0000;
        case Kind::apic: return 0xfee0'0000;
        case Kind::other_ram: return second ? first_frame + 0x1000 : second_frame + 0x1000;
        default: return second ? second_frame : first_frame;
        }
    }
    void map(unsigned window, Kind k, bool second) {
        u64 entry = frame(k, second) | 0x67;
        if (k == Kind::read_only) entry &= ~u64{2};
        if (k == Kind::supervisor) entry &= ~u64{4};
        if (k == Kind::absent) entry = 0;
        poke(window_table + 8 * window, entry);
    }
    [[nodiscard]] static bool allowed(Kind k, bool ring3, bool write) {
        if (k == Kind::absent) return false;
        if (k == Kind::read_only) return !write;
        return k != Kind::supervisor || !ring3;
    }

    struct Outcome {
        u8 registers[128] = {};
        u64 faults = 0, finished = 0, others = 0, cr2 = 0;
        std::string failure;
    };
    /// Runs the operation with its operand at `address`.
    Outcome run(const Operation& op, u64 address) {
        const u64 base = GetParam() ? place::user_code : place::kernel_code;
        std::vector<u8> code = op.code;
        const u8 tail[] = {0xc4, 0xc1, 0x7e, 0x7f, 0x00, // vmovdqu [r8], ymm0
                           0x49, 0x89, 0x40, 0x20,       // mov [r8+32], rax
                           0x49, 0x89, 0x48, 0x28,       // mov [r8+40], rcx
                           0x49, 0x89, 0x50, 0x30,       // mov [r8+48], rdx
                           0x0f, 0x0b};
        code.insert(code.end(), std::begin(tail), std::end(tail));
        std::memcpy(at(base), code.data(), code.size());
        machine->processor().invalidate_code(Gpa(base), code.size());
        std::memset(at(results), 0, 128);
        u64 counts[256] = {};
        std::memset(at(place::control + offsetof(GuestControl, vector_count)), 0, sizeof counts);
        poke(place::control, place::control + u64{offsetof(GuestControl, resumption)});
        processor::RegisterBlock& s = machine->block().state;
        const u64 lstar = s.lstar, cstar = s.cstar, sysenter = s.sysenter_eip, cr8 = s.cr8;
        s = initial;
        s.lstar = lstar, s.cstar = cstar, s.sysenter_eip = sysenter, s.cr8 = cr8;
        s.gpr[processor::rbx] = s.gpr[processor::rdi] = address;
        s.gpr[processor::rsi] = source;
        s.gpr[processor::r8] = results;
        s.gpr[processor::rax] = op.name == std::string("xsave [rbx]") ? 7 : 0x1122'3344'5566'7788;
        s.gpr[processor::rcx] = op.code.back() == 0xab ? op.size / 8 : op.size;
        if (op.code.back() == 0xae && op.restartable) s.gpr[processor::rax] = 0x5a;
        s.gpr[processor::rdx] = 0;
        for (unsigned n = 0; n < 32; ++n)
            s.extended.legacy[processor::ExtendedState::xmm0 + n] = static_cast<u8>(0x80 + n);
        s.extended.header[0] = 7;
        Outcome out;
        out.failure = machine->run({.kicks = 10, .kick_us = 900'000}, false);
        std::memcpy(out.registers, at(results), sizeof out.registers);
        std::memcpy(counts, at(place::control + offsetof(GuestControl, vector_count)),
                    sizeof counts);
        for (unsigned v = 0; v < 256; ++v)
            (v == 14 ? out.faults : v == 6 ? out.finished : out.others) += counts[v];
        out.cr2 = s.cr2;
        return out;
    }

    std::unique_ptr<GuestStatistics> statistics = std::make_unique<GuestStatistics>();
    std::unique_ptr<HostileMachine> machine;
    processor::RegisterBlock initial;
    u64 window_table = 0;
};

void fill(u8* to, const Operation& op) {
    // XRSTOR and FLDENV want what can be loaded; SCAS something equal.
    for (u32 n = 0; n < op.size; ++n)
        to[n] = op.restartable ? u8{0x5a} : static_cast<u8>(1 + n * 7);
    if (op.size == 28 || op.size == 512) std::memset(to, 0, op.size);
    if (op.size == 28) to[0] = 0x7f, to[1] = 3;
    if (op.size == 832) std::memset(to, 0, op.size);
}

TEST_P(Straddle, IsAsInOnePageOrFaultsBeforeAnythingChanges) {
    const bool ring3 = GetParam();
    u64 cases = 0, faults = 0, devices = 0;
    std::memset(at(source), 0x5a, 256);
    for (const Operation& op : operations()) {
        std::vector<u32> splits; // bytes in the first page
        for (u32 n = op.alignment; n < op.size; n += op.alignment)
            if (op.size <= 32 || n % 64 == 0 || n < 20 || n + 20 > op.size) splits.push_back(n);
        // What it does where there is no border. XSAVE of 64-byte alignment needs its own place.
        fill(at(reference + 64), op);
        const Outcome expected = run(op, reference + 64);
        ASSERT_EQ(expected.failure, "");
        ASSERT_EQ(expected.finished, 1U) << op.name;
        std::vector<u8> after(at(reference + 64), at(reference + 64) + op.size);
        std::vector<u8> before(op.size);
        fill(before.data(), op);
        for (unsigned pair = 0; pair < kind_count * kind_count; ++pair) {
            const Kind kinds[2] = {static_cast<Kind>(pair / kind_count),
                                   static_cast<Kind>(pair % kind_count)};
            if (frame(kinds[0], false) == frame(kinds[1], true)) continue;
            map(0, kinds[0], false);
            map(1, kinds[1], true);
            for (const u32 first : splits) {
                if (op.size > 32 && (pair + first) % 3 != 0) continue;
                const u64 border = place::windows + page_size, address = border - first;
                const auto place_of = [&](unsigned n) {
                    return n == 0 ? at(frame(kinds[0], false) + page_size - first)
                                  : at(frame(kinds[1], true));
                };
                const u32 sizes[2] = {first, op.size - first};
                for (unsigned n = 0; n < 2; ++n)
                    if (!is_device(kinds[n]) && kinds[n] != Kind::absent)
                        std::memcpy(place_of(n), before.data() + (n == 0 ? 0 : first), sizes[n]);
                if (kinds[0] == Kind::table || kinds[1] == Kind::table)
                    machine->machine().shadow().note_write(Gpa(tables_frame), page_size);
                const Outcome got = run(op, address);
                ++cases;
                const std::string where =
                    fmt::format("{}, {} bytes in {}, {} in {}, ring {}", op.name, first,
                                kind_names[pair / kind_count], sizes[1],
                                kind_names[pair % kind_count], ring3 ? 3 : 0);
                ASSERT_EQ(got.failure, "") << where;
                const bool device = is_device(kinds[0]) || is_device(kinds[1]);
                // What a device gives need not be state that can be loaded.
                if (device && op.reads && op.size == 512 && got.others == 1) continue;
                // Nor what a string instruction goes on for.
                if (is_device(kinds[0]) && op.reads && op.restartable) continue;
                ASSERT_EQ(got.others, 0U) << where;
                const bool ok[2] = {allowed(kinds[0], ring3, op.writes),
                                    allowed(kinds[1], ring3, op.writes)};
                if (!ok[0] || !ok[1]) {
                    ++faults;
                    ASSERT_EQ(got.faults, 1U) << where;
                    const u64 wanted = !ok[0] ? address : border;
                    // In which order XSAVE goes through its area is the processor's own matter.
                    const bool inside = got.cr2 >= address && got.cr2 < address + op.size;
                    const bool any = op.size > 512 && inside && !ok[got.cr2 >= border ? 1 : 0];
                    ASSERT_TRUE(any || got.cr2 == wanted) << where << ", CR2 " << got.cr2;
                } else {
                    ASSERT_EQ(got.finished, 1U) << where;
                    if (device)
                        ++devices;
                    else
                        ASSERT_EQ(
                            std::memcmp(got.registers, expected.registers, sizeof got.registers), 0)
                            << where;
                }
                for (unsigned n = 0; n < 2; ++n) {
                    if (is_device(kinds[n]) || kinds[n] == Kind::absent) continue;
                    const bool done = ok[0] && ok[1];
                    if (!done && op.restartable) continue; // as far as it came
                    // Read from a device and computed with, the rest may be anything.
                    if (done && op.reads && op.writes &&
                        (is_device(kinds[0]) || is_device(kinds[1])))
                        continue;
                    const u8* const want =
                        (done ? after.data() : before.data()) + (n == 0 ? 0 : first);
                    ASSERT_EQ(std::memcmp(place_of(n), want, sizes[n]), 0)
                        << where << ", part " << n;
                }
            }
        }
    }
    fmt::print("{} accesses, {} faults, {} with devices; {} strays\n", cases, faults, devices,
               statistics->shut_down);
    EXPECT_GT(faults, 1000U);
    EXPECT_GT(devices, 1000U);
}

TEST_P(Straddle, TheEndsOfTheAddressSpace) {
    const bool ring3 = GetParam();
    for (const Operation& op : operations())
        for (u32 first = op.alignment; first < std::min(op.size, 65U); first += op.alignment) {
            std::vector<u8> content(op.size);
            fill(content.data(), op);
            std::memcpy(at(place::scratch + page_size - first), content.data(), first);
            std::memcpy(at(place::small_pages_end - first), content.data(), first);
            // Below the hole of addresses: #GP, whatever is mapped below.
            Outcome got = run(op, place::low_edge + page_size - first);
            ASSERT_EQ(got.failure, "") << op.name;
            ASSERT_EQ(got.others, 1U) << op.name << " " << first;
            ASSERT_EQ(got.faults, 0U) << op.name << " " << first;
            // From the last address to the first: supervisor pages, the same bytes at both ends.
            got = run(op, u64{0} - first);
            ASSERT_EQ(got.failure, "") << op.name;
            ASSERT_EQ(got.faults + got.finished, 1U) << op.name << " " << first;
            ASSERT_EQ(got.faults == 1, ring3) << op.name << " " << first;
        }
}

INSTANTIATE_TEST_SUITE_P(Rings, Straddle, testing::Bool(),
                         [](const auto& p) { return std::string(p.param ? "Ring3" : "Ring0"); });

} // namespace

} // namespace gnomon::test::hostile
