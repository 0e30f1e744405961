// SPDX-License-Identifier: Apache-2.0
/// @file The oracle for cached translations: what contexts hold, compared with the shadow tables
/// and the code cache.
#include "processor/soft/code_cache.h"
#include "processor/soft/mmu.h"
#include "processor/soft/soft_processor.h"

namespace gnomon::processor::soft {

namespace {

class TranslationCheck {
public:
    TranslationCheck(const Cpu& cpu) : m_cpu(cpu) {}

    /// What an entry of a set under `root` allows and the tables do not, or "".
    [[nodiscard]] std::string check(const TlbSetState& state, u64 root, TlbSet set) const {
        const Tlb& t = state.tlb();
        for (unsigned i = 0; i < tlb_size; ++i) {
            const char* wrong = nullptr;
            u64 tag = 0;
            if (t.read_tag[i] != tlb_no_tag(i) && !may_read(t, i, root, set))
                wrong = "read", tag = t.read_tag[i];
            else if (t.write_tag[i] != tlb_no_tag(i) && !may_write(t, i, root, set))
                wrong = "write", tag = t.write_tag[i];
            else if (t.fetch_tag[i] != tlb_no_tag(i) && !may_fetch(state, i, root, set))
                wrong = "fetch", tag = t.fetch_tag[i];
            if (wrong != nullptr)
                return fmt::format("root {:#x}, set {}: a cached right to {} at {}", root,
                                   static_cast<unsigned>(set), wrong, page_of(tag));
        }
        return {};
    }

    /// Likewise what a linear view shows.
    [[nodiscard]] std::string check(const LinearView& view, u64 root) const {
        for (const auto& [address, page] : view.pages()) {
            const Walk found = walk(m_cpu, root, Gva(address), Reach::read, TlbSet::user);
            const bool readable = is_page(found, reinterpret_cast<u64>(page.host));
            const bool writable =
                found.writable && !found.traced && !m_cpu.code_cache->has_code(found.frame);
            if (!readable || (page.writable && !writable))
                return fmt::format("root {:#x}: the linear view lets {} {}", root,
                                   readable ? "write" : "read", Gva(address));
        }
        if (!view.guesses_hold())
            return fmt::format("root {:#x}: a guess is of no region of the linear view", root);
        return {};
    }

    /// Likewise where code is believed to run: each base slot follows from a fetch entry.
    [[nodiscard]] std::string check_bases(TlbContexts& contexts, unsigned n) const {
        std::string wrong;
        m_cpu.code_cache->for_each_page([&](const PageCode& page) {
            if (page.base_slot == 0) return;
            const u64 base = contexts.base_of(n, page);
            if (base == no_base) return;
            const TlbSet set = page.mode.set();
            const Tlb& t =
                (set == TlbSet::monitor ? contexts.monitor_set() : contexts.set(n, set)).tlb();
            const unsigned i = tlb_index(Gva(base));
            if (t.fetch_tag[i] != tlb_tag(Gva(base)) ||
                t.fetch_code[i] != fetch_code(Gva(base), page.entries))
                wrong =
                    fmt::format("context {}, set {}: code of {} runs at {} without a fetch entry",
                                n, static_cast<unsigned>(set), page.frame, Gva(base));
            if (set == TlbSet::user &&
                contexts.data_base_of(n, page) != base + contexts.view(n).delta(Gva(base)))
                wrong = fmt::format(
                    "context {}: code at {} looks for data in another place than the view's", n,
                    Gva(base));
        });
        return wrong;
    }

    /// Whether all that the jump cache of each set names is that set's.
    [[nodiscard]] std::string check_jump_caches(const Thunks& thunks) const {
        for (unsigned set = 0; set < tlb_set_count; ++set)
            for (const u32 way : m_cpu.jump_cache[set]) {
                if (way == thunks.find[set] || way == thunks.entry_miss) continue;
                const Block* block = m_cpu.code_cache->containing(way);
                if (block == nullptr || block->page->mode.set() != static_cast<TlbSet>(set))
                    return fmt::format("set {}: the jump cache has {:#x}", set, way);
            }
        return {};
    }

private:
    static Gva page_of(u64 tag) { return Gva(~tag + 1); }
    [[nodiscard]] Walk find(u64 tag, u64 root, Reach reach, TlbSet set) const {
        return walk(m_cpu, root, page_of(tag), reach, set);
    }
    [[nodiscard]] static bool is_page(const Walk& found, u64 host_page) {
        return found.kind == Walk::Kind::ram && reinterpret_cast<u64>(found.host) == host_page;
    }
    [[nodiscard]] bool may_read(const Tlb& t, unsigned i, u64 root, TlbSet set) const {
        return is_page(find(t.read_tag[i], root, Reach::read, set), t.host_page[i]);
    }
    [[nodiscard]] bool may_write(const Tlb& t, unsigned i, u64 root, TlbSet set) const {
        const Walk found = find(t.write_tag[i], root, Reach::write, set);
        return is_page(found, t.host_page[i]) && found.writable && !found.traced &&
               !m_cpu.code_cache->has_code(found.frame);
    }
    [[nodiscard]] bool may_fetch(const TlbSetState& state, unsigned i, u64 root, TlbSet set) const {
        const Walk found = find(state.tlb().fetch_tag[i], root, Reach::execute, set);
        if (found.kind != Walk::Kind::ram) return false;
        for (const u32 hooked : {u32{0}, Mode::hooked}) {
            const Mode mode{state.fetch_mode() | hooked};
            const PageCode* page = m_cpu.code_cache->find_page(found.frame, mode);
            if (page != nullptr && fetch_code(page_of(state.tlb().fetch_tag[i]), page->entries) ==
                                       state.tlb().fetch_code[i])
                return true;
        }
        return false;
    }

    const Cpu& m_cpu;
};

} // namespace

std::string SoftProcessor::check_translations() {
    const TranslationCheck check(*m_cpu);
    if (m_cpu->cb.shadow_arena == nullptr) return {};
    for (unsigned n = 0; n < TlbContexts::count; ++n) {
        if (!m_contexts->in_use(n)) continue;
        // The sets are brought up to date first, and with them the view.
        for (unsigned s = 0; s < keyed_set_count; ++s) {
            const auto set = static_cast<TlbSet>(s);
            if (auto wrong = check.check(m_contexts->set(n, set), m_contexts->root(n), set);
                !wrong.empty())
                return wrong;
        }
        if (auto wrong = check.check(m_contexts->view(n), m_contexts->root(n)); !wrong.empty())
            return wrong;
        if (auto wrong = check.check_bases(*m_contexts, n); !wrong.empty()) return wrong;
    }
    if (auto wrong = check.check_jump_caches(m_thunks); !wrong.empty()) return wrong;
    return check.check(m_contexts->monitor_set(), m_cpu->cb.monitor_root, TlbSet::monitor);
}

} // namespace gnomon::processor::soft
