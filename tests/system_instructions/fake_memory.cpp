// SPDX-License-Identifier: Apache-2.0
#include "fake_memory.h"

#include <algorithm>

namespace gnomon::processor::soft {

void FakeMemory::copy_in(u64 address, const void* in, u64 size) {
    const u8* bytes = static_cast<const u8*>(in);
    for (u64 i = 0; i < size; ++i) {
        const Gva a(address + i);
        m_pages[a.page().value()][a.page_offset()] = bytes[i];
    }
}

void FakeMemory::copy_out(u64 address, void* out, u64 size) {
    u8* bytes = static_cast<u8*>(out);
    for (u64 i = 0; i < size; ++i) {
        const Gva a(address + i);
        bytes[i] = m_pages[a.page().value()][a.page_offset()];
    }
}

unsigned FakeMemory::writes() const {
    return static_cast<unsigned>(
        std::count_if(accesses.begin(), accesses.end(), [](const Access& a) { return a.write; }));
}

namespace {

FakeMemory& memory_of(Cpu& cpu) { return static_cast<FakeCpu&>(cpu).memory; }

bool stop(Cpu& cpu, ExitReason reason, Gva gva) {
    cpu.exit = {};
    cpu.exit.reason = reason;
    cpu.exit.gva = gva;
    cpu.pending = {Pending::Kind::exit, Vector::ud, false, 0, 0};
    return false;
}

bool check(Cpu& cpu, Gva gva, u64 size, bool write) {
    const Gva last = gva + (size - 1);
    if (!Cpu::canonical(gva.value()) || !Cpu::canonical(last.value())) {
        cpu.raise(Vector::gp, 0);
        return false;
    }
    const FakeMemory& memory = memory_of(cpu);
    for (const Gva page : {gva.page(), last.page()})
        if (memory.absent.contains(page.value()) ||
            (write && memory.read_only.contains(page.value())))
            return stop(cpu, ExitReason::page_fault, page);
    return true;
}

} // namespace

bool Cpu::read(Gva gva, void* out, u64 size, AccessMode mode) {
    if (!check(*this, gva, size, false)) return false;
    memory_of(*this).accesses.push_back({gva.value(), size, false, mode});
    memory_of(*this).copy_out(gva.value(), out, size);
    return true;
}

bool Cpu::write(Gva gva, const void* in, u64 size, AccessMode mode) {
    FakeMemory& memory = memory_of(*this);
    if (!check(*this, gva, size, true)) return false;
    if (memory.writes_allowed == 0) return stop(*this, ExitReason::write_buffer_full, gva);
    if (memory.writes_allowed > 0) --memory.writes_allowed;
    memory.accesses.push_back({gva.value(), size, true, mode});
    memory.copy_in(gva.value(), in, size);
    return true;
}

bool Cpu::probe_write(Gva gva, u64 size, AccessMode) { return check(*this, gva, size, true); }

Hva Cpu::direct(Gva, u64, bool) {
    pending = {};
    return nullptr;
}

Gva Cpu::linear(unsigned segment, u64 offset) const {
    const bool based = !cb.state.code64() || segment == seg_fs || segment == seg_gs;
    const u64 address = offset + (based ? cb.state.segment[segment].base : 0);
    return Gva(cb.state.code64() ? address : address & 0xffffffff);
}

Gva Cpu::effective_address(const Instruction& insn) const {
    u64 offset = static_cast<u64>(insn.displacement);
    if (insn.base == Instruction::rip_register)
        offset += cb.state.rip + insn.length;
    else if (insn.base != Instruction::no_register)
        offset += cb.state.gpr[insn.base];
    if (insn.index != Instruction::no_register) offset += cb.state.gpr[insn.index] * insn.scale;
    if (insn.address_size < 8) offset &= (u64{1} << (8 * insn.address_size)) - 1;
    return linear(insn.segment, offset);
}

} // namespace gnomon::processor::soft
