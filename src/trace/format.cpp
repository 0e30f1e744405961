// SPDX-License-Identifier: Apache-2.0
#include "trace/format.h"

#include "trace/names/signals.h"

#include <algorithm>
#include <cstring>

namespace gnomon::trace {

namespace {

/// strace shows paths whole, up to the kernel's PATH_MAX.
constexpr u32 path_limit = 4095;

/// The longest string or buffer that is ever read, whatever -s says.
constexpr u64 read_limit = 1 << 20;

struct Restart {
    i64 error;
    std::string_view text;
};
/// Results that only the kernel's exit work sees (include/linux/errno.h); they become -EINTR or a
/// new call.
constexpr Restart restarts[] = {
    {512, "ERESTARTSYS (To be restarted if SA_RESTART is set)"},
    {513, "ERESTARTNOINTR (To be restarted)"},
    {514, "ERESTARTNOHAND (To be restarted if no handler)"},
    {516, "ERESTART_RESTARTBLOCK (Interrupted by signal)"},
};

} // namespace

namespace {

/// C's %#03o: a leading zero, at least three digits.
void append_octal(Text& out, u64 value) {
    if (value < 0100)
        fmt::format_to(fmt::appender(out), "{:03o}", value);
    else
        fmt::format_to(fmt::appender(out), "0{:o}", value);
}

} // namespace

const char* errno_name(i64 error) {
    return error > 0 && error < 512 ? ::strerrorname_np(static_cast<int>(error)) : nullptr;
}

void append_plain_result(Text& out, i64 result, ResultKind kind, Abi abi) {
    const auto to = fmt::appender(out);
    if (is_error(result)) {
        const i64 error = -result;
        for (const Restart& restart : restarts)
            if (restart.error == error) {
                fmt::format_to(to, "? {}", restart.text);
                return;
            }
        if (const char* name = errno_name(error); name != nullptr)
            fmt::format_to(to, "-1 {} ({})", name, ::strerrordesc_np(static_cast<int>(error)));
        else
            fmt::format_to(to, "-1 (errno {})", error);
        return;
    }
    const u64 value = abi == Abi::x86_64 ? static_cast<u64>(result) : u64{static_cast<u32>(result)};
    switch (kind) {
    case ResultKind::hex:
        if (value == 0)
            out.push_back('0');
        else
            fmt::format_to(to, "{:#x}", value);
        return;
    case ResultKind::octal: append_octal(out, value); return;
    case ResultKind::never: // a filter of the guest can make even exit return
    case ResultKind::decimal:
        if (abi == Abi::x86_64)
            fmt::format_to(to, "{}", result);
        else
            fmt::format_to(to, "{}", static_cast<i32>(result));
        return;
    }
}

// --- phases ---

void CallFormatter::generic() {
    const unsigned arity = m_call.row != nullptr ? m_call.row->arity : 6;
    while (m_call.next < arity) {
        const unsigned index = m_call.next;
        if (m_entering && m_call.row != nullptr && is_out(m_call.row->args[index].kind)) return;
        ++m_call.next;
        print_argument(index);
    }
    finish();
}

void CallFormatter::enter() {
    m_entering = true;
    if (m_call.row != nullptr && m_call.row->custom != nullptr)
        m_call.row->custom(*this);
    else
        generic();
    if (m_log != nullptr && !m_log->arguments.empty())
        m_log->arguments.back().end = m_log->base + m_out.size();
    if (!m_call.finished && !m_call.joined && m_call.printed != 0) {
        put(", ");
        m_call.separated = true;
    }
}

void CallFormatter::exit(i64 result) {
    m_entering = false;
    m_result = result;
    m_failed = is_error(result);
    if (m_call.row != nullptr) m_result_kind = m_call.row->result;
    if (m_call.row != nullptr && m_call.row->custom != nullptr)
        m_call.row->custom(*this);
    else
        generic();
    if (m_log != nullptr && !m_log->arguments.empty() && m_out.size() != 0)
        m_log->arguments.back().end = m_log->base + m_out.size();
}

void CallFormatter::append_result(Text& out) const {
    append_plain_result(out, m_result, m_result_kind, m_call.abi);
    if (m_remark.size() != 0) {
        append(out, " (");
        out.append(m_remark.begin(), m_remark.end());
        out.push_back(')');
    }
}

// --- arguments ---

void CallFormatter::argument(const char* name, const char* type) {
    const bool comma = m_call.printed != 0 && !m_call.separated;
    m_call.separated = false;
    if (m_log != nullptr) {
        const size_t here = m_log->base + m_out.size();
        // The last argument ends here, unless it ended when the call was made.
        if (!m_log->arguments.empty() && m_out.size() != 0) m_log->arguments.back().end = here;
        const size_t begin = here + (comma ? 2 : 0);
        m_log->arguments.push_back({name, type, begin, begin, LoggedArgument::Value::text, 0, {}});
    }
    if (comma) put(", ");
    if (m_call.printed < 250) ++m_call.printed;
}

namespace {

const char* type_name(ArgKind kind) {
    switch (kind) {
    case ArgKind::decimal:
    case ArgKind::fd:
    case ArgKind::dirfd:
    case ArgKind::signal:
    case ArgKind::key:
    case ArgKind::flags:
    case ArgKind::open_flags:
    case ArgKind::name: return "int";
    case ArgKind::unsigned_decimal: return "unsigned int";
    case ArgKind::long_decimal: return "long";
    case ArgKind::size:
    case ArgKind::hex:
    case ArgKind::flags_long: return "unsigned long";
    case ArgKind::octal:
    case ArgKind::mode: return "mode_t";
    case ArgKind::pid: return "pid_t";
    case ArgKind::uid:
    case ArgKind::uid16: return "uid_t";
    case ArgKind::device: return "dev_t";
    case ArgKind::path:
    case ArgKind::string: return "const char*";
    case ArgKind::buffer: return "const void*";
    case ArgKind::string_out: return "char*";
    case ArgKind::in: return "const struct*";
    case ArgKind::out:
    case ArgKind::in_out: return "struct*";
    case ArgKind::pointer:
    case ArgKind::buffer_out:
    case ArgKind::hex_buffer_out: return "void*";
    }
    return "";
}

} // namespace

void CallFormatter::argument(unsigned index) {
    if (m_call.row != nullptr && index < m_call.row->arity)
        argument(m_call.row->args[index].name, type_name(m_call.row->args[index].kind));
    else
        argument("arg", "unsigned long");
}

void CallFormatter::print_argument(unsigned index) {
    argument(index);
    if (m_call.row != nullptr && index < m_call.row->arity)
        print_value(m_call.row->args[index], arg(index));
    else
        hex(arg(index));
}

void CallFormatter::print_arguments(unsigned first, unsigned last) {
    for (unsigned i = first; i <= last; ++i)
        print_argument(i);
}

void CallFormatter::log_number(i64 value) {
    if (m_log == nullptr || m_log->arguments.empty()) return;
    m_log->arguments.back().value = LoggedArgument::Value::number;
    m_log->arguments.back().number = value;
}

void CallFormatter::log_bytes(std::string_view bytes) {
    if (m_log == nullptr || m_log->arguments.empty()) return;
    m_log->arguments.back().value = LoggedArgument::Value::bytes;
    m_log->arguments.back().bytes.assign(bytes);
}

void CallFormatter::print_value(const ArgSpec& spec, u64 value) {
    const auto low = static_cast<u32>(value);
    switch (spec.kind) {
    case ArgKind::decimal:
    case ArgKind::fd:
    case ArgKind::pid: log_number(static_cast<i32>(low)); return decimal(static_cast<i32>(low));
    case ArgKind::dirfd:
        if (static_cast<i32>(low) >= 0) log_number(static_cast<i32>(low));
        return dirfd(static_cast<i32>(low));
    case ArgKind::unsigned_decimal: log_number(low); return unsigned_decimal(low);
    case ArgKind::long_decimal: log_number(as_signed(value)); return decimal(as_signed(value));
    case ArgKind::size:
        if (value <= static_cast<u64>(INT64_MAX)) log_number(static_cast<i64>(value));
        return unsigned_decimal(value);
    case ArgKind::hex: return hex(value);
    case ArgKind::octal: return octal(value & 0xffff);
    case ArgKind::pointer: return pointer(value);
    case ArgKind::uid: log_number(static_cast<i32>(low)); return id(low);
    case ArgKind::uid16:
        return id((value & 0xffff) == 0xffff ? ~u32{0} : static_cast<u32>(value & 0xffff));
    case ArgKind::signal: return signal(low);
    case ArgKind::key:
        if (const Flag* special = find_flag(flags::key_serial, low)) return put(special->name);
        return decimal(static_cast<i32>(low));
    case ArgKind::device: return device(low);
    case ArgKind::mode: return mode(low & 0xffff);
    case ArgKind::path: return path(value);
    case ArgKind::string: return c_string(value, m_string_limit);
    case ArgKind::buffer: return bytes(value, arg(spec.other));
    case ArgKind::buffer_out:
    case ArgKind::hex_buffer_out:
        if (m_failed || m_entering) return pointer(value);
        return bytes(value, static_cast<u64>(m_result), spec.kind == ArgKind::hex_buffer_out);
    case ArgKind::string_out:
        if (m_failed || m_entering) return pointer(value);
        return c_string(value, m_string_limit);
    case ArgKind::flags: return flags(*spec.table, low);
    case ArgKind::flags_long: return flags(*spec.table, value);
    case ArgKind::open_flags: return open_flags(low);
    case ArgKind::name: return name(*spec.table, low);
    case ArgKind::in:
        if (value == 0) return put("NULL");
        return spec.printer(*this, value);
    case ArgKind::out:
        if (m_entering || m_failed || value == 0) return pointer(value);
        return spec.printer(*this, value);
    case ArgKind::in_out:
        if (value == 0) return put("NULL");
        return spec.printer(*this, value);
    }
}

// --- text ---

void CallFormatter::decimal(i64 value) {
    const fmt::format_int text(value);
    m_out.append(text.data(), text.data() + text.size());
}

void CallFormatter::unsigned_decimal(u64 value) {
    const fmt::format_int text(value);
    m_out.append(text.data(), text.data() + text.size());
}

void CallFormatter::hex(u64 value) {
    if (value == 0) return put('0');
    char digits[18];
    char* at = std::end(digits);
    for (; value != 0; value >>= 4)
        *--at = "0123456789abcdef"[value & 15];
    *--at = 'x';
    *--at = '0';
    m_out.append(at, std::end(digits));
}

void CallFormatter::octal(u64 value) { append_octal(m_out, value); }

void CallFormatter::pointer(u64 address) {
    if (address == 0) return put("NULL");
    hex(address);
}

void CallFormatter::flags(const FlagTable& table, u64 value) {
    if (value == 0) {
        const bool named = !table.entries.empty() && table.entries[0].value == 0;
        return put(named ? table.entries[0].name : std::string_view("0"));
    }
    const u64 all = value;
    for (const Flag& flag : table.entries) {
        if (flag.value == 0 || (value & flag.value) != flag.value) continue;
        if (value != all) put('|');
        put(flag.name);
        value &= ~flag.value;
    }
    if (value == 0) return;
    if (value != all) put('|');
    hex(value);
    if (value == all && !table.unknown.empty()) {
        put(" /* ");
        put(table.unknown);
        put(" */");
    }
}

void CallFormatter::name(const FlagTable& table, u64 value) {
    if (const Flag* flag = find_flag(table, value); flag != nullptr) return put(flag->name);
    hex(value);
    if (!table.unknown.empty()) {
        put(" /* ");
        put(table.unknown);
        put(" */");
    }
}

void CallFormatter::signal(u32 number) {
    if (const std::string_view text = signal_name(number); !text.empty()) {
        put("SIG");
        return put(text);
    }
    if (number == 32) return put("SIGRTMIN");
    if (number > 32 && number <= 64) {
        put("SIGRT_");
        return unsigned_decimal(number - 32);
    }
    decimal(static_cast<i32>(number));
}

void CallFormatter::id(u32 value) {
    if (value == ~u32{0}) return put("-1");
    unsigned_decimal(value);
}

void CallFormatter::dirfd(i32 fd) {
    if (fd == -100) return put("AT_FDCWD");
    decimal(fd);
}

void CallFormatter::device(u64 dev) {
    // The kernel's 64-bit encoding (include/linux/kdev_t.h); old 16-bit numbers come out right too.
    device_parts(static_cast<u32>(((dev >> 8) & 0xfff) | ((dev >> 32) & 0xfffff000)),
                 static_cast<u32>((dev & 0xff) | ((dev >> 12) & 0xffffff00)));
}

void CallFormatter::device_parts(u32 major, u32 minor) {
    put("makedev(");
    hex(major);
    put(", ");
    hex(minor);
    put(')');
}

void CallFormatter::mode(u32 value) {
    const u32 type = value & 0170000;
    if (type != 0)
        if (const Flag* flag = find_flag(flags::mode_type, type); flag != nullptr) {
            put(flag->name);
            value &= ~u32{0170000};
            static constexpr Flag special[] = {
                {04000, "|S_ISUID"}, {02000, "|S_ISGID"}, {01000, "|S_ISVTX"}};
            for (const Flag& bit : special)
                if ((value & bit.value) != 0) {
                    put(bit.name);
                    value &= ~static_cast<u32>(bit.value);
                }
            put('|');
        }
    octal(value);
}

void CallFormatter::open_flags(u32 value) {
    name(flags::open_access, value & 3);
    const u32 rest = value & ~u32{3};
    if (rest == 0) return;
    put('|');
    flags(FlagTable{flags::open_other.entries, {}}, rest);
}

void CallFormatter::clock(u32 value) { name(flags::clock, value); }

// --- memory ---

bool CallFormatter::read_words(u64 address, std::span<u64> words) {
    if (!compat()) return read(address, std::as_writable_bytes(words));
    std::array<u32, 64> narrow{};
    if (words.size() > narrow.size()) return false;
    if (!read(address, std::as_writable_bytes(std::span(narrow).first(words.size())))) return false;
    std::copy_n(narrow.begin(), words.size(), words.begin());
    return true;
}

std::optional<u64> CallFormatter::read_word(u64 address) {
    u64 word = 0;
    if (!read_words(address, std::span(&word, 1))) return std::nullopt;
    return word;
}

void CallFormatter::quote(std::string_view text, bool cut, bool as_hex) {
    put('"');
    as_hex ? append_hex_escaped(m_out, text) : append_escaped(m_out, text);
    put('"');
    if (cut) put("...");
}

void CallFormatter::quote_field(std::string_view field) {
    quote(field.substr(0, field.find('\0')));
}

void CallFormatter::bytes(u64 address, u64 length, bool as_hex) {
    if (address == 0) return put("NULL");
    const u64 shown = std::min({length, u64{m_string_limit}, read_limit});
    if (shown == 0) return quote({}, length != 0);
    std::array<std::byte, 4096> fixed{};
    std::vector<std::byte> large;
    std::span<std::byte> buffer(fixed);
    if (shown > fixed.size()) {
        large.resize(shown);
        buffer = large;
    }
    buffer = buffer.first(shown);
    m_read += shown;
    if (!read(address, buffer)) return pointer(address);
    const std::string_view text(reinterpret_cast<const char*>(buffer.data()), buffer.size());
    quote(text, length > shown, as_hex);
    log_bytes(text);
}

void CallFormatter::c_string(u64 address, u32 limit) {
    if (address == 0) return put("NULL");
    limit = std::min(limit, static_cast<u32>(read_limit));
    std::array<std::byte, 4096> fixed;
    std::vector<std::byte> large;
    std::span<std::byte> buffer(fixed);
    const size_t wanted = size_t{limit} + 1; // one more, to see whether the string ends there
    if (wanted > fixed.size()) {
        large.resize(wanted);
        buffer = large;
    }
    size_t have = 0;
    while (have < wanted) {
        const u64 at = address + have;
        if (at < address) return pointer(address);
        // A string may end just before memory that is absent: never read across a page at once.
        const size_t chunk = static_cast<size_t>(
            std::min({u64{wanted - have}, page_size - (at & page_offset_mask), u64{256}}));
        m_read += chunk;
        if (!read(at, buffer.subspan(have, chunk))) return pointer(address);
        const void* end = std::memchr(buffer.data() + have, 0, chunk);
        if (end != nullptr) {
            const auto length =
                static_cast<size_t>(static_cast<const std::byte*>(end) - buffer.data());
            const std::string_view text(reinterpret_cast<const char*>(buffer.data()), length);
            quote(text);
            return log_bytes(text);
        }
        have += chunk;
    }
    const std::string_view text(reinterpret_cast<const char*>(buffer.data()), limit);
    quote(text, true);
    log_bytes(text);
}

void CallFormatter::path(u64 address) { c_string(address, path_limit); }

} // namespace gnomon::trace
