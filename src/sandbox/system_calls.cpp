// SPDX-License-Identifier: Apache-2.0
#include "base/types.h"
#include "sandbox/sandbox.h"

#include <array>
#include <asm/prctl.h>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <memory>
#include <sched.h>
#include <seccomp.h>
#include <string_view>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

namespace gnomon::sandbox {

namespace {

using Filter = std::unique_ptr<void, void (*)(scmp_filter_ctx)>;

// ---------------------------------------------------------------- the calls

/// Calls that are harmless whatever their arguments: they concern descriptors that are open, memory
/// without rights to execute, or the process itself.
// clang-format off
constexpr std::array plain_calls{
    // Streams, the trace, events. Stdio seeks at exit; glibc's own last words are a writev.
    SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(writev), SCMP_SYS(lseek), SCMP_SYS(close), SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    // Memory: the allocator's and, when the guest resets, a new machine's.
    SCMP_SYS(brk), SCMP_SYS(munmap), SCMP_SYS(madvise), SCMP_SYS(memfd_create), SCMP_SYS(ftruncate),
    SCMP_SYS(eventfd2),
    // Threads and locks.
    SCMP_SYS(futex), SCMP_SYS(set_robust_list), SCMP_SYS(rseq), SCMP_SYS(sched_yield),
    SCMP_SYS(exit), SCMP_SYS(exit_group),
    // Signals: handlers of faults, of the terminal and of the end; raise and abort.
    SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn), SCMP_SYS(restart_syscall),
    SCMP_SYS(getpid), SCMP_SYS(gettid), SCMP_SYS(getpgrp),
    // The time, where the vDSO does not tell it, and the seed of the guest's kernel after a reset.
    SCMP_SYS(clock_gettime), SCMP_SYS(getrandom)};

/// What disks take: their rings, which serve nothing but their one file (UringBackEnd), or what
/// threads do in their place; and the events of both.
constexpr std::array disk_calls{
    SCMP_SYS(io_uring_enter),
    SCMP_SYS(preadv), SCMP_SYS(pwritev2), SCMP_SYS(fdatasync), SCMP_SYS(fallocate),
    SCMP_SYS(epoll_create1), SCMP_SYS(epoll_ctl), SCMP_SYS(epoll_wait)};
// clang-format on

/// The terminal's mode, its size, and whether it is ours.
constexpr std::array<unsigned long, 4> terminal_requests{TCGETS, TCSETS, TIOCGWINSZ, TIOCGPGRP};

/// What glibc gives clone() for a thread (it asks for this once clone3 is not there).
constexpr u64 thread_flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
                             CLONE_SYSVSEM | CLONE_SETTLS | CLONE_PARENT_SETTID |
                             CLONE_CHILD_CLEARTID;

/// Adds rules and keeps the first failure.
class Rules {
public:
    explicit Rules(scmp_filter_ctx filter) : m_filter(filter) {}

