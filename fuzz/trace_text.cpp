// SPDX-License-Identifier: Apache-2.0
/// @file The trace as text, of any calls with any arguments and any memory: no byte of it may be
/// unprintable, whatever the guest's names and buffers hold, and it must be bounded.
#include "fuzz/support/events.h"

using namespace gnomon;
using namespace gnomon::fuzz;

namespace {

int digit(char c) { return c >= '0' && c <= '7' ? c - '0' : -1; }

/// Back from strace's escapes.
std::string unescape(std::string_view text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        require(text[i] >= ' ' && text[i] <= '~', "an escaped string has an unprintable byte");
        require(text[i] != '"', "a quote is not escaped");
        if (text[i] != '\\') {
            out += text[i];
            continue;
        }
        require(++i < text.size(), "an escape is cut");
        constexpr std::string_view letters = "tnvfr\"\\", meanings = "\t\n\v\f\r\"\\";
        if (const auto at = letters.find(text[i]); at != std::string_view::npos) {
            out += meanings[at];
            continue;
        }
        int value = 0, digits = 0;
        for (; digits < 3 && i < text.size() && digit(text[i]) >= 0; ++digits, ++i)
            value = value * 8 + digit(text[i]);
        require(digits > 0 && value <= 255, "an escape that is none");
        --i;
        out += static_cast<char>(value);
    }
    return out;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    Input input(data, size);
    const trace::TraceOptions options = take_trace_options(input);
    TracedMemory memory(std::as_bytes(std::span(data, size)));
    trace::StringSink sink;
    trace::Tracer tracer(options, trace::Filter{}, sink);
    trace_events(input, tracer, memory, 64);
    check_balance(tracer);
    require(tracer.finish().has_value(), "the trace cannot be ended");
    for (const char c : sink.text())
        require((c >= ' ' && c <= '~') || c == '\n', "the trace has an unprintable byte");
    require(sink.text().empty() || sink.text().back() == '\n', "the last line is not ended");
    const u64 room = 64 * (u64{64} * 1024 + 256 * u64{options.string_limit});
    require(sink.text().size() < room && memory.bytes_read < room, "a call has no bounds");

    const std::string_view raw(reinterpret_cast<const char*>(data), size);
    trace::Text text;
    trace::append_escaped(text, raw);
    require(unescape({text.data(), text.size()}) == raw, "an escaped string is another string");
    return 0;
}
