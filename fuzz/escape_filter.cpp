// SPDX-License-Identifier: Apache-2.0
/// @file The keys that are Gnomon's: whatever is typed, in whatever pieces, means the same.
#include "cli/escape_filter.h"
#include "fuzz/support/input.h"

#include <utility>
#include <vector>

using namespace gnomon;
using namespace gnomon::fuzz;
using Command = cli::EscapeFilter::Command;

namespace {

struct Meaning {
    std::vector<std::byte> guest;
    std::vector<Command> commands;
    friend bool operator==(const Meaning&, const Meaning&) = default;
};

Meaning type(std::span<const std::byte> keys, std::size_t piece) {
    cli::EscapeFilter filter;
    Meaning out;
    while (!keys.empty()) {
        const std::size_t length = std::min(piece, keys.size());
        auto typed = keys.first(length);
        keys = keys.subspan(length);
        do {
            const std::size_t before = typed.size();
            if (const Command command = filter.consume(typed, out.guest); command != Command::none)
                out.commands.push_back(command);
            require(typed.size() < before || before == 0, "keys are not consumed");
        } while (!typed.empty());
    }
    return out;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    const auto keys = std::as_bytes(std::span(data, size));
    const Meaning whole = type(keys, std::max<std::size_t>(keys.size(), 1));
    require(whole == type(keys, 1) && whole == type(keys, 3), "keys mean another thing in pieces");
    require(whole.guest.size() + 2 * whole.commands.size() <= keys.size(), "keys out of nothing");
    return 0;
}
