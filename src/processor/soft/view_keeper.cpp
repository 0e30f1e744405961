// SPDX-License-Identifier: Apache-2.0
#include "processor/soft/view_keeper.h"

#include "processor/soft/mmu.h"

#include <algorithm>
#include <cstring>

namespace gnomon::processor::soft {

namespace {

/// Pages looked at around one that is missing; a power of two.
constexpr unsigned around = 16;
constexpr unsigned table_entries = 512;
/// Most that a new view is given at once.
constexpr unsigned first_pages = 8192;
/// Faults and misses between two interrupts of user code above which an address space is restless.
constexpr unsigned many_faults = 40, many_misses = 200;

ShadowEntry entry_of(const ControlBlock& cb, u64 table, unsigned index) {
    ShadowEntry e;
    std::memcpy(&e, cb.shadow_arena + table + sizeof e * index, sizeof e);
    return e;
}

} // namespace

void ViewKeeper::selected() {
    if (m_views == LinearViews::all && !cpu().view_on && cpu().cb.ram_file >= 0)
        m_contexts.turn_view_on();
}

void ViewKeeper::user_interrupted() {
    if (m_views != LinearViews::busy || cpu().cb.ram_file < 0) return;
    TlbContexts::Use& use = m_contexts.use();
    const unsigned faults = std::exchange(use.faults, 0), misses = std::exchange(use.misses, 0);
    if (cpu().view_on) {
        if (misses > many_misses) take();
        return;
    }
    if (faults > many_faults || ++use.ticks < use.patience) return;
    ++cpu().statistics.views_given;
    m_contexts.turn_view_on();
    show_all();
}

void ViewKeeper::take() {
    m_contexts.turn_view_off();
    ++cpu().statistics.views_taken;
    TlbContexts::Use& use = m_contexts.use();
    use.patience = std::min(use.patience * 4, 1000U);
    use.ticks = 0;
}

void ViewKeeper::user_faulted() {
    ++m_contexts.use().faults;
    if (cpu().view_on) cpu().view_awaited_rip = cpu().cb.state.rip;
}

bool ViewKeeper::prepare() {
    Cpu& c = cpu();
    const Gva wanted(std::exchange(c.view_wanted, 0));
    if (!c.view_on) return false;
    if (wanted != Gva()) show(wanted, false);
    if (c.cb.state.rip != c.view_awaited_rip) return false;
    c.view_awaited_rip = no_rip;
    return true;
}

bool ViewKeeper::missed() {
    Cpu& c = cpu();
    ++c.statistics.view_misses;
    ++m_contexts.use().misses;
    const std::optional<Gva> gva = m_contexts.view().address_of(c.fault_address);
    if (!gva) return open_regions(); // in the void an address has lost its region
    return !m_contexts.view().shows(*gva, c.fault_was_write) && show(*gva, c.fault_was_write);
}

ViewKeeper::Found ViewKeeper::find(Gva page) const {
    const Walk walked = walk(cpu(), page, Reach::read, TlbSet::user);
    // Monitor pages are nobody's to see but the monitor's.
    if (walked.kind != Walk::Kind::ram || walked.frame.value() >= monitor_frame_base) return {};
    return {walked.host, walked.writable && !walked.traced && !m_cache.has_code(walked.frame)};
}

/// Has the view show the page of `gva`, and those around it that the shadow tables have too.
bool ViewKeeper::show(Gva gva, bool write) {
    if (gva.value() >> view_region_shift >= view_region_count) return false;
    const Gva first(gva.value() & ~(around * page_size - 1));
    std::array<Found, around> found;
    for (unsigned n = 0; n < around; ++n) {
        const Gva page = first + n * page_size;
        if (page == gva.page() || !m_contexts.view().shows(page, false)) found[n] = find(page);
    }
    const auto wanted = static_cast<unsigned>((gva - first) / page_size);
    if (found[wanted].host == nullptr || (write && !found[wanted].writable)) return false;
    return show_runs(first, found, wanted);
}

bool ViewKeeper::show_runs(Gva first, std::span<const Found> found, unsigned wanted) {
    bool shown = false;
    for (unsigned n = 0; n < found.size();) {
        unsigned count = 1;
        while (n + count < found.size() &&
               found[n + count].host == found[n].host + count * page_size &&
               found[n + count].writable == found[n].writable)
            ++count;
        if (found[n].host != nullptr) {
            const auto offset = static_cast<u64>(found[n].host - cpu().cb.ram_base);
            const bool mapped = m_contexts.view().map(first + n * page_size, count, found[n].host,
                                                      cpu().cb.ram_file, offset, found[n].writable);
            if (n <= wanted && wanted < n + count) shown = mapped;
            ++cpu().statistics.view_maps;
        }
        n += count;
    }
    m_contexts.view_moved();
    return shown;
}

/// Calls f(address, table) for the level-1 tables of the user half.
template <class F>
void ViewKeeper::for_each_level_1_table(F f) const {
    const ControlBlock& cb = cpu().cb;
    const auto below = [&cb](u64 table, unsigned count, auto&& g) {
        for (unsigned n = 0; n < count; ++n)
            if (const ShadowEntry e = entry_of(cb, table, n); e.has(ShadowEntry::present))
                g(n, e.address());
    };
    below(cb.shadow_root, table_entries / 2, [&](unsigned n4, u64 level_3) {
        below(level_3, table_entries, [&](unsigned n3, u64 level_2) {
            below(level_2, table_entries, [&](unsigned n2, u64 level_1) {
                f(Gva(u64{n4} << 39 | u64{n3} << 30 | u64{n2} << 21), level_1);
            });
        });
    });
}

/// Opens the regions of which the shadow tables have pages. @return whether there is a new one.
bool ViewKeeper::open_regions() {
    bool opened = false;
    for_each_level_1_table([&](Gva gva, u64) { opened = m_contexts.view().open(gva) || opened; });
    m_contexts.view_moved();
    return opened;
}

/// Has a new view show what the shadow tables have.
void ViewKeeper::show_all() {
    unsigned left = first_pages;
    for_each_level_1_table([&](Gva gva, u64 level_1) {
        std::array<Found, table_entries> found;
        bool any = false;
        for (unsigned n = 0; n < table_entries && left != 0; ++n) {
            if (!entry_of(cpu().cb, level_1, n).has(ShadowEntry::present)) continue;
            found[n] = find(gva + n * page_size);
            any = true;
            --left;
        }
        if (any) show_runs(gva, found, 0);
    });
}

} // namespace gnomon::processor::soft
