// SPDX-License-Identifier: Apache-2.0
#include "processor/exceptions.h"

namespace gnomon::processor {

namespace {

enum class Severity : u8 { benign, contributory, page_fault, double_fault };

Severity severity(const Injection& event) {
    if (event.kind != Injection::Kind::exception) return Severity::benign;
    switch (static_cast<Vector>(event.vector)) {
    case Vector::de:
    case Vector::ts:
    case Vector::np:
    case Vector::ss:
    case Vector::gp: return Severity::contributory;
    case Vector::pf: return Severity::page_fault;
    case Vector::df: return Severity::double_fault;
    default: return Severity::benign;
    }
}

} // namespace

std::optional<Injection> combine_exceptions(const Injection& first, const Injection& second) {
    const Severity before = severity(first);
    const Severity now = severity(second);
    if (now == Severity::benign) return second;
    switch (before) {
    case Severity::benign: return second;
    case Severity::contributory:
        if (now == Severity::page_fault) return second;
        break;
    case Severity::page_fault: break;
    case Severity::double_fault: return std::nullopt;
    }
    Injection double_fault;
    double_fault.kind = Injection::Kind::exception;
    double_fault.vector = static_cast<u8>(Vector::df);
    double_fault.has_error_code = true;
    return double_fault;
}

} // namespace gnomon::processor
