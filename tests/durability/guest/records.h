// SPDX-License-Identifier: Apache-2.0
/// @file What the guest of the durability tests writes, and the test looks for. Freestanding.
#pragma once

#include <cstdint>

namespace gnomon::records {

inline constexpr std::uint64_t sector = 512; ///< bytes; what a disk writes whole or not at all
inline constexpr std::uint64_t slots = 32768;
inline constexpr std::uint64_t magic = 0x5344524f434552a5;

/// The beginning of a sector; the rest of it repeats `check`.
struct Record {
    std::uint64_t magic;
    std::uint64_t life;   ///< of the guest that wrote it
    std::uint64_t number; ///< from 0 on in each life
    std::uint64_t check;

    friend bool operator==(const Record&, const Record&) = default;
};

[[nodiscard]] constexpr Record record(std::uint64_t life, std::uint64_t number) {
    return {magic, life, number, (life * 0x9e3779b97f4a7c15U) ^ (number * 0xff51afd7ed558ccdU)};
}

/// The sector that a record of a number less than `slots` has for itself.
[[nodiscard]] constexpr std::uint64_t slot_of(std::uint64_t number) {
    return number * 40503 % slots; // odd: no two share one
}

} // namespace gnomon::records
