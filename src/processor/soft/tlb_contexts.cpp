// SPDX-License-Identifier: Apache-2.0
#include "processor/soft/tlb_contexts.h"

#include "processor/soft/code_cache.h"

#include <algorithm>
#include <cstring>

namespace gnomon::processor::soft {

Result<std::unique_ptr<TlbContexts>> TlbContexts::create() {
    auto windows = CpuWindows::create(count);
    if (!windows) return tl::unexpected(windows.error());
    auto space = ViewSpace::create();
    if (!space) return tl::unexpected(space.error());
    return std::unique_ptr<TlbContexts>(new TlbContexts(std::move(*windows), std::move(*space)));
}

TlbContexts::TlbContexts(CpuWindows windows, std::unique_ptr<ViewSpace> space)
    : m_windows(std::move(windows)), m_view_space(std::move(space)),
      m_monitor(m_windows.cpu().monitor_tlb, m_windows.base(0)) {
    m_monitor.make_empty();
    std::fill(std::begin(cpu().monitor_base_slots), std::end(cpu().monitor_base_slots), no_base);
    m_contexts.reserve(count);
    for (unsigned n = 0; n < count; ++n) {
        Tlb* const sets = m_windows.sets(n);
        const Hva window = m_windows.base(n);
        std::fill_n(m_windows.base_slots(n), code_page_limit, no_base);
        m_contexts.push_back(
            {no_root,
             0,
             0,
             0,
             {TlbSetState(sets[0], window), TlbSetState(sets[1], window),
              TlbSetState(sets[2], window)},
             LinearView(*m_view_space, m_windows.view_deltas(n), m_windows.view_guesses(n))});
    }
    m_current = m_contexts.data();
    empty(*m_current);
    cpu().tlb_contexts = this;
    cpu().view_void = m_view_space->void_address();
    cpu().context = m_windows.sets(0);
}

void TlbContexts::change(u64 root) {
    Cpu::Statistics& statistics = cpu().statistics;
    ++statistics.context_switches;
    m_current->seen = m_order_count;
    m_current->last_used = ++m_uses;
    auto next = std::find_if(m_contexts.begin(), m_contexts.end(),
                             [root](const Context& c) { return c.root == root; });
    if (next == m_contexts.end()) {
        ++statistics.context_misses;
        next = std::min_element(
            m_contexts.begin(), m_contexts.end(),
            [](const Context& a, const Context& b) { return a.last_used < b.last_used; });
        next->view.turn_off();
        next->use = {};
        empty(*next);
        next->root = root;
    } else {
        bring_up_to_date(*next);
    }
    m_current = &*next;
    cpu().context = m_windows.sets(number(*m_current));
    cpu().view_on = m_current->view.is_on();
}

void TlbContexts::empty(Context& context) {
    ++cpu().statistics.context_flushes;
    for (TlbSetState& set : context.sets) {
        // A context that was never used has no pages yet.
        if (context.last_used == 0) set.make_empty();
        set.forget_all();
    }
    context.view.forget_all();
    context.generation = m_generation;
    context.seen = m_order_count;
}

void TlbContexts::bring_up_to_date(Context& context) {
    if (context.generation != m_generation || m_order_count - context.seen > order_room) {
        ++cpu().statistics.context_losses;
        empty(context);
        return;
    }
    for (; context.seen != m_order_count; ++context.seen) {
        const Order& o = m_orders[context.seen % order_room];
        if (o.root != no_root && o.root != context.root) continue;
        if (o.kind == Order::Kind::page) {
            forget_pages(context, Gva(o.address), o.pages);
            continue;
        }
        // SAFETY: only compared.
        if (o.kind == Order::Kind::writes)
            context.view.revoke_writes(reinterpret_cast<Hva>(o.address));
        for (TlbSetState& set : context.sets) {
            switch (o.kind) {
            case Order::Kind::page:
                break; // above
            // SAFETY: only compared.
            case Order::Kind::writes: set.revoke_writes(reinterpret_cast<Hva>(o.address)); break;
            case Order::Kind::fetches: set.forget_fetches(); break;
            }
        }
    }
}

void TlbContexts::borrow_fetches(TlbSet set, Gva gva) {
    if (!may_borrow_fetches(set, gva)) return;
    const ControlBlock& cb = cpu().cb;
    const auto top_entry = [&cb, gva](u64 root) {
        processor::ShadowEntry e;
        std::memcpy(&e, cb.shadow_arena + root + sizeof e * processor::shadow_index(gva, 4),
                    sizeof e);
        return e;
    };
    const processor::ShadowEntry ours = top_entry(m_current->root);
    if (!ours.has(processor::ShadowEntry::present)) return;
    Context* latest = nullptr;
    for (Context& c : m_contexts)
        // Below equal entries of the highest level everything is the same, rights and all.
        if (&c != m_current && c.root != no_root && top_entry(c.root).bits == ours.bits &&
            (latest == nullptr || c.last_used > latest->last_used))
            latest = &c;
    if (latest == nullptr) return;
    bring_up_to_date(*latest);
    state(set).borrow_fetches(latest->sets[static_cast<unsigned>(set)], gva);
}

// ---------------------------------------------------------------- forgetting

void TlbContexts::forget_all() {
    ++cpu().statistics.tlb_flushes;
    ++m_generation;
    empty(*m_current);
    m_monitor.forget_all();
}

void TlbContexts::forget_fetches() {
    ++cpu().statistics.fetch_flushes;
    order(Order::Kind::fetches, 0);
    for (TlbSetState& set : m_current->sets)
        set.forget_fetches();
    m_monitor.forget_fetches();
}

void TlbContexts::forget_page(Gva gva) {
    ++cpu().statistics.tlb_page_flushes;
    order(Order::Kind::page, gva.value());
    m_current->view.forget_pages(gva, 1);
    for (TlbSetState& set : m_current->sets)
        set.forget_page(gva);
    m_monitor.forget_page(gva);
}

void TlbContexts::forget_pages(Gva first, u64 pages, u64 root) {
    if (pages > many_pages) {
        forget_root(root);
        return;
    }
    cpu().statistics.tlb_page_flushes += pages;
    if (root != m_current->root)
        order(Order::Kind::page, first.value(), pages, root);
    else
        forget_pages(*m_current, first, pages);
}

void TlbContexts::forget_pages(Context& context, Gva first, u64 pages) {
    context.view.forget_pages(first, pages);
    for (TlbSetState& set : context.sets)
        for (u64 n = 0; n < pages; ++n)
            set.forget_page(first + n * page_size);
}

void TlbContexts::forget_root(u64 root) {
    ++cpu().statistics.tlb_root_flushes;
    for (Context& c : m_contexts) {
        if (c.root != root) continue;
        c.view.turn_off();
        if (&c == m_current) {
            cpu().view_on = false;
            empty(c);
        } else {
            c.root = no_root; // emptied when it gets another, which it does
            c.last_used = 0;  // before any that has one
        }
    }
}

void TlbContexts::revoke_writes(Hva host_page) {
    ++cpu().statistics.write_revocations;
    order(Order::Kind::writes, reinterpret_cast<u64>(host_page));
    m_current->view.revoke_writes(host_page);
    for (TlbSetState& set : m_current->sets)
        set.revoke_writes(host_page);
    m_monitor.revoke_writes(host_page);
}

const TlbSetState& TlbContexts::set(unsigned n, TlbSet set) {
    Context& c = m_contexts[n];
    if (&c != m_current) bring_up_to_date(c);
    return c.sets[static_cast<unsigned>(set)];
}

u64 TlbContexts::base_of(unsigned n, const PageCode& page) const {
    // SAFETY: PageCode::base_slot names 8 bytes of the window.
    return *reinterpret_cast<const u64*>(m_windows.base(n) + page.base_slot);
}

u64 TlbContexts::data_base_of(unsigned n, const PageCode& page) const {
    // SAFETY: as above.
    return *reinterpret_cast<const u64*>(m_windows.base(n) + page.base_slot + data_slot_distance);
}

void borrow_fetches(Cpu& cpu, TlbSet set, Gva gva) { cpu.tlb_contexts->borrow_fetches(set, gva); }

} // namespace gnomon::processor::soft
