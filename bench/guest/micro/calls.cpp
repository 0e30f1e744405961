// SPDX-License-Identifier: Apache-2.0
// System calls that do next to nothing, and one that looks up a path.
#include "rows.h"

#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace bench {

Outcome null_call(Budget budget) {
    return least_of_batches(budget, [](std::uint64_t count) {
        for (; count != 0; count--)
            if (syscall(SYS_getppid) < 0) give_up("getppid");
    });
}

Outcome stat_call(Budget budget) {
    return least_of_batches(budget, [](std::uint64_t count) {
        struct stat status {};
        for (; count != 0; count--)
            if (stat("/usr/bin", &status) != 0) give_up("stat /usr/bin");
    });
}

} // namespace bench
