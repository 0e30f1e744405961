// SPDX-License-Identifier: Apache-2.0
/// @file Random page-table histories. A guest edits its tables through its own mappings, at every
/// level and with every shape of store, while the model processor uses them. After each coherency
/// point the strict walker must find nothing, and no access may see what the architecture does not
/// allow: a translation that held at some time since the last flush of its address, or the fault of
/// a fresh walk.
#include "model_processor.h"

#include <cstdlib>
#include <gtest/gtest.h>
#include <random>
#include <set>

namespace gnomon::monitor::test {
namespace {

using processor::cr0::wp;
using processor::cr4::smap;
using processor::cr4::smep;
using processor::efer::nxe;

class History {
public:
    History(u64 seed, const ShadowOptions& options) : m_random(seed), m_bench(options) {
        build();
        collect_addresses();
        cpu().load_cr3(root(0));
        forget_all();
    }

    /// Makes `steps` steps; stops at the first failure.
    void run(unsigned steps) {
        for (m_step = 0; m_step < steps && !testing::Test::HasFailure(); ++m_step)
            step();
        mmu().flush();
        coherency_point();
    }
    ShadowStatistics statistics() { return mmu().statistics(); }
    u64 done = 0, faults = 0, edits = 0, fallback_edits = 0, checks = 0, leaves = 0;

private:
    // Frames: tables at 0x10000-0x2f000, all else data. Any page may become a table by a random
    // edit.
    static constexpr u64 pool = 0x10000, pool_pages = 32, memory_bytes = u64{4} << 20;
    static constexpr u64 window = 0xffff888000000000; // all RAM: 4 KiB pages
    static constexpr u64 window_large = window + (u64{1} << 24),
                         window_huge = window + (u64{1} << 30);
    static constexpr u64 self_slot = 256, self = 0xffff800000000000;
    static constexpr u64 user_base = 0x400000;

    struct Known {
        bool fault = false;
        u64 frame = 0;
        bool writable = false, user = false, executable = false;
        friend auto operator<=>(const Known&, const Known&) = default;
    };

    ModelProcessor& cpu() { return m_bench.cpu; }
    ShadowMmu& mmu() { return *m_bench.mmu; }
    u64 random(u64 below) { return std::uniform_int_distribution<u64>(0, below - 1)(m_random); }
    bool chance(u64 one_in) { return random(one_in) == 0; }
    static u64 page(u64 index) { return pool + index * page_size; }
    static u64 root(u64 index) { return page(index); }

    /// The tables that every history starts from, and returns to when too little is left of them.
    void build() {
        std::vector<std::byte> zero(pool_pages * page_size);
        if (!m_bench.memory.write(Gpa(pool), zero)) std::abort();
        const auto poke = [&](u64 table, u64 slot, u64 value) {
            m_bench.poke(page(table), slot, value);
        };
        for (u64 r = 0; r < 3; ++r) {
            poke(r, 273, page(3) | g::present | g::writable);
            poke(r, self_slot, page(r) | g::present | g::writable);
            poke(r, 0, page(8 + 4 * r) | g_table);
            poke(r, 1, page(8 + 4 * r) | g_table); // the same at a second address
            poke(8 + 4 * r, 0, page(9 + 4 * r) | g_table);
            for (u64 t = 0; t < 2; ++t) {
                poke(9 + 4 * r, 2 + t, page(10 + 4 * r + t) | g_table);
                for (u64 i = 0; i < 24; ++i)
                    poke(10 + 4 * r + t, i, (0x100000 + page_size * random(64)) | g_page | g::user);
            }
            poke(9 + 4 * r, 4, u64{0x200000} | g_page | g::user | g::page_size);
            poke(9 + 4 * r, 5, page(10 + 4 * r) | g_table); // shared level-1 table
        }
        poke(3, 0, page(4) | g::present | g::writable);
        poke(3, 1, g_page | g::page_size | g::global);
        poke(4, 0, page(5) | g::present | g::writable);
        poke(4, 1, page(6) | g::present | g::writable);
        poke(4, 8, g_page | g::page_size);
        poke(4, 9, u64{0x200000} | g_page | g::page_size | g::dirty);
        for (u64 i = 0; i < 1024; ++i)
            poke(5 + i / 512, i % 512, i * page_size | g_page | g::global);
        mmu().note_write(Gpa(pool), pool_pages * page_size);
        note_change();
    }

