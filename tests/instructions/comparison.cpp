// SPDX-License-Identifier: Apache-2.0
#include "comparison.h"

#include "layout.h"
#include "places.h"
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

bool within(u64 address, const Range& range) { return address - range.address < range.size; }

bool same(const Outcome& native, const Outcome& guest, const Program& program) {
    if (native.kind != guest.kind || native.kind == Outcome::Kind::unexpected ||
        native.rip != guest.rip)
        return false;
    if (native.kind == Outcome::Kind::stopped) return true;
    if (native.vector == guest.vector && native.error_code == guest.error_code &&
        native.cr2 == guest.cr2)
        return true;
    // Which access of several is reported, and which byte of one that is made in pieces, is up to
    // the processor.
    const auto reported = [&](const Outcome& o) {
        return o.vector != static_cast<u8>(processor::Vector::pf) ||
               std::ranges::any_of(program.accesses, [&](const Range& r) {
                   return may_fault(r) && within(o.cr2, r);
               });
    };
    const auto faulting = std::ranges::count_if(program.accesses, may_fault);
    const bool same_page = native.cr2 / page_size == guest.cr2 / page_size;
    const bool pieces = faulting == 1 && program.in_pieces && native.vector == guest.vector &&
                        (native.error_code == guest.error_code || !same_page);
    if ((faulting > 1 || pieces) && reported(native) && reported(guest)) return true;
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
           within(guest.cr2, program.operand);
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
        report.bytes(fmt::format("zmm{} high", i), native.zmm_high[i], guest.zmm_high[i],
                     start.zmm_high[i]);
    }
    for (unsigned i = 0; i < 16; ++i)
        report.bytes(fmt::format("zmm{}", 16 + i), native.high_zmm[i], guest.high_zmm[i],
                     start.high_zmm[i]);
    for (unsigned i = 0; i < 8; ++i)
        report.bytes(fmt::format("k{}", i), native.opmask[i], guest.opmask[i], start.opmask[i]);
}

