// SPDX-License-Identifier: Apache-2.0
/// @file MOVS, STOS, LODS, CMPS and SCAS, with and without REP (SDM vol. 2,
/// "REP/REPE/REPZ/REPNE/REPNZ").
///
/// RAM is handled a page at a time, by the host's own string instructions for what writes, so that
/// element size, order and overlap (also of two addresses of one frame) are the hardware's.
/// Everything else - MMIO, traced pages, pages with code, elements that straddle pages - goes
/// element by element through Cpu::read and Cpu::write.
///
/// A fault leaves the registers at the element that faulted, RIP at the instruction. The same goes
/// for the three reasons to stop early: a pending poll, an exit that an MMIO write asks for, and
/// single-stepping.
#include "processor/soft/access_checks.h"
#include "processor/soft/arithmetic_flags.h"
#include "processor/soft/helpers.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <span>

namespace gnomon::processor::soft {
namespace {

/// How a run of elements within one page can be reached.
enum class Route : u8 {
    direct,   ///< by a host address
    elements, ///< only by Cpu::read and Cpu::write
    fault,    ///< not at all, Cpu::pending says why
};

/// The counters of a string instruction under way. They go back to the registers by `commit`, and
/// only once an element was completed: an instruction that did nothing does not zero-extend them
/// either.
class Walk {
public:
    Walk(Cpu& cpu, const Instruction& insn, bool uses_source, bool uses_destination)
        : m_cpu(cpu), m_insn(insn), m_uses_source(uses_source),
          m_uses_destination(uses_destination), m_repeated(insn.rep || insn.repne),
          m_backward((cpu.cb.state.rflags & rflags::df) != 0), m_size(insn.operand_size),
          m_mask(insn.address_size >= 8 ? ~u64{0} : (u64{1} << (8 * insn.address_size)) - 1),
          m_remaining(m_repeated ? cpu.cb.state.gpr[rcx] & m_mask : 1),
          m_source(cpu.cb.state.gpr[rsi] & m_mask), m_destination(cpu.cb.state.gpr[rdi] & m_mask) {}

    /// Whether segments or alignment must be looked at, element by element.
    [[nodiscard]] bool is_checked() const {
        return (m_uses_source && is_restricted(m_insn.segment)) ||
               (m_uses_destination && is_restricted(seg_es)) || alignment_checked(m_cpu);
    }
    [[nodiscard]] bool check_element(bool writes_destination) const {
        return (!m_uses_source || check_access(m_cpu, m_insn.segment, source(), m_size, false)) &&
               (!m_uses_destination ||
                check_access(m_cpu, seg_es, destination(), m_size, writes_destination));
    }
    [[nodiscard]] u64 remaining() const { return m_remaining; }
    [[nodiscard]] unsigned size() const { return m_size; }
    [[nodiscard]] bool backward() const { return m_backward; }
    /// From one element to the next, in bytes.
    [[nodiscard]] i64 stride() const { return m_backward ? -i64{m_size} : i64{m_size}; }
    [[nodiscard]] Gva source() const { return m_cpu.linear(m_insn.segment, m_source); }
    [[nodiscard]] Gva destination() const { return m_cpu.linear(seg_es, m_destination); }

    /// How many of the remaining elements lie in the current page of each operand, before an offset
    /// wraps; 0 if the next one straddles.
    [[nodiscard]] u64 chunk() const {
        u64 count = m_remaining;
        if (m_uses_source) count = std::min(count, chunk_of(source(), m_source));
        if (m_uses_destination) count = std::min(count, chunk_of(destination(), m_destination));
        return count;
    }

    /// Host address of the first of `count` elements from `first` on, all within one page.
    [[nodiscard]] Route resolve(Gva first, u64 count, bool write, Hva& out) const {
        const u64 span = (count - 1) * m_size;
        m_cpu.pending.kind = Pending::Kind::none;
        const Hva low = m_cpu.direct(m_backward ? first - span : first, count * m_size, write);
        if (low == nullptr) {
            if (m_cpu.pending.kind == Pending::Kind::none) return Route::elements;
            if (m_cpu.exit.reason == ExitReason::page_fault) m_cpu.exit.gva = first;
            return Route::fault;
        }
        out = m_backward ? low + span : low;
        return Route::direct;
    }

