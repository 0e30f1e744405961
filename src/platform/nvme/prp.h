// SPDX-License-Identifier: Apache-2.0
/// @file Physical region pages: where in guest memory the data of a command is (NVMe 1.4, section
/// 4.3).
#pragma once

#include "platform/dma.h"
#include "platform/nvme/status.h"

#include <vector>

namespace gnomon::platform::nvme {

/// A piece of guest RAM and where it is in this process.
struct Segment {
    Gpa gpa;
    u64 size = 0; ///< in bytes
    Hva host = nullptr;
};

/// What a command says of its data.
struct PrpPair {
    u64 first = 0, second = 0;
};

/// Appends the pieces of `length` bytes in order, neighbours joined. Every entry is checked as the
/// specification has it: a first offset that is a multiple of 4, all others 0, a list pointer that
/// is a multiple of 8, lists that go on at a page's beginning. What is not RAM is a transfer error.
/// Bounded by `length`: a list that leads back to itself ends as any other.
/// @param page_bytes of CC.MPS: 4 KiB to 64 KiB, a power of two. @param length in bytes, at most
/// max_transfer_bytes; 0 needs nothing.
/// @return success, prp_offset_invalid or data_transfer_error; then `out` is of no meaning.
[[nodiscard]] Status walk_prps(const Dma& dma, PrpPair prps, u64 length, u64 page_bytes,
                               std::vector<Segment>& out);

} // namespace gnomon::platform::nvme
