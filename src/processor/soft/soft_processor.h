// SPDX-License-Identifier: Apache-2.0
/// @file The software processor: the contract of processor.h, by re-emission.
#pragma once

#include "processor/processor.h"
#include "processor/soft/tlb_contexts.h"
#include "processor/soft/translator.h"
#include "processor/soft/view_keeper.h"

#include <atomic>
#include <memory>
#include <optional>
#include <span>

namespace gnomon::processor::soft {

struct SoftProcessorOptions {
    std::size_t code_cache_bytes = std::size_t{64} << 20;
    /// Guest pages, by mode, that can have translations at a time: 2 to code_page_limit.
    unsigned code_pages = code_page_limit;
    /// Translated code counts the instructions that it begins (Cpu::Statistics::instructions).
    bool count_instructions = false;
    /// Features to do without, as on a host that has not got them: guests get #UD, and translated
    /// code does not use them either.
    FeatureSet withheld{};
    LinearViews views = LinearViews::busy;
};

class SoftProcessor final : public Processor {
public:
    [[nodiscard]] static Result<std::unique_ptr<SoftProcessor>>
    create(const SoftProcessorOptions& options = {});
    ~SoftProcessor() override;

    [[nodiscard]] ControlBlock& control_block() override { return m_cpu->cb; }
    [[nodiscard]] Exit enter() override;
    void kick() override;
    void invalidate_tlb() override;
    void invalidate_tlb(Gva gva) override;
    void invalidate_tlb(Gva first, u64 pages, u64 root) override;
    void forget_root(u64 root) override;
    void revoke_writes(Gpa gpa) override;
    void invalidate_code(Gpa gpa, u64 size) override;
    [[nodiscard]] std::string check_translations() override;

    void book_time(TimeAccount* account) override;
    void map_code(CodeMap* map) override;
    [[nodiscard]] gnomon::Statistics report() const override;

    [[nodiscard]] const Cpu::Statistics& statistics() const { return m_cpu->statistics; }
    /// What the instruction table permits on this host.
    [[nodiscard]] FeatureSet features() const { return m_features; }

private:
    SoftProcessor() = default;

    struct Target {
        u32 entry = 0; ///< 0: Cpu::pending says why not
        PageCode* page = nullptr;
    };
    /// The translation for the current RIP and mode, made if need be.
    [[nodiscard]] Target find_target();
    [[nodiscard]] Target translate_target(Gpa frame, Hva host, PageCode& page, Gva gva);
    /// The target, unless the instruction there goes beyond the limit of CS.
    [[nodiscard]] Target within_limit(Target target);
    void prepare_code_frame(Gpa frame, Hva host);
    [[nodiscard]] PageCode& new_page(Gpa frame, Mode mode);
    void flush_code();
    void empty_jump_caches();
    /// Turns Cpu::pending of kind exception into an injection.
    void raise_pending();
    /// Delivers the injection; returns true if `enter` must return Cpu::exit.
    [[nodiscard]] bool deliver();
    void raise_host_fault();
    /// An access by way of the view has met nothing, or no right. state.rip becomes that of its
    /// instruction. @return whether it may now be tried again; else it wants the slow way.
    [[nodiscard]] bool on_view_miss();
    void note_user_event();
    /// After Leave::branch: goes to the target; or undoes the branch, and Cpu::pending says why.
    [[nodiscard]] bool finish_branch();
    void link(const void* site, const Target& target);
    void activate();
    /// Runs translated code, and says why it came back.
    [[nodiscard]] Leave run(u32 entry);

    static int on_extended_helper(Cpu* cpu, u64 r13, void* site);

    TimeAccount* m_time = nullptr;
    FeatureSet m_features;
    std::unique_ptr<CodeCache> m_cache;
    std::unique_ptr<TlbContexts> m_contexts;
    Cpu* m_cpu = nullptr; ///< owned by m_contexts
    std::unique_ptr<Translator> m_translator;
    Thunks m_thunks;
    std::atomic<bool> m_kicked = false;
    bool m_delivery_reads = false; ///< a delivery awaits data of a device
    bool m_jumped_to = false;      ///< what is looked for is the target of a jump within a page
    std::optional<ViewKeeper> m_views;
    Gva m_hooks[execution_hook_count];
    u64 m_debug_registers[8] = {};
};

/// Moves the live x87 state and the spilled vector registers to cb.state.extended, and back.
/// @return whether the x87 registers are as after FNINIT.
[[nodiscard]] bool export_extended_state(Cpu& cpu);
void import_extended_state(Cpu& cpu);
/// From now on the guest's state of AVX-512 is kept: it is about to use it. Not while the guest's
/// vector registers are in the host's.
void begin_avx512(Cpu& cpu);

} // namespace gnomon::processor::soft
