// SPDX-License-Identifier: Apache-2.0
/// @file What the software processor counts, and the times that it samples.
#pragma once

#include "base/host_time.h"
#include "base/types.h"

#include <algorithm>

namespace gnomon::processor::soft {

/// Indices of the helpers' names (helper_kinds.h).
inline constexpr unsigned helper_kind_limit = 128;

/// What became of an access that the TLB did not have (slow_access.cpp).
enum class AccessKind : u8 {
    read_fill,  ///< RAM, now in the TLB
    write_fill, ///< likewise
    unfilled,   ///< RAM beside code or under a watchpoint: it comes this way each time
    traced,     ///< a write that is recorded
    code,       ///< a write to translated bytes
    straddling, ///< over the end of a page
    device,
    buffer_full, ///< no room for the records of a write
    page_fault,
    refused,      ///< by segment, alignment or form of the address
    group_fill,   ///< a group's range, now in the TLB
    group_singly, ///< a group that goes on as single accesses
};
inline constexpr unsigned access_kind_count = 12;

/// Calls from translated code that would go on elsewhere without the dispatch loop (calls.cpp).
enum class ChainKind : u8 {
    dispatch, ///< a target in this page or at a known address
    branch,   ///< a near branch that missed the fetch TLB
    straddle, ///< an instruction across a page end
    helper,   ///< a helper that changed RIP, mode or both
    link,     ///< a direct branch to another page, which is linked if it goes on
};
inline constexpr unsigned chain_kind_count = 5;

/// Time of every `period`-th occurrence. Off until `set_period`: then `occurs` is a decrement and a
/// branch.
template <unsigned kinds>
class SampledTime {
public:
    /// A prime, lest the guest's own rhythm be sampled.
    static constexpr u64 usual_period = 61;
    void set_period(u64 period) {
        m_period = m_left = period;
        // What a measurement of nothing takes is not the kind's.
        m_overhead = ~u64{0};
        for (unsigned n = 0; n < 64; ++n) {
            const u64 begin = read_tsc();
            m_overhead = std::min(m_overhead, read_tsc() - begin);
        }
    }
    [[nodiscard]] bool occurs() {
        if (--m_left != 0) [[likely]]
            return false;
        m_left = m_period;
        return true;
    }
    /// Books what has passed since `begin` on the TSC.
    void add_since(unsigned kind, u64 begin) {
        const u64 end = read_tsc();
        add(kind, end > begin + m_overhead ? end - begin - m_overhead : 0);
    }
    void add(unsigned kind, u64 ticks) {
        m_ticks[kind] += ticks;
        ++m_samples[kind];
    }
    /// The time of `count` occurrences as the samples suggest; 0 without any.
    [[nodiscard]] u64 estimate(unsigned kind, u64 count) const {
        if (m_samples[kind] == 0) return 0;
        return static_cast<u64>(static_cast<double>(m_ticks[kind]) /
                                static_cast<double>(m_samples[kind]) * static_cast<double>(count));
    }

private:
    u64 m_period = ~u64{0}, m_left = ~u64{0}, m_overhead = 0;
    u64 m_ticks[kinds] = {}, m_samples[kinds] = {};
};

/// Measures a scope if its turn has come.
template <unsigned kinds>
class SampledScope {
public:
    SampledScope(SampledTime<kinds>& time, unsigned kind)
        : m_time(time), m_kind(kind), m_begin(time.occurs() ? read_tsc() : 0) {}
    SampledScope(const SampledScope&) = delete;
    SampledScope& operator=(const SampledScope&) = delete;
    ~SampledScope() {
        if (m_begin != 0) [[unlikely]]
            m_time.add_since(m_kind, m_begin);
    }

private:
    SampledTime<kinds>& m_time;
    unsigned m_kind;
    u64 m_begin;
};

/// Counters since creation.
struct Counters {
    u64 translated_blocks = 0, translated_instructions = 0, translated_bytes = 0, dispatches = 0,
        links = 0, slow_accesses = 0, tlb_fills = 0, helper_calls = 0, code_invalidations = 0,
        cache_flushes = 0, traced_writes = 0, straddles = 0;
    u64 instructions = 0;      ///< begun; only with SoftProcessorOptions::count_instructions
    u64 hooked_calls = 0;      ///< system calls that entered monitor mode
    u64 handled_hooks = 0;     ///< execution hooks that entered monitor mode
    u64 leaves[8] = {};        ///< returns from translated code, by Leave
    u64 fetch_hits = 0;        ///< look-ups that found their translation by the fetch TLB
    u64 fetch_walks = 0;       ///< look-ups that walked the shadow tables
    u64 tlb_flushes = 0;       ///< of everything under every root
    u64 tlb_root_flushes = 0;  ///< of everything under one root
    u64 tlb_page_flushes = 0;  ///< of one page
    u64 write_revocations = 0; ///< of the rights to write to one frame
    u64 fetch_flushes = 0;     ///< of every fetch entry
    u64 fetch_set_flushes = 0; ///< of the fetch entries of one set, for another of its modes
    u64 context_switches = 0;  ///< changes of root
    u64 context_misses = 0;    ///< of these: the root had no context
    u64 context_losses = 0;    ///< of these: its context had to be emptied
    u64 view_misses = 0;       ///< accesses that met nothing in a linear view, or no right
    u64 view_guesses = 0;      ///< places that counted on the wrong region of a linear view
    u64 view_maps = 0;         ///< runs of pages that one was given
    u64 views_given = 0, views_taken = 0; ///< address spaces found busy enough, or too restless
    u64 context_flushes = 0;              ///< contexts that were emptied
    u64 helper_walks = 0;                 ///< helpers' accesses that were not in the TLB
    u64 chained[chain_kind_count] = {};   ///< calls that went on without the dispatch loop
    u64 unchained[chain_kind_count] = {}; ///< calls that left for it
    u64 accesses[access_kind_count] = {};
    u64 helpers[helper_kind_limit] = {};   ///< by helper_kind
    u64 exceptions[32] = {};               ///< delivered, by vector
    u64 interrupts[256] = {};              ///< external interrupts delivered, by vector
    u64 software_interrupts = 0, nmis = 0; ///< delivered
    SampledTime<helper_kind_limit> helper_time;
    SampledTime<1> access_time;
    SampledTime<chain_kind_count> chain_time;

    void count(AccessKind kind) { ++accesses[static_cast<unsigned>(kind)]; }
    void count(ChainKind kind, bool went_on) {
        ++(went_on ? chained : unchained)[static_cast<unsigned>(kind)];
    }
};

} // namespace gnomon::processor::soft
