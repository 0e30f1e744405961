// SPDX-License-Identifier: Apache-2.0
/// @file A walk of the guest's own page tables that leaves no trace: for reading guest data, not
/// for running it.
///
/// Four-level paging with 4 KiB, 2 MiB and 1 GiB pages (Intel SDM volume 3A, section 4.5);
/// five-level paging is not shown to guests. No accessed or dirty bit is set, nothing is cached, no
/// fault is raised.
#pragma once

#include "base/guest_memory.h"
#include "guest/linux/memory_reader.h"

#include <optional>

namespace gnomon::guest::linux_ {

/// What a walk found. The rights are the conjunction over all levels, before CR0, CR4 and EFER have
/// a say.
struct PageTranslation {
    Gpa address;           ///< of the byte asked for
    u64 page_bytes;        ///< 4 KiB, 2 MiB or 1 GiB
    bool writable;         ///< R/W
    bool user;             ///< U/S
    bool execute_disabled; ///< XD in any level
};

/// Translates `address` under `cr3` (bits 51:12; PCID and the no-flush bit are ignored). nullopt
/// where the processor would find no translation: not canonical, not present, a reserved bit set, a
/// table outside RAM. The result itself may lie outside RAM (a device). Threads: any; entries are
/// read whole.
[[nodiscard]] std::optional<PageTranslation> walk(const GuestMemory& memory, u64 cr3, Gva address);

/// `walk` for those who only want the address.
[[nodiscard]] std::optional<Gpa> translate(const GuestMemory& memory, u64 cr3, Gva address);

/// The CR3 that maps kernel data, given the one in use at a system-call entry. With page-table
/// isolation the user's top-level table is the upper half of an aligned 8 KiB pair, and the
/// kernel's the lower; without it bit 12 is plain address. `probe` is kernel data that user tables
/// never map, such as `init_task`: where `cr3` does not map it and the lower half of the pair does,
/// that half is the answer. nullopt: neither does.
[[nodiscard]] std::optional<u64> kernel_cr3(const GuestMemory& memory, u64 cr3, Gva probe);

/// One guest address space, read through its page tables. Refers to `memory`, which must outlive
/// it.
class PageTableReader final : public GuestVirtualMemory {
public:
    /// What may be read. `user`: only what user mode may touch, so that a program which passes a
    /// kernel address as an argument gets the same refusal from the tracer as from its kernel.
    enum class Access : u8 { any, user };

    PageTableReader(const GuestMemory& memory, u64 cr3, Access access = Access::any)
        : m_memory(memory), m_cr3(cr3), m_access(access) {}

    [[nodiscard]] bool read(Gva address, std::span<std::byte> out) const override;

private:
    const GuestMemory& m_memory;
    u64 m_cr3;
    Access m_access;
};

} // namespace gnomon::guest::linux_
