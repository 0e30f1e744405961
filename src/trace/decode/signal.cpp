// SPDX-License-Identifier: Apache-2.0
/// Signals: sets, actions, stacks, siginfo, and the calls about them.
#include "trace/decode/decoders.h"

#include "trace/names/signals.h"

#include <csignal>

namespace gnomon::trace::decode {

namespace {

/// Prints the name in a set: no SIG.
void put_short_name(Text& out, unsigned number) {
    if (const std::string_view text = signal_name(number); !text.empty())
        append(out, text);
    else if (number == 32)
        append(out, "RTMIN");
    else
        fmt::format_to(fmt::appender(out), "RT_{}", number - 32);
}

void put_signal(Text& out, i32 number) {
    const auto n = static_cast<u32>(number);
    if (n >= 1 && n <= 64) {
        append(out, "SIG");
        return put_short_name(out, n);
    }
    fmt::format_to(fmt::appender(out), "{}", number);
}

void put_set(Text& out, u64 set, unsigned bits) {
    const u64 all = bits >= 64 ? ~u64{0} : (u64{1} << bits) - 1;
    set &= all;
    // A set of more than two thirds of the signals is shown by what it lacks.
    const bool inverted = static_cast<unsigned>(__builtin_popcountll(set)) >= bits * 2 / 3;
    if (inverted) {
        out.push_back('~');
        set = ~set & all;
    }
    out.push_back('[');
    bool first = true;
    for (unsigned i = 0; i < bits; ++i)
        if ((set >> i & 1) != 0) {
            if (!first) out.push_back(' ');
            first = false;
            put_short_name(out, i + 1);
        }
    out.push_back(']');
}

void handler(CallFormatter& f, u64 address) {
    switch (address) {
    case 0: return f.put("SIG_DFL");
    case 1: return f.put("SIG_IGN");
    default: break;
    }
    const u64 error = f.compat() ? u64{~u32{0}} : ~u64{0};
    if (address == error) return f.put("SIG_ERR");
    f.pointer(address);
}

/// The set behind argument `set`, if argument `size` says that it has the kernel's size.
void sized_set(CallFormatter& f, unsigned set, unsigned size) {
    f.argument(set);
    if (f.arg(set) == 0) return f.put("NULL");
    if (f.arg(size) != 8) return f.pointer(f.arg(set));
    signal_set(f, f.arg(set));
}

void action(CallFormatter& f, u64 address, bool real_time) {
    if (address == 0) return f.put("NULL");
    std::array<u64, 4> w{}; // kernel's struct sigaction: handler, flags, restorer, mask
    u64 mask = 0;
    unsigned bits = 64;
    if (real_time) {
        if (!f.read_words(address, std::span(w).first(3)) ||
            !f.read_object(address + 3 * f.word_size(), mask))
            return f.pointer(address);
    } else {
        // i386's old struct: handler, mask, flags, restorer
        if (!f.read_words(address, w)) return f.pointer(address);
        mask = w[1];
        const u64 set_flags = w[2];
        w[2] = w[3];
        w[1] = set_flags;
        bits = 32;
    }
    f.put("{sa_handler=");
    handler(f, w[0]);
    f.put(", sa_mask=");
    put_set(f.out(), mask, bits);
    f.put(", sa_flags=");
    f.flags(flags::sigaction_flags, w[1]);
    constexpr u64 restorer = 0x04000000;
    if ((w[1] & restorer) != 0) {
        f.put(", sa_restorer=");
        f.pointer(w[2]);
    }
    f.put('}');
}

void actions(CallFormatter& f, bool real_time) {
    if (f.entering()) {
        f.print_argument(0);
        f.argument(1);
        action(f, f.arg(1), real_time);
        return;
    }
    f.argument(2);
    f.failed() ? f.pointer(f.arg(2)) : action(f, f.arg(2), real_time);
    if (real_time) f.print_argument(3);
}

void timed_wait(CallFormatter& f, StructPrinter timeout) {
    if (f.entering()) return sized_set(f, 0, 3);
    f.print_argument(1);
    f.argument(2);
    f.arg(2) == 0 ? f.put("NULL") : timeout(f, f.arg(2));
    f.print_argument(3);
    if (!f.failed() && f.result() > 0 && f.result() <= 64)
        put_signal(f.remark(), static_cast<i32>(f.result()));
}

void put_pointer(Text& out, u64 address) {
    if (address == 0)
        append(out, "NULL");
    else
        fmt::format_to(fmt::appender(out), "{:#x}", address);
}

void put_hex(Text& out, u32 value) {
    if (value == 0)
        out.push_back('0');
    else
        fmt::format_to(fmt::appender(out), "{:#x}", value);
}

constexpr u32 audit_x86_64 = 0xc000003e, audit_i386 = 0x40000003; // linux/audit.h

void put_architecture(Text& out, u32 value) {
    switch (value) {
    case audit_x86_64: return append(out, "AUDIT_ARCH_X86_64");
    case audit_i386: return append(out, "AUDIT_ARCH_I386");
    default: put_hex(out, value); append(out, " /* AUDIT_ARCH_??? */");
    }
}

/// The number of a call by its name.
void put_call(Text& out, const SignalDelivered& s) {
    const bool narrow = s.arch == audit_i386;
    const auto* entry = narrow || s.arch == audit_x86_64
                            ? SyscallTable::get().find(narrow ? Abi::i386 : Abi::x86_64,
                                                       static_cast<u32>(s.syscall))
                            : nullptr;
    if (entry != nullptr && entry->row != nullptr)
        fmt::format_to(fmt::appender(out), "__NR_{}", entry->name);
    else
        fmt::format_to(fmt::appender(out), "{}", static_cast<u32>(s.syscall));
}

/// Processor time. The kernel counts in USER_HZ, 100 on x86.
void put_ticks(Text& out, i64 value) {
    const auto ticks = static_cast<u64>(value);
    fmt::format_to(fmt::appender(out), "{}", ticks);
    if (ticks != 0)
        fmt::format_to(fmt::appender(out), " /* {}.{:02} s */", ticks / 100, ticks % 100);
}

void put_code(Text& out, const SignalDelivered& s) {
    if (const std::string_view name = signal_code_name(s.signo, s.code); !name.empty())
        append(out, name);
    else
        fmt::format_to(fmt::appender(out), "{:#x}", static_cast<u32>(s.code));
}

void put_sender(Text& out, const SignalDelivered& s) {
    fmt::format_to(fmt::appender(out), ", si_pid={}, si_uid={}", s.pid, s.uid);
}

void put_value(Text& out, const SignalDelivered& s) {
    fmt::format_to(fmt::appender(out), ", si_int={}, si_ptr=", static_cast<i32>(s.value));
    put_pointer(out, s.value);
}

} // namespace

void signal_set_value(CallFormatter& f, u64 set, unsigned bits) { put_set(f.out(), set, bits); }

void signal_set(CallFormatter& f, u64 address) {
    u64 set = 0;
    if (f.fetch(address, set)) put_set(f.out(), set, 64);
}

void old_signal_set(CallFormatter& f, u64 address) {
    u64 set = 0;
    if (f.fetch_words(address, std::span(&set, 1))) put_set(f.out(), set, f.compat() ? 32 : 64);
}

void signal_stack(CallFormatter& f, u64 address) {
    std::array<u64, 3> w{};
    if (!f.fetch_words(address, w)) return;
    f.put("{ss_sp=");
    f.pointer(w[0]);
    f.put(", ss_flags=");
    f.flags(flags::sigaltstack, static_cast<u32>(w[1]));
    f.print(", ss_size={}}}", w[2]);
}

void signal_fields(Text& out, const SignalDelivered& s) {
    const auto to = fmt::appender(out);
    append(out, "{si_signo=");
    put_signal(out, s.signo);
    append(out, ", si_code=");
    put_code(out, s);
    if (s.error != 0) {
        append(out, ", si_errno=");
        if (const char* name = errno_name(s.error))
            append(out, name);
        else
            fmt::format_to(to, "{}", s.error);
    }
    constexpr i32 si_user = 0, si_kernel = 0x80, si_queue = -1, si_timer = -2, si_mesgq = -3,
                  si_asyncio = -4, si_sigio = -5, si_tkill = -6;
    switch (s.code) {
    case si_user:
    case si_tkill: put_sender(out, s); break;
    case si_timer:
        append(out, ", si_timerid=");
        put_hex(out, static_cast<u32>(s.timer_id));
        fmt::format_to(to, ", si_overrun={}", s.overrun);
        put_value(out, s);
        break;
    case si_sigio: fmt::format_to(to, ", si_band={}, si_fd={}", s.band, s.fd); break;
    case si_queue:
    case si_mesgq:
    case si_asyncio:
        put_sender(out, s);
        put_value(out, s);
        break;
    default:
        switch (s.signo) {
        case SIGCHLD: {
            put_sender(out, s);
            append(out, ", si_status=");
            constexpr i32 cld_exited = 1;
            if (s.code == cld_exited)
                fmt::format_to(to, "{}", s.status);
            else
                put_signal(out, s.status);
            append(out, ", si_utime=");
            put_ticks(out, s.utime);
            append(out, ", si_stime=");
            put_ticks(out, s.stime);
            break;
        }
        case SIGILL:
        case SIGFPE:
        case SIGSEGV:
        case SIGBUS:
        case SIGTRAP:
            append(out, ", si_addr=");
            put_pointer(out, s.address);
            break;
        case SIGPOLL:
            if (s.code == si_kernel) break;
            fmt::format_to(to, ", si_band={}, si_fd={}", s.band, s.fd);
            break;
        case SIGSYS:
            if (s.code == si_kernel) break;
            append(out, ", si_call_addr=");
            put_pointer(out, s.address);
            append(out, ", si_syscall=");
            put_call(out, s);
            append(out, ", si_arch=");
            put_architecture(out, s.arch);
            break;
        default:
            if (s.code == si_kernel) break;
            if (s.pid != 0 || s.uid != 0) put_sender(out, s);
            if (s.value != 0) put_value(out, s);
        }
    }
    out.push_back('}');
}

void signal_info(CallFormatter& f, u64 address) {
    // struct siginfo: signo, errno, code, then a union at word alignment (arch/x86: 12 or 16).
    std::array<std::byte, 64> raw{};
    if (!f.fetch(address, raw)) return;
    const std::span<const std::byte> b(raw);
    SignalDelivered s;
    s.signo = load<i32>(b, 0);
    s.error = load<i32>(b, 4);
    s.code = load<i32>(b, 8);
    if (s.signo == 0) return f.put("{}");
    const size_t u = f.compat() ? 12 : 16;
    const size_t w = f.word_size();
    const auto word_at = [&](size_t offset) {
        return f.compat() ? u64{load<u32>(b, offset)} : load<u64>(b, offset);
    };
    s.pid = load<i32>(b, u);
    s.uid = load<u32>(b, u + 4);
    s.status = load<i32>(b, u + 8);
    const size_t times = f.compat() ? u + 12 : u + 16;
    s.utime = f.as_signed(word_at(times));
    s.stime = f.as_signed(word_at(times + w));
    s.address = word_at(u);
    s.timer_id = s.pid;
    s.overrun = load<i32>(b, u + 4);
    s.value = word_at(u + 8);
    s.band = f.as_signed(word_at(u));
    s.fd = load<i32>(b, u + w);
    if (s.signo == SIGSYS) {
        s.syscall = load<i32>(b, u + w);
        s.arch = load<u32>(b, u + w + 4);
    }
    signal_fields(f.out(), s);
}

void signal_event(CallFormatter& f, u64 address) {
    // struct sigevent: value (a word), signo, notify, then a union.
    u64 value = 0;
    std::array<i32, 2> fields{};
    if (!f.read_words(address, std::span(&value, 1)) ||
        !f.read_object(address + f.word_size(), fields))
        return f.pointer(address);
    f.put('{');
    if (value != 0) {
        f.print("sigev_value={{sival_int={}, sival_ptr=", static_cast<i32>(value));
        f.pointer(value);
        f.put("}, ");
    }
    f.put("sigev_signo=");
    const bool delivers = fields[1] == 0 || fields[1] == 4;
    delivers ? f.signal(static_cast<u32>(fields[0])) : f.decimal(fields[0]);
    f.put(", sigev_notify=");
    switch (fields[1]) {
    case 0: f.put("SIGEV_SIGNAL"); break;
    case 1: f.put("SIGEV_NONE"); break;
    case 2: f.put("SIGEV_THREAD"); break;
    case 4: {
        f.put("SIGEV_THREAD_ID");
        i32 tid = 0;
        if (f.read_object(address + f.word_size() + 8, tid))
            f.print(", sigev_notify_thread_id={}", tid);
        break;
    }
    default: f.print("{:#x} /* SIGEV_??? */", static_cast<u32>(fields[1]));
    }
    f.put('}');
}

void sys_rt_sigaction(CallFormatter& f) { actions(f, true); }
void sys_sigaction(CallFormatter& f) { actions(f, false); }

void sys_signal(CallFormatter& f) {
    if (f.entering()) {
        f.print_argument(0);
        f.argument(1);
        handler(f, f.arg(1));
        return f.finish();
    }
    if (f.failed()) return;
    f.result_kind(ResultKind::hex);
    if (f.result() == 0 || f.result() == 1)
        append(f.remark(), f.result() == 0 ? "SIG_DFL" : "SIG_IGN");
}

void sys_rt_sigprocmask(CallFormatter& f) {
    if (f.entering()) {
        f.print_argument(0);
        return sized_set(f, 1, 3);
    }
    if (f.failed()) {
        f.argument(2);
        f.pointer(f.arg(2));
    } else {
        sized_set(f, 2, 3);
    }
    f.print_argument(3);
}

void sys_sigprocmask(CallFormatter& f) {
    if (f.entering()) return f.print_arguments(0, 1);
    f.print_argument(2);
}

void sys_rt_sigpending(CallFormatter& f) {
    if (f.entering()) return;
    if (f.failed()) {
        f.argument(0);
        f.pointer(f.arg(0));
    } else {
        f.argument(0);
        // The kernel writes as many bytes as asked for, at most 8.
        u64 set = 0;
        const u64 size = f.arg(1) < 8 ? f.arg(1) : 8;
        if (f.arg(0) != 0 &&
            f.read(f.arg(0), std::as_writable_bytes(std::span(&set, 1)).first(size)))
            put_set(f.out(), set, size == 0 ? 64 : static_cast<unsigned>(size * 8));
        else
            f.pointer(f.arg(0));
    }
    f.print_argument(1);
}

void sys_rt_sigsuspend(CallFormatter& f) {
    if (!f.entering()) return;
    sized_set(f, 0, 1);
    f.print_argument(1);
    f.finish();
}

void sys_sigsuspend(CallFormatter& f) {
    if (!f.entering()) return;
    // i386: two ignored words and the mask; called with the mask alone it is the first argument.
    const unsigned index = f.call().row->arity - 1u;
    f.argument(index);
    put_set(f.out(), f.arg32(index), 32);
    f.finish();
}

void sys_ssetmask(CallFormatter& f) {
    if (f.entering()) {
        f.argument(0);
        put_set(f.out(), f.arg32(0), 32);
        return f.finish();
    }
    if (f.failed()) return;
    f.result_kind(ResultKind::hex);
    append(f.remark(), "old mask ");
    put_set(f.remark(), static_cast<u32>(f.result()), 32);
}

void sys_sgetmask(CallFormatter& f) {
    if (f.entering() || f.failed()) return;
    f.result_kind(ResultKind::hex);
    append(f.remark(), "mask ");
    put_set(f.remark(), static_cast<u32>(f.result()), 32);
}

void sys_rt_sigtimedwait(CallFormatter& f) { timed_wait(f, timespec); }
void sys_rt_sigtimedwait_time64(CallFormatter& f) { timed_wait(f, timespec64); }

void sys_rt_sigreturn(CallFormatter& f) {
    if (!f.entering()) return;
    f.argument("mask", "sigset_t");
    f.put("{mask=");
    // The frame's ucontext lies at the stack pointer: flags, link, stack_t, sigcontext (256 bytes),
    // mask.
    // On i386: signo and two pointers, siginfo (128 bytes), flags, link, stack_t, sigcontext (88),
    // mask.
    const bool narrow = f.call().abi == Abi::i386;
    const u64 mask_offset = narrow ? 12 + 128 + 4 + 4 + 12 + 88 : 8 + 8 + 24 + 256;
    u64 set = 0;
    const u64 sp = f.call().user_sp;
    if (sp != 0 && f.read_object(sp + mask_offset, set))
        put_set(f.out(), set, 64);
    else
        f.pointer(sp == 0 ? 0 : sp + mask_offset);
    f.put('}');
    f.finish();
}

void sys_sigreturn(CallFormatter& f) {
    if (!f.entering()) return;
    // Above the stack pointer: sigcontext (88 bytes, the mask's low word at 80), the room of an
    // FPU state (624), the mask's high word.
    f.argument("mask", "sigset_t");
    f.put("{mask=");
    const u64 sp = f.call().user_sp;
    u32 low = 0, high = 0;
    if (sp != 0 && f.read_object(sp + 80, low) && f.read_object(sp + 88 + 624, high))
        put_set(f.out(), u64{high} << 32 | low, 64);
    else
        f.pointer(sp);
    f.put('}');
    f.finish();
}

void sys_signalfd(CallFormatter& f) {
    if (!f.entering()) return;
    f.print_argument(0);
    sized_set(f, 1, 2);
    f.print_argument(2);
    f.finish();
}

void sys_signalfd4(CallFormatter& f) {
    if (!f.entering()) return;
    f.print_argument(0);
    sized_set(f, 1, 2);
    f.print_arguments(2, 3);
    f.finish();
}

} // namespace gnomon::trace::decode
