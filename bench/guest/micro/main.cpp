// SPDX-License-Identifier: Apache-2.0
// micro ROW MILLISECONDS: measures one row for about that long and prints "VALUE x ns", nanoseconds
// per operation.
#include "rows.h"

#include <cerrno>
#include <cstring>

namespace bench {

void give_up(const char* what) {
    std::fprintf(stderr, "micro: %s: %s\n", what, std::strerror(errno));
    std::exit(1);
}

namespace {

struct Row {
    const char* name;
    Outcome (*measure)(Budget);
};

constexpr Row rows[] = {
    {"null_call", null_call},
    {"stat", stat_call},
    {"pipe", pipe_round_trip},
    {"switch_2x0", switch_two_processes},
    {"switch_8x16", switch_eight_processes},
    {"signal_install", signal_install},
    {"signal_catch", signal_catch},
    {"fork", fork_exit},
    {"fork_exec", fork_execute},
    {"fault_anon", fault_anonymous},
    {"fault_file", fault_file},
    {"mmap", map_unmap},
    {"fft", fast_fourier_transform},
    {"matrix", matrix_product},
    {"double", scalar_double},
    {"call_return", call_and_return},
    {"call_indirect", indirect_call},
};

int run(int count, char** arguments) {
    if (count == 2 && std::strcmp(arguments[1], "--list") == 0) {
        for (const Row& row : rows)
            std::printf("%s\n", row.name);
        return 0;
    }
    char* end = nullptr;
    const unsigned long milliseconds = count == 3 ? std::strtoul(arguments[2], &end, 10) : 0;
    if (count != 3 || *end != '\0' || milliseconds < 1 || milliseconds > 600'000) {
        std::fprintf(stderr, "usage: micro ROW MILLISECONDS (1 to 600000), or micro --list\n");
        return 2;
    }
    for (const Row& row : rows) {
        if (std::strcmp(row.name, arguments[1]) != 0) continue;
        std::printf("VALUE %.3f ns\n", row.measure({milliseconds * 1'000'000U}).nanoseconds);
        return 0;
    }
    std::fprintf(stderr, "micro: there is no row %s; micro --list names them\n", arguments[1]);
    return 2;
}

} // namespace
} // namespace bench

int main(int count, char** arguments) { return bench::run(count, arguments); }
