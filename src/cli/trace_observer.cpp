// SPDX-License-Identifier: Apache-2.0
#include "cli/trace_observer.h"

#include "base/host_time.h"
#include "monitor/interposer.h"
#include "trace/syscall_table.h"
#include "trace/tracer.h"

#include <cstring>
#include <spdlog/spdlog.h>

namespace gnomon::cli {

namespace {

/// clone, fork, vfork and clone3, whose child returns 0 from a call that it did not make.
bool makes_task(u64 number, bool compat) {
    if (number == 435) return true;
    return compat ? number == 2 || number == 120 || number == 190 : number >= 56 && number <= 58;
}

/// The monitor's view of user memory as the tracer's.
class Reader final : public trace::MemoryReader {
public:
    explicit Reader(const monitor::UserMemory& memory) : m_memory(memory) {}
    [[nodiscard]] bool read(u64 address, std::span<std::byte> out) override {
        return m_memory.read(Gva(address), out);
    }

private:
    const monitor::UserMemory& m_memory;
};

trace::TaskId task_id(const monitor::Caller& caller) {
    trace::TaskId id;
    if (!caller.task) {
        id.key = caller.cr3;
        return id;
    }
    id.pid = caller.task->pid;
    id.tgid = caller.task->tgid;
    id.ppid = caller.task->ppid;
    id.comm = caller.task->comm;
    id.key = caller.task->task.value();
    id.generation = caller.task->start_time;
    id.known = true;
    return id;
}

template <class T>
T field(const std::array<u8, 128>& info, std::size_t offset) {
    T value;
    std::memcpy(&value, info.data() + offset, sizeof value);
    return value;
}

/// Whether entering the x86-64 call `number` is decoded from user memory; true if unknown.
bool reads_memory_on_enter(u64 number) {
    const auto* entry = trace::SyscallTable::get().find(trace::Abi::x86_64, number);
    if (entry == nullptr || entry->row == nullptr) return false; // six hex numbers
    if (entry->row->custom != nullptr) return true;
    for (const trace::ArgSpec& arg : std::span(entry->row->args).first(entry->row->arity))
        switch (arg.kind) {
        case trace::ArgKind::path:
        case trace::ArgKind::string:
        case trace::ArgKind::buffer:
        case trace::ArgKind::in: return true;
        default: break;
        }
    return false;
}

/// Likewise for its return.
bool reads_memory_on_return(u64 number) {
    const auto* entry = trace::SyscallTable::get().find(trace::Abi::x86_64, number);
    if (entry == nullptr || entry->row == nullptr) return false;
    if (entry->row->custom != nullptr) return true;
    for (const trace::ArgSpec& arg : std::span(entry->row->args).first(entry->row->arity))
        switch (arg.kind) {
        case trace::ArgKind::buffer_out:
        case trace::ArgKind::hex_buffer_out:
        case trace::ArgKind::string_out:
        case trace::ArgKind::out:
        case trace::ArgKind::in_out: return true;
        default: break;
        }
    return false;
}

/// execve and execveat, during which a task can become another.
bool replaces_task(u64 number) { return number == 59 || number == 322; }

class TracingObserver final : public TraceObserver, public monitor::SystemCallObserver {
public:
    TracingObserver(const TraceObserverSettings& settings, trace::Filter filter,
                    std::unique_ptr<trace::FileSink> sink)
        : m_only_counts(settings.options.summary && !settings.options.json), m_filter(filter),
          m_sink(std::move(sink)), m_tracer(settings.options, std::move(filter), *m_sink) {}

    monitor::SystemCallObserver* observer() override { return this; }
    void when_nobody_reads(std::function<void()> handler) override {
        m_when_nobody_reads = std::move(handler);
    }
    Result<> finish() override { return m_tracer.finish(); }

    monitor::CallAction action(u64 number) override {
        if (!m_filter.wants(trace::Abi::x86_64, number)) return monitor::CallAction::none;
        if (m_only_counts)
            return replaces_task(number) ? monitor::CallAction::log : monitor::CallAction::sum;
        // What is printed without a look at the caller's memory is logged without an exit.
        return reads_memory_on_enter(number) ? monitor::CallAction::hypercall
                                             : monitor::CallAction::log;
    }
    monitor::CallAction return_action(u64 number) override {
        if (!wants_any(number)) return monitor::CallAction::none;
        // What could not be read at the entry is read at the return.
        return m_only_counts || reads_memory_on_enter(number) || reads_memory_on_return(number)
                   ? monitor::CallAction::hypercall
                   : monitor::CallAction::log;
    }

