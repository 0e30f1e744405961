// SPDX-License-Identifier: Apache-2.0
#include "processor/soft/access_checks.h"

namespace gnomon::processor::soft {

namespace {

/// Whether [offset, offset + size) lies within the segment.
bool within_limit(const Segment& segment, u64 offset, u64 size) {
    const u64 last = offset + size - 1;
    const bool expand_down = !segment.has(Segment::code) && segment.has(Segment::expand_down);
    if (expand_down) {
        const u64 top = segment.has(Segment::db) ? 0xffffffff : 0xffff;
        return offset > segment.limit && last <= top;
    }
    // With the largest limit an access may wrap around; the manual leaves it to the processor.
    return segment.limit == 0xffffffff || last <= segment.limit;
}

bool segment_allows(const Segment& segment, u64 offset, u64 size, bool write) {
    if (segment.has(Segment::unusable)) return false;
    const bool code = segment.has(Segment::code);
    if (write && (code || !segment.has(Segment::writable))) return false;
    if (!write && code && !segment.has(Segment::readable)) return false;
    return within_limit(segment, offset, size);
}

} // namespace

bool check_access(Cpu& cpu, unsigned segment, Gva address, u64 size, bool write,
                  unsigned alignment) {
    const RegisterBlock& s = cpu.cb.state;
    if (!s.code64()) {
        const u64 offset = (address.value() - s.segment[segment].base) & 0xffffffff;
        if (!segment_allows(s.segment[segment], offset, size, write)) {
            cpu.raise(segment == seg_ss ? Vector::ss : Vector::gp, 0);
            return false;
        }
    }
    // Whether this or a page fault comes first is the processor's choice (SDM vol. 3A table 6-2
    // has them in one class).
    if (alignment > 1 && address.value() % alignment != 0 && alignment_checked(cpu)) {
        cpu.raise(Vector::ac, 0);
        return false;
    }
    return true;
}

} // namespace gnomon::processor::soft
