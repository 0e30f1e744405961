// SPDX-License-Identifier: Apache-2.0
#include "support/dropping_back_end.h"

#include "base/verify.h"

#include <algorithm>
#include <cstring>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <utility>

namespace gnomon::test {

using platform::BlockOperation;
using platform::BlockRequest;
using platform::BlockStatus;

DroppingBackEnd::DroppingBackEnd(std::unique_ptr<platform::BlockBackEnd> below)
    : m_poll(::epoll_create1(EPOLL_CLOEXEC)), m_event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      m_below(std::move(below)) {
    for (const int fd : {m_event.get(), m_below->poll_descriptor()}) {
        epoll_event event{};
        event.events = EPOLLIN;
        VERIFY(::epoll_ctl(m_poll.get(), EPOLL_CTL_ADD, fd, &event) == 0);
    }
}

DroppingBackEnd::~DroppingBackEnd() = default;

void DroppingBackEnd::submit(BlockRequest& request) {
    ++m_under_way;
    m_waiting.push_back(&request);
}

void DroppingBackEnd::commit() {
    while (!m_waiting.empty() && m_flush == nullptr) {
        BlockRequest& request = *m_waiting.front();
        // Alone: what it writes back must not overtake anything, nor be overtaken.
        if (request.operation == BlockOperation::flush && !m_forwarded.empty()) break;
        m_waiting.pop_front();
        begin(request);
    }
    m_below->commit();
}

void DroppingBackEnd::begin(BlockRequest& request) {
    if (request.operation == BlockOperation::flush) {
        m_flush = &request;
        m_flush_status = BlockStatus::ok;
        write_back();
        return;
    }
    const bool outside =
        request.offset > size() || request.size > size() - request.offset || read_only();
    const bool cached =
        (request.operation == BlockOperation::write ||
         (request.operation == BlockOperation::write_zeroes && request.size <= longest_cached)) &&
        !request.fua;
    if (cached && !outside) {
        cache(request);
        finish(request, BlockStatus::ok);
        return;
    }
    if (request.operation != BlockOperation::read && !outside) forget(request.offset, request.size);
    forward(request);
}

void DroppingBackEnd::cache(const BlockRequest& request) {
    std::vector<std::byte> contents;
    contents.reserve(request.size);
    for (const iovec& one : request.memory) {
        const auto* const bytes = static_cast<const std::byte*>(one.iov_base);
        contents.insert(contents.end(), bytes, bytes + one.iov_len);
    }
    contents.resize(request.size); // zeroes have no memory
    for (u64 at = 0; at < request.size; at += sector)
        std::copy_n(contents.begin() + static_cast<std::ptrdiff_t>(at), sector,
                    m_cache[(request.offset + at) / sector].begin());
}

void DroppingBackEnd::forget(u64 offset, u64 size) {
    m_cache.erase(m_cache.lower_bound(offset / sector),
                  m_cache.lower_bound((offset + size) / sector));
}

void DroppingBackEnd::overlay(const BlockRequest& read) {
    const u64 first = read.offset / sector, end = (read.offset + read.size) / sector;
    for (auto it = m_cache.lower_bound(first); it != m_cache.end() && it->first < end; ++it) {
        u64 skip = (it->first - first) * sector, copied = 0;
        for (const iovec& one : read.memory) {
            if (skip >= one.iov_len) {
                skip -= one.iov_len;
                continue;
            }
            const u64 part = std::min<u64>(one.iov_len - skip, sector - copied);
            std::memcpy(static_cast<std::byte*>(one.iov_base) + skip, it->second.data() + copied,
                        part);
            copied += part;
            skip = 0;
            if (copied == sector) break;
        }
    }
}

void DroppingBackEnd::forward(BlockRequest& request) {
    auto one = std::make_unique<Forwarded>(*this);
    one->operation = request.operation;
    one->fua = request.fua;
    one->offset = request.offset;
    one->size = request.size;
    one->memory = request.memory;
    one->origin = &request;
    send_below(std::move(one));
}

DroppingBackEnd::Forwarded& DroppingBackEnd::send_below(std::unique_ptr<Forwarded> one) {
    Forwarded& sent = *one;
    m_forwarded.emplace(&sent, std::move(one));
    m_below->submit(sent);
    return sent;
}

/// One request for each run of sectors.
void DroppingBackEnd::write_back() {
    for (auto it = m_cache.begin(); it != m_cache.end();) {
        auto one = std::make_unique<Forwarded>(*this);
        one->operation = BlockOperation::write;
        one->offset = it->first * sector;
        for (u64 next = it->first; it != m_cache.end() && it->first == next; ++it, ++next)
            one->contents.insert(one->contents.end(), it->second.begin(), it->second.end());
        one->size = one->contents.size();
        one->memory.push_back({one->contents.data(), one->contents.size()});
        send_below(std::move(one));
    }
    if (m_forwarded.empty()) flush_advances(BlockStatus::ok);
}

void DroppingBackEnd::flush_advances(BlockStatus status) {
    if (status != BlockStatus::ok) m_flush_status = status;
    if (!m_forwarded.empty()) return;
    if (!m_flushing_below && m_flush_status == BlockStatus::ok) {
        m_flushing_below = true;
        auto one = std::make_unique<Forwarded>(*this);
        one->operation = BlockOperation::flush;
        send_below(std::move(one));
        return;
    }
    m_flushing_below = false;
    if (m_flush_status == BlockStatus::ok) m_cache.clear();
    finish(*std::exchange(m_flush, nullptr), m_flush_status);
}

void DroppingBackEnd::below_done(Forwarded& one, BlockStatus status) {
    const auto kept = m_forwarded.extract(&one); // it lives until this returns
    if (one.origin == nullptr) {
        flush_advances(status);
        return;
    }
    if (one.operation == BlockOperation::read && status == BlockStatus::ok) overlay(*one.origin);
    finish(*one.origin, status);
}

void DroppingBackEnd::finish(BlockRequest& request, BlockStatus status) {
    m_finished.push_back({&request, status});
    if (m_finished.size() != 1) return;
    const u64 count = 1;
    VERIFY(::write(m_event.get(), &count, sizeof count) == sizeof count);
}

unsigned DroppingBackEnd::reap() {
    m_below->reap();
    commit();
    if (!m_finished.empty()) {
        u64 count = 0;
        VERIFY(::read(m_event.get(), &count, sizeof count) == sizeof count);
    }
    const std::vector<Finished> finished = std::exchange(m_finished, {});
    for (const Finished& one : finished) {
        --m_under_way;
        one.request->done(one.status);
    }
    commit();
    return static_cast<unsigned>(finished.size());
}

} // namespace gnomon::test
