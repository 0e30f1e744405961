// SPDX-License-Identifier: Apache-2.0
#include "comparison.h"

#include <algorithm>
#include <span>

namespace gnomon::traces {

namespace {

constexpr size_t context_lines = 3;
/// How far to look for the place where both go on alike after a difference.
constexpr size_t resynchronisation = 40;

class Comparer {
public:
    Comparer(Comparison& result, size_t report_limit)
        : m_result(result), m_report_limit(report_limit) {}

    void compare_task(int pid, std::span<const Item> theirs, std::span<const Item> ours) {
        size_t i = 0, j = 0;
        while (i < theirs.size() || j < ours.size()) {
            if (i < theirs.size() && j < ours.size() && theirs[i].text == ours[j].text) {
                accept(theirs[i]);
                ++i, ++j;
                continue;
            }
            if (i < theirs.size() && j < ours.size() &&
                is_last_of_the_dying(theirs.subspan(i), ours[j])) {
                allow("last call of a dying task");
                accept(theirs[i]);
                ++i, ++j;
                continue;
            }
            if (!(i > 0 && ends_the_task(theirs[i - 1])) &&
                is_entered_while_dying(theirs.subspan(i), ours.subspan(j))) {
                allow("call entered while dying");
                ++j;
                continue;
            }
            if (is_asked_late(theirs.subspan(i), ours.subspan(j))) {
                allow("strace asks late");
                ++i, ++j;
                continue;
            }
            if (i > 0 && i + 1 == theirs.size() && j + 1 == ours.size() &&
                is_own_status(theirs[i - 1], theirs[i], ours[j])) {
                allow("thread before its process");
                ++i, ++j;
                continue;
            }
            if (is_signal_without_handler(theirs.subspan(i), ours.subspan(j))) {
                allow("signal without a handler");
                ++i;
                continue;
            }
            const auto [skip_i, skip_j] = next_match(theirs.subspan(i), ours.subspan(j));
            // As many on both sides: pairs that differ. The rest is missing on one side.
            const size_t pairs = std::min(skip_i, skip_j);
            for (size_t k = 0; k < pairs; ++k)
                if (theirs[i + k].text == ours[j + k].text)
                    accept(theirs[i + k]);
                else
                    differ(pid, theirs, i + k, ours, j + k);
            for (size_t k = pairs; k < skip_i; ++k)
                missing(pid, theirs, i + k, "missing");
            for (size_t k = pairs; k < skip_j; ++k)
                missing(pid, ours, j + k, "surplus");
            i += skip_i, j += skip_j;
        }
    }

private:
    void allow(const char* rule) { ++m_result.allowances[rule]; }

    /// RULE "last call of a dying task". ptrace stops no task that a SIGKILL is waiting for: strace
    /// cannot see that task's last call return. It prints "= ?" or nothing, and leaves out
    /// arguments that it would have read then. Gnomon sees the result on the kernel's way out.
    static bool is_last_of_the_dying(std::span<const Item> theirs, const Item& ours) {
        const Item& last = theirs.front();
        if (last.kind != Item::Kind::call || ours.kind != Item::Kind::call) return false;
        if (last.name() != ours.name()) return false;
        if (theirs.size() > 1 && theirs[1].kind != Item::Kind::end) return false;
        std::string_view arguments = last.arguments();
        constexpr std::string_view unfinished = " <unfinished ...>";
        const bool dangling = last.text.find(") = ") == last.text.npos;
        const bool cut = dangling || arguments.ends_with(unfinished);
        if (!dangling && last.result() != "?") return false;
        if (!dangling && cut) arguments.remove_suffix(unfinished.size());
        return cut ? ours.arguments().starts_with(arguments) : ours.arguments() == arguments;
    }

    static bool ends_the_task(const Item& item) {
        return item.name() == "exit" || item.name() == "exit_group";
    }

    /// RULE "call entered while dying". For the same reason ptrace does not stop a dying task that
    /// enters a call; the kernel then skips the call, and ENOSYS is what it left in RAX.
    static bool is_entered_while_dying(std::span<const Item> theirs, std::span<const Item> ours) {
        return ours.size() >= 2 && !theirs.empty() && ours[0].kind == Item::Kind::call &&
               (ours[0].result() == "?" || ours[0].result().starts_with("-1 ENOSYS ")) &&
               ours[1].kind == Item::Kind::end && theirs[0].text == ours[1].text;
    }

