// SPDX-License-Identifier: Apache-2.0
#include "platform/virtio/block.h"

#include "base/verify.h"

#include <algorithm>
#include <cstring>
#include <poll.h>
#include <utility>

namespace gnomon::platform {

namespace {

constexpr u16 block_type = 2;
constexpr u32 mass_storage_class = 0x01'8000;
constexpr u64 sector_size = 512;
constexpr unsigned max_queues = 64;
/// A chain is at most as long as the queue; two descriptors are for header and status.
constexpr u32 max_segments = VirtioBlock::queue_size - 2;
constexpr u32 max_range_sectors = 1 << 22; // 2 GiB
constexpr unsigned id_size = 20;

enum class RequestType : u32 {
    in = 0,
    out = 1,
    flush = 4,
    get_id = 8,
    discard = 11,
    write_zeroes = 13,
};
constexpr u8 status_ok = 0, status_error = 1, status_unsupported = 2;

struct Header {
    u32 type = 0, reserved = 0;
    u64 sector = 0;
};
static_assert(sizeof(Header) == 16);

struct RangeSegment {
    static constexpr u32 unmap = 1;
    u64 sector = 0;
    u32 sectors = 0, flags = 0;
};
static_assert(sizeof(RangeSegment) == 16);

/// Moves `out.size()` bytes from the beginning of a buffer to `out`. There must be so many.
void take(std::vector<VirtioPiece>& pieces, std::span<std::byte> out) {
    std::size_t taken = 0, emptied = 0;
    for (VirtioPiece& piece : pieces) {
        const auto part = static_cast<u32>(std::min<std::size_t>(piece.size, out.size() - taken));
        if (part != 0) std::memcpy(out.data() + taken, piece.host, part);
        taken += part;
        piece.gpa += part;
        piece.host += part;
        piece.size -= part;
        if (piece.size != 0) break;
        ++emptied;
    }
    VERIFY(taken == out.size());
    pieces.erase(pieces.begin(), pieces.begin() + static_cast<std::ptrdiff_t>(emptied));
}

} // namespace

VirtioBlock::VirtioBlock(PciSlot slot, BlockBackEnd& back_end, CompletionScheduler& completions,
                         const VirtioBlockOptions& options, GuestMemory& memory,
                         DmaListener* listener, std::unique_ptr<DelayModel> delays)
    : VirtioPciDevice(std::move(slot),
                      {.type = block_type,
                       .class_code = mass_storage_class,
                       .name = "virtio-blk",
                       .features = BlockFeature::seg_max | BlockFeature::blk_size |
                                   BlockFeature::flush | BlockFeature::topology |
                                   BlockFeature::config_wce | BlockFeature::multiple_queues |
                                   (options.read_only || back_end.read_only()
                                        ? BlockFeature::read_only
                                        : BlockFeature::discard | BlockFeature::write_zeroes),
                       .queues = options.queues,
                       .queue_size = queue_size},
                      memory, listener),
      m_back_end(back_end), m_completions(completions),
      m_device(completions.add_device(options.name)), m_serial(options.serial.substr(0, id_size)),
      m_read_only(options.read_only || back_end.read_only()), m_in_queue(options.queues),
      m_full(options.queues), m_wanted(options.queues) {
    VERIFY(options.queues <= max_queues);
    m_delays = delays != nullptr ? std::move(delays) : std::make_unique<NoDelay>();
    m_completions.allow_batches(m_device);
    fill_config(options.queues);
}

VirtioBlock::~VirtioBlock() {
    reset();
    // What is dropped does not report to anyone (host_done), but the host may still use the memory.
    while (
        std::any_of(m_active.begin(), m_active.end(), [](const auto& r) { return r->at_host; })) {
        pollfd fd{m_back_end.poll_descriptor(), POLLIN, 0};
        static_cast<void>(::poll(&fd, 1, -1)); // an error is as good as an event: reap says
        static_cast<void>(m_back_end.reap());
    }
}

// --- its own configuration ---

void VirtioBlock::fill_config(unsigned queues) {
    const auto put = [this](ConfigReg reg, unsigned size, u64 value) {
        for (unsigned i = 0; i < size; ++i)
            m_config[static_cast<unsigned>(reg) + i] = static_cast<u8>(value >> (8 * i));
    };
    using enum ConfigReg;
    put(capacity, 8, m_back_end.size() / sector_size);
    put(seg_max, 4, max_segments);
    put(blk_size, 4, sector_size);
    put(physical_block_exp, 1, 3);
    put(min_io_size, 2, 8);
    put(opt_io_size, 4, 0); // none is better than others
    put(writeback, 1, 1);
    put(num_queues, 2, queues);
    if (m_read_only) return;
    put(max_discard_sectors, 4, max_range_sectors);
    put(max_discard_seg, 4, 1);
    put(discard_alignment, 4, 8);
    put(max_write_zeroes_sectors, 4, max_range_sectors);
    put(max_write_zeroes_seg, 4, 1);
    put(write_zeroes_may_unmap, 1, 1);
}

u8 VirtioBlock::device_config(u64 offset) const {
    return offset < m_config.size() ? m_config[offset] : u8{0};
}

void VirtioBlock::set_device_config(u64 offset, u8 value) {
    if (offset == static_cast<u64>(ConfigReg::writeback) && value <= 1 &&
        (features() & BlockFeature::config_wce) != 0)
        m_config[offset] = value;
}

/// A driver that cannot flush is promised that what is written stays.
bool VirtioBlock::writes_through() const {
    if ((features() & BlockFeature::config_wce) != 0)
        return m_config[static_cast<unsigned>(ConfigReg::writeback)] == 0;
    return (features() & BlockFeature::flush) == 0;
}

// --- requests ---

VirtioBlock::Request& VirtioBlock::take_request() {
    if (m_free.empty()) m_free.push_back(std::make_unique<Request>(*this));
    m_active.push_back(std::move(m_free.back()));
    m_free.pop_back();
    Request& request = *m_active.back();
    request.place = m_active.size() - 1;
    request.at_host = request.dropped = request.timed = false;
    request.fua = false;
    request.offset = request.size = 0;
    request.memory.clear();
    request.written = 0;
    return request;
}

void VirtioBlock::release(Request& request) {
    const std::size_t place = request.place;
    std::swap(m_active[place], m_active.back());
    m_active[place]->place = place;
    m_free.push_back(std::move(m_active.back()));
    m_active.pop_back();
}

void VirtioBlock::queue_notified(unsigned n) {
    m_completions.command_written(m_device, n);
    process(n);
}

void VirtioBlock::process(unsigned n) {
    m_wanted[n] = true;
    // What is finished at once comes back from within; it is not to start another round.
    if (std::exchange(m_processing, true)) return;
    for (bool again = true; again;) {
        again = false;
        for (unsigned i = 0; i < queue_count(); ++i)
            if (m_wanted[i]) {
                m_wanted[i] = false;
                process_one(i);
                again = true;
            }
    }
    m_processing = false;
    m_back_end.commit();
}

void VirtioBlock::process_one(unsigned n) {
    m_full[n] = false;
    while (running()) {
        // No driver that keeps to its descriptors has more under way than the queue has entries.
        if (m_in_queue[n] >= queue(n).size()) {
            m_full[n] = true;
            break;
        }
        Request& request = take_request();
        const VirtioQueue::Next next = queue(n).pop(request.chain);
        if (next != VirtioQueue::Next::chain) {
            release(request);
            if (next == VirtioQueue::Next::broken) need_reset();
            if (next == VirtioQueue::Next::none && queue(n).ask_for_more()) continue;
            break;
        }
        request.queue = n;
        ++m_in_queue[n];
        if (!begin(request)) {
            --m_in_queue[n];
            release(request);
            need_reset();
        }
    }
}

/// False if there is no header, or no room for a status.
bool VirtioBlock::begin(Request& request) {
    Header header;
    VirtioChain& chain = request.chain;
    if (chain.readable_size < sizeof header || chain.writable_size == 0) return false;
    take(chain.readable, std::as_writable_bytes(std::span(&header, 1)));
    chain.readable_size -= sizeof header;
    request.line = request.queue;
    if (const std::optional<u8> status = prepare(request, header.type, header.sector)) {
        request.status = *status;
        m_completions.submitted(m_device, request, m_delays->command_ns());
        m_completions.host_done(request);
        return true;
    }
    request.timed = true;
    m_completions.submitted(m_device, request, m_delays->nominal_ns(request));
    request.at_host = true;
    m_back_end.submit(request);
    return true;
}

std::optional<u8> VirtioBlock::prepare(Request& request, u32 type, u64 sector) {
    switch (static_cast<RequestType>(type)) {
    case RequestType::in: return prepare_transfer(request, sector, false);
    case RequestType::out: return prepare_transfer(request, sector, true);
    case RequestType::flush: request.operation = BlockOperation::flush; return std::nullopt;
    case RequestType::get_id: return identify(request);
    case RequestType::discard: return prepare_range(request, BlockOperation::discard);
    case RequestType::write_zeroes: return prepare_range(request, BlockOperation::write_zeroes);
    }
    return status_unsupported;
}

std::optional<u8> VirtioBlock::prepare_transfer(Request& request, u64 sector, bool write) {
    const VirtioChain& chain = request.chain;
    const u64 size = write ? chain.readable_size : chain.writable_size - 1;
    const u64 capacity = m_back_end.size() / sector_size;
    if (size == 0 || size % sector_size != 0 || sector > capacity ||
        size / sector_size > capacity - sector || (write && m_read_only))
        return status_error;
    request.operation = write ? BlockOperation::write : BlockOperation::read;
    request.fua = write && writes_through();
    request.offset = sector * sector_size;
    request.size = size;
    u64 left = size; // the status is behind it
    for (const VirtioPiece& piece : write ? chain.readable : chain.writable) {
        const u64 part = std::min<u64>(piece.size, left);
        if (part != 0) request.memory.push_back({piece.host, part});
        left -= part;
    }
    return std::nullopt;
}

std::optional<u8> VirtioBlock::prepare_range(Request& request, BlockOperation operation) {
    if (m_read_only) return status_error;
    RangeSegment segment;
    VirtioChain& chain = request.chain;
    if (chain.readable_size != sizeof segment) return status_error; // one is all that is offered
    take(chain.readable, std::as_writable_bytes(std::span(&segment, 1)));
    const u32 known = operation == BlockOperation::write_zeroes ? RangeSegment::unmap : 0;
    if ((segment.flags & ~known) != 0) return status_unsupported;
    const u64 capacity = m_back_end.size() / sector_size;
    if (segment.sectors == 0 || segment.sectors > max_range_sectors || segment.sector > capacity ||
        segment.sectors > capacity - segment.sector)
        return status_error;
    request.operation = operation;
    request.fua = operation == BlockOperation::write_zeroes && writes_through();
    request.offset = segment.sector * sector_size;
    request.size = segment.sectors * sector_size;
    return std::nullopt;
}

/// The serial number, padded with zeroes.
u8 VirtioBlock::identify(Request& request) {
    std::array<std::byte, id_size> id{};
    std::memcpy(id.data(), m_serial.data(), std::min<std::size_t>(m_serial.size(), id_size));
    u64 left = std::min<u64>(request.chain.writable_size - 1, id_size);
    for (const VirtioPiece& piece : request.chain.writable) {
        const auto part = static_cast<u32>(std::min<u64>(piece.size, left));
        if (part == 0) break;
        if (!dma().write(piece.gpa, std::span(id).subspan(request.written, part)))
            return status_error;
        request.written += part;
        left -= part;
    }
    return status_ok;
}

void VirtioBlock::host_done(Request& request, BlockStatus status) {
    request.at_host = false;
    if (request.operation == BlockOperation::read) {
        // Even if it failed, or nobody waits for it: some of it may have come.
        u64 left = request.size;
        for (const VirtioPiece& piece : request.chain.writable) {
            const u64 part = std::min<u64>(piece.size, left);
            dma().written(piece.gpa, part);
            left -= part;
        }
        if (status == BlockStatus::ok) request.written = static_cast<u32>(request.size);
    }
    if (request.dropped) {
        release(request);
        if (m_active.empty()) reset_finished();
        return;
    }
    request.status = status == BlockStatus::ok ? status_ok : status_error;
    m_completions.host_done(request);
}

void VirtioBlock::deliver(Request& request) {
    if (std::exchange(request.timed, false)) m_delays->ended();
    const unsigned n = request.queue;
    const VirtioPiece& last = request.chain.writable.back();
    const bool whole = request.written == request.chain.writable_size - 1;
    const u32 written = request.written + (whole ? 1 : 0);
    const u16 head = request.chain.head;
    const bool stored = dma().write_object(last.gpa + (last.size - 1), request.status);
    --m_in_queue[n];
    release(request);
    if (!stored || !queue(n).push(head, written)) {
        need_reset();
        return;
    }
    interrupt_for(n);
    if (m_full[n]) process(n);
}

bool VirtioBlock::begin_reset() {
    if (!m_active.empty()) m_completions.trouble(m_device, GuestTrouble::reset);
    for (std::size_t i = m_active.size(); i-- > 0;) {
        Request& request = *m_active[i];
        m_completions.cancel(request);
        if (std::exchange(request.timed, false)) m_delays->ended();
        request.dropped = true;
        if (!request.at_host) release(request); // it swaps with one that was seen already
    }
    std::fill(m_in_queue.begin(), m_in_queue.end(), 0U);
    m_full.assign(m_full.size(), false);
    m_wanted.assign(m_wanted.size(), false);
    m_config[static_cast<unsigned>(ConfigReg::writeback)] = 1;
    return m_active.empty();
}

} // namespace gnomon::platform
