// SPDX-License-Identifier: Apache-2.0
#include "monitor/event_thread.h"

#include "base/host_time.h"
#include "base/signal_mask.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <x86intrin.h>

namespace gnomon::monitor {

Result<std::unique_ptr<EventThread>> EventThread::create(std::function<void()> kick,
                                                         std::vector<int> descriptors,
                                                         std::vector<int> completions,
                                                         Heartbeat& heartbeat) {
    std::unique_ptr<EventThread> t(new EventThread(heartbeat));
    t->m_kick = std::move(kick);
    t->m_descriptors = std::move(descriptors);
    t->m_event = FileDescriptor(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!t->m_event) return fail("cannot create an eventfd: {}", std::strerror(errno));
    if (auto added = t->add_completions(completions); !added) return tl::unexpected(added.error());
    const SignalsBlocked blocked; // they go to the thread that runs the machine
    t->m_thread = std::thread([p = t.get()] { p->loop(); });
    return t;
}

Result<> EventThread::add_completions(const std::vector<int>& descriptors) {
    if (descriptors.empty()) return {};
    m_completions = FileDescriptor(::epoll_create1(EPOLL_CLOEXEC));
    if (!m_completions) return fail("cannot create an epoll instance: {}", std::strerror(errno));
    for (const int fd : descriptors) {
        epoll_event event{};
        event.events = EPOLLIN | EPOLLET;
        event.data.fd = fd;
        if (::epoll_ctl(m_completions.get(), EPOLL_CTL_ADD, fd, &event) != 0)
            return fail("cannot watch a disk's completions: {}", std::strerror(errno));
    }
    return {};
}

/// Takes the edges, so that the next poll waits for new ones. @return whether there were any.
bool EventThread::take_completions() {
    std::array<epoll_event, 32> edges{};
    return ::epoll_wait(m_completions.get(), edges.data(), static_cast<int>(edges.size()), 0) > 0;
}

EventThread::~EventThread() {
    m_stop = true;
    wake();
    if (m_thread.joinable()) m_thread.join();
}

void EventThread::wake() {
    const u64 one = 1;
    [[maybe_unused]] const auto written =
        ::write(m_event.get(), &one, sizeof one); // full means already awake
}

void EventThread::set_deadline(u64 deadline) {
    m_deadline.store(deadline);
    if (deadline < m_sleeping_until.load()) wake();
}

void EventThread::clear_input() {
    if (!m_input.exchange(false)) return;
    wake();
}

void EventThread::loop() {
    std::vector<pollfd> fds;
    u64 linger = 0; // 0: sleeps as long as it may
    while (!m_stop) {
        m_heartbeat.beat(__rdtsc());
        // Announced before it is used, so that whoever sets an earlier deadline now wakes us.
        u64 deadline = m_deadline.load();
        if (linger != 0) deadline = std::min(deadline, monotonic_ns() + linger);
        m_sleeping_until.store(deadline);
        if (m_deadline.load() < deadline) continue;

        fds.assign(1, {m_event.get(), POLLIN, 0});
        const std::size_t inputs = m_completions ? 2 : 1;
        if (m_completions) fds.push_back({m_completions.get(), POLLIN, 0});
        if (!m_input)
            for (const int fd : m_descriptors)
                fds.push_back({fd, POLLIN, 0});
        timespec timeout{};
        const u64 now = monotonic_ns();
        const u64 wait = deadline > now ? std::min(deadline - now, Heartbeat::interval_ns) : 0;
        timeout.tv_sec = static_cast<time_t>(wait / 1'000'000'000);
        timeout.tv_nsec = static_cast<long>(wait % 1'000'000'000);
        const int ready = ::ppoll(fds.data(), fds.size(), &timeout, nullptr);
        if (ready == 0 && linger != 0 && m_deadline.load() > deadline) { // for nothing
            linger *= 2;
            if (linger > longest_linger_ns) linger = 0;
        }
        if (ready > 0) {
            if ((fds[0].revents & POLLIN) != 0) {
                u64 count = 0;
                [[maybe_unused]] const auto got = ::read(m_event.get(), &count, sizeof count);
                // What woke us may have been put off meanwhile.
                const u64 asked = m_deadline.load(), woken = monotonic_ns();
                linger = std::clamp(asked > woken ? asked - woken : 0, shortest_linger_ns,
                                    longest_linger_ns);
            }
            for (std::size_t i = inputs; i < fds.size(); ++i)
                if (fds[i].revents != 0) m_input = true;
            if (m_input && fds.size() > inputs) m_kick();
            if (inputs > 1 && fds[1].revents != 0 && take_completions() && m_watch_completions)
                m_kick();
        }
        if (monotonic_ns() >= m_deadline.load()) {
            u64 expired = m_deadline.load();
            // Once a deadline: the machine sets the next.
            if (expired <= monotonic_ns() && m_deadline.compare_exchange_strong(expired, never))
                m_kick();
        }
    }
}

} // namespace gnomon::monitor