    void collect_addresses() {
        const auto add = [this](u64 address) { m_known[address]; };
        for (u64 i = 0; i < pool_pages; ++i) {
            add(window + page(i));
            if (i % 2 == 0) add(window_large + page(i));
            if (i % 3 == 0) add(window_huge + page(i));
        }
        for (u64 i = 0; i < 8; ++i)
            add(window + 0x100000 + i * page_size);
        for (u64 i = 0; i < 24; i += 3) {
            add(user_base + i * page_size);
            add(user_base + 0x200000 + i * page_size);
            add(user_base + 0x400000 + i * page_size);
            add(user_base + 0x600000 + i * page_size);
            add((u64{1} << 39) + user_base + i * page_size);
        }
        add(window_huge + 0x8000000); // beyond RAM
        for (const u64 i : {u64{0}, u64{2}, u64{3}, self_slot, u64{273}}) {
            add(self | i << 12);
            add(self | self_slot << 30 | i << 12);
            add(self | self_slot << 30 | self_slot << 21 | i << 12);
            add(self | self_slot << 30 | self_slot << 21 | self_slot << 12 | 0);
            add(self | u64{273} << 30 | i << 12);
        }
        for (const auto& [address, known] : m_known)
            m_addresses.push_back(address);
    }

    Known now(u64 address) {
        const StrictResult r =
            StrictWalker::translate(m_bench.memory, PagingState::of(cpu().state()), Gva(address));
        if (r.fault) return {true, 0, false, false, false};
        const StrictTranslation& t = r.translation;
        return {false, t.frame.value(), t.writable, t.user, t.executable};
    }
    void note_change() {
        m_quiet = false;
        for (auto& [address, known] : m_known)
            known.insert(now(address));
    }
    void forget(u64 address) { m_known[address] = {now(address)}; }
    void forget_all() {
        for (auto& [address, known] : m_known)
            known = {now(address)};
        m_quiet = true;
    }

    /// Buffers are drained here: shadow and cached translations must follow from the guest's tables
    /// as they are.
    void coherency_point() {
        const PagingState state = PagingState::of(cpu().state());
        const StrictReport report = m_bench.check();
        ++checks;
        leaves += report.leaves;
        EXPECT_TRUE(report.ok()) << "step " << m_step << ": " << report.text();
        for (const auto& [key, cached] : cpu().tlb()) {
            PagingState context = state;
            // Under the active root it may be used, whatever that was a root of before.
            if (key.first != cpu().block().shadow_root) context.cr3 = cached.cr3;
            const StrictResult r =
                StrictWalker::translate(m_bench.memory, context, Gva(key.second));
            const StrictTranslation& t = r.translation;
            const bool follows = !r.fault && t.frame.value() == cached.frame && t.accessed &&
                                 (t.writable || !cached.writable) && (t.user || !cached.user) &&
                                 (t.executable || !cached.executable) && (t.dirty || !cached.dirty);
            EXPECT_TRUE(follows) << "step " << m_step << ": stale cached translation of "
                                 << std::hex << key.second;
            const bool logged = cached.traced || cached.write_revoked || !cached.dirty;
            EXPECT_TRUE(logged || !mmu().is_traced(Gpa(cached.frame)))
                << "step " << m_step << ": unrecorded writes through " << std::hex << key.second;
        }
    }

