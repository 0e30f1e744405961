// SPDX-License-Identifier: Apache-2.0
/// @file The programs of hostile guests: pieces of code of many kinds, one behind the other, and
/// the registers with which the guest goes on after each exception.
#pragma once

#include "base/guest_memory.h"
#include "hostile_guest/guest_image.h"
#include "hostile_guest/layout.h"
#include "instructions/random.h"
#include "processor/soft/decoder.h"

#include <optional>
#include <span>
#include <vector>

namespace gnomon::test::hostile {

/// What the pieces of a program were made of.
enum class Piece : u8 {
    random_bytes,
    instructions, ///< of the instruction table, operands anywhere
    real_code,    ///< from a program or a kernel, a little changed
    system,       ///< control and debug registers, MSRs, descriptor tables, flags
    transfers,    ///< SYSCALL, INT, IRET, far transfers, jumps to anywhere
    strings,
    devices, ///< ports and device registers
    self_modification,
    page_tables,
    monitor_pages, ///< reads, writes and entries of the monitor's addresses
};
inline constexpr unsigned piece_count = 10;

/// What a case starts with, and what its program is made of.
struct ProgramSummary {
    bool ring3 = false;
    u64 pieces[piece_count] = {};
};

class ProgramMaker {
public:
    ProgramMaker();

    /// Code of a program of the kernel, for the pieces of real code and as places to jump to; the
    /// caller keeps it.
    void set_real_code(std::span<const u8> code) { m_real_code = code; }
    /// Values that are worth writing to LSTAR, and addresses worth calling.
    void set_kernel_addresses(std::vector<u64> addresses) { m_kernel = std::move(addresses); }

    /// Fills code, data and resumptions of `memory`, in which `image` was written.
    [[nodiscard]] ProgramSummary make(GuestMemory& memory, const GuestImage& image, Random& random);

private:
    class Writer;
    void piece(Piece kind, Writer& w, Random& random);
    void instructions(Writer& w, Random& random);
    [[nodiscard]] bool instruction(Writer& w, Random& random);
    void system(Writer& w, Random& random);
    void transfer(Writer& w, Random& random);
    void strings(Writer& w, Random& random);
    void devices(Writer& w, Random& random);
    void self_modification(Writer& w, Random& random);
    void page_tables(Writer& w, Random& random);
    void monitor_pages(Writer& w, Random& random);
    [[nodiscard]] u64 kernel_address(Random& random) const;
    [[nodiscard]] Resumption resumption(u64 rip, bool ring3, Random& random) const;

    processor::soft::Decoder m_decoder;
    processor::soft::FeatureSet m_features = processor::soft::FeatureSet::of_host();
    std::span<const u8> m_real_code;
    std::vector<u64> m_kernel;
};

/// An address that something may go wrong at.
[[nodiscard]] u64 hostile_address(Random& random);
/// A number for a register: an address, a small or a large one, or any.
[[nodiscard]] u64 hostile_value(Random& random);

} // namespace gnomon::test::hostile
