// SPDX-License-Identifier: Apache-2.0
/// Calls that steer the system or another process: reboot, ptrace, seccomp, keys, priorities.
#include "trace/decode/decoders.h"

#include <linux/ptrace.h>
#include <linux/seccomp.h>

namespace gnomon::trace::decode {

void sys_sethostname(CallFormatter& f) {
    if (!f.entering()) return;
    f.argument(0);
    constexpr u64 name_limit = 64; // __NEW_UTS_LEN
    f.arg32(1) > name_limit ? f.pointer(f.arg(0)) : f.bytes(f.arg(0), f.arg32(1));
    f.print_argument(1);
    f.finish();
}

void sys_getpriority(CallFormatter& f) {
    if (!f.entering()) return;
    f.print_arguments(0, 1);
    f.finish();
}

void sys_ioprio_set(CallFormatter& f) {
    if (!f.entering()) return;
    f.print_arguments(0, 1);
    f.argument(2);
    f.put("IOPRIO_PRIO_VALUE(");
    f.name(flags::ioprio_class, f.arg32(2) >> 13);
    f.print(", {})", f.arg32(2) & 0x1fff);
    f.finish();
}

void sys_ioprio_get(CallFormatter& f) {
    if (f.entering()) {
        f.print_arguments(0, 1);
        return f.finish();
    }
    if (f.failed()) return;
    f.result_kind(ResultKind::hex);
    f.remark_with([&](CallFormatter& r) {
        r.put("IOPRIO_PRIO_VALUE(");
        r.name(flags::ioprio_class, static_cast<u32>(f.result()) >> 13);
        r.print(", {})", f.result() & 0x1fff);
    });
}

void sys_membarrier(CallFormatter& f) {
    if (f.entering()) {
        f.print_arguments(0, 1);
        constexpr u32 on_cpu = 1;
        if ((f.arg32(1) & on_cpu) != 0) f.print_argument(2);
        return f.finish();
    }
    if (f.failed() || f.arg32(0) != 0 || f.result() == 0) return;
    f.result_kind(ResultKind::hex);
    f.remark_with([&](CallFormatter& r) {
        r.flags(FlagTable{flags::membarrier.entries.subspan(1), flags::membarrier.unknown},
                static_cast<u32>(f.result()));
    });
}

void sys_reboot(CallFormatter& f) {
    if (!f.entering()) return;
    f.print_arguments(0, 2);
    constexpr u32 restart2 = 0xa1b2c3d4;
    if (f.arg32(2) == restart2) {
        f.argument(3);
        f.c_string(f.arg(3), f.string_limit());
    }
    f.finish();
}

void filter_program(CallFormatter& f, u64 address) {
    // struct sock_fprog: length (16 bits, padded to a word), address
    std::array<u64, 2> w{};
    if (!f.fetch_words(address, w)) return;
    f.print("{{len={}, filter=", w[0] & 0xffff);
    f.pointer(w[1]);
    f.put('}');
}

void sys_seccomp(CallFormatter& f) {
    if (!f.entering()) return;
    f.print_argument(0);
    f.argument(1);
    if (f.arg32(0) == SECCOMP_SET_MODE_FILTER)
        f.flags(flags::seccomp_flags, f.arg32(1));
    else
        f.hex(f.arg32(1));
    f.argument(2);
    const u64 address = f.arg(2);
    if (f.arg32(0) == SECCOMP_SET_MODE_FILTER) {
        filter_program(f, address);
    } else if (f.arg32(0) == SECCOMP_GET_ACTION_AVAIL) {
        u32 action = 0;
        if (f.fetch(address, action)) {
            f.put('[');
            f.name(flags::seccomp_action, action);
            f.put(']');
        }
    } else {
        f.pointer(address);
    }
    f.finish();
}

void sys_kexec_load(CallFormatter& f) {
    if (!f.entering()) return;
    f.print_arguments(0, 2);
    f.argument(3);
    const u64 value = f.arg(3);
    f.name(flags::kexec_architecture, value & 0xffff0000);
    if (const u64 rest = value & ~u64{0xffff0000}; rest != 0) {
        f.put('|');
        f.flags(FlagTable{flags::kexec_flags.entries, flags::kexec_flags.unknown}, rest);
    }
    f.finish();
}

void sys_keyctl(CallFormatter& f) {
    if (!f.entering()) return;
    // By operation: k is a key, p an address, s a string, u a number, x a set of bits.
    static constexpr std::string_view forms[] = {
        "ku",   "s",   "kpu", "k",  "kuu", "kx",  "kpu", "k",    "kk",   "kk", "kssk", "kpu",
        "kpuk", "kuk", "u",   "ku", "k",   "kpu", "",    "kuuk", "kpuk", "k",  "uk"};
    f.print_argument(0);
    const u32 operation = f.arg32(0);
    const std::string_view form =
        operation < std::size(forms) ? forms[operation] : std::string_view("xxxx");
    for (unsigned i = 0; i < form.size(); ++i) {
        f.argument(i + 1);
        const u64 value = f.arg(i + 1);
        switch (form[i]) {
        case 'k': f.print_value({"", ArgKind::key}, value); break;
        case 'p': f.pointer(value); break;
        case 's': f.c_string(value, f.string_limit()); break;
        case 'u': f.unsigned_decimal(value); break;
        default: f.hex(value);
        }
    }
    f.finish();
}

void sys_kcmp(CallFormatter& f) {
    if (!f.entering()) return;
    f.print_arguments(0, 2);
    constexpr u32 file = 0, epoll_target = 7;
    const u32 type = f.arg32(2);
    if (type == file || type >= epoll_target) {
        for (unsigned i = 3; i < 5; ++i) {
            f.argument(i);
            type == file ? f.unsigned_decimal(f.arg32(i)) : f.hex(f.arg(i));
        }
    }
    f.finish();
}

void sys_syslog(CallFormatter& f) {
    const u32 action = f.arg32(0);
    const bool reads = action >= 2 && action <= 4;
    if (f.entering()) {
        f.argument(0);
        const Flag* flag = find_flag(flags::syslog_action, action);
        f.print("{} /* {} */", f.arg_int(0), flag != nullptr ? flag->name : "SYSLOG_ACTION_???");
        constexpr u32 without = 1 << 0 | 1 << 1 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 9 | 1 << 10;
        if (action < 32 && (without >> action & 1) != 0) return f.finish();
        if (reads) return;
        f.argument(1);
        f.pointer(f.arg(1));
        f.print_argument(2);
        return f.finish();
    }
    if (!reads) return;
    f.argument(1);
    f.failed() ? f.pointer(f.arg(1)) : f.bytes(f.arg(1), static_cast<u64>(f.result()));
    f.print_argument(2);
}

} // namespace gnomon::trace::decode
