// SPDX-License-Identifier: Apache-2.0
#include "processor/soft/segment_loading.h"

namespace gnomon::processor::soft {

namespace {

bool refuse(Cpu& cpu, Vector vector, u32 error_code) {
    cpu.raise(vector, error_code);
    return false;
}

// SS by MOV, POP or LSS: RPL, DPL and CPL are one.
bool load_stack_segment(Cpu& cpu, u16 selector) {
    const unsigned cpl = cpu.cpl();
    Segment& ss = cpu.cb.state.segment[seg_ss];
    if (is_null_selector(selector)) {
        if (!cpu.cb.state.code64() || cpl == 3 || selector_rpl(selector) != cpl)
            return refuse(cpu, Vector::gp, 0);
        ss = null_segment(selector, cpl);
        return true;
    }
    Descriptor d;
    if (!fetch_descriptor(cpu, selector, d)) return false;
    const u32 error = selector_error(selector);
    if (selector_rpl(selector) != cpl || !d.is_writable_data() || d.dpl() != cpl)
        return refuse(cpu, Vector::gp, error);
    if (!d.has(Segment::present)) return refuse(cpu, Vector::ss, error);
    if (!mark_accessed(cpu, d)) return false;
    ss = d.code_or_data(selector);
    return true;
}

} // namespace

bool is_code64(const Cpu& cpu, const Descriptor& descriptor) {
    return cpu.cb.state.long_mode() && descriptor.has(Segment::l);
}

bool has_reserved_size(const Cpu& cpu, const Descriptor& descriptor) {
    return cpu.cb.state.long_mode() && descriptor.has(Segment::l) && descriptor.has(Segment::db);
}

bool load_segment(Cpu& cpu, SegmentName name, u16 selector) {
    if (name == seg_ss) return load_stack_segment(cpu, selector);
    Segment& segment = cpu.cb.state.segment[name];
    if (is_null_selector(selector)) {
        segment = null_segment(selector); // the base too: Intel's processors clear it
        return true;
    }
    Descriptor d;
    if (!fetch_descriptor(cpu, selector, d)) return false;
    const u32 error = selector_error(selector);
    if (!d.is_readable()) return refuse(cpu, Vector::gp, error);
    if (!d.is_conforming_code() && (selector_rpl(selector) > d.dpl() || cpu.cpl() > d.dpl()))
        return refuse(cpu, Vector::gp, error);
    if (!d.has(Segment::present)) return refuse(cpu, Vector::np, error);
    if (!mark_accessed(cpu, d)) return false;
    segment = d.code_or_data(selector);
    return true;
}

bool check_target(Cpu& cpu, const Descriptor& code, u64 rip, u32 ext) {
    const bool ok = is_code64(cpu, code) ? Cpu::canonical(rip) : rip <= code.limit();
    return ok || refuse(cpu, Vector::gp, ext);
}

bool fetch_return_code(Cpu& cpu, u16 selector, Descriptor& out) {
    if (is_null_selector(selector)) return refuse(cpu, Vector::gp, 0);
    if (!fetch_descriptor(cpu, selector, out)) return false;
    const unsigned rpl = selector_rpl(selector);
    const u32 error = selector_error(selector);
    const bool dpl_ok = out.is_conforming_code() ? out.dpl() <= rpl : out.dpl() == rpl;
    if (!out.is_code() || rpl < cpu.cpl() || !dpl_ok || has_reserved_size(cpu, out))
        return refuse(cpu, Vector::gp, error);
    if (!out.has(Segment::present)) return refuse(cpu, Vector::np, error);
    return true;
}

bool fetch_return_stack(Cpu& cpu, u16 selector, unsigned cpl, bool to_code64, ReturnStack& out) {
    out.null = is_null_selector(selector);
    if (out.null) {
        if (!to_code64 || cpl == 3 || selector_rpl(selector) != cpl)
            return refuse(cpu, Vector::gp, 0);
        out.segment = null_segment(selector, cpl);
        return true;
    }
    Descriptor& d = out.descriptor;
    if (!fetch_descriptor(cpu, selector, d)) return false;
    const u32 error = selector_error(selector);
    if (selector_rpl(selector) != cpl || !d.is_writable_data() || d.dpl() != cpl)
        return refuse(cpu, Vector::gp, error);
    if (!d.has(Segment::present)) return refuse(cpu, Vector::ss, error);
    out.segment = d.code_or_data(selector);
    return true;
}

void drop_privileged_segments(Cpu& cpu, unsigned cpl) {
    for (const SegmentName name : {seg_es, seg_ds, seg_fs, seg_gs}) {
        Segment& segment = cpu.cb.state.segment[name];
        if (segment.has(Segment::unusable)) continue;
        const bool conforming = segment.has(Segment::code) && segment.has(Segment::conforming);
        if (conforming || segment.dpl() >= cpl) continue;
        // The base stays: FS and GS are also addressed by it while their selectors are null.
        segment.selector = 0;
        segment.rights = Segment::unusable;
        segment.limit = 0;
    }
}

void set_returned_rsp(Cpu& cpu, u64 value) {
    const RegisterBlock& state = cpu.cb.state;
    const bool stack16 = !state.code64() && !state.segment[seg_ss].has(Segment::db);
    cpu.set_gpr(rsp, stack16 ? 2 : 8, value);
}

bool read_tss_stack(Cpu& cpu, unsigned cpl, unsigned ist, u32 ext, u64& pointer) {
    // SDM vol. 3A figure 7-11: RSP0 at 4, IST1 at 36.
    const u64 offset = ist == 0 ? 4 + u64{8} * cpl : 28 + u64{8} * ist;
    const Segment& tr = cpu.cb.state.tr;
    if (tr.has(Segment::unusable) || offset + 7 > tr.limit)
        return refuse(cpu, Vector::ts, selector_error(tr.selector, ext));
    return cpu.read_object(Gva(tr.base + offset), pointer, AccessMode::supervisor);
}

} // namespace gnomon::processor::soft
