// SPDX-License-Identifier: Apache-2.0
#include "cli/memory_size.h"

#include "base/guest_memory.h"

#include <charconv>
#include <sys/sysinfo.h>

namespace gnomon::cli {

static_assert(largest_memory - ram_low_limit + ram_high_base == u64{1} << guest_physical_bits);

namespace {

/// The power of two that a suffix stands for, or -1.
int suffix_shift(char suffix) {
    switch (suffix) {
    case 'K':
    case 'k': return 10;
    case 'M':
    case 'm': return 20;
    case 'G':
    case 'g': return 30;
    case 'T':
    case 't': return 40;
    default: return -1;
    }
}

} // namespace

Result<u64> check_memory_size(u64 bytes, std::string_view shown, std::string_view what) {
    if (bytes < smallest_memory) {
        return usage_error(
            "{} {}: too small; at least 1M is needed (Linux: about 64M; a number without "
            "K, M or G is bytes)",
            what, shown);
    }
    if (bytes > largest_memory)
        return usage_error("{} {}: too large; 1023G is the most", what, shown);
    if (bytes % page_size != 0) {
        return usage_error("{} {}: not a multiple of the page size, 4K", what, shown);
    }
    return bytes;
}

Result<u64> parse_memory_size(std::string_view text, std::string_view what) {
    std::string_view digits = text;
    int shift = 0;
    if (!digits.empty() && suffix_shift(digits.back()) >= 0) {
        shift = suffix_shift(digits.back());
        digits.remove_suffix(1);
    }
    u64 number = 0;
    const char* const end = digits.data() + digits.size();
    const auto [rest, error] = std::from_chars(digits.data(), end, number);
    const bool out_of_range = error == std::errc::result_out_of_range;
    if (digits.empty() || rest != end || (error != std::errc{} && !out_of_range)) {
        return usage_error("{} '{}': not a size; write it like 512M or 2G", what, text);
    }
    // Saturated rather than wrapped: any such size is refused as too large.
    const u64 bytes = out_of_range || number > (~u64{0} >> shift) ? ~u64{0} : number << shift;
    return check_memory_size(bytes, text, what);
}

Result<> check_host_memory(u64 bytes) {
    struct sysinfo host {};
    if (::sysinfo(&host) != 0) return {};
    const u64 available = (u64{host.totalram} + host.totalswap) * host.mem_unit;
    if (bytes <= available) return {};
    return fail("--memory {}M: the host has no more than {}M; choose a smaller --memory",
                bytes >> 20, available >> 20);
}

} // namespace gnomon::cli
