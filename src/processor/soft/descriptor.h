// SPDX-License-Identifier: Apache-2.0
/// @file Segment and system descriptors in the GDT and the LDT (SDM vol. 3A sections 3.4.5, 3.5
/// and 7.2.3).
///
/// The functions read descriptor tables as implicit supervisor accesses, change no register, and
/// follow the rule for helpers: false means that Cpu::pending says what stands in the way.
#pragma once

#include "processor/soft/cpu.h"

namespace gnomon::processor::soft {

/// EXT bit of an error code: the fault came up while an event external to the program was
/// delivered.
inline constexpr u32 error_ext = 1;
/// IDT bit of an error code: the index is a vector.
inline constexpr u32 error_idt = 2;

constexpr bool is_null_selector(u16 selector) { return (selector & 0xfffc) == 0; }
constexpr unsigned selector_rpl(u16 selector) { return selector & 3; }
constexpr u16 with_rpl(u16 selector, unsigned rpl) {
    return static_cast<u16>((selector & 0xfffc) | (rpl & 3));
}
/// Error code that names `selector` (SDM vol. 3A section 6.13). `ext` is 0 or error_ext.
constexpr u32 selector_error(u16 selector, u32 ext = 0) { return (selector & 0xfffcU) | ext; }

/// Types of system descriptors, S = 0 (SDM vol. 3A table 3-2). In IA-32e mode those that remain are
/// 64-bit ones.
namespace system_type {
inline constexpr unsigned tss16_available = 1, ldt = 2, tss16_busy = 3, call_gate16 = 4,
                          task_gate = 5, tss_available = 9, tss_busy = 11, call_gate = 12,
                          interrupt_gate = 14, trap_gate = 15;
}

/// One descriptor as read from its table.
struct Descriptor {
    u64 low = 0; ///< the eight bytes that every descriptor has
    u64 high =
        0; ///< second half of a 16-byte system descriptor, once `fetch_upper_half` has read it
    Gva address; ///< where it was read

    /// Access rights in the format of Segment::rights.
    [[nodiscard]] constexpr u32 rights() const { return static_cast<u32>(low >> 40) & 0xf0ff; }
    [[nodiscard]] constexpr bool has(u32 right) const { return (rights() & right) != 0; }
    [[nodiscard]] constexpr unsigned type() const { return rights() & 15; }
    [[nodiscard]] constexpr unsigned dpl() const { return (rights() >> 5) & 3; }
    [[nodiscard]] constexpr bool is_system() const { return !has(Segment::s); }
    [[nodiscard]] constexpr bool is_code() const { return !is_system() && has(Segment::code); }
    [[nodiscard]] constexpr bool is_conforming_code() const {
        return is_code() && has(Segment::conforming);
    }
    [[nodiscard]] constexpr bool is_readable() const {
        return !is_system() && (!has(Segment::code) || has(Segment::readable));
    }
    [[nodiscard]] constexpr bool is_writable_data() const {
        return !is_system() && !has(Segment::code) && has(Segment::writable);
    }
    [[nodiscard]] constexpr u64 base() const {
        return ((low >> 16) & 0xffffff) | ((low >> 56) << 24) | (high << 32);
    }
    [[nodiscard]] constexpr u32 limit() const {
        const u32 field = static_cast<u32>(low & 0xffff) | (static_cast<u32>(low >> 32) & 0xf0000);
        return has(Segment::g) ? (field << 12) | 0xfff : field;
    }

    // A gate (SDM vol. 3A figures 5-8 and 6-8).
    [[nodiscard]] constexpr u16 gate_selector() const { return static_cast<u16>(low >> 16); }
    [[nodiscard]] constexpr u64 gate_offset() const {
        return (low & 0xffff) | ((low >> 32) & 0xffff0000) | (high << 32);
    }
    [[nodiscard]] constexpr unsigned gate_ist() const {
        return static_cast<unsigned>(low >> 32) & 7;
    }

    /// What a segment register holds after loading this code or data descriptor, which sets the
    /// accessed bit.
    [[nodiscard]] constexpr Segment code_or_data(u16 selector) const {
        return {base(), limit(), rights() | Segment::accessed, selector, {}};
    }
    /// What LDTR or TR holds after loading this descriptor.
    [[nodiscard]] constexpr Segment system(u16 selector) const {
        return {base(), limit(), rights(), selector, {}};
    }
};

enum class Lookup : u8 { found, outside, fault };

/// Reads the descriptor that `selector` names, null or not. `outside`: beyond its table's limit;
/// nothing is pending.
[[nodiscard]] Lookup look_up_descriptor(Cpu& cpu, u16 selector, Descriptor& out);

/// The same, where a selector outside its table raises `vector` with the selector as error code.
[[nodiscard]] bool fetch_descriptor(Cpu& cpu, u16 selector, Descriptor& out,
                                    Vector vector = Vector::gp, u32 ext = 0);

/// Reads the second half of a 16-byte system descriptor: #GP(selector) outside the table or if its
/// type is not 0.
[[nodiscard]] bool fetch_upper_half(Cpu& cpu, u16 selector, Descriptor& descriptor);

/// Whether `mark_accessed` would succeed.
[[nodiscard]] bool probe_accessed(Cpu& cpu, const Descriptor& descriptor);
/// Sets the accessed bit of a code or data descriptor in memory, unless it is set.
[[nodiscard]] bool mark_accessed(Cpu& cpu, const Descriptor& descriptor);

} // namespace gnomon::processor::soft
