// SPDX-License-Identifier: Apache-2.0
/// @file The control port's lines, which a hostile guest can write as it likes.
#include "guest/init/protocol.h"

using namespace gnomon;

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    guest::ControlParser parser;
    // In two pieces, so that lines are also cut.
    const auto bytes = std::as_bytes(std::span(data, size));
    (void)parser.feed(bytes.first(size / 2));
    (void)parser.feed(bytes.subspan(size / 2));
    return 0;
}
