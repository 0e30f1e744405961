// SPDX-License-Identifier: Apache-2.0
#include "platform/block/nbd_back_end.h"

#include "base/host_time.h"
#include "base/verify.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <libnbd.h>
#include <string_view>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <utility>

namespace gnomon::platform {

namespace {

constexpr i64 sector = 512;

/// What a step that libnbd did not even take counts as.
i64 refused_step() {
    const int error = ::nbd_get_errno();
    return error > 0 ? -error : -EIO;
}

} // namespace

void NbdBackEnd::HandleClosed::operator()(nbd_handle* handle) const { ::nbd_close(handle); }

// ---------------------------------------------------------------- connecting

/// The library's last complaint: "nbd_connect_uri: connect: Connection refused" without the first
/// part, which names a function.
std::string NbdBackEnd::reason() const {
    if (m_server != nullptr) {
        if (std::string words = m_server->last_words(); !words.empty()) return words;
    }
    const char* const error = ::nbd_get_error();
    if (error == nullptr) return "the connection has ended";
    std::string_view text(error);
    if (const auto colon = text.find(": "); text.starts_with("nbd_") && colon != text.npos)
        text.remove_prefix(colon + 2);
    return std::string(text);
}

Result<> NbdBackEnd::finish_connecting() {
    const u64 deadline = monotonic_ns() + patience_ns;
    while (::nbd_aio_is_connecting(m_handle.get()) != 0) {
        const u64 now = monotonic_ns();
        if (now >= deadline) return fail("the server does not answer");
        constexpr u64 millisecond = 1'000'000;
        const int result =
            ::nbd_poll(m_handle.get(), static_cast<int>((deadline - now) / millisecond) + 1);
        if (result < 0 && ::nbd_get_errno() != EINTR) break;
    }
    if (::nbd_aio_is_ready(m_handle.get()) != 1) return fail("{}", reason());
    return {};
}

Result<> NbdBackEnd::learn_traits(bool read_only) {
    nbd_handle* const handle = m_handle.get();
    const i64 size = ::nbd_get_size(handle);
    if (size < 0) return fail("{}", reason());
    if (size == 0) return fail("it is empty");
    if (size % sector != 0)
        return fail("its size, {} bytes, is not a multiple of {}; have it served with another size",
                    size, sector);
    if (!read_only && ::nbd_is_read_only(handle) == 1)
        return fail("the server offers it for reading only; add readonly");
    if (const i64 least = ::nbd_get_block_size(handle, LIBNBD_SIZE_MINIMUM); least > sector)
        return fail("the server wants blocks of {} bytes, and disks have sectors of {}; serve it "
                    "with smaller ones (nbdkit --filter=blocksize minblock=512)",
                    least, sector);
    m_traits.size = static_cast<u64>(size);
    m_traits.read_only = read_only;
    m_traits.contiguous = true;
    constexpr u64 most = u64{4} << 20; // so that others come through between
    const i64 largest = ::nbd_get_block_size(handle, LIBNBD_SIZE_MAXIMUM);
    m_traits.max_step_bytes =
        largest >= sector ? std::min(static_cast<u64>(largest / sector * sector), most) : most;
    m_traits.bounce_bytes = u64{1} << 20;
    m_traits.flush = ::nbd_can_flush(handle) == 1;
    m_traits.stable_writes = ::nbd_can_fua(handle) == 1 || !m_traits.flush;
    m_traits.stable_zeroing = m_traits.stable_writes;
    m_traits.discard = ::nbd_can_trim(handle) == 1;
    m_traits.zeroing = ::nbd_can_zero(handle) == 1 ? Zeroing::zero_range : Zeroing::write;
    return {};
}

Result<> NbdBackEnd::set_up(bool read_only) {
    if (auto good = finish_connecting(); !good) return good;
    if (auto good = learn_traits(read_only); !good) return good;
    m_poll = FileDescriptor(::epoll_create1(EPOLL_CLOEXEC));
    m_event = FileDescriptor(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = m_event.get();
    epoll_event connection{};
    connection.events = m_watched = EPOLLIN;
    connection.data.fd = ::nbd_aio_get_fd(m_handle.get());
    if (!m_poll || !m_event ||
        ::epoll_ctl(m_poll.get(), EPOLL_CTL_ADD, event.data.fd, &event) != 0 ||
        ::epoll_ctl(m_poll.get(), EPOLL_CTL_ADD, connection.data.fd, &connection) != 0)
        return fail("cannot watch the connection: {}", std::strerror(errno));
    return {};
}

Result<std::unique_ptr<BlockBackEnd>> NbdBackEnd::connect(const std::string& uri, bool read_only,
                                                          DiskReport report) {
    std::unique_ptr<NbdBackEnd> end(new NbdBackEnd(uri, std::move(report)));
    end->m_handle.reset(::nbd_create());
    nbd_handle* const handle = end->m_handle.get();
    if (handle == nullptr ||
        ::nbd_set_uri_allow_transports(handle, LIBNBD_ALLOW_TRANSPORT_TCP |
                                                   LIBNBD_ALLOW_TRANSPORT_UNIX) != 0 ||
        ::nbd_set_uri_allow_tls(handle, LIBNBD_TLS_DISABLE) != 0 ||
        ::nbd_aio_connect_uri(handle, uri.c_str()) != 0)
        return fail("disk {}: {}", uri, end->reason());
    if (auto good = end->set_up(read_only); !good)
        return fail("disk {}: {}", uri, good.error().message);
    return end;
}

Result<std::unique_ptr<BlockBackEnd>> NbdBackEnd::adopt(std::unique_ptr<QemuNbd> server,
                                                        const std::string& path, bool read_only,
                                                        DiskReport report) {
    std::unique_ptr<NbdBackEnd> end(new NbdBackEnd(path, std::move(report)));
    end->m_server = std::move(server);
    end->m_handle.reset(::nbd_create());
    nbd_handle* const handle = end->m_handle.get();
    // The library owns the socket from here on, and closes it if it fails.
    FileDescriptor connection = end->m_server->take_connection();
    const int socket = ::dup(connection.get());
    connection.reset();
    Result<> good;
    if (handle == nullptr || ::nbd_aio_connect_socket(handle, socket) != 0) {
        good = fail("{}", end->reason());
    } else {
        good = end->set_up(read_only);
    }
    if (good) return end;
    end->m_server->kill();
    return fail("disk {}: qemu-nbd: {}", path, good.error().message);
}

NbdBackEnd::~NbdBackEnd() {
    m_handle.reset(); // completes what is at the server, into slots that are there still
}

// ---------------------------------------------------------------- requests

int NbdBackEnd::on_completion(void* slot, int* error) {
    auto& one = *static_cast<Slot*>(slot);
    const HostStep& step = one.steps.step();
    const bool transfer = step.kind == HostStep::Kind::read || step.kind == HostStep::Kind::write;
    one.end->completed(one, *error != 0 ? -*error : transfer ? static_cast<i64>(step.size) : 0);
    return 1; // the library forgets it
}

void NbdBackEnd::completed(Slot& slot, i64 result) {
    slot.result = result;
    m_completed.push_back(&slot);
}

void NbdBackEnd::begin(Slot& slot) {
    const HostStep& step = slot.steps.step();
    if (m_gone) {
        completed(slot, step.kind == HostStep::Kind::none ? 0 : -ENOTCONN);
        return;
    }
    nbd_handle* const handle = m_handle.get();
    const nbd_completion_callback callback{on_completion, &slot, nullptr};
    const u32 stable = step.stable && ::nbd_can_fua(handle) == 1 ? LIBNBD_CMD_FLAG_FUA : 0;
    i64 cookie = 0;
    switch (step.kind) {
    case HostStep::Kind::none: completed(slot, 0); return;
    case HostStep::Kind::read:
        VERIFY(step.count == 1);
        cookie =
            ::nbd_aio_pread(handle, step.memory->iov_base, step.size, step.offset, callback, 0);
        break;
    case HostStep::Kind::write:
        VERIFY(step.count == 1);
        cookie = ::nbd_aio_pwrite(handle, step.memory->iov_base, step.size, step.offset, callback,
                                  stable);
        break;
    case HostStep::Kind::synchronise: cookie = ::nbd_aio_flush(handle, callback, 0); break;
    case HostStep::Kind::zero_range:
        cookie = ::nbd_aio_zero(handle, step.size, step.offset, callback, stable);
        break;
    case HostStep::Kind::punch_hole:
        cookie = ::nbd_aio_trim(handle, step.size, step.offset, callback, 0);
        break;
    }
    if (cookie >= 0) return;
    const i64 refused = refused_step();
    notice_end();
    completed(slot, m_gone ? -ENOTCONN : refused);
}

void NbdBackEnd::submit(BlockRequest& request) {
    ++m_under_way;
    m_waiting.push_back(&request);
}

void NbdBackEnd::commit() {
    while (!m_waiting.empty()) {
        if (m_free_slots.empty()) {
            if (m_slots.size() == max_at_server) break;
            m_slots.push_back(std::make_unique<Slot>());
            m_slots.back()->end = this;
            m_free_slots.push_back(m_slots.back().get());
        }
        Slot& slot = *m_free_slots.back();
        m_free_slots.pop_back();
        slot.steps.start(*m_waiting.front(), m_traits);
        m_waiting.pop_front();
        begin(slot);
    }
    watch();
}

void NbdBackEnd::notice_end() {
    if (m_gone ||
        (::nbd_aio_is_dead(m_handle.get()) != 1 && ::nbd_aio_is_closed(m_handle.get()) != 1))
        return;
    m_gone = true; // its descriptor is closed, and with it no longer watched
    std::string words = m_server != nullptr ? m_server->last_words() : std::string();
    if (!words.empty()) words = fmt::format(" ({})", words);
    m_reports.say(fmt::format("the server is gone{}; all requests fail from now on", words));
}

/// What the connection waits for, and whether something is there to reap without it.
void NbdBackEnd::watch() {
    notice_end();
    if (!m_gone) {
        const unsigned direction = ::nbd_aio_get_direction(m_handle.get());
        unsigned wanted = 0;
        if ((direction & LIBNBD_AIO_DIRECTION_READ) != 0) wanted |= EPOLLIN;
        if ((direction & LIBNBD_AIO_DIRECTION_WRITE) != 0) wanted |= EPOLLOUT;
        if (wanted != m_watched) {
            epoll_event event{};
            event.events = m_watched = wanted;
            event.data.fd = ::nbd_aio_get_fd(m_handle.get());
            ::epoll_ctl(m_poll.get(), EPOLL_CTL_MOD, event.data.fd, &event);
        }
    }
    if (m_completed.empty() || m_signalled) return;
    const u64 one = 1;
    m_signalled = ::write(m_event.get(), &one, sizeof one) == sizeof one;
}

/// Sends and receives what can be without waiting.
void NbdBackEnd::move() {
    std::array<epoll_event, 2> events{};
    const int ready = ::epoll_wait(m_poll.get(), events.data(), static_cast<int>(events.size()), 0);
    for (int i = 0; i < ready; ++i) {
        const epoll_event& event = events[static_cast<std::size_t>(i)];
        if (event.data.fd == m_event.get()) {
            u64 count = 0;
            [[maybe_unused]] const auto got = ::read(m_event.get(), &count, sizeof count);
            m_signalled = false;
            continue;
        }
        nbd_handle* const handle = m_handle.get();
        const unsigned direction = ::nbd_aio_get_direction(handle);
        // A connection that ended is found by either.
        const bool ended = (event.events & (EPOLLHUP | EPOLLERR)) != 0;
        if ((direction & LIBNBD_AIO_DIRECTION_READ) != 0 &&
            (ended || (event.events & EPOLLIN) != 0)) {
            ::nbd_aio_notify_read(handle);
        } else if ((direction & LIBNBD_AIO_DIRECTION_WRITE) != 0 &&
                   (ended || (event.events & EPOLLOUT) != 0)) {
            ::nbd_aio_notify_write(handle);
        }
    }
}

/// @return whether its request has finished.
bool NbdBackEnd::take(Slot& slot) {
    const auto status = slot.steps.advance(slot.result);
    if (!status) {
        begin(slot);
        return false;
    }
    BlockRequest& request = slot.steps.request();
    if (*status != BlockStatus::ok && !m_gone)
        m_reports.failed(request, *status, slot.steps.error());
    m_free_slots.push_back(&slot);
    --m_under_way;
    request.done(*status);
    return true;
}

unsigned NbdBackEnd::reap() {
    move();
    notice_end(); // before the requests fail that this ends
    std::swap(m_taken, m_completed);
    unsigned finished = 0;
    for (Slot* const slot : m_taken)
        if (take(*slot)) ++finished;
    m_taken.clear();
    commit();
    return finished;
}

} // namespace gnomon::platform
