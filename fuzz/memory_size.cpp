// SPDX-License-Identifier: Apache-2.0
/// @file Sizes of memory beside a plain reading of their rules.
#include "cli/memory_size.h"
#include "fuzz/support/input.h"

#include <optional>

using namespace gnomon;
using namespace gnomon::fuzz;

namespace {

/// Digits and at most one suffix, in arithmetic that cannot overflow for 36 digits.
std::optional<u64> plainly(std::string_view text) {
    unsigned __int128 value = 0;
    std::size_t digits = 0;
    while (digits < text.size() && text[digits] >= '0' && text[digits] <= '9') {
        value = value * 10 + static_cast<unsigned>(text[digits++] - '0');
        if (value > u64{1} << 60) value = u64{1} << 60; // too large, and stays so
    }
    if (digits == 0 || text.size() > digits + 1) return std::nullopt;
    if (text.size() == digits + 1) {
        constexpr std::string_view upper = "KMGT", lower = "kmgt";
        std::size_t at = upper.find(text[digits]);
        if (at == std::string_view::npos) at = lower.find(text[digits]);
        if (at == std::string_view::npos) return std::nullopt;
        value <<= 10 * (at + 1);
    }
    if (value < cli::smallest_memory || value > cli::largest_memory || value % page_size != 0)
        return std::nullopt;
    return static_cast<u64>(value);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data),
                                std::min<std::size_t>(size, 64));
    const auto parsed = cli::parse_memory_size(text, "--memory");
    const auto expected = plainly(text);
    require(parsed.has_value() == expected.has_value(), "a size is taken that is none, or refused");
    require(!parsed || *parsed == *expected, "a size is another size");
    require(parsed || (parsed.error().usage && parsed.error().message.starts_with("--memory")),
            "the complaint does not name the option");
    return 0;
}
