// SPDX-License-Identifier: Apache-2.0
/// @file Events of a hostile guest, for the targets of the tracer.
#pragma once

#include "fuzz/support/input.h"
#include "trace/tracer.h"

namespace gnomon::fuzz {

/// User memory that holds the input's own bytes, by 4 KiB pages of which some are absent.
class TracedMemory final : public trace::MemoryReader {
public:
    explicit TracedMemory(std::span<const std::byte> bytes) : m_bytes(bytes) {}
    [[nodiscard]] bool read(u64 address, std::span<std::byte> out) override {
        bytes_read += out.size();
        if (m_bytes.empty() || address > ~u64{0} - out.size()) return false;
        for (std::size_t i = 0; i < out.size(); ++i) {
            const u64 at = address + i, page = at >> page_shift;
            if (page == 0 || (page & 7) == 7) return false;
            // Pages differ in where in the input they begin, and in how much of it is zero.
            const auto byte = m_bytes[(at + page * 37) % m_bytes.size()];
            out[i] = (page & 3) == 1 ? byte & std::byte{3} : byte;
            if ((page & 3) == 2 && at % 8 >= 2) out[i] = std::byte{0};
        }
        return true;
    }
    u64 bytes_read = 0;

private:
    std::span<const std::byte> m_bytes;
};

[[nodiscard]] inline trace::TaskId take_task(Input& input) {
    trace::TaskId id;
    const u8 shape = input.take<u8>();
    id.pid = static_cast<i32>(shape & 3);
    id.tgid = (shape & 4) != 0 ? id.pid : 0;
    id.key = shape & 7;
    id.known = (shape & 0x18) != 0;
    if (id.known) id.comm = input.text(shape >> 4);
    return id;
}

/// An argument: a number, or an address of memory that is there.
[[nodiscard]] inline u64 take_argument(Input& input) {
    const u8 shape = input.take<u8>();
    if ((shape & 1) != 0) return 0x10000 + (u64{input.take<u8>()} << 8 | (shape & 0xfe));
    if ((shape & 2) != 0) return shape >> 2;
    return input.number();
}

/// Feeds the tracer calls, returns, signals and exits of a few tasks until the input ends. At most
/// `most` events.
inline void trace_events(Input& input, trace::Tracer& tracer, TracedMemory& memory, u64 most) {
    u64 now = input.take<u32>();
    struct Call {
        trace::TaskId task;
        trace::Abi abi;
        u64 number;
    };
    std::vector<Call> calls;
    for (u64 i = 0; i < most && !input.empty(); ++i) {
        const u8 what = input.take<u8>();
        now += u64{input.take<u8>()} << (what >> 3);
        switch (what & 7) {
        case 0:
        case 1:
        case 2:
        case 3: {
            trace::SyscallEnter e;
            e.task = take_task(input);
            const u16 number = input.take<u16>();
            e.abi = static_cast<trace::Abi>((number >> 14) % 3);
            e.number = (what & 0x80) != 0 ? input.number() : (number & 0x3fff) % 560;
            if (e.abi == trace::Abi::x32) e.number |= trace::x32_syscall_bit;
            for (u64& argument : e.args)
                argument = take_argument(input);
            e.user_sp = take_argument(input);
            e.timestamp_ns = now;
            tracer.on_enter(e, memory);
            calls.push_back({e.task, e.abi, e.number});
            if ((what & 4) != 0) break;
            [[fallthrough]];
        }
        case 4:
        case 5: {
            trace::SyscallExit x;
            if (calls.empty() || (what & 0x40) != 0) {
                x.task = take_task(input);
                x.number = input.number();
            } else {
                x.task = calls.back().task;
                x.abi = calls.back().abi;
                x.number = calls.back().number;
                calls.pop_back();
            }
            x.result = (what & 0x20) != 0 ? static_cast<i64>(input.number())
                                          : -static_cast<i64>(input.take<u8>());
            if ((what & 0x10) != 0) x.result = input.take<u8>();
            x.child_return = (what & 0x88) == 0x88;
            x.timestamp_ns = now;
            tracer.on_exit(x, memory);
            break;
        }
        case 6: {
            trace::SignalDelivered s;
            s.task = take_task(input);
            s.signo = static_cast<i32>(input.take<u8>()) - 2;
            s.code = static_cast<i32>(input.number());
            s.pid = static_cast<i32>(input.take<u16>());
            s.status = static_cast<i32>(input.number());
            s.utime = static_cast<i64>(input.number());
            s.address = s.value = input.number();
            s.timestamp_ns = now;
            tracer.on_signal(s);
            break;
        }
        default: {
            trace::TaskExited t;
            t.task = take_task(input);
            t.exit_code = static_cast<i32>(input.number());
            t.timestamp_ns = now;
            tracer.on_task_exited(t);
            break;
        }
        }
    }
}

/// What the user may have asked for.
[[nodiscard]] inline trace::TraceOptions take_trace_options(Input& input) {
    trace::TraceOptions options;
    const u8 shape = input.take<u8>();
    options.string_limit = (shape & 1) != 0 ? input.take<u16>() : 32;
    options.align_column = (shape & 2) != 0 ? input.take<u8>() : 40;
    options.timestamps = static_cast<trace::TimestampStyle>(shape >> 2 & 3);
    options.relative = (shape & 0x10) != 0;
    options.duration = (shape & 0x20) != 0;
    options.summary_also = (shape & 0x40) != 0;
    options.summary = (shape & 0xf8) == 0x80;
    options.utc = true;
    return options;
}

inline void check_balance(const trace::Tracer& tracer) {
    const trace::CallCounters c = tracer.counters();
    require(c.entered == c.returned + c.never_return + c.lost_returns + c.in_progress,
            "calls are not conserved");
}

} // namespace gnomon::fuzz
