// SPDX-License-Identifier: Apache-2.0
#include "native_source.h"

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <map>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

namespace gnomon::trace::test {

namespace {

constexpr u32 audit_arch_i386 = 0x40000003;

class ProcessMemory final : public MemoryReader {
public:
    explicit ProcessMemory(pid_t pid) : m_pid(pid) {}
    bool read(u64 address, std::span<std::byte> out) override {
        const iovec local{out.data(), out.size()};
        const iovec remote{reinterpret_cast<void*>(address), out.size()};
        return ::process_vm_readv(m_pid, &local, 1, &remote, 1, 0) ==
               static_cast<ssize_t>(out.size());
    }

private:
    pid_t m_pid;
};

u64 now_ns() {
    timespec t{};
    ::clock_gettime(CLOCK_REALTIME, &t);
    return static_cast<u64>(t.tv_sec) * 1'000'000'000 + static_cast<u64>(t.tv_nsec);
}

std::string comm_of(pid_t pid) {
    char path[64];
    std::snprintf(path, sizeof path, "/proc/%d/comm", pid);
    char text[32] = "";
    const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return "?";
    const ssize_t size = ::read(fd, text, sizeof text);
    ::close(fd);
    return size > 1 ? std::string(text, static_cast<size_t>(size) - 1) : std::string();
}

struct Traced {
    bool in_call = false;
    bool first_return = false; ///< a new task, inside its parent's clone
    bool stopped_once = false;
    u64 number = 0;
    Abi abi = Abi::x86_64;
};

class Source {
public:
    explicit Source(Tracer& tracer) : m_tracer(tracer) {}

    bool run(pid_t leader) {
        m_tasks[leader].stopped_once = true;
        while (!m_tasks.empty()) {
            int status = 0;
            const pid_t pid = ::waitpid(-1, &status, __WALL);
            if (pid < 0) return errno == ECHILD;
            handle(pid, status);
        }
        return true;
    }

private:
    TaskId id(pid_t pid) const {
        TaskId task;
        task.pid = pid;
        task.tgid = pid;
        task.comm = comm_of(pid);
        task.key = static_cast<u64>(pid);
        task.generation = 1;
        task.known = true;
        return task;
    }

    static void resume(pid_t pid, int signal) {
        ::ptrace(PTRACE_SYSCALL, pid, nullptr, reinterpret_cast<void*>(static_cast<long>(signal)));
    }

    void handle(pid_t pid, int status) {
        if (WIFEXITED(status) || WIFSIGNALED(status)) {
            TaskExited event;
            event.task = id(pid);
            event.exit_code = status;
            event.timestamp_ns = now_ns();
            m_tracer.on_task_exited(event);
            m_tasks.erase(pid);
            return;
        }
        if (!WIFSTOPPED(status)) return;
        Traced& task = m_tasks[pid];
        const int signal = WSTOPSIG(status);
        if (signal == (SIGTRAP | 0x80)) {
            on_syscall_stop(pid, task);
            return resume(pid, 0);
        }
        if (status >> 16 != 0) return resume(pid, 0); // an event stop: exec, fork ...
        if (!task.stopped_once && signal == SIGSTOP) {
            task.stopped_once = true;
            return resume(pid, 0);
        }
        on_signal_stop(pid);
        resume(pid, signal);
    }

    void on_syscall_stop(pid_t pid, Traced& task) {
        __ptrace_syscall_info info{};
        if (::ptrace(static_cast<__ptrace_request>(PTRACE_GET_SYSCALL_INFO), pid,
                     reinterpret_cast<void*>(sizeof info), &info) < 0)
            return;
        ProcessMemory memory(pid);
        if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
            SyscallEnter event;
            event.task = id(pid);
            event.abi = info.arch == audit_arch_i386 ? Abi::i386
                        : (info.entry.nr & x32_syscall_bit) != 0 && info.entry.nr < 0x80000000
                            ? Abi::x32
                            : Abi::x86_64;
            event.number = info.entry.nr;
            for (size_t i = 0; i < 6; ++i)
                event.args[i] = info.entry.args[i];
            event.timestamp_ns = now_ns();
            event.user_ip = info.instruction_pointer;
            event.user_sp = info.stack_pointer;
            task.in_call = true;
            task.number = event.number;
            task.abi = event.abi;
            m_tracer.on_enter(event, memory);
        } else if (info.op == PTRACE_SYSCALL_INFO_EXIT && task.in_call) {
            SyscallExit event;
            event.task = id(pid);
            event.result = info.exit.rval;
            event.abi = task.abi;
            event.number = task.number;
            event.timestamp_ns = now_ns();
            task.in_call = false;
            m_tracer.on_exit(event, memory);
        }
    }

    void on_signal_stop(pid_t pid) {
        siginfo_t info{};
        if (::ptrace(PTRACE_GETSIGINFO, pid, nullptr, &info) < 0) return; // group stop
        SignalDelivered event;
        event.task = id(pid);
        event.signo = info.si_signo;
        event.code = info.si_code;
        event.error = info.si_errno;
        event.pid = info.si_pid;
        event.uid = info.si_uid;
        event.status = info.si_status;
        event.utime = info.si_utime;
        event.stime = info.si_stime;
        event.address = reinterpret_cast<u64>(info.si_addr);
        event.value = reinterpret_cast<u64>(info.si_value.sival_ptr);
        event.timer_id = info.si_timerid;
        event.overrun = info.si_overrun;
        event.band = info.si_band;
        event.fd = info.si_fd;
        event.timestamp_ns = now_ns();
        m_tracer.on_signal(event);
    }

    Tracer& m_tracer;
    std::map<pid_t, Traced> m_tasks;
};

} // namespace

bool run_traced(const std::vector<std::string>& command, Tracer& tracer) {
    const pid_t pid = ::fork();
    if (pid < 0) return false;
    if (pid == 0) {
        std::vector<char*> argv;
        for (const std::string& word : command)
            argv.push_back(const_cast<char*>(word.c_str()));
        argv.push_back(nullptr);
        ::personality(ADDR_NO_RANDOMIZE);
        if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) < 0) ::_exit(126);
        ::raise(SIGSTOP);
        char* empty[] = {nullptr};
        ::execve(argv[0], argv.data(), empty);
        ::_exit(127);
    }
    int status = 0;
    if (::waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status)) return false;
    constexpr long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK |
                             PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL;
    if (::ptrace(PTRACE_SETOPTIONS, pid, nullptr, reinterpret_cast<void*>(options)) < 0) {
        ::kill(pid, SIGKILL);
        ::waitpid(pid, &status, 0);
        return false;
    }
    ::ptrace(PTRACE_SYSCALL, pid, nullptr, nullptr);
    return Source(tracer).run(pid);
}

bool can_trace() {
    StringSink sink;
    Tracer tracer(TraceOptions{}, Filter{}, sink);
    return run_traced({"/bin/true"}, tracer) && tracer.counters().entered > 0;
}

} // namespace gnomon::trace::test
