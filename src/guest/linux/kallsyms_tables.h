// SPDX-License-Identifier: Apache-2.0
/// @file Where in a kernel's read-only data the kallsyms tables stand, found from their own
/// structure.
///
/// The tables have no header and a distribution's image no symbols to find them by, but they
/// constrain each other so tightly that they identify themselves. In all layouts these stand
/// together, in this order:
///
///     num_syms      u32
///     names         num_syms times: length (1 or 2 bytes, ULEB128), then that many token numbers
///     markers       u32 for every 256th symbol: where its entry in `names` begins
///     (seqs_of_names: 6.2 and 6.3 only; not used here)
///     token_table   256 NUL-terminated strings
///     token_index   256 u16: where in token_table each begins
///
/// and the addresses either directly before num_syms (up to 6.3) or directly after token_index
/// (since 6.4). Tables are aligned to 8 bytes, since 7.0 to 4.
#pragma once

#include "base/address.h"

#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace gnomon::guest::linux_ {

/// How the kernel stores its symbols' addresses.
enum class KallsymsEncoding : u8 {
    absolute,             ///< u64 each
    base_relative,        ///< u32 offsets from a base that follows them (6.15 to 6.19)
    base_relative_percpu, ///< i32: x >= 0 is the value x itself, x < 0 is base - 1 - x (up to 6.14)
    place_relative,       ///< i32 offsets, each from its own address (since 7.0)
};

struct KallsymsTables {
    u32 count = 0;                            ///< symbols
    std::span<const std::byte> names;         ///< exactly the entries of `count` symbols
    std::array<std::string_view, 256> tokens; ///< what each byte of a name stands for
    std::vector<u64> addresses;               ///< link-time, ascending, `count` of them
    KallsymsEncoding encoding = KallsymsEncoding::absolute;
};

/// Searches `region`, which stands at link-time address `address`. The work is linear in the
/// region's size, whatever it holds. The result refers to `region`.
[[nodiscard]] std::optional<KallsymsTables> find_kallsyms_tables(std::span<const std::byte> region,
                                                                 Gva address);

/// Steps over one entry of `names`. @return the token numbers; nullopt at the end or where the
/// entry is cut.
[[nodiscard]] std::optional<std::span<const std::byte>>
next_kallsyms_name(std::span<const std::byte> names, std::size_t& at);

} // namespace gnomon::guest::linux_
