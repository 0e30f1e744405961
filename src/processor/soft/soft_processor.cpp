// SPDX-License-Identifier: Apache-2.0
#include "processor/soft/soft_processor.h"

#include "base/verify.h"
#include "processor/exceptions.h"
#include "processor/soft/breakpoints.h"
#include "processor/soft/calls.h"
#include "processor/soft/events.h"
#include "processor/soft/host_faults.h"
#include "processor/soft/mmu.h"
#include "processor/soft/operands.h"
#include "processor/soft/target.h"
#include "processor/soft/thunks.h"

#include <algorithm>
#include <csignal>
#include <cstring>
#include <utility>

namespace gnomon::processor::soft {

namespace {

/// Where this thread's GS is based. Nothing else in a 64-bit Linux process uses GS.
thread_local Hva gs_base = nullptr;

/// Cpu::read and write raise #GP for an address that is not canonical: in the stack segment that is
/// #SS.
void name_stack_fault(Cpu& cpu, const Instruction& insn) {
    if (cpu.pending.kind != Pending::Kind::exception || cpu.pending.vector != Vector::gp) return;
    if (insn.code64 && insn.is_memory && insn.segment == seg_ss &&
        !Cpu::canonical(cpu.effective_address(insn).value()))
        cpu.pending.vector = Vector::ss;
}
/// Whether an instruction may begin at `rip`: a canonical address, or one within the limit of CS.
bool fetch_allowed(const RegisterBlock& s, u64 rip) {
    return s.code64() ? Cpu::canonical(rip) : rip <= s.segment[seg_cs].limit;
}

/// DR6 bits of the execution breakpoints at RIP (SDM vol. 3B section 18.3.1.1); RF suppresses them.
u64 execution_breakpoints(const RegisterBlock& s) {
    if (!any_breakpoint(s) || (s.rflags & rflags::rf) != 0) return 0;
    const u64 address = fetch_address(s, s.rip).value();
    u64 hits = 0;
    for (unsigned n = 0; n < 4; ++n) {
        const Breakpoint b = breakpoint(s, n);
        if (b.type == Breakpoint::Type::execution && b.begin == address) hits |= u64{1} << n;
    }
    return hits;
}

bool at_execution_hook(const ControlBlock& cb) {
    return std::find(std::begin(cb.execution_hook), std::end(cb.execution_hook),
                     Gva(cb.state.rip)) != std::end(cb.execution_hook);
}

} // namespace

Result<std::unique_ptr<SoftProcessor>> SoftProcessor::create(const SoftProcessorOptions& options) {
    std::unique_ptr<SoftProcessor> p(new SoftProcessor);
    p->m_features = FeatureSet::of_host().without(options.withheld);
    auto cache = CodeCache::create(options.code_cache_bytes, options.code_pages);
    if (!cache) return tl::unexpected(cache.error());
    p->m_cache = std::move(*cache);
    auto contexts = TlbContexts::create();
    if (!contexts) return tl::unexpected(contexts.error());
    p->m_contexts = std::move(*contexts);
    p->m_cpu = &p->m_contexts->cpu();
    p->m_views.emplace(*p->m_contexts, *p->m_cache,
                       p->m_features.has(Feature::bmi2) ? options.views : LinearViews::none);
    p->m_cpu->code_cache = p->m_cache.get();
    p->m_thunks = make_thunks(*p->m_cache,
                              {on_slow_access, on_commit, on_helper, on_branch, on_far_link,
                               on_straddle, on_group, on_guess, on_extended_helper},
                              {.avx = p->m_features.has(Feature::avx),
                               .avx512 = p->m_features.has(Feature::avx512),
                               .bmi2 = p->m_features.has(Feature::bmi2),
                               .keep_vectors = calls_keep_vectors()});
    p->empty_jump_caches();
    p->m_cpu->outside_thunk = p->m_thunks.outside;
    p->m_cpu->avx512_available = p->m_features.has(Feature::avx512);
    p->m_cpu->commit_thunk = p->m_thunks.commit;
    p->m_cpu->enter_thunk = p->m_thunks.enter;
    p->m_translator =
        std::make_unique<Translator>(*p->m_cache, p->m_features, options.count_instructions);
    p->m_translator->set_thunks(p->m_thunks);
    p->m_cpu->translator = p->m_translator.get();
    install_fault_handlers();
    return p;
}

SoftProcessor::~SoftProcessor() {
    if (m_contexts != nullptr && m_contexts->contains(gs_base)) gs_base = nullptr;
}

void SoftProcessor::kick() {
    m_kicked.store(true);
    std::atomic_ref(m_cpu->poll).store(1);
}

void SoftProcessor::invalidate_tlb() { m_contexts->forget_all(); }
void SoftProcessor::invalidate_tlb(Gva gva) { m_contexts->forget_page(gva); }
void SoftProcessor::invalidate_tlb(Gva first, u64 pages, u64 root) {
    m_contexts->forget_pages(first, pages, root);
}
void SoftProcessor::forget_root(u64 root) { m_contexts->forget_root(root); }

void SoftProcessor::revoke_writes(Gpa gpa) {
    if (const Hva host = frame_host(m_cpu->cb, gpa.page())) m_contexts->revoke_writes(host);
}

void SoftProcessor::invalidate_code(Gpa gpa, u64 size) {
    while (size > 0) {
        const u64 piece = std::min(size, page_size - gpa.page_offset());
        if (m_cache->overlaps_code(gpa, piece)) m_cache->drop(gpa.page());
        gpa += piece;
        size -= piece;
    }
}

void SoftProcessor::activate() {
    m_contexts->select(m_cpu->cb.shadow_root);
    m_views->selected();
    const Hva wanted = m_contexts->gs_base();
    if (gs_base == wanted) return;
    set_gs_base(wanted);
    gs_base = wanted;
}

void SoftProcessor::empty_jump_caches() {
    for (unsigned set = 0; set < tlb_set_count; ++set)
        std::fill(std::begin(m_cpu->jump_cache[set]), std::end(m_cpu->jump_cache[set]),
                  m_thunks.find[set]);
}

void SoftProcessor::flush_code() {
    m_cache->flush();
    m_contexts->forget_fetches();
    empty_jump_caches();
    m_cpu->flush_wanted = false;
    ++m_cpu->statistics.cache_flushes;
}

// ---------------------------------------------------------------- calls from translated code

/// As on_helper (calls.h), for the helpers that see vector and x87 registers.
int SoftProcessor::on_extended_helper(Cpu* cpu, u64, void* site_pointer) {
    const HelperSite& site = *static_cast<const HelperSite*>(site_pointer);
    begin_helper(*cpu, site);
    static_cast<void>(export_extended_state(*cpu));
    const HelperResult result = run_helper(*cpu, site);
    import_extended_state(*cpu);
    if (result == HelperResult::fault) name_stack_fault(*cpu, site.instruction);
    return finish_helper(*cpu, site, result);
}

// ---------------------------------------------------------------- finding code

void SoftProcessor::prepare_code_frame(Gpa frame, Hva host) {
    // Before the bytes are read, nobody may hold a cached right to change them unseen.
    if (!m_cache->has_code(frame)) m_contexts->revoke_writes(host);
}

SoftProcessor::Target SoftProcessor::find_target() {
    Cpu& cpu = *m_cpu;
    const u64 rip = cpu.cb.state.rip;
    const Mode mode = Mode::of(cpu);
    cpu.pending.kind = Pending::Kind::none;
    if (!fetch_allowed(cpu.cb.state, rip)) {
        cpu.raise(Vector::gp, 0);
        return {};
    }
    const Gva gva = fetch_address(cpu.cb.state, rip);
    LookUp found = look_up(cpu, mode);
    if (found.entry != 0) return within_limit({found.entry, found.page});
    if (found.walk.kind == Walk::Kind::fault) {
        leave_for_page_fault(cpu, gva, found.walk.error_code, false);
        return {};
    }
    if (found.walk.kind == Walk::Kind::mmio) {
        cpu.raise(Vector::gp, 0); // there is no code behind device registers
        return {};
    }
    PageCode& page = found.page != nullptr ? *found.page : new_page(found.walk.frame, mode);
    return within_limit(translate_target(found.walk.frame, found.walk.host, page, gva));
}

/// A page that has no translations yet; those of all others may be lost.
PageCode& SoftProcessor::new_page(Gpa frame, Mode mode) {
    PageCode* page = m_cache->page(frame, mode);
    if (page == nullptr) {
        flush_code();
        page = m_cache->page(frame, mode);
        VERIFY(page != nullptr);
    }
    return *page;
}

SoftProcessor::Target SoftProcessor::within_limit(Target target) {
    const RegisterBlock& s = m_cpu->cb.state;
    const u64 limit = s.segment[seg_cs].limit;
    if (target.entry == 0 || s.code64() || limit == 0xffffffff) return target;
    const Block* block = m_cache->containing(target.entry); // one instruction, by Mode::single
    VERIFY(block != nullptr);
    if (s.rip + block->guest_length - 1 <= limit) return target;
    m_cpu->raise(Vector::gp, 0);
    return {};
}

SoftProcessor::Target SoftProcessor::translate_target(Gpa frame, Hva host, PageCode& first_page,
                                                      Gva gva) {
    const TimedScope timed(m_time, static_cast<unsigned>(Activity::translation));
    Cpu& cpu = *m_cpu;
    const auto offset = static_cast<u16>(gva.page_offset());
    PageCode* page = &first_page;
    const Mode mode = page->mode;
    CodeBytes bytes;
    bytes.page = reinterpret_cast<const u8*>(host);
    prepare_code_frame(frame, host);
    // Code takes its page's base from where the fetch TLB has put it.
    const auto found_at = [&](u32 entry) -> Target {
        if (!mode.has(Mode::single)) {
            m_contexts->fill_fetch(mode.set(), gva, page->entries);
            if (const u32 way = m_cache->way(*page, offset); way != 0)
                remember_way(cpu, mode.set(), cpu.cb.state.rip, way);
        }
        return {entry, page};
    };
    for (bool retried = false;; retried = true) {
        const Translation t = m_translator->translate(cpu, *page, offset, bytes,
                                                      m_jumped_to ? Translator::Role::jumped_to
                                                                  : Translator::Role::common);
        switch (t.kind) {
        case Translation::Kind::done: return found_at(t.entry);
        case Translation::Kind::cache_full:
            VERIFY(!retried || bytes.second != nullptr);
            flush_code();
            page = m_cache->page(frame, mode);
            VERIFY(page != nullptr);
            if (bytes.second_page != nullptr) {
                bytes.second_page = m_cache->page(bytes.second_frame, mode);
                VERIFY(bytes.second_page != nullptr);
            }
            continue;
        case Translation::Kind::needs_second: {
            u64 second_rip = cpu.page_base + page_size;
            if (!mode.has(Mode::code64)) second_rip &= 0xffffffff;
            if (!fetch_allowed(cpu.cb.state, second_rip)) {
                cpu.raise(Vector::gp, 0);
                return {};
            }
            const Gva second = fetch_address(cpu.cb.state, second_rip);
            const Walk found = walk(cpu, second, Reach::execute, mode.set());
            if (found.kind == Walk::Kind::fault) {
                leave_for_page_fault(cpu, second, found.error_code, false);
                return {};
            }
            if (found.kind == Walk::Kind::mmio) {
                cpu.raise(Vector::gp, 0);
                return {};
            }
            // Blocks that check by themselves what follows need a fetch TLB to look into.
            const bool checks_itself = mode.has(Mode::code64) && !mode.has(Mode::single) &&
                                       mode.at(cpu, second) == mode &&
                                       m_features.has(Feature::bmi2);
            if (const u32 entry =
                    m_cache->straddling_entry(*page, offset, found.frame, checks_itself);
                entry != 0)
                return found_at(entry);
            prepare_code_frame(found.frame, found.host);
            if (checks_itself) {
                bytes.second_page = m_cache->page(found.frame, mode);
                if (bytes.second_page == nullptr) {
                    bytes.second_page = &new_page(found.frame, mode); // has flushed the first
                    page = m_cache->page(frame, mode);
                    VERIFY(page != nullptr);
                }
            }
            bytes.second = reinterpret_cast<const u8*>(found.host);
            bytes.second_frame = found.frame;
            continue;
        }
        }
    }
}

void SoftProcessor::link(const void* site_pointer, const Target& target) {
    const LinkSite& site = *static_cast<const LinkSite*>(site_pointer);
    // The target of the same page, still the one that the branch meant, and findable.
    const u32 entry = m_cache->entry(*site.page, site.target);
    if (entry == 0) return;
    const Block* block = m_cache->containing(entry);
    if (block == nullptr) return;
    if (block->straddles) {
        // Links outlive the code that they lead to, if that is dropped because of another frame.
        if (const u32 way = m_translator->make_way(*site.page, site.target, site.call); way != 0)
            Assembler::patch(*m_cache, site.jump, way);
        return;
    }
    if (target.entry != entry && target.entry != m_cache->way(*site.page, site.target)) return;
    Assembler::patch(*m_cache, site.jump,
                     site.call     ? block->called_entry
                     : site.polled ? block->polled_entry
                                   : block->plain_entry);
    ++m_cpu->statistics.links;
}

// ---------------------------------------------------------------- events

void SoftProcessor::raise_pending() {
    ControlBlock& cb = m_cpu->cb;
    const Pending& p = m_cpu->pending;
    cb.io_data_valid = false; // the instruction that waited for it has faulted
    cb.injection = {};
    cb.injection.kind = Injection::Kind::exception;
    cb.injection.vector = static_cast<u8>(p.vector);
    cb.injection.has_error_code = p.has_error_code;
    cb.injection.error_code = p.error_code;
    if (p.vector != Vector::db) return;
    cb.state.dr[6] |= p.dr6;
    // Of the debug exceptions only general detect pushes RF as faults do.
    constexpr u64 general_detect_bit = u64{1} << 13; // DR6.BD
    if ((p.dr6 & general_detect_bit) != 0) cb.state.rflags |= rflags::rf;
}

bool SoftProcessor::deliver() {
    Cpu& cpu = *m_cpu;
    cpu.pending.kind = Pending::Kind::none;
    cpu.mmio_taken = 0;
    const HelperResult result = deliver_event(cpu);
    cpu.split_flags();
    // Descriptors may be read from devices: then the data belongs to the delivery, not to the
    // instruction at RIP.
    m_delivery_reads = result == HelperResult::fault && cpu.pending.kind == Pending::Kind::exit &&
                       cpu.exit.reason == ExitReason::mmio;
    if (result != HelperResult::fault || cpu.pending.kind == Pending::Kind::exception)
        end_mmio_reads(cpu);
    if (result != HelperResult::fault) {
        cpu.cb.interrupt_shadow = false;
        cpu.single_step_once = false;
        return false;
    }
    if (cpu.pending.kind == Pending::Kind::exit) {
        cpu.exit.during_delivery = true;
        return true;
    }
    const Injection first = cpu.cb.injection;
    raise_pending();
    if (const auto combined = combine_exceptions(first, cpu.cb.injection)) {
        cpu.cb.injection = *combined;
        return false;
    }
    cpu.exit = {};
    cpu.exit.reason = ExitReason::triple_fault;
    return true;
}

bool SoftProcessor::finish_branch() {
    Cpu& cpu = *m_cpu;
    RegisterBlock& s = cpu.cb.state;
    const u64 target = s.code64() ? cpu.resume_rip : cpu.resume_rip & 0xffffffff;
    if (fetch_allowed(s, target)) {
        s.rip = target;
        return true;
    }
    const BranchSite& site = *static_cast<const BranchSite*>(cpu.site);
    s.rip = cpu.page_base + site.page_offset;
    if (!s.code64()) s.rip &= 0xffffffff;
    move_stack_pointer(cpu, static_cast<u64>(-i64{site.stack_delta}));
    if (site.pushed_size != 0) {
        // The return address was written there just now. Only the write buffer could be too full to
        // take it back; then it stays, below the stack.
        const u64 items[] = {cpu.overwritten};
        static_cast<void>(write_stack(cpu, site.pushed_size, items));
    }
    if (site.counter_size != 0) cpu.set_gpr(rcx, site.counter_size, s.gpr[rcx] + 1);
    cpu.raise(Vector::gp, 0);
    return false;
}

/// What interrupts user code, and what its faults are, says whether a view would serve it.
void SoftProcessor::note_user_event() {
    const Injection& event = m_cpu->cb.injection;
    if (event.kind == Injection::Kind::external_interrupt)
        m_views->user_interrupted();
    else if (event.kind == Injection::Kind::exception &&
             event.vector == static_cast<u8>(Vector::pf))
        m_views->user_faulted();
}

bool SoftProcessor::on_view_miss() {
    const auto offset = m_cache->guest_offset(static_cast<u32>(m_cpu->fault_host_pc));
    VERIFY(offset.has_value());
    m_cpu->cb.state.rip = m_cpu->page_base + *offset;
    return m_views->missed();
}

void SoftProcessor::raise_host_fault() {
    Cpu& cpu = *m_cpu;
    const auto offset = m_cache->guest_offset(static_cast<u32>(cpu.fault_host_pc));
    VERIFY(offset.has_value());
    cpu.cb.state.rip = cpu.page_base + *offset;
    if (!cpu.cb.state.code64()) cpu.cb.state.rip &= 0xffffffff;
    if (cpu.fault_signal == SIGFPE) {
        cpu.raise(Vector::de);
    } else if (cpu.fault_signal == SIGILL) {
        cpu.raise(Vector::ud);
    } else if (cpu.fault_signal == SIGSEGV) {
        cpu.raise(Vector::gp, 0);
    } else {
        // The x87 status would not tell: an exception may be pending there when an SSE instruction
        // raises another.
        if (cpu.fault_vector == static_cast<u8>(Vector::mf))
            cpu.raise(Vector::mf);
        else if ((cpu.cb.state.cr4 & cr4::osxmmexcpt) != 0)
            cpu.raise(Vector::xm);
        else
            cpu.raise(Vector::ud);
    }
}

// ---------------------------------------------------------------- the loop

Leave SoftProcessor::run(u32 entry) {
    ++m_cpu->statistics.dispatches;
    const TimedScope timed(m_time, static_cast<unsigned>(Activity::translated_code));
    const int reason = m_thunks.run(entry);
    ++m_cpu->statistics.leaves[reason];
    return static_cast<Leave>(reason);
}

Exit SoftProcessor::enter() {
    Cpu& cpu = *m_cpu;
    ControlBlock& cb = cpu.cb;
    const TimedScope timed(m_time, static_cast<unsigned>(Activity::dispatch));
    VERIFY(cb.write_buffer.capacity >= 2 * record_reserve);
    activate();
    if (!std::equal(std::begin(m_hooks), std::end(m_hooks), std::begin(cb.execution_hook))) {
        flush_code();
        std::copy(std::begin(cb.execution_hook), std::end(cb.execution_hook), std::begin(m_hooks));
    }
    if (cpu.mmio_write_count > 0) { // further pieces of a wide MMIO write
        Exit exit;
        exit.reason = ExitReason::mmio;
        exit.write = true;
        exit.gpa = cpu.mmio_writes[0].gpa;
        exit.size = cpu.mmio_writes[0].size;
        exit.data = cpu.mmio_writes[0].data;
        std::move(std::begin(cpu.mmio_writes) + 1,
                  std::begin(cpu.mmio_writes) + cpu.mmio_write_count, std::begin(cpu.mmio_writes));
        --cpu.mmio_write_count;
        return exit;
    }
    FaultScope faults(cpu, *m_cache, m_thunks.host_fault);
    import_extended_state(cpu);
    cpu.split_flags();
    const void* link_site = nullptr;

    constexpr u64 step_bit = u64{1} << 14; // DR6.BS
    const auto raise_debug_trap = [&](u64 dr6_bits) {
        cpu.raise(Vector::db);
        cpu.pending.dr6 = dr6_bits;
        raise_pending();
    };
    const auto leave = [&] {
        cpu.merge_flags();
        // The x87 unit as C++ expects it: empty, masked, nothing of the guest's pending.
        if (!export_extended_state(cpu)) asm volatile("fninit");
        return cpu.exit;
    };
    const auto leave_for = [&](ExitReason reason) {
        cpu.exit = {};
        cpu.exit.reason = reason;
        return leave();
    };

    for (;;) {
        if (cpu.deferred_exit) {
            cpu.deferred_exit = false;
            return leave();
        }
        if (cpu.delivery_exit_wanted) {
            cpu.delivery_exit_wanted = false;
            cpu.exit = cpu.delivery_exit;
            return leave();
        }
        if (cpu.flush_wanted) {
            flush_code();
            link_site = nullptr;
        }
        std::atomic_ref(cpu.poll).store(0);
        if (m_kicked.exchange(false)) return leave_for(ExitReason::kicked);
        if (!cb.execution_hook_armed && !at_execution_hook(cb)) cb.execution_hook_armed = true;
        // An instruction that has got its I/O data runs to its end first, one that was hooked comes
        // next, but for an exception that it has raised, and nothing is delivered in monitor mode.
        if ((!cb.io_data_valid || m_delivery_reads) && !cb.monitor_mode &&
            (cb.execution_hook_armed || cb.injection.kind == Injection::Kind::exception)) {
            if (cb.injection.kind != Injection::Kind::none) {
                link_site = nullptr;
                cb.execution_hook_armed = true;
                cpu.merge_flags();
                if (cpu.cpl() == 3) note_user_event();
                if (deliver()) return leave();
                continue;
            }
            if (cb.interrupt_window && (cb.state.rflags & rflags::if_) != 0 && !cb.interrupt_shadow)
                return leave_for(ExitReason::interrupt_window);
            if (cb.nmi_window && !cb.nmi_blocked && !cb.interrupt_shadow)
                return leave_for(ExitReason::interrupt_window);
            if (const u64 hits = execution_breakpoints(cb.state); hits != 0) {
                raise_debug_trap(hits); // a fault, but without RF in the image
                continue;
            }
        }

        if (!std::equal(std::begin(m_debug_registers), std::end(m_debug_registers),
                        std::begin(cb.state.dr))) {
            std::copy(std::begin(cb.state.dr), std::end(cb.state.dr),
                      std::begin(m_debug_registers));
            m_contexts->forget_all(); // watched pages must not be cached
        }
        if (m_views->prepare()) cpu.single_step_once = true;
        const u64 flushes = cpu.statistics.cache_flushes;
        m_jumped_to = link_site != nullptr && !static_cast<const LinkSite*>(link_site)->call;
        const Target target = find_target();
        if (cpu.statistics.cache_flushes != flushes) link_site = nullptr; // its storage is gone
        if (target.entry == 0) {
            // The substitute handler has no one to take a fault: it never faults, or is broken.
            if (cb.monitor_mode) return leave_for(ExitReason::triple_fault);
            if (cpu.pending.kind == Pending::Kind::exit) return leave();
            raise_pending();
            continue;
        }
        if (link_site != nullptr) {
            link(link_site, target);
            link_site = nullptr;
        }

        const bool step_once = cpu.single_step_once, shadow = cb.interrupt_shadow;
        const bool trap = (cb.state.rflags & rflags::tf) != 0;
        const bool had_io_data = cb.io_data_valid;
        cpu.resumed = (cb.state.rflags & rflags::rf) != 0;
        const u64 rip = cb.state.rip;
        cpu.run_rip = rip;
        cpu.single_step_once = false;
        cb.interrupt_shadow = false;
        const u64 held_traps = std::exchange(cb.held_debug_traps, 0);
        const bool hook_armed = cb.execution_hook_armed;
        cpu.watch_hits = held_traps;
        cpu.steps_by_new_tf = false;
        cpu.traps_held = false;
        cpu.mid_repeat = false;
        cpu.handler_entered = false;
        cpu.hook_passed = false;
        const Leave reason = run(target.entry);
        cpu.merge_flags();
        const auto complete_rf = [&] { // RF covers one instruction, all turns of it
            if (cpu.mid_repeat)
                cb.state.rflags |= rflags::rf;
            else if (cpu.resumed)
                cb.state.rflags &= ~rflags::rf;
        };

        switch (reason) {
        case Leave::link: link_site = cpu.site; [[fallthrough]];
        case Leave::dispatch: cb.state.rip = cpu.resume_rip; break;
        case Leave::state: break;
        case Leave::exit: // the instruction is complete
            complete_rf();
            if (const u64 hits = cpu.watch_hits | (trap ? step_bit : 0);
                hits != 0 && !cb.monitor_mode)
                raise_debug_trap(hits);
            return leave();
        case Leave::branch:
            if (finish_branch()) break;
            [[fallthrough]];
        case Leave::host_fault:
            if (reason == Leave::host_fault && cpu.fault_signal == SIGSEGV &&
                cpu.fault_vector == static_cast<u8>(Vector::pf)) {
                const bool again = on_view_miss();
                if (cb.state.rip == rip) {
                    cb.interrupt_shadow = shadow;
                    cb.held_debug_traps = held_traps;
                    cb.execution_hook_armed = hook_armed;
                } else {
                    if (had_io_data) cb.io_data_valid = false;
                    complete_rf();
                }
                cpu.single_step_once = !again; // in a block of its own there is no view
                continue;
            }
            if (reason == Leave::host_fault) raise_host_fault();
            [[fallthrough]];
        case Leave::fault:
            cpu.single_step_once = step_once;
            cb.interrupt_shadow = shadow;
            // The substitute handler has no one to take a fault: it never faults, or is broken.
            if (cb.monitor_mode) return leave_for(ExitReason::triple_fault);
            if (cpu.pending.kind == Pending::Kind::exit) {
                // If it is this run's first instruction, it is still to come.
                if (cb.state.rip == rip) {
                    cb.held_debug_traps = held_traps;
                    cb.execution_hook_armed = hook_armed;
                }
                if (cpu.hook_passed && cb.state.rip == cpu.hook_rip)
                    cb.execution_hook_armed = false;
                return leave();
            }
            raise_pending();
            continue;
        }
        if (reason == Leave::dispatch && std::atomic_ref(cpu.poll).load() != 0 &&
            cb.state.rip == rip) {
            cpu.single_step_once = step_once; // kicked before anything was run
            cb.interrupt_shadow = shadow;
            continue;
        }
        if (had_io_data)
            cb.io_data_valid = false; // whether or not it was what the instruction wanted
        complete_rf();
        if (cpu.traps_held) { // by MOV SS: a single-step trap is lost, data breakpoints wait
            cb.held_debug_traps = cpu.watch_hits;
            continue;
        }
        // A completed instruction under TF traps; one that goes to or comes from a kernel is asked
        // about TF as it leaves it.
        const bool stepped = cpu.steps_by_new_tf ? (cb.state.rflags & rflags::tf) != 0 : trap;
        const bool single_step = stepped && !cb.monitor_mode;
        if (single_step || cpu.watch_hits != 0)
            raise_debug_trap(cpu.watch_hits | (single_step ? step_bit : 0));
    }
}

} // namespace gnomon::processor::soft

namespace gnomon::processor {

Result<std::unique_ptr<Processor>> create_software_processor(LinearViews views) {
    return soft::SoftProcessor::create({.views = views});
}

} // namespace gnomon::processor
