// SPDX-License-Identifier: Apache-2.0
#include "platform/block/uring_back_end.h"

#include "base/verify.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <linux/falloc.h>
#include <poll.h>
#include <utility>

namespace gnomon::platform {

namespace {

constexpr std::array<u8, 7> operations{IORING_OP_NOP,      IORING_OP_READ,   IORING_OP_READV,
                                       IORING_OP_WRITE,    IORING_OP_WRITEV, IORING_OP_FSYNC,
                                       IORING_OP_FALLOCATE};

struct ProbeFreed {
    void operator()(io_uring_probe* probe) const { ::io_uring_free_probe(probe); }
};

/// What may be asked of the ring once it is enabled: these operations, with the registered file.
Result<> restrict_ring(io_uring& ring) {
    std::array<io_uring_restriction, operations.size() + 1> rules{};
    for (std::size_t i = 0; i < operations.size(); ++i) {
        rules[i].opcode = IORING_RESTRICTION_SQE_OP;
        rules[i].sqe_op = operations[i];
    }
    rules.back().opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED;
    rules.back().sqe_flags = IOSQE_FIXED_FILE;
    // The shared library of liburing 2.3 lacks the functions that are declared for these two.
    const auto fd = static_cast<unsigned>(ring.ring_fd);
    if (const int error = ::io_uring_register(fd, IORING_REGISTER_RESTRICTIONS, rules.data(),
                                              static_cast<unsigned>(rules.size()));
        error < 0)
        return fail("its rings cannot be restricted: {}", std::strerror(-error));
    if (const int error = ::io_uring_register(fd, IORING_REGISTER_ENABLE_RINGS, nullptr, 0);
        error < 0)
        return fail("its rings cannot be enabled: {}", std::strerror(-error));
    return {};
}

} // namespace

Result<> UringBackEnd::set_up(int fd) {
    io_uring& ring = m_ring.ring;
    if (const int error = ::io_uring_queue_init(submission_entries, &ring, IORING_SETUP_R_DISABLED);
        error < 0)
        return fail("{}", std::strerror(-error));
    m_ring.open = true;
    const std::unique_ptr<io_uring_probe, ProbeFreed> probe(::io_uring_get_probe_ring(&ring));
    for (const u8 operation : operations) {
        if (probe == nullptr || ::io_uring_opcode_supported(probe.get(), operation) == 0)
            return fail("the kernel's lacks an operation ({})", operation);
    }
    // Lists of segments may go as soon as they are submitted.
    if ((ring.features & IORING_FEAT_SUBMIT_STABLE) == 0) return fail("the kernel's is too old");
    if (const int error = ::io_uring_register_files(&ring, &fd, 1); error < 0)
        return fail("the file cannot be registered: {}", std::strerror(-error));
    return restrict_ring(ring);
}

Result<std::unique_ptr<BlockBackEnd>> UringBackEnd::create(std::unique_ptr<DiskFile>& file,
                                                           std::unique_ptr<DiskReports>& reports) {
    std::unique_ptr<UringBackEnd> end(new UringBackEnd);
    if (auto good = end->set_up(file->descriptor.get()); !good) return tl::unexpected(good.error());
    end->m_file = std::move(file);
    end->m_reports = std::move(reports);
    return end;
}

bool UringBackEnd::available() {
    Ring ring;
    ring.open = ::io_uring_queue_init(1, &ring.ring, 0) == 0;
    return ring.open;
}

UringBackEnd::~UringBackEnd() {
    m_waiting.clear();
    m_next_steps.clear();
    // Entries that were prepared, too, so that all are counted in one way.
    while (m_in_ring != 0) {
        const int result = ::io_uring_submit_and_wait(&m_ring.ring, 1);
        VERIFY(result >= 0 || result == -EINTR || result == -EAGAIN || result == -EBUSY);
        io_uring_cqe* entry = nullptr;
        while (::io_uring_peek_cqe(&m_ring.ring, &entry) == 0) {
            ::io_uring_cqe_seen(&m_ring.ring, entry);
            --m_in_ring;
        }
    }
}

/// Nothing while the ring is full, or might complete more than it has places for.
io_uring_sqe* UringBackEnd::free_entry() {
    if (m_in_ring == m_ring.ring.cq.ring_entries) return nullptr;
    return ::io_uring_get_sqe(&m_ring.ring);
}

void UringBackEnd::prepare(io_uring_sqe& entry, RequestSteps& steps) {
    constexpr int file = 0; // the number under which it is registered
    const HostStep& step = steps.step();
    switch (step.kind) {
    case HostStep::Kind::none: ::io_uring_prep_nop(&entry); break;
    case HostStep::Kind::read:
        if (step.count == 1) {
            ::io_uring_prep_read(&entry, file, step.memory->iov_base,
                                 static_cast<unsigned>(step.size), step.offset);
        } else {
            ::io_uring_prep_readv(&entry, file, step.memory, step.count, step.offset);
        }
        break;
    case HostStep::Kind::write:
        if (step.count == 1) {
            ::io_uring_prep_write(&entry, file, step.memory->iov_base,
                                  static_cast<unsigned>(step.size), step.offset);
        } else {
            ::io_uring_prep_writev(&entry, file, step.memory, step.count, step.offset);
        }
        if (step.stable) entry.rw_flags = RWF_DSYNC;
        break;
    case HostStep::Kind::synchronise:
        ::io_uring_prep_fsync(&entry, file, IORING_FSYNC_DATASYNC);
        break;
    case HostStep::Kind::zero_range:
    case HostStep::Kind::punch_hole:
        // By hand: the library's function takes signed numbers.
        ::io_uring_prep_fallocate(&entry, file, 0, 0, 0);
        entry.len =
            static_cast<unsigned>(FALLOC_FL_KEEP_SIZE) |
            static_cast<unsigned>(step.kind == HostStep::Kind::zero_range ? FALLOC_FL_ZERO_RANGE
                                                                          : FALLOC_FL_PUNCH_HOLE);
        entry.off = step.offset;
        entry.addr = step.size;
        break;
    }
    ::io_uring_sqe_set_data(&entry, &steps);
    entry.flags = IOSQE_FIXED_FILE;
    ++m_in_ring;
}

void UringBackEnd::prepare_waiting() {
    while (!m_next_steps.empty()) {
        io_uring_sqe* const entry = free_entry();
        if (entry == nullptr) return;
        prepare(*entry, *m_next_steps.front());
        m_next_steps.pop_front();
    }
    while (!m_waiting.empty()) {
        io_uring_sqe* const entry = free_entry();
        if (entry == nullptr) return;
        if (m_free_steps.empty()) {
            m_all_steps.push_back(std::make_unique<RequestSteps>());
            m_free_steps.push_back(m_all_steps.back().get());
        }
        RequestSteps& steps = *m_free_steps.back();
        m_free_steps.pop_back();
        steps.start(*m_waiting.front(), m_file->traits);
        m_waiting.pop_front();
        prepare(*entry, steps);
    }
}

void UringBackEnd::submit(BlockRequest& request) {
    ++m_under_way;
    m_waiting.push_back(&request);
}

void UringBackEnd::commit() {
    while (true) {
        prepare_waiting();
        if (::io_uring_sq_ready(&m_ring.ring) == 0) return;
        const int result = ::io_uring_submit(&m_ring.ring);
        if (result > 0 || result == -EINTR) continue;
        VERIFY(result == 0 || result == -EAGAIN || result == -EBUSY || result == -ENOMEM);
        // The host has no memory for it now. Something that completes leads here again; without
        // that there is nothing but to wait.
        if (m_in_ring != ::io_uring_sq_ready(&m_ring.ring)) return;
        ::poll(nullptr, 0, 1);
    }
}

bool UringBackEnd::take(io_uring_cqe& entry) {
    auto& steps = *static_cast<RequestSteps*>(::io_uring_cqe_get_data(&entry));
    const int result = entry.res;
    ::io_uring_cqe_seen(&m_ring.ring, &entry);
    --m_in_ring;
    const auto status = steps.advance(result);
    if (!status) {
        m_next_steps.push_back(&steps);
        return false;
    }
    BlockRequest& request = steps.request();
    if (*status != BlockStatus::ok) m_reports->failed(request, *status, steps.error());
    m_free_steps.push_back(&steps);
    --m_under_way;
    request.done(*status);
    return true;
}

unsigned UringBackEnd::reap() {
    unsigned finished = 0;
    // No more than are there now: what `done` submits is for the next time.
    for (unsigned left = ::io_uring_cq_ready(&m_ring.ring); left != 0; --left) {
        io_uring_cqe* entry = nullptr;
        if (::io_uring_peek_cqe(&m_ring.ring, &entry) != 0) break;
        if (take(*entry)) ++finished;
    }
    commit();
    return finished;
}

} // namespace gnomon::platform
