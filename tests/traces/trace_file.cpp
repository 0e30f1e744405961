// SPDX-License-Identifier: Apache-2.0
#include "trace_file.h"

#include <charconv>
#include <optional>

namespace gnomon::traces {

namespace {

constexpr std::string_view unfinished = " <unfinished ...>";

struct Open {
    size_t item; ///< index among the task's items
    std::string name;
};

class Reader {
public:
    TraceFile read(std::istream& in) {
        std::string line;
        while (std::getline(in, line)) {
            ++m_line;
            if (line.starts_with("gnomon: "))
                read_balance(line);
            else if (!read_line(line))
                problem(line);
        }
        return std::move(m_file);
    }

private:
    void problem(std::string_view line) {
        m_file.problems.push_back("line " + std::to_string(m_line) + ": " + std::string(line));
    }

    /// "57  rest" or "[pid 57 name] rest".
    static std::optional<int> take_task(std::string_view& line) {
        const bool named = line.starts_with("[pid ");
        if (named) line.remove_prefix(5);
        int pid = 0;
        const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), pid);
        if (error != std::errc()) return std::nullopt;
        line.remove_prefix(static_cast<size_t>(end - line.data()));
        // A name has no bracket: it is escaped.
        if (named) {
            const size_t close = line.find("] ");
            if (close == line.npos) return std::nullopt;
            line.remove_prefix(close + 2);
            return pid;
        }
        const size_t begin = line.find_first_not_of(' ');
        if (begin == line.npos || begin == 0) return std::nullopt;
        line.remove_prefix(begin);
        return pid;
    }

    bool read_line(std::string_view line) {
        const auto pid = take_task(line);
        if (!pid) return false;
        if (m_file.first_task == 0) m_file.first_task = *pid;
        if (line.starts_with("--- ")) return add(*pid, Item::Kind::signal, line);
        if (line.starts_with("+++ superseded by execve in pid ")) return supersede(*pid, line);
        if (line.starts_with("+++ ")) return add(*pid, Item::Kind::end, line);
        if (line.starts_with("<... ")) return resume(*pid, line);
        if (line.ends_with(unfinished)) {
            line.remove_suffix(unfinished.size());
            const size_t paren = line.find('(');
            if (paren == line.npos || m_open.contains(*pid)) return false;
            add(*pid, Item::Kind::call, line);
            m_open[*pid] = {m_file.tasks[*pid].size() - 1, std::string(line.substr(0, paren))};
            return true;
        }
        return !m_open.contains(*pid) && line.find('(') != line.npos &&
               add(*pid, Item::Kind::call, line);
    }

    bool add(int pid, Item::Kind kind, std::string_view text) {
        m_file.tasks[pid].push_back({kind, std::string(text), m_line});
        return true;
    }

    bool resume(int pid, std::string_view line) {
        const size_t end = line.find(" resumed>");
        const auto open = m_open.find(pid);
        if (end == line.npos || open == m_open.end() ||
            line.substr(5, end - 5) != open->second.name)
            return false;
        m_file.tasks[pid][open->second.item].text += line.substr(end + 9);
        m_open.erase(open);
        return true;
    }

    /// A thread that executes a program takes the place and the number of its process's first
    /// thread: its call returns there.
    bool supersede(int pid, std::string_view line) {
        constexpr std::string_view head = "+++ superseded by execve in pid ";
        int thread = 0;
        std::from_chars(line.data() + head.size(), line.data() + line.size(), thread);
        const auto open = m_open.find(thread);
        if (open == m_open.end() || m_open.contains(pid)) return false;
        auto& from = m_file.tasks[thread];
        if (open->second.item + 1 != from.size()) return false;
        add(pid, Item::Kind::end, line);
        m_file.tasks[pid].push_back(std::move(from.back()));
        from.pop_back();
        m_open[pid] = {m_file.tasks[pid].size() - 1, open->second.name};
        m_open.erase(thread);
        return true;
    }

    void read_balance(std::string_view line) {
        line.remove_prefix(8);
        Balance& b = m_file.balance;
        while (!line.empty()) {
            const size_t digit = line.find_first_of("0123456789");
            if (digit == line.npos) break;
            line.remove_prefix(digit);
            size_t value = 0;
            const auto [end, error] =
                std::from_chars(line.data(), line.data() + line.size(), value);
            if (error != std::errc()) break;
            line.remove_prefix(static_cast<size_t>(end - line.data()));
            if (line.starts_with(" system calls entered"))
                b.entered = value;
            else if (line.starts_with(" returned"))
                b.returned = value;
            else if (line.starts_with(" never return"))
                b.never_return = value;
            else if (line.starts_with(" in progress"))
                b.in_progress = value;
            else if (line.starts_with(" returns LOST"))
                b.lost = value;
            else if (line.starts_with(" returns without an entry"))
                b.unmatched = value;
            else
                problem(line);
        }
    }

    TraceFile m_file;
    std::map<int, Open> m_open; ///< by task: the call whose line was interrupted
    size_t m_line = 0;
};

constexpr std::string_view equals = ") = ";

} // namespace

std::string_view Item::name() const {
    if (kind != Kind::call) return text;
    return std::string_view(text).substr(0, text.find('('));
}

std::string_view Item::arguments() const {
    if (kind != Kind::call) return {};
    const size_t begin = text.find('('), end = text.rfind(equals);
    if (begin == text.npos) return {};
    if (end == text.npos || end < begin) return std::string_view(text).substr(begin + 1);
    return std::string_view(text).substr(begin + 1, end - begin - 1);
}

std::string_view Item::result() const {
    if (kind != Kind::call) return {};
    const size_t end = text.rfind(equals);
    return end == text.npos ? std::string_view()
                            : std::string_view(text).substr(end + equals.size());
}

TraceFile read_trace(std::istream& in) { return Reader().read(in); }

} // namespace gnomon::traces
