// SPDX-License-Identifier: Apache-2.0
/// Processes: execve, clone, wait, futex, limits, identity.
#include "trace/decode/decoders.h"

#include <algorithm>
#include <linux/capability.h>
#include <linux/futex.h>
#include <linux/sched.h>

namespace gnomon::trace::decode {

namespace {

// --- execve ---

constexpr u64 vector_limit = u64{1} << 16; ///< environment variables counted

void argument_vector(CallFormatter& f, u64 address) {
    if (address == 0) return f.put("NULL");
    const u64 word = f.word_size();
    for (u64 i = 0;; ++i) {
        const std::optional<u64> at = f.read_word(address + i * word);
        if (!at) {
            if (i == 0) return f.pointer(address);
            f.put(", ... /* ");
            f.pointer(address + i * word);
            return f.put(" */]");
        }
        if (*at == 0) return f.put(i == 0 ? "[]" : "]");
        f.put(i == 0 ? "[" : ", ");
        if (i >= f.string_limit() || f.exhausted()) return f.put("...]");
        f.c_string(*at, f.string_limit());
    }
}

void environment(CallFormatter& f, u64 address) {
    f.pointer(address);
    if (address == 0) return;
    const u64 word = f.word_size();
    u64 count = 0;
    bool complete = false;
    // Blocks up to the end of a page: reading word by word would be slow for large environments.
    std::array<std::byte, 512> block{};
    u64 at = address;
    while (count < vector_limit) {
        size_t size = static_cast<size_t>(
            std::min<u64>(block.size(), page_size - (at & page_offset_mask)) / word * word);
        if (size == 0) size = word; // a word across two pages
        if (!f.read(at, std::span(block).first(size))) break;
        const std::span<const std::byte> b(block);
        for (size_t i = 0; i < size && !complete; i += word) {
            const u64 value = word == 8 ? load<u64>(b, i) : load<u32>(b, i);
            if (value == 0)
                complete = true;
            else
                ++count;
        }
        if (complete) break;
        at += size;
        if (at < size) break;
    }
    if (count == 0 && !complete) return;
    f.print(" /* {} var{}{} */", count, count == 1 ? "" : "s", complete ? "" : ", unterminated");
}

// --- clone ---

constexpr u64 set_tls = CLONE_SETTLS;
constexpr u64 parent_settid = CLONE_PARENT_SETTID;
constexpr u64 child_tid_flags = CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID;

/// i386 passes tls before the child's tid pointer, x86-64 after it.
struct CloneOrder {
    unsigned tls, child_tid;
};
CloneOrder clone_order(const CallFormatter& f) {
    return f.call_abi() == Abi::i386 ? CloneOrder{3, 4} : CloneOrder{4, 3};
}

void user_descriptor(CallFormatter& f, u64 address) {
    std::array<u32, 4> d{};
    if (!f.fetch(address, d)) return;
    const auto bit = [&](unsigned i) { return d[3] >> i & 1; };
    f.put("{entry_number=");
    f.id(d[0]);
    f.print(", base_addr=");
    f.hex(d[1]);
    f.put(", limit=");
    if (d[2] == 0)
        f.put("0x000000");
    else
        f.print("{:#08x}", d[2]);
    f.print(
        ", seg_32bit={}, contents={}, read_exec_only={}, limit_in_pages={}, seg_not_present={}, "
        "useable={}}}",
        bit(0), d[3] >> 1 & 3, bit(3), bit(4), bit(5), bit(6));
}

void tls(CallFormatter& f, u64 value) {
    if (f.call_abi() == Abi::i386)
        user_descriptor(f, value);
    else
        f.pointer(value);
}

void thread_id(CallFormatter& f, u64 address) {
    i32 tid = 0;
    if (f.fetch(address, tid)) f.print("[{}]", tid);
}

// --- futex ---

constexpr u32 futex_modifiers = FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME;

void futex_operation(CallFormatter& f, u32 value) {
    const u32 operation = value & ~futex_modifiers;
    const Flag* flag = find_flag(flags::futex_operation, operation);
    if (flag == nullptr) {
        f.hex(value);
        return f.put(" /* FUTEX_??? */");
    }
    f.put(flag->name);
    if ((value & FUTEX_PRIVATE_FLAG) != 0) f.put("_PRIVATE");
    if ((value & FUTEX_CLOCK_REALTIME) != 0) f.put("|FUTEX_CLOCK_REALTIME");
}

void futex_bitset(CallFormatter& f, u32 value) {
    f.argument(5);
    value == ~u32{0} ? f.put("FUTEX_BITSET_MATCH_ANY") : f.hex(value);
}

void futex_wake_operation(CallFormatter& f, u32 value) {
    static constexpr std::string_view operations[] = {"FUTEX_OP_SET", "FUTEX_OP_ADD", "FUTEX_OP_OR",
                                                      "FUTEX_OP_ANDN", "FUTEX_OP_XOR"};
    static constexpr std::string_view comparisons[] = {"FUTEX_OP_CMP_EQ", "FUTEX_OP_CMP_NE",
                                                       "FUTEX_OP_CMP_LT", "FUTEX_OP_CMP_LE",
                                                       "FUTEX_OP_CMP_GT", "FUTEX_OP_CMP_GE"};
    f.argument(5);
    if ((value >> 28 & 8) != 0) f.put("FUTEX_OP_OPARG_SHIFT<<28|");
    if (const u32 operation = value >> 28 & 7; operation < std::size(operations))
        f.put(operations[operation]);
    else
        f.print("{:#x} /* FUTEX_OP_??? */", operation);
    f.put("<<28|");
    f.hex(value >> 12 & 0xfff);
    f.put("<<12|");
    if (const u32 comparison = value >> 24 & 15; comparison < std::size(comparisons))
        f.put(comparisons[comparison]);
    else
        f.print("{:#x} /* FUTEX_OP_CMP_??? */", comparison);
    f.put("<<24|");
    f.hex(value & 0xfff);
}

void futex(CallFormatter& f, StructPrinter timeout) {
    const auto time = [&] {
        f.argument(3);
        f.arg(3) == 0 ? f.put("NULL") : timeout(f, f.arg(3));
    };
    const auto number = [&](unsigned index) {
        f.argument(index);
        f.unsigned_decimal(f.arg32(index));
        f.log_number(f.arg32(index));
    };
    f.print_argument(0);
    f.argument(1);
    futex_operation(f, f.arg32(1));
    switch (f.arg32(1) & ~futex_modifiers) {
    case FUTEX_WAIT: number(2); return time();
    case FUTEX_LOCK_PI:
    case FUTEX_LOCK_PI2: return time();
    case FUTEX_WAKE:
    case FUTEX_FD: return number(2);
    case FUTEX_UNLOCK_PI:
    case FUTEX_TRYLOCK_PI: return;
    case FUTEX_WAIT_BITSET:
        number(2);
        time();
        return futex_bitset(f, f.arg32(5));
    case FUTEX_WAKE_BITSET: number(2); return futex_bitset(f, f.arg32(5));
    case FUTEX_REQUEUE:
        number(2);
        number(3);
        return f.print_argument(4);
    case FUTEX_CMP_REQUEUE:
    case FUTEX_CMP_REQUEUE_PI:
        number(2);
        number(3);
        f.print_argument(4);
        return number(5);
    case FUTEX_WAKE_OP:
        number(2);
        number(3);
        f.print_argument(4);
        return futex_wake_operation(f, f.arg32(5));
    case FUTEX_WAIT_REQUEUE_PI:
        number(2);
        time();
        return f.print_argument(4);
    default:
        number(2);
        for (unsigned i = 3; i < 6; ++i) {
            f.argument(i);
            i == 5 ? f.hex(f.arg32(i)) : f.pointer(f.arg(i));
        }
    }
}

// --- wait ---

void put_status(CallFormatter& f, u32 status) {
    const u32 signal = status & 0x7f;
    if (status == 0xffff) return f.put("{WIFCONTINUED(s)}");
    if ((status & 0xff) == 0x7f) {
        f.put("{WIFSTOPPED(s) && WSTOPSIG(s) == ");
        const u32 stop = status >> 8 & 0xff;
        f.signal(stop & 0x7f);
        if ((stop & 0x80) != 0) f.put(" | 0x80");
        f.put('}');
        if (status >> 16 != 0) f.print(" | {:#x}", status >> 16 << 16);
        return;
    }
    if (signal == 0) return f.print("{{WIFEXITED(s) && WEXITSTATUS(s) == {}}}", status >> 8 & 0xff);
    f.put("{WIFSIGNALED(s) && WTERMSIG(s) == ");
    f.signal(signal);
    if ((status & 0x80) != 0) f.put(" && WCOREDUMP(s)");
    f.put('}');
}

void wait(CallFormatter& f, bool with_usage) {
    if (f.entering()) return f.print_argument(0);
    f.argument(1);
    // Nothing is written when nothing was waited for (WNOHANG).
    f.failed() || f.result() == 0 || f.arg(1) == 0 ? f.pointer(f.arg(1)) : wait_status(f, f.arg(1));
    f.print_argument(2);
    if (!with_usage) return;
    f.argument(3);
    f.failed() || f.result() == 0 || f.arg(3) == 0 ? f.pointer(f.arg(3)) : rusage(f, f.arg(3));
}

// --- limits ---

void limit(CallFormatter& f, u64 value, u64 infinity, std::string_view name) {
    if (value == infinity) return f.put(name);
    if (value > 1024 && value % 1024 == 0) return f.print("{}*1024", value / 1024);
    f.unsigned_decimal(value);
}

void limits(CallFormatter& f, u64 soft, u64 hard, u64 infinity, std::string_view name) {
    f.put("{rlim_cur=");
    limit(f, soft, infinity, name);
    f.put(", rlim_max=");
    limit(f, hard, infinity, name);
    f.put('}');
}

void ids(CallFormatter& f, u64 address, u64 count) {
    constexpr u64 groups_limit = 65536; // NGROUPS_MAX
    if (count > groups_limit) return f.pointer(address);
    const bool narrow = f.call().abi == Abi::i386 &&
                        f.call().row->args[0].kind == ArgKind::decimal &&
                        std::string_view(f.call().row->name).find("32") == std::string_view::npos;
    f.array(address, count, narrow ? 2 : 4, [&](std::span<const std::byte> b) {
        f.unsigned_decimal(narrow ? load<u16>(b) : load<u32>(b));
    });
}

void cpu_mask(CallFormatter& f, u64 address, u64 size) {
    constexpr u64 limit_bytes = 1024;
    std::array<std::byte, limit_bytes> raw{};
    size = std::min(size, limit_bytes);
    if (size == 0) return f.put("[]");
    if (!f.read(address, std::span(raw).first(size))) return f.pointer(address);
    f.put('[');
    u64 shown = 0;
    for (u64 i = 0; i < size * 8; ++i) {
        if ((std::to_integer<unsigned>(raw[i / 8]) >> (i % 8) & 1) == 0) continue;
        if (shown != 0) f.put(' ');
        if (shown++ >= f.string_limit()) {
            f.put("...");
            break;
        }
        f.unsigned_decimal(i);
    }
    f.put(']');
}

void capability_set(CallFormatter& f, u64 set) {
    if (set == 0) return f.put('0');
    bool first = true;
    for (unsigned i = 0; i < 64; ++i) {
        if ((set >> i & 1) == 0) continue;
        if (!first) f.put('|');
        first = false;
        if (const Flag* flag = find_flag(flags::capability, i)) {
            f.put("1<<");
            f.put(flag->name);
        } else {
            f.hex(u64{1} << i);
        }
    }
}

void personality(CallFormatter& f, u32 value) {
    f.name(flags::personality_type, value & 0xff);
    if ((value & ~u32{0xff}) != 0) {
        f.put('|');
        f.flags(FlagTable{flags::personality_flags.entries, {}}, value & ~u32{0xff});
    }
}

} // namespace

// --- structures ---

void integer(CallFormatter& f, u64 address) {
    i32 value = 0;
    if (f.fetch(address, value)) f.print("[{}]", value);
}

void unsigned_integer(CallFormatter& f, u64 address) {
    u32 value = 0;
    if (f.fetch(address, value)) f.print("[{}]", value);
}

void word(CallFormatter& f, u64 address) { word_offset(f, address); }

void word_pointer(CallFormatter& f, u64 address) {
    u64 value = 0;
    if (!f.fetch_words(address, std::span(&value, 1))) return;
    f.put('[');
    f.pointer(value);
    f.put(']');
}

void user_id(CallFormatter& f, u64 address) {
    u32 value = 0;
    if (!f.fetch(address, value)) return;
    f.put('[');
    f.id(value);
    f.put(']');
}

void user_id16(CallFormatter& f, u64 address) {
    u16 value = 0;
    if (f.fetch(address, value)) f.print("[{}]", value);
}

void rlimit(CallFormatter& f, u64 address) {
    std::array<u64, 2> w{};
    if (f.fetch_words(address, w))
        f.compat() ? limits(f, w[0], w[1], ~u32{0}, "RLIM_INFINITY")
                   : limits(f, w[0], w[1], ~u64{0}, "RLIM64_INFINITY");
}

void rlimit64(CallFormatter& f, u64 address) {
    std::array<u64, 2> w{};
    if (f.fetch(address, w)) limits(f, w[0], w[1], ~u64{0}, "RLIM64_INFINITY");
}

void rusage(CallFormatter& f, u64 address) {
    std::array<u64, 4> w{};
    if (!f.fetch_words(address, w)) return;
    f.print("{{ru_utime={{tv_sec={}, tv_usec={}}}, ru_stime={{tv_sec={}, tv_usec={}}}, ...}}",
            f.as_signed(w[0]), f.as_signed(w[1]), f.as_signed(w[2]), f.as_signed(w[3]));
}

void utsname(CallFormatter& f, u64 address) {
    std::array<std::byte, 390> raw{}; // six fields of 65 bytes
    if (!f.fetch(address, raw)) return;
    const std::string_view text(reinterpret_cast<const char*>(raw.data()), raw.size());
    f.put("{sysname=");
    f.quote_field(text.substr(0, 65));
    f.put(", nodename=");
    f.quote_field(text.substr(65, 65));
    f.put(", ...}");
}

void sysinfo(CallFormatter& f, u64 address) {
    // uptime, loads[3], six sizes, procs and padding (16 bits each), two sizes, mem_unit (32 bits)
    const size_t w = f.word_size();
    std::array<std::byte, 112> raw{};
    const size_t size = 10 * w + (w == 8 ? 8 : 4) + 2 * w + 4;
    if (!f.read(address, std::span(raw).first(size))) return f.pointer(address);
    const std::span<const std::byte> b(raw);
    const auto at = [&](size_t i) { return w == 8 ? load<u64>(b, i * 8) : load<u32>(b, i * 4); };
    const u16 processes = load<u16>(b, 10 * w);
    const size_t high = 10 * w + w;
    const auto high_at = [&](size_t i) {
        return w == 8 ? load<u64>(b, high + i * 8) : load<u32>(b, high + i * 4);
    };
    f.print("{{uptime={}, loads=[{}, {}, {}], totalram={}, freeram={}, sharedram={}, bufferram={}, "
            "totalswap={}, freeswap={}, procs={}, totalhigh={}, freehigh={}, mem_unit={}}}",
            f.as_signed(at(0)), at(1), at(2), at(3), at(4), at(5), at(6), at(7), at(8), at(9),
            processes, high_at(0), high_at(1), load<u32>(b, high + 2 * w));
}

void wait_status(CallFormatter& f, u64 address) {
    u32 status = 0;
    if (!f.fetch(address, status)) return;
    f.put('[');
    put_status(f, status);
    f.put(']');
}

void scheduler_parameter(CallFormatter& f, u64 address) { integer(f, address); }

void scheduler_attribute(CallFormatter& f, u64 address) {
    struct Attribute {
        u32 size, policy;
        u64 flags;
        i32 nice;
        u32 priority;
        u64 runtime, deadline, period;
        u32 util_min, util_max;
    } a{};
    u32 size = 0;
    if (!f.fetch(address, size)) return;
    constexpr u32 first_version = 48;
    const bool first = size < sizeof a;
    if ((size != 0 && size < first_version) ||
        !f.read(address,
                std::as_writable_bytes(std::span(&a, 1)).first(first ? first_version : sizeof a)))
        return f.pointer(address);
    f.print("{{size={}, sched_policy=", a.size);
    f.name(flags::scheduler, a.policy);
    f.put(", sched_flags=");
    f.flags(flags::schedattr, a.flags);
    f.print(", sched_nice={}, sched_priority={}, sched_runtime={}, sched_deadline={}, "
            "sched_period={}",
            a.nice, a.priority, a.runtime, a.deadline, a.period);
    if (!first) f.print(", sched_util_min={}, sched_util_max={}", a.util_min, a.util_max);
    if (a.size > sizeof a) f.put(", ...");
    f.put('}');
}

void capability_header(CallFormatter& f, u64 address) {
    std::array<u32, 2> h{};
    if (!f.fetch(address, h)) return;
    static constexpr Flag versions[] = {
        {_LINUX_CAPABILITY_VERSION_1, "_LINUX_CAPABILITY_VERSION_1"},
        {_LINUX_CAPABILITY_VERSION_2, "_LINUX_CAPABILITY_VERSION_2"},
        {_LINUX_CAPABILITY_VERSION_3, "_LINUX_CAPABILITY_VERSION_3"}};
    f.put("{version=");
    f.name(FlagTable{versions, "_LINUX_CAPABILITY_VERSION_???"}, h[0]);
    f.print(", pid={}}}", static_cast<i32>(h[1]));
}

void capability_data(CallFormatter& f, u64 address) {
    u32 version = 0;
    if (f.arg(0) == 0 || !f.read_object(f.arg(0), version)) return f.pointer(address);
    std::array<u32, 6> d{};
    const bool wide_sets = version != _LINUX_CAPABILITY_VERSION_1;
    if (!f.read(address, std::as_writable_bytes(std::span(d)).first(wide_sets ? 24 : 12)))
        return f.pointer(address);
    static constexpr std::string_view names[] = {"{effective=", ", permitted=", ", inheritable="};
    for (size_t i = 0; i < 3; ++i) {
        f.put(names[i]);
        capability_set(f, u64{d[i]} | u64{d[i + 3]} << 32);
    }
    f.put('}');
}

void robust_list_head(CallFormatter& f, u64 address) { word_pointer(f, address); }

void group_list_in(CallFormatter& f, u64 address) {
    f.arg_int(0) < 0 ? f.pointer(address) : ids(f, address, f.arg32(0));
}

void group_list_out(CallFormatter& f, u64 address) {
    // With a size of 0 the call only counts.
    f.arg32(0) == 0 ? f.pointer(address) : ids(f, address, static_cast<u64>(f.result()));
}

void cpu_mask_in(CallFormatter& f, u64 address) { cpu_mask(f, address, f.arg32(1)); }
void cpu_mask_out(CallFormatter& f, u64 address) {
    cpu_mask(f, address, static_cast<u64>(f.result()));
}

// --- calls ---

void sys_execve(CallFormatter& f) {
    if (!f.entering()) return;
    f.print_argument(0);
    f.argument(1);
    argument_vector(f, f.arg(1));
    f.argument(2);
    environment(f, f.arg(2));
    f.finish();
}

void sys_execveat(CallFormatter& f) {
    if (!f.entering()) return;
    f.print_arguments(0, 1);
    f.argument(2);
    argument_vector(f, f.arg(2));
    f.argument(3);
    environment(f, f.arg(3));
    f.print_argument(4);
    f.finish();
}

void sys_clone(CallFormatter& f) {
    const u64 set = f.arg(0);
    const CloneOrder order = clone_order(f);
    const bool tail = (set & (parent_settid | child_tid_flags | set_tls | CLONE_PIDFD)) != 0;
    if (f.entering()) {
        f.argument("child_stack", "void*");
        f.put("child_stack=");
        f.pointer(f.arg(1));
        f.argument("flags", "unsigned long");
        f.put("flags=");
        const u64 signal = set & 0xff;
        const u64 rest = set & ~u64{0xff};
        if (rest != 0) f.flags(FlagTable{flags::clone.entries, {}}, rest);
        if (signal != 0) {
            if (rest != 0) f.put('|');
            f.signal(static_cast<u32>(signal));
        } else if (rest == 0) {
            f.put('0');
        }
        tail ? f.join() : f.finish();
        return;
    }
    if ((set & (parent_settid | CLONE_PIDFD)) != 0) {
        f.argument("parent_tid", "pid_t*");
        f.put("parent_tid=");
        f.failed() || f.arg(2) == 0 ? f.pointer(f.arg(2)) : thread_id(f, f.arg(2));
    }
    if ((set & set_tls) != 0) {
        f.argument("tls", "unsigned long");
        f.put("tls=");
        f.arg(order.tls) == 0 ? f.put("NULL") : tls(f, f.arg(order.tls));
    }
    if ((set & child_tid_flags) != 0) {
        f.argument("child_tidptr", "pid_t*");
        f.put("child_tidptr=");
        f.pointer(f.arg(order.child_tid));
    }
}

void sys_clone3(CallFormatter& f) {
    // flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls; then set_tid,
    // set_tid_size; then cgroup.
    std::array<u64, 11> a{};
    const u64 size = std::min<u64>(f.arg(1), sizeof a);
    const bool readable = f.arg(1) >= 64 && f.arg(0) != 0 &&
                          f.read(f.arg(0), std::as_writable_bytes(std::span(a)).first(size));
    if (f.entering()) {
        f.argument(0);
        if (!readable) {
            f.pointer(f.arg(0));
            f.print_argument(1);
            return f.finish();
        }
        f.put("{flags=");
        f.flags(flags::clone3, a[0]);
        const auto address = [&](std::string_view name, u64 value) {
            f.put(name);
            f.pointer(value);
        };
        if ((a[0] & CLONE_PIDFD) != 0) address(", pidfd=", a[1]);
        if ((a[0] & child_tid_flags) != 0) address(", child_tid=", a[2]);
        if ((a[0] & parent_settid) != 0) address(", parent_tid=", a[3]);
        f.put(", exit_signal=");
        if (a[4] <= ~u32{0})
            f.signal(static_cast<u32>(a[4]));
        else
            f.unsigned_decimal(a[4]);
        address(", stack=", a[5]);
        f.put(", stack_size=");
        f.hex(a[6]);
        if ((a[0] & set_tls) != 0) address(", tls=", a[7]);
        if (size >= 80 && (a[8] != 0 || a[9] != 0)) {
            f.put(", set_tid=");
            f.array(a[8], a[9], 4, [&](std::span<const std::byte> b) { f.decimal(load<i32>(b)); });
            f.print(", set_tid_size={}", a[9]);
        }
        constexpr u64 into_cgroup = 0x200000000;
        if (size >= 88 && (a[10] != 0 || (a[0] & into_cgroup) != 0)) f.print(", cgroup={}", a[10]);
        if (f.arg(1) > sizeof a) f.put(", ...");
        f.put('}');
        // What the kernel fills in can change only one of these.
        if ((a[0] & (CLONE_PIDFD | parent_settid)) == 0) {
            f.print_argument(1);
            f.finish();
        } else {
            f.join();
        }
        return;
    }
    if (!f.call().joined) return;
    if (readable && !f.failed()) {
        const bool pidfd = (a[0] & CLONE_PIDFD) != 0;
        const bool parent = (a[0] & parent_settid) != 0;
        if (pidfd || parent) {
            f.put(" => {");
            if (pidfd) {
                f.put("pidfd=");
                a[1] == 0 ? f.put("NULL") : thread_id(f, a[1]);
            }
            if (parent) {
                f.put(pidfd ? ", parent_tid=" : "parent_tid=");
                a[3] == 0 ? f.put("NULL") : thread_id(f, a[3]);
            }
            f.put('}');
        }
    }
    f.print_argument(1);
}

void sys_wait4(CallFormatter& f) { wait(f, true); }
void sys_waitpid(CallFormatter& f) { wait(f, false); }

void sys_waitid(CallFormatter& f) {
    if (f.entering()) return f.print_arguments(0, 1);
    f.argument(2);
    f.failed() || f.arg(2) == 0 ? f.pointer(f.arg(2)) : signal_info(f, f.arg(2));
    f.print_argument(3);
    f.argument(4);
    f.failed() || f.arg(4) == 0 ? f.pointer(f.arg(4)) : rusage(f, f.arg(4));
}

void sys_futex(CallFormatter& f) {
    if (!f.entering()) return;
    const bool wide_time = std::string_view(f.call().row->name) == "futex_time64";
    futex(f, wide_time ? timespec64 : timespec);
    f.finish();
}

void sys_personality(CallFormatter& f) {
    if (f.entering()) {
        f.argument(0);
        f.arg32(0) == ~u32{0} ? f.put("0xffffffff") : personality(f, f.arg32(0));
        return f.finish();
    }
    if (f.failed()) return;
    f.result_kind(ResultKind::hex);
    f.remark_with([&](CallFormatter& r) { personality(r, static_cast<u32>(f.result())); });
}

void sys_sched_getscheduler(CallFormatter& f) {
    if (f.entering()) {
        f.print_argument(0);
        return f.finish();
    }
    if (f.failed()) return;
    const u64 policy = static_cast<u64>(f.result()) & ~u64{0x40000000}; // SCHED_RESET_ON_FORK
    if (const Flag* flag = find_flag(flags::scheduler, policy)) append(f.remark(), flag->name);
}

void sys_prlimit64(CallFormatter& f) {
    if (f.entering()) {
        f.print_arguments(0, 1);
        f.argument(2);
        f.arg(2) == 0 ? f.put("NULL") : rlimit64(f, f.arg(2));
        return;
    }
    f.argument(3);
    f.failed() || f.arg(3) == 0 ? f.pointer(f.arg(3)) : rlimit64(f, f.arg(3));
}

} // namespace gnomon::trace::decode
