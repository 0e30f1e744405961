// SPDX-License-Identifier: Apache-2.0
/// @file The state of one software processor: what `gs:` points to while translated code runs.
///
/// The layout is part of the translated-code ABI (ARCHITECTURE.md). Plain data; the C++ helpers get
/// a reference.
#pragma once

#include "base/canonical.h"
#include "base/guarded_mapping.h"
#include "processor/control_block.h"
#include "processor/exit.h"
#include "processor/soft/instruction.h"
#include "processor/soft/linear_view.h"
#include "processor/soft/statistics.h"

#include <cstddef>

namespace gnomon::processor::soft {

class CodeCache;
class TlbContexts;
class Translator;

/// The four sets of cached translations; a block's mode names the set it uses. All but the
/// monitor's exist once for each shadow root that has a context (tlb_contexts.h).
enum class TlbSet : u8 {
    user,          ///< CPL 3
    supervisor,    ///< CPL 0-2, SMAP in force
    supervisor_ac, ///< CPL 0-2, SMAP off or RFLAGS.AC = 1
    monitor,       ///< monitor mode
};
inline constexpr unsigned tlb_set_count = 4;
inline constexpr unsigned keyed_set_count = 3; ///< those before `monitor`
inline constexpr unsigned tlb_size = 4096;
/// The tag of an empty entry: that of a page that belongs to another entry, and not to a neighbour,
/// since an access that goes on in the next page, or wraps to address 0, ends there. Tags are
/// negated page addresses, so that LEA compares. Page 0 does for all but entry 0 and the last one,
/// so that pages of zeros are nearly empty.
[[nodiscard]] constexpr u64 tlb_no_tag(unsigned index) {
    constexpr u64 far_page = u64{tlb_size / 2} << page_shift;
    return index == 0 || index == tlb_size - 1 ? ~far_page + 1 : 0;
}

[[nodiscard]] constexpr unsigned tlb_index(Gva gva) {
    return static_cast<unsigned>(gva.frame_number() % tlb_size);
}
[[nodiscard]] constexpr u64 tlb_tag(Gva gva) { return ~gva.page().value() + 1; }

/// Direct-mapped, indexed by bits 20:12 of the address. A tag is minus the page's address; index
/// arrays are separate so that translated code needs one scaled index.
struct Tlb {
    u64 read_tag[tlb_size];
    u64 write_tag[tlb_size]; ///< only for pages that may be written without a further look: dirty,
                             ///< not traced, no code
    u64 host_page[tlb_size]; ///< host address of the page
    u64 fetch_tag[tlb_size];
    u64 fetch_code[tlb_size]; ///< entry table of the page's translations (PageCode::entries), less
                              ///< 4 times the page's address: so an address is the index into it
    u64 fetch_mode;           ///< mode bits that the fetch entries belong to
    u64 reserved[7];
};

/// Access groups that a block can have (access_groups.h).
inline constexpr unsigned access_group_count = 8;

/// Pages that can have translations at a time, but for those whose blocks are of one instruction
/// and, apart, those of monitor mode. Each has a place for its base (PageCode::base_slot).
inline constexpr unsigned code_page_limit = 8192, monitor_code_page_limit = 64;
/// What such a place holds when the page is nowhere. No page's base: not a multiple of its size.
inline constexpr u64 no_base = 1;

/// Entries of a jump cache; a power of two, of at least a page.
inline constexpr unsigned jump_cache_size = 1 << 16; // MOVZX finds the place

/// No instruction's address.
inline constexpr u64 no_rip = u64{1} << 63;

/// What a helper did.
enum class HelperResult : u32 {
    next,     ///< go on after the instruction; RIP is not looked at
    dispatch, ///< go on at state.rip in the mode that the state now asks for
    fault, ///< nothing was changed; Cpu::pending says what to raise, or which exit to take at this
           ///< instruction
    exit,  ///< return from `enter` with Cpu::exit; state.rip was set by the helper
    next_here,    ///< go on with the instruction itself (a check that was put before it)
    to_handler,   ///< as `dispatch`, from the check of an execution hook to the hook's handler
    from_handler, ///< go on with the instruction at Cpu::hook_rip, from its hook's handler
};

/// What stands in the way of the current instruction.
struct Pending {
    enum class Kind : u8 { none, exception, exit };
    Kind kind = Kind::none;
    Vector vector = Vector::ud;
    bool has_error_code = false;
    u32 error_code = 0;
    u64 dr6 = 0; ///< bits to set in DR6 when the vector is #DB
};

enum class AccessMode : u8 {
    data,       ///< by the current CPL and SMAP
    supervisor, ///< implicit: descriptor tables, TSS, stack of a new privilege level
};

/// State of a processor. Helpers see the guest's registers in `cb.state`, RFLAGS whole, RIP at the
/// instruction. `cb.state.extended` is true only in helpers that the instruction table marks
/// `extended`; others find vector and x87 registers neither there nor, on return, changed.
struct Cpu {
    ControlBlock cb;