    void advance(u64 count) {
        const u64 distance = count * static_cast<u64>(stride());
        if (m_uses_source) m_source = (m_source + distance) & m_mask;
        if (m_uses_destination) m_destination = (m_destination + distance) & m_mask;
        m_remaining -= count;
        m_advanced = true;
    }

    void commit() const {
        if (!m_advanced) return;
        if (m_repeated) m_cpu.set_gpr(rcx, m_insn.address_size, m_remaining);
        if (m_uses_source) m_cpu.set_gpr(rsi, m_insn.address_size, m_source);
        if (m_uses_destination) m_cpu.set_gpr(rdi, m_insn.address_size, m_destination);
    }

private:
    [[nodiscard]] bool is_restricted(unsigned segment) const {
        const Segment& s = m_cpu.cb.state.segment[segment];
        return !m_insn.code64 && !is_unrestricted_data(s) &&
               !(segment == seg_cs && is_unrestricted_code(s));
    }
    [[nodiscard]] u64 chunk_of(Gva gva, u64 offset) const {
        const u64 in_page = gva.page_offset();
        if (in_page + m_size > page_size || m_mask - offset < m_size - 1) return 0;
        if (m_backward) return std::min(in_page, offset) / m_size + 1;
        return std::min((page_size - in_page) / m_size,
                        (m_mask - offset - (m_size - 1)) / m_size + 1);
    }

