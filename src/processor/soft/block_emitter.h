// SPDX-License-Identifier: Apache-2.0
/// @file Emission of one block: guest instructions in, host code out.
#pragma once

#include "processor/soft/access_groups.h"
#include "processor/soft/masked_access.h"
#include "processor/soft/reencoder.h"
#include "processor/soft/sites.h"

#include <array>
#include <optional>
#include <vector>

namespace gnomon::processor::soft {

/// Emits the host code of one block at the frontiers of the cache. Used once.
class BlockEmitter {
public:
    BlockEmitter(CodeCache& cache, const Thunks& thunks, FeatureSet features, PageCode& page)
        : m(cache), m_cache(cache), m_thunks(thunks), m_page(page), m_mode(page.mode),
          m_bmi2(features.has(Feature::bmi2)), m_quick_loop(features.has(Feature::quick_loop)) {}

    /// The entries. `far_entry_cold`: that from other pages is to lie in the cold part.
    void begin_block(u16 offset, bool flags_live, bool far_entry_cold);
    /// The check that the page behind this one is `second`, before the plain entry of a block whose
    /// instruction goes on there.
    void emit_straddle_check(const PageCode& second);
    /// What comes before instruction number `n`: look-ups of the groups that begin there.
    /// @param wanted_soon which of the guest's R13, R14 and R15 (bits 0, 1 and 2) the next few
    ///        instructions read.
    void begin_instruction(const Instruction& i, const AccessPlan& plan, unsigned n,
                           bool flags_live, u8 wanted_soon);
    /// One instruction; `flags_live`: its fast paths must keep the arithmetic flags. Returns false
    /// if the block ends with it.
    [[nodiscard]] bool emit(const DecodedInstruction& d, bool flags_live);
    /// Counts the instruction that follows.
    void emit_count();
    /// A check of the execution hooks before the instruction.
    void emit_hook_check(const DecodedInstruction& d, Helper check);
    /// Continues at `offset`, relative to the page base (it may lie outside the page).
    void go_to(i64 offset);
    /// Cold parts; returns the finished block with its marks.
    [[nodiscard]] Block finish(u16 guest_length, bool straddles);
    [[nodiscard]] const std::vector<Mark>& marks() const { return m_marks; }
    /// Where the block's CALL returns to, if it is a new one whose returns are predicted.
    [[nodiscard]] std::optional<u16> new_return_offset() const { return m_new_return_offset; }
    /// Keeps what was emitted in the cache; the last thing to call. @return its bytes.
    std::size_t commit() { return m.commit(); }
    /// A way to `offset` of the page by its entry table, for jumps (or host CALLs) that cannot be
    /// linked. Nothing else is emitted. @return its executable address.
    [[nodiscard]] u32 emit_way(u16 offset, bool call);

private:
    // address and access
    void emit_address(const Instruction& i, bool with_segment, i64 extra = 0);
    AccessSite& begin_access(const Instruction& i, unsigned size, bool read, bool write,
                             unsigned segment, bool by_tlb = false, MaskedElements masked = {});
    void jump_to_slow_access(const AccessSite& site);
    [[nodiscard]] u32 look_up(unsigned size, u32 tag);
    void begin_group(const Instruction& i, const AccessGroup& group, unsigned number);
    /// R14 + the displacement is where a grouped access goes; R14 is the delta of a group that is
    /// found by it.
    int load_group(const GroupedAccess& access);
    [[nodiscard]] bool is_checked(unsigned segment, bool write) const;
    void end_access(AccessSite& site) { site.after = m.here(); }
    void add_segment_base(unsigned segment);
    /// `to` = the bits of `from` that the mask selects. Not in what twins copy: the mask is named
    /// by its distance.
    void extract(const Xbyak::Reg64& to, const Xbyak::Reg64& from, u32 LookUpMasks::*mask);
    [[nodiscard]] u32 jump_unless_in_page();
    /// What must be added to the offset for it.
    [[nodiscard]] int in_page_bias() const { return m_quick_loop ? int{page_size} : 0; }
    void tlb_index(const Xbyak::Reg64& to, const Xbyak::Reg64& from);
    // by way of the linear view (emit_view.cpp)
    [[nodiscard]] u8 view_base(const Instruction& i) const;
    /// Where an access goes: [R14 + `base` + displacement], or without a base.
    struct ViewPlace {
        HostMemory memory = HostMemory::address; ///< or based
        u8 base = Instruction::no_register;      ///< of the host
        int displacement = 0;
    };
    [[nodiscard]] static Xbyak::RegExp expression(const ViewPlace& place);
    [[nodiscard]] std::optional<ViewPlace> view_place(const Instruction& i);
    [[nodiscard]] static std::optional<i64> rip_offset(const Instruction& i);
    [[nodiscard]] std::optional<int> data_displacement(i64 page_offset) const;
    void load_data_base();
    void find_view_delta(u8 from, int displacement);
    void load_view_delta();
    void finish_guesses();
    [[nodiscard]] bool is_by_delta(const GroupedAccess& access) const {
        return (m_delta_groups >> access.group & 1) != 0;
    }
    void operate_by_delta(const DecodedInstruction& d);
    [[nodiscard]] Xbyak::RegExp grouped_place(const GroupedAccess& access, const Xbyak::Reg64& from,
                                              int displacement);
    [[nodiscard]] Xbyak::RegExp grouped_operand(const Instruction& i);
    void load_page_base(const Xbyak::Reg64& to);
    [[nodiscard]] u32 jump_unless_base(const PageCode& page);
    /// Whether code takes its page's base from a slot of its own, which is checked where it is
    /// entered.
    [[nodiscard]] bool has_base_slot() const { return !m_mode.has(Mode::single) && m_bmi2; }
    // The scratch registers between instructions.
    /// By scratch register (R13, R14): the guest register among R13-R15 whose value it holds.
    struct ScratchGuests {
        u8 guest[2] = {Instruction::no_register, Instruction::no_register};
        u8& operator[](unsigned scratch) { return guest[scratch]; }
        u8 operator[](unsigned scratch) const { return guest[scratch]; }
    };
    /// The current instruction leaves the scratch registers as they are.
    void keep_scratch() {
        m_group_in_r14 = m_group_before;
        m_high = m_high_before;
    }
    /// The scratch register that holds guest register `guest`, or no_register.
    [[nodiscard]] u8 scratch_of(u8 guest) const {
        for (unsigned s = 0; s < 2; ++s)
            if (guest != Instruction::no_register && m_high_before[s] == guest)
                return static_cast<u8>(13 + s);
        return Instruction::no_register;
    }
    [[nodiscard]] bool is_wanted_soon(u8 guest) const {
        return (m_wanted_soon >> (guest - 13) & 1) != 0;
    }
    // operations
    void emit_pass(const DecodedInstruction& d);
    /// @param base with HostMemory::based.
    void operate(const DecodedInstruction& d, HostMemory memory, int displacement = 0,
                 u8 base = Instruction::no_register);
    [[nodiscard]] unsigned worth_of(unsigned scratch, const ScratchGuests& held) const;
    void zero_first_vectors(bool all);
    void emit_lea(const DecodedInstruction& d);
    void emit_moffs(const DecodedInstruction& d);
    void emit_push(const DecodedInstruction& d);
    void emit_pop(const DecodedInstruction& d);
    void emit_leave(const DecodedInstruction& d);
    void emit_helper(const Instruction& i, Helper helper, bool extended);
    bool refused_by_mode(const DecodedInstruction& d);
    // what has a helper, but is common (emit_system.cpp)
    enum class InLine : u8 { no, done, block_ends };
    InLine emit_in_line(const DecodedInstruction& d);
    void pick_bits(const Xbyak::Reg64& r, u32 mask_slot);
    bool emit_segment_read(const DecodedInstruction& d);
    void emit_rdtsc();
    void emit_leave_monitor_mode(const DecodedInstruction& d);
    void emit_swapgs();
    void emit_sti(const Instruction& i);
    void emit_pushf(const Instruction& i);
    InLine emit_clac_stac(const DecodedInstruction& d);
    // control
    enum class HostJump : u8 { jump, call, ret };
    void emit_call(const DecodedInstruction& d);
    void emit_return(const DecodedInstruction& d);
    void emit_jump(const DecodedInstruction& d);
    void emit_loop(const DecodedInstruction& d);
    void load_branch_target(unsigned size);
    void branch_target_to_r13(const DecodedInstruction& d);
    void jump_if(const Instruction& i, u8 condition);
    /// Where a direct branch goes.
    struct Target {
        i64 offset = 0;             ///< relative to the page base
        bool narrow = false;        ///< RIP is cut to 16 bits
        BranchSite* site = nullptr; ///< nullptr: the processor cannot refuse to go there
    };
    [[nodiscard]] Target branch_target(const Instruction& i);
    void branch_to(const Target& target, bool polled = false);
    BranchSite& branch_site(const Instruction& i);
    /// Whether a place can be reached by a jump to its block.
    [[nodiscard]] bool is_near(const Target& target) const {
        return !m_mode.has(Mode::single) && !target.narrow && target.offset >= 0 &&
               target.offset < static_cast<i64>(page_size);
    }
    void far_jump_to(const Target& target, HostJump kind = HostJump::jump);
    /// R13 = target RIP; nullptr: no branch, go there.
    void indirect_jump(const BranchSite* site, HostJump kind = HostJump::jump) {
        indirect_jump(site, m_mode.set(), kind);
    }
    /// Likewise by the fetch entries of `set`, which are known to be of the mode wanted.
    void indirect_jump(const BranchSite* site, TlbSet set, HostJump kind = HostJump::jump);
    void call_tail(const DecodedInstruction& d, const Target& target, const BranchSite* branch,
                   bool polled);
    void push_site(const BranchSite* site);
    void leave_with_offset(i64 offset);
    void leave_for(const BranchSite* site); ///< R13 = target RIP
    void finish_far_links();
    void emit_far_entry();
    /// Whether guest CALL and RET use the host's, so that it predicts returns.
    [[nodiscard]] bool predicts_returns() const {
        return m_mode.has(Mode::code64) && !m_mode.has(Mode::single) && m_bmi2;
    }
    /// R14 is lost.
    void drop_stack_word() { m.pop(Xbyak::util::r14); }
    // stack
    void stack_address(unsigned size) { stack_lea(Xbyak::util::r13, -static_cast<int>(size)); }
    void stack_lea(const Xbyak::Reg64& to, int displacement,
                   const Xbyak::Reg64& from = Xbyak::util::r15);
    // guest registers
    void load_guest(const Xbyak::Reg64& to, unsigned guest);
    void store_guest(unsigned guest, unsigned size, const Xbyak::Reg64& from);

