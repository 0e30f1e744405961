// SPDX-License-Identifier: Apache-2.0
#include "comparison.h"

#include "layout.h"
#include "values.h"

#include <algorithm>
#include <cstring>

namespace gnomon::test {

using processor::ExtendedState;

namespace {

constexpr u64 compared_flags = processor::rflags::arithmetic | processor::rflags::df |
                               processor::rflags::nt | processor::rflags::id;

std::string describe(const Outcome& o) {
    switch (o.kind) {
    case Outcome::Kind::stopped: return fmt::format("stop at {:#x}", o.rip);
    case Outcome::Kind::faulted:
        return fmt::format("vector {} error {:#x} cr2 {:#x} at {:#x}", o.vector, o.error_code,
                           o.cr2, o.rip);
    case Outcome::Kind::unexpected: break;
    }
    return "unexpected: " + o.note;
}

bool same(const Outcome& native, const Outcome& guest, const Program& program) {
    if (native.kind != guest.kind || native.kind == Outcome::Kind::unexpected ||
        native.rip != guest.rip)
        return false;
    if (native.kind == Outcome::Kind::stopped || program.several_faults) return true;
    if (native.vector == guest.vector) {
        // An instruction with several accesses may report any of them that faults.
        const u64 mask =
            program.operand.size > 8 || program.operand.size == 0 ? ~page_offset_mask : ~u64{0};
        return native.error_code == guest.error_code && (native.cr2 & mask) == (guest.cr2 & mask);
    }
    // By design: translated code resolves an access before the host can find a misaligned operand
    // or a pending x87 exception, so that of two faults the page fault comes first. Once it is
    // repaired the other one is raised.
    const bool late =
        (native.vector == static_cast<u8>(processor::Vector::gp) && program.misaligned) ||
        native.vector == static_cast<u8>(processor::Vector::mf);
    if (late && (guest.vector == static_cast<u8>(processor::Vector::ss) ||
                 guest.vector == static_cast<u8>(processor::Vector::gp)))
        return true; // an address that is not canonical is found early, too
    return late && guest.vector == static_cast<u8>(processor::Vector::pf) &&
           guest.cr2 >= program.operand.address &&
           guest.cr2 < program.operand.address + program.operand.size;
}

std::string hex(std::span<const u8> bytes) {
    std::string out;
    for (std::size_t i = bytes.size(); i-- > 0;)
        out += fmt::format("{:02x}", bytes[i]);
    return out;
}

class Report {
public:
    void line(const std::string& what, const std::string& native, const std::string& guest,
              const std::string& start) {
        m_text +=
            fmt::format("  {:<10} native {}  guest {}  (from {})\n", what, native, guest, start);
    }
    void number(const std::string& what, u64 native, u64 guest, u64 start) {
        if (native != guest)
            line(what, fmt::format("{:#x}", native), fmt::format("{:#x}", guest),
                 fmt::format("{:#x}", start));
    }
    void bytes(const std::string& what, std::span<const u8> native, std::span<const u8> guest,
               std::span<const u8> start) {
        if (!std::ranges::equal(native, guest)) line(what, hex(native), hex(guest), hex(start));
    }
    void text(const std::string& t) { m_text += t; }
    [[nodiscard]] std::string take() { return std::move(m_text); }

private:
    std::string m_text;
};

void compare_extended(Report& report, const ExtendedState& native, const ExtendedState& guest,
                      const ExtendedState& start) {
    const auto part = [](const ExtendedState& e, unsigned offset, unsigned size) {
        return std::span<const u8>(e.legacy + offset, size);
    };
    const auto legacy = [&](const std::string& what, unsigned offset, unsigned size) {
        report.bytes(what, part(native, offset, size), part(guest, offset, size),
                     part(start, offset, size));
    };
    // FOP, FIP and FDP are left out: guests see zeros in their place.
    legacy("fcw", ExtendedState::fcw, 2);
    legacy("fsw", ExtendedState::fsw, 2);
    legacy("ftw", ExtendedState::ftw, 1);
    legacy("mxcsr", ExtendedState::mxcsr, 4);
    for (unsigned i = 0; i < 8; ++i)
        legacy(fmt::format("st{}", i), ExtendedState::st0 + 16 * i, 10);
    for (unsigned i = 0; i < 16; ++i) {
        legacy(fmt::format("xmm{}", i), ExtendedState::xmm0 + 16 * i, 16);
        report.bytes(fmt::format("ymm{} high", i), native.ymm_high[i], guest.ymm_high[i],
                     start.ymm_high[i]);
    }
}

void compare_data(Report& report, std::span<const u8> native, std::span<const u8> guest,
                  std::span<const u8> start) {
    unsigned shown = 0;
    for (std::size_t at = 0; at < native.size() && shown < 4; at += 16) {
        const auto piece = [at](std::span<const u8> s) { return s.subspan(at, 16); };
        if (std::ranges::equal(piece(native), piece(guest))) continue;
        report.bytes(fmt::format("[{:#x}]", layout::data_begin + at), piece(native), piece(guest),
                     piece(start));
        ++shown;
    }
}

} // namespace

Result<std::unique_ptr<Comparison>> Comparison::create(u64 seed) {
    std::unique_ptr<Comparison> c(new Comparison);
    auto guest = GuestCpu::create();
    if (!guest) return tl::unexpected(guest.error());
    c->m_guest = std::move(*guest);
    auto native = NativeCpu::create();
    if (!native) return tl::unexpected(native.error());
    c->m_native = std::move(*native);
    c->m_base.resize(layout::data_size);
    Random random(seed);
    fill_interesting(random, c->m_base);
    std::ranges::copy(c->m_base, c->m_native->data().begin());
    std::ranges::copy(c->m_base, c->m_guest->data().begin());
    c->m_start = c->m_base;
    return c;
}

/// Puts both data areas back to their first content.
void Comparison::restore() {
    for (u64 at = 0; at < layout::data_size; at += page_size) {
        const u8* const base = m_base.data() + at;
        if (std::memcmp(m_native->data().data() + at, base, page_size) != 0)
            std::memcpy(m_native->data().data() + at, base, page_size);
        if (std::memcmp(m_guest->data().data() + at, base, page_size) != 0) {
            std::memcpy(m_guest->data().data() + at, base, page_size);
            m_guest->data_changed(layout::data_begin + at, page_size);
        }
    }
}

void Comparison::place(const Program& program) {
    restore();
    for (const Bytes& b : program.memory) {
        const u64 at = b.address - layout::data_begin;
        std::ranges::copy(b.content, m_native->data().begin() + static_cast<std::ptrdiff_t>(at));
        std::ranges::copy(b.content, m_guest->data().begin() + static_cast<std::ptrdiff_t>(at));
        m_guest->data_changed(b.address, b.content.size());
    }
    std::ranges::copy(m_native->data(), m_start.begin());
    m_native->load(program);
    m_guest->load(program);
}

std::string Comparison::run(const Program& program) {
    place(program);
    MachineState native = program.state, guest = program.state;
    m_native_outcome = m_native->run(program, native);
    const Outcome guest_outcome = m_guest->run(program, guest);
    const bool faulted = m_native_outcome.kind == Outcome::Kind::faulted;
    if (faulted) ++m_faults;

    std::vector<Range> ignored = program.not_compared;
    if (faulted)
        ignored.insert(ignored.end(), program.not_compared_on_fault.begin(),
                       program.not_compared_on_fault.end());
    for (const Range& r : ignored) {
        const u64 begin =
            std::clamp(r.address, layout::data_begin, layout::data_end) - layout::data_begin;
        const u64 end = std::clamp(r.address + r.size, layout::data_begin, layout::data_end) -
                        layout::data_begin;
        if (begin < end)
            std::memcpy(m_native->data().data() + begin, m_guest->data().data() + begin,
                        end - begin);
    }
    u64 flags = compared_flags;
    if (faulted && !program.flags_compared_on_fault) flags &= ~processor::rflags::arithmetic;

    const bool same_vectors =
        (faulted && !program.vectors_compared_on_fault) ||
        std::memcmp(&native.extended, &guest.extended, sizeof native.extended) == 0;
    Report report;
    if (!same(m_native_outcome, guest_outcome, program))
        report.line("end", describe(m_native_outcome), describe(guest_outcome), "");
    static constexpr const char* names[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                            "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
    for (unsigned i = 0; i < 16; ++i)
        if (native.gpr[i] != guest.gpr[i])
            report.number(names[i], native.gpr[i], guest.gpr[i], program.state.gpr[i]);
    if (((native.rflags ^ guest.rflags) & flags) != 0)
        report.number("rflags", native.rflags & flags, guest.rflags & flags, program.state.rflags);
    if (native.fs_base != guest.fs_base)
        report.number("fs base", native.fs_base, guest.fs_base, program.state.fs_base);
    if (native.gs_base != guest.gs_base)
        report.number("gs base", native.gs_base, guest.gs_base, program.state.gs_base);
    if (!same_vectors)
        compare_extended(report, native.extended, guest.extended, program.state.extended);
    if (std::memcmp(m_native->data().data(), m_guest->data().data(), layout::data_size) != 0)
        compare_data(report, m_native->data(), m_guest->data(), m_start);
    if (const std::string records = m_guest->check_records(m_start); !records.empty())
        report.text("  write buffer: " + records + "\n");
    return report.take();
}

} // namespace gnomon::test
