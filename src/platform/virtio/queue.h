// SPDX-License-Identifier: Apache-2.0
/// @file A split virtqueue, seen from the device.
///
/// Virtio 1.2, section 2.7. Everything in the rings is the guest's to write at any time: what is
/// read is copied once and checked.
#pragma once

#include "platform/dma.h"

#include <vector>

namespace gnomon::platform {

/// Part of a buffer: in RAM, contiguous, at least one byte.
struct VirtioPiece {
    Gpa gpa;
    Hva host = nullptr;
    u32 size = 0;
};

/// A descriptor chain that the driver has made available.
struct VirtioChain {
    u16 head = 0; ///< what `VirtioQueue::push` calls it
    std::vector<VirtioPiece> readable, writable;
    u64 readable_size = 0, writable_size = 0; ///< each at most 2^32 - 1
};

/// Not thread-safe, but the driver may work on the rings at the same time.
class VirtioQueue {
public:
    /// What the driver sets before it enables the queue.
    struct Setting {
        u16 size = 0;
        Gpa descriptors, available, used; ///< "descriptor table", "driver area", "device area"
    };
    enum class Next : u8 {
        none,
        chain,
        broken, ///< the driver's error: the device needs a reset
    };

    /// @param dma must outlive it.
    explicit VirtioQueue(Dma& dma) : m_dma(dma) {}

    /// Starts with empty rings. False, and not enabled, unless the size is a power of two up to
    /// 32768 and all rings are aligned and in RAM.
    [[nodiscard]] bool enable(const Setting& setting, bool event_index, bool indirect);
    void disable() { m_enabled = false; }
    [[nodiscard]] bool enabled() const { return m_enabled; }
    [[nodiscard]] u16 size() const { return m_setting.size; }

    /// The next available chain. `chain` is filled only if there is one.
    [[nodiscard]] Next pop(VirtioChain& chain);
    /// Has the driver say when it makes the next chain available, after `pop` found none.
    /// @return true if there is one already: pop again.
    [[nodiscard]] bool ask_for_more();
    /// The chain is used; `written` bytes at the beginning of its writable part hold something new.
    /// False if the ring is not to be had any more.
    [[nodiscard]] bool push(u16 head, u32 written);
    /// Whether the driver wants to be interrupted for what was pushed since the last time.
    [[nodiscard]] bool wants_interrupt();

private:
    struct Descriptor {
        static constexpr u16 next_follows = 1, device_writes = 2, is_indirect = 4;
        u64 address = 0;
        u32 size = 0;
        u16 flags = 0;
        u16 next = 0;
    };
    static_assert(sizeof(Descriptor) == 16);

    [[nodiscard]] u64 available_size() const { return 6 + u64{2} * m_setting.size; }
    [[nodiscard]] u64 used_size() const { return 6 + u64{8} * m_setting.size; }
    /// A field of 16 bits in a ring, as both sides see it at the same time. Only after `rings`.
    [[nodiscard]] static u16 load(Hva ring, u64 offset);
    void store(Gpa ring, Hva host, u64 offset, u16 value);
    [[nodiscard]] bool collect(u16 head, VirtioChain& chain);
    [[nodiscard]] bool add(const Descriptor& descriptor, VirtioChain& chain) const;

    Dma& m_dma;
    Setting m_setting;
    bool m_enabled = false, m_event_index = false, m_indirect = false;
    u16 m_next_available = 0; ///< free-running, as the rings' own indices
    u16 m_next_used = 0;
    u16 m_interrupt_used = 0; ///< m_next_used when wants_interrupt was asked last
};

} // namespace gnomon::platform
