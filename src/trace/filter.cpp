// SPDX-License-Identifier: Apache-2.0
#include "trace/filter.h"

#include <charconv>
#include <memory>
#include <regex.h>
#include <string>

namespace gnomon::trace {

namespace {

struct NamedClass {
    std::string_view name;
    u32 bit;
    bool bare; ///< strace takes it without '%' too
};

constexpr NamedClass classes[] = {
    {"file", class_file, true},
    {"desc", class_desc, true},
    {"process", class_process, true},
    {"network", class_network, true},
    {"net", class_network, false},
    {"signal", class_signal, false},
    {"ipc", class_ipc, true},
    {"memory", class_memory, true},
    {"stat", class_stat, false},
    {"lstat", class_lstat, false},
    {"fstat", class_fstat, false},
    {"%stat", class_stat_like, false},
    {"statfs", class_statfs, false},
    {"fstatfs", class_fstatfs, false},
    {"%statfs", class_statfs_like, false},
    {"creds", class_creds, false},
    {"clock", class_clock, false},
    {"pure", class_pure, false},
};

const NamedClass* find_class(std::string_view name) {
    for (const NamedClass& one : classes)
        if (one.name == name) return &one;
    return nullptr;
}

bool known(const SyscallTable::Entry& entry) { return !entry.name.starts_with("syscall_0x"); }

/// Calls `match(entry)` for each call and sets the numbers for which it is true.
template <class Match>
bool select(Filter::Numbers& numbers, Abi abi, Match&& match) {
    const auto entries = SyscallTable::get().entries(abi);
    bool any = false;
    for (size_t n = 0; n < entries.size(); ++n)
        if (match(entries[n])) {
            numbers.set(n);
            any = true;
        }
    return any;
}

/// The same for the calls behind socketcall and ipc.
template <class Match>
bool select_multiplexed(std::bitset<32>& set, Match&& match) {
    bool any = false;
    const auto calls = multiplexed_calls();
    for (size_t i = 0; i < calls.size() && i < set.size(); ++i) {
        const SyscallTable::Entry entry{std::string(calls[i].name), nullptr,
                                        classes_of(calls[i].name)};
        if (match(entry)) {
            set.set(i);
            any = true;
        }
    }
    return any;
}

struct RegexFree {
    void operator()(regex_t* regex) const {
        ::regfree(regex);
        delete regex;
    }
};
using Regex = std::unique_ptr<regex_t, RegexFree>;

/// Bounds for what regcomp is given: it calls itself for each bracket, and makes copies of what is
/// repeated {N} times or with +, so that a pattern could exhaust the stack or the memory. The
/// longest name of a system call has some 30 characters.
constexpr size_t longest_pattern = 512;
constexpr u64 most_repetitions = 1000;

/// Whether the pattern is within these bounds. All that it repeats is taken as if inside each
/// other; x+ is xx*.
bool reasonable(std::string_view pattern) {
    if (pattern.size() > longest_pattern) return false;
    u64 repetitions = 1;
    for (size_t at = pattern.find_first_of("{+"); at != std::string_view::npos;
         at = pattern.find_first_of("{+", at + 1)) {
        u64 times = 2;
        if (pattern[at] == '{') {
            const char* const begin = pattern.data() + at + 1;
            const auto [end, error] =
                std::from_chars(begin, pattern.data() + pattern.size(), times);
            if (end == begin) continue;
            if (error != std::errc() || times > most_repetitions) return false;
        }
        repetitions *= times == 0 ? 1 : times;
        if (repetitions > most_repetitions) return false;
    }
    return true;
}

Result<Regex> compile(std::string_view text) {
    const std::string pattern(text);
    if (!reasonable(pattern)) {
        constexpr size_t shown = 40;
        return usage_error("-e trace=/{}{}: more than {} characters or {} repetitions; write a "
                           "simpler expression, or several",
                           pattern.substr(0, shown), pattern.size() > shown ? "..." : "",
                           longest_pattern, most_repetitions);
    }
    auto raw = std::make_unique<regex_t>();
    const int error = ::regcomp(raw.get(), pattern.c_str(), REG_EXTENDED | REG_NOSUB);
    if (error != 0) {
        char message[128];
        ::regerror(error, raw.get(), message, sizeof message);
        return usage_error("-e trace=/{}: {}", pattern, message);
    }
    return Regex(raw.release());
}

} // namespace

Filter::Filter() : m_beyond(true) {
    m_x86_64.set();
    m_i386.set();
    m_multiplexed.set();
}

bool Filter::wants_multiplexed(std::string_view name) const {
    const auto calls = multiplexed_calls();
    for (size_t i = 0; i < calls.size(); ++i)
        if (calls[i].name == name) return m_multiplexed[i];
    return false;
}

void Filter::invert() {
    m_x86_64.flip();
    m_i386.flip();
    m_multiplexed.flip();
    m_beyond = !m_beyond;
}

Result<> Filter::add(std::string_view item) {
    const std::string_view whole = item;
    const bool optional = item.starts_with('?');
    if (optional) item.remove_prefix(1);
    const auto unknown = [&]() -> Result<> {
        if (optional) return {};
        return usage_error("-e trace={}: no such system call or class; see strace(1) for the names",
                           whole);
    };
    if (item.empty()) return unknown();
    if (item == "all") {
        m_x86_64.set();
        m_i386.set();
        m_multiplexed.set();
        m_beyond = true;
        return {};
    }
    if (item == "none") return {};

    if (item.starts_with('/')) {
        Result<Regex> regex = compile(item.substr(1));
        if (!regex) return tl::unexpected(std::move(regex.error()));
        const auto match = [&](const SyscallTable::Entry& entry) {
            return known(entry) && ::regexec(regex->get(), entry.name.c_str(), 0, nullptr, 0) == 0;
        };
        const bool any64 = select(m_x86_64, Abi::x86_64, match);
        const bool any32 = select(m_i386, Abi::i386, match);
        const bool behind = select_multiplexed(m_multiplexed, match);
        return any64 || any32 || behind ? Result<>() : unknown();
    }

    const NamedClass* named = nullptr;
    if (item.starts_with('%')) {
        named = find_class(item.substr(1));
        if (named == nullptr) return unknown();
    } else if (const NamedClass* bare = find_class(item); bare != nullptr && bare->bare) {
        named = bare;
    }
    if (named != nullptr) {
        const auto match = [&](const SyscallTable::Entry& entry) {
            return (entry.classes & named->bit) != 0;
        };
        select(m_x86_64, Abi::x86_64, match);
        select(m_i386, Abi::i386, match);
        select_multiplexed(m_multiplexed, match);
        return {};
    }

    bool wide = true;
    bool narrow = true;
    if (const size_t at = item.rfind('@'); at != std::string_view::npos) {
        const std::string_view abi = item.substr(at + 1);
        if (abi == "64")
            narrow = false;
        else if (abi == "32")
            wide = false;
        else
            return unknown();
        item = item.substr(0, at);
    }
    u64 number = 0;
    const auto [end, error] = std::from_chars(item.data(), item.data() + item.size(), number);
    if (error == std::errc() && end == item.data() + item.size()) {
        if (number >= SyscallTable::max_number) return unknown();
        if (wide) m_x86_64.set(number);
        if (narrow) m_i386.set(number);
        return {};
    }
    const auto match = [&](const SyscallTable::Entry& entry) { return entry.name == item; };
    if (item == "socketcall" && narrow)
        // By its own name: whatever is behind it.
        select_multiplexed(m_multiplexed, [](const SyscallTable::Entry& entry) {
            return (entry.classes & class_network) != 0;
        });
    const bool any64 = wide && select(m_x86_64, Abi::x86_64, match);
    const bool any32 = narrow && select(m_i386, Abi::i386, match);
    const bool behind = narrow && select_multiplexed(m_multiplexed, match);
    return any64 || any32 || behind ? Result<>() : unknown();
}

Result<Filter> Filter::parse(std::string_view expression) {
    std::string_view list = expression;
    if (const size_t equals = list.find('='); equals != std::string_view::npos) {
        const std::string_view key = list.substr(0, equals);
        if (key != "trace" && key != "t")
            return usage_error("-e {}: only -e trace=LIST is supported", expression);
        list.remove_prefix(equals + 1);
    }
    bool inverted = false;
    while (list.starts_with('!')) {
        inverted = !inverted;
        list.remove_prefix(1);
    }
    if (list.empty()) return usage_error("-e {}: the list of system calls is empty", expression);
    Filter filter;
    filter.invert(); // nothing
    while (true) {
        const size_t comma = list.find(',');
        if (Result<> added = filter.add(list.substr(0, comma)); !added)
            return tl::unexpected(std::move(added.error()));
        if (comma == std::string_view::npos) break;
        list.remove_prefix(comma + 1);
    }
    if (inverted) filter.invert();
    // The multiplexers are looked into when one of their calls is wanted.
    const auto calls = multiplexed_calls();
    constexpr size_t socketcall_number = 102, ipc_number = 117;
    for (size_t i = 0; i < calls.size(); ++i)
        if (filter.m_multiplexed[i])
            filter.m_i386.set(calls[i].ipc ? ipc_number : socketcall_number);
    return filter;
}

} // namespace gnomon::trace
