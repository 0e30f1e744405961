// SPDX-License-Identifier: Apache-2.0
/// @file Who gets a linear view (linear_view.h), and what it shows: decisions, and the way from the
/// shadow tables into the view.
///
/// A view pays where user code runs long on pages that stay: each page costs some microseconds of
/// the host's kernel once, and each access to a page that is not shown costs a signal. So an
/// address space gets one when it has been found busy, and loses it when it is restless.
///
/// Threads: the one that calls `enter`.
#pragma once

#include "processor/processor.h"
#include "processor/soft/code_cache.h"
#include "processor/soft/tlb_contexts.h"

namespace gnomon::processor::soft {

class ViewKeeper {
public:
    /// All but `views` must outlive it.
    ViewKeeper(TlbContexts& contexts, CodeCache& cache, LinearViews views)
        : m_contexts(contexts), m_cache(cache), m_views(views) {}

    /// The current context has been selected, for an entry.
    void selected();
    /// User code was interrupted at some moment of its time.
    void user_interrupted();
    /// A page fault is delivered to user code, at state.rip.
    void user_faulted();
    /// An access by way of the view met nothing, or no right, at Cpu::fault_address.
    /// @return whether it may now be tried again; else it wants the slow way.
    [[nodiscard]] bool missed();
    /// Before the guest goes on: shows what user code has reached in the slow way.
    /// @return whether the instruction that comes next is to go that way: it is likely to be the
    /// one that faulted, for whose page the view would be asked in vain.
    [[nodiscard]] bool prepare();

private:
    struct Found {
        Hva host = nullptr; ///< nullptr: not for the view
        bool writable = false;
    };
    [[nodiscard]] Found find(Gva page) const;
    bool show(Gva gva, bool write);
    /// @return whether page `wanted` of them is shown now.
    bool show_runs(Gva first, std::span<const Found> found, unsigned wanted);
    bool open_regions();
    void show_all();
    void take();
    template <class F>
    void for_each_level_1_table(F f) const;

    [[nodiscard]] Cpu& cpu() const { return m_contexts.cpu(); }

    TlbContexts& m_contexts;
    CodeCache& m_cache;
    LinearViews m_views;
};

} // namespace gnomon::processor::soft