    void entered(const monitor::SystemCallEntry& entry,
                 const monitor::UserMemory& memory) override {
        trace::SyscallEnter event;
        event.task = task_id(entry.caller);
        // The kernel takes the low half of RAX for a signed number.
        const auto number = static_cast<i32>(entry.number);
        event.abi = entry.abi == monitor::SystemCallAbi::i386 ? trace::Abi::i386
                    : number >= 0 && (entry.number & trace::x32_syscall_bit) != 0
                        ? trace::Abi::x32
                        : trace::Abi::x86_64;
        event.number = static_cast<u64>(i64{number});
        event.args = entry.args;
        event.timestamp_ns = epoch(entry.time_ns);
        event.user_ip = entry.user_ip;
        event.user_sp = entry.user_sp;
        event.cpu = entry.cpu;
        Reader reader(memory);
        m_tracer.on_enter(event, reader);
        look_for_a_reader();
    }

    void returned(const monitor::SystemCallReturn& exit,
                  const monitor::UserMemory& memory) override {
        trace::SyscallExit event;
        event.task = task_id(exit.caller);
        event.result = exit.result;
        // pt_regs keeps all of RAX; the number is EAX, as on entry.
        event.number = static_cast<u32>(exit.original_number);
        event.abi = exit.compat                                    ? trace::Abi::i386
                    : (event.number & trace::x32_syscall_bit) != 0 ? trace::Abi::x32
                                                                   : trace::Abi::x86_64;
        // The numbering is known for sure only to the entry: INT 0x80 may come from 64-bit code.
        if (!m_filter.wants(event.abi, event.number) && !wants_any(event.number)) return;
        event.timestamp_ns = epoch(exit.time_ns);
        event.cpu = exit.cpu;
        event.child_return = exit.result == 0 && makes_task(event.number, exit.compat);
        Reader reader(memory);
        m_tracer.on_exit(event, reader);
        look_for_a_reader();
    }

    void summed(const monitor::SummedCalls& calls) override {
        m_tracer.on_summed({calls.number, calls.calls, calls.errors, calls.time_ns});
    }

    void signal(const monitor::SignalDelivery& delivery) override {
        trace::SignalDelivered event;
        event.task = task_id(delivery.caller);
        event.signo = delivery.number;
        event.timestamp_ns = epoch(delivery.time_ns);
        event.cpu = delivery.cpu;
        if (delivery.has_info) {
            // struct siginfo (Linux, include/uapi/asm-generic/siginfo.h): three ints, then the
            // union at 16.
            const auto& info = delivery.info;
            event.error = field<i32>(info, 4);
            event.code = field<i32>(info, 8);
            event.pid = field<i32>(info, 16);
            event.uid = field<u32>(info, 20);
            event.status = field<i32>(info, 24);
            event.utime = field<i64>(info, 32);
            event.stime = field<i64>(info, 40);
            event.address = field<u64>(info, 16);
            event.value = field<u64>(info, 24);
            event.timer_id = field<i32>(info, 16);
            event.overrun = field<i32>(info, 20);
            event.band = field<i64>(info, 16);
            event.fd = field<i32>(info, 24);
            event.syscall = field<i32>(info, 24);
            event.arch = field<u32>(info, 28);
        }
        m_tracer.on_signal(event);
    }

    void task_exited(const monitor::TaskExit& exit) override {
        trace::TaskExited event;
        event.task = task_id(exit.caller);
        event.exit_code = static_cast<i32>(exit.code);
        event.timestamp_ns = epoch(exit.time_ns);
        event.cpu = exit.cpu;
        m_tracer.on_task_exited(event);
    }

    void executing(const monitor::Caller& caller, const monitor::UserMemory& memory) override {
        Reader reader(memory);
        m_tracer.on_exec(task_id(caller), reader);
    }

    void idle() override {
        m_tracer.flush();
        look_for_a_reader();
    }
    void knowledge_missing(const std::string& why) override {
        spdlog::warn("{}: the trace shows address-space numbers instead of processes", why);
    }

private:
    [[nodiscard]] bool wants_any(u64 number) const {
        return m_filter.wants(trace::Abi::x86_64, number) ||
               m_filter.wants(trace::Abi::i386, number);
    }
    void look_for_a_reader() {
        if (!m_sink->reader_gone() || !m_when_nobody_reads) return;
        m_when_nobody_reads();
        m_when_nobody_reads = nullptr;
    }
    u64 epoch(u64 virtual_ns) {
        if (m_epoch_base == 0) m_epoch_base = utc_now_ns() - virtual_ns;
        return m_epoch_base + virtual_ns;
    }

    bool m_only_counts;
    trace::Filter m_filter;
    std::unique_ptr<trace::FileSink> m_sink;
    trace::Tracer m_tracer;
    u64 m_epoch_base = 0;
    std::function<void()> m_when_nobody_reads; ///< not yet called
};

} // namespace

Result<std::unique_ptr<TraceObserver>>
TraceObserver::create(const TraceObserverSettings& settings) {
    trace::Filter filter;
    if (settings.filter) {
        auto parsed = trace::Filter::parse(*settings.filter);
        if (!parsed) return tl::unexpected(parsed.error());
        filter = std::move(*parsed);
    }
    auto sink = trace::FileSink::open(settings.options.output);
    if (!sink) return tl::unexpected(sink.error());
    return std::make_unique<TracingObserver>(settings, std::move(filter), std::move(*sink));
}

} // namespace gnomon::cli
