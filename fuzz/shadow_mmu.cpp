// SPDX-License-Identifier: Apache-2.0
/// @file Shadow paging under tables that hold anything, edited by a guest that uses them: after
/// each coherency point the strict walker may find nothing, and no access may see what the
/// architecture does not allow. tests/shadow has the same with long histories; here the input makes
/// them.
#include "fuzz/support/input.h"
#include "tests/shadow/model_processor.h"

using namespace gnomon;
using namespace gnomon::fuzz;
using namespace gnomon::monitor;
using namespace gnomon::monitor::test;

namespace {

// Pages 0 to 31 of the pool may be tables; page 0 and 1 are roots.
constexpr u64 pool = 0x10000, pool_pages = 32;
constexpr u64 window = 0xffff888000000000; // all RAM
constexpr u64 self = 0xffff800000000000;   // root slot 256: itself
constexpr u64 page(u64 index) { return pool + index * page_size; }

class History {
public:
    explicit History(Input& input) : m_input(input), m_bench(options(input)) {
        for (u64 root = 0; root < 2; ++root) {
            m_bench.poke(page(root), 273, page(3) | g_page);
            m_bench.poke(page(root), 256, page(root) | g_page);
            m_bench.poke(page(root), 0, page(8 + 4 * root) | g_table);
            m_bench.poke(page(8 + 4 * root), 0, page(9 + 4 * root) | g_table);
            m_bench.poke(page(9 + 4 * root), 2, page(10 + 4 * root) | g_table);
        }
        m_bench.poke(page(3), 0, page(4) | g_page);
        for (u64 half = 0; half < 2; ++half) {
            m_bench.poke(page(4), half, page(5 + half) | g_page);
            for (u64 i = 0; i < 512; ++i)
                m_bench.poke(page(5 + half), i, (half * 512 + i) * page_size | g_page);
        }
        for (u64 i = input.take<u8>() % 32; i > 0; --i) {
            const u64 table = take_table(), slot = take_slot();
            m_bench.poke(table, slot, take_entry());
        }
        load_root(page(0));
    }

    void run() {
        while (!m_input.empty())
            step();
        m_bench.mmu->flush();
        check();
    }

private:
    static ShadowOptions options(Input& input) {
        const u8 shape = input.take<u8>();
        ShadowOptions o;
        o.arena_bytes = (shape & 1) != 0 ? u64{1} << 20 : u64{4} << 20;
        o.write_buffer_records = 128;
        o.prefetch = (shape & 2) != 0 ? 0 : 16;
        o.prefill = (shape & 4) != 0;
        o.tlb_keyed_by_root = (shape & 8) != 0;
        return o;
    }

    u64 take_table() { return page(m_input.take<u8>() % pool_pages); }
    u64 take_slot() {
        const u8 pick = m_input.take<u8>();
        constexpr u64 usual[] = {0, 1, 2, 3, 4, 8, 16, 17, 256, 273};
        return pick < 0xc0 ? usual[pick % std::size(usual)] : m_input.take<u16>() % 512;
    }
    u64 take_entry() {
        const u8 shape = m_input.take<u8>();
        if (shape == 0) return 0;
        if (shape < 8) return m_input.number();
        const u8 flags = m_input.take<u8>();
        u64 entry =
            (shape & 0x80) != 0 ? page(shape % pool_pages) : 0x100000 + page_size * (shape % 64);
        if (shape == 0x7f) entry = 0xfee00000;
        entry |= flags & 0x67;
        if ((flags & 0x18) == 0) entry |= g::present;
        if ((flags & 0x98) == 0x98) entry |= g::page_size, entry &= ~u64{0x1fe000};
        if (flags == 0xf0) entry |= g::execute_disable;
        if (flags == 0xf8) entry |= u64{1} << 45;
        return entry;
    }
    Gva take_address() {
        const u8 shape = m_input.take<u8>();
        switch (shape & 7) {
        case 0: return Gva(window + page(shape >> 3));
        case 1: return Gva(self | u64{256} << 30 | take_slot() << 21 | take_slot() << 12);
        case 2: return Gva(self | take_slot() << 30 | take_slot() << 21 | take_slot() << 12);
        case 3: return Gva(take_slot() << 30 | take_slot() << 21 | take_slot() << 12);
        default: return Gva(0x400000 + (u64{shape} >> 3) * page_size);
        }
    }

    void load_root(u64 cr3) {
        m_bench.cpu.load_cr3(cr3);
        m_quiet = true;
    }

    /// Buffers are drained here.
    void check() {
        const StrictReport report = m_bench.check();
        require(report.ok(), report.ok() ? "" : report.text());
        for (const auto& [key, cached] : m_bench.cpu.tlb()) {
            PagingState context = PagingState::of(m_bench.cpu.state());
            // Under the active root it may be used, whatever that was a root of before.
            if (key.first != m_bench.cpu.block().shadow_root) context.cr3 = cached.cr3;
            const StrictResult r =
                StrictWalker::translate(m_bench.memory, context, Gva(key.second));
            const StrictTranslation& t = r.translation;
            require(!r.fault && t.frame.value() == cached.frame && t.accessed &&
                        (t.writable || !cached.writable) && (t.user || !cached.user) &&
                        (t.executable || !cached.executable) && (t.dirty || !cached.dirty),
                    "a cached translation does not follow from the tables");
            require(cached.traced || cached.write_revoked || !cached.dirty ||
                        !m_bench.mmu->is_traced(Gpa(cached.frame)),
                    "writes to a table through a cached translation are not recorded");
        }
    }

