// SPDX-License-Identifier: Apache-2.0
/// Times: timespec and its kin, the clock and sleep calls.
#include "trace/decode/decoders.h"

#include <ctime>
#include <linux/stat.h>

namespace gnomon::trace::decode {

namespace {

constexpr i64 utime_now = (1L << 30) - 1;
constexpr i64 utime_omit = (1L << 30) - 2;

struct Wide {
    i64 sec;
    i64 part;
};

void print_pair(CallFormatter& f, Wide t, std::string_view unit) {
    f.print("{{tv_sec={}, tv_{}={}}}", t.sec, unit, t.part);
}

bool read_narrow(CallFormatter& f, u64 address, std::span<Wide> times) {
    std::array<u64, 4> words{};
    const std::span<u64> used = std::span(words).first(times.size() * 2);
    if (!f.fetch_words(address, used)) return false;
    for (size_t i = 0; i < times.size(); ++i)
        times[i] = {f.as_signed(words[2 * i]), f.as_signed(words[2 * i + 1])};
    return true;
}

void two_times(CallFormatter& f, std::span<const Wide> t, std::string_view unit) {
    f.put("{it_interval=");
    print_pair(f, t[0], unit);
    f.put(", it_value=");
    print_pair(f, t[1], unit);
    f.put('}');
}

/// 2023-11-14T22:13:20+0000, in UTC: the guest's zone is unknown.
void put_date(Text& out, i64 sec) {
    std::tm broken{};
    const auto time = static_cast<std::time_t>(sec);
    if (::gmtime_r(&time, &broken) == nullptr) return;
    char text[64];
    const size_t size = std::strftime(text, sizeof text, "%FT%T+0000", &broken);
    append(out, std::string_view(text, size));
}

void date_comment(CallFormatter& f, Wide t, i64 parts_per_second) {
    if ((t.sec == 0 && t.part == 0) || t.part < 0 || t.part >= parts_per_second) return;
    f.put(" /* ");
    put_date(f.out(), t.sec);
    if (t.part != 0) {
        // strace puts the fraction between the seconds and the zone.
        Text& out = f.out();
        out.resize(out.size() - 5);
        if (parts_per_second == 1'000'000)
            f.print(".{:06}+0000", t.part);
        else
            f.print(".{:09}+0000", t.part);
    }
    f.put(" */");
}

void file_times(CallFormatter& f, std::span<const Wide> t) {
    const auto one = [&](Wide x) {
        if (x.part == utime_now) return f.put("UTIME_NOW");
        if (x.part == utime_omit) return f.put("UTIME_OMIT");
        print_pair(f, x, "nsec");
        date_comment(f, x, 1'000'000'000);
    };
    f.put('[');
    one(t[0]);
    f.put(", ");
    one(t[1]);
    f.put(']');
}

/// The int after the words of struct timex.
i32 timex_tai(CallFormatter& f, u64 address) {
    i32 tai = 0;
    return f.read_object(address + 20 * f.word_size(), tai) ? tai : 0;
}

/// clock_nanosleep: the remaining time is written only when a relative sleep was interrupted.
void remaining(CallFormatter& f, unsigned index, StructPrinter printer, bool absolute) {
    f.argument(index);
    const bool interrupted = f.result() == -4 || f.result() <= -512;
    if (f.failed() && interrupted && !absolute && f.arg(index) != 0)
        return printer(f, f.arg(index));
    f.pointer(f.arg(index));
}

void clock_nanosleep(CallFormatter& f, StructPrinter printer) {
    if (f.entering()) {
        f.print_arguments(0, 1);
        f.argument(2);
        f.arg(2) == 0 ? f.put("NULL") : printer(f, f.arg(2));
        return;
    }
    remaining(f, 3, printer, (f.arg32(1) & 1) != 0);
}

} // namespace

void timespec(CallFormatter& f, u64 address) {
    Wide t{};
    if (f.call().abi == Abi::x32) return timespec64(f, address);
    if (read_narrow(f, address, std::span(&t, 1))) print_pair(f, t, "nsec");
}

void timespec64(CallFormatter& f, u64 address) {
    Wide t{};
    if (f.fetch(address, t)) print_pair(f, t, "nsec");
}

void timeval(CallFormatter& f, u64 address) {
    Wide t{};
    if (f.call().abi == Abi::x32) {
        if (f.fetch(address, t)) print_pair(f, t, "usec");
        return;
    }
    if (read_narrow(f, address, std::span(&t, 1))) print_pair(f, t, "usec");
}

void itimerval(CallFormatter& f, u64 address) {
    std::array<Wide, 2> t{};
    if (read_narrow(f, address, t)) two_times(f, t, "usec");
}

void itimerspec(CallFormatter& f, u64 address) {
    std::array<Wide, 2> t{};
    if (read_narrow(f, address, t)) two_times(f, t, "nsec");
}

void itimerspec64(CallFormatter& f, u64 address) {
    std::array<Wide, 2> t{};
    if (f.fetch(address, t)) two_times(f, t, "nsec");
}

void timespec_pair(CallFormatter& f, u64 address) {
    std::array<Wide, 2> t{};
    if (read_narrow(f, address, t)) file_times(f, t);
}

void timespec64_pair(CallFormatter& f, u64 address) {
    std::array<Wide, 2> t{};
    if (f.fetch(address, t)) file_times(f, t);
}

void timeval_pair(CallFormatter& f, u64 address) {
    std::array<Wide, 2> t{};
    if (!read_narrow(f, address, t)) return;
    f.put('[');
    for (size_t i = 0; i < 2; ++i) {
        if (i != 0) f.put(", ");
        print_pair(f, t[i], "usec");
        date_comment(f, t[i], 1'000'000);
    }
    f.put(']');
}

void utimbuf(CallFormatter& f, u64 address) {
    std::array<u64, 2> words{};
    if (!f.fetch_words(address, words)) return;
    const auto one = [&](std::string_view name, i64 sec) {
        f.put(name);
        f.decimal(sec);
        date_comment(f, {sec, 0}, 1);
    };
    f.put('{');
    one("actime=", f.as_signed(words[0]));
    one(", modtime=", f.as_signed(words[1]));
    f.put('}');
}

void timezone(CallFormatter& f, u64 address) {
    std::array<i32, 2> z{};
    if (f.fetch(address, z)) f.print("{{tz_minuteswest={}, tz_dsttime={}}}", z[0], z[1]);
}

void timex(CallFormatter& f, u64 address) {
    // Words: modes and status are 32 bits padded to a word on x86-64; on i386 every member is 32
    // bits.
    std::array<u64, 20> w{};
    if (!f.fetch_words(address, w)) return;
    const auto at = [&](size_t i) { return f.as_signed(w[i]); };
    f.put("{modes=");
    f.flags(flags::adjtime_modes, static_cast<u32>(w[0]));
    f.print(", offset={}, freq={}, maxerror={}, esterror={}, status=", at(1), at(2), at(3), at(4));
    f.flags(flags::adjtime_status, static_cast<u32>(w[5]));
    f.print(
        ", constant={}, precision={}, tolerance={}, time={{tv_sec={}, tv_usec={}}}, tick={}, "
        "ppsfreq={}, jitter={}, shift={}, stabil={}, jitcnt={}, calcnt={}, errcnt={}, stbcnt={}, "
        "tai={}}}",
        at(6), at(7), at(8), at(9), at(10), at(11), at(12), at(13), static_cast<i32>(w[14]), at(15),
        at(16), at(17), at(18), at(19), timex_tai(f, address));
}

void tms(CallFormatter& f, u64 address) {
    std::array<u64, 4> w{};
    if (!f.fetch_words(address, w)) return;
    static constexpr std::string_view names[] = {
        "{tms_utime=", ", tms_stime=", ", tms_cutime=", ", tms_cstime="};
    for (size_t i = 0; i < 4; ++i) {
        f.put(names[i]);
        // The kernel counts in USER_HZ, 100 on x86.
        const u64 ticks = f.compat() ? static_cast<u32>(w[i]) : w[i];
        f.unsigned_decimal(ticks);
        if (ticks != 0) f.print(" /* {}.{:02} s */", ticks / 100, ticks % 100);
    }
    f.put('}');
}

void time_value(CallFormatter& f, u64 address) {
    u64 w = 0;
    if (!f.fetch_words(address, std::span(&w, 1))) return;
    const i64 sec = f.as_signed(w);
    f.put('[');
    f.decimal(sec);
    date_comment(f, {sec, 0}, 1);
    f.put(']');
}

void sys_nanosleep(CallFormatter& f) {
    if (f.entering()) return f.print_argument(0);
    remaining(f, 1, timespec, false);
}

void sys_clock_nanosleep(CallFormatter& f) { clock_nanosleep(f, timespec); }
void sys_clock_nanosleep_time64(CallFormatter& f) { clock_nanosleep(f, timespec64); }

void sys_time(CallFormatter& f) {
    if (f.entering()) return;
    f.print_argument(0);
    if (!f.failed() && f.result() > 0) put_date(f.remark(), f.result());
}

void sys_adjtimex(CallFormatter& f) {
    const unsigned last = f.call().row->arity - 1u;
    if (f.entering()) {
        if (last == 1) f.print_argument(0);
        return;
    }
    f.argument(last);
    const u64 address = f.arg(last);
    u64 probe = 0;
    if (f.failed() || address == 0 || !f.read_words(address, std::span(&probe, 1)))
        return f.pointer(address);
    // clock_adjtime64's structure differs; only its name is certain.
    f.call_abi() == Abi::i386&& std::string_view(f.call().row->name) == "clock_adjtime64"
        ? f.pointer(address)
        : timex(f, address);
    if (const Flag* state = find_flag(flags::adjtime_state, static_cast<u64>(f.result())))
        append(f.remark(), state->name);
}

} // namespace gnomon::trace::decode
