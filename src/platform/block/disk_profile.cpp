// SPDX-License-Identifier: Apache-2.0
#include "platform/block/disk_profile.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <queue>

namespace gnomon::platform {

namespace {

constexpr std::array<std::pair<DiskProfile, std::string_view>, 4> names = {{
    {DiskProfile::none, "none"},
    {DiskProfile::hdd_7200, "hdd-7200"},
    {DiskProfile::sata_ssd, "sata-ssd"},
    {DiskProfile::nvme_ssd, "nvme-ssd"},
}};

constexpr FlashFigures sata_ssd = {.command_ns = 12'000,
                                   .read_unit_ns = 80'000,
                                   .write_ns = 5'000,
                                   .flush_ns = 700'000,
                                   .units = 8,
                                   .link_bytes_per_second = 550'000'000,
                                   .write_bytes_per_second = 520'000'000,
                                   .cache_bytes = u64{256} << 20};
constexpr FlashFigures nvme_ssd = {.command_ns = 10'000,
                                   .read_unit_ns = 55'000,
                                   .write_ns = 8'000,
                                   .flush_ns = 700'000,
                                   .units = 44,
                                   .link_bytes_per_second = 3'400'000'000,
                                   .write_bytes_per_second = 2'300'000'000,
                                   .cache_bytes = u64{512} << 20};

constexpr u64 second_ns = 1'000'000'000;

/// How long `bytes` take; exact and without overflow for what a request can have, at the most 2^41
/// bytes of a discard, none of which are moved.
u64 transfer_ns(u64 bytes, u64 bytes_per_second) {
    return bytes / bytes_per_second * second_ns +
           bytes % bytes_per_second * second_ns / bytes_per_second;
}

/// Times at which a resource is free, never far ahead.
class BusyUntil {
public:
    /// Takes it for `ns` as soon as it is free, from `earliest` on; when that ends.
    u64 take(u64 earliest, u64 ns, u64 now) {
        m_ns = std::min(std::max(m_ns, earliest) + ns, now + longest_nominal_ns);
        return m_ns;
    }
    [[nodiscard]] u64 ns() const { return m_ns; }

private:
    u64 m_ns = 0;
};

/// A disk's own time. It goes ahead of the clock when requests end before theirs.
class TimedDisk : public DelayModel {
public:
    void ended() override {
        if (m_ends.empty()) return;
        const u64 end = m_ends.top(), now = now_ns();
        m_ends.pop();
        if (end > now) m_ahead_ns += end - now;
    }

protected:
    explicit TimedDisk(const Clock& clock) : m_clock(clock) {}
    [[nodiscard]] u64 now_ns() const { return m_clock.now_ns() + m_ahead_ns; }
    /// A request has been made that ends then. @return how long that takes.
    u64 ends_at(u64 end, u64 now) {
        if (m_ends.size() == most_ends) m_ends.pop(); // nobody has told of the end
        m_ends.push(end);
        return end - now;
    }

private:
    static constexpr std::size_t most_ends = 4096;
    const Clock& m_clock;
    u64 m_ahead_ns = 0;
    /// Of those under way; the earliest is taken to be the one that ends.
    std::priority_queue<u64, std::vector<u64>, std::greater<>> m_ends;
};

class RotatingDisk final : public TimedDisk {
public:
    RotatingDisk(u64 disk_bytes, const Clock& clock) : TimedDisk(clock), m_disk_bytes(disk_bytes) {}

    [[nodiscard]] u64 command_ns() const override { return m_figures.command_ns; }
    [[nodiscard]] u64 nominal_ns(const BlockRequest& request) override {
        const u64 now = now_ns();
        const bool idle = m_arm.ns() <= now;
        u64 at = std::max(now, m_arm.ns()) + m_figures.command_ns;
        switch (request.operation) {
        case BlockOperation::flush:
        case BlockOperation::discard: break;
        case BlockOperation::read:
        case BlockOperation::write:
        case BlockOperation::write_zeroes:
            // The track buffer has what follows a read; a write that follows at once goes on, but
            // when the disk was idle the place has gone by.
            if (request.offset != m_head || (idle && request.operation != BlockOperation::read)) {
                at += seek_ns(request.offset);
                at += latency_ns(request.offset, at);
            }
            at += transfer_ns(request.size, m_figures.medium_bytes_per_second);
            m_head = request.offset + request.size;
            break;
        }
        return ends_at(m_arm.take(at, 0, now), now);
    }

private:
    [[nodiscard]] u64 seek_ns(u64 offset) const {
        const u64 distance = offset > m_head ? offset - m_head : m_head - offset;
        if (distance < m_figures.track_bytes || m_disk_bytes == 0) return 0;
        const double part =
            std::min(1.0, static_cast<double>(distance) / static_cast<double>(m_disk_bytes));
        return m_figures.track_seek_ns +
               static_cast<u64>(
                   static_cast<double>(m_figures.full_seek_ns - m_figures.track_seek_ns) *
                   std::sqrt(part));
    }
    /// Until the place comes by: the platter turns with the clock.
    [[nodiscard]] u64 latency_ns(u64 offset, u64 at) const {
        const u64 place =
            offset % m_figures.track_bytes * m_figures.turn_ns / m_figures.track_bytes;
        const u64 turned = at % m_figures.turn_ns;
        return (place + m_figures.turn_ns - turned) % m_figures.turn_ns;
    }