    /// RULE "thread before its process". strace is told of a thread that ended by exit the status
    /// of its process, if that has ended by then: always of a first thread that ended before the
    /// others, and of another one if strace asks late. Gnomon has the thread's own.
    static bool is_own_status(const Item& before, const Item& theirs, const Item& ours) {
        return before.name() == "exit" && before.kind == Item::Kind::call &&
               theirs.text.starts_with("+++ ") &&
               ours.text == "+++ exited with " +
                                std::string(before.arguments().substr(
                                    0, before.arguments().find_first_not_of("0123456789"))) +
                                " +++";
    }

    /// RULE "strace asks late". A task that a SIGKILL ends while it is stopped leaves its stop;
    /// strace's question what it was doing then fails. strace prints what it knows from the task
    /// that it looked at before as a call that never returns, or a result that is no errno.
    static bool is_asked_late(std::span<const Item> theirs, std::span<const Item> ours) {
        if (theirs.size() < 2 || ours.size() < 2) return false;
        if (theirs[0].kind != Item::Kind::call || ours[0].kind != Item::Kind::call) return false;
        if (theirs[1].kind != Item::Kind::end || theirs[1].text != ours[1].text) return false;
        if (theirs[0].text.find(") = ") == std::string::npos)
            return ours[0].result() == "?" || ours[0].result().starts_with("-1 ENOSYS ");
        return theirs[0].name() == ours[0].name() && theirs[0].arguments() == ours[0].arguments() &&
               theirs[0].result() == "-1 (errno 18446744073709551557)";
    }

    /// RULE "signal without a handler". A tracer by ptrace is shown every signal, also those that
    /// the kernel would otherwise not even queue. Gnomon shows those that a handler takes.
    static bool is_signal_without_handler(std::span<const Item> theirs,
                                          std::span<const Item> ours) {
        if (theirs.empty() || theirs[0].kind != Item::Kind::signal) return false;
        if (!ours.empty() && ours[0].kind == Item::Kind::signal) return false;
        const std::string_view text = theirs[0].text;
        static constexpr std::string_view ignored_or_stopping[] = {
            "--- SIGCHLD ", "--- SIGCONT ", "--- SIGURG ",  "--- SIGWINCH ",  "--- SIGSTOP ",
            "--- SIGTSTP ", "--- SIGTTIN ", "--- SIGTTOU ", "--- stopped by "};
        for (const std::string_view head : ignored_or_stopping)
            if (text.starts_with(head)) return true;
        // The one that ends the task: named again by the line that says so.
        if (theirs.size() < 2 || !theirs[1].text.starts_with("+++ killed by ")) return false;
        const std::string_view name = text.substr(4, text.find(' ', 4) - 4);
        return std::string_view(theirs[1].text).substr(14).starts_with(name);
    }

    void accept(const Item& item) {
        if (item.kind == Item::Kind::call) {
            ++m_result.calls;
            ++m_result.calls_by_name[std::string(item.name())];
        } else if (item.kind == Item::Kind::signal) {
            ++m_result.signals;
        }
    }

    /// How many items of each side come before both go on alike; the fewest in sum.
    static std::pair<size_t, size_t> next_match(std::span<const Item> theirs,
                                                std::span<const Item> ours) {
        for (size_t sum = 1; sum <= 2 * resynchronisation; ++sum)
            for (size_t i = sum > resynchronisation ? sum - resynchronisation : 0;
                 i <= std::min(sum, resynchronisation); ++i) {
                const size_t j = sum - i;
                if (i > theirs.size() || j > ours.size()) continue;
                if (i == theirs.size() && j == ours.size()) return {i, j};
                if (i < theirs.size() && j < ours.size() && theirs[i].text == ours[j].text)
                    return {i, j};
            }
        return {theirs.size(), ours.size()};
    }