    u64 poll = 0;      ///< 1, else 0: leave at the next polled block entry. Written by `kick` with
                       ///< atomic stores
    u64 page_base = 0; ///< guest-virtual address of the page whose code runs
    Pending pending;
    Exit exit;
    bool deferred_exit =
        false; ///< `exit` holds an exit to take once the current instruction has completed
    bool delivery_exit_wanted = false; ///< INT n was delivered: `delivery_exit` comes behind the
                                       ///< deferred exits of the same instruction
    Exit delivery_exit;
    bool single_step_once = false; ///< the next block is one instruction long (interrupt shadow)

    // --- Guest memory, for helpers (memory_access.cpp) ---
    // On failure these return false (or nullptr) and `pending` says why; the helper returns
    // HelperResult::fault at once, with no guest-visible state changed. Sizes up to 4096 bytes;
    // pages may be crossed. All rules hold for them: permissions, traced writes, code invalidation,
    // MMIO (aligned sizes 1, 2, 4, 8).

    [[nodiscard]] bool read(Gva gva, void* out, u64 size, AccessMode mode = AccessMode::data);
    [[nodiscard]] bool write(Gva gva, const void* in, u64 size, AccessMode mode = AccessMode::data);
    /// Whether a write would succeed, without doing it. After true, `write` to the same range
    /// cannot fail.
    [[nodiscard]] bool probe_write(Gva gva, u64 size, AccessMode mode = AccessMode::data);
    /// The host address of [gva, gva + size), within one page, if it is RAM that can be read (or
    /// written) directly. nullptr with pending.kind == none: use read/write, piece by piece (MMIO,
    /// traced, code).
    [[nodiscard]] Hva direct(Gva gva, u64 size, bool write);
    /// Reads a quadword if it is RAM within one page that the current code may read; else false,
    /// and nothing has happened. Breakpoints do not see it.
    [[nodiscard]] bool peek(Gva gva, u64& out);
    template <class T>
    [[nodiscard]] bool read_object(Gva gva, T& out, AccessMode mode = AccessMode::data) {
        return read(gva, &out, sizeof out, mode);
    }
    template <class T>
    [[nodiscard]] bool write_object(Gva gva, const T& in, AccessMode mode = AccessMode::data) {
        return write(gva, &in, sizeof in, mode);
    }

    // --- The flags, between their two homes ---
    void merge_flags() {
        cb.state.rflags = (cb.state.rflags & ~rflags::arithmetic) |
                          (host_flags & rflags::arithmetic) | rflags::fixed1;
    }
    void split_flags() { host_flags = (cb.state.rflags & rflags::arithmetic) | rflags::fixed1; }

    // --- Raising ---
    HelperResult raise(Vector vector) {
        pending = {Pending::Kind::exception, vector, false, 0, 0};
        return HelperResult::fault;
    }
    HelperResult raise(Vector vector, u32 error_code) {
        pending = {Pending::Kind::exception, vector, true, error_code, 0};
        return HelperResult::fault;
    }
    /// Takes exit `reason` at this instruction, which the monitor completes.
    HelperResult leave(ExitReason reason, const Instruction& insn) {
        exit = {};
        exit.reason = reason;
        exit.instruction_length = insn.length;
        pending = {Pending::Kind::exit, Vector::ud, false, 0, 0};
        return HelperResult::fault;
    }