    Cpu& m_cpu;
    const Instruction& m_insn;
    const bool m_uses_source, m_uses_destination, m_repeated, m_backward;
    const unsigned m_size;
    const u64 m_mask;
    u64 m_remaining, m_source, m_destination;
    bool m_advanced = false;
};

[[nodiscard]] bool polled(const Cpu& cpu) {
    return __atomic_load_n(&cpu.poll, __ATOMIC_RELAXED) != 0;
}

/// Runs `operation` over the elements. An Operation has
///   uses_source, uses_destination   which of rSI and rDI it walks;
///   writes_destination              whether it writes where rDI points;
///   Route chunk(walk, count)        does up to `count` elements within the page, less only if it
///   stopped; sets count; bool element(walk)              does one element through Cpu::read and
///   Cpu::write; false: pending; bool stopped()                  whether the terminating condition
///   of REPE or REPNE was met; void commit(faulted)            stores what it holds besides the
///   counters.
template <class Operation>
HelperResult run(Cpu& cpu, const Instruction& insn, Operation&& operation) {
    Walk walk(cpu, insn, operation.uses_source, operation.uses_destination);
    const auto leave = [&](HelperResult result) {
        walk.commit();
        operation.commit(result == HelperResult::fault);
        return result;
    };
    if (walk.remaining() == 0) return HelperResult::next;
    const bool single_step = (cpu.cb.state.rflags & rflags::tf) != 0;
    const bool checked = walk.is_checked();
    while (true) {
        if (checked && !walk.check_element(operation.writes_destination))
            return leave(HelperResult::fault);
        u64 count = checked ? 0 : walk.chunk();
        if (single_step) count = std::min<u64>(count, 1);
        Route route = Route::elements;
        if (count != 0) route = operation.chunk(walk, count);
        if (route == Route::fault) return leave(HelperResult::fault);
        if (route == Route::direct) {
            walk.advance(count);
        } else {
            // A straddling element first; or the rest of the page, without asking for each whether
            // it is direct.
            u64 left = std::max<u64>(count, 1);
            do {
                if (!operation.element(walk)) return leave(HelperResult::fault);
                walk.advance(1);
                cpu.mmio_have = cpu.mmio_taken = 0; // a later element runs without this one
            } while (--left != 0 && !operation.stopped() && !cpu.deferred_exit && !polled(cpu));
        }
        if (walk.remaining() == 0 || operation.stopped()) return leave(HelperResult::next);
        if (single_step || cpu.deferred_exit || polled(cpu)) {
            cpu.mid_repeat = true;
            return leave(HelperResult::dispatch);
        }
    }
}

// SAFETY of the assembly below: the caller has resolved [first, first + count elements), in the
// direction given, to host addresses. DF is clear before and after, as the C++ ABI asks.

// clang-format off
void host_movs(Hva to, Hva from, u64 count, unsigned size, bool backward) {
    if (backward) {
        switch (size) {
        case 1: asm volatile("std; rep movsb; cld" : "+D"(to), "+S"(from), "+c"(count) : : "memory", "cc"); break;
        case 2: asm volatile("std; rep movsw; cld" : "+D"(to), "+S"(from), "+c"(count) : : "memory", "cc"); break;
        case 4: asm volatile("std; rep movsl; cld" : "+D"(to), "+S"(from), "+c"(count) : : "memory", "cc"); break;
        default: asm volatile("std; rep movsq; cld" : "+D"(to), "+S"(from), "+c"(count) : : "memory", "cc"); break;
        }
    } else if (count == 1) {
        switch (size) {
        case 1: asm volatile("movsb" : "+D"(to), "+S"(from) : : "memory"); break;
        case 2: asm volatile("movsw" : "+D"(to), "+S"(from) : : "memory"); break;
        case 4: asm volatile("movsl" : "+D"(to), "+S"(from) : : "memory"); break;
        default: asm volatile("movsq" : "+D"(to), "+S"(from) : : "memory"); break;
        }
    } else {
        switch (size) {
        case 1: asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory"); break;
        case 2: asm volatile("rep movsw" : "+D"(to), "+S"(from), "+c"(count) : : "memory"); break;
        case 4: asm volatile("rep movsl" : "+D"(to), "+S"(from), "+c"(count) : : "memory"); break;
        default: asm volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(count) : : "memory"); break;
        }
    }
}

void host_stos(Hva to, u64 value, u64 count, unsigned size, bool backward) {
    if (backward) {
        switch (size) {
        case 1: asm volatile("std; rep stosb; cld" : "+D"(to), "+c"(count) : "a"(value) : "memory", "cc"); break;
        case 2: asm volatile("std; rep stosw; cld" : "+D"(to), "+c"(count) : "a"(value) : "memory", "cc"); break;
        case 4: asm volatile("std; rep stosl; cld" : "+D"(to), "+c"(count) : "a"(value) : "memory", "cc"); break;
        default: asm volatile("std; rep stosq; cld" : "+D"(to), "+c"(count) : "a"(value) : "memory", "cc"); break;
        }
    } else if (count == 1) {
        switch (size) {
        case 1: asm volatile("stosb" : "+D"(to) : "a"(value) : "memory"); break;
        case 2: asm volatile("stosw" : "+D"(to) : "a"(value) : "memory"); break;
        case 4: asm volatile("stosl" : "+D"(to) : "a"(value) : "memory"); break;
        default: asm volatile("stosq" : "+D"(to) : "a"(value) : "memory"); break;
        }
    } else {
        switch (size) {
        case 1: asm volatile("rep stosb" : "+D"(to), "+c"(count) : "a"(value) : "memory"); break;
        case 2: asm volatile("rep stosw" : "+D"(to), "+c"(count) : "a"(value) : "memory"); break;
        case 4: asm volatile("rep stosl" : "+D"(to), "+c"(count) : "a"(value) : "memory"); break;
        default: asm volatile("rep stosq" : "+D"(to), "+c"(count) : "a"(value) : "memory"); break;
        }
    }
}
// clang-format on

/// One load of an element, whatever its alignment; the guest's other processors may be writing it.
template <class T>
[[nodiscard]] T load(const std::byte* at) {
    using Unaligned [[gnu::aligned(1), gnu::may_alias]] = T;
    return *reinterpret_cast<const volatile Unaligned*>(at);
}

struct Movs {
    static constexpr bool uses_source = true, uses_destination = true, writes_destination = true;
    Cpu& cpu;

