// SPDX-License-Identifier: Apache-2.0
/// @file Configuration space of the first PCI bus, by ports CF8h and CFCh (PCI 3.0, section 3.2).
#pragma once

#include "machine.h"

namespace fragile {

struct PciFunction {
    unsigned device = 0, function = 0;

    [[nodiscard]] u32 read(unsigned offset) const {
        select(offset);
        return inl(data);
    }
    void write(unsigned offset, u32 value) const {
        select(offset);
        outl(data, value);
    }

private:
    static constexpr u16 address = 0xcf8, data = 0xcfc;
    void select(unsigned offset) const {
        outl(address, 0x8000'0000 | device << 11 | function << 8 | (offset & 0xfc));
    }
};

/// The first function with this base class, subclass and interface; `complaint` if there is none.
[[nodiscard]] inline PciFunction find_function(u32 wanted_class, const char* complaint) {
    constexpr unsigned class_offset = 8;
    for (unsigned device = 0; device < 32; ++device)
        for (unsigned function = 0; function < 8; ++function) {
            const PciFunction found{device, function};
            if (found.read(class_offset) >> 8 == wanted_class) return found;
        }
    fail(complaint);
}

} // namespace fragile
