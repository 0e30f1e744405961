// SPDX-License-Identifier: Apache-2.0
/// @file The text of one call's arguments and result, byte for byte as strace 6.1 prints it
/// (abbreviated).
///
/// A call is formatted in two phases, because memory must be read while it is true: enter() prints
/// up to the first argument that the call itself fills, exit() the rest. CallState carries what
/// lies between.
#pragma once

#include "trace/escape.h"
#include "trace/event.h"
#include "trace/syscall_table.h"

#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace gnomon::trace {

/// One argument as JSON wants it: where its text is, and its value if that is a number or a string.
struct LoggedArgument {
    enum class Value : u8 { text, number, bytes };
    const char* name = "";
    const char* type = "";
    size_t begin = 0; ///< offsets into the text of the arguments
    size_t end = 0;
    Value value = Value::text;
    i64 number = 0;
    std::string bytes;
};

/// Collects the arguments of a call. `base` is the offset of the current phase's text in the whole.
struct ArgumentLog {
    std::vector<LoggedArgument> arguments;
    size_t base = 0;
};

/// What a call keeps between entering and returning.
struct CallState {
    const SyscallRow* row = nullptr;
    Abi abi = Abi::x86_64;
    u64 number = 0;
    std::array<u64, 6> args{};
    u64 user_sp = 0;
    u8 next = 0;           ///< the first argument that is not yet printed
    u8 printed = 0;        ///< how many were printed: whether a comma is due
    bool finished = false; ///< all arguments were printed on entering
    bool joined = false; ///< the exit goes on in the middle of an argument, or writes its own comma
    bool separated = false;     ///< the comma before the next argument is already there
    std::array<u64, 2> saved{}; ///< values that the call overwrites, as they were
    bool saved_valid = false;
};

/// Formats one phase of one call into `out`. Everything it reads is hostile: lengths are bounded,
/// and what cannot be read is printed as an address.
class CallFormatter {
public:
    CallFormatter(Text& out, MemoryReader& memory, CallState& call, u32 string_limit,
                  ArgumentLog* log = nullptr)
        : m_out(out), m_memory(memory), m_call(call), m_string_limit(string_limit), m_log(log) {}

    void enter();
    /// @param result the kernel's raw return value.
    void exit(i64 result);
    /// "= 3", "= -1 ENOENT (No such file or directory)"; after exit().
    void append_result(Text& out) const;

    // For decoders: the call.
    [[nodiscard]] bool entering() const { return m_entering; }
    [[nodiscard]] bool exiting() const { return !m_entering; }
    [[nodiscard]] bool failed() const { return m_failed; }
    [[nodiscard]] i64 result() const { return m_result; }
    [[nodiscard]] u64 arg(unsigned index) const { return m_call.args[index]; }
    [[nodiscard]] u32 arg32(unsigned index) const { return static_cast<u32>(m_call.args[index]); }
    [[nodiscard]] i32 arg_int(unsigned index) const { return static_cast<i32>(m_call.args[index]); }
    [[nodiscard]] CallState& call() { return m_call; }
    [[nodiscard]] Abi call_abi() const { return m_call.abi; }
    [[nodiscard]] bool compat() const { return m_call.abi != Abi::x86_64; }
    [[nodiscard]] unsigned word_size() const { return compat() ? 4 : 8; }
    [[nodiscard]] u32 string_limit() const { return m_string_limit; }
    /// Marks the result for a decoder: printed in hex, with a remark in parentheses.
    void result_kind(ResultKind kind) { m_result_kind = kind; }
    [[nodiscard]] Text& remark() { return m_remark; }
    /// Lets `use` write the remark with a formatter over the same memory.
    template <class Use>
    void remark_with(Use&& use) {
        CallState scratch = m_call;
        CallFormatter formatter(m_remark, m_memory, scratch, m_string_limit);
        use(formatter);
    }
    /// No argument is left for the exit.
    void finish() { m_call.finished = true; }
    /// What the exit prints follows without the comma that enter() would write.
    void join() { m_call.joined = true; }

    // Arguments: the comma, and the log.
    void argument(const char* name, const char* type = "");
    void argument(unsigned index); ///< named by the call's row
    void argument(int index) { argument(static_cast<unsigned>(index)); }
    /// Prints argument `index` as its row says; out kinds only when exiting.
    void print_argument(unsigned index);
    void print_arguments(unsigned first, unsigned last);
    void print_value(const ArgSpec& spec, u64 value);
    void log_number(i64 value);
    void log_bytes(std::string_view bytes);

    // Text.
    [[nodiscard]] Text& out() { return m_out; }
    void put(char c) { m_out.push_back(c); }
    void put(std::string_view text) { append(m_out, text); }
    template <class... Args>
    void print(fmt::format_string<Args...> format, Args&&... args) {
        fmt::format_to(fmt::appender(m_out), format, std::forward<Args>(args)...);
    }
    void decimal(i64 value);
    void unsigned_decimal(u64 value);
    void hex(u64 value);   ///< 0 or 0x1f
    void octal(u64 value); ///< permission bits: at least three digits
    void pointer(u64 address);
    void flags(const FlagTable& table, u64 value);
    void name(const FlagTable& table, u64 value);
    void signal(u32 number);
    void id(u32 value); ///< -1 stays -1
    void dirfd(i32 fd);
    void device(u64 dev);
    void device_parts(u32 major, u32 minor);
    void mode(u32 mode);
    void open_flags(u32 flags);
    void clock(u32 clock);