    Route chunk(const Walk& walk, u64& count) const {
        Hva from = nullptr;
        Hva to = nullptr;
        if (const Route r = walk.resolve(walk.source(), count, false, from); r != Route::direct)
            return r;
        if (const Route r = walk.resolve(walk.destination(), count, true, to); r != Route::direct)
            return r;
        host_movs(to, from, count, walk.size(), walk.backward());
        return Route::direct;
    }
    bool element(const Walk& walk) const {
        u64 value = 0;
        // The source may be MMIO, which a read changes: nothing may fail after it.
        return cpu.probe_write(walk.destination(), walk.size()) &&
               cpu.read(walk.source(), &value, walk.size()) &&
               cpu.write(walk.destination(), &value, walk.size());
    }
    static bool stopped() { return false; }
    static void commit(bool) {}
};

struct Stos {
    static constexpr bool uses_source = false, uses_destination = true, writes_destination = true;
    Cpu& cpu;

    Route chunk(const Walk& walk, u64& count) const {
        Hva to = nullptr;
        const Route route = walk.resolve(walk.destination(), count, true, to);
        if (route == Route::direct)
            host_stos(to, cpu.cb.state.gpr[rax], count, walk.size(), walk.backward());
        return route;
    }
    bool element(const Walk& walk) const {
        return cpu.write(walk.destination(), &cpu.cb.state.gpr[rax], walk.size());
    }
    static bool stopped() { return false; }
    static void commit(bool) {}
};

template <class T>
struct Lods {
    static constexpr bool uses_source = true, uses_destination = false, writes_destination = false;
    Cpu& cpu;
    T value = 0;
    bool loaded = false;

    Route chunk(const Walk& walk, u64& count) {
        Hva from = nullptr;
        const Route route = walk.resolve(walk.source(), count, false, from);
        if (route == Route::direct) {
            value = load<T>(from + static_cast<i64>(count - 1) * walk.stride());
            loaded = true;
        }
        return route;
    }
    bool element(const Walk& walk) {
        T element_value = 0;
        if (!cpu.read(walk.source(), &element_value, sizeof element_value)) return false;
        value = element_value;
        loaded = true;
        return true;
    }
    static bool stopped() { return false; }
    void commit(bool) const {
        if (loaded) cpu.set_gpr(rax, sizeof(T), value);
    }
};

/// What CMPS and SCAS share: comparing pairs of elements until one is (REPNE) or is not (REPE)
/// equal.
template <class T>
class Comparison {
public:
    explicit Comparison(const Instruction& insn)
        : m_until_equal(insn.repne), m_repeated(insn.rep || insn.repne) {}

    [[nodiscard]] bool stopped() const { return m_stopped; }

    void pair(T left, T right) {
        m_left = left;
        m_right = right;
        m_stopped = m_repeated && (left == right) == m_until_equal;
    }

    /// Compares up to `count` pairs and returns how many it looked at.
    u64 pairs(const std::byte* left, i64 left_stride, const std::byte* right, i64 right_stride,
              u64 count) {
        constexpr u64 block = sizeof(u64) / sizeof(T);
        const bool forward = right_stride > 0;
        u64 i = 0;
        while (true) {
            // Blocks are only skipped: the element that stops, and the last, is always compared
            // from values loaded once, so that flags and counters agree even while another
            // processor writes the memory.
            while (forward && i + block < count &&
                   !block_stops(left + static_cast<i64>(i) * left_stride,
                                right + static_cast<i64>(i) * right_stride))
                i += block;
            for (const u64 end = std::min(i + block, count); i < end;) {
                pair(load<T>(left + static_cast<i64>(i) * left_stride),
                     load<T>(right + static_cast<i64>(i) * right_stride));
                ++i;
                if (m_stopped) return i;
            }
            if (i == count) return i;
        }
    }

    /// A page fault in a repeated CMPS or SCAS leaves the flags as they were before the instruction
    /// (SDM vol. 2, REP).
    void commit(Cpu& cpu, bool faulted) const {
        if (faulted) return;
        u64& flags = cpu.cb.state.rflags;
        flags = replace_flags(flags, rflags::arithmetic, compare_flags(m_left, m_right));
    }

private:
    [[nodiscard]] bool block_stops(const std::byte* left, const std::byte* right) const {
        const u64 difference = load<u64>(left) ^ load<u64>(right);
        if (!m_until_equal) return difference != 0;
        // Whether an element of the difference is zero: then alone does taking 1 from each borrow
        // into a top bit that was clear.
        constexpr u64 ones = ~u64{0} / static_cast<T>(~T{0});
        constexpr u64 tops = ones << (8 * sizeof(T) - 1);
        return ((difference - ones) & ~difference & tops) != 0;
    }

