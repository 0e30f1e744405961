// SPDX-License-Identifier: Apache-2.0
#include "completions/ram_disk.h"

#include "base/host_time.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <utility>

namespace gnomon::test {

using platform::BlockOperation;
using platform::BlockRequest;
using platform::BlockStatus;

Result<std::unique_ptr<RamDisk>> RamDisk::create(const RamDiskOptions& options) {
    std::unique_ptr<RamDisk> disk(new RamDisk(options));
    const int descriptor = options.latency_ns != 0
                               ? ::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)
                               : ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    disk->m_ready = FileDescriptor(descriptor);
    if (!disk->m_ready) return fail("cannot create a descriptor: {}", std::strerror(errno));
    return disk;
}

RamDisk::RamDisk(const RamDiskOptions& options)
    : m_options(options), m_contents(options.blocks * block_bytes) {
    for (u64 block = 0; block < options.blocks; ++block)
        std::memcpy(m_contents.data() + block * block_bytes, &block, sizeof block);
}

void RamDisk::submit(BlockRequest& request) {
    const u64 ready = m_options.latency_ns != 0 ? monotonic_ns() + m_options.latency_ns : 0;
    m_waiting.push_back({&request, ready});
}

void RamDisk::commit() {
    if (m_options.steal_every != 0 && ++m_commits % m_options.steal_every == 0) {
        constexpr u64 second = 1'000'000'000;
        const timespec stolen{static_cast<time_t>(m_options.steal_ns / second),
                              static_cast<long>(m_options.steal_ns % second)};
        ::nanosleep(&stolen, nullptr);
    }
    // What is ready now is reaped before the guest goes on: nobody is to be woken for it.
    if (release() && m_options.latency_ns != 0 && !m_armed) arm();
}

bool RamDisk::release() {
    if (m_released == 0 && m_waiting.size() >= m_options.gather) m_released = m_waiting.size();
    return m_released != 0;
}

/// The descriptor tells of the first request; the next is told of when that has been taken.
void RamDisk::arm() {
    m_armed = true;
    if (m_options.latency_ns == 0) { // arming a timer is dear
        const u64 one = 1;
        [[maybe_unused]] const auto written = ::write(m_ready.get(), &one, sizeof one);
        return;
    }
    itimerspec when{};
    const u64 ready = std::max<u64>(m_waiting.front().ready_ns, 1);
    when.it_value.tv_sec = static_cast<time_t>(ready / 1'000'000'000);
    when.it_value.tv_nsec = static_cast<long>(ready % 1'000'000'000);
    ::timerfd_settime(m_ready.get(), TFD_TIMER_ABSTIME, &when, nullptr);
}

void RamDisk::disarm() {
    m_armed = false;
    if (m_options.latency_ns == 0) {
        u64 count = 0;
        [[maybe_unused]] const auto got = ::read(m_ready.get(), &count, sizeof count);
        return;
    }
    const itimerspec never{};
    ::timerfd_settime(m_ready.get(), 0, &never, nullptr);
}

unsigned RamDisk::reap() {
    const u64 now = m_options.latency_ns != 0 ? monotonic_ns() : 0;
    unsigned done = 0;
    for (std::size_t left = release() ? std::min(m_released, m_options.per_reap) : 0;
         left != 0 && m_waiting.front().ready_ns <= now; --left, ++done) {
        BlockRequest& request = *m_waiting.front().request;
        const u64 ready = m_waiting.front().ready_ns;
        m_waiting.pop_front();
        --m_released;
        request.done(perform(request)); // submits others, perhaps
        if (m_options.told_after_ns != nullptr && ready != 0)
            m_options.told_after_ns->push_back(monotonic_ns() - ready);
    }
    if (done == 0) return 0;
    if (!release()) {
        if (m_armed) disarm();
    } else if (m_options.latency_ns != 0 || !m_armed) {
        arm();
    }
    return done;
}

BlockStatus RamDisk::perform(const BlockRequest& request) {
    if (request.operation != BlockOperation::read && request.operation != BlockOperation::write)
        return BlockStatus::ok;
    if (request.offset > size() || request.size > size() - request.offset)
        return BlockStatus::out_of_range;
    std::byte* at = m_contents.data() + request.offset;
    for (const iovec& piece : request.memory) {
        if (request.operation == BlockOperation::read)
            std::memcpy(piece.iov_base, at, piece.iov_len);
        else
            std::memcpy(at, piece.iov_base, piece.iov_len);
        at += piece.iov_len;
    }
    return BlockStatus::ok;
}

} // namespace gnomon::test
