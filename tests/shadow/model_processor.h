// SPDX-License-Identifier: Apache-2.0
/// @file A processor reduced to its MMU, for the tests of shadow paging: it walks the shadow
/// tables, caches translations that only TlbControl makes it forget, honours the dirty and traced
/// bits, and records writes.
#pragma once

#include "monitor/shadow/shadow_mmu.h"
#include "monitor/shadow/strict_walker.h"

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <optional>

namespace gnomon::monitor::test {

namespace g = guest_entry;
inline constexpr u64 g_table = g::present | g::writable | g::user;
inline constexpr u64 g_page = g::present | g::writable;

struct AccessResult {
    enum class Kind { done, mmio, fault, livelock };
    Kind kind = Kind::done;
    Gpa gpa;            ///< done, mmio
    u32 error_code = 0; ///< fault
};

/// How the TLB is tagged.
enum class TlbKeying { none, root };

class ModelProcessor final : public TlbControl {
public:
    struct Cached {
        u64 frame = 0, cr3 = 0;
        bool writable = true, user = true, executable = true;
        bool dirty = false, traced = false, mmio = false;
        bool write_revoked = false;
    };
    using Key = std::pair<u64, u64>; ///< root or 0, page

    ModelProcessor(GuestMemory& memory, TlbKeying keying = TlbKeying::none)
        : m_memory(memory), m_keying(keying), m_block(std::make_unique<processor::ControlBlock>()) {
        state().cr0 = processor::cr0::pe | processor::cr0::pg | processor::cr0::wp;
        state().cr4 = processor::cr4::pae;
        state().efer = processor::efer::lme | processor::efer::lma | processor::efer::nxe;
    }

    void connect(ShadowMmu& mmu) {
        m_mmu = &mmu;
        mmu.attach(*m_block);
    }

    processor::ControlBlock& block() { return *m_block; }
    processor::RegisterBlock& state() { return m_block->state; }
    const std::map<Key, Cached>& tlb() const { return m_tlb; }
    u64 exits = 0, buffer_full_exits = 0, all = 0, roots = 0, pages = 0, revoked = 0;
    std::function<void(Gpa)> on_revoke;

    void invalidate_all() override {
        ++all;
        m_tlb.clear();
    }
    void invalidate(Gva gva) override {
        ++pages;
        std::erase_if(m_tlb, [&](const auto& e) { return e.first.second == gva.page().value(); });
    }
    void invalidate(Gva first, u64 count, u64 root) override {
        pages += count;
        require_keyed();
        for (u64 n = 0; n < count; ++n)
            m_tlb.erase(Key{root, first.page().value() + n * page_size});
    }
    void forget_root(u64 root) override {
        ++roots;
        require_keyed();
        std::erase_if(m_tlb, [&](const auto& e) { return e.first.first == root; });
    }
    void invalidate_code(Gpa, u64) override {} // it has none
    void revoke_writes(Gpa gpa) override {
        ++revoked;
        for (auto& [key, cached] : m_tlb)
            if (cached.frame == gpa.page().value()) cached.write_revoked = true;
        if (on_revoke) on_revoke(gpa);
    }

    /// Translates as the processor would for an access, taking exits as needed.
    AccessResult resolve(Gva gva, StrictAccess access, Cached* out = nullptr) {
        const Key key{m_keying == TlbKeying::root ? m_block->shadow_root : 0, gva.page().value()};
        for (int attempt = 0; attempt < 4; ++attempt) {
            auto hit = m_tlb.find(key);
            if (hit == m_tlb.end() || !permits(hit->second, access)) {
                if (const std::optional<Cached> walked = walk_shadow(gva); walked) {
                    if (permits(*walked, access))
                        hit = m_tlb.insert_or_assign(key, *walked).first;
                    else
                        hit = m_tlb.end();
                } else {
                    hit = m_tlb.end();
                }
            }
            if (hit != m_tlb.end()) {
                if (out != nullptr) *out = hit->second;
                return {hit->second.mmio ? AccessResult::Kind::mmio : AccessResult::Kind::done,
                        Gpa(hit->second.frame + gva.page_offset()), 0};
            }
            processor::Exit exit;
            exit.reason = processor::ExitReason::page_fault;
            exit.gva = gva;
            exit.implicit_supervisor = access.implicit_supervisor;
            exit.error_code =
                (access.write ? processor::pf_error::write : 0) |
                (access.user && !access.implicit_supervisor ? processor::pf_error::user : 0) |
                (access.fetch ? processor::pf_error::fetch : 0);
            ++exits;
            set_ac(access.ac);
            const FaultOutcome outcome = m_mmu->handle_page_fault(exit, state());
            if (outcome.kind == FaultOutcome::Kind::inject)
                return {AccessResult::Kind::fault, Gpa(), outcome.error_code};
        }
        return {AccessResult::Kind::livelock, Gpa(), 0};
    }

