// SPDX-License-Identifier: Apache-2.0
#include "platform/bus.h"

#include <algorithm>

namespace gnomon::platform {

const AddressDecoder::Entry* AddressDecoder::find(u64 address) const {
    const auto after = std::upper_bound(m_entries.begin(), m_entries.end(), address,
                                        [](u64 a, const Entry& e) { return a < e.first; });
    if (after == m_entries.begin()) return nullptr;
    const Entry& entry = *std::prev(after);
    return address <= entry.last ? &entry : nullptr;
}

std::string_view AddressDecoder::name_at(u64 address) const {
    const Entry* entry = find(address);
    return entry != nullptr ? std::string_view(entry->name) : std::string_view();
}

Result<> AddressDecoder::insert_range(u64 first, u64 last, BusDevice& device, std::string name) {
    if (last < first || last > m_last)
        return fail(
            "cannot place {} at {} {:#x}-{:#x}: not a range of the bus; give it another address",
            name, m_space, first, last);
    const auto after = std::upper_bound(m_entries.begin(), m_entries.end(), first,
                                        [](u64 a, const Entry& e) { return a < e.first; });
    const Entry* clash = nullptr;
    if (after != m_entries.end() && after->first <= last) clash = &*after;
    if (after != m_entries.begin() && std::prev(after)->last >= first) clash = &*std::prev(after);
    if (clash != nullptr)
        return fail("cannot place {} at {} {:#x}-{:#x}: {} is at {:#x}-{:#x}; give one of them "
                    "another address",
                    name, m_space, first, last, clash->name, clash->first, clash->last);
    m_entries.insert(after, Entry{first, last, &device, std::move(name)});
    return {};
}

bool AddressDecoder::remove_range(u64 first, const BusDevice& device) {
    return std::erase_if(m_entries, [&](const Entry& e) {
               return e.first == first && e.device == &device;
           }) != 0;
}

u64 AddressDecoder::read_range(u64 address, unsigned size) {
    size = std::min(size, 8U);
    if (size == 0) return 0;
    // The device is looked up before it is called and the entry not used after: the call may change
    // the bus.
    if (const Entry* entry = find(address); entry != nullptr && size - 1 <= entry->last - address)
        return entry->device->read(address - entry->first, size) & byte_mask(size);
    u64 value = 0;
    for (unsigned i = 0; i < size; ++i) {
        const Entry* entry = i <= m_last - address ? find(address + i) : nullptr;
        const u64 byte =
            entry != nullptr ? entry->device->read(address + i - entry->first, 1) & 0xff : 0xff;
        value |= byte << (8 * i);
    }
    return value;
}

void AddressDecoder::write_range(u64 address, unsigned size, u64 value) {
    size = std::min(size, 8U);
    if (size == 0) return;
    if (const Entry* entry = find(address); entry != nullptr && size - 1 <= entry->last - address) {
        entry->device->write(address - entry->first, size, value & byte_mask(size));
        return;
    }
    for (unsigned i = 0; i < size; ++i) {
        if (i > m_last - address) return;
        if (const Entry* entry = find(address + i); entry != nullptr)
            entry->device->write(address + i - entry->first, 1, (value >> (8 * i)) & 0xff);
    }
}

} // namespace gnomon::platform
