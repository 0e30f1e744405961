// SPDX-License-Identifier: Apache-2.0
#include "platform/pci/msix.h"

#include "base/verify.h"

#include <algorithm>
#include <bit>

namespace gnomon::platform {

namespace {

constexpr u64 least_table_room = 2048; // so that the range is a page at least

/// The bits that a guest can change, by byte of an entry.
constexpr u8 writable(u64 byte) {
    if (byte == 0) return 0xfc;
    if (byte < static_cast<u64>(MsixTable::Reg::control)) return 0xff;
    return byte == static_cast<u64>(MsixTable::Reg::control) ? 1 : 0;
}

} // namespace

MsixTable::MsixTable(ApicBus& bus, unsigned vectors)
    : m_bus(bus), m_vectors(vectors),
      m_pending_offset(std::max(least_table_room, std::bit_ceil(u64{vectors} * entry_size))),
      m_entries(std::size_t{vectors} * entry_size), m_pending(vectors) {
    VERIFY(vectors >= 1 && vectors <= max_vectors);
    reset();
}

void MsixTable::reset() {
    m_enabled = m_open = false;
    std::fill(m_entries.begin(), m_entries.end(), u8{0});
    for (unsigned vector = 0; vector < m_vectors; ++vector)
        m_entries[vector * entry_size + static_cast<unsigned>(Reg::control)] = 1;
    m_pending.assign(m_vectors, false);
}

u32 MsixTable::dword(unsigned vector, Reg reg) const {
    const unsigned at = vector * entry_size + static_cast<unsigned>(reg);
    return m_entries[at] | u32{m_entries[at + 1]} << 8 | u32{m_entries[at + 2]} << 16 |
           u32{m_entries[at + 3]} << 24;
}

bool MsixTable::masked(unsigned vector) const {
    return (m_entries[vector * entry_size + static_cast<unsigned>(Reg::control)] & 1) != 0;
}

u8 MsixTable::byte_at(u64 offset) const {
    if (offset < m_entries.size()) return m_entries[offset];
    if (offset < m_pending_offset) return 0;
    u8 bits = 0;
    const u64 first = (offset - m_pending_offset) * 8;
    for (unsigned bit = 0; bit < 8 && first + bit < m_vectors; ++bit)
        if (m_pending[first + bit]) bits = static_cast<u8>(bits | 1 << bit);
    return bits;
}

u64 MsixTable::read(u64 offset, unsigned size) {
    u64 value = 0;
    for (unsigned i = 0; i < size && i < 8; ++i)
        value |= u64{byte_at(offset + i)} << (8 * i);
    return value;
}

void MsixTable::write(u64 offset, unsigned size, u64 value) {
    for (unsigned i = 0; i < size && i < 8; ++i) {
        const u64 at = offset + i;
        if (at >= m_entries.size()) break;
        const u8 mask = writable(at % entry_size);
        m_entries[at] = static_cast<u8>((m_entries[at] & ~mask) | ((value >> (8 * i)) & mask));
    }
    // After all of the access, so that an entry is never seen half written by one.
    for (u64 at = offset; at < offset + size && at < m_entries.size(); ++at)
        if (at % entry_size == static_cast<u64>(Reg::control))
            send_if_waiting(static_cast<unsigned>(at / entry_size));
}

void MsixTable::set_state(bool enabled, bool open) {
    m_enabled = enabled;
    m_open = open;
    for (unsigned vector = 0; vector < m_vectors; ++vector)
        send_if_waiting(vector);
}

void MsixTable::send(unsigned vector) {
    if (!m_enabled || vector >= m_vectors) return;
    m_pending[vector] = true;
    send_if_waiting(vector);
}

void MsixTable::send_if_waiting(unsigned vector) {
    if (!m_pending[vector] || !m_enabled || !m_open || masked(vector)) return;
    m_pending[vector] = false;
    // Whether a processor takes it is between them: a message is not repeated.
    static_cast<void>(m_bus.deliver_msi(dword(vector, Reg::address_low) |
                                            u64{dword(vector, Reg::address_high)} << 32,
                                        dword(vector, Reg::data)));
}

} // namespace gnomon::platform
