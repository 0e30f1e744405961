// SPDX-License-Identifier: Apache-2.0
/// @file The oracle: runs instruction bytes on the CPU that the test runs on.
#pragma once

#include "processor/registers.h"

#include <array>
#include <initializer_list>

namespace gnomon::processor {

/// Instruction bytes; a test that needs more than fit is wrong.
class Code {
public:
    Code() = default;
    Code(std::initializer_list<u8> bytes) { append(bytes); }
    void push_back(u8 byte) { m_bytes.at(m_size++) = byte; }
    void append(std::initializer_list<u8> bytes) {
        for (const u8 byte : bytes)
            push_back(byte);
    }
    [[nodiscard]] u64 size() const { return m_size; }
    [[nodiscard]] const u8* data() const { return m_bytes.data(); }
    [[nodiscard]] u8 operator[](u64 i) const { return m_bytes.at(i); }

private:
    std::array<u8, 32> m_bytes{};
    u64 m_size = 0;
};

/// Registers of a native run. RSP, RBP and R12-R15 stay the test program's own.
struct HostRegisters {
    u64 gpr[16] = {};
    u64 rflags = rflags::fixed1;       ///< arithmetic flags and DF
    ExtendedState* extended = nullptr; ///< loaded by XRSTOR and stored by XSAVE; may be null
    u64 components = 7;                ///< of which
};

class HostCpu {
public:
    HostCpu();
    ~HostCpu();
    HostCpu(const HostCpu&) = delete;
    HostCpu& operator=(const HostCpu&) = delete;

    /// Runs `code` in 64-bit mode.
    void run(const Code& code, HostRegisters& registers);
    /// Whether this host has a 32-bit user code segment.
    [[nodiscard]] static bool has_compatibility_mode();
    /// Runs `code` in compatibility mode; no stack or memory operands but [ESP] and what lies below
    /// 4 GiB.
    void run_compatibility(const Code& code, HostRegisters& registers);

private:
    u8* m_page; ///< executable, below 4 GiB
};

/// Memory below 4 GiB, so that 32-bit addresses reach it.
class LowMemory {
public:
    explicit LowMemory(u64 pages);
    ~LowMemory();
    LowMemory(const LowMemory&) = delete;
    LowMemory& operator=(const LowMemory&) = delete;

    [[nodiscard]] std::byte* data() const { return m_data; }
    [[nodiscard]] u64 address() const { return reinterpret_cast<u64>(m_data); }
    [[nodiscard]] u64 size() const { return m_size; }

private:
    std::byte* m_data;
    u64 m_size;
};

} // namespace gnomon::processor
