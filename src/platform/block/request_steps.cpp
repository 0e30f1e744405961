// SPDX-License-Identifier: Apache-2.0
#include "platform/block/request_steps.h"

#include "base/verify.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace gnomon::platform {

namespace {

constexpr u64 sector = 512;
/// Interrupted and refused steps that are tried again before they count as failures.
constexpr unsigned max_repeats = 1000;

/// What zeroes are written from where the host knows no better way.
alignas(page_size) constexpr std::array<std::byte, page_size> zero_page{};

bool is_write(BlockOperation operation) {
    return operation == BlockOperation::write || operation == BlockOperation::write_zeroes ||
           operation == BlockOperation::discard;
}

bool is_transfer(BlockOperation operation) {
    return operation == BlockOperation::read || operation == BlockOperation::write;
}

bool all_aligned(const std::vector<iovec>& memory, u64 alignment) {
    return std::ranges::all_of(memory, [&](const iovec& one) {
        return reinterpret_cast<std::uintptr_t>(one.iov_base) % alignment == 0 &&
               one.iov_len % sector == 0;
    });
}

/// Whether fallocate says that it cannot do this here at all, rather than that it failed.
bool means_unsupported(int error) {
    return error == EOPNOTSUPP || error == ENOSYS || error == ENODEV || error == EINVAL ||
           error == EPERM;
}

BlockStatus status_of(int error) {
    switch (error) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG: return BlockStatus::no_space;
    case EROFS: return BlockStatus::read_only;
    default: return BlockStatus::io_error;
    }
}

} // namespace

void RequestSteps::start(BlockRequest& request, HostTraits& traits) {
    m_request = &request;
    m_traits = &traits;
    m_step = {};
    m_verdict.reset();
    m_error = 0;
    m_repeats = 0;
    m_bounced = false;
    m_done = m_segment = m_segment_done = 0;
    m_zeroing = traits.zeroing.load(std::memory_order_relaxed);
    m_synchronise_after = false;

    if (request.operation == BlockOperation::flush) {
        if (traits.flush && !traits.read_only) {
            m_step.kind = HostStep::Kind::synchronise;
        } else {
            m_verdict = BlockStatus::ok;
        }
        return;
    }
    VERIFY(request.offset % sector == 0 && request.size % sector == 0);
    if (is_transfer(request.operation)) {
        u64 sum = 0;
        for (const iovec& one : request.memory)
            sum += one.iov_len;
        VERIFY(sum == request.size);
    }
    if (request.offset > traits.size || request.size > traits.size - request.offset) {
        m_verdict = BlockStatus::out_of_range;
    } else if (traits.read_only && is_write(request.operation)) {
        m_verdict = BlockStatus::read_only;
    } else if (request.size == 0 ||
               (request.operation == BlockOperation::discard && !traits.discard)) {
        m_verdict = BlockStatus::ok;
    }
    if (m_verdict) return;
    if (is_transfer(request.operation)) {
        m_bounced =
            (traits.contiguous && request.memory.size() > 1) ||
            (traits.memory_alignment > 1 && !all_aligned(request.memory, traits.memory_alignment));
    }
    next_step();
}

void RequestSteps::next_step() {
    switch (m_request->operation) {
    case BlockOperation::read: next_transfer(HostStep::Kind::read); break;
    case BlockOperation::write: next_transfer(HostStep::Kind::write); break;
    case BlockOperation::discard:
        m_step = {HostStep::Kind::punch_hole, false, m_request->offset, m_request->size};
        break;
    case BlockOperation::write_zeroes:
        if (m_zeroing == Zeroing::write) {
            next_transfer(HostStep::Kind::write);
            break;
        }
        m_step = {m_zeroing == Zeroing::zero_range ? HostStep::Kind::zero_range
                                                   : HostStep::Kind::punch_hole,
                  m_request->fua && m_traits->stable_zeroing, m_request->offset, m_request->size};
        m_synchronise_after = m_request->fua && !m_step.stable;
        break;
    case BlockOperation::flush: break; // has but the step that it began with
    }
}

void RequestSteps::next_transfer(HostStep::Kind kind) {
    const u64 left = m_request->size - m_done;
    m_step = {kind, false, m_request->offset + m_done, 0};
    if (kind == HostStep::Kind::write && m_request->fua) {
        m_step.stable = m_traits->stable_writes;
        m_synchronise_after = !m_traits->stable_writes;
    }
    if (m_request->operation == BlockOperation::write_zeroes) {
        list_zeroes(left);
    } else if (m_bounced) {
        bounce(std::min({left, u64{m_traits->bounce_bytes}, m_traits->max_step_bytes}));
    } else if (m_done == 0 && m_request->memory.size() <= max_segments &&
               left <= m_traits->max_step_bytes) {
        m_step.memory = m_request->memory.data();
        m_step.count = static_cast<unsigned>(m_request->memory.size());
        m_step.size = left;
    } else {
        list_segments(left);
    }
}

void RequestSteps::make_buffer() {
    if (m_buffer != nullptr) return;
    m_buffer.reset(static_cast<std::byte*>(std::aligned_alloc(page_size, m_traits->bounce_bytes)));
    VERIFY(m_buffer != nullptr);
}

void RequestSteps::bounce(u64 size) {
    make_buffer();
    if (m_step.kind == HostStep::Kind::write) copy_bounced(size, false);
    m_list.assign(1, {m_buffer.get(), size});
    m_step.memory = m_list.data();
    m_step.count = 1;
    m_step.size = size;
}