    const bool m_until_equal, m_repeated;
    bool m_stopped = false;
    T m_left = 0, m_right = 0;
};

template <class T>
struct Cmps {
    static constexpr bool uses_source = true, uses_destination = true, writes_destination = false;
    Cpu& cpu;
    Comparison<T> comparison;

    Route chunk(const Walk& walk, u64& count) {
        Hva left = nullptr;
        Hva right = nullptr;
        if (const Route r = walk.resolve(walk.source(), count, false, left); r != Route::direct)
            return r;
        if (const Route r = walk.resolve(walk.destination(), count, false, right);
            r != Route::direct)
            return r;
        count = comparison.pairs(left, walk.stride(), right, walk.stride(), count);
        return Route::direct;
    }
    bool element(const Walk& walk) {
        T left = 0;
        T right = 0;
        if (!cpu.read(walk.source(), &left, sizeof left) ||
            !cpu.read(walk.destination(), &right, sizeof right))
            return false;
        comparison.pair(left, right);
        return true;
    }
    [[nodiscard]] bool stopped() const { return comparison.stopped(); }
    void commit(bool faulted) const { comparison.commit(cpu, faulted); }
};

template <class T>
struct Scas {
    static constexpr bool uses_source = false, uses_destination = true, writes_destination = false;
    Cpu& cpu;
    Comparison<T> comparison;
    T accumulator;
    std::array<T, sizeof(u64) / sizeof(T)>
        block; ///< the accumulator, as wide as Comparison compares

    Scas(Cpu& processor, const Instruction& insn)
        : cpu(processor), comparison(insn), accumulator(static_cast<T>(cpu.cb.state.gpr[rax])) {
        block.fill(accumulator);
    }
    Route chunk(const Walk& walk, u64& count) {
        Hva right = nullptr;
        const Route route = walk.resolve(walk.destination(), count, false, right);
        if (route == Route::direct)
            count = comparison.pairs(std::as_bytes(std::span(block)).data(), 0, right,
                                     walk.stride(), count);
        return route;
    }
    bool element(const Walk& walk) {
        T right = 0;
        if (!cpu.read(walk.destination(), &right, sizeof right)) return false;
        comparison.pair(accumulator, right);
        return true;
    }
    [[nodiscard]] bool stopped() const { return comparison.stopped(); }
    void commit(bool faulted) const { comparison.commit(cpu, faulted); }
};

/// Calls `function` with a value of the unsigned type of the operand size.
template <class Function>
HelperResult by_size(const Instruction& insn, Function&& function) {
    switch (insn.operand_size) {
    case 1: return function(u8{});
    case 2: return function(u16{});
    case 4: return function(u32{});
    default: return function(u64{});
    }
}

} // namespace

HelperResult movs(Cpu& cpu, const Instruction& insn) { return run(cpu, insn, Movs{cpu}); }

HelperResult stos(Cpu& cpu, const Instruction& insn) { return run(cpu, insn, Stos{cpu}); }

HelperResult lods(Cpu& cpu, const Instruction& insn) {
    return by_size(insn, [&](auto type) { return run(cpu, insn, Lods<decltype(type)>{cpu}); });
}

HelperResult cmps(Cpu& cpu, const Instruction& insn) {
    return by_size(insn, [&](auto type) {
        using T = decltype(type);
        return run(cpu, insn, Cmps<T>{cpu, Comparison<T>(insn)});
    });
}

HelperResult scas(Cpu& cpu, const Instruction& insn) {
    return by_size(insn,
                   [&](auto type) { return run(cpu, insn, Scas<decltype(type)>(cpu, insn)); });
}

} // namespace gnomon::processor::soft
