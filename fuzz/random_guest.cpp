// SPDX-License-Identifier: Apache-2.0
/// @file A guest whose code is the input, on a whole virtual machine with everything watched.
#include "hostile_guest/hostile_machine.h"

#include <cstdlib>
#include <cstring>

using namespace gnomon;
using namespace gnomon::test::hostile;

namespace {

/// A machine serves many inputs, until it powers off.
HostileMachine& machine() {
    static GuestStatistics statistics;
    static std::unique_ptr<HostileMachine> made;
    if (made == nullptr || !made->usable()) {
        made.reset();
        auto result = HostileMachine::create({}, nullptr, statistics);
        if (!result) {
            fmt::print(stderr, "{}\n", result.error().message);
            std::abort();
        }
        made = std::move(*result);
    }
    return *made;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    HostileMachine& m = machine();
    m.prepare(std::span(data, size));
    const std::string failure = m.run({}, size % 8 == 0);
    if (failure.empty()) return 0;
    fmt::print(stderr, "{}\n", failure);
    std::abort();
}