    u64 random_frame() {
        switch (random(12)) {
        case 0: return u64{0xfee00000};
        case 1: return (u64{1} << 39) + page_size * random(4);
        case 2: return page_size * random(memory_bytes / page_size);
        case 3:
        case 4:
        case 5: return 0x100000 + page_size * random(64);
        default: return page(random(pool_pages));
        }
    }
    u64 random_entry(u64 old) {
        switch (random(16)) {
        case 0: return 0;
        case 1: return old & ~g::present;
        case 2: return old | g::present;
        case 3: return old ^ g::writable;
        case 4: return old ^ g::user;
        case 5: return old & ~g::accessed;
        case 6: return old & ~g::dirty;
        case 7: return old ^ g::execute_disable;
        case 8: return old ^ g::page_size;
        case 9: return old ^ g::global;
        case 10: return old | u64{1} << (40 + random(12));
        case 11: return old ^ u64 { 1 } << (52 + random(11));
        default: break;
        }
        u64 value = random_frame() | (random(512) & ~u64{g::page_size});
        if (!chance(8)) value |= g::present;
        if (chance(2)) value |= g::writable | g::user;
        if (chance(12)) value |= g::page_size;
        if (chance(12)) value |= g::execute_disable;
        if (chance(6)) value = (random(2) << 21) | g_page | g::user | g::page_size;
        return value;
    }
    u64 random_slot() {
        static constexpr u64 slots[] = {0,  1,  2,  3,   4,   8, 9,  16, 17, 18,
                                        19, 24, 32, 256, 273, 6, 12, 15, 21};
        return chance(8) ? random(512) : slots[random(std::size(slots))];
    }

    /// A store by the guest; when its own mappings do not allow it, by a device.
    void store(u64 gpa, std::span<const u8> bytes) {
        ++edits;
        const u64 alias[] = {window, window_large, window_huge};
        const Gva gva(alias[random(3)] + gpa);
        // Nothing but a mapping to the intended page will do: others would corrupt at random.
        const Known known = now(gva.page().value());
        AccessResult r{AccessResult::Kind::fault, Gpa(), 0};
        if (!known.fault && known.frame == Gpa(gpa).page().value())
            r = cpu().write(gva, bytes, {.write = true, .ac = true});
        ASSERT_NE(r.kind, AccessResult::Kind::livelock) << "step " << m_step;
        if (r.kind != AccessResult::Kind::done) {
            ++fallback_edits;
            if (!m_bench.memory.write(Gpa(gpa), std::as_bytes(bytes))) std::abort();
            mmu().note_write(Gpa(gpa), bytes.size());
        }
        note_change();
    }
    void edit_entry() {
        const u64 gpa = page(random(pool_pages)) + 8 * random_slot();
        const u64 value = random_entry(m_bench.peek(gpa));
        u8 bytes[8];
        std::memcpy(bytes, &value, 8);
        if (chance(10)) { // two halves
            store(gpa + 4, std::span(bytes).subspan(4));
            store(gpa, std::span(bytes).first(4));
        } else if (chance(10)) {
            const u64 at = random(8);
            store(gpa + at, std::span(bytes).subspan(at, 1));
        } else {
            store(gpa, bytes);
        }
    }
    /// What a well-behaved kernel does: map, unmap, protect, age a user page.
    void edit_sanely() {
        const u64 table = page(10 + 4 * random(3) + random(2));
        const u64 gpa = table + 8 * (3 * random(8));
        const u64 old = m_bench.peek(gpa);
        u64 value = 0;
        switch (random(6)) {
        case 0: break;
        case 1: value = old ^ g::writable; break;
        case 2: value = old & ~g::dirty; break;
        case 3: value = old & ~g::accessed; break;
        default:
            value = (0x100000 + page_size * random(64)) | g_page | g::user | g::accessed | g::dirty;
            break;
        }
        u8 bytes[8];
        std::memcpy(bytes, &value, 8);
        store(gpa, bytes);
    }
    void edit_block() {
        u8 bytes[32];
        for (unsigned i = 0; i < 4; ++i) {
            const u64 value = random_entry(g_table | page(random(pool_pages)));
            std::memcpy(bytes + 8 * i, &value, 8);
        }
        const u64 size = 1 + random(32);
        u64 at = page(random(pool_pages)) + 8 * random_slot() + (chance(3) ? random(8) : 0);
        at = std::min(at, page(pool_pages) - size);
        if (at % page_size + size > page_size) at = at / page_size * page_size + page_size - size;
        store(at, std::span(bytes).first(size));
    }
    void wipe_page() {
        const u8 zero[32] = {};
        const u64 victim = page(8 + random(pool_pages - 8));
        for (u64 at = 0; at < page_size; at += 32) {
            if (!m_bench.memory.write(Gpa(victim + at), std::as_bytes(std::span(zero))))
                std::abort();
        }
        mmu().note_write(Gpa(victim), page_size);
        note_change();
    }

