// SPDX-License-Identifier: Apache-2.0
/// Memory mappings, NUMA policies and System V IPC.
#include "trace/decode/decoders.h"

namespace gnomon::trace::decode {

namespace {

constexpr u32 huge_shift = 26;
constexpr u32 huge_mask = 0x3fU << huge_shift;

void map_flags(CallFormatter& f, u64 value) {
    const auto low = static_cast<u32>(value);
    f.name(flags::mmap_type, low & 0xf);
    u32 rest = low & ~u32{0xf};
    // With MAP_HUGETLB the top bits are the logarithm of the page size.
    const u32 huge = (rest & 0x40000) != 0 ? rest & huge_mask : 0;
    rest &= ~huge;
    if (rest != 0) {
        f.put('|');
        f.flags(FlagTable{flags::mmap_flags.entries, {}}, rest);
    }
    if (huge != 0) f.print("|{}<<MAP_HUGE_SHIFT", huge >> huge_shift);
}

void map_arguments(CallFormatter& f, std::span<const u64, 6> a, u64 offset) {
    f.argument(0);
    f.pointer(a[0]);
    f.argument(1);
    f.unsigned_decimal(a[1]);
    f.log_number(static_cast<i64>(a[1]));
    f.argument(2);
    f.flags(flags::mmap_protection, a[2]);
    f.argument(3);
    map_flags(f, a[3]);
    f.argument(4);
    f.decimal(static_cast<i32>(a[4]));
    f.log_number(static_cast<i32>(a[4]));
    f.argument(5);
    f.hex(offset);
    f.finish();
}

/// The permission bits of shmget and its kin are octal; the rest is a set.
void ipc_flags(CallFormatter& f, const FlagTable& table, u32 value, bool huge) {
    const u32 size = huge && (value & 04000) != 0 ? value & huge_mask : 0;
    const u32 rest = value & ~u32{0777} & ~size;
    if (rest != 0) {
        f.flags(FlagTable{table.entries, {}}, rest);
        f.put('|');
    }
    if (size != 0) f.print("{}<<SHM_HUGE_SHIFT|", size >> huge_shift);
    f.octal(value & 0777);
}

void ipc_key(CallFormatter& f, unsigned index) {
    f.argument(index);
    f.arg32(index) == 0 ? f.put("IPC_PRIVATE") : f.hex(f.arg32(index));
}

/// Node masks are printed as an address: their meaning needs the guest's topology.
void mempolicy_mode(CallFormatter& f, u32 value) {
    constexpr u32 mode_flags = 0xe000;
    const u32 set = value & mode_flags;
    if (set != 0) {
        f.flags(flags::mempolicy_mode_flags, set);
        const u32 rest = value & ~mode_flags;
        if (rest == 0) return;
        f.put('|');
        if (const Flag* mode = find_flag(flags::mempolicy_mode, rest))
            f.put(mode->name);
        else
            f.hex(rest);
        return;
    }
    f.name(flags::mempolicy_mode, value);
}

/// struct msgbuf: the type, a word, and the text.
void message_buffer(CallFormatter& f, u64 address, u64 size) {
    const std::optional<u64> type = address == 0 ? std::nullopt : f.read_word(address);
    if (!type) return f.pointer(address);
    f.print("{{mtype={}, mtext=", f.as_signed(*type));
    f.bytes(address + f.word_size(), size);
    f.put('}');
}

/// struct ipc64_perm: key, uid, gid, cuid, cgid, mode; 48 bytes in all.
void ipc_permissions(CallFormatter& f, std::span<const std::byte> b) {
    f.put("uid=");
    f.id(load<u32>(b, 4));
    f.put(", gid=");
    f.id(load<u32>(b, 8));
    f.put(", mode=");
    f.octal(load<u32>(b, 20));
    f.print(", key={}, cuid=", load<u32>(b, 0));
    f.id(load<u32>(b, 12));
    f.put(", cgid=");
    f.id(load<u32>(b, 16));
}

/// struct shmid64_ds of x86-64.
void shared_memory_status(CallFormatter& f, u64 address) {
    std::array<std::byte, 96> raw{};
    if (!f.fetch(address, raw)) return;
    const std::span<const std::byte> b(raw);
    f.put("{shm_perm={");
    ipc_permissions(f, b);
    f.print(
        "}}, shm_segsz={}, shm_cpid={}, shm_lpid={}, shm_nattch={}, shm_atime={}, shm_dtime={}, "
        "shm_ctime={}}}",
        load<u64>(b, 48), load<i32>(b, 80), load<i32>(b, 84), load<u64>(b, 88), load<u64>(b, 56),
        load<u64>(b, 64), load<u64>(b, 72));
}

/// struct msqid64_ds of x86-64.
void message_queue_status(CallFormatter& f, u64 address) {
    std::array<std::byte, 104> raw{};
    if (!f.fetch(address, raw)) return;
    const std::span<const std::byte> b(raw);
    f.put("{msg_perm={");
    ipc_permissions(f, b);
    f.print("}}, msg_stime={}, msg_rtime={}, msg_ctime={}, msg_qnum={}, msg_qbytes={}, "
            "msg_lspid={}, msg_lrpid={}}}",
            load<u64>(b, 48), load<u64>(b, 56), load<u64>(b, 64), load<u64>(b, 80),
            load<u64>(b, 88), load<i32>(b, 96), load<i32>(b, 100));
}

} // namespace

void sys_mmap(CallFormatter& f) {
    if (f.entering()) map_arguments(f, f.call().args, f.arg(5));
}

void sys_mmap2(CallFormatter& f) {
    // The last argument counts 4 KiB pages.
    if (f.entering()) map_arguments(f, f.call().args, f.arg(5) << page_shift);
}

void sys_old_mmap(CallFormatter& f) {
    if (!f.entering()) return;
    std::array<u64, 6> a{};
    if (f.arg(0) != 0 && f.read_words(f.arg(0), a)) return map_arguments(f, a, a[5]);
    f.argument(0);
    f.pointer(f.arg(0));
    f.finish();
}

void sys_mremap(CallFormatter& f) {
    if (!f.entering()) return;
    f.print_arguments(0, 3);
    constexpr u32 fixed = 2;
    if ((f.arg32(3) & fixed) != 0) f.print_argument(4);
    f.finish();
}

void sys_remap_file_pages(CallFormatter& f) {
    if (!f.entering()) return;
    f.print_arguments(0, 3);
    f.argument(4);
    map_flags(f, f.arg(4));
    f.finish();
}

void sys_mincore(CallFormatter& f) {
    if (f.entering()) return f.print_arguments(0, 1);
    f.argument(2);
    const u64 address = f.arg(2);
    const u64 length = f.arg(1);
    if (f.failed() || address == 0) return f.pointer(address);
    const u64 pages = length / page_size + (length % page_size != 0);
    f.array(address, pages, 1,
            [&](std::span<const std::byte> b) { f.put((load<u8>(b) & 1) != 0 ? '1' : '0'); });
}

void sys_mbind(CallFormatter& f) {
    if (!f.entering()) return;
    f.print_arguments(0, 1);
    f.argument(2);
    f.arg(2) >> 32 == 0 ? mempolicy_mode(f, f.arg32(2))
                        : f.flags(flags::mempolicy_mode_flags, f.arg(2));
    f.print_arguments(3, 5);
    f.finish();
}

void sys_set_mempolicy(CallFormatter& f) {
    if (!f.entering()) return;
    f.argument(0);
    mempolicy_mode(f, f.arg32(0));
    f.print_arguments(1, 2);
    f.finish();
}

void sys_shmget(CallFormatter& f) {
    if (!f.entering()) return;
    ipc_key(f, 0);
    f.print_argument(1);
    f.argument(2);
    ipc_flags(f, flags::shm_get, f.arg32(2), true);
    f.finish();
}

/// msgget(key, flags) and semget(key, count, flags).
void sys_ipc_get(CallFormatter& f) {
    if (!f.entering()) return;
    ipc_key(f, 0);
    const unsigned last = f.call().row->arity - 1u;
    if (last == 2) f.print_argument(1);
    f.argument(last);
    ipc_flags(f, flags::ipc_get, f.arg32(last), false);
    f.finish();
}

void sys_shmat(CallFormatter& f) {
    if (!f.entering()) return;
    f.print_arguments(0, 2);
    f.finish();
}

/// shmctl, msgctl, semctl: the command is the last but one argument; bit 8 is IPC_64.
void sys_ipc_control(CallFormatter& f) {
    if (f.entering()) {
        const unsigned last = f.call().row->arity - 1u;
        f.print_arguments(0, last - 2);
        f.argument(last - 1);
        u32 command = f.arg32(last - 1);
        if ((command & 0x100) != 0) f.put("IPC_64|");
        command &= ~u32{0x100};
        f.name(*f.call().row->args[last - 1].table, command);
        return;
    }
    const unsigned last = f.call().row->arity - 1u;
    f.argument(last);
    constexpr u32 ipc_stat = 2;
    const std::string_view name = f.call().row->name;
    const bool stat =
        !f.failed() && !f.compat() && f.arg(last) != 0 && f.arg32(last - 1) == ipc_stat;
    if (stat && name == "shmctl") return shared_memory_status(f, f.arg(last));
    if (stat && name == "msgctl") return message_queue_status(f, f.arg(last));
    f.pointer(f.arg(last));
}

void sys_msgsnd(CallFormatter& f) {
    if (!f.entering()) return;
    f.print_argument(0);
    f.argument(1);
    message_buffer(f, f.arg(1), f.arg(2));
    f.print_arguments(2, 3);
    f.finish();
}

void sys_msgrcv(CallFormatter& f) {
    if (f.entering()) return f.print_argument(0);
    f.argument(1);
    f.failed() ? f.pointer(f.arg(1)) : message_buffer(f, f.arg(1), f.arg(2));
    f.print_arguments(2, 4);
}

/// semop's array; the count is in argument 2.
void semaphore_operations(CallFormatter& f, u64 address) {
    struct Operation {
        u16 number;
        i16 operation;
        i16 flags;
    };
    static constexpr Flag names[] = {{0x1000, "SEM_UNDO"}, {04000, "IPC_NOWAIT"}};
    f.array(address, f.arg32(2), sizeof(Operation), [&](std::span<const std::byte> b) {
        const auto one = load<Operation>(b);
        f.print("{{sem_num={}, sem_op={}, sem_flg=", one.number, one.operation);
        f.flags(FlagTable{names, "SEM_???"}, static_cast<u16>(one.flags));
        f.put('}');
    });
}

/// i386's multiplexer: the low half is the operation, the high half its version.
void sys_ipc(CallFormatter& f) {
    if (!f.entering()) return;
    static constexpr std::string_view operations[25] = {
        {}, "SEMOP", "SEMGET", "SEMCTL", "SEMTIMEDOP", {},       {},      {}, {},
        {}, {},      "MSGSND", "MSGRCV", "MSGGET",     "MSGCTL", {},      {}, {},
        {}, {},      {},       "SHMAT",  "SHMDT",      "SHMGET", "SHMCTL"};
    f.argument(0);
    const u32 value = f.arg32(0);
    if (value >> 16 != 0) f.print("{}<<16|", value >> 16);
    const u32 operation = value & 0xffff;
    if (operation < std::size(operations) && !operations[operation].empty())
        f.put(operations[operation]);
    else
        f.unsigned_decimal(operation);
    f.print_arguments(1, 5);
    f.finish();
}

} // namespace gnomon::trace::decode
