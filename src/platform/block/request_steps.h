// SPDX-License-Identifier: Apache-2.0
/// @file A disk request as what the host is asked for, one step after the other: what io_uring, a
/// thread and a server's connection have in common.
#pragma once

#include "base/types.h"
#include "platform/block/block_back_end.h"

#include <atomic>
#include <cstdlib>
#include <memory>
#include <optional>
#include <sys/uio.h>
#include <vector>

namespace gnomon::platform {

/// How ranges are made zero: each way is tried when the one before is not supported.
enum class Zeroing : u8 {
    zero_range, ///< space stays allocated
    punch_hole,
    write,
};

/// What the host's side of a disk can do. Shared by all requests; `zeroing` is learnt from them.
struct HostTraits {
    u64 size = 0;
    bool read_only = false;
    /// Direct I/O: memory must be aligned to this, a power of two, and so must be the length of
    /// each segment to 512. 1: memory is as it likes.
    unsigned memory_alignment = 1;
    bool contiguous = false;           ///< a step can have only one segment
    u64 max_step_bytes = u64{1} << 30; ///< of reads and writes; the kernel's limit is 2 GiB - 4 KiB
    std::size_t bounce_bytes = 128ULL * 1024; ///< most of a step in memory of our own
    bool flush = true;                        ///< there is something to flush
    bool stable_writes = true;                ///< `HostStep::stable` of writes is understood,
    bool stable_zeroing = false;              ///< and of zero_range
    bool discard = true;
    std::atomic<Zeroing> zeroing = Zeroing::zero_range;
};

struct HostStep {
    enum class Kind : u8 {
        none, ///< nothing is asked of the host: `advance(0)`
        read,
        write,
        synchronise,
        zero_range,
        punch_hole,
    };
    Kind kind = Kind::none;
    bool stable = false; ///< reaches stable storage before it is done
    u64 offset = 0, size = 0;
    const iovec* memory = nullptr; ///< of reads and writes; valid until `advance`
    unsigned count = 0;
};

/// One request on its way. Can be used again after it has finished, which saves allocations.
/// Threads: any one at a time.
class RequestSteps {
public:
    static constexpr unsigned max_segments = 1024; ///< the kernel's limit

    /// Checks the request and finds its first step. Both stay valid until it has finished.
    void start(BlockRequest& request, HostTraits& traits);
    [[nodiscard]] const HostStep& step() const { return m_step; }
    /// @param result of the step: for reads and writes the number of bytes, for others 0, and for
    /// failures a negative errno.
    /// @return the status if the request has finished; else `step` is the next one.
    [[nodiscard]] std::optional<BlockStatus> advance(i64 result);
    /// Why it failed: an errno; 0 if the disk has become smaller.
    [[nodiscard]] int error() const { return m_error; }
    [[nodiscard]] BlockRequest& request() const { return *m_request; }
    /// Forgets it, whatever its state.
    void abandon();

private:
    struct Freed {
        void operator()(std::byte* memory) const { std::free(memory); }
    };

    void next_step();
    void next_transfer(HostStep::Kind kind);
    void make_buffer();
    void bounce(u64 size);
    void list_segments(u64 size);
    void list_zeroes(u64 size);
    void consume(u64 size);
    /// Copies between the bounce buffer and the request's memory from the current place on.
    void copy_bounced(u64 size, bool to_memory);
    [[nodiscard]] std::optional<BlockStatus> failure(int error);
    [[nodiscard]] std::optional<BlockStatus> transferred(u64 size);

    BlockRequest* m_request = nullptr;
    HostTraits* m_traits = nullptr;
    HostStep m_step;
    std::optional<BlockStatus> m_verdict; ///< found without the host
    int m_error = 0;
    unsigned m_repeats = 0;
    bool m_bounced = false;
    bool m_synchronise_after = false;
    Zeroing m_zeroing = Zeroing::zero_range;
    u64 m_done = 0;            ///< bytes
    std::size_t m_segment = 0; ///< of the request's memory: where `m_done` is,
    u64 m_segment_done = 0;    ///< and how much of that segment is done
    std::vector<iovec> m_list; ///< when the step's memory is not all of the request's
    std::unique_ptr<std::byte, Freed> m_buffer;
};

} // namespace gnomon::platform
