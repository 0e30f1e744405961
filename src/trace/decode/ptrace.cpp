// SPDX-License-Identifier: Apache-2.0
/// ptrace.
#include "trace/decode/decoders.h"

#include <algorithm>
#include <iterator>
#include <linux/elf.h>
#include <linux/ptrace.h>

namespace gnomon::trace::decode {

namespace {

// Linux names these only for the kernel itself, as PTRACE_PEEKUSR and PTRACE_POKEUSR.
constexpr u32 peekuser = 3, pokeuser = 6, getregs = 12, setregs = 13, getfpregs = 14,
              setfpregs = 15, oldsetoptions = 21, sysemu = 31, sysemu_singlestep = 32,
              singleblock = 33;

struct UserMember {
    u64 offset;
    std::string_view name;
};
/// x86-64's struct user (sys/user.h). strace knows no word between SS and u_fpvalid.
constexpr UserMember user_members[] = {
    {0, "8*R15"},
    {8, "8*R14"},
    {16, "8*R13"},
    {24, "8*R12"},
    {32, "8*RBP"},
    {40, "8*RBX"},
    {48, "8*R11"},
    {56, "8*R10"},
    {64, "8*R9"},
    {72, "8*R8"},
    {80, "8*RAX"},
    {88, "8*RCX"},
    {96, "8*RDX"},
    {104, "8*RSI"},
    {112, "8*RDI"},
    {120, "8*ORIG_RAX"},
    {128, "8*RIP"},
    {136, "8*CS"},
    {144, "8*EFL"},
    {152, "8*RSP"},
    {160, "8*SS"},
    {216, "offsetof(struct user, u_fpvalid)"},
    {224, "offsetof(struct user, i387)"},
    {736, "offsetof(struct user, u_tsize)"},
    {744, "offsetof(struct user, u_dsize)"},
    {752, "offsetof(struct user, u_ssize)"},
    {760, "offsetof(struct user, start_code)"},
    {768, "offsetof(struct user, start_stack)"},
    {776, "offsetof(struct user, signal)"},
    {784, "offsetof(struct user, reserved)"},
    {792, "offsetof(struct user, u_ar0)"},
    {800, "offsetof(struct user, u_fpstate)"},
    {808, "offsetof(struct user, magic)"},
    {816, "offsetof(struct user, u_comm)"},
    {848, "offsetof(struct user, u_debugreg)"},
    {912, "sizeof(struct user)"},
};

void user_offset(CallFormatter& f, u64 offset) {
    if (f.compat() || offset > std::rbegin(user_members)->offset) return f.pointer(offset);
    const auto* after =
        std::upper_bound(std::begin(user_members), std::end(user_members), offset,
                         [](u64 value, const UserMember& member) { return value < member.offset; });
    const UserMember& member = *std::prev(after);
    f.put(member.name);
    if (offset != member.offset) f.print("+{}", offset - member.offset);
}

constexpr Flag options[] = {{PTRACE_O_TRACESYSGOOD, "PTRACE_O_TRACESYSGOOD"},
                            {PTRACE_O_TRACEFORK, "PTRACE_O_TRACEFORK"},
                            {PTRACE_O_TRACEVFORK, "PTRACE_O_TRACEVFORK"},
                            {PTRACE_O_TRACECLONE, "PTRACE_O_TRACECLONE"},
                            {PTRACE_O_TRACEEXEC, "PTRACE_O_TRACEEXEC"},
                            {PTRACE_O_TRACEVFORKDONE, "PTRACE_O_TRACEVFORKDONE"},
                            {PTRACE_O_TRACEEXIT, "PTRACE_O_TRACEEXIT"},
                            {PTRACE_O_TRACESECCOMP, "PTRACE_O_TRACESECCOMP"},
                            {PTRACE_O_EXITKILL, "PTRACE_O_EXITKILL"},
                            {PTRACE_O_SUSPEND_SECCOMP, "PTRACE_O_SUSPEND_SECCOMP"}};
constexpr Flag register_sets[] = {{NT_PRSTATUS, "NT_PRSTATUS"},
                                  {NT_PRFPREG, "NT_FPREGSET"},
                                  {NT_386_TLS, "NT_386_TLS"},
                                  {NT_386_IOPERM, "NT_386_IOPERM"},
                                  {NT_X86_XSTATE, "NT_X86_XSTATE"}};

/// The third argument: where in the tracee, or how much.
void print_address(CallFormatter& f, u32 request) {
    f.argument(2);
    switch (request) {
    case peekuser:
    case pokeuser: return user_offset(f, f.arg(2));
    case PTRACE_GETREGSET:
    case PTRACE_SETREGSET: return f.name(FlagTable{register_sets, "NT_???"}, f.arg32(2));
    case PTRACE_GETSIGMASK:
    case PTRACE_SETSIGMASK:
    case PTRACE_GET_SYSCALL_INFO:
    case PTRACE_SECCOMP_GET_FILTER:
    case PTRACE_SECCOMP_GET_METADATA: return f.unsigned_decimal(f.arg(2));
    default: f.pointer(f.arg(2));
    }
}

/// Whether the fourth argument is where the kernel puts what this prints.
bool is_filled(u32 request) {
    return request == PTRACE_PEEKTEXT || request == PTRACE_PEEKDATA || request == peekuser ||
           request == PTRACE_GETEVENTMSG || request == PTRACE_GETSIGINFO ||
           request == PTRACE_GETSIGMASK;
}

void print_filled(CallFormatter& f, u32 request) {
    const u64 address = f.arg(3);
    if (f.failed() || address == 0) return f.pointer(address);
    u64 word = 0;
    switch (request) {
    case PTRACE_GETSIGINFO: return signal_info(f, address);
    case PTRACE_GETSIGMASK: return f.arg(2) == 8 ? signal_set(f, address) : f.pointer(address);
    case PTRACE_GETEVENTMSG:
        if (f.fetch_words(address, std::span(&word, 1))) f.print("[{}]", word);
        return;
    default:
        if (!f.fetch_words(address, std::span(&word, 1))) return;
        f.put('[');
        f.hex(word);
        f.put(']');
    }
}

} // namespace

void sys_ptrace(CallFormatter& f) {
    const u32 request = f.arg32(0);
    if (!f.entering()) {
        if (!is_filled(request)) return;
        f.argument(3);
        return print_filled(f, request);
    }
    f.argument(0);
    f.name(flags::ptrace, f.arg(0));
    if (request == PTRACE_TRACEME) return f.finish();
    f.print_argument(1);
    switch (request) {
    case PTRACE_ATTACH:
    case PTRACE_INTERRUPT:
    case PTRACE_KILL:
    case PTRACE_LISTEN: return f.finish();
    // The address is ignored.
    case getregs:
    case setregs:
    case getfpregs:
    case setfpregs: break;
    default: print_address(f, request);
    }
    if (is_filled(request)) return;
    f.argument(3);
    switch (request) {
    case PTRACE_CONT:
    case PTRACE_DETACH:
    case PTRACE_SINGLESTEP:
    case singleblock:
    case PTRACE_SYSCALL:
    case sysemu:
    case sysemu_singlestep: f.signal(f.arg32(3)); break;
    case PTRACE_SEIZE:
    case PTRACE_SETOPTIONS:
    case oldsetoptions: f.flags(FlagTable{options, "PTRACE_O_???"}, f.arg(3)); break;
    case PTRACE_SETSIGINFO: signal_info(f, f.arg(3)); break;
    case PTRACE_SETSIGMASK: f.arg(2) == 8 ? signal_set(f, f.arg(3)) : f.pointer(f.arg(3)); break;
    default: f.pointer(f.arg(3));
    }
    f.finish();
}

} // namespace gnomon::trace::decode
