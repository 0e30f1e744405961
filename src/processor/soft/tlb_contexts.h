// SPDX-License-Identifier: Apache-2.0
/// @file The TLB: contexts of cached translations, one for each of the shadow roots used last, and
/// the monitor's set beside them.
///
/// A context has the sets of all modes but monitor mode. One is *current*: translated code and the
/// helpers see no other, and a change of root makes another current, which keeps what it had.
///
/// Invariant: **every entry of the current context and of the monitor's set follows from the shadow
/// tables and the code cache as they were told to be by the last call of one of the functions under
/// "forgetting".** Those act on what is visible at once. For the other contexts they are written
/// down, and `select` does what was written since a context was last current before anything can
/// use it; when too much was, it empties the context. So a context that is not current may hold
/// entries that are void, and nothing reads them.
///
/// Threads: the one that calls `enter`.
#pragma once

#include "processor/soft/cpu_windows.h"
#include "processor/soft/tlb_set.h"

#include <array>
#include <vector>

namespace gnomon::processor::soft {

struct PageCode;

class TlbContexts {
public:
    static constexpr unsigned count = 16;

    /// Makes the Cpu too, since its memory shows the contexts.
    [[nodiscard]] static Result<std::unique_ptr<TlbContexts>> create();
    TlbContexts(const TlbContexts&) = delete;
    TlbContexts& operator=(const TlbContexts&) = delete;
    ~TlbContexts() = default;

    [[nodiscard]] Cpu& cpu() const { return m_windows.cpu(); }
    /// What GS is to be based at for translated code to see the current context.
    [[nodiscard]] Hva gs_base() const { return m_windows.base(number(*m_current)); }
    [[nodiscard]] bool contains(Hva gs_base) const { return m_windows.contains(gs_base); }

    /// Makes the context of `root` current, or an empty one if it has none.
    void select(u64 root) {
        if (m_current->root != root) change(root);
    }

    // --- the linear view of the current context ---
    [[nodiscard]] LinearView& view() { return m_current->view; }
    void turn_view_on() {
        m_current->view.turn_on();
        cpu().view_on = true;
        view_moved();
    }
    /// To be called when deltas may have changed: translated code must not count on where its data
    /// were.
    void view_moved() {
        if (m_current->view.take_moved()) state(TlbSet::user).forget_fetches();
    }
    void turn_view_off() {
        m_current->view.turn_off();
        cpu().view_on = false;
        view_moved();
    }
    /// Whether an access by way of the view may have met host address `address`.
    /// Async-signal-safe.
    [[nodiscard]] bool view_reaches(u64 address) const {
        return m_view_space != nullptr &&
               (m_current->view.reaches(address) || m_view_space->in_void(address) ||
                m_windows.behind_deltas(number(*m_current), address));
    }
    [[nodiscard]] const LinearView& view(unsigned n) const { return m_contexts[n].view; }
    /// How the address space has used its time lately, for the decision whether it gets a view.
    struct Use {
        unsigned ticks = 0;    ///< interrupts of its user code that found it busy
        unsigned faults = 0;   ///< page faults of its user code since the last of them
        unsigned misses = 0;   ///< of its view, likewise
        unsigned patience = 1; ///< ticks until it gets a view
    };
    [[nodiscard]] Use& use() { return m_current->use; }

    // --- filling what is current ---
    void fill(TlbSet set, Gva gva, Hva host, bool writable) {
        state(set).fill(gva, host, writable);
    }
    void fill_fetch(TlbSet set, Gva gva, const u32* entries) {
        state(set).fill_fetch(gva, entries);
    }
    /// After a miss of kernel code: what another address space that has the same kernel knows of
    /// the code around `gva`, so that a new one need not find each of its pages.
    void borrow_fetches(TlbSet set, Gva gva);
    /// Whether that could find anything, as far as a glance can tell.
    [[nodiscard]] bool may_borrow_fetches(TlbSet set, Gva gva) {
        return set != TlbSet::monitor && gva.value() >> 63 != 0 &&
               !state(set).may_have_fetches_near(gva);
    }
    [[nodiscard]] u32 fetch_mode(TlbSet set) { return state(set).fetch_mode(); }
    void set_fetch_mode(TlbSet set, u32 mode) {
        if (state(set).set_fetch_mode(mode)) ++cpu().statistics.fetch_set_flushes;
    }