    void store(u64 gpa, std::span<const u8> bytes) {
        const StrictResult at = StrictWalker::translate(
            m_bench.memory, PagingState::of(m_bench.cpu.state()), Gva(window + gpa).page());
        AccessResult result{AccessResult::Kind::fault, Gpa(), 0};
        if (!at.fault && at.translation.frame == Gpa(gpa).page())
            result = m_bench.cpu.write(Gva(window + gpa), bytes, {.write = true, .ac = true});
        require(result.kind != AccessResult::Kind::livelock, "a store makes no progress");
        if (result.kind != AccessResult::Kind::done) { // as a device does it
            require(m_bench.memory.write(Gpa(gpa), std::as_bytes(bytes)), "the pool is RAM");
            m_bench.mmu->note_write(Gpa(gpa), bytes.size());
        }
        m_quiet = false;
    }
    void edit() {
        const u8 shape = m_input.take<u8>();
        const u64 gpa = take_table() + 8 * take_slot();
        std::array<u8, 32> bytes{};
        for (std::size_t i = 0; i < bytes.size(); i += 8) {
            const u64 entry = i == 0 || (shape & 1) != 0 ? take_entry() : 0;
            std::memcpy(bytes.data() + i, &entry, 8);
        }
        if ((shape & 6) != 0) return store(gpa, std::span(bytes).first(8));
        // Any extent and alignment within the page.
        const u64 size = 1 + (shape >> 3), at = gpa + m_input.take<u8>() % 8;
        store(std::min(at, Gpa(gpa).page().value() + page_size - size),
              std::span(bytes).first(size));
    }

    void access() {
        const u8 shape = m_input.take<u8>();
        const Gva gva = take_address();
        StrictAccess a;
        a.user = (shape & 1) != 0;
        a.write = (shape & 2) != 0;
        a.fetch = !a.write && (shape & 4) != 0;
        a.ac = (shape & 8) != 0;
        a.implicit_supervisor = !a.fetch && (shape & 0xf0) == 0;
        const AccessResult r = m_bench.cpu.resolve(gva, a);
        require(r.kind != AccessResult::Kind::livelock, "an access makes no progress");
        const StrictResult fresh =
            StrictWalker::walk(m_bench.memory, PagingState::of(m_bench.cpu.state()), gva, a);
        if (r.kind == AccessResult::Kind::fault) {
            require(fresh.fault && fresh.error_code == r.error_code,
                    "a fault that the architecture does not have");
            return;
        }
        require((r.kind == AccessResult::Kind::mmio) == !m_bench.memory.is_ram(r.gpa),
                "RAM is taken for a device or a device for RAM");
        // As long as nothing was edited since all was flushed, nothing but the tables counts.
        if (m_quiet)
            require(!fresh.fault && fresh.translation.frame == r.gpa.page() &&
                        fresh.translation.accessed && (!a.write || fresh.translation.dirty),
                    "an access goes where the tables do not lead");
    }

    void step() {
        const u8 what = m_input.take<u8>();
        processor::RegisterBlock& state = m_bench.cpu.state();
        switch (what & 15) {
        case 0:
        case 1:
        case 2:
        case 3: edit(); break;
        case 4: // INVLPG
            m_bench.mmu->flush();
            check();
            break;
        case 5: load_root((what & 0x30) != 0 ? page(what >> 6 & 1) : take_table()); break;
        case 6: {
            using namespace processor;
            u64 cr4 = state.cr4, efer = state.efer;
            if ((what & 0x10) != 0) cr4 ^= cr4::smep;
            if ((what & 0x20) != 0) cr4 ^= cr4::smap;
            if ((what & 0x40) != 0) efer ^= efer::nxe;
            m_bench.cpu.set_control((what & 0x80) != 0 ? state.cr0 ^ cr0::wp : state.cr0, cr4,
                                    efer);
            m_quiet = true;
            check();
            break;
        }
        case 7: static_cast<void>(m_bench.mmu->reclaim(what >> 4)); break;
        case 8: { // a record of a write that changed nothing, or that is long past
            processor::WriteBuffer& buffer = m_bench.cpu.block().write_buffer;
            if (buffer.count + 2 > buffer.capacity) break;
            processor::WriteRecord& record = buffer.records[buffer.count++];
            record = {};
            record.gpa = Gpa(take_table() + m_input.take<u16>() % (page_size - 32));
            record.size = 1 + (what >> 4);
            break;
        }
        default: access(); break;
        }
    }

    Input& m_input;
    Bench m_bench;
    bool m_quiet = false; ///< no table was edited since everything was flushed
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    Input input(data, std::min<std::size_t>(size, 2048));
    History(input).run();
    return 0;
}
