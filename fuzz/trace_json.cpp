// SPDX-License-Identifier: Apache-2.0
/// @file The trace as JSON Lines: another parser must take every line, and find the strings that
/// went in.
#include "fuzz/support/events.h"

#include <nlohmann/json.hpp>

using namespace gnomon;
using namespace gnomon::fuzz;

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    Input input(data, size);
    trace::TraceOptions options;
    options.json = true;
    options.string_limit = input.take<u8>();
    TracedMemory memory(std::as_bytes(std::span(data, size)));
    trace::StringSink sink;
    trace::Tracer tracer(options, trace::Filter{}, sink);
    trace_events(input, tracer, memory, 32);
    check_balance(tracer);
    require(tracer.finish().has_value(), "the trace cannot be ended");
    std::string_view lines = sink.text();
    while (!lines.empty()) {
        const std::size_t end = lines.find('\n');
        require(end != std::string_view::npos, "the last line is not ended");
        const auto object = nlohmann::json::parse(lines.substr(0, end), nullptr, false);
        require(object.is_object(), "a line is not a JSON object");
        require(object.contains("eventName") && object["eventName"].is_string(),
                "an event without a name");
        lines.remove_prefix(end + 1);
    }

    // A string is the same string in the other parser's eyes where it is UTF-8; else each byte that
    // is not stands for the code point of its number.
    const std::string_view raw(reinterpret_cast<const char*>(data), size);
    trace::Text text;
    trace::append_json(text, raw);
    const auto parsed =
        nlohmann::json::parse(std::string_view(text.data(), text.size()), nullptr, false);
    require(parsed.is_string(), "a string is not a JSON string");
    // nlohmann's writer refuses what is not UTF-8; what it accepts must come back as it was.
    const std::string written = nlohmann::json(std::string(raw))
                                    .dump(-1, ' ', false, nlohmann::json::error_handler_t::ignore);
    const auto again = nlohmann::json::parse(written, nullptr, false);
    const bool utf8 = again.is_string() && again.get<std::string>() == raw;
    require(!utf8 || parsed.get<std::string>() == raw, "a string came out as another string");
    return 0;
}
