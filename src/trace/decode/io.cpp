// SPDX-License-Identifier: Apache-2.0
/// Vectors, waiting for descriptors, rings, and ioctl.
#include "trace/decode/decoders.h"

#include <algorithm>
#include <linux/io_uring.h>
#include <sys/ioctl.h>

namespace gnomon::trace::decode {

namespace {

bool waited_in_vain(const CallFormatter& f) { return f.result() == 0; }

// --- poll ---

struct PollEntry {
    i32 fd;
    u16 events;
    u16 revents;
};

void poll_request(CallFormatter& f) {
    f.argument(0);
    f.array(f.arg(0), f.arg32(1), sizeof(PollEntry), [&](std::span<const std::byte> b) {
        const auto entry = load<PollEntry>(b);
        f.print("{{fd={}", entry.fd);
        if (entry.fd >= 0) {
            f.put(", events=");
            f.flags(flags::poll_events, entry.events);
        }
        f.put('}');
    });
    f.print_argument(1);
}

/// A call that was not restarted shows what came, in parentheses after the result.
void poll_answer(CallFormatter& f, bool with_time, u64 time_left, StructPrinter timeout) {
    if (f.failed()) return;
    if (waited_in_vain(f)) return append(f.remark(), "Timeout");
    f.remark_with([&](CallFormatter& remark) {
        remark.put('[');
        u32 shown = 0;
        constexpr u64 entry_limit = 65536;
        for (u64 i = 0; i < std::min(u64{f.arg32(1)}, entry_limit); ++i) {
            PollEntry entry{};
            if (!f.read_object(f.arg(0) + i * sizeof entry, entry)) break;
            if (entry.revents == 0) continue;
            if (shown != 0) remark.put(", ");
            if (shown++ >= f.string_limit()) {
                remark.put("...");
                break;
            }
            remark.print("{{fd={}, revents=", entry.fd);
            remark.flags(flags::poll_events, entry.revents);
            remark.put('}');
        }
        remark.put(']');
        if (with_time && time_left != 0) {
            remark.put(", left ");
            timeout(remark, time_left);
        }
    });
}

void ppoll(CallFormatter& f, StructPrinter timeout) {
    if (f.entering()) {
        poll_request(f);
        f.argument(2);
        f.arg(2) == 0 ? f.put("NULL") : timeout(f, f.arg(2));
        f.argument(3);
        if (f.arg(3) == 0)
            f.put("NULL");
        else if (f.arg(4) != 8)
            f.pointer(f.arg(3));
        else
            signal_set(f, f.arg(3));
        f.print_argument(4);
        return f.finish();
    }
    poll_answer(f, true, f.arg(2), timeout);
}

// --- select ---

constexpr u64 set_limit = 1 << 16; ///< descriptors looked at; a set has 1024 in glibc

struct Select {
    i32 count;
    std::array<u64, 3> sets;
    u64 timeout;
};

/// Calls `use(fd)` for each member; false if the set cannot be read.
template <class Use>
bool each_member(CallFormatter& f, u64 address, u64 count, Use&& use) {
    std::array<u64, set_limit / 64> bits{};
    count = std::min(count, set_limit);
    const unsigned word = f.word_size() * 8;
    const size_t bytes = (count + word - 1) / word * f.word_size();
    if (!f.read(address, std::as_writable_bytes(std::span(bits)).first(bytes))) return false;
    for (u64 fd = 0; fd < count; ++fd)
        if ((bits[fd / 64] >> (fd % 64) & 1) != 0)
            if (!use(fd)) break;
    return true;
}

void descriptor_set(CallFormatter& f, u64 address, i32 count) {
    if (address == 0) return f.put("NULL");
    if (count < 0) return f.pointer(address);
    bool first = true;
    const size_t before = f.out().size();
    const bool ok = each_member(f, address, static_cast<u64>(count), [&](u64 fd) {
        f.put(first ? "[" : " ");
        first = false;
        f.unsigned_decimal(fd);
        return true;
    });
    if (!ok) {
        f.out().resize(before);
        return f.pointer(address);
    }
    f.put(first ? "[]" : "]");
}

void select_enter(CallFormatter& f, const Select& s, StructPrinter timeout) {
    f.argument("nfds", "int");
    f.decimal(s.count);
    f.log_number(s.count);
    static constexpr const char* names[] = {"readfds", "writefds", "exceptfds"};
    for (size_t i = 0; i < 3; ++i) {
        f.argument(names[i], "fd_set*");
        descriptor_set(f, s.sets[i], s.count);
    }
    f.argument("timeout", "struct*");
    s.timeout == 0 ? f.put("NULL") : timeout(f, s.timeout);
}

void select_exit(CallFormatter& f, const Select& s, StructPrinter timeout) {
    if (f.failed()) return;
    if (waited_in_vain(f)) return append(f.remark(), "Timeout");
    Text& text = f.remark();
    static constexpr std::string_view names[] = {"in", "out", "except"};
    bool any = false;
    auto ready = static_cast<u64>(f.result());
    for (size_t i = 0; i < 3; ++i) {
        if (s.sets[i] == 0 || s.count < 0) continue;
        bool first = true;
        const bool ok = each_member(f, s.sets[i], static_cast<u64>(s.count), [&](u64 fd) {
            if (ready == 0) return false;
            --ready;
            if (first) {
                if (any) append(text, ", ");
                append(text, names[i]);
                append(text, " [");
            } else {
                text.push_back(' ');
            }
            first = false;
            any = true;
            fmt::format_to(fmt::appender(text), "{}", fd);
            return true;
        });
        if (ok && !first) text.push_back(']');
    }
    if (s.timeout == 0) return;
    if (any) append(text, ", ");
    append(text, "left ");
    f.remark_with([&](CallFormatter& remark) { timeout(remark, s.timeout); });
}

Select from_registers(const CallFormatter& f) {
    return {f.arg_int(0), {f.arg(1), f.arg(2), f.arg(3)}, f.arg(4)};
}

void pselect6(CallFormatter& f, StructPrinter timeout) {
    if (!f.entering()) return select_exit(f, from_registers(f), timeout);
    select_enter(f, from_registers(f), timeout);
    f.argument("sigmask", "struct*");
    // {const sigset_t *mask; size_t size;}
    std::array<u64, 2> w{};
    if (f.fetch_words(f.arg(5), w)) {
        f.put("{sigmask=");
        if (w[0] == 0)
            f.put("NULL");
        else if (w[1] == 8)
            signal_set(f, w[0]);
        else
            f.pointer(w[0]);
        f.print(", sigsetsize={}}}", w[1]);
    }
    f.finish();
}

// --- epoll ---

constexpr size_t epoll_event_size = 12; // packed on x86

void print_epoll_event(CallFormatter& f, std::span<const std::byte> b) {
    f.put("{events=");
    f.flags(flags::epoll_events, load<u32>(b, 0));
    f.print(", data={{u32={}, u64={}}}}}", load<u32>(b, 4), load<u64>(b, 4));
}

void epoll_events_and_count(CallFormatter& f) {
    f.argument(1);
    if (f.failed())
        f.pointer(f.arg(1));
    else
        f.array(f.arg(1), static_cast<u64>(f.result()), epoll_event_size,
                [&](std::span<const std::byte> b) { print_epoll_event(f, b); });
    f.print_argument(2);
}

void epoll_mask(CallFormatter& f) {
    f.argument(4);
    if (f.arg(4) == 0)
        f.put("NULL");
    else if (f.arg(5) == 8)
        signal_set(f, f.arg(4));
    else
        f.pointer(f.arg(4));
    f.print_argument(5);
}

// --- vectors ---

void vector_call(CallFormatter& f, bool data_in, unsigned tail_first, unsigned tail_last) {
    const u64 count = f.arg(2);
    if (f.entering()) {
        f.print_argument(0);
        if (!data_in) return;
        f.argument(1);
        iovec(f, f.arg(1), count, true);
    } else {
        if (data_in) return;
        f.argument(1);
        f.failed() ? iovec(f, f.arg(1), count, false)
                   : iovec(f, f.arg(1), count, true, static_cast<u64>(f.result()));
    }
    f.argument(2);
    f.unsigned_decimal(count);
    f.log_number(static_cast<i64>(count));
    if (tail_first == 0) return f.finish();
    f.argument("offset", "loff_t");
    const auto offset = f.compat() ? static_cast<i64>(wide(f, 3)) : static_cast<i64>(f.arg(3));
    f.decimal(offset);
    f.log_number(offset);
    if (tail_last > 3) {
        f.argument("flags", "int");
        f.flags(flags::rwf, f.arg32(5));
    }
    f.finish();
}

} // namespace

void iovec(CallFormatter& f, u64 address, u64 count, bool data, u64 limit) {
    f.array(address, count, 2 * f.word_size(), [&](std::span<const std::byte> b) {
        const u64 base = f.compat() ? load<u32>(b, 0) : load<u64>(b, 0);
        const u64 length = f.compat() ? load<u32>(b, 4) : load<u64>(b, 8);
        f.put("{iov_base=");
        if (data) {
            const u64 shown = std::min(length, limit);
            f.bytes(base, shown);
            limit -= shown;
        } else {
            f.pointer(base);
        }
        f.print(", iov_len={}}}", length);
    });
}

void sys_readv(CallFormatter& f) { vector_call(f, false, 0, 0); }
void sys_writev(CallFormatter& f) { vector_call(f, true, 0, 0); }
void sys_preadv(CallFormatter& f) { vector_call(f, false, 3, 3); }
void sys_pwritev(CallFormatter& f) { vector_call(f, true, 3, 3); }
void sys_preadv2(CallFormatter& f) { vector_call(f, false, 3, 5); }
void sys_pwritev2(CallFormatter& f) { vector_call(f, true, 3, 5); }

void sys_vmsplice(CallFormatter& f) {
    if (!f.entering()) return;
    f.print_argument(0);
    f.argument(1);
    iovec(f, f.arg(1), f.arg(2), true);
    f.print_arguments(2, 3);
    f.finish();
}

void sys_process_vm(CallFormatter& f) {
    const bool reads = std::string_view(f.call().row->name) == "process_vm_readv";
    const auto local = [&] {
        f.argument(1);
        f.failed() && reads
            ? iovec(f, f.arg(1), f.arg(2), false)
            : iovec(f, f.arg(1), f.arg(2), true, reads ? static_cast<u64>(f.result()) : ~u64{0});
        f.print_argument(2);
        f.argument(3);
        iovec(f, f.arg(3), f.arg(4), false);
        f.print_arguments(4, 5);
    };
    if (f.entering()) {
        f.print_argument(0);
        if (reads) return;
        local();
        return f.finish();
    }
    if (reads) local();
}

void sys_poll(CallFormatter& f) {
    if (!f.entering()) return poll_answer(f, false, 0, nullptr);
    poll_request(f);
    f.print_argument(2);
    f.finish();
}

void sys_ppoll(CallFormatter& f) { ppoll(f, timespec); }
void sys_ppoll_time64(CallFormatter& f) { ppoll(f, timespec64); }

void sys_select(CallFormatter& f) {
    const Select s = from_registers(f);
    if (!f.entering()) return select_exit(f, s, timeval);
    select_enter(f, s, timeval);
    f.finish();
}

void sys_old_select(CallFormatter& f) {
    std::array<u64, 5> a{};
    if (f.arg(0) == 0 || !f.read_words(f.arg(0), a)) {
        if (!f.entering()) return;
        f.argument(0);
        f.pointer(f.arg(0));
        return f.finish();
    }
    const Select s{static_cast<i32>(a[0]), {a[1], a[2], a[3]}, a[4]};
    if (!f.entering()) return select_exit(f, s, timeval);
    select_enter(f, s, timeval);
    f.finish();
}

void sys_pselect6(CallFormatter& f) { pselect6(f, timespec); }
void sys_pselect6_time64(CallFormatter& f) { pselect6(f, timespec64); }

void epoll_event(CallFormatter& f, u64 address) {
    std::array<std::byte, epoll_event_size> raw{};
    if (f.fetch(address, raw)) print_epoll_event(f, raw);
}

void sys_epoll_ctl(CallFormatter& f) {
    if (!f.entering()) return;
    f.print_arguments(0, 2);
    f.argument(3);
    constexpr u32 remove = 2;
    f.arg(3) == 0 || f.arg32(1) == remove ? f.pointer(f.arg(3)) : epoll_event(f, f.arg(3));
    f.finish();
}

void sys_epoll_wait(CallFormatter& f) {
    if (f.entering()) return f.print_argument(0);
    epoll_events_and_count(f);
    f.print_argument(3);
}

void sys_epoll_pwait(CallFormatter& f) {
    if (f.entering()) return f.print_argument(0);
    epoll_events_and_count(f);
    f.print_argument(3);
    epoll_mask(f);
}

void sys_epoll_pwait2(CallFormatter& f) {
    if (f.entering()) return f.print_argument(0);
    epoll_events_and_count(f);
    f.argument(3);
    f.arg(3) == 0 ? f.put("NULL") : timespec64(f, f.arg(3));
    epoll_mask(f);
}

void sys_io_getevents(CallFormatter& f) {
    if (f.entering()) return f.print_arguments(0, 2);
    struct Event { // the same on all ABIs
        u64 data, object;
        i64 result, result2;
    };
    f.argument(3);
    if (f.failed())
        f.pointer(f.arg(3));
    else
        f.array(f.arg(3), static_cast<u64>(f.result()), sizeof(Event),
                [&](std::span<const std::byte> b) {
                    const auto event = load<Event>(b);
                    f.put("{data=");
                    f.hex(event.data);
                    f.put(", obj=");
                    f.pointer(event.object);
                    f.print(", res={}, res2={}}}", event.result, event.result2);
                });
    f.print_argument(4);
    if (f.call().row->arity > 5) f.print_argument(5);
}

void sys_io_uring_enter(CallFormatter& f) {
    if (f.entering()) {
        f.print_arguments(0, 3);
        f.argument(4);
        constexpr u32 extended = 1 << 3;
        if (f.arg(4) == 0 || f.arg(5) != 8 || (f.arg32(3) & extended) != 0)
            f.pointer(f.arg(4));
        else
            signal_set(f, f.arg(4));
        f.print_argument(5);
        return f.finish();
    }
    // What the ring asks the kernel to do never passes the hooked vector.
    append(f.remark(), "requests on the ring bypass system calls");
}

void sys_io_uring_setup(CallFormatter& f) {
    if (f.entering()) return f.print_argument(0);
    f.argument(1);
    const u64 address = f.arg(1);
    struct io_uring_params p {};
    if (f.failed() || address == 0 || !f.read_object(address, p)) return f.pointer(address);
    f.put("{flags=");
    f.flags(flags::io_uring_setup, p.flags);
    f.print(", sq_thread_cpu={}, sq_thread_idle={}, sq_entries={}, cq_entries={}, features=",
            p.sq_thread_cpu, p.sq_thread_idle, p.sq_entries, p.cq_entries);
    f.flags(flags::io_uring_features, p.features);
    f.print(", sq_off={{head={}, tail={}, ring_mask={}, ring_entries={}, flags={}, dropped={}, "
            "array={}}}, ",
            p.sq_off.head, p.sq_off.tail, p.sq_off.ring_mask, p.sq_off.ring_entries, p.sq_off.flags,
            p.sq_off.dropped, p.sq_off.array);
    f.print("cq_off={{head={}, tail={}, ring_mask={}, ring_entries={}, overflow={}, cqes={}, "
            "flags={}}}}}",
            p.cq_off.head, p.cq_off.tail, p.cq_off.ring_mask, p.cq_off.ring_entries,
            p.cq_off.overflow, p.cq_off.cqes, p.cq_off.flags);
}

} // namespace gnomon::trace::decode