    /// A store, possibly across two pages; recorded where traced.
    AccessResult write(Gva gva, std::span<const u8> data, StrictAccess access = {}) {
        access.write = true;
        const u64 first_size = std::min<u64>(data.size(), page_size - gva.page_offset());
        for (;;) {
            Cached first, second;
            AccessResult result = resolve(gva, access, &first);
            if (result.kind != AccessResult::Kind::done) return result;
            Gpa second_gpa;
            if (first_size < data.size()) {
                const AccessResult other = resolve(Gva(gva.value() + first_size), access, &second);
                if (other.kind != AccessResult::Kind::done) return other;
                second_gpa = other.gpa;
                // Resolving the second page can have changed the first.
                Cached again;
                if (const AccessResult r = resolve(gva, access, &again);
                    r.kind != AccessResult::Kind::done)
                    return r;
                else
                    result = r;
                first = again;
            }
            processor::WriteBuffer& buffer = m_block->write_buffer;
            if (buffer.count + 2 > buffer.capacity) {
                ++exits, ++buffer_full_exits;
                m_mmu->reconcile(buffer);
                continue;
            }
            store(result.gpa, data.first(first_size), first.traced);
            if (first_size < data.size())
                store(second_gpa, data.subspan(first_size), second.traced);
            return result;
        }
    }
    AccessResult write64(Gva gva, u64 value, StrictAccess access = {}) {
        u8 bytes[8];
        std::memcpy(bytes, &value, 8);
        return write(gva, bytes, access);
    }

    void load_cr3(u64 cr3) {
        state().cr3 = cr3;
        m_mmu->load_root(cr3, PagingRole::of(state()));
    }
    void set_control(u64 cr0, u64 cr4, u64 efer) {
        const u64 old0 = state().cr0, old4 = state().cr4, old_efer = state().efer;
        state().cr0 = cr0, state().cr4 = cr4, state().efer = efer;
        m_mmu->control_registers_changed(state(), old0, old4, old_efer);
    }

    std::optional<Cached> walk_shadow(Gva gva) const {
        u64 table = m_block->shadow_root;
        Cached c;
        c.cr3 = m_block->state.cr3;
        for (unsigned level = 4;; --level) {
            processor::ShadowEntry e;
            std::memcpy(&e, m_block->shadow_arena + table + 8 * processor::shadow_index(gva, level),
                        sizeof e);
            if (!e.has(e.present)) return std::nullopt;
            c.writable &= e.has(e.writable);
            c.user &= e.has(e.user);
            c.executable &= !e.has(e.execute_disable);
            if (level == 1) {
                c.frame = e.address();
                c.dirty = e.has(e.dirty), c.traced = e.has(e.traced), c.mmio = e.has(e.mmio);
                return c;
            }
            table = e.address();
        }
    }

private:
    /// A processor without keys is told nothing by root.
    void require_keyed() const {
        if (m_keying != TlbKeying::root) std::abort();
    }
    void set_ac(bool on) {
        if (on)
            state().rflags |= processor::rflags::ac;
        else
            state().rflags &= ~processor::rflags::ac;
    }
    bool permits(const Cached& c, StrictAccess a) {
        if ((state().cr0 & processor::cr0::pg) == 0) return true;
        if (a.write && (!c.dirty || c.write_revoked)) return false;
        if (a.user && !a.implicit_supervisor)
            return c.user && (!a.write || c.writable) && (!a.fetch || c.executable);
        if (a.fetch) return c.executable && !(c.user && (state().cr4 & processor::cr4::smep) != 0);
        if (c.user && (state().cr4 & processor::cr4::smap) != 0 && (a.implicit_supervisor || !a.ac))
            return false;
        return !a.write || c.writable || (state().cr0 & processor::cr0::wp) == 0;
    }
    void store(Gpa gpa, std::span<const u8> data, bool traced) {
        const Hva to = m_memory.hva(gpa, data.size());
        if (traced) {
            processor::WriteRecord& r =
                m_block->write_buffer.records[m_block->write_buffer.count++];
            r = {};
            r.gpa = gpa;
            r.size = static_cast<u32>(data.size());
            std::memcpy(r.before, to, data.size());
            std::memcpy(r.after, data.data(), data.size());
        }
        std::memcpy(to, data.data(), data.size());
    }

    GuestMemory& m_memory;
    TlbKeying m_keying;
    std::unique_ptr<processor::ControlBlock> m_block;
    ShadowMmu* m_mmu = nullptr;
    std::map<Key, Cached> m_tlb;
};

/// Guest memory, shadow paging, model processor and strict walker, put together.
struct Bench {
    GuestMemory memory;
    ModelProcessor cpu;
    std::unique_ptr<ShadowMmu> mmu;
    StrictWalker strict;

    explicit Bench(const ShadowOptions& options = {}, u64 bytes = u64{4} << 20)
        : memory(std::move(GuestMemory::create(bytes).value())),
          cpu(memory, options.tlb_keyed_by_root ? TlbKeying::root : TlbKeying::none),
          mmu(std::move(ShadowMmu::create(memory, cpu, options).value())),
          strict(memory, mmu->arena(), mmu->arena_size()) {
        cpu.connect(*mmu);
    }

    /// Writes a guest entry as a loader would before the processor runs.
    void poke(u64 table, u64 slot, u64 value) {
        if (!memory.write_object(Gpa(table + 8 * slot), value)) std::abort();
    }
    [[nodiscard]] u64 peek(u64 gpa) const {
        u64 v = 0;
        if (!memory.read_object(Gpa(gpa), v)) std::abort();
        return v;
    }
    [[nodiscard]] StrictReport check() {
        return strict.check(mmu->root(), PagingState::of(cpu.state()), u64{1} << 17);
    }
};

} // namespace gnomon::monitor::test
