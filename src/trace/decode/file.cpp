// SPDX-License-Identifier: Apache-2.0
/// Files: stat and its kin, opening, fcntl, mounting, quotas.
#include "trace/decode/decoders.h"

#include <array>
#include <fcntl.h>
#include <linux/stat.h>
#include <sys/stat.h>

namespace gnomon::trace::decode {

namespace {

void stat_summary(CallFormatter& f, u32 mode, u64 rdev, u64 size) {
    f.put("{st_mode=");
    f.mode(mode);
    const u32 type = mode & S_IFMT;
    if (type == S_IFCHR || type == S_IFBLK) {
        f.put(", st_rdev=");
        f.device(rdev);
    } else {
        f.print(", st_size={}", size);
    }
    f.put(", ...}");
}

bool wants_mode(u32 open_flags) {
    constexpr u32 tmpfile_bit = 020000000; // O_TMPFILE without O_DIRECTORY
    return (open_flags & (O_CREAT | tmpfile_bit)) != 0;
}

void open_tail(CallFormatter& f, unsigned flags_index) {
    f.argument(flags_index);
    f.open_flags(f.arg32(flags_index));
    if (wants_mode(f.arg32(flags_index))) {
        f.argument("mode", "mode_t");
        f.octal(f.arg32(flags_index + 1) & 0xffff);
    }
    f.finish();
}

void mknod_tail(CallFormatter& f, unsigned mode_index) {
    f.argument(mode_index);
    const u32 mode = f.arg32(mode_index) & 0xffff;
    f.mode(mode);
    const u32 type = mode & S_IFMT;
    if (type == S_IFCHR || type == S_IFBLK) {
        f.argument("dev", "dev_t");
        f.device(f.arg32(mode_index + 1));
    }
    f.finish();
}

void statfs_fields(CallFormatter& f, u64 type, u64 block, std::span<const u64, 5> counts,
                   std::array<u32, 2> id, u64 name_length, u64 fragment, u64 set) {
    f.put("{f_type=");
    f.name(flags::filesystem_magic, type);
    f.print(", f_bsize={}, f_blocks={}, f_bfree={}, f_bavail={}, f_files={}, f_ffree={}", block,
            counts[0], counts[1], counts[2], counts[3], counts[4]);
    f.put(", f_fsid={val=[");
    f.hex(id[0]);
    f.put(", ");
    f.hex(id[1]);
    f.print("]}}, f_namelen={}, f_frsize={}, f_flags=", name_length, fragment);
    f.flags(flags::statfs_flags, set);
    f.put('}');
}

// --- fcntl ---

struct Lock {
    i16 type = 0;
    i16 whence = 0;
    i64 start = 0;
    i64 length = 0;
    i32 pid = 0;
};

bool read_lock(CallFormatter& f, u64 address, bool wide, Lock& lock) {
    std::array<std::byte, 32> raw{};
    // x86-64: l_start at 8; i386's flock: 4; i386's flock64: 4, without padding.
    const bool native = !f.compat();
    const size_t size = native ? 32 : wide ? 24 : 16;
    if (address == 0 || !f.read(address, std::span(raw).first(size))) return false;
    const std::span<const std::byte> b(raw);
    lock.type = load<i16>(b, 0);
    lock.whence = load<i16>(b, 2);
    if (native) {
        lock.start = load<i64>(b, 8);
        lock.length = load<i64>(b, 16);
        lock.pid = load<i32>(b, 24);
    } else if (wide) {
        lock.start = load<i64>(b, 4);
        lock.length = load<i64>(b, 12);
        lock.pid = load<i32>(b, 20);
    } else {
        lock.start = load<i32>(b, 4);
        lock.length = load<i32>(b, 8);
        lock.pid = load<i32>(b, 12);
    }
    return true;
}

void print_lock(CallFormatter& f, u64 address, bool wide, bool with_pid) {
    Lock lock;
    if (!read_lock(f, address, wide, lock)) return f.pointer(address);
    f.put("{l_type=");
    f.name(flags::lock_type, static_cast<u16>(lock.type));
    f.put(", l_whence=");
    f.name(flags::whence, static_cast<u16>(lock.whence));
    f.print(", l_start={}, l_len={}", lock.start, lock.length);
    if (with_pid) f.print(", l_pid={}", lock.pid);
    f.put('}');
}

void owner(CallFormatter& f, u64 address) {
    std::array<i32, 2> o{};
    if (!f.fetch(address, o)) return;
    static constexpr std::string_view types[] = {"F_OWNER_TID", "F_OWNER_PID", "F_OWNER_PGRP"};
    f.put("{type=");
    if (o[0] >= 0 && o[0] < 3)
        f.put(types[o[0]]);
    else
        f.print("{:#x} /* F_OWNER_??? */", static_cast<u32>(o[0]));
    f.print(", pid={}}}", o[1]);
}

constexpr u32 f_getlk64 = 12, f_setlk64 = 13, f_setlkw64 = 14, f_getowner_uids = 17;

void fcntl_enter(CallFormatter& f) {
    f.print_argument(0);
    f.argument(1);
    const u32 command = f.arg32(1);
    f.name(flags::fcntl_command, command);
    const auto third = [&] { f.argument("arg", "unsigned long"); };
    switch (command) {
    case F_GETFD:
    case F_GETFL:
    case F_GETOWN:
    case F_GETSIG:
    case F_GETLEASE:
    case F_GETPIPE_SZ:
    case F_GET_SEALS: return f.finish();
    case 5: // F_GETLK
    case f_getlk64:
    case F_OFD_GETLK:
    case F_GETOWN_EX:
    case f_getowner_uids:
    case F_GET_RW_HINT:
    case F_GET_FILE_RW_HINT: return; // printed when it returns
    case F_SETFD:
        third();
        f.flags(flags::fd_flags, f.arg32(2));
        break;
    case F_SETFL:
        third();
        f.open_flags(f.arg32(2));
        break;
    case 6: // F_SETLK
    case 7: // F_SETLKW
        third();
        print_lock(f, f.arg(2), false, false);
        break;
    case f_setlk64:
    case f_setlkw64:
    case F_OFD_SETLK:
    case F_OFD_SETLKW:
        third();
        print_lock(f, f.arg(2), true, false);
        break;
    case F_SETOWN_EX:
        third();
        owner(f, f.arg(2));
        break;
    case F_SETSIG:
        third();
        f.signal(f.arg32(2));
        break;
    case F_SETLEASE:
        third();
        f.name(flags::lease, f.arg32(2));
        break;
    case F_NOTIFY:
        third();
        f.flags(flags::directory_notify, f.arg32(2));
        break;
    case F_ADD_SEALS:
        third();
        f.flags(flags::seals, f.arg32(2));
        break;
    case F_DUPFD:
    case F_DUPFD_CLOEXEC:
    case F_SETOWN:
    case F_SETPIPE_SZ:
        third();
        f.decimal(f.arg_int(2));
        f.log_number(f.arg_int(2));
        break;
    default:
        third();
        f.hex(f.arg(2));
        break;
    }
    f.finish();
}

void fcntl_exit(CallFormatter& f) {
    const u32 command = f.arg32(1);
    const auto third = [&] { f.argument("arg", "unsigned long"); };
    switch (command) {
    case 5: // F_GETLK
    case f_getlk64:
    case F_OFD_GETLK:
        third();
        f.failed() ? f.pointer(f.arg(2)) : print_lock(f, f.arg(2), command != 5, true);
        break;
    case F_GETOWN_EX:
        third();
        f.failed() ? f.pointer(f.arg(2)) : owner(f, f.arg(2));
        break;
    case f_getowner_uids: {
        third();
        std::array<u32, 2> ids{};
        if (f.failed() || !f.read_object(f.arg(2), ids))
            f.pointer(f.arg(2));
        else
            f.print("[{}, {}]", ids[0], ids[1]);
        break;
    }
    case F_GET_RW_HINT:
    case F_GET_FILE_RW_HINT: {
        third();
        u64 hint = 0;
        if (f.failed() || !f.read_object(f.arg(2), hint))
            f.pointer(f.arg(2));
        else
            f.print("[{}]", hint);
        break;
    }
    default: break;
    }
    if (f.failed()) return;
    const auto value = static_cast<u32>(f.result());
    switch (command) {
    case F_GETFD:
    case F_GETFL:
    case F_GETLEASE:
    case F_GET_SEALS:
    case F_GETSIG: break;
    default: return;
    }
    f.remark_with([&](CallFormatter& remark) {
        switch (command) {
        case F_GETFD:
            if (value == 0) return;
            remark.put("flags ");
            remark.flags(flags::fd_flags, value);
            break;
        case F_GETFL:
            remark.put("flags ");
            remark.open_flags(value);
            break;
        case F_GETLEASE: remark.name(flags::lease, value); break;
        case F_GET_SEALS:
            if (value == 0) return;
            remark.put("seals ");
            remark.flags(flags::seals, value);
            break;
        default:
            if (value != 0) remark.signal(value);
            return;
        }
        f.result_kind(ResultKind::hex);
    });
}

void quota_command(CallFormatter& f, unsigned index) {
    f.argument(index);
    const u32 value = f.arg32(index);
    f.put("QCMD(");
    // The command is the upper 24 bits; the generic ones carry 0x8000 << 8.
    f.name(flags::quota_command, value >> 8);
    f.put(", ");
    f.name(flags::quota_type, value & 0xff);
    f.put(')');
}

void offset64(CallFormatter& f, unsigned low, const char* name) {
    f.argument(name, "loff_t");
    const auto value = static_cast<i64>(wide(f, low));
    f.decimal(value);
    f.log_number(value);
}

} // namespace

// --- structures ---

void stat(CallFormatter& f, u64 address) {
    std::array<std::byte, 144> raw{};
    const std::span<const std::byte> b(raw);
    if (!f.compat()) {
        if (f.fetch(address, raw))
            stat_summary(f, load<u32>(b, 24), load<u64>(b, 40), load<u64>(b, 48));
        return;
    }
    if (f.call().abi == Abi::x32) {
        if (f.fetch(address, raw))
            stat_summary(f, load<u32>(b, 24), load<u64>(b, 40), load<u64>(b, 48));
        return;
    }
    // i386: mode (16 bits) at 8, rdev at 16 (32 bits, of which 16 count), size at 20.
    if (!f.read(address, std::span(raw).first(64))) return f.pointer(address);
    stat_summary(f, load<u16>(b, 8), load<u16>(b, 16), load<u32>(b, 20));
}

void old_stat(CallFormatter& f, u64 address) {
    std::array<std::byte, 32> raw{};
    if (!f.fetch(address, raw)) return;
    const std::span<const std::byte> b(raw);
    stat_summary(f, load<u16>(b, 4), load<u16>(b, 12), load<u32>(b, 16));
}

void stat64(CallFormatter& f, u64 address) {
    std::array<std::byte, 96> raw{};
    if (!f.fetch(address, raw)) return;
    const std::span<const std::byte> b(raw);
    // mode at 16, rdev at 32, size at 44 (i386 aligns 64-bit members to 4).
    stat_summary(f, load<u32>(b, 16), load<u64>(b, 32), load<u64>(b, 44));
}

void statx(CallFormatter& f, u64 address) {
    struct ::statx s {};
    if (!f.fetch(address, s)) return;
    f.put("{stx_mask=");
    f.flags(flags::statx_mask, s.stx_mask);
    f.put(", stx_attributes=");
    f.flags(flags::statx_attributes, s.stx_attributes);
    f.put(", stx_mode=");
    f.mode(s.stx_mode);
    const u32 type = s.stx_mode & S_IFMT;
    if (type == S_IFCHR || type == S_IFBLK) {
        f.put(", stx_rdev_major=");
        f.unsigned_decimal(s.stx_rdev_major);
        f.put(", stx_rdev_minor=");
        f.unsigned_decimal(s.stx_rdev_minor);
    }
    f.print(", stx_size={}", s.stx_size);
    f.put(", ...}");
}

void statfs(CallFormatter& f, u64 address) {
    if (!f.compat()) {
        std::array<u64, 11>
            w{}; // type bsize blocks bfree bavail files ffree fsid namelen frsize flags
        if (!f.fetch(address, w)) return;
        const std::array<u64, 5> counts{w[2], w[3], w[4], w[5], w[6]};
        return statfs_fields(f, w[0], w[1], counts,
                             {static_cast<u32>(w[7]), static_cast<u32>(w[7] >> 32)}, w[8], w[9],
                             w[10]);
    }
    std::array<u32, 12> w{};
    if (!f.fetch(address, w)) return;
    const std::array<u64, 5> counts{w[2], w[3], w[4], w[5], w[6]};
    statfs_fields(f, w[0], w[1], counts, {w[7], w[8]}, w[9], w[10], w[11]);
}

void statfs64(CallFormatter& f, u64 address) {
    std::array<std::byte, 68> raw{}; // without the spare words
    if (!f.fetch(address, raw)) return;
    const std::span<const std::byte> b(raw);
    const std::array<u64, 5> counts{load<u64>(b, 8), load<u64>(b, 16), load<u64>(b, 24),
                                    load<u64>(b, 32), load<u64>(b, 40)};
    statfs_fields(f, load<u32>(b, 0), load<u32>(b, 4), counts, {load<u32>(b, 48), load<u32>(b, 52)},
                  load<u32>(b, 56), load<u32>(b, 60), load<u32>(b, 64));
}

void int_pair(CallFormatter& f, u64 address) {
    std::array<i32, 2> p{};
    if (f.fetch(address, p)) f.print("[{}, {}]", p[0], p[1]);
}

void file_offset(CallFormatter& f, u64 address) {
    i64 offset = 0;
    if (f.fetch(address, offset)) f.print("[{}]", offset);
}

void word_offset(CallFormatter& f, u64 address) {
    u64 offset = 0;
    if (f.fetch_words(address, std::span(&offset, 1))) f.print("[{}]", f.as_signed(offset));
}

void mount_data(CallFormatter& f, u64 address) { f.c_string(address, f.string_limit()); }

void string_list(CallFormatter& f, u64 address) {
    f.bytes(address, f.result() > 0 ? static_cast<u64>(f.result()) : 0);
}

// --- calls ---

void sys_open(CallFormatter& f) {
    if (!f.entering()) return;
    f.print_argument(0);
    open_tail(f, 1);
}

void sys_openat(CallFormatter& f) {
    if (!f.entering()) return;
    f.print_arguments(0, 1);
    open_tail(f, 2);
}

void sys_openat2(CallFormatter& f) {
    if (!f.entering()) return;
    f.print_arguments(0, 1);
    f.argument(2);
    f.arg(2) == 0 ? f.put("NULL") : open_how(f, f.arg(2));
    f.print_argument(3);
    f.finish();
}

void open_how(CallFormatter& f, u64 address) {
    std::array<u64, 3> how{};
    if (f.arg(3) < sizeof how) return f.pointer(address);
    if (!f.fetch(address, how)) return;
    f.put("{flags=");
    f.open_flags(static_cast<u32>(how[0]));
    if (const u64 high = how[0] >> 32 << 32; high != 0) {
        f.put('|');
        f.hex(high);
    }
    if (wants_mode(static_cast<u32>(how[0])) || how[1] != 0) {
        f.put(", mode=");
        f.octal(how[1]);
    }
    f.put(", resolve=");
    f.flags(flags::resolve, how[2]);
    if (f.arg(3) > sizeof how) f.put(", ...");
    f.put('}');
}

void sys_mknod(CallFormatter& f) {
    if (!f.entering()) return;
    f.print_argument(0);
    mknod_tail(f, 1);
}

void sys_mknodat(CallFormatter& f) {
    if (!f.entering()) return;
    f.print_arguments(0, 1);
    mknod_tail(f, 2);
}

void sys_fcntl(CallFormatter& f) { f.entering() ? fcntl_enter(f) : fcntl_exit(f); }

void sys_statx(CallFormatter& f) {
    if (f.entering()) {
        f.print_arguments(0, 1);
        f.argument(2);
        const u32 value = f.arg32(2);
        constexpr u32 sync = 0x6000;
        f.flags(FlagTable{flags::at_statx.entries, {}}, value & sync);
        if ((value & ~sync) != 0) {
            f.put('|');
            f.flags(FlagTable{flags::at.entries, {}}, value & ~sync);
        }
        f.print_argument(3);
        return;
    }
    f.print_argument(4);
}

void sys_getdents(CallFormatter& f) {
    if (f.entering()) return f.print_argument(0);
    f.argument(1);
    f.pointer(f.arg(1));
    if (!f.failed()) {
        // Walk the records by d_reclen: at 16 in linux_dirent64, after two words in linux_dirent.
        const bool wide_entries = std::string_view(f.call().row->name) == "getdents64";
        const u64 length_at = wide_entries ? 16 : 2 * f.word_size();
        const auto total = static_cast<u64>(f.result());
        u64 offset = 0;
        u64 count = 0;
        // A record is never shorter than its header; no C library reads more than 1 MiB at once.
        constexpr u64 limit = u64{1} << 20;
        while (offset < total && offset < limit) {
            u16 length = 0;
            if (!f.read_object(f.arg(1) + offset + length_at, length) || length < length_at + 3)
                break;
            ++count;
            offset += length;
        }
        f.print(" /* {} entries */", count);
    }
    f.print_argument(2);
}

void sys_lseek32(CallFormatter& f) {
    if (!f.entering()) return;
    f.print_arguments(0, 2);
    f.finish();
}

void sys_llseek(CallFormatter& f) {
    if (f.entering()) {
        f.print_argument(0);
        f.argument("offset", "loff_t");
        const auto offset = static_cast<i64>(u64{f.arg32(1)} << 32 | f.arg32(2));
        f.decimal(offset);
        f.log_number(offset);
        return;
    }
    f.argument(3);
    f.failed() || f.arg(3) == 0 ? f.pointer(f.arg(3)) : file_offset(f, f.arg(3));
    f.print_argument(4);
}

void sys_sendfile(CallFormatter& f) {
    const StructPrinter printer = f.call().row->args[2].printer;
    if (f.entering()) {
        f.print_arguments(0, 1);
        f.argument(2);
        if (f.arg(2) == 0) {
            f.put("NULL");
        } else {
            printer(f, f.arg(2));
            return f.join();
        }
        f.print_argument(3);
        return f.finish();
    }
    if (f.arg(2) != 0) {
        if (!f.failed() && f.result() != 0) {
            f.put(" => ");
            printer(f, f.arg(2));
        }
        f.print_argument(3);
    }
}

void sys_mount(CallFormatter& f) {
    if (!f.entering()) return;
    constexpr u64 magic = 0xC0ED0000;
    constexpr u64 magic_mask = 0xffff0000;
    constexpr u64 remount = 32, bind = 4096, move = 8192;
    constexpr u64 propagation = (1 << 17) | (1 << 18) | (1 << 19) | (1 << 20);
    u64 set = f.arg(3);
    const bool old_magic = (set & magic_mask) == magic;
    if (old_magic) set &= ~magic_mask;
    const bool no_type = (set & (remount | bind | move | propagation)) != 0;
    f.print_arguments(0, 1);
    f.argument(2);
    no_type&& f.arg(2) != 0 ? f.pointer(f.arg(2)) : f.c_string(f.arg(2), f.string_limit());
    f.argument(3);
    if (old_magic) {
        f.put("MS_MGC_VAL");
        if (set != 0) f.put('|');
    }
    if (set != 0 || !old_magic) f.flags(FlagTable{flags::mount.entries, "MS_???"}, set);
    f.argument(4);
    const bool no_data = (set & (bind | move | propagation)) != 0 && (set & remount) == 0;
    no_data || f.arg(4) == 0 ? f.pointer(f.arg(4)) : mount_data(f, f.arg(4));
    f.finish();
}

void sys_umask(CallFormatter& f) {
    if (f.entering()) {
        f.print_argument(0);
        return f.finish();
    }
    f.result_kind(ResultKind::octal);
}

void sys_ustat(CallFormatter& f) {
    if (f.entering()) return f.print_argument(0);
    f.argument(1);
    std::array<u64, 2> w{};
    if (f.failed() || f.arg(1) == 0 || !f.read_words(f.arg(1), w)) return f.pointer(f.arg(1));
    f.print("{{f_tfree={}, f_tinode={}}}", static_cast<i32>(w[0]), w[1]);
}

void sys_fanotify_init(CallFormatter& f) {
    if (!f.entering()) return;
    f.argument(0);
    const u32 value = f.arg32(0);
    f.name(flags::fanotify_init_class, value & 0xc);
    if ((value & ~u32{0xc}) != 0) {
        f.put('|');
        f.flags(FlagTable{flags::fanotify_init.entries, {}}, value & ~u32{0xc});
    }
    f.argument(1);
    f.open_flags(f.arg32(1));
    f.finish();
}

void sys_fanotify_mark(CallFormatter& f) {
    if (!f.entering()) return;
    f.print_arguments(0, 1);
    // The mask has 64 bits: two registers of i386.
    const bool split = f.call().abi == Abi::i386;
    f.argument(2);
    f.flags(flags::fanotify_mask, split ? wide(f, 2) : f.arg(2));
    const unsigned next = split ? 4 : 3;
    f.argument("dirfd", "int");
    f.arg_int(next) == -1 ? f.put("FAN_NOFD") : f.dirfd(f.arg_int(next));
    f.argument("pathname", "const char*");
    f.path(f.arg(next + 1));
    f.finish();
}

void sys_getcwd(CallFormatter& f) {
    if (f.entering()) return;
    f.argument(0);
    f.failed() ? f.pointer(f.arg(0)) : f.path(f.arg(0));
    f.print_argument(1);
}

void sys_memfd_create(CallFormatter& f) {
    if (!f.entering()) return;
    f.argument(0);
    // The kernel takes 249 bytes of the name.
    f.c_string(f.arg(0), 249);
    f.argument(1);
    const u32 value = f.arg32(1);
    constexpr u32 hugetlb = 4;
    constexpr unsigned shift = 26;
    const u32 huge = (value & hugetlb) != 0 ? value >> shift : 0;
    f.flags(flags::memfd, huge != 0 ? value & ((1U << shift) - 1) : value);
    if (huge != 0) f.print("|{}<<MFD_HUGE_SHIFT", huge);
    f.finish();
}

void sys_swapon(CallFormatter& f) {
    if (!f.entering()) return;
    f.print_argument(0);
    f.argument(1);
    constexpr u32 priority_mask = 0x7fff;
    const u32 value = f.arg32(1);
    if ((value & ~priority_mask) != 0) {
        f.flags(flags::swap, value & ~priority_mask);
        f.put('|');
    }
    f.unsigned_decimal(value & priority_mask);
    f.finish();
}

void sys_quotactl(CallFormatter& f) {
    if (!f.entering()) return;
    quota_command(f, 0);
    f.print_arguments(1, 3);
    f.finish();
}

void sys_quotactl_fd(CallFormatter& f) {
    if (!f.entering()) return;
    f.print_argument(0);
    quota_command(f, 1);
    f.print_arguments(2, 3);
    f.finish();
}

void sys_mq_open(CallFormatter& f) {
    if (!f.entering()) return;
    f.print_argument(0);
    f.argument(1);
    f.open_flags(f.arg32(1));
    if ((f.arg32(1) & O_CREAT) != 0) {
        f.argument("mode", "mode_t");
        f.octal(f.arg32(2) & 0xffff);
        f.argument("attr", "struct mq_attr*");
        std::array<u64, 4> w{};
        if (f.fetch_words(f.arg(3), w)) {
            f.put("{mq_flags=");
            f.flags(FlagTable{flags::open_other.entries, "O_???"}, w[0]);
            f.print(", mq_maxmsg={}, mq_msgsize={}, mq_curmsgs={}}}", f.as_signed(w[1]),
                    f.as_signed(w[2]), f.as_signed(w[3]));
        }
    }
    f.finish();
}

// i386 passes a 64-bit argument in two registers, low first.

void sys_pread_compat(CallFormatter& f) {
    if (f.entering()) return f.print_argument(0);
    f.print_arguments(1, 2);
    offset64(f, 3, "offset");
}

void sys_pwrite_compat(CallFormatter& f) {
    if (!f.entering()) return;
    f.print_arguments(0, 2);
    offset64(f, 3, "offset");
    f.finish();
}

void sys_truncate64(CallFormatter& f) {
    if (!f.entering()) return;
    f.print_argument(0);
    offset64(f, 1, "length");
    f.finish();
}

void sys_ftruncate64(CallFormatter& f) { sys_truncate64(f); }

void sys_readahead_compat(CallFormatter& f) {
    if (!f.entering()) return;
    f.print_argument(0);
    offset64(f, 1, "offset");
    f.argument("count", "size_t");
    f.unsigned_decimal(f.arg(3));
    f.finish();
}

void sys_fadvise64_compat(CallFormatter& f) {
    if (!f.entering()) return;
    f.print_argument(0);
    offset64(f, 1, "offset");
    f.argument("len", "size_t");
    f.unsigned_decimal(f.arg(3));
    f.argument("advice", "int");
    f.name(flags::fadvise, f.arg32(4));
    f.finish();
}

void sys_fadvise64_64(CallFormatter& f) {
    if (!f.entering()) return;
    f.print_argument(0);
    offset64(f, 1, "offset");
    offset64(f, 3, "len");
    f.argument("advice", "int");
    f.name(flags::fadvise, f.arg32(5));
    f.finish();
}

void sys_sync_file_range_compat(CallFormatter& f) {
    if (!f.entering()) return;
    f.print_argument(0);
    offset64(f, 1, "offset");
    offset64(f, 3, "nbytes");
    f.argument("flags", "unsigned int");
    f.flags(flags::sync_range, f.arg32(5));
    f.finish();
}

void sys_fallocate_compat(CallFormatter& f) {
    if (!f.entering()) return;
    f.print_arguments(0, 1);
    offset64(f, 2, "offset");
    offset64(f, 4, "len");
    f.finish();
}

void sys_statfs64(CallFormatter& f) {
    if (f.entering()) return f.print_arguments(0, 1);
    f.argument(2);
    f.failed() || f.arg(2) == 0 ? f.pointer(f.arg(2)) : statfs64(f, f.arg(2));
}

void sys_lookup_dcookie_compat(CallFormatter& f) {
    if (f.entering()) {
        f.argument("cookie", "u64");
        f.unsigned_decimal(wide(f, 0));
        return;
    }
    f.argument("buffer", "char*");
    f.failed() ? f.pointer(f.arg(2)) : f.bytes(f.arg(2), static_cast<u64>(f.result()));
    f.argument("len", "size_t");
    f.unsigned_decimal(f.arg(3));
}

} // namespace gnomon::trace::decode
