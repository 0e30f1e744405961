// SPDX-License-Identifier: Apache-2.0
#include "monitor/completions/policy.h"

#include <array>
#include <charconv>
#include <optional>
#include <utility>

namespace gnomon::monitor {

namespace {

constexpr std::array<std::pair<std::string_view, u64>, 4> units = {
    {{"ns", 1}, {"us", 1'000}, {"ms", 1'000'000}, {"s", 1'000'000'000}}};

/// In ns, if it is a number with a unit and not too long.
std::optional<u64> parse_time(std::string_view text) {
    u64 number = 0;
    const char* const end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data(), end, number);
    if (error != std::errc{}) return std::nullopt;
    const std::string_view unit(rest, static_cast<std::size_t>(end - rest));
    for (const auto& [name, ns] : units)
        if (name == unit && number <= longest_fixed_ns / ns) return number * ns;
    return std::nullopt;
}

} // namespace

Result<CompletionPolicy> parse_completion_policy(std::string_view text, std::string_view where) {
    using enum CompletionPolicy::Kind;
    if (text == "adaptive") return CompletionPolicy{adaptive, 0};
    if (text == "nominal") return CompletionPolicy{nominal, 0};
    if (text == "immediate") return CompletionPolicy{immediate, 0};
    constexpr std::string_view prefix = "fixed=";
    if (text.starts_with(prefix)) {
        const auto time = parse_time(text.substr(prefix.size()));
        if (!time)
            return usage_error("{} {}: use fixed=TIME with a time from 0ns to 5s, such as 1ms or "
                               "500us",
                               where, text);
        return CompletionPolicy{fixed, *time};
    }
    return usage_error("{} {}: use adaptive, nominal, immediate or fixed=TIME", where, text);
}

} // namespace gnomon::monitor
