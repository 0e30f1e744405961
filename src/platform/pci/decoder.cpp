// SPDX-License-Identifier: Apache-2.0
#include "platform/pci/decoder.h"

#include "base/verify.h"

namespace gnomon::platform {

std::size_t PciDecoder::add(Space space, u64 size, BusDevice& device, std::string name) {
    VERIFY(size != 0);
    m_ranges.push_back({space, size, &device, std::move(name)});
    return m_ranges.size() - 1;
}

void PciDecoder::withdraw(Range& range) {
    if (!range.placed) return;
    range.placed = false;
    if (range.space == Space::port)
        VERIFY(m_ports.remove(static_cast<u16>(*range.base), *range.device));
    else
        VERIFY(m_memory.remove(Gpa(*range.base), *range.device));
}

bool PciDecoder::place(const Range& range) {
    const u64 first = *range.base, last = first + (range.size - 1);
    if (last < first) return false;
    if (range.space == Space::memory)
        return m_memory.insert({Gpa(first), Gpa(last)}, *range.device, range.name).has_value();
    return last <= 0xffff &&
           m_ports
               .insert({static_cast<u16>(first), static_cast<u16>(last)}, *range.device, range.name)
               .has_value();
}

void PciDecoder::move(std::size_t index, std::optional<u64> base) {
    Range& moved = m_ranges.at(index);
    if (moved.base == base) return;
    withdraw(moved);
    moved.base = base;
    moved.placed = base && place(moved);
    // What it leaves may be what others wait for.
    for (Range& range : m_ranges)
        if (!range.placed && range.base) range.placed = place(range);
}

} // namespace gnomon::platform