    static bool permitted(const Known& k, StrictAccess a, const processor::RegisterBlock& s) {
        if (k.fault) return false;
        if (a.user && !a.implicit_supervisor)
            return k.user && (!a.write || k.writable) && (!a.fetch || k.executable);
        if (a.fetch) return k.executable && !(k.user && (s.cr4 & smep) != 0);
        if (k.user && (s.cr4 & smap) != 0 && (a.implicit_supervisor || !a.ac)) return false;
        return !a.write || k.writable || (s.cr0 & wp) == 0;
    }

    void access() {
        const u64 address = m_addresses[random(m_addresses.size())];
        StrictAccess a;
        a.user = chance(2);
        a.write = chance(2);
        a.fetch = !a.write && chance(4);
        a.ac = chance(2);
        a.implicit_supervisor = !a.fetch && chance(16);
        const u64 exits = cpu().exits;
        const AccessResult r = cpu().resolve(Gva(address), a);
        ASSERT_NE(r.kind, AccessResult::Kind::livelock)
            << "step " << m_step << std::hex << " at " << address;
        const StrictResult fresh =
            StrictWalker::walk(m_bench.memory, PagingState::of(cpu().state()), Gva(address), a);
        if (r.kind == AccessResult::Kind::fault) {
            ++faults;
            ASSERT_TRUE(fresh.fault) << "step " << m_step << std::hex << " at " << address;
            ASSERT_EQ(fresh.error_code, r.error_code)
                << "step " << m_step << std::hex << " at " << address;
        } else {
            ++done;
            bool allowed = false;
            for (const Known& k : m_known[address])
                allowed = allowed || (permitted(k, a, cpu().state()) && k.frame == r.gpa.value());
            ASSERT_TRUE(allowed) << "step " << m_step << std::hex << " at " << address << " got "
                                 << r.gpa.value();
            ASSERT_EQ(r.kind == AccessResult::Kind::mmio, !m_bench.memory.is_ram(r.gpa));
            if (m_quiet) {
                ASSERT_FALSE(fresh.fault);
                ASSERT_TRUE(fresh.translation.accessed)
                    << "step " << m_step << std::hex << " at " << address;
                if (a.write) {
                    ASSERT_TRUE(fresh.translation.dirty)
                        << "step " << m_step << std::hex << " at " << address;
                }
            }
            // The processor's data write, which may well hit a table.
            if (a.write && r.kind == AccessResult::Kind::done && chance(64)) {
                cpu().write64(Gva(address + 8 * random_slot()), random_entry(0), a);
                note_change();
            }
        }
        // A page fault reconciles too.
        if (cpu().exits != exits && cpu().block().write_buffer.count == 0 && chance(16))
            coherency_point();
    }

    void step() {
        const u64 choice = random(1000);
        auto& s = cpu().state();
        if (choice < 500) {
            access();
        } else if (choice < 600) {
            edit_entry();
        } else if (choice < 760) {
            edit_sanely();
        } else if (choice < 780) {
            edit_block();
        } else if (choice < 920) { // INVLPG
            mmu().flush();
            forget(m_addresses[random(m_addresses.size())]);
            if (chance(2)) coherency_point();
        } else if (choice < 970) {
            u64 cr3 = chance(2) ? s.cr3 : root(random(3));
            if (chance(20)) cr3 = page(random(pool_pages));
            if (chance(50)) cr3 = random_frame();
            cpu().load_cr3(cr3);
            forget_all();
            if (chance(2)) coherency_point();
        } else if (choice < 980) {
            u64 cr0 = s.cr0, cr4 = s.cr4, efer = s.efer;
            if (chance(2)) cr0 ^= wp;
            if (chance(2)) cr4 ^= smep;
            if (chance(2)) cr4 ^= smap;
            if (chance(4)) efer ^= nxe;
            cpu().set_control(cr0, cr4, efer);
            forget_all();
            coherency_point();
        } else if (choice < 985) {
            mmu().reclaim(static_cast<u32>(1 + random(8)));
            coherency_point_if_drained();
        } else if (choice < 992) {
            wipe_page();
        } else if (choice < 996) {
            build();
        } else if (s.cr3 != root(0)) {
            cpu().load_cr3(root(0));
            forget_all();
        }
    }
    void coherency_point_if_drained() {
        if (cpu().block().write_buffer.count == 0) coherency_point();
    }

