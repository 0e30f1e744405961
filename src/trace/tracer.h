// SPDX-License-Identifier: Apache-2.0
/// @file The tracer: takes events in order, pairs entering with returning, and writes lines.
#pragma once

#include "base/result.h"
#include "trace/event.h"
#include "trace/filter.h"
#include "trace/format.h"
#include "trace/options.h"
#include "trace/sink.h"
#include "trace/summary.h"

#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace gnomon::trace {

/// The conservation of calls: entered = returned + never_return + lost_returns + in_progress.
struct CallCounters {
    u64 entered = 0;
    u64 returned = 0;
    u64 never_return = 0; ///< the task ended inside: exit, exit_group, killed
    u64 lost_returns = 0; ///< the task entered anew without having returned: a defect of the source
    u64 child_returns = 0; ///< first returns of new tasks, which never entered
    u64 unmatched_returns =
        0; ///< other returns without an entry, as when tracing began inside a call
    u64 in_progress = 0;

    [[nodiscard]] bool balanced() const {
        return lost_returns == 0 && entered == returned + never_return + in_progress;
    }
};

/// Lines look like strace -f's, with the process's name:
///
///     [pid 57 sh] openat(AT_FDCWD, "/etc/passwd", O_RDONLY) = 3
///     [pid 57 sh] wait4(-1,  <unfinished ...>
///     [pid 58 ls] +++ exited with 0 +++
///     [pid 57 sh] <... wait4 resumed>[{WIFEXITED(s) && WEXITSTATUS(s) == 0}], 0, NULL) = 58
///
/// One thread at a time. The sink must outlive the tracer.
class Tracer {
public:
    Tracer(TraceOptions options, Filter filter, Sink& sink);

    void on_enter(const SyscallEnter& event, MemoryReader& memory);
    void on_exit(const SyscallExit& event, MemoryReader& memory);
    /// For the summary: calls that were not told one by one. None of them is wanted otherwise.
    void on_summed(const SyscallSums& sums);
    /// The kernel is about to replace the task's program: `memory` is the old one's for the last
    /// time, and what execve was asked has been read by the kernel, so it is there.
    void on_exec(const TaskId& task, MemoryReader& memory);
    void on_signal(const SignalDelivered& event);
    void on_task_exited(const TaskExited& event);

    /// Hands what is buffered to the sink's file; call it when the guest idles.
    void flush();
    /// Ends open lines, writes the summary and the balance, and flushes. Call once.
    /// @return the first error of the sink, if any.
    [[nodiscard]] Result<> finish();
    /// The first error of the sink, to stop early; nothing is written after it.
    [[nodiscard]] const std::optional<Error>& error() const { return m_error; }
    [[nodiscard]] CallCounters counters() const;

private:
    struct Key {
        u64 key;
        u64 generation;
        bool operator==(const Key&) const = default;
    };
    struct KeyHash {
        size_t operator()(const Key& k) const {
            return static_cast<size_t>(
                (k.key ^ (k.generation * 0x9e3779b97f4a7c15ULL)) * 0xff51afd7ed558ccdULL >> 7);
        }
    };
    struct Pending {
        CallState state;
        std::string_view name; ///< of the table or a row: static
        u64 serial = 0;
        u64 entered_ns = 0;
        bool shown = false;
        /// What the arguments point to was absent when the call was made: pages that nobody had
        /// touched yet. The kernel brings them in, so all is printed when the call returns.
        bool deferred = false;
        std::string text; ///< JSON only, and what on_exec read: the arguments so far
        ArgumentLog log;
    };
    struct Executing {
        Key key;
        i32 pid = 0; ///< the thread's, before
    };
    struct Task {
        TaskId id;
        std::vector<Pending> pending; ///< one if the task is known; any number if only its CR3 is
        std::string_view last_call;   ///< what restart_syscall resumes
    };

    Task& task_of(const TaskId& id);
    /// The task, which may have become another by its execve: see m_executing.
    Task& survivor(const TaskId& id);
    /// Prints what the call was asked. @return whether all could be read.
    bool format_entry(Text& out, Pending& pending, MemoryReader& memory, bool may_defer);
    void forget_oldest(Task& task);
    void report_without_return(const Task& task, const Pending& pending);
    void report_calls_in_progress();
    Pending take(Task& task, const SyscallExit& event);
    void start(Pending& pending, const SyscallEnter& event, MemoryReader& memory);
    void unpack_ipc(Pending& pending);
    void unpack_socketcall(Pending& pending, MemoryReader& memory);
    void append_restart(Text& out, const Task& task) const;

    void begin_line(const TaskId& task, u64 timestamp_ns);
    void interrupt_open_line();
    void pad();
    void end_of_call(u64 entered_ns, u64 now_ns);
    void emit();
    void abandon(Task& task, Pending& pending, u64 timestamp_ns);

    void json_call(const Task& task, const Pending& pending, std::string_view arguments,
                   std::optional<i64> result, u64 timestamp_ns, unsigned cpu);
    void write_balance();
    [[nodiscard]] bool lines() const { return !m_options.summary && !m_options.json; }

    TraceOptions m_options;
    Filter m_filter;
    Sink& m_sink;
    std::optional<Error> m_error;
    std::unordered_map<Key, Task, KeyHash> m_tasks;
    /// Threads that are in the middle of an execve, by their process. If they are not its first
    /// thread, they take that one's number and start time when all others have ended.
    std::unordered_map<i32, Executing> m_executing;
    Summary m_summary;
    CallCounters m_counters;
    u64 m_serial = 0;
    u64 m_open = 0;      ///< serial of the call whose line is open, 0 for none
    size_t m_column = 0; ///< of the open line, in characters
    u64 m_last_line_ns = 0;
    u64 m_last_event_ns = 0;
    bool m_finished = false;
    Text m_line; ///< not yet given to the sink
    // The text of the current second, for -t and -tt.
    i64 m_clock_second = -1;
    char m_clock_text[16] = "";
};

} // namespace gnomon::trace
