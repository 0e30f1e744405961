// SPDX-License-Identifier: Apache-2.0
#include "processor/soft/target.h"

#include "processor/soft/calls.h"
#include "processor/soft/tlb_contexts.h"

namespace gnomon::processor::soft {

bool fetches_from(Cpu& cpu, Gva gva, const PageCode& page) {
    const TlbSet set = page.mode.set();
    const u32 set_mode = page.mode.bits & ~Mode::hooked;
    if (!Cpu::canonical(gva.value()) || cpu.tlb_contexts->fetch_mode(set) != set_mode ||
        page.mode.at(cpu, gva) != page.mode)
        return false;
    const Walk found = walk(cpu, gva, Reach::execute, set);
    if (found.kind != Walk::Kind::ram || found.frame != page.frame) return false;
    cpu.tlb_contexts->fill_fetch(set, gva, page.entries);
    return true;
}

LookUp look_up(Cpu& cpu, Mode mode) {
    const TlbSet set = mode.set();
    // Blocks of one instruction do not look into the fetch TLB, which keeps those of another mode.
    const bool cached = !mode.has(Mode::single);
    // Whether a page is hooked follows from its address, by which fetch entries are found.
    if (cached) cpu.tlb_contexts->set_fetch_mode(set, mode.bits & ~Mode::hooked);
    const u64 rip = cpu.cb.state.rip;
    const Gva gva = fetch_address(cpu.cb.state, rip);
    cpu.page_base = rip - gva.page_offset();
    const auto offset = static_cast<u16>(gva.page_offset());

    const Tlb& t = cpu.tlb(set);
    const unsigned i = tlb_index(gva);
    LookUp found;
    if (cached && t.fetch_tag[i] == tlb_tag(gva)) {
        // SAFETY: fetch_code was filled with the entry table of a live PageCode.
        const u32 entry = *reinterpret_cast<const u32*>(t.fetch_code[i] + 4 * gva.value());
        if (entry != cpu.code_cache->entry_miss()) {
            ++cpu.statistics.fetch_hits;
            found.entry = entry;
            remember_way(cpu, set, rip, entry);
            return found;
        }
    }
    ++cpu.statistics.fetch_walks;
    found.walk = walk(cpu, gva, Reach::execute, set);
    if (found.walk.kind != Walk::Kind::ram) return found;
    found.page = cpu.code_cache->find_page(found.walk.frame, mode);
    if (found.page == nullptr) return found;
    found.entry = cpu.code_cache->way(*found.page, offset);
    if (cached) {
        if (cpu.tlb_contexts->may_borrow_fetches(set, gva))
            call_outside(cpu, [&] { borrow_fetches(cpu, set, gva); });
        cpu.tlb_contexts->fill_fetch(set, gva, found.page->entries);
        if (found.entry != 0) remember_way(cpu, set, rip, found.entry);
    }
    return found;
}

u32 chained_target(Cpu& cpu) {
    const ControlBlock& cb = cpu.cb;
    const RegisterBlock& s = cb.state;
    // What the loop looks at between runs. An interrupt that waits for IF is met where IF is set.
    if (__atomic_load_n(&cpu.poll, __ATOMIC_RELAXED) != 0 || cpu.deferred_exit ||
        cpu.delivery_exit_wanted || cpu.flush_wanted || cb.io_data_valid || cb.nmi_window ||
        (cb.interrupt_window && (s.rflags & rflags::if_) != 0) ||
        cb.injection.kind != Injection::Kind::none || !cb.execution_hook_armed ||
        cb.interrupt_shadow || cpu.single_step_once || cpu.mid_repeat || cpu.traps_held ||
        cpu.watch_hits != 0 || s.rip == cpu.view_awaited_rip)
        return 0;
    const Mode mode = Mode::of(cpu);
    if (mode.has(Mode::single) || !mode.has(Mode::code64) || !Cpu::canonical(s.rip)) return 0;
    const u32 entry = look_up(cpu, mode).entry;
    if (entry == 0) return 0;
    // RF, which IRET may have set, covers the instruction there.
    if ((s.rflags & rflags::rf) != 0) cpu.resumed = true;
    cpu.run_rip = s.rip;
    cpu.steps_by_new_tf = false; // TF was clear behind the instruction that set it
    return entry;
}

} // namespace gnomon::processor::soft