    std::mt19937_64 m_random;
    Bench m_bench;
    std::map<u64, std::set<Known>> m_known; ///< by page: translations since its last flush
    std::vector<u64> m_addresses;
    bool m_quiet = false; ///< no table was edited since everything was flushed
    unsigned m_step = 0;
};

struct Variant {
    const char* name;
    ShadowOptions options;
};
void PrintTo(const Variant& v, std::ostream* out) { *out << v.name; }

class ShadowProperty : public testing::TestWithParam<Variant> {};

/// GNOMON_SEED=n runs that history alone, with GNOMON_SHOW=1 printing its counts; GNOMON_STEPS
/// changes the length.
u64 from_environment(const char* name, u64 otherwise) {
    const char* value = std::getenv(name);
    return value != nullptr ? std::strtoull(value, nullptr, 0) : otherwise;
}

TEST_P(ShadowProperty, HistoriesStayCoherent) {
    const u64 only = from_environment("GNOMON_SEED", 0);
    const u64 first = only != 0 ? only : 1, last = only != 0 ? only : 4;
    u64 done = 0, faults = 0;
    for (u64 seed = first; seed <= last; ++seed) {
        SCOPED_TRACE(fmt::format("reproduce with GNOMON_SEED={}", seed));
        History history(seed, GetParam().options);
        history.run(static_cast<unsigned>(from_environment("GNOMON_STEPS", 2500)));
        if (HasFailure()) return;
        done += history.done;
        faults += history.faults;
        const ShadowStatistics s = history.statistics();
        // The history must have exercised what it is about.
        EXPECT_GT(s.records, 100u);
        EXPECT_GT(s.entries_changed, 50u);
        EXPECT_GT(s.tables_retired + s.tables_reclaimed, 5u);
        EXPECT_LT(history.fallback_edits, history.edits * 3 / 4);
        if (only != 0 && std::getenv("GNOMON_SHOW") != nullptr)
            fmt::print("done {} faults {} edits {} fallback {} checks {} leaves {} records {} "
                       "reread {} changed {} retired {} reclaimed {} created {} inv_all {} "
                       "inv_page {} revoke {} prefilled {}\n",
                       history.done, history.faults, history.edits, history.fallback_edits,
                       history.checks, history.leaves, s.records, s.entries_reread,
                       s.entries_changed, s.tables_retired, s.tables_reclaimed, s.tables_created,
                       s.invalidations_all, s.invalidations_page, s.write_revocations, s.prefilled);
    }
    if (only == 0) {
        EXPECT_GT(done, 1000u);
        EXPECT_GT(faults, 500u);
    }
}

constexpr u64 small_arena = 40 * page_size;
INSTANTIATE_TEST_SUITE_P(
    Variants, ShadowProperty,
    testing::Values(
        Variant{"plain", {.arena_bytes = u64{4} << 20, .prefetch = 0, .prefill = false}},
        Variant{"prefetching", {.arena_bytes = u64{4} << 20}},
        Variant{"small_arena",
                {.arena_bytes = small_arena, .write_buffer_records = 128, .prefetch = 4}},
        Variant{"keyed_tlb",
                {.arena_bytes = u64{1} << 20, .prefetch = 8, .tlb_keyed_by_root = true}},
        Variant{"keyed_tlb_small_arena",
                {.arena_bytes = small_arena, .prefetch = 4, .tlb_keyed_by_root = true}}),
    [](const auto& tested) { return std::string(tested.param.name); });

} // namespace
} // namespace gnomon::monitor::test
