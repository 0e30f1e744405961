// SPDX-License-Identifier: Apache-2.0
#include "trace/names/flags.h"

namespace gnomon::trace {

const Flag* find_flag(const FlagTable& table, u64 value) {
    for (const Flag& flag : table.entries)
        if (flag.value == value) return &flag;
    return nullptr;
}

} // namespace gnomon::trace
