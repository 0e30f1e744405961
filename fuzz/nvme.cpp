// SPDX-License-Identifier: Apache-2.0
/// @file The NVMe controller: registers of every shape, rings that lie anywhere, commands that mean
/// something and commands that do not, a host that answers in any order, resets at any time.
#include "fuzz/support/machine.h"
#include "tests/platform/nvme_bench.h"

using namespace gnomon;
using namespace gnomon::fuzz;
using namespace gnomon::platform;
using nvme::test::Bench;

namespace {

constexpr u64 memory_bytes = u64{1} << 20, disk_bytes = u64{1} << 18;
constexpr u32 rdy = 1;

class Guest {
public:
    explicit Guest(Input& input) : m_input(input) {}

    void act() {
        const u8 what = m_input.take<u8>();
        switch (what & 15) {
        case 0: make_access(m_bench.device, take_access(m_input, nvme::register_bytes)); break;
        case 1: make_access(m_bench.device, take_access(m_input, 0x60)); break;
        case 2: set(4 * m_input.below(16), static_cast<u32>(m_input.number())); break;
        case 3: // a doorbell
            set(0x1000 + 4 * m_input.below(12), m_input.take<u8>());
            break;
        case 4: enable(what >> 4); break;
        case 5:
        case 6: command(0); break;
        case 7:
        case 8:
        case 9: command(1 + (what >> 4 & 3)); break;
        case 10:
            if (m_bench.disk.under_way() != 0)
                m_bench.disk.finish(m_input.below(m_bench.disk.under_way()));
            break;
        case 11:
            if (m_bench.completions.waiting() != 0)
                m_bench.completions.deliver(m_input.below(m_bench.completions.waiting()));
            break;
        case 12: consume(what >> 4 & 3); break;
        case 13: create(1 + (what >> 4 & 3)); break;
        case 14: write_memory(); break;
        default: surroundings(what >> 4); break;
        }
    }

    void check() {
        const u32 csts = get(0x1c);
        require((csts & ~0x1fU) == 0, "CSTS has bits that it does not have");
        require((csts >> 2 & 3) != 3, "shutdown both occurs and is complete");
        require(m_bench.disk.uncommitted == 0, "a request is not handed to the host");
        require((csts & rdy) != 0 || !m_bench.vectors.pin, "a controller at rest interrupts");
        // But for the flush of a shutdown.
        require((csts & rdy) != 0 || m_bench.disk.under_way() <= 1,
                "at rest, with requests at the host");
        require((csts & rdy) != 0 || m_bench.completions.known == 0,
                "at rest, with requests to complete");
        require(m_bench.completions.known <= 1100, "more requests than there are");
    }

    /// Whatever has happened, a reset leaves nothing behind, and a sound driver gets on.
    void finish() {
        m_bench.device.reset();
        require(m_bench.completions.known == 0, "a reset leaves completions behind");
        const std::size_t limit = m_bench.disk.under_way();
        for (std::size_t i = 0; i <= limit && m_bench.disk.under_way() != 0; ++i)
            m_bench.disk.finish(0);
        require(m_bench.disk.under_way() == 0, "requests go on after a reset");
        require(get(0x1c) == 0, "a reset does not end");
        const u64 calls = m_bench.written.calls;
        for (unsigned i = 0; i < 12; ++i)
            set(0x1000 + 4 * i, 3);
        require(m_bench.written.calls == calls, "a controller at rest writes to memory");
        m_bench.completions.hold = false;
        const std::vector<std::byte> zeroes(entries * sizeof(nvme::CompletionEntry));
        require(m_bench.memory.write(Gpa(completion_base(0)), zeroes), "no memory");
        enable(1);
        require(get(0x1c) == rdy, "a reset controller cannot be enabled");
        nvme::SubmissionEntry identify;
        identify.opcode = 6;
        identify.prp1 = 0x8000;
        identify.cdw10 = 1;
        require(m_bench.memory.write_object(Gpa(submission_base(0)), identify), "no memory");
        set(0x1000, 1);
        nvme::CompletionEntry entry;
        require(m_bench.memory.read_object(Gpa(completion_base(0)), entry), "no memory");
        require(entry.status == 1 && entry.submission_head == 1, "no answer after a reset");
    }

private:
    [[nodiscard]] u32 get(u64 offset) { return static_cast<u32>(m_bench.device.read(offset, 4)); }
    void set(u64 offset, u32 value) { m_bench.device.write(offset, 4, value); }

    static constexpr u32 entries = 16;
    [[nodiscard]] static u64 submission_base(unsigned id) { return 0x1000 + id * 0x1000; }
    [[nodiscard]] static u64 completion_base(unsigned id) { return 0x10000 + id * 0x1000; }