    struct SlowPath {
        AccessSite* site; ///< of a single access, or
        GroupSite* group; ///< of a group
        u32 jump;
        u32 tag_offset;
        bool flags_kept;
    };
    struct GuessPath {
        GuessSite* site;
        u8 from; ///< as in find_view_delta
        int displacement;
        u8 held; ///< the guest register that R13 holds
        u32 cont;
    };
    struct PendingLink {
        u32 jump; ///< rel32 to bind to the stub
        Target target;
        bool polled = false; ///< also where the branch is forward
        bool call = false;   ///< of a host CALL
    };

    Assembler m;
    CodeCache& m_cache;
    const Thunks& m_thunks;
    PageCode& m_page;
    Mode m_mode;
    bool m_bmi2;
    bool m_quick_loop; ///< LOOP is as quick as other branches
    bool m_flags_live = true;
    GroupedAccess m_memory_access, m_stack_access; ///< of the current instruction
    u32 m_delta_groups = 0; ///< by group: what is kept of it is the delta of its region
    u32 m_data_groups = 0;  ///< by group: it is found by the page's data slot, with a displacement
    std::array<int, access_group_count> m_data_group{};
    u8 m_group_in_r14 = GroupedAccess::no_group; ///< its host address is there
    u8 m_group_before = GroupedAccess::no_group; ///< likewise, before the current instruction
    ScratchGuests m_high;        ///< behind the current instruction; what it does not say is lost
    ScratchGuests m_high_before; ///< as long as the current instruction has not replaced them
    u8 m_wanted_soon = 0;        ///< as in begin_instruction
    std::optional<u16> m_new_return_offset;
    u16 m_block_offset = 0;
    bool m_far_entry_cold = false;
    u32 m_begin = 0, m_entry = 0, m_called_entry = 0, m_polled_entry = 0, m_plain_entry = 0;
    u32 m_base_jump = 0; ///< from the check of the page's base
    const StraddleSite* m_straddle_site = nullptr;
    u32 m_straddle_jump = 0;
    u32 m_poll_jump = 0;
    bool m_poll_flags_kept = false;
    std::vector<SlowPath> m_slow_paths;
    std::vector<GuessPath> m_guess_paths;
    std::vector<FarLinkSite*> m_far_links;
    std::vector<PendingLink> m_links;
    std::vector<Mark> m_marks;
};

} // namespace gnomon::processor::soft