    // --- forgetting ---
    /// Everything, under every root.
    void forget_all();
    /// The page at `gva` under every root, and the monitor's.
    void forget_page(Gva gva);
    /// `pages` pages from that at `first` on under `root`, or everything there if they are many.
    void forget_pages(Gva first, u64 pages, u64 root);
    /// Everything under `root`.
    void forget_root(u64 root);
    /// Every fetch entry under every root, and the monitor's.
    void forget_fetches();
    /// Every right to write to the frame whose host page this is.
    void revoke_writes(Hva host_page);

    // --- for whoever looks at everything ---
    [[nodiscard]] bool in_use(unsigned n) const { return m_contexts[n].root != no_root; }
    [[nodiscard]] u64 root(unsigned n) const { return m_contexts[n].root; }
    /// A set of context `n`, which is brought up to date first.
    [[nodiscard]] const TlbSetState& set(unsigned n, TlbSet set);
    [[nodiscard]] const TlbSetState& monitor_set() const { return m_monitor; }
    /// What the base slot of `page` holds in context `n`, and what the data slot of a page that is
    /// not monitor mode's.
    [[nodiscard]] u64 base_of(unsigned n, const PageCode& page) const;
    [[nodiscard]] u64 data_base_of(unsigned n, const PageCode& page) const;

private:
    static constexpr u64 no_root = ~u64{0}; ///< no byte offset in an arena

    struct Context {
        u64 root = no_root;
        u64 generation = 0; ///< older than m_generation: everything in it is void
        u64 seen = 0;       ///< orders that have been carried out; not kept for the current context
        u64 last_used = 0;
        std::array<TlbSetState, keyed_set_count> sets;
        LinearView view;
        Use use{};
    };
    /// What contexts that are not current have still to forget.
    struct Order {
        enum class Kind : u8 { page, writes, fetches };
        Kind kind = Kind::page;
        u64 address = 0; ///< of the first page, or of the host page
        u64 pages = 1;
        u64 root = no_root; ///< the only one meant; no_root: all
    };
    static constexpr unsigned order_room = 1024;
    /// More pages than these are forgotten with their root: by then what is found anew costs less.
    static constexpr u64 many_pages = 2048;

    TlbContexts(CpuWindows windows, std::unique_ptr<ViewSpace> space);
    [[nodiscard]] unsigned number(const Context& c) const {
        return static_cast<unsigned>(&c - m_contexts.data());
    }
    [[nodiscard]] TlbSetState& state(TlbSet set) {
        return set == TlbSet::monitor ? m_monitor : m_current->sets[static_cast<unsigned>(set)];
    }
    void change(u64 root);
    void empty(Context& context);
    void bring_up_to_date(Context& context);
    void order(Order::Kind kind, u64 address, u64 pages = 1, u64 root = no_root) {
        m_orders[m_order_count++ % order_room] = {kind, address, pages, root};
    }
    static void forget_pages(Context& context, Gva first, u64 pages);

    CpuWindows m_windows;
    std::unique_ptr<ViewSpace> m_view_space;
    TlbSetState m_monitor;
    std::vector<Context> m_contexts;
    Context* m_current;
    u64 m_uses = 0;
    std::array<Order, order_room> m_orders;
    u64 m_order_count = 0; ///< ever given; the last order_room of them are kept
    u64 m_generation = 0;
};

/// As the member function: for code that must not touch vector registers, by call_outside.
void borrow_fetches(Cpu& cpu, TlbSet set, Gva gva);

} // namespace gnomon::processor::soft