    void enable(unsigned how) {
        set(0x14, 0);
        set(0x24, (entries - 1) << 16 | (entries - 1));
        m_bench.device.write(0x28, 8, submission_base(0));
        m_bench.device.write(0x30, 8, completion_base(0));
        set(0x14, 0x460001 | (how & 8 ? (how & 3) << 7 : 0));
        m_tail = {};
        m_head = {};
    }
    /// Pages of the memory and its edges, the rings, and anything.
    [[nodiscard]] u64 address() {
        const u8 shape = m_input.take<u8>();
        switch (shape & 7) {
        case 0: return m_input.number();
        case 1: return memory_bytes - 4096 + (shape >> 3);
        case 2: return submission_base(shape >> 3 & 7);
        case 3: return completion_base(shape >> 3 & 7);
        case 4: return 0xfee0'0000;
        default:
            return u64{m_input.take<u8>()} << 12 | (shape & 0x80 ? u64{shape} << 4 & 0xff8 : 0);
        }
    }
    void push(unsigned id, nvme::SubmissionEntry command) {
        command.command_id = m_next_id++;
        require(m_bench.memory.write_object(Gpa(submission_base(id) + m_tail[id] * 64), command),
                "no memory");
        m_tail[id] = (m_tail[id] + 1) % entries;
    }
    void command(unsigned id) {
        nvme::SubmissionEntry command;
        const u8 shape = m_input.take<u8>();
        command.opcode = (shape & 0x80) != 0 ? m_input.take<u8>() : (shape & 15);
        command.namespace_id = (shape & 0x40) != 0 ? m_input.take<u32>() : 1;
        command.prp1 = address();
        command.prp2 = address();
        if ((shape & 0x20) != 0) {
            command.cdw10 = static_cast<u32>(m_input.number());
            command.cdw11 = static_cast<u32>(m_input.number());
            command.cdw12 = static_cast<u32>(m_input.number());
            command.cdw13 = static_cast<u32>(m_input.number());
        } else {
            command.cdw10 = m_input.take<u8>();
            command.cdw11 = id == 0 ? m_input.take<u8>() : (shape & 0x10 ? 4 : 0);
            command.cdw12 = m_input.take<u8>();
        }
        if ((shape & 0xf0) == 0xf0) command.flags = m_input.take<u8>();
        push(id, command);
        if ((m_input.take<u8>() & 3) != 0) set(0x1000 + 8 * id, m_tail[id]);
    }
    void create(unsigned id) {
        const u8 shape = m_input.take<u8>();
        nvme::SubmissionEntry command;
        command.opcode = 5;
        command.prp1 = (shape & 1) != 0 ? address() : completion_base(id);
        command.cdw10 = id | ((shape & 2) != 0 ? m_input.take<u16>() : entries - 1) << 16;
        command.cdw11 = (shape & 4 ? 0 : id << 16) | 3;
        push(0, command);
        set(0x1000, m_tail[0]);
        m_bench.completions.deliver_all();
        command.opcode = 1;
        command.prp1 = (shape & 8) != 0 ? address() : submission_base(id);
        command.cdw11 = ((shape & 16) != 0 ? 1 : id) << 16 | 1;
        push(0, command);
        set(0x1000, m_tail[0]);
        m_tail[id] = m_head[id] = 0;
    }
    void consume(unsigned id) {
        m_head[id] = (m_head[id] + 1 + m_input.below(4)) % entries;
        set(0x1004 + 8 * id, m_head[id]);
    }
    void write_memory() {
        const u64 gpa = m_input.below(memory_bytes - 64) & ~u64{7};
        const u64 count = m_input.below(8);
        for (u64 i = 0; i < count; ++i)
            require(m_bench.memory.write_object(Gpa(gpa + 8 * i), address()), "no memory");
    }
    void surroundings(unsigned what) {
        switch (what) {
        case 0: m_bench.completions.hold = true; break;
        case 1: m_bench.completions.hold = false; break;
        case 2: m_bench.vectors.messages = !m_bench.vectors.messages; break;
        case 3: m_bench.disk.failure = static_cast<BlockStatus>(m_input.below(5)); break;
        case 4: m_bench.disk.failure.reset(); break;
        case 5: m_bench.device.reset(); break;
        case 6: set(0x14, 0); break;
        case 7: set(0x14, 0x460001 | 1 << 14); break;
        case 8: set(0x20, 0x4e564d65); break;
        case 9: m_bench.clock.advance(take_delay(m_input)); break;
        default:
            while (m_bench.disk.under_way() != 0)
                m_bench.disk.finish(m_bench.disk.under_way() - 1);
            break;
        }
    }

    Input& m_input;
    Bench m_bench{{}, memory_bytes, disk_bytes};
    std::array<u32, 8> m_tail{}, m_head{};
    u16 m_next_id = 0;
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    Input input(data, size);
    Guest guest(input);
    while (!input.empty()) {
        guest.act();
        guest.check();
    }
    guest.finish();
    return 0;
}
