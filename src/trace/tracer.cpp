// SPDX-License-Identifier: Apache-2.0
#include "trace/tracer.h"

#include "trace/decode/decoders.h"
#include "trace/json.h"
#include "trace/names/signals.h"

#include <algorithm>
#include <ctime>

namespace gnomon::trace {

namespace {

constexpr size_t task_limit = size_t{1} << 17;
constexpr size_t pending_limit = 1024;
constexpr size_t comm_limit = 15; // TASK_COMM_LEN - 1

std::string_view name_of(Abi abi, u64 number) {
    const SyscallTable::Entry* entry = SyscallTable::get().find(abi, number);
    return entry != nullptr ? std::string_view(entry->name) : std::string_view();
}

void append_name(Text& out, std::string_view name, u64 number) {
    if (!name.empty())
        append(out, name);
    else
        fmt::format_to(fmt::appender(out), "syscall_{:#x}", number);
}

bool is_parent_of_two(std::string_view name) {
    return name == "clone" || name == "clone3" || name == "fork" || name == "vfork";
}

const char* abi_name(Abi abi) {
    switch (abi) {
    case Abi::x86_64: return "x86_64";
    case Abi::x32: return "x32";
    case Abi::i386: return "i386";
    }
    return "";
}

/// The memory of a task that is gone.
class NoMemory final : public MemoryReader {
public:
    [[nodiscard]] bool read(u64, std::span<std::byte>) override { return false; }
};

void append_signal(Text& out, u32 number) {
    if (const std::string_view name = signal_name(number); !name.empty()) {
        append(out, "SIG");
        append(out, name);
    } else if (number == 32) {
        append(out, "SIGRTMIN");
    } else if (number > 32 && number <= 64) {
        fmt::format_to(fmt::appender(out), "SIGRT_{}", number - 32);
    } else {
        fmt::format_to(fmt::appender(out), "{}", number);
    }
}

} // namespace

Tracer::Tracer(TraceOptions options, Filter filter, Sink& sink)
    : m_options(std::move(options)), m_filter(std::move(filter)), m_sink(sink) {
    static_cast<void>(SyscallTable::get()); // now, not at the first call
}

CallCounters Tracer::counters() const {
    CallCounters result = m_counters;
    result.in_progress = 0;
    for (const auto& [key, task] : m_tasks)
        result.in_progress += task.pending.size();
    return result;
}

Tracer::Task& Tracer::task_of(const TaskId& id) {
    const Key key{id.key, id.generation};
    if (m_tasks.size() >= task_limit && !m_tasks.contains(key)) {
        // A guest that lies about its tasks must not take the host's memory.
        const auto victim = m_tasks.begin();
        m_counters.lost_returns += victim->second.pending.size();
        for (const Pending& pending : victim->second.pending)
            report_without_return(victim->second, pending);
        m_tasks.erase(victim);
    }
    Task& task = m_tasks[key];
    if (task.id.pid != id.pid || task.id.comm != id.comm || task.id.known != id.known ||
        task.id.tgid != id.tgid || task.id.ppid != id.ppid || task.id.key != id.key)
        task.id = id;
    return task;
}

void Tracer::forget_oldest(Task& task) {
    report_without_return(task, task.pending.front());
    task.pending.erase(task.pending.begin());
    ++m_counters.lost_returns;
}

/// A call whose return nobody will see. As text its line is there already; as JSON it has none yet.
void Tracer::report_without_return(const Task& task, const Pending& pending) {
    if (m_open == pending.serial) interrupt_open_line();
    if (pending.shown && m_options.json && !m_error)
        json_call(task, pending, pending.text, std::nullopt, pending.entered_ns, 0);
}

// --- lines ---

void Tracer::emit() {
    if (!m_error && m_line.size() != 0) {
        const Result<> written = m_sink.write(std::string_view(m_line.data(), m_line.size()));
        if (!written) m_error = written.error();
    }
    m_line.clear();
}

void Tracer::flush() {
    if (m_error) return;
    const Result<> flushed = m_sink.flush();
    if (!flushed) m_error = flushed.error();
}

void Tracer::interrupt_open_line() {
    if (m_open == 0) return;
    append(m_line, " <unfinished ...>\n");
    m_open = 0;
}

void Tracer::begin_line(const TaskId& task, u64 timestamp_ns) {
    interrupt_open_line();
    const size_t begin = m_line.size();
    const auto to = fmt::appender(m_line);
    if (task.known) {
        fmt::format_to(to, "[pid {} ", task.pid);
        append_command(m_line, std::string_view(task.comm).substr(0, comm_limit));
        append(m_line, "] ");
    } else {
        fmt::format_to(to, "[cr3 {:#x}] ", task.key);
    }
    const auto second = static_cast<i64>(timestamp_ns / 1'000'000'000);
    const u64 micros = timestamp_ns / 1000 % 1'000'000;
    const bool stamped = m_options.timestamps != TimestampStyle::none;
    if (m_options.timestamps == TimestampStyle::epoch) {
        fmt::format_to(to, "{}.{:06} ", second, micros);
    } else if (stamped) {
        if (second != m_clock_second) {
            std::tm broken{};
            const auto time = static_cast<std::time_t>(second);
            const bool ok = (m_options.utc ? ::gmtime_r(&time, &broken)
                                           : ::localtime_r(&time, &broken)) != nullptr;
            const size_t size =
                ok ? std::strftime(m_clock_text, sizeof m_clock_text, "%H:%M:%S", &broken) : 0;
            m_clock_text[size] = '\0';
            m_clock_second = second;
        }
        append(m_line, m_clock_text);
        if (m_options.timestamps == TimestampStyle::microseconds)
            fmt::format_to(to, ".{:06}", micros);
        m_line.push_back(' ');
    }
    if (m_options.relative) {
        const u64 delta = m_last_line_ns == 0 || timestamp_ns < m_last_line_ns
                              ? 0
                              : timestamp_ns - m_last_line_ns;
        if (stamped) append(m_line, "(+");
        fmt::format_to(to, "{:6}.{:06}", delta / 1'000'000'000, delta / 1000 % 1'000'000);
        append(m_line, stamped ? ") " : " ");
    }
    m_last_line_ns = timestamp_ns;
    m_column = m_line.size() - begin;
}

void Tracer::pad() {
    append(m_line, ") ");
    m_column += 2;
    if (m_column < m_options.align_column) {
        const size_t blanks = m_options.align_column - m_column;
        for (size_t i = 0; i < blanks; ++i)
            m_line.push_back(' ');
    }
    append(m_line, "= ");
}

void Tracer::end_of_call(u64 entered_ns, u64 now_ns) {
    if (m_options.duration) {
        const u64 spent = now_ns > entered_ns ? now_ns - entered_ns : 0;
        fmt::format_to(fmt::appender(m_line), " <{}.{:06}>", spent / 1'000'000'000,
                       spent / 1000 % 1'000'000);
    }
    m_line.push_back('\n');
    m_open = 0;
    emit();
}

// --- entering ---

void Tracer::append_restart(Text& out, const Task& task) const {
    append(out, "<... resuming interrupted ");
    append(out, task.last_call.empty() ? std::string_view("system call") : task.last_call);
    append(out, " ...>");
}

void Tracer::unpack_socketcall(Pending& pending, MemoryReader& memory) {
    CallState& state = pending.state;
    const SyscallRow* row = socketcall_row(state.args[0]);
    if (row == nullptr || state.args[1] == 0) return;
    std::array<u32, 6> words{};
    if (!memory.read(state.args[1],
                     std::as_writable_bytes(std::span(words)).first(row->arity * 4u)))
        return;
    state.args.fill(0);
    for (size_t i = 0; i < row->arity; ++i)
        state.args[i] = words[i];
    state.row = row;
    pending.name = row->name;
}

void Tracer::unpack_ipc(Pending& pending) {
    CallState& state = pending.state;
    for (const Multiplexed& call : multiplexed_calls()) {
        if (!call.ipc || state.args[0] != call.operation) continue;
        const SyscallRow* row = find_row(Abi::i386, call.name);
        if (row == nullptr) return;
        const std::array<u64, 6> raw = state.args;
        state.args.fill(0);
        for (size_t i = 0; i < call.from.size() && call.from[i] < raw.size(); ++i)
            state.args[i] = raw[call.from[i]];
        state.row = row;
        pending.name = row->name;
        return;
    }
}

void Tracer::start(Pending& pending, const SyscallEnter& event, MemoryReader& memory) {
    CallState& state = pending.state;
    const SyscallTable::Entry* entry = SyscallTable::get().find(event.abi, event.number);
    state.abi = event.abi;
    state.number = event.number;
    state.args = event.args;
    state.user_sp = event.user_sp;
    if (event.abi == Abi::i386) {
        for (u64& arg : state.args)
            arg = static_cast<u32>(arg);
    }
    if (entry != nullptr) {
        state.row = entry->row;
        pending.name = entry->name;
    }
    if (event.abi == Abi::i386 && pending.name == "socketcall") unpack_socketcall(pending, memory);
    if (event.abi == Abi::i386 && pending.name == "ipc") unpack_ipc(pending);
}

bool Tracer::format_entry(Text& out, Pending& pending, MemoryReader& memory, bool may_defer) {
    const size_t begin = out.size();
    const CallState before = pending.state;
    CallFormatter formatter(out, memory, pending.state, m_options.string_limit,
                            m_options.json ? &pending.log : nullptr);
    formatter.enter();
    if (!may_defer || !formatter.missed()) return true;
    out.resize(begin);
    pending.state = before;
    pending.log = {};
    return false;
}

void Tracer::on_enter(const SyscallEnter& event, MemoryReader& memory) {
    ++m_counters.entered;
    Task& task = task_of(event.task);
    // A task is in one call at a time: if it enters anew, the source has lost the return of the
    // last one. Of threads that are known by their CR3 alone there may be many.
    const size_t allowed = event.task.known ? 0 : pending_limit;
    while (task.pending.size() > allowed)
        forget_oldest(task);
    Pending& pending = task.pending.emplace_back();
    pending.serial = ++m_serial;
    pending.entered_ns = event.timestamp_ns;
    pending.shown = m_filter.wants(event.abi, event.number);
    start(pending, event, memory);
    if (event.abi == Abi::i386 && pending.state.row != nullptr &&
        pending.name != name_of(event.abi, event.number))
        pending.shown = m_filter.wants_multiplexed(pending.name);
    const bool never =
        pending.state.row != nullptr && pending.state.row->result == ResultKind::never;

    if (pending.shown && !m_error) {
        if (m_options.json) {
            Text text;
            pending.deferred = !format_entry(text, pending, memory, true);
            pending.text.assign(text.data(), text.size());
        } else if (lines()) {
            begin_line(task.id, event.timestamp_ns);
            const size_t begin = m_line.size();
            append_name(m_line, pending.name, event.number);
            m_line.push_back('(');
            if (pending.name == "restart_syscall") {
                append_restart(m_line, task);
                pending.state.finished = true;
            } else {
                pending.deferred = !format_entry(m_line, pending, memory, true);
            }
            m_column += m_line.size() - begin;
            m_open = pending.serial;
            emit();
        }
    }
    // Without the kernel's structures nobody tells that a task has ended.
    if (never && !event.task.known) {
        ++m_counters.never_return;
        abandon(task, pending, event.timestamp_ns);
        task.pending.pop_back();
    }
}

// --- returning ---

Tracer::Pending Tracer::take(Task& task, const SyscallExit& event) {
    // One call is certain. Of several (threads that share a CR3) the latest with this number is
    // likely.
    size_t chosen = task.pending.size() - 1;
    for (size_t i = task.pending.size(); i-- > 0;)
        if (task.pending[i].state.number == event.number &&
            task.pending[i].state.abi == event.abi) {
            chosen = i;
            break;
        }
    Pending pending = std::move(task.pending[chosen]);
    task.pending.erase(task.pending.begin() + static_cast<std::ptrdiff_t>(chosen));
    return pending;
}

void Tracer::on_exec(const TaskId& id, MemoryReader& memory) {
    if (!id.known) return;
    Task& task = task_of(id);
    if (id.pid != id.tgid && !task.pending.empty())
        m_executing[id.tgid] = {{id.key, id.generation}, id.pid};
    for (Pending& pending : task.pending) {
        if (!pending.deferred) continue;
        Text text;
        format_entry(text, pending, memory, false);
        pending.text.assign(text.data(), text.size());
        pending.deferred = false;
    }
}

Tracer::Task& Tracer::survivor(const TaskId& id) {
    const auto executing = m_executing.find(id.tgid);
    if (executing == m_executing.end() || executing->second.key.key != id.key) return task_of(id);
    const auto [before, thread] = executing->second;
    m_executing.erase(executing);
    const auto old = m_tasks.find(before);
    if (old == m_tasks.end() || id.pid == thread) return task_of(id); // the execve failed early
    Task moved = std::move(old->second);
    m_tasks.erase(old);
    Task& task = task_of(id);
    task.pending = std::move(moved.pending);
    task.last_call = moved.last_call;
    if (m_error) return task;
    if (m_options.json) {
        JsonWriter json(m_line);
        json.begin_object();
        write_event_head(json, id, m_last_event_ns, 0, "task_superseded");
        json.begin_array("args");
        json.begin_element();
        json.string("name", "thread");
        json.string("type", "pid_t");
        json.number("value", thread);
        json.end_object();
        json.end_array();
        json.end_object();
        m_line.push_back('\n');
        emit();
    } else if (lines()) {
        begin_line(id, m_last_event_ns);
        fmt::format_to(fmt::appender(m_line), "+++ superseded by execve in pid {} +++\n", thread);
        emit();
    }
    return task;
}

void Tracer::on_exit(const SyscallExit& event, MemoryReader& memory) {
    // Threads that are known by their CR3 alone share their parent's calls.
    if (event.child_return && !event.task.known) {
        ++m_counters.child_returns;
        static_cast<void>(task_of(event.task));
        return;
    }
    m_last_event_ns = event.timestamp_ns;
    Task& task = survivor(event.task);
    if (task.pending.empty()) {
        if (event.child_return ||
            (event.result == 0 && is_parent_of_two(name_of(event.abi, event.number))))
            ++m_counters.child_returns;
        else
            ++m_counters.unmatched_returns;
        return;
    }
    Pending pending = take(task, event);
    ++m_counters.returned;
    i64 result = event.result;
    if (pending.state.abi == Abi::i386) result = static_cast<i32>(result);
    if (pending.name != "restart_syscall") task.last_call = pending.name;
    if (!pending.shown || m_error) {
        if (m_open == pending.serial) interrupt_open_line();
        return;
    }
    if (m_options.summary || m_options.summary_also) {
        const u64 spent =
            event.timestamp_ns > pending.entered_ns ? event.timestamp_ns - pending.entered_ns : 0;
        m_summary.add(pending.name.empty() ? std::string_view("syscall_???") : pending.name, spent,
                      is_error(result));
    }
    if (m_options.json) {
        Text text;
        if (pending.deferred) {
            format_entry(text, pending, memory, false);
            pending.text.assign(text.data(), text.size());
            text.clear();
        }
        pending.log.base = pending.text.size();
        CallFormatter formatter(text, memory, pending.state, m_options.string_limit, &pending.log);
        formatter.exit(result);
        pending.text.append(text.data(), text.size());
        json_call(task, pending, pending.text, result, event.timestamp_ns, event.cpu);
        return;
    }
    if (!lines()) return;
    if (m_open != pending.serial) {
        begin_line(task.id, event.timestamp_ns);
        const size_t begin = m_line.size();
        append(m_line, "<... ");
        append_name(m_line, pending.name, pending.state.number);
        append(m_line, " resumed>");
        m_column += m_line.size() - begin;
    }
    const size_t begin = m_line.size();
    append(m_line, pending.text);
    if (pending.deferred) format_entry(m_line, pending, memory, false);
    CallFormatter formatter(m_line, memory, pending.state, m_options.string_limit);
    formatter.exit(result);
    m_column += m_line.size() - begin;
    pad();
    formatter.append_result(m_line);
    end_of_call(pending.entered_ns, event.timestamp_ns);
}

void Tracer::on_summed(const SyscallSums& sums) {
    m_counters.entered += sums.calls;
    m_counters.returned += sums.calls;
    if (!m_filter.wants(Abi::x86_64, sums.number)) return;
    const std::string_view name = name_of(Abi::x86_64, sums.number);
    m_summary.add(name.empty() ? std::string_view("syscall_???") : name, sums);
}

void Tracer::abandon(Task& task, Pending& pending, u64 timestamp_ns) {
    if (!pending.shown || m_error) return;
    if (m_options.summary || m_options.summary_also)
        m_summary.add_unreturned(pending.name.empty() ? std::string_view("syscall_???")
                                                      : pending.name);
    if (m_options.json) {
        if (pending.deferred) {
            NoMemory none;
            Text text;
            format_entry(text, pending, none, false);
            pending.text.assign(text.data(), text.size());
        }
        return json_call(task, pending, pending.text, std::nullopt, timestamp_ns, 0);
    }
    if (!lines()) return;
    if (m_open != pending.serial) {
        begin_line(task.id, timestamp_ns);
        const size_t begin = m_line.size();
        append(m_line, "<... ");
        append_name(m_line, pending.name, pending.state.number);
        append(m_line, " resumed>");
        m_column += m_line.size() - begin;
    }
    const size_t entry = m_line.size();
    append(m_line, pending.text);
    if (pending.deferred) {
        NoMemory none;
        format_entry(m_line, pending, none, false);
    }
    m_column += m_line.size() - entry;
    if (!pending.state.finished) {
        // The arguments that the call would have filled never came.
        append(m_line, " <unfinished ...>");
        m_column += 17;
    }
    pad();
    m_line.push_back('?');
    end_of_call(timestamp_ns, timestamp_ns);
}

void Tracer::on_signal(const SignalDelivered& event) {
    Task& task = task_of(event.task);
    if (m_error || m_options.summary) return;
    if (m_options.json) {
        JsonWriter json(m_line);
        json.begin_object();
        write_event_head(json, task.id, event.timestamp_ns, event.cpu, "signal_delivered");
        Text name;
        append_signal(name, static_cast<u32>(event.signo));
        Text info;
        decode::signal_fields(info, event);
        json.begin_array("args");
        const auto element = [&](std::string_view key, std::string_view type,
                                 std::string_view value) {
            json.begin_element();
            json.string("name", key);
            json.string("type", type);
            json.string("value", value);
            json.end_object();
        };
        element("sig", "int", {name.data(), name.size()});
        element("info", "siginfo_t", {info.data(), info.size()});
        json.end_array();
        json.end_object();
        m_line.push_back('\n');
        return emit();
    }
    begin_line(task.id, event.timestamp_ns);
    append(m_line, "--- ");
    append_signal(m_line, static_cast<u32>(event.signo));
    m_line.push_back(' ');
    decode::signal_fields(m_line, event);
    append(m_line, " ---\n");
    emit();
}

void Tracer::on_task_exited(const TaskExited& event) {
    m_last_event_ns = event.timestamp_ns;
    Task& task = survivor(event.task);
    while (!task.pending.empty()) {
        ++m_counters.never_return;
        abandon(task, task.pending.back(), event.timestamp_ns);
        task.pending.pop_back();
    }
    const auto status = static_cast<u32>(event.exit_code);
    const u32 signal = status & 0x7f;
    const bool dumped = (status & 0x80) != 0;
    // Another thread's execve ends the first thread and goes on under its number: that line says
    // so.
    const bool superseded = event.task.known && event.task.pid == event.task.tgid &&
                            m_executing.contains(event.task.tgid);
    if (!m_error && m_options.json && !superseded) {
        JsonWriter json(m_line);
        json.begin_object();
        write_event_head(json, task.id, event.timestamp_ns, event.cpu, "task_exited");
        json.begin_array("args");
        json.begin_element();
        if (signal == 0) {
            json.string("name", "exit_code");
            json.string("type", "int");
            json.number("value", status >> 8 & 0xff);
        } else {
            Text name;
            append_signal(name, signal);
            json.string("name", "signal");
            json.string("type", "int");
            json.string("value", {name.data(), name.size()});
            json.end_object();
            json.begin_element();
            json.string("name", "core_dumped");
            json.string("type", "bool");
            json.boolean("value", dumped);
        }
        json.end_object();
        json.end_array();
        json.end_object();
        m_line.push_back('\n');
        emit();
    } else if (!m_error && lines() && !superseded) {
        begin_line(task.id, event.timestamp_ns);
        if (signal == 0) {
            fmt::format_to(fmt::appender(m_line), "+++ exited with {} +++\n", status >> 8 & 0xff);
        } else {
            append(m_line, "+++ killed by ");
            append_signal(m_line, signal);
            append(m_line, dumped ? " (core dumped) +++\n" : " +++\n");
        }
        emit();
    }
    m_tasks.erase(Key{event.task.key, event.task.generation});
}

// --- JSON ---

void Tracer::json_call(const Task& task, const Pending& pending, std::string_view arguments,
                       std::optional<i64> result, u64 timestamp_ns, unsigned cpu) {
    JsonWriter json(m_line);
    Text name;
    append_name(name, pending.name, pending.state.number);
    json.begin_object();
    write_event_head(json, task.id, pending.entered_ns, cpu, {name.data(), name.size()});
    json.begin_array("args");
    unsigned unnamed = 0;
    for (const LoggedArgument& argument : pending.log.arguments) {
        json.begin_element();
        if (std::string_view(argument.name) == "arg" && pending.state.row == nullptr)
            json.string("name", fmt::format("arg{}", unnamed++));
        else
            json.string("name", argument.name);
        json.string("type", argument.type);
        switch (argument.value) {
        case LoggedArgument::Value::number: json.number("value", argument.number); break;
        case LoggedArgument::Value::bytes: json.string("value", argument.bytes); break;
        case LoggedArgument::Value::text: {
            const size_t begin = std::min(argument.begin, arguments.size());
            const size_t end = std::clamp(argument.end, begin, arguments.size());
            json.string("value", arguments.substr(begin, end - begin));
            break;
        }
        }
        json.end_object();
    }
    json.end_array();
    if (!result) {
        json.null("returnValue");
    } else {
        json.number("returnValue", *result);
        if (is_error(*result)) {
            if (const char* error = errno_name(-*result))
                json.string("errno", error);
            else
                json.number("errno", -*result);
        }
    }
    json.string("abi", abi_name(pending.state.abi));
    json.unsigned_number("durationNs",
                         timestamp_ns > pending.entered_ns ? timestamp_ns - pending.entered_ns : 0);
    if (pending.name == "io_uring_enter")
        json.string("note", "requests on the ring bypass system calls");
    json.end_object();
    m_line.push_back('\n');
    emit();
}

// --- the end ---

void Tracer::write_balance() {
    const CallCounters c = counters();
    if (m_options.json) {
        JsonWriter json(m_line);
        json.begin_object();
        json.string("eventName", "trace_ended");
        json.unsigned_number("entered", c.entered);
        json.unsigned_number("returned", c.returned);
        json.unsigned_number("neverReturn", c.never_return);
        json.unsigned_number("inProgress", c.in_progress);
        json.unsigned_number("lostReturns", c.lost_returns);
        json.unsigned_number("childReturns", c.child_returns);
        json.unsigned_number("unmatchedReturns", c.unmatched_returns);
        json.boolean("balanced", c.balanced());
        json.end_object();
        m_line.push_back('\n');
        return;
    }
    const auto to = fmt::appender(m_line);
    fmt::format_to(to, "gnomon: {} system calls entered, {} returned, {} never return", c.entered,
                   c.returned, c.never_return);
    if (c.in_progress != 0) fmt::format_to(to, ", {} in progress", c.in_progress);
    if (c.lost_returns != 0) fmt::format_to(to, ", {} returns LOST", c.lost_returns);
    if (c.unmatched_returns != 0)
        fmt::format_to(to, "; {} returns without an entry", c.unmatched_returns);
    m_line.push_back('\n');
}

/// In the order in which they were entered.
void Tracer::report_calls_in_progress() {
    std::vector<std::pair<const Task*, const Pending*>> calls;
    for (const auto& [key, task] : m_tasks)
        for (const Pending& pending : task.pending)
            calls.emplace_back(&task, &pending);
    std::sort(calls.begin(), calls.end(),
              [](const auto& a, const auto& b) { return a.second->serial < b.second->serial; });
    for (const auto& [task, pending] : calls)
        report_without_return(*task, *pending);
}

Result<> Tracer::finish() {
    if (!m_finished) {
        m_finished = true;
        interrupt_open_line();
        if (m_options.json) report_calls_in_progress();
        if (!m_options.json && (m_options.summary || m_options.summary_also))
            m_summary.print(m_line);
        write_balance();
        emit();
        flush();
    }
    if (m_error) return tl::unexpected(*m_error);
    return {};
}

} // namespace gnomon::trace
