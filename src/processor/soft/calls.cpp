// SPDX-License-Identifier: Apache-2.0
#include "processor/soft/calls.h"

#include "processor/soft/access_kind.h"
#include "processor/soft/mmu.h"
#include "processor/soft/slow_access.h"
#include "processor/soft/target.h"
#include "processor/soft/view_guess.h"

namespace gnomon::processor::soft {

namespace {

#ifdef GNOMON_CALLS_USE_VECTORS
constexpr bool thunks_keep_vectors = false;
#else
constexpr bool thunks_keep_vectors = true;
#endif

/// While it lives, the guest's vector registers are in the host's.
class LiveVectors {
public:
    explicit LiveVectors(Cpu& cpu) : m_cpu(cpu) { m_cpu.vectors_live = thunks_keep_vectors; }
    LiveVectors(const LiveVectors&) = delete;
    LiveVectors& operator=(const LiveVectors&) = delete;
    ~LiveVectors() { m_cpu.vectors_live = false; }

private:
    Cpu& m_cpu;
};

/// Goes on at state.rip without the dispatch loop, if that is possible.
bool go_on(Cpu& cpu, ChainKind kind) {
    const SampledScope sampled(cpu.statistics.chain_time, static_cast<unsigned>(kind));
    const u32 entry = chained_target(cpu);
    cpu.next_host = cpu.enter_thunk;
    cpu.next_entry = entry;
    cpu.statistics.count(kind, entry != 0);
    return entry != 0;
}

/// Goes on at `rip`, or leaves for it. Whether the branch of `site` may go there is for the loop to
/// see, if it does not look right.
int branch_on(Cpu& cpu, u64 rip, const BranchSite* site, ChainKind kind) {
    if (site == nullptr || Cpu::canonical(rip)) {
        cpu.cb.state.rip = rip;
        if (go_on(cpu, kind)) return 0;
    } else {
        cpu.statistics.count(kind, false);
    }
    cpu.resume_rip = rip;
    cpu.site = site;
    return static_cast<int>(site != nullptr ? Leave::branch : Leave::dispatch);
}

} // namespace

bool calls_keep_vectors() { return thunks_keep_vectors; }

int on_slow_access(Cpu* cpu, u64 r13, void* site_pointer) {
    const LiveVectors live(*cpu);
    auto& site = *static_cast<AccessSite*>(site_pointer);
    const SampledScope sampled(cpu->statistics.access_time, 0);
    const int result = resolve_access(*cpu, Gva(r13), site, cpu->commit_thunk);
    cpu->statistics.count(access_kind(*cpu, Gva(r13), site, result));
    return result;
}

int on_group(Cpu* cpu, u64 r13, void* site_pointer) {
    const LiveVectors live(*cpu);
    auto& site = *static_cast<GroupSite*>(site_pointer);
    const SampledScope sampled(cpu->statistics.access_time, 0);
    const int result = resolve_group(*cpu, Gva(r13), site);
    cpu->statistics.count(access_kind(*cpu, site, result));
    return result;
}

int on_guess(Cpu* cpu, u64 r13, void* site) {
    const LiveVectors live(*cpu);
    resolve_guess(*cpu, Gva(r13), *static_cast<GuessSite*>(site));
    return 0;
}

int on_commit(Cpu* cpu, u64, void* site) {
    const LiveVectors live(*cpu);
    return commit_access(*cpu, *static_cast<AccessSite*>(site));
}

int on_branch(Cpu* cpu, u64 r13, void* place) {
    const LiveVectors live(*cpu);
    const auto address = reinterpret_cast<std::uintptr_t>(place);
    // SAFETY: what is not a pad is a site, or 0.
    const BranchSite* site = cpu->code_cache->contains(address)
                                 ? cpu->code_cache->call_site(static_cast<u32>(address))
                                 : static_cast<const BranchSite*>(place);
    return branch_on(*cpu, r13, site, site != nullptr ? ChainKind::branch : ChainKind::dispatch);
}

int on_far_link(Cpu* cpu, u64 r13, void* site_pointer) {
    const LiveVectors live(*cpu);
    const FarLinkSite& site = *static_cast<const FarLinkSite*>(site_pointer);
    const int result = branch_on(*cpu, r13, site.branch, ChainKind::link);
    if (result == 0) {
        cpu->code_cache->patch(site.jump, static_cast<u32>(cpu->next_entry));
        ++cpu->statistics.links;
    }
    return result;
}

int on_straddle(Cpu* cpu, u64, void* site_pointer) {
    const LiveVectors live(*cpu);
    const StraddleSite& site = *static_cast<const StraddleSite*>(site_pointer);
    const SampledScope sampled(cpu->statistics.chain_time,
                               static_cast<unsigned>(ChainKind::straddle));
    bool same = fetches_from(*cpu, Gva(cpu->page_base + page_size), *site.second);
    // If both pages show one frame, the place for its base is to have that of the code that runs.
    if (same && site.second == site.page)
        same = fetches_from(*cpu, Gva(cpu->page_base), *site.page);
    cpu->statistics.count(ChainKind::straddle, same);
    if (same) {
        cpu->next_host = site.cont;
        return 0;
    }
    // Another frame, or none: the loop makes or finds the block for it.
    site.page->entries[site.page_offset] = cpu->code_cache->entry_miss();
    cpu->resume_rip = cpu->page_base + site.page_offset;
    return static_cast<int>(Leave::dispatch);
}

void begin_helper(Cpu& cpu, const HelperSite& site) {
    RegisterBlock& s = cpu.cb.state;
    ++cpu.statistics.helper_calls;
    s.rip = cpu.page_base + site.instruction.page_offset;
    if (!site.instruction.code64) s.rip &= 0xffffffff;
    cpu.merge_flags();
    // RF covers one instruction, and is cleared for good when this run ends.
    if (s.rip != cpu.run_rip) s.rflags &= ~rflags::rf;
    cpu.pending.kind = Pending::Kind::none;
    cpu.code_changed = false;
    cpu.mmio_taken = 0;
}

HelperResult run_helper(Cpu& cpu, const HelperSite& site) {
    ++cpu.statistics.helpers[site.kind];
    const SampledScope sampled(cpu.statistics.helper_time, site.kind);
    return site.helper(cpu, site.instruction);
}

int finish_helper(Cpu& cpu, const HelperSite& site, HelperResult result) {
    RegisterBlock& s = cpu.cb.state;
    cpu.split_flags();
    if (result != HelperResult::fault || cpu.pending.kind == Pending::Kind::exception)
        end_mmio_reads(cpu);
    switch (result) {
    case HelperResult::next:
        cpu.cb.interrupt_shadow = false;
        cpu.single_step_once = false;
        if (cpu.deferred_exit || cpu.code_changed) {
            s.rip += site.instruction.length;
            if (!site.instruction.code64) s.rip &= 0xffffffff;
            return static_cast<int>(Leave::state);
        }
        [[fallthrough]];
    case HelperResult::next_here: cpu.next_host = site.continuation; return 0;
    case HelperResult::from_handler: cpu.next_host = cpu.hook_continuation; return 0;
    case HelperResult::to_handler: cpu.hook_continuation = site.continuation; [[fallthrough]];
    case HelperResult::dispatch:
        return site.chains && go_on(cpu, ChainKind::helper) ? 0 : static_cast<int>(Leave::state);
    case HelperResult::fault: return static_cast<int>(Leave::fault);
    case HelperResult::exit: return static_cast<int>(Leave::exit);
    }
    return static_cast<int>(Leave::state);
}

int on_helper(Cpu* cpu, u64, void* site_pointer) {
    const HelperSite& site = *static_cast<const HelperSite*>(site_pointer);
    const LiveVectors live(*cpu);
    begin_helper(*cpu, site);
    return finish_helper(*cpu, site, run_helper(*cpu, site));
}

} // namespace gnomon::processor::soft
