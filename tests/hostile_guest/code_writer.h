// SPDX-License-Identifier: Apache-2.0
/// @file Machine code, byte by byte.
#pragma once

#include "hostile_guest/program_maker.h"

#include <algorithm>
#include <cstring>
#include <initializer_list>
#include <span>
#include <vector>

namespace gnomon::test::hostile {

/// What does not fit is left out.
class ProgramMaker::Writer {
public:
    Writer(std::vector<u8>& memory, u64 base) : m_memory(memory), m_base(base) {}

    [[nodiscard]] u64 address() const { return m_base + m_used; }
    [[nodiscard]] std::size_t used() const { return m_used; }
    [[nodiscard]] std::size_t room() const { return m_memory.size() - m_used; }

    void append(std::span<const u8> more) {
        if (more.size() > room()) return;
        std::copy(more.begin(), more.end(), m_memory.begin() + static_cast<std::ptrdiff_t>(m_used));
        m_used += more.size();
    }
    void bytes(std::initializer_list<u8> more) { append(std::span(more.begin(), more.size())); }
    template <class T>
    void number(T value) {
        u8 raw[sizeof value];
        std::memcpy(raw, &value, sizeof value);
        append(raw);
    }
    void skip(std::size_t size) {
        std::fill_n(m_memory.begin() + static_cast<std::ptrdiff_t>(m_used), std::min(size, room()),
                    u8{0x90});
        m_used += std::min(size, room());
    }

    /// MOV r64, imm64.
    void load(unsigned reg, u64 value) {
        bytes({static_cast<u8>(0x48 | (reg >= 8 ? 1 : 0)), static_cast<u8>(0xb8 | (reg & 7))});
        number(value);
    }
    /// MOV r32, imm32 for registers 0 to 7.
    void load32(unsigned reg, u32 value) {
        bytes({static_cast<u8>(0xb8 | (reg & 7))});
        number(value);
    }
    /// REX.W opcode with [reg], registers 0 to 7 but RSP and RBP.
    void with_memory(u8 opcode, unsigned field, unsigned reg) {
        bytes({0x48, opcode, static_cast<u8>(field << 3 | reg)});
    }

private:
    std::vector<u8>& m_memory;
    u64 m_base;
    std::size_t m_used = 0;
};

} // namespace gnomon::test::hostile
