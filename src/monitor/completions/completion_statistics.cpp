// SPDX-License-Identifier: Apache-2.0
#include "monitor/completions/completion_statistics.h"

#include <cmath>
#include <numeric>

namespace gnomon::monitor {

u64 LatencyHistogram::upper_end(std::size_t bucket) {
    if (bucket < steps) return bucket;
    const auto shift = static_cast<unsigned>(bucket / steps - 1);
    return ((bucket % steps + steps + 1) << shift) - 1;
}

u64 LatencyHistogram::percentile(double part) const {
    const u64 total = std::accumulate(m_counts.begin(), m_counts.end(), u64{0});
    if (total == 0) return 0;
    const auto wanted = static_cast<u64>(std::ceil(static_cast<double>(total) * part));
    u64 seen = 0;
    for (std::size_t n = 0; n < buckets; ++n) {
        seen += m_counts[n];
        if (seen >= wanted) return upper_end(n);
    }
    return upper_end(buckets - 1);
}

StatisticGroup DeviceStatistics::report(const std::string& name) const {
    using Unit = Statistic::Unit;
    const auto delivered = [&](Delivery kind) {
        return deliveries[static_cast<std::size_t>(kind)];
    };
    const u64 told = std::accumulate(deliveries.begin(), deliveries.end(), u64{0});
    const auto state = [](const char* label, u64 value, Unit unit) {
        return Statistic{label, value, unit, std::nullopt, true};
    };
    return {"completions_" + name,
            {{"requests", requests},
             {"at_once", delivered(Delivery::at_once)},
             {"late", delivered(Delivery::late)},
             {"early_halted", delivered(Delivery::early_halted)},
             {"early_returned", delivered(Delivery::early_returned)},
             {"early_polled", delivered(Delivery::early_polled)},
             {"matured", delivered(Delivery::matured)},
             {"cancelled", cancelled},
             {"interrupts", interrupts},
             state("interrupts_per_1000_requests", told != 0 ? interrupts * 1000 / told : 0,
                   Unit::count),
             state("deepest_nesting", deepest_nesting, Unit::count),
             {"back_offs", back_offs},
             state("latency_p50", latency.percentile(0.5), Unit::nanoseconds),
             state("latency_p99", latency.percentile(0.99), Unit::nanoseconds),
             state("latency_p999", latency.percentile(0.999), Unit::nanoseconds)}};
}

} // namespace gnomon::monitor