    // Memory.
    [[nodiscard]] bool read(u64 address, std::span<std::byte> bytes) {
        if (bytes.size() == 0 || m_memory.read(address, bytes)) return true;
        m_missed = true;
        return false;
    }
    /// Whether something could not be read: then it is printed as an address.
    [[nodiscard]] bool missed() const { return m_missed; }
    template <class T>
    requires std::is_trivially_copyable_v<T>
    [[nodiscard]] bool read_object(u64 address, T& object) {
        return read(address, std::as_writable_bytes(std::span(&object, 1)));
    }
    /// Reads `words.size()` words of the ABI's width, zero-extended.
    [[nodiscard]] bool read_words(u64 address, std::span<u64> words);
    [[nodiscard]] std::optional<u64> read_word(u64 address);
    /// A word of the ABI as a signed number.
    [[nodiscard]] i64 as_signed(u64 word) const {
        return compat() ? i64{static_cast<i32>(word)} : static_cast<i64>(word);
    }
    /// Reads an object; prints the address if that fails, NULL if it is 0.
    template <class T>
    [[nodiscard]] bool fetch(u64 address, T& object) {
        if (address != 0 && read_object(address, object)) return true;
        pointer(address);
        return false;
    }
    [[nodiscard]] bool fetch_words(u64 address, std::span<u64> words) {
        if (address != 0 && read_words(address, words)) return true;
        pointer(address);
        return false;
    }

    /// Whether this phase has printed or read so much that arrays end here: arrays of arrays of
    /// strings would otherwise let one call of the guest fill the disk, or take seconds.
    [[nodiscard]] bool exhausted() const {
        return m_out.size() - m_begin > text_budget || m_read > read_budget;
    }

    // Bytes behind an address.
    void bytes(u64 address, u64 length, bool as_hex = false);
    void c_string(u64 address, u32 limit);
    void path(u64 address);
    /// Quotes bytes that have been read.
    void quote(std::string_view bytes, bool cut = false, bool as_hex = false);
    /// Prints a NUL-padded field of a structure.
    void quote_field(std::string_view field);

    /// Prints [a, b, ...]: `count` elements of `size` bytes, each printed by `print(bytes)`.
    template <class Print>
    void array(u64 address, u64 count, size_t size, Print&& print_element) {
        if (address == 0) return put("NULL");
        if (count == 0) return put("[]");
        std::array<std::byte, 256> element{};
        if (size > element.size()) return pointer(address);
        for (u64 i = 0; i < count; ++i) {
            const u64 at = address + i * size;
            if (at < address) break;
            if (i >= m_string_limit || exhausted()) {
                put(", ...");
                put(']');
                return;
            }
            if (!read(at, std::span(element).first(size))) {
                if (i == 0) return pointer(address);
                put(", ... /* ");
                pointer(at);
                put(" */");
                break;
            }
            put(i == 0 ? "[" : ", ");
            print_element(std::span<const std::byte>(element).first(size));
        }
        put(']');
    }

private:
    void generic();
    [[nodiscard]] static bool is_out(ArgKind kind) {
        return kind == ArgKind::buffer_out || kind == ArgKind::hex_buffer_out ||
               kind == ArgKind::string_out || kind == ArgKind::out || kind == ArgKind::in_out;
    }

    static constexpr size_t text_budget = size_t{256} << 10; ///< bytes
    static constexpr u64 read_budget = u64{8} << 20;         ///< bytes of strings and buffers

    Text& m_out;
    size_t m_begin = m_out.size();
    MemoryReader& m_memory;
    CallState& m_call;
    u32 m_string_limit;
    ArgumentLog* m_log;
    u64 m_read = 0; ///< bytes that strings and buffers have asked for
    bool m_entering = true;
    bool m_failed = false;
    bool m_missed = false;
    i64 m_result = 0;
    ResultKind m_result_kind = ResultKind::decimal;
    Text m_remark;
};

/// The kernel's range of -errno, and the codes that it restarts calls with.
[[nodiscard]] inline bool is_error(i64 result) { return result < 0 && result >= -4095; }

/// "ENOENT", or nullptr.
[[nodiscard]] const char* errno_name(i64 error);

/// Appends " = 3" and its like for a raw result that no decoder has an opinion on.
void append_plain_result(Text& out, i64 result, ResultKind kind, Abi abi);

/// The value of a T at an offset of a byte span that is long enough (checked).
template <class T>
[[nodiscard]] T load(std::span<const std::byte> bytes, size_t offset = 0) {
    T value{};
    if (offset <= bytes.size() && sizeof(T) <= bytes.size() - offset)
        std::memcpy(&value, bytes.data() + offset, sizeof(T));
    return value;
}

} // namespace gnomon::trace
