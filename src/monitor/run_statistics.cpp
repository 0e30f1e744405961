// SPDX-License-Identifier: Apache-2.0
#include "monitor/run_statistics.h"

#include <iterator>
#include <utility>

namespace gnomon::monitor {

namespace {

constexpr const char* flush_reasons[] = {"other_root",    "control_registers", "weakened_shared",
                                         "weakened_many", "many_roots",        "table_dropped",
                                         "monitor_pages"};
static_assert(std::size(flush_reasons) == flush_reason_count);

constexpr const char* activities[] = {
    "translated_code", "translation", "dispatch",     "exit_handling", "shadow_faults", "drains",
    "root_loads",      "trace",       "shadow_check", "events",        "idle",          "set_up"};
static_assert(std::size(activities) == static_cast<unsigned>(Activity::count));

u64 in_ns(u64 ticks, double ns_per_tick) {
    return static_cast<u64>(static_cast<double>(ticks) * ns_per_tick);
}

} // namespace

Statistics run_statistics(const RunStatistics& run, const ShadowStatistics& shadow,
                          double ns_per_tick) {
    Statistics all;
    all.push_back({"machine",
                   {{"lives", 1},
                    {"idle_periods", run.idle_periods},
                    {"interrupts_offered", run.interrupts},
                    {"injected_page_faults", run.injected_page_faults}}});

    StatisticGroup& exits = all.emplace_back(StatisticGroup{"exits", {}});
    for (unsigned n = 0; n < processor::exit_reason_count; ++n) {
        Statistic& entry = exits.entries.emplace_back();
        entry.name = processor::exit_reason_names[n];
        entry.value = run.exits[n].count;
        if (ns_per_tick != 0) entry.ns = in_ns(run.exits[n].ticks, ns_per_tick);
    }

    const ShadowStatistics& h = shadow;
    all.push_back({"shadow",
                   {{"page_faults", h.page_faults},
                    {"read_faults", h.read_faults},
                    {"write_faults", h.write_faults},
                    {"fetch_faults", h.fetch_faults},
                    {"rights_faults", h.rights_faults},
                    {"fills", h.fills},
                    {"injected", h.injected},
                    {"prefetched", h.prefetched},
                    {"prefilled", h.prefilled},
                    {"accessed_dirty_sets", h.accessed_dirty_sets},
                    {"drains", h.drains},
                    {"records", h.records},
                    {"stray_records", h.stray_records},
                    {"entries_reread", h.entries_reread},
                    {"entries_changed", h.entries_changed},
                    {"root_loads", h.root_loads},
                    {"root_hits", h.root_hits},
                    {"traces_begun", h.traces_begun},
                    {"traces_ended", h.traces_ended},
                    {"tables_live", h.tables_live, Statistic::Unit::count, std::nullopt, true},
                    {"tables_created", h.tables_created},
                    {"tables_retired", h.tables_retired},
                    {"tables_reclaimed", h.tables_reclaimed},
                    {"invalidations_all", h.invalidations_all},
                    {"invalidations_root", h.invalidations_root},
                    {"invalidations_page", h.invalidations_page},
                    {"write_revocations", h.write_revocations}}});

    StatisticGroup flushes{"shadow_flushes", {}}, root_flushes{"shadow_root_flushes", {}};
    for (unsigned n = 0; n < flush_reason_count; ++n) {
        flushes.entries.push_back({flush_reasons[n], h.flushes[n]});
        root_flushes.entries.push_back({flush_reasons[n], h.root_flushes[n]});
    }
    all.push_back(std::move(flushes));
    all.push_back(std::move(root_flushes));
    return all;
}

StatisticGroup time_statistics(const TimeAccount& account) {
    StatisticGroup time{"time", {}};
    const double factor = account.ns_per_tick();
    for (unsigned n = 0; n < std::size(activities); ++n)
        time.entries.push_back(
            {activities[n], in_ns(account.ticks(n), factor), Statistic::Unit::nanoseconds});
    return time;
}

} // namespace gnomon::monitor
