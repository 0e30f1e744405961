// SPDX-License-Identifier: Apache-2.0
/// @file What is known of each system call: its name in each numbering, and its arguments as data.
#pragma once

#include "trace/event.h"
#include "trace/names/flags.h"

#include <array>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace gnomon::trace {

class CallFormatter;

/// How an argument is printed. "out" kinds are printed when the call returns.
enum class ArgKind : u8 {
    decimal,          ///< int
    unsigned_decimal, ///< unsigned int
    long_decimal,     ///< long
    size,             ///< unsigned long or size_t
    hex,              ///< unsigned long, %#lx
    octal,            ///< umode_t permission bits
    pointer,          ///< NULL or %#lx
    fd,               ///< int
    dirfd,            ///< int or AT_FDCWD
    pid,              ///< int
    uid,              ///< uid_t; -1 stays -1
    uid16,            ///< 16-bit uid of old i386 calls
    signal,           ///< SIGINT
    key,              ///< key_serial_t, or KEY_SPEC_*
    device,           ///< makedev(0x8, 0x1)
    mode,             ///< S_IFCHR|0600
    path,             ///< NUL-terminated, never cut
    string,           ///< NUL-terminated, cut at the string limit
    buffer,           ///< bytes; length in argument `other`
    buffer_out,       ///< bytes that the call filled; length is the result
    hex_buffer_out,   ///< the same, as \x41
    string_out,       ///< NUL-terminated text that the call filled
    flags,            ///< 32-bit set of `table`
    open_flags,       ///< O_RDONLY|O_CLOEXEC
    flags_long,       ///< word-sized set of `table`
    name,             ///< 32-bit value of `table`
    in,               ///< structure behind a pointer, read when the call is made
    out,              ///< structure behind a pointer, read when it succeeded
    in_out,           ///< read when it returns, whether it failed or not
};

/// Prints what is behind an address that is not 0, or the address if it cannot be read.
using StructPrinter = void (*)(CallFormatter&, u64 address);

struct ArgSpec {
    const char* name = "";
    ArgKind kind = ArgKind::hex;
    u8 other = 0;
    const FlagTable* table = nullptr;
    StructPrinter printer = nullptr;
};

/// How a successful result is printed.
enum class ResultKind : u8 { decimal, hex, octal, never };

/// strace's classes for -e trace=%class.
enum SyscallClass : u32 {
    class_file = 1 << 0,
    class_desc = 1 << 1,
    class_process = 1 << 2,
    class_network = 1 << 3,
    class_signal = 1 << 4,
    class_ipc = 1 << 5,
    class_memory = 1 << 6,
    class_stat = 1 << 7,
    class_lstat = 1 << 8,
    class_fstat = 1 << 9,
    class_stat_like = 1 << 10,
    class_statfs = 1 << 11,
    class_fstatfs = 1 << 12,
    class_statfs_like = 1 << 13,
    class_creds = 1 << 14,
    class_clock = 1 << 15,
    class_pure = 1 << 16,
};

/// Prints all arguments of a call whose form depends on their values. Called when the call is made
/// and again when it returns (CallFormatter::entering tells which).
using CallPrinter = void (*)(CallFormatter&);

struct SyscallRow {
    const char* name = "";
    u8 arity = 0;
    ResultKind result = ResultKind::decimal;
    CallPrinter custom = nullptr;
    std::array<ArgSpec, 6> args{};
};

/// Both numberings, resolved by name with libseccomp once, at first use. Immutable; any thread.
class SyscallTable {
public:
    static constexpr size_t max_number = 512;

    struct Entry {
        std::string name;                ///< "openat"; "syscall_0x1bd" if unknown
        const SyscallRow* row = nullptr; ///< nullptr if unknown: six hex numbers
        u32 classes = 0;
    };

    [[nodiscard]] static const SyscallTable& get();

    /// The entry of a number, or nullptr beyond the table. The x32 bit is ignored.
    [[nodiscard]] const Entry* find(Abi abi, u64 number) const;
    /// All entries of an ABI, indexed by number.
    [[nodiscard]] std::span<const Entry> entries(Abi abi) const;

private:
    SyscallTable();

    std::vector<Entry> m_x86_64;
    std::vector<Entry> m_i386;
    std::vector<Entry> m_x32; ///< numbers from 512
};

/// The row of a name, nullptr if there is none. i386 has rows of its own where its arguments
/// differ.
[[nodiscard]] const SyscallRow* find_row(Abi abi, std::string_view name);

/// The row of an operation of i386's socketcall (1 is socket ... 20 is sendmmsg), or nullptr.
[[nodiscard]] const SyscallRow* socketcall_row(u64 operation);

/// i386's multiplexers, and the calls behind them.
struct Multiplexed {
    std::string_view name;
    bool ipc;      ///< behind ipc, not socketcall
    u32 operation; ///< the first argument
    std::array<u8, 5>
        from{}; ///< ipc only: which of its arguments are the call's own; 0xff ends them
};
[[nodiscard]] std::span<const Multiplexed> multiplexed_calls();

/// strace's classes of a name.
[[nodiscard]] u32 classes_of(std::string_view name);

} // namespace gnomon::trace