    void differ(int pid, std::span<const Item> theirs, size_t i, std::span<const Item> ours,
                size_t j) {
        const Item &a = theirs[i], &b = ours[j];
        std::string kind;
        if (a.kind != Item::Kind::call || b.kind != Item::Kind::call)
            kind = "event: " + std::string(a.name().substr(0, a.name().find(" {")));
        else if (a.name() != b.name())
            kind = std::string(a.name()) + ": name";
        else if (a.arguments() != b.arguments())
            kind = std::string(a.name()) + ": arguments";
        else
            kind = std::string(a.name()) + ": result";
        if (count(kind))
            m_result.reports.push_back(heading(pid, kind) + context(theirs, i) + "  strace " +
                                       where(a) + "\n  gnomon " + where(b) + "\n");
    }

    void missing(int pid, std::span<const Item> items, size_t i, const std::string& what) {
        const std::string kind = what + ": " + std::string(items[i].name().substr(0, 40));
        if (count(kind))
            m_result.reports.push_back(heading(pid, kind) + context(items, i) +
                                       (what == "missing" ? "  strace " : "  gnomon ") +
                                       where(items[i]) + "\n");
    }

    /// @return whether this one is to be reported in full.
    bool count(const std::string& kind) {
        ++m_result.differences;
        // The first ones of each kind tell more than many of one.
        return ++m_result.differences_by_kind[kind] <= 3 &&
               m_result.reports.size() < m_report_limit;
    }

    static std::string heading(int pid, const std::string& kind) {
        return "pid " + std::to_string(pid) + ", " + kind + "\n";
    }
    static std::string where(const Item& item) {
        return std::to_string(item.line) + ": " + item.text;
    }
    static std::string context(std::span<const Item> items, size_t at) {
        std::string text;
        for (size_t i = at - std::min(at, context_lines); i < at; ++i)
            text += "         " + where(items[i]) + "\n";
        return text;
    }

    Comparison& m_result;
    size_t m_report_limit;
};

/// RULE "before strace follows". What strace's own child does before it executes the program, and
/// that call's own entry, are the only things that Gnomon sees of a traced task and strace does
/// not: strace begins to print at the first execve.
std::span<const Item> from_first_execve(std::span<const Item> items) {
    const auto first = std::find_if(items.begin(), items.end(),
                                    [](const Item& item) { return item.name() == "execve"; });
    return items.subspan(static_cast<size_t>(first - items.begin()));
}

} // namespace

std::vector<std::string> compare_tracees(std::istream& seen, const TraceFile& gnomon,
                                         size_t& calls) {
    std::vector<std::string> differences;
    std::map<int, size_t> next; // by tracee: its next item
    int pid = 0;
    std::string name, result;
    for (; seen >> pid >> name && std::getline(seen >> std::ws, result); ++calls) {
        const auto task = gnomon.tasks.find(pid);
        if (task == gnomon.tasks.end()) {
            differences.push_back(std::to_string(pid) + " is not in Gnomon's trace");
            break;
        }
        const std::vector<Item>& items = task->second;
        size_t& at = next[pid];
        if (at == 0)
            while (at < items.size() && items[at].name() != name)
                ++at;
        // The tracer sees signals otherwise.
        while (at < items.size() && items[at].kind == Item::Kind::signal)
            ++at;
        if (at == items.size() || items[at].name() != name ||
            !items[at].result().starts_with(result)) {
            differences.push_back(std::to_string(pid) + ": the tracer saw " + name + " = " +
                                  result + ", Gnomon " +
                                  (at == items.size() ? "nothing" : items[at].text));
            break;
        }
        ++at;
    }
    for (const auto& [tracee, at] : next)
        if (const auto& items = gnomon.tasks.at(tracee);
            differences.empty() && (at + 1 != items.size() || items[at].kind != Item::Kind::end))
            differences.push_back(std::to_string(tracee) + ": Gnomon saw more than the tracer");
    return differences;
}

Comparison compare(const TraceFile& strace, const TraceFile& gnomon, size_t report_limit) {
    Comparison result;
    Comparer comparer(result, report_limit);
    for (const auto& [pid, theirs] : strace.tasks) {
        ++result.tasks;
        const auto found = gnomon.tasks.find(pid);
        std::span<const Item> ours;
        if (found != gnomon.tasks.end()) ours = found->second;
        if (pid == strace.first_task) {
            const size_t before = ours.size();
            ours = from_first_execve(ours);
            result.allowances["before strace follows"] += before - ours.size();
        }
        comparer.compare_task(pid, theirs, ours);
    }
    return result;
}

} // namespace gnomon::traces