    void set(scmp_filter_attr attribute, u32 value) {
        note(::seccomp_attr_set(m_filter, attribute, value));
    }
    void allow(int call) {
        note(::seccomp_rule_add_array(m_filter, SCMP_ACT_ALLOW, call, 0, nullptr));
    }
    template <std::size_t n>
    void allow(int call, const std::array<scmp_arg_cmp, n>& conditions) {
        note(::seccomp_rule_add_array(m_filter, SCMP_ACT_ALLOW, call, n, conditions.data()));
    }
    void refuse(int call, unsigned error) {
        note(::seccomp_rule_add_array(m_filter, SCMP_ACT_ERRNO(error), call, 0, nullptr));
    }
    [[nodiscard]] int error() const { return m_error; }

private:
    void note(int result) {
        if (result < 0 && m_error == 0) m_error = -result;
    }
    scmp_filter_ctx m_filter;
    int m_error = 0;
};

scmp_arg_cmp equals(unsigned argument, u64 value) { return {argument, SCMP_CMP_EQ, value, 0}; }
scmp_arg_cmp masked(unsigned argument, u64 mask, u64 value) {
    return {argument, SCMP_CMP_MASKED_EQ, mask, value};
}

void add_memory_rules(Rules& rules) {
    // Nothing executable, but a new machine's view of its code memory: shared, and never writable
    // (GuardedMapping::create).
    rules.allow(SCMP_SYS(mmap), std::array{masked(2, PROT_EXEC, 0)});
    rules.allow(SCMP_SYS(mmap), std::array{equals(2, PROT_READ | PROT_EXEC),
                                           equals(3, MAP_SHARED | MAP_FIXED | MAP_NORESERVE)});
    rules.allow(SCMP_SYS(mprotect), std::array{masked(2, PROT_EXEC, 0)});
    // realloc
    rules.allow(SCMP_SYS(mremap), std::array{equals(3, MREMAP_MAYMOVE)});
}

/// What libnbd says and hears, on sockets that are connected.
void add_server_rules(Rules& rules) {
    rules.allow(SCMP_SYS(recvfrom), std::array{equals(4, 0)});
    for (const u64 flags : {u64{MSG_NOSIGNAL}, u64{MSG_NOSIGNAL | MSG_MORE}})
        rules.allow(SCMP_SYS(sendto), std::array{equals(3, flags), equals(4, 0)});
}

void add_process_rules(Rules& rules) {
    // Flags of clone3 lie in memory, where no filter can look: glibc falls back to clone.
    rules.refuse(SCMP_SYS(clone3), ENOSYS);
    rules.allow(SCMP_SYS(clone), std::array{equals(0, thread_flags)});
    // raise, abort and pthread_kill: to this process alone.
    rules.allow(SCMP_SYS(tgkill), std::array{equals(0, static_cast<u64>(::getpid()))});
    rules.allow(SCMP_SYS(arch_prctl), std::array{equals(0, ARCH_SET_GS)});
}

void add_descriptor_rules(Rules& rules) {
    for (const unsigned long request : terminal_requests)
        rules.allow(SCMP_SYS(ioctl), std::array{equals(1, request)});
    // A socket as stdout, without a destination: no more than write (OutputPump).
    rules.allow(SCMP_SYS(sendto), std::array{equals(3, MSG_DONTWAIT | MSG_NOSIGNAL), equals(4, 0)});
}

// ---------------------------------------------------------------- the end

/// si_code of a SIGSYS that a filter sent (Linux, include/uapi/asm-generic/siginfo.h).
constexpr int sys_seccomp = 1;

// A signal handler has no argument to carry it. Written once, before the handler is installed.
void (*words_before_the_end)() = nullptr;

void on_refused_call(int signal, siginfo_t* info, void*) {
    if (words_before_the_end != nullptr) words_before_the_end();
    if (info->si_code != sys_seccomp) { // somebody's kill -SYS: what it does by default
        ::signal(signal, SIG_DFL);
        ::raise(signal); // blocked until this handler returns
        return;
    }
    // By hand: neither stdio nor fmt may be used here.
    std::array<char, 160> line{};
    std::size_t length = 0;
    const auto append = [&](std::string_view text) {
        std::memcpy(line.data() + length, text.data(), text.size());
        length += text.size();
    };
    append("gnomon: internal error: system call ");
    std::array<char, 12> digits{};
    std::size_t first = digits.size();
    unsigned number = static_cast<unsigned>(info->si_syscall);
    do {
        digits[--first] = static_cast<char>('0' + number % 10);
        number /= 10;
    } while (number != 0);
    append(std::string_view(digits.data() + first, digits.size() - first));
    append(" is not in the sandbox; --no-seccomp runs without it\n");
    [[maybe_unused]] const auto written = ::write(STDERR_FILENO, line.data(), length);
    ::_exit(1);
}

tl::unexpected<Error> refused(int error) {
    return fail("cannot confine the process with a seccomp filter: {}; use a kernel or container "
                "that permits it, or run unconfined with --no-seccomp",
                std::strerror(error));
}

} // namespace

bool supported() {
#ifdef GNOMON_INSTRUMENTED
    return false;
#else
    return true;
#endif
}

Result<> restrict_system_calls(void (*last_words)(), const SystemCallNeeds& needs) {
    if (!supported()) return {};
    const Filter filter(::seccomp_init(SCMP_ACT_TRAP), ::seccomp_release);
    if (filter == nullptr) return refused(ENOMEM);
    Rules rules(filter.get());
    rules.set(SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    rules.set(SCMP_FLTATR_CTL_TSYNC, 1);    // all threads, or none and an error
    rules.set(SCMP_FLTATR_CTL_NNP, 1);      // what makes it need no privilege
    rules.set(SCMP_FLTATR_CTL_OPTIMIZE, 2); // a tree: each call pays for the look-up
    for (const int call : plain_calls)
        rules.allow(call);
    if (needs.disks)
        for (const int call : disk_calls)
            rules.allow(call);
    if (needs.disk_servers) add_server_rules(rules);
    add_memory_rules(rules);
    add_process_rules(rules);
    add_descriptor_rules(rules);
    if (rules.error() != 0) return refused(rules.error());

    words_before_the_end = last_words;
    struct sigaction action {};
    action.sa_sigaction = on_refused_call;
    action.sa_flags = SA_SIGINFO;
    ::sigfillset(&action.sa_mask);
    ::sigaction(SIGSYS, &action, nullptr);
    if (const int error = ::seccomp_load(filter.get()); error != 0) return refused(-error);
    return {};
}

} // namespace gnomon::sandbox
