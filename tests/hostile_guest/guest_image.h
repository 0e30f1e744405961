// SPDX-License-Identifier: Apache-2.0
/// @file What every hostile guest begins with: page tables, descriptor tables, and handlers that go
/// on with the next piece of code whatever has happened.
#pragma once

#include "base/guest_memory.h"
#include "hostile_guest/layout.h"
#include "instructions/random.h"

#include <vector>

namespace gnomon::test::hostile {

class GuestImage {
public:
    GuestImage();

    /// Writes the image into empty RAM, with window pages and garbage descriptors by `random`.
    void write(GuestMemory& memory, Random& random) const;

    /// Address of the HLT at which a guest is at its end; RIP + 1 once it is executed.
    [[nodiscard]] u64 end_address() const { return m_end; }
    [[nodiscard]] static u64 handler(unsigned vector) { return place::handlers + 32 * vector; }
    /// Entry of SYSCALL, which has no frame.
    [[nodiscard]] static u64 syscall_handler() { return handler(256); }

private:
    void put(u64 at, u64 value);
    void map(u64 gva, u64 entry, unsigned level);
    void make_tables();
    void make_descriptors();
    void make_handlers();

    std::vector<u8> m_bytes; ///< from address 0 on
    u64 m_next_table = place::tables;
    u64 m_window_table = 0; ///< the page table of the windows
    u64 m_end = 0;
};

} // namespace gnomon::test::hostile
