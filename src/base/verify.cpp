// SPDX-License-Identifier: Apache-2.0
#include "base/verify.h"

#include <cstdio>
#include <cstdlib>

namespace gnomon {

void verification_failed(const char* expression, const char* file, int line) {
    std::fprintf(stderr, "gnomon: internal error: %s does not hold (%s:%d)\n", expression, file,
                 line);
    std::abort();
}

} // namespace gnomon