/// The same bytes for the same state: what the format leaves open, and the last-instruction
/// pointers, in whose place guests see zeros, become zeros.
void normalise(ExtendedState& e) {
    const u8 present = e.header[0];
    std::memset(e.legacy + ExtendedState::fop, 0, ExtendedState::mxcsr - ExtendedState::fop);
    std::memset(e.legacy + ExtendedState::mxcsr_mask, 0, 4);
    for (unsigned i = 0; i < 8; ++i)
        std::memset(e.legacy + ExtendedState::st0 + 16 * i + 10, 0, 6);
    constexpr unsigned xmm_end = ExtendedState::xmm0 + 256;
    std::memset(e.legacy + xmm_end, 0, sizeof e.legacy - xmm_end);
    // Components in their initial state need not be there.
    if ((present & processor::xcr0::x87) == 0) {
        constexpr u16 initial_fcw = 0x37f;
        std::memset(e.legacy, 0, ExtendedState::mxcsr);
        std::memcpy(e.legacy + ExtendedState::fcw, &initial_fcw, sizeof initial_fcw);
        std::memset(e.legacy + ExtendedState::st0, 0, 128);
    }
    if ((present & processor::xcr0::sse) == 0) std::memset(e.legacy + ExtendedState::xmm0, 0, 256);
    if ((present & processor::xcr0::avx) == 0) std::memset(e.ymm_high, 0, sizeof e.ymm_high);
    if ((present & processor::xcr0::opmask) == 0) std::memset(e.opmask, 0, sizeof e.opmask);
    if ((present & processor::xcr0::zmm_high) == 0) std::memset(e.zmm_high, 0, sizeof e.zmm_high);
    if ((present & processor::xcr0::high_zmm) == 0) std::memset(e.high_zmm, 0, sizeof e.high_zmm);
    std::memset(e.header, 0, sizeof e.header);
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

constexpr const char* register_names[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                          "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
constexpr const char* segment_names[] = {"es", "cs", "ss", "ds", "fs", "gs"};

/// @param cs of the code that the comparison finds the register in.
void compare_register(Report& report, unsigned n, u16 cs, u64 native, u64 guest, u64 start) {
    // SDM vol. 1 section 3.4.1.1: the upper halves of the first eight are undefined once 32-bit
    // code has run.
    if (cs == layout::user_cs32 && n < processor::r8) native &= 0xffffffff, guest &= 0xffffffff;
    if (native != guest) report.number(register_names[n], native, guest, start);
}

/// The first step after which the two sides differ.
void compare_steps(Report& report, std::span<const Step> native, std::span<const Step> guest,
                   const Program& program) {
    const u64 flags = (compared_flags | processor::rflags::tf) & ~program.undefined_flags;
    for (std::size_t i = 0; i < std::min(native.size(), guest.size()); ++i) {
        Step n = native[i], g = guest[i];
        normalise(n.extended);
        normalise(g.extended);
        const bool same_vectors = std::memcmp(&n.extended, &g.extended, sizeof n.extended) == 0;
        Report step;
        step.number("rip", n.rip, g.rip, 0);
        step.number("cs", n.cs, g.cs, 0);
        step.number("rflags", n.rflags & flags, g.rflags & flags, program.state.rflags & flags);
        for (unsigned r = 0; r < 16; ++r)
            compare_register(step, r, n.cs, n.gpr[r], g.gpr[r], program.state.gpr[r]);
        if (!same_vectors) compare_extended(step, n.extended, g.extended, program.state.extended);
        if (const std::string text = step.take(); !text.empty()) {
            report.text(fmt::format("  after step {}, at {:#x}:\n{}", i, n.rip, text));
            return;
        }
    }
    report.number("steps", native.size(), guest.size(), 0);
}

} // namespace

Result<std::unique_ptr<Comparison>> Comparison::create(const Variant& variant, u64 seed) {
    std::unique_ptr<Comparison> c(new Comparison);
    c->m_variant = variant;
    processor::soft::FeatureSet withheld;
    if (variant.without_bmi2) withheld.add(processor::soft::Feature::bmi2);
    if (variant.without_loop) withheld.add(processor::soft::Feature::quick_loop);
    using processor::LinearViews;
    auto guest = GuestCpu::create(withheld, variant.viewed ? LinearViews::all : LinearViews::none);
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
    for (u64 page = 0; page < layout::data_pages; ++page) {
        const u64 at = page * page_size;
        const u8* const base = m_base.data() + at;
        u8* const native = m_native->data().data() + at;
        u8* const guest = m_guest->data().data() + at;
        const bool changed = std::memcmp(native, base, page_size) != 0;
        if (!changed && !m_differed) continue; // then the guest's was compared with it
        std::memcpy(native, base, page_size);
        std::memcpy(guest, base, page_size);
        m_guest->data_changed(layout::data_begin + at, page_size);
    }
    m_differed = false;
    for (const Range& r : m_placed)
        std::memcpy(m_start.data() + r.address, m_base.data() + r.address, r.size);
    m_placed.clear();
}

void Comparison::place(const Program& program, bool loaded) {
    restore();
    for (const Bytes& b : program.memory) {
        const u64 at = b.address - layout::data_begin;
        for (u8* const to : {m_native->data().data(), m_guest->data().data(), m_start.data()})
            std::memcpy(to + at, b.content.data(), b.content.size());
        m_placed.push_back({at, b.content.size()});
        m_guest->data_changed(b.address, b.content.size());
    }
    if (loaded) return;
    m_native->load(program);
    m_guest->load(program);
}

std::string Comparison::run(const Program& program, bool loaded) {
    place(program, loaded);
    MachineState native = program.state, guest = program.state;
    m_native_outcome = m_native->run(program, native);
    const Outcome guest_outcome = m_guest->run(program, guest);
    normalise(native.extended);
    normalise(guest.extended);
    const bool faulted = m_native_outcome.kind == Outcome::Kind::faulted;
    ++m_counts.programs;
    m_counts.faults += faulted ? 1 : 0;
    m_counts.steps += m_native->steps().size();
    if (program.stepped)
        m_counts.instructions += m_native->steps().size() + (faulted ? 1 : 0);
    else
        m_counts.instructions += faulted ? 1 : program.instructions;

    Report report;
    // Memory that is known to differ becomes the same, its own conditions checked.
    const auto in_area = [](const Range& r) {
        const u64 begin = std::clamp(r.address, layout::data_begin, layout::data_end);
        const u64 end = std::clamp(r.address + r.size, layout::data_begin, layout::data_end);
        return Range{begin - layout::data_begin, end - begin};
    };
    if (!faulted)
        for (const Range& r : program.guest_zeros) {
            const auto [at, size] = in_area(r);
            const auto bytes = m_guest->data().subspan(at, size);
            if (std::ranges::any_of(bytes, [](u8 byte) { return byte != 0; }))
                report.line("pointers", "any", hex(bytes), "");
        }
    std::vector<Range> ignored = program.not_compared;
    if (faulted)
        ignored.insert(ignored.end(), program.not_compared_on_fault.begin(),
                       program.not_compared_on_fault.end());
    for (const Range& r : ignored) {
        const auto [at, size] = in_area(r);
        std::memcpy(m_native->data().data() + at, m_guest->data().data() + at, size);
    }
    u64 flags = compared_flags & ~program.undefined_flags;
    if (faulted && !program.flags_compared_on_fault) flags &= ~processor::rflags::arithmetic;

    const bool same_vectors =
        (faulted && !program.vectors_compared_on_fault) ||
        std::memcmp(&native.extended, &guest.extended, sizeof native.extended) == 0;
    if (!same(m_native_outcome, guest_outcome, program))
        report.line("end", describe(m_native_outcome), describe(guest_outcome), "");
    const u32 undefined = faulted ? program.undefined_registers_on_fault : 0;
    for (unsigned i = 0; i < 16; ++i)
        if ((undefined >> i & 1) == 0)
            compare_register(report, i, native.selector[processor::seg_cs], native.gpr[i],
                             guest.gpr[i], program.state.gpr[i]);
    if (((native.rflags ^ guest.rflags) & flags) != 0)
        report.number("rflags", native.rflags & flags, guest.rflags & flags, program.state.rflags);
    if (native.fs_base != guest.fs_base)
        report.number("fs base", native.fs_base, guest.fs_base, program.state.fs_base);
    if (native.gs_base != guest.gs_base)
        report.number("gs base", native.gs_base, guest.gs_base, program.state.gs_base);
    // Returning from a handler, as for a signal, clears the RPL of null selectors.
    constexpr u16 null_selectors = 4;
    const bool returned = faulted || program.stepped;
    for (unsigned i = 0; i < processor::segment_count; ++i)
        if (native.selector[i] != guest.selector[i] &&
            !(returned && native.selector[i] == 0 && guest.selector[i] < null_selectors))
            report.number(segment_names[i], native.selector[i], guest.selector[i], layout::user_ss);
    if (!same_vectors)
        compare_extended(report, native.extended, guest.extended, program.state.extended);
    // A gather that faults may first trap for the elements that it has done (SDM vol. 2, VGATHER).
    if (program.stepped && (!faulted || program.vectors_compared_on_fault))
        compare_steps(report, m_native->steps(), m_guest->steps(), program);
    if (std::memcmp(m_native->data().data(), m_guest->data().data(), layout::data_size) != 0)
        m_differed = true, compare_data(report, m_native->data(), m_guest->data(), m_start);
    if (const std::string records = m_guest->check_records(m_start); !records.empty())
        report.text("  write buffer: " + records + "\n");
    return report.take();
}

} // namespace gnomon::test
