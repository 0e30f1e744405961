// SPDX-License-Identifier: Apache-2.0
/// @file What the software processor tells of itself: its counters by name, and where its code
/// lies.
#include "processor/soft/helper_kinds.h"
#include "processor/soft/soft_processor.h"

#include <algorithm>
#include <fmt/format.h>
#include <iterator>
#include <utility>
#include <vector>

namespace gnomon::processor::soft {

namespace {

constexpr const char* access_kinds[] = {"read_fill",  "write_fill", "unfilled",   "traced",
                                        "code",       "straddling", "device",     "buffer_full",
                                        "page_fault", "refused",    "group_fill", "group_singly"};
static_assert(std::size(access_kinds) == access_kind_count);

constexpr const char* chain_kinds[] = {"dispatch", "branch", "straddle", "helper", "link"};
static_assert(std::size(chain_kinds) == chain_kind_count);

/// By Leave, which begins at 1.
constexpr const char* leave_reasons[] = {"dispatch", "link", "branch",    "state",
                                         "fault",    "exit", "host_fault"};
static_assert(std::size(leave_reasons) == static_cast<std::size_t>(Leave::host_fault));

/// SDM vol. 3A table 6-1, in Intel's abbreviations; empty: by number.
constexpr const char* exception_names[] = {"de", "db", "nmi", "bp", "of", "br", "ud", "nm",
                                           "df", "",   "ts",  "np", "ss", "gp", "pf", "",
                                           "mf", "ac", "mc",  "xm", "ve", "cp"};

StatisticGroup helpers(const Counters& s, double ns_per_tick) {
    StatisticGroup group{"helpers", {}};
    const auto kinds = helper_kinds();
    for (unsigned kind = 0; kind < kinds.size(); ++kind) {
        Statistic& entry = group.entries.emplace_back();
        entry.name = kinds[kind].name;
        entry.value = s.helpers[kind];
        if (ns_per_tick != 0)
            entry.ns = static_cast<u64>(
                static_cast<double>(s.helper_time.estimate(kind, s.helpers[kind])) * ns_per_tick);
    }
    return group;
}

/// Calls by kind, with their time, and how many of them left for the dispatch loop after all.
StatisticGroup chains(const Counters& s, double ns_per_tick) {
    StatisticGroup group{"chains", {}};
    for (unsigned kind = 0; kind < chain_kind_count; ++kind) {
        Statistic& entry = group.entries.emplace_back();
        entry.name = chain_kinds[kind];
        entry.value = s.chained[kind] + s.unchained[kind];
        if (ns_per_tick != 0)
            entry.ns = static_cast<u64>(
                static_cast<double>(s.chain_time.estimate(kind, entry.value)) * ns_per_tick);
    }
    for (unsigned kind = 0; kind < chain_kind_count; ++kind)
        group.entries.push_back({fmt::format("{}_left", chain_kinds[kind]), s.unchained[kind]});
    return group;
}

StatisticGroup events(const Counters& s) {
    StatisticGroup group{"events", {}};
    for (unsigned vector = 0; vector < std::size(s.exceptions); ++vector) {
        const bool named = vector < std::size(exception_names) && *exception_names[vector] != '\0';
        // Vectors without a name are shown where they came.
        if (named)
            group.entries.push_back(
                {fmt::format("exception_{}", exception_names[vector]), s.exceptions[vector]});
        else if (s.exceptions[vector] != 0)
            group.entries.push_back({fmt::format("exception_{}", vector), s.exceptions[vector]});
    }
    u64 interrupts = 0;
    for (const u64 count : s.interrupts)
        interrupts += count;
    group.entries.push_back({"external_interrupts", interrupts});
    for (unsigned vector = 0; vector < std::size(s.interrupts); ++vector)
        if (s.interrupts[vector] != 0)
            group.entries.push_back(
                {fmt::format("interrupt_0x{:02x}", vector), s.interrupts[vector]});
    group.entries.push_back({"software_interrupts", s.software_interrupts});
    group.entries.push_back({"nmis", s.nmis});
    return group;
}

} // namespace

void SoftProcessor::book_time(TimeAccount* account) {
    m_time = account;
    m_translator->book_time(account);
    const u64 period = account != nullptr ? m_cpu->statistics.helper_time.usual_period : ~u64{0};
    m_cpu->statistics.helper_time.set_period(period);
    m_cpu->statistics.access_time.set_period(period);
    m_cpu->statistics.chain_time.set_period(period);
}

void SoftProcessor::map_code(CodeMap* map) {
    m_translator->map_code(map);
    if (map == nullptr) return;
    std::vector<std::pair<u64, const char*>> routines{
        // SAFETY: these two are told, not used.
        {reinterpret_cast<u64>(m_thunks.run), "run"},
        {reinterpret_cast<u64>(m_thunks.outside), "outside"},
        {m_thunks.leave, "leave"},
        {m_thunks.slow_access, "slow_access"},
        {m_thunks.commit, "commit"},
        {m_thunks.helper, "helper"},
        {m_thunks.extended_helper, "extended_helper"},
        {m_thunks.straddle, "straddle"},
        {m_thunks.group, "group"},
        {m_thunks.chain_branch, "chain_branch"},
        {m_thunks.enter, "enter"},
        {m_thunks.entry_miss, "entry_miss"},
        {m_thunks.chain, "chain"},
        {m_thunks.dispatch_offset, "dispatch"},
        {m_thunks.link, "link"},
        {m_thunks.branch, "branch"},
        {m_thunks.host_fault, "host_fault"},
        {m_cache->thunks_end(), "end"}};
    std::sort(routines.begin(), routines.end());
    for (std::size_t n = 0; n + 1 < routines.size(); ++n)
        map->routine(routines[n].first, routines[n + 1].first - routines[n].first,
                     routines[n].second);
}

gnomon::Statistics SoftProcessor::report() const {
    const Counters& s = m_cpu->statistics;
    const double ns_per_tick = m_time != nullptr ? m_time->ns_per_tick() : 0;
    gnomon::Statistics all;

    StatisticGroup& processor = all.emplace_back(StatisticGroup{"processor", {}});
    Statistic slow{"slow_accesses", s.slow_accesses};
    Statistic helper_calls{"helper_calls", s.helper_calls};
    StatisticGroup by_helper = helpers(s, ns_per_tick);
    if (ns_per_tick != 0) {
        slow.ns = static_cast<u64>(static_cast<double>(s.access_time.estimate(0, s.slow_accesses)) *
                                   ns_per_tick);
        helper_calls.ns = 0;
        for (const Statistic& entry : by_helper.entries)
            *helper_calls.ns += entry.ns.value_or(0);
    }
    processor.entries = {{"dispatches", s.dispatches},
                         {"fetch_hits", s.fetch_hits},
                         {"fetch_walks", s.fetch_walks},
                         {"links", s.links},
                         std::move(helper_calls),
                         std::move(slow),
                         {"helper_walks", s.helper_walks},
                         {"tlb_fills", s.tlb_fills},
                         {"tlb_flushes", s.tlb_flushes},
                         {"tlb_root_flushes", s.tlb_root_flushes},
                         {"tlb_page_flushes", s.tlb_page_flushes},
                         {"write_revocations", s.write_revocations},
                         {"fetch_flushes", s.fetch_flushes},
                         {"fetch_set_flushes", s.fetch_set_flushes},
                         {"context_switches", s.context_switches},
                         {"context_misses", s.context_misses},
                         {"context_losses", s.context_losses},
                         {"view_misses", s.view_misses},
                         {"view_guesses", s.view_guesses},
                         {"view_maps", s.view_maps},
                         {"views_given", s.views_given},
                         {"views_taken", s.views_taken},
                         {"context_flushes", s.context_flushes},
                         {"traced_writes", s.traced_writes},
                         {"hooked_calls", s.hooked_calls},
                         {"handled_hooks", s.handled_hooks}};

    all.push_back(chains(s, ns_per_tick));

    StatisticGroup& leaves = all.emplace_back(StatisticGroup{"leaves", {}});
    for (unsigned n = 0; n < std::size(leave_reasons); ++n)
        leaves.entries.push_back({leave_reasons[n], s.leaves[n + 1]});

    all.push_back(
        {"translation",
         {{"blocks", s.translated_blocks},
          {"instructions", s.translated_instructions},
          {"emitted", s.translated_bytes, Statistic::Unit::bytes},
          {"code_cache_used", m_cache->used(), Statistic::Unit::bytes, std::nullopt, true},
          {"code_cache_flushes", s.cache_flushes},
          {"code_invalidations", s.code_invalidations}}});

    StatisticGroup& accesses = all.emplace_back(StatisticGroup{"tlb_misses", {}});
    for (unsigned kind = 0; kind < access_kind_count; ++kind)
        accesses.entries.push_back({access_kinds[kind], s.accesses[kind]});

    all.push_back(std::move(by_helper));
    all.push_back(events(s));
    return all;
}

} // namespace gnomon::processor::soft
