// SPDX-License-Identifier: Apache-2.0
#include "monitor/shadow/guest_walk.h"

#include "processor/shadow_entry.h"

namespace gnomon::monitor {

namespace cr0 = processor::cr0;
namespace cr4 = processor::cr4;
namespace efer = processor::efer;
namespace pf_error = processor::pf_error;

GuestWalk walk_guest(const GuestMemory& memory, Gpa root, bool nxe, Gva gva) {
    GuestWalk walk;
    Gpa table = root;
    for (unsigned level = 4;; --level) {
        const Hva page = memory.hva(table, page_size);
        if (page == nullptr) return walk;
        const u64 entry = guest_entry_at(page, processor::shadow_index(gva, level))
                              .load(std::memory_order_acquire);
        walk.table[level] = page;
        walk.table_gpa[level] = table;
        walk.entry[level] = entry;
        if ((entry & guest_entry::present) == 0) return walk;
        if ((entry & reserved_bits(entry, level, nxe)) != 0) {
            walk.fault = pf_error::present | pf_error::reserved;
            return walk;
        }
        walk.writable = walk.writable && (entry & guest_entry::writable) != 0;
        walk.user = walk.user && (entry & guest_entry::user) != 0;
        walk.execute_disable = walk.execute_disable || (entry & guest_entry::execute_disable) != 0;
        if (maps_memory(entry, level)) {
            walk.leaf_level = level;
            return walk;
        }
        table = Gpa(entry & guest_entry::address_mask);
    }
}

bool access_allowed(const GuestWalk& walk, PagingAccess access,
                    const processor::RegisterBlock& state) {
    if (access.user) {
        if (!walk.user) return false;
        if (access.fetch) return !walk.execute_disable;
        return !access.write || walk.writable;
    }
    if (access.fetch) return !walk.execute_disable && !(walk.user && (state.cr4 & cr4::smep) != 0);
    if (walk.user && (state.cr4 & cr4::smap) != 0 &&
        (access.implicit_supervisor || (state.rflags & processor::rflags::ac) == 0))
        return false;
    return !access.write || walk.writable || (state.cr0 & cr0::wp) == 0;
}

u32 fault_error_code(u32 base, PagingAccess access, const processor::RegisterBlock& state) {
    u32 code = base;
    if (access.write) code |= pf_error::write;
    if (access.user) code |= pf_error::user;
    if (access.fetch && ((state.efer & efer::nxe) != 0 || (state.cr4 & cr4::smep) != 0))
        code |= pf_error::fetch;
    return code;
}

} // namespace gnomon::monitor
