// SPDX-License-Identifier: Apache-2.0
#include "platform/block/thread_back_end.h"

#include "base/signal_mask.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace gnomon::platform {

namespace {

/// As io_uring gives it: a count, or a negative errno.
i64 perform_step(int fd, const HostStep& step) {
    const auto offset = static_cast<off_t>(step.offset), size = static_cast<off_t>(step.size);
    const int count = static_cast<int>(step.count);
    i64 result = 0;
    switch (step.kind) {
    case HostStep::Kind::none: break;
    case HostStep::Kind::read: result = ::preadv(fd, step.memory, count, offset); break;
    case HostStep::Kind::write:
        result = ::pwritev2(fd, step.memory, count, offset, step.stable ? RWF_DSYNC : 0);
        break;
    case HostStep::Kind::synchronise: result = ::fdatasync(fd); break;
    case HostStep::Kind::zero_range:
        result = ::fallocate(fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_ZERO_RANGE, offset, size);
        break;
    case HostStep::Kind::punch_hole:
        result = ::fallocate(fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, offset, size);
        break;
    }
    return result < 0 ? -errno : result;
}

} // namespace

Result<std::unique_ptr<BlockBackEnd>> ThreadBackEnd::create(std::unique_ptr<DiskFile> file,
                                                            std::unique_ptr<DiskReports> reports) {
    std::unique_ptr<ThreadBackEnd> end(new ThreadBackEnd);
    end->m_event = FileDescriptor(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!end->m_event)
        return fail("disk {}: cannot create an eventfd: {}", file->path, std::strerror(errno));
    end->m_file = std::move(file);
    end->m_reports = std::move(reports);
    return end;
}

ThreadBackEnd::~ThreadBackEnd() {
    {
        const std::scoped_lock lock(m_mutex);
        m_stop = true;
    }
    m_work.notify_all();
    for (std::thread& thread : m_threads)
        thread.join();
}

void ThreadBackEnd::submit(BlockRequest& request) {
    ++m_under_way;
    m_submitted.push_back(&request);
}

bool ThreadBackEnd::add_thread() {
    const SignalsBlocked blocked; // they go to the thread that runs the machine
    try {
        m_threads.emplace_back([this] { work(); });
        return true;
    } catch (const std::system_error&) {
        return false;
    }
}

void ThreadBackEnd::commit() {
    if (m_submitted.empty()) return;
    std::size_t wanted = 0;
    {
        const std::scoped_lock lock(m_mutex);
        m_queue.insert(m_queue.end(), m_submitted.begin(), m_submitted.end());
        wanted = m_queue.size() - std::min(m_queue.size(), m_idle);
    }
    for (std::size_t i = 0; i < m_submitted.size(); ++i)
        m_work.notify_one();
    m_submitted.clear();
    for (; wanted != 0 && m_threads.size() < max_threads; --wanted)
        if (!add_thread()) break;
    if (!m_threads.empty()) return;
    // The host gives us none at all.
    const std::scoped_lock lock(m_mutex);
    for (BlockRequest* const request : std::exchange(m_queue, {}))
        finish({request, BlockStatus::io_error, EAGAIN});
}

void ThreadBackEnd::finish(const Finished& one) {
    m_finished.push_back(one);
    if (m_finished.size() != 1) return;
    const u64 count = 1;
    [[maybe_unused]] const auto written = ::write(m_event.get(), &count, sizeof count);
}

std::optional<BlockStatus> ThreadBackEnd::perform(RequestSteps& steps) {
    while (true) {
        if (const auto status = steps.advance(perform_step(m_file->descriptor.get(), steps.step())))
            return status;
        const std::scoped_lock lock(m_mutex);
        if (m_stop) return std::nullopt;
    }
}

void ThreadBackEnd::work() {
    RequestSteps steps;
    std::unique_lock lock(m_mutex);
    while (true) {
        ++m_idle;
        m_work.wait(lock, [&] { return m_stop || !m_queue.empty(); });
        --m_idle;
        if (m_stop) return;
        BlockRequest& request = *m_queue.front();
        m_queue.pop_front();
        lock.unlock();
        steps.start(request, m_file->traits);
        const auto status = perform(steps);
        lock.lock();
        if (!status) return;
        finish({&request, *status, steps.error()});
    }
}

unsigned ThreadBackEnd::reap() {
    {
        const std::scoped_lock lock(m_mutex);
        if (m_finished.empty()) return 0;
        // Under the lock, as `finish`: not zero exactly while there is something.
        u64 count = 0;
        [[maybe_unused]] const auto got = ::read(m_event.get(), &count, sizeof count);
        std::swap(m_finished, m_reaped);
    }
    const auto finished = static_cast<unsigned>(m_reaped.size());
    for (const Finished& one : m_reaped) {
        if (one.status != BlockStatus::ok) m_reports->failed(*one.request, one.status, one.error);
        --m_under_way;
        one.request->done(one.status);
    }
    m_reaped.clear();
    commit();
    return finished;
}

} // namespace gnomon::platform
