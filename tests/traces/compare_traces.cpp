// SPDX-License-Identifier: Apache-2.0
// compare_traces STRACE GNOMON [MINIMUM [TRACEES]]: exit status 0 if Gnomon's trace has, for every
// task that strace saw, the same calls, signals and ends in the same order, at least MINIMUM calls
// in all, balances, and has what the tracer inside saw of its tracees; 1 if not.
#include "comparison.h"

#include <charconv>
#include <cstring>
#include <fstream>
#include <iostream>

using namespace gnomon::traces;

namespace {

bool read(const char* path, TraceFile& trace) {
    std::ifstream in(path, std::ios::binary);
    if (!in) {
        std::cout << path << ": cannot be read\n";
        return false;
    }
    trace = read_trace(in);
    for (size_t i = 0; i < trace.problems.size() && i < 10; ++i)
        std::cout << path << ": not understood: " << trace.problems[i] << "\n";
    return trace.problems.empty();
}

} // namespace

int main(int argc, char** argv) {
    TraceFile strace, gnomon;
    if (argc < 3 || argc > 5) {
        std::cerr << "usage: compare_traces STRACE GNOMON [MINIMUM [TRACEES]]\n";
        return 2;
    }
    size_t minimum = 1;
    if (argc > 3) std::from_chars(argv[3], argv[3] + std::strlen(argv[3]), minimum);
    bool good = read(argv[1], strace);
    good = read(argv[2], gnomon) && good;

    const Comparison comparison = compare(strace, gnomon);
    for (const std::string& report : comparison.reports)
        std::cout << report;
    if (comparison.differences != 0) std::cout << "differences by kind:\n";
    for (const auto& [kind, count] : comparison.differences_by_kind)
        std::cout << "  " << count << "  " << kind << "\n";
    for (const auto& [rule, count] : comparison.allowances)
        std::cout << "let pass, " << rule << ": " << count << "\n";
    const Balance& b = gnomon.balance;
    std::cout << comparison.tasks << " tasks, " << comparison.calls << " calls of "
              << comparison.calls_by_name.size() << " names and " << comparison.signals
              << " signals the same, " << comparison.differences << " differences; " << b.entered
              << " calls entered in all, " << b.returned << " returned, " << b.never_return
              << " never return, " << b.in_progress << " in progress\n";
    if (!b.balanced()) {
        std::cout << "entries and returns do not balance\n";
        good = false;
    }
    if (comparison.calls < minimum) {
        std::cout << "fewer than " << minimum << " calls\n";
        good = false;
    }
    if (argc == 5) {
        std::ifstream seen(argv[4]);
        size_t calls = 0;
        for (const std::string& difference : compare_tracees(seen, gnomon, calls)) {
            std::cout << "tracee " << difference << "\n";
            good = false;
        }
        std::cout << calls << " calls of tracees inside\n";
        good = good && calls != 0;
    }
    return good && comparison.same() ? 0 : 1;
}
