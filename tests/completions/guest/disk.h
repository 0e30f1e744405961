// SPDX-License-Identifier: Apache-2.0
/// @file The disk as the fragile guest drives it. A controller of another kind is another
/// implementation of these functions; the bugs are in none of them.
#pragma once

#include "machine.h"

namespace fragile {

constexpr u64 block_bytes = 4096;
constexpr unsigned most_slots = 64;

/// Finds the disk and makes it ready. @return the vector at which it will interrupt.
[[nodiscard]] u8 start_disk();
/// How many blocks of block_bytes it has.
[[nodiscard]] u64 disk_blocks();
/// How many commands it takes at a time.
[[nodiscard]] unsigned disk_depth();
/// Where a slot's data is; written by the disk.
[[nodiscard]] const volatile u64* slot_data(unsigned slot);
/// Writes the command to read a block: the disk begins, at once or when it has done those before.
void read_block(unsigned slot, u64 block);
/// Takes what the disk has completed and nobody has taken yet. @return whether there was anything.
/// @param error whether the command failed.
[[nodiscard]] bool take_completion(unsigned& slot, bool& error);
/// Tells the disk that all completions have been taken: it may ask for an interrupt again.
void acknowledge_disk();
/// Tells the interrupt controller that the handler is done.
void end_of_interrupt();

} // namespace fragile
