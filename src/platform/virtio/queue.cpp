// SPDX-License-Identifier: Apache-2.0
#include "platform/virtio/queue.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <limits>

namespace gnomon::platform {

namespace {

constexpr u16 max_queue_size = 32768;
constexpr u32 longest_chain = 1024;
// Both rings begin with flags and index.
constexpr u64 flags_offset = 0, index_offset = 2, ring_offset = 4;
constexpr u16 available_no_interrupt = 1;
constexpr u64 descriptor_size = 16, used_element_size = 8;

} // namespace

// The rings are aligned (`enable`), and RAM is.

u16 VirtioQueue::load(Hva ring, u64 offset) {
    // SAFETY: aligned memory of ours that the guest may write meanwhile; atomic accesses only.
    return std::atomic_ref(*reinterpret_cast<u16*>(ring + offset)).load(std::memory_order_acquire);
}

void VirtioQueue::store(Gpa ring, Hva host, u64 offset, u16 value) {
    // SAFETY: as above.
    std::atomic_ref(*reinterpret_cast<u16*>(host + offset)).store(value, std::memory_order_release);
    m_dma.written(ring + offset, sizeof value);
}

bool VirtioQueue::enable(const Setting& setting, bool event_index, bool indirect) {
    m_setting = setting;
    m_event_index = event_index;
    m_indirect = indirect;
    m_next_available = m_next_used = m_interrupt_used = 0;
    m_enabled = std::has_single_bit(setting.size) && setting.size <= max_queue_size &&
                setting.descriptors.value() % 16 == 0 && setting.available.value() % 2 == 0 &&
                setting.used.value() % 4 == 0 &&
                m_dma.map(setting.descriptors, descriptor_size * setting.size) != nullptr &&
                m_dma.map(setting.available, available_size()) != nullptr &&
                m_dma.map(setting.used, used_size()) != nullptr;
    return m_enabled;
}

VirtioQueue::Next VirtioQueue::pop(VirtioChain& chain) {
    if (!m_enabled) return Next::none;
    const Hva available = m_dma.map(m_setting.available, available_size());
    if (available == nullptr) return Next::broken;
    const u16 index = load(available, index_offset);
    if (index == m_next_available) return Next::none;
    if (static_cast<u16>(index - m_next_available) > m_setting.size) return Next::broken;
    const u16 slot = m_next_available & (m_setting.size - 1);
    const u16 head = load(available, ring_offset + u64{2} * slot);
    if (!collect(head, chain)) return Next::broken;
    ++m_next_available;
    return Next::chain;
}

/// Follows a chain. The driver may change it meanwhile; each descriptor is read once.
bool VirtioQueue::collect(u16 head, VirtioChain& chain) {
    chain.head = head;
    chain.readable.clear();
    chain.writable.clear();
    chain.readable_size = chain.writable_size = 0;
    Gpa table = m_setting.descriptors;
    u32 entries = m_setting.size;
    bool in_indirect = false;
    u16 at = head;
    // So loops end too. A chain is at most as long as the queue, but there are drivers that make
    // longer ones in indirect tables once they had to make the queue smaller.
    const u32 most = std::max<u32>(m_setting.size, longest_chain);
    for (u32 count = 0; count < most; ++count) {
        Descriptor descriptor;
        if (at >= entries || !m_dma.read_object(table + descriptor_size * at, descriptor))
            return false;
        if ((descriptor.flags & Descriptor::is_indirect) != 0) {
            // It stands for the whole rest of the chain, and there is one level.
            if (!m_indirect || in_indirect || (descriptor.flags & Descriptor::next_follows) != 0 ||
                descriptor.size == 0 || descriptor.size % descriptor_size != 0)
                return false;
            table = Gpa(descriptor.address);
            entries = static_cast<u32>(descriptor.size / descriptor_size);
            if (!table.range_fits(descriptor.size)) return false;
            in_indirect = true;
            at = 0;
            continue;
        }
        if (!add(descriptor, chain)) return false;
        if ((descriptor.flags & Descriptor::next_follows) == 0) return true;
        at = descriptor.next;
    }
    return false;
}

bool VirtioQueue::add(const Descriptor& descriptor, VirtioChain& chain) const {
    const bool writable = (descriptor.flags & Descriptor::device_writes) != 0;
    if (!writable && !chain.writable.empty()) return false; // what is read comes first
    const VirtioPiece piece{Gpa(descriptor.address),
                            m_dma.map(Gpa(descriptor.address), descriptor.size), descriptor.size};
    if (piece.host == nullptr || piece.size == 0) return false;
    u64& total = writable ? chain.writable_size : chain.readable_size;
    total += piece.size;
    if (total > std::numeric_limits<u32>::max()) return false;
    (writable ? chain.writable : chain.readable).push_back(piece);
    return true;
}

bool VirtioQueue::ask_for_more() {
    const Hva available = m_enabled ? m_dma.map(m_setting.available, available_size()) : nullptr;
    const Hva used = m_enabled ? m_dma.map(m_setting.used, used_size()) : nullptr;
    if (available == nullptr || used == nullptr) return false;
    if (!m_event_index) return false; // it always says so
    store(m_setting.used, used, ring_offset + used_element_size * m_setting.size, m_next_available);
    // The driver reads this after it has written its index, and we the other way round.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    return load(available, index_offset) != m_next_available;
}

bool VirtioQueue::push(u16 head, u32 written) {
    const Hva used = m_enabled ? m_dma.map(m_setting.used, used_size()) : nullptr;
    if (used == nullptr) return false;
    struct Element {
        u32 id, size;
    };
    const u16 slot = m_next_used & (m_setting.size - 1);
    if (!m_dma.write_object(m_setting.used + (ring_offset + used_element_size * slot),
                            Element{head, written}))
        return false;
    ++m_next_used;
    store(m_setting.used, used, index_offset, m_next_used);
    return true;
}

bool VirtioQueue::wants_interrupt() {
    const Hva available = m_enabled ? m_dma.map(m_setting.available, available_size()) : nullptr;
    if (available == nullptr) return false;
    std::atomic_thread_fence(std::memory_order_seq_cst); // index written, then its wish read
    const u16 before = m_interrupt_used;
    m_interrupt_used = m_next_used;
    if (!m_event_index) return (load(available, flags_offset) & available_no_interrupt) == 0;
    const u16 event = load(available, ring_offset + u64{2} * m_setting.size);
    return static_cast<u16>(m_next_used - event - 1) < static_cast<u16>(m_next_used - before);
}

} // namespace gnomon::platform