    // --- Registers ---
    [[nodiscard]] unsigned cpl() const { return cb.state.cpl(); }
    [[nodiscard]] u64 gpr(unsigned index, unsigned size, bool high_byte = false) const {
        const u64 v = cb.state.gpr[index];
        if (high_byte) return (v >> 8) & 0xff;
        return size >= 8 ? v : v & ((u64{1} << (8 * size)) - 1);
    }
    /// Writes as the architecture does: 4 bytes zero-extend, 1 and 2 keep the rest.
    void set_gpr(unsigned index, unsigned size, u64 value, bool high_byte = false) {
        u64& r = cb.state.gpr[index];
        if (high_byte)
            r = (r & ~u64{0xff00}) | ((value & 0xff) << 8);
        else if (size == 8)
            r = value;
        else if (size == 4)
            r = value & 0xffffffff;
        else
            r = (r & ~((u64{1} << (8 * size)) - 1)) | (value & ((u64{1} << (8 * size)) - 1));
    }
    /// Linear address of the instruction's memory operand: segment base applied, wrapped to the
    /// address size.
    [[nodiscard]] Gva effective_address(const Instruction& insn) const;
    /// `offset` in `segment` as a linear address (base 0 for CS, DS, ES, SS in 64-bit mode; 32-bit
    /// wrap outside it).
    [[nodiscard]] Gva linear(unsigned segment, u64 offset) const;
    [[nodiscard]] u64 next_rip(const Instruction& insn) const {
        const u64 rip = cb.state.rip + insn.length;
        return cb.state.code64() ? rip : rip & 0xffffffff;
    }
    /// #GP(0), or #SS(0) for the stack segment, if `gva` is not canonical in 64-bit mode; `read`
    /// and `write` check this themselves.
    [[nodiscard]] static bool canonical(u64 address) { return is_canonical(address); }

    /// State that helpers change tells the processor what it must do: CPL, mode bits,
    /// CR0/CR4/EFER/XCR0 bits that alter translation are read afresh at HelperResult::dispatch. So:
    /// return `dispatch` after any such change.

    // --- private to translation (ARCHITECTURE.md, "Translated-code ABI") ---
    CodeCache* code_cache = nullptr;
    TlbContexts* tlb_contexts = nullptr;
    Tlb* context = nullptr; ///< the sets that translated code sees, keyed_set_count of them
    Translator* translator = nullptr;
    u32 commit_thunk = 0, enter_thunk = 0;
    Cpu* self = this;
    /// Calls a function that may use any register, with the guest's vector registers saved around
    /// it (calls.h).
    void (*outside_thunk)(void (*function)(void*), void* argument) = nullptr;
    bool vectors_live = false; ///< C++ runs that leaves the guest's vector registers in the host's
    u64 host_flags = 2;        ///< the guest's arithmetic flags while C++ runs, as PUSHFQ left them
    u64 rcx_save = 0;          ///< RCX inside a flag-preserving sequence
    bool view_on = false;      ///< the current context has a linear view (linear_view.h)
    u64 view_void = 0;         ///< host address at which no view ever shows anything
    u64 view_wanted = 0;       ///< page that user code has reached otherwise; 0: none
    u64 view_awaited_rip = no_rip; ///< where a page fault was delivered to user code with a view
    // What emit_system.cpp clears or picks of flags, by PEXT and PDEP, which keep the host's.
    u64 page_bits = ~page_offset_mask; ///< of an address, those that name its page
    u64 all_but_if = ~rflags::if_, all_but_df = ~rflags::df, all_but_ac = ~rflags::ac;
    u64 arithmetic_mask = rflags::arithmetic;
    u64 pushed_system_mask = ~(rflags::arithmetic | rflags::vm | rflags::rf);
    u64 smap_mask = cr4::smap, ac_mask = rflags::ac;
    u64 scratch0 = 0;      ///< value carried between the two accesses of PUSH [mem], CALL [mem] ...
    u64 branch_target = 0; ///< of an indirect CALL, while its return address is pushed
    u64 overwritten = 0;   ///< what the return address of a CALL to another page replaced
    u64 scratch_flags = 2; ///< flags inside a flag-preserving sequence on hosts without PEXT
    u64 next_host = 0;     ///< host address at which translated code goes on after C++
    u64 next_entry = 0;    ///< entry, or return pad, to which Thunks::enter goes
    u64 next_r13 = 0,
        next_r14 = 0;     ///< its scratch registers there: page offset and host page of an access
    u64 run_rip = 0;      ///< of the first instruction since translated code was entered, or since
                          ///< RF may have been set
    bool resumed = false; ///< RF was set since, and is to be cleared when the run ends
    bool handler_entered = false; ///< monitor mode was entered in this run
    u64 hook_rip = 0;             ///< address of the execution hook whose handler was entered last
    u64 hook_continuation = 0;  ///< host address behind the check of that hook, which serves in the
                                ///< same run
    bool hook_passed = false;   ///< the instruction at hook_rip was begun in this run, and its hook
                                ///< has not been met since
    u64 resume_rip = 0;         ///< set by stubs that leave translated code
    const void* site = nullptr; ///< what the stub that left wants done (LinkSite, BranchSite)
    u32 guest_mxcsr = 0x1f80, host_mxcsr = 0x1f80;
    u64 fault_host_pc = 0; ///< host address of an instruction that raised a host signal
    int fault_signal = 0;
    u8 fault_vector = 0;          ///< the exception that it was, as the host's kernel says
    u64 fault_address = 0;        ///< of a host page fault
    bool fault_was_write = false; ///< likewise
    bool mid_repeat = false;      ///< a string instruction has stopped between two of its turns
    bool steps_by_new_tf = false; ///< INT n, SYSCALL, SYSENTER, SYSRET: whether a single-step trap
                                  ///< follows is told by TF after the instruction
    bool traps_held = false; ///< MOV SS or POP SS: its debug traps come after the next instruction
    u64 watch_hits = 0;      ///< DR6 bits of the data breakpoints that the current instruction met
    bool code_changed = false;     ///< translations were dropped during the current instruction
    bool flush_wanted = false;     ///< the code cache must be emptied before anything else runs
    u64 access_mask = 0;           ///< the opmask of a slow access under a mask
    bool avx512_available = false; ///< the host has it
    /// The guest has met AVX-512. Until then k0-k7, ZMM16-31 and the upper halves of ZMM0-15 are
    /// zero, whatever the host's hold, and nobody saves them. From then on they are, while C++ runs
    /// that may change them, in cb.state.extended.
    bool avx512_in_use = false;
    alignas(64) u8 vector_spill[16][32] = {}; ///< guest YMM registers while C++ runs