void RequestSteps::list_segments(u64 size) {
    m_list.clear();
    u64 skipped = m_segment_done, listed = 0;
    size = std::min(size, m_traits->max_step_bytes);
    for (std::size_t i = m_segment; listed < size && m_list.size() < max_segments; ++i) {
        const iovec& one = m_request->memory[i];
        const u64 part = std::min<u64>(one.iov_len - skipped, size - listed);
        if (part != 0) m_list.push_back({static_cast<std::byte*>(one.iov_base) + skipped, part});
        listed += part;
        skipped = 0;
    }
    m_step.memory = m_list.data();
    m_step.count = static_cast<unsigned>(m_list.size());
    m_step.size = listed;
}

void RequestSteps::list_zeroes(u64 size) {
    m_list.clear();
    u64 listed = 0;
    if (m_traits->contiguous) {
        make_buffer();
        listed = std::min({size, u64{m_traits->bounce_bytes}, m_traits->max_step_bytes});
        std::memset(m_buffer.get(), 0, listed);
        m_list.push_back({m_buffer.get(), listed});
        size = listed;
    }
    while (listed < size && m_list.size() < max_segments) {
        const u64 part = std::min<u64>(zero_page.size(), size - listed);
        // Only read, as the step is a write.
        m_list.push_back({const_cast<std::byte*>(zero_page.data()), part});
        listed += part;
    }
    m_step.memory = m_list.data();
    m_step.count = static_cast<unsigned>(m_list.size());
    m_step.size = listed;
}

void RequestSteps::copy_bounced(u64 size, bool to_memory) {
    std::size_t segment = m_segment;
    u64 skipped = m_segment_done;
    for (u64 copied = 0; copied < size; ++segment) {
        const iovec& one = m_request->memory[segment];
        const u64 part = std::min<u64>(one.iov_len - skipped, size - copied);
        std::byte* const place = static_cast<std::byte*>(one.iov_base) + skipped;
        if (part != 0) {
            if (to_memory)
                std::memcpy(place, m_buffer.get() + copied, part);
            else
                std::memcpy(m_buffer.get() + copied, place, part);
        }
        copied += part;
        skipped = 0;
    }
}

void RequestSteps::consume(u64 size) {
    m_done += size;
    if (!is_transfer(m_request->operation)) return;
    while (size != 0) {
        const u64 part = std::min<u64>(m_request->memory[m_segment].iov_len - m_segment_done, size);
        m_segment_done += part;
        size -= part;
        if (m_segment_done == m_request->memory[m_segment].iov_len) {
            ++m_segment;
            m_segment_done = 0;
        }
    }
}

std::optional<BlockStatus> RequestSteps::failure(int error) {
    // Interrupted, or cancelled because a worker of the kernel ended.
    if ((error == EINTR || error == EAGAIN || error == ECANCELED) && ++m_repeats < max_repeats)
        return std::nullopt;
    if (m_step.kind == HostStep::Kind::punch_hole &&
        m_request->operation == BlockOperation::discard && means_unsupported(error))
        return BlockStatus::ok;
    if ((m_step.kind == HostStep::Kind::zero_range || m_step.kind == HostStep::Kind::punch_hole) &&
        m_request->operation == BlockOperation::write_zeroes && means_unsupported(error)) {
        m_zeroing = m_zeroing == Zeroing::zero_range ? Zeroing::punch_hole : Zeroing::write;
        // EINVAL and EPERM may come from this range alone; the others from the file system.
        if (error != EINVAL && error != EPERM)
            m_traits->zeroing.store(m_zeroing, std::memory_order_relaxed);
        m_synchronise_after = false;
        next_step();
        return std::nullopt;
    }
    // Direct I/O that wants more than it said it did.
    if (error == EINVAL && m_traits->memory_alignment > 1 && !m_bounced &&
        is_transfer(m_request->operation)) {
        m_bounced = true;
        next_step();
        return std::nullopt;
    }
    m_error = error;
    return status_of(error);
}

std::optional<BlockStatus> RequestSteps::transferred(u64 size) {
    VERIFY(size <= m_step.size);
    m_repeats = 0;
    if (m_bounced && m_step.kind == HostStep::Kind::read) copy_bounced(size, true);
    consume(size);
    if (m_done == m_request->size) return BlockStatus::ok;
    // Nothing, or with direct I/O a part of a sector: the file ends here.
    if (size == 0 || (m_traits->memory_alignment > 1 && m_done % sector != 0))
        return BlockStatus::io_error;
    next_step();
    return std::nullopt;
}

std::optional<BlockStatus> RequestSteps::advance(i64 result) {
    if (m_verdict) return m_verdict;
    if (result < 0) return failure(static_cast<int>(-result));
    std::optional<BlockStatus> status = BlockStatus::ok;
    if (m_step.kind == HostStep::Kind::read || m_step.kind == HostStep::Kind::write)
        status = transferred(static_cast<u64>(result));
    if (status == BlockStatus::ok && m_synchronise_after) {
        m_synchronise_after = false;
        m_step = {HostStep::Kind::synchronise};
        return std::nullopt;
    }
    return status;
}

void RequestSteps::abandon() {
    m_request = nullptr;
    m_step = {};
}

} // namespace gnomon::platform
