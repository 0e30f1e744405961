// SPDX-License-Identifier: Apache-2.0
#include "processor/soft/descriptor.h"

namespace gnomon::processor::soft {

namespace {

constexpr u16 table_indicator = 4; // selector bit: LDT, not GDT

struct Table {
    u64 base;
    u32 limit;
    bool usable;
};

Table table_of(const Cpu& cpu, u16 selector) {
    const RegisterBlock& state = cpu.cb.state;
    if ((selector & table_indicator) == 0) return {state.gdtr.base, state.gdtr.limit, true};
    return {state.ldtr.base, state.ldtr.limit,
            !state.ldtr.has(Segment::unusable) && state.ldtr.has(Segment::present)};
}

Gva in_table(const Cpu& cpu, const Table& table, u64 offset) {
    const u64 address = table.base + offset;
    return Gva(cpu.cb.state.long_mode() ? address : address & 0xffffffff);
}

u64 table_offset(u16 selector) { return selector & 0xfff8U; }

// The byte with type, S, DPL and P.
Gva rights_byte(const Descriptor& descriptor) { return descriptor.address + 5; }

} // namespace

Lookup look_up_descriptor(Cpu& cpu, u16 selector, Descriptor& out) {
    const Table table = table_of(cpu, selector);
    const u64 offset = table_offset(selector);
    if (!table.usable || offset + 7 > table.limit) return Lookup::outside;
    out.address = in_table(cpu, table, offset);
    out.high = 0;
    return cpu.read_object(out.address, out.low, AccessMode::supervisor) ? Lookup::found
                                                                         : Lookup::fault;
}

bool fetch_descriptor(Cpu& cpu, u16 selector, Descriptor& out, Vector vector, u32 ext) {
    const Lookup result = look_up_descriptor(cpu, selector, out);
    if (result == Lookup::outside) cpu.raise(vector, selector_error(selector, ext));
    return result == Lookup::found;
}

bool fetch_upper_half(Cpu& cpu, u16 selector, Descriptor& descriptor) {
    const Table table = table_of(cpu, selector);
    if (!table.usable || table_offset(selector) + 15 > table.limit) {
        cpu.raise(Vector::gp, selector_error(selector));
        return false;
    }
    u64 high = 0;
    if (!cpu.read_object(descriptor.address + 8, high, AccessMode::supervisor)) return false;
    // Bits 12:8 of the last doubleword stand where a descriptor has its type: 0 keeps this half
    // from being one.
    if (((high >> 40) & 0x1f) != 0) {
        cpu.raise(Vector::gp, selector_error(selector));
        return false;
    }
    descriptor.high = high;
    return true;
}

bool probe_accessed(Cpu& cpu, const Descriptor& descriptor) {
    return descriptor.has(Segment::accessed) ||
           cpu.probe_write(rights_byte(descriptor), 1, AccessMode::supervisor);
}

bool mark_accessed(Cpu& cpu, const Descriptor& descriptor) {
    if (descriptor.has(Segment::accessed)) return true;
    const u8 rights = static_cast<u8>(descriptor.rights() | Segment::accessed);
    return cpu.write_object(rights_byte(descriptor), rights, AccessMode::supervisor);
}

} // namespace gnomon::processor::soft