    /// A slow access between resolve and commit (slow_access.cpp).
    struct SlowAccess {
        u32 size = 0;
        bool write = false, bounced = false, code_written = false;
        bool traced[2] = {}; ///< by page
        u32 first_size = 0;  ///< bytes in the first page
        Gpa gpa[2];          ///< start in each page
        Hva host[2] = {};    ///< nullptr: MMIO
        u8 before[64] = {};
        Gva masked_address;   ///< of a store under a mask (masked_access.h), and
        u64 masked_bytes = 0; ///< which bytes of its operand it writes
    } slow;
    alignas(64) u8 bounce[192] = {}; ///< line on which an instruction with a slow operand runs
    u8 mmio_data[4096] = {};         ///< parts of a wide MMIO read that have arrived
    u32 mmio_have = 0;               ///< bytes of it
    u32 mmio_taken = 0; ///< bytes of earlier reads by the same instruction, which come first
    u64 mmio_rip = 0;   ///< instruction it belongs to
    struct {
        Gpa gpa;
        u64 data;
        u8 size;
    } mmio_writes[512] = {}; ///< parts of a wide MMIO write still to be reported
    u32 mmio_write_count = 0;

    using Statistics = Counters;
    Statistics statistics;

    /// By set and the low bits of RIP: the way (CodeCache::way) to a block of that set, which is
    /// perhaps that of RIP - the block finds out - or Thunks::find.
    u32 jump_cache[tlb_set_count][jump_cache_size] = {};
    /// As the context's base slots, for the pages of monitor mode.
    u64 monitor_base_slots[monitor_code_page_limit] = {};

    alignas(64) Tlb monitor_tlb;

    [[nodiscard]] const Tlb& tlb(TlbSet set) const {
        return set == TlbSet::monitor ? monitor_tlb : context[static_cast<unsigned>(set)];
    }
};

/// Where the sets of the current context lie behind GS. The Cpu ends at the end of a page, and
/// what runs over that end meets no memory.
inline constexpr u64 context_offset = sizeof(Cpu) + mapping_guard_size;
/// Where the current context's base slots are: code_page_limit of them.
inline constexpr u64 base_slots_offset =
    context_offset + ((keyed_set_count * sizeof(Tlb) + page_offset_mask) & ~page_offset_mask);
/// Behind each base slot, at this distance: what leads from offsets in the page, and from it, to
/// their places in the linear view.
inline constexpr u64 data_slot_distance = code_page_limit * sizeof(u64);
/// Where the current context's ViewGuesses are.
inline constexpr u64 view_guesses_offset = base_slots_offset + 2 * data_slot_distance;
/// Where the current context's deltas of its linear view are: view_delta_count of them.
inline constexpr u64 view_deltas_offset = view_guesses_offset + page_size;

/// The entry of a jump cache for `rip`.
[[nodiscard]] constexpr unsigned jump_cache_index(u64 rip) {
    return static_cast<unsigned>(rip % jump_cache_size);
}

} // namespace gnomon::processor::soft