    const RotatingFigures m_figures;
    u64 m_disk_bytes;
    BusyUntil m_arm;
    u64 m_head = 0; ///< the byte behind the last request
};

class FlashDisk final : public TimedDisk {
public:
    FlashDisk(const FlashFigures& figures, const Clock& clock)
        : TimedDisk(clock), m_figures(figures), m_units(figures.units) {}

    [[nodiscard]] u64 command_ns() const override { return m_figures.command_ns; }
    [[nodiscard]] u64 nominal_ns(const BlockRequest& request) override {
        const u64 now = now_ns();
        return ends_at(std::min(end_of(request, now), now + longest_nominal_ns), now);
    }

private:
    u64 end_of(const BlockRequest& request, u64 now) {
        const u64 begin = now + m_figures.command_ns;
        switch (request.operation) {
        case BlockOperation::read: {
            const u64 last = request.offset + std::max<u64>(request.size, 1) - 1;
            const u64 first_stripe = request.offset / m_figures.stripe_bytes,
                      stripes = last / m_figures.stripe_bytes - first_stripe + 1;
            u64 read = begin;
            // Unit i of those met has every m_units.size()-th stripe from the first on.
            for (u64 i = 0; i < std::min<u64>(stripes, m_units.size()); ++i) {
                const u64 count = (stripes - i - 1) / m_units.size() + 1;
                BusyUntil& unit = m_units[(first_stripe + i) % m_units.size()];
                read = std::max(read, unit.take(begin, count * m_figures.read_unit_ns, now));
            }
            // The link goes by turns, but nobody waits there for another's cells.
            const u64 bytes_ns = link_ns(request.size);
            return std::max(read + bytes_ns, m_link.take(begin, bytes_ns, now));
        }
        case BlockOperation::write: {
            const u64 arrived = m_link.take(begin + m_figures.write_ns, link_ns(request.size), now);
            const u64 drained = drain(arrived, request.size, now);
            if (request.fua) return drained + m_figures.flush_ns;
            // The cache takes it once all but its own size is on the medium.
            const u64 ahead = transfer_ns(m_figures.cache_bytes, m_figures.write_bytes_per_second);
            return std::max(arrived, drained > ahead ? drained - ahead : 0);
        }
        case BlockOperation::flush:
            if (m_medium.ns() <= m_flushed_ns) return begin; // nothing was written since
            m_flushed_ns = std::max(begin, m_medium.ns()) + m_figures.flush_ns;
            return m_flushed_ns;
        case BlockOperation::write_zeroes: // changes the map of blocks, not the cells
        case BlockOperation::discard: return begin + m_figures.write_ns;
        }
        return begin;
    }
    [[nodiscard]] u64 link_ns(u64 bytes) const {
        return transfer_ns(bytes, m_figures.link_bytes_per_second);
    }
    u64 drain(u64 from, u64 bytes, u64 now) {
        return m_medium.take(from, transfer_ns(bytes, m_figures.write_bytes_per_second), now);
    }

    const FlashFigures m_figures;
    std::vector<BusyUntil> m_units;
    BusyUntil m_link, m_medium;
    u64 m_flushed_ns = 0; ///< the medium has all up to then
};

} // namespace

std::optional<DiskProfile> disk_profile_named(std::string_view name) {
    for (const auto& [profile, known] : names)
        if (known == name) return profile;
    return std::nullopt;
}

std::string_view name_of(DiskProfile profile) {
    for (const auto& [known, name] : names)
        if (known == profile) return name;
    return {};
}

std::string disk_profile_names() {
    std::string all;
    for (const auto& [profile, name] : names) {
        if (!all.empty()) all += ", ";
        all += name;
    }
    return all;
}

std::unique_ptr<DelayModel> make_delay_model(DiskProfile profile, u64 disk_bytes,
                                             const Clock& clock) {
    switch (profile) {
    case DiskProfile::none: break;
    case DiskProfile::hdd_7200: return std::make_unique<RotatingDisk>(disk_bytes, clock);
    case DiskProfile::sata_ssd: return std::make_unique<FlashDisk>(sata_ssd, clock);
    case DiskProfile::nvme_ssd: return std::make_unique<FlashDisk>(nvme_ssd, clock);
    }
    return std::make_unique<NoDelay>();
}

} // namespace gnomon::platform
