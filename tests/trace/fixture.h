// SPDX-License-Identifier: Apache-2.0
/// @file A guest's memory and tasks, made up.
#pragma once

#include "trace/tracer.h"

#include <cstring>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace gnomon::trace::test {

/// User memory made of whole pages; what lies between them is absent.
class FakeMemory final : public MemoryReader {
public:
    bool read(u64 address, std::span<std::byte> out) override {
        auto it = m_regions.upper_bound(address);
        if (it == m_regions.begin()) return false;
        --it;
        const u64 offset = address - it->first;
        if (offset > it->second.size() || out.size() > it->second.size() - offset) return false;
        std::memcpy(out.data(), it->second.data() + offset, out.size());
        return true;
    }
    /// Puts bytes at an address of its own choice.
    u64 put(std::string_view bytes) {
        const u64 at = m_next;
        put_at(at, bytes);
        m_next += (bytes.size() + 0x1fff) & ~u64{0xfff};
        return at;
    }
    /// The rest of the last page is zero.
    void put_at(u64 address, std::string_view bytes) {
        std::string& region = m_regions[address];
        region = std::string(bytes);
        region.resize(region.size() + ((0 - (address + region.size())) & page_offset_mask), '\0');
    }
    /// Puts bytes just before memory that is absent.
    u64 put_last(std::string_view bytes) {
        m_next = (m_next + 0xffff) & ~u64{0xfff};
        const u64 at = m_next - bytes.size();
        put_at(at, bytes);
        m_next += page_size;
        return at;
    }
    u64 text(std::string_view s) { return put(std::string(s) + '\0'); }
    template <class T>
    u64 object(const T& value) {
        return put({reinterpret_cast<const char*>(&value), sizeof value});
    }
    u64 words(const std::vector<u64>& values) {
        return put({reinterpret_cast<const char*>(values.data()), values.size() * 8});
    }
    u64 words32(const std::vector<u32>& values) {
        return put({reinterpret_cast<const char*>(values.data()), values.size() * 4});
    }

private:
    std::map<u64, std::string> m_regions;
    u64 m_next = 0x10000;
};

inline TaskId task(i32 pid, std::string comm = "sh") {
    TaskId id;
    id.pid = pid;
    id.tgid = pid;
    id.ppid = 1;
    id.comm = std::move(comm);
    id.key = 0xffff888000000000ULL + static_cast<u64>(pid) * 0x1000;
    id.generation = 7;
    id.known = true;
    return id;
}

inline u64 number_of(Abi abi, std::string_view name) {
    const auto entries = SyscallTable::get().entries(abi);
    for (size_t i = 0; i < entries.size(); ++i)
        if (entries[i].name == name) return i;
    return ~u64{0};
}

inline SyscallEnter enter(const TaskId& id, std::string_view name, std::vector<u64> args = {},
                          Abi abi = Abi::x86_64) {
    SyscallEnter event;
    event.task = id;
    event.abi = abi;
    event.number = number_of(abi, name);
    for (size_t i = 0; i < args.size() && i < 6; ++i)
        event.args[i] = args[i];
    return event;
}

inline SyscallExit leave(const TaskId& id, std::string_view name, i64 result,
                         Abi abi = Abi::x86_64) {
    SyscallExit event;
    event.task = id;
    event.abi = abi;
    event.number = number_of(abi, name);
    event.result = result;
    return event;
}

/// A tracer that keeps its text.
struct Bench {
    explicit Bench(TraceOptions options = {}, Filter filter = {})
        : tracer(std::move(options), std::move(filter), sink) {}

    FakeMemory memory;
    StringSink sink;
    Tracer tracer;

    void in(const TaskId& id, std::string_view name, std::vector<u64> args = {},
            Abi abi = Abi::x86_64) {
        tracer.on_enter(enter(id, name, std::move(args), abi), memory);
    }
    void out(const TaskId& id, std::string_view name, i64 result, Abi abi = Abi::x86_64) {
        tracer.on_exit(leave(id, name, result, abi), memory);
    }
    void ended(const TaskId& id, i32 status) {
        TaskExited event;
        event.task = id;
        event.exit_code = status;
        tracer.on_task_exited(event);
    }
    [[nodiscard]] const std::string& text() const { return sink.text(); }
};

/// One call's line without the prefix and without the padding before the result.
inline std::string line(FakeMemory& memory, std::string_view name, std::vector<u64> args,
                        i64 result, Abi abi = Abi::x86_64, TraceOptions options = {}) {
    options.align_column = 0;
    StringSink sink;
    Tracer tracer(options, Filter{}, sink);
    tracer.on_enter(enter(task(1, "t"), name, std::move(args), abi), memory);
    tracer.on_exit(leave(task(1, "t"), name, result, abi), memory);
    std::string text = sink.text();
    constexpr std::string_view prefix = "[pid 1 t] ";
    if (text.starts_with(prefix)) text.erase(0, prefix.size());
    if (!text.empty() && text.back() == '\n') text.pop_back();
    return text;
}

} // namespace gnomon::trace::test
