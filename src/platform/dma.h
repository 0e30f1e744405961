// SPDX-License-Identifier: Apache-2.0
/// @file Guest memory as devices reach it.
#pragma once

#include "base/guest_memory.h"

namespace gnomon::platform {

/// Told of what devices have written, so that whoever holds something derived from guest memory
/// (translations, shadow page tables) forgets it.
class DmaListener {
public:
    DmaListener() = default;
    DmaListener(const DmaListener&) = delete;
    DmaListener& operator=(const DmaListener&) = delete;
    virtual ~DmaListener() = default;
    /// [gpa, gpa + size) is RAM and holds new contents.
    virtual void dma_written(Gpa gpa, u64 size) = 0;
};

/// What a bus master sees of memory: RAM, and nothing else. An address outside it is the guest's
/// error, which the device reports in its own way. So is any address while the guest does not let
/// the function master the bus.
///
/// Contents change under the reader's hands (the guest runs, other requests are under way): what
/// must not change after it was checked is copied first. Threads: the machine's; the host addresses
/// that `map` gives may be used by any until the request is done.
class Dma {
public:
    /// Both must outlive it. @param listener may be null.
    Dma(GuestMemory& memory, DmaListener* listener) : m_memory(memory), m_listener(listener) {}
    Dma(const Dma&) = delete;
    Dma& operator=(const Dma&) = delete;
    ~Dma() = default;

    /// Whether the function may master the bus: true unless said otherwise. What `map` has given
    /// stays valid.
    void set_enabled(bool enabled) { m_enabled = enabled; }
    [[nodiscard]] bool enabled() const { return m_enabled; }

    /// The host address of [gpa, gpa + size), or nullptr unless all of it is RAM and contiguous.
    /// Whoever writes there calls `written` before the guest is told.
    [[nodiscard]] Hva map(Gpa gpa, u64 size) const {
        return m_enabled ? m_memory.hva(gpa, size) : nullptr;
    }
    [[nodiscard]] bool read(Gpa gpa, std::span<std::byte> out) const {
        return m_enabled && m_memory.read(gpa, out);
    }
    template <class T>
    [[nodiscard]] bool read_object(Gpa gpa, T& out) const {
        return m_enabled && m_memory.read_object(gpa, out);
    }
    /// Writes all of it or, outside RAM, nothing.
    [[nodiscard]] bool write(Gpa gpa, std::span<const std::byte> in) {
        if (!m_enabled || !m_memory.write(gpa, in)) return false;
        written(gpa, in.size());
        return true;
    }
    template <class T>
    [[nodiscard]] bool write_object(Gpa gpa, const T& in) {
        return write(gpa, std::as_bytes(std::span(&in, 1)));
    }
    /// Bytes that were written through `map`.
    void written(Gpa gpa, u64 size) {
        if (m_listener != nullptr && size != 0) m_listener->dma_written(gpa, size);
    }

private:
    GuestMemory& m_memory;
    DmaListener* m_listener;
    bool m_enabled = true;
};

} // namespace gnomon::platform
