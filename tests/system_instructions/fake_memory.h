// SPDX-License-Identifier: Apache-2.0
/// @file Guest-virtual memory for helper tests: every canonical address is memory, except pages
/// that a test takes away.
#pragma once

#include "processor/soft/cpu.h"

#include <array>
#include <map>
#include <set>
#include <vector>

namespace gnomon::processor::soft {

/// The memory of a FakeCpu (fake_memory.cpp defines Cpu's memory functions).
class FakeMemory {
public:
    struct Access {
        u64 address, size;
        bool write;
        AccessMode mode;
    };

    std::set<u64> absent,
        read_only; ///< page addresses: any access, or a write, leaves with page_fault
    std::vector<Access> accesses; ///< completed reads and writes, in order
    int writes_allowed =
        -1; ///< after so many writes one leaves with write_buffer_full, though probed

    void copy_in(u64 address, const void* in, u64 size);
    void copy_out(u64 address, void* out, u64 size);
    template <class T>
    void put(u64 address, T value) {
        copy_in(address, &value, sizeof value);
    }
    template <class T>
    T get(u64 address) {
        T value{};
        copy_out(address, &value, sizeof value);
        return value;
    }
    [[nodiscard]] unsigned writes() const;

private:
    std::map<u64, std::array<u8, page_size>> m_pages;
};

/// Every Cpu in these tests is one.
struct FakeCpu : Cpu {
    FakeMemory memory;
};

} // namespace gnomon::processor::soft
