// SPDX-License-Identifier: Apache-2.0
/// @file Random register and memory contents in which the interesting values are not rare.
#pragma once

#include "machine_state.h"
#include "random.h"

#include <span>

namespace gnomon::test {

[[nodiscard]] u64 random_word(Random& random);
/// Integers and floating-point numbers of all widths, special ones among them.
void fill_interesting(Random& random, std::span<u8> out);
/// Registers of all kinds; `calm`: all x87 and SSE exceptions masked, none pending; `code32`: for
/// compatibility mode, where the upper halves of the first eight are not to be relied upon.
[[nodiscard]] MachineState random_state(Random& random, bool calm, bool code32);
/// An image for FXRSTOR, or the beginning of one for XRSTOR, that is mostly valid.
void fill_extended_image(Random& random, std::span<u8> out);

} // namespace gnomon::test
