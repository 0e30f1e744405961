// SPDX-License-Identifier: Apache-2.0
/// @file Programs of one instruction, or of a sequence, with a state in which they do something.
#pragma once

#include "forms.h"
#include "machine_state.h"

#include <optional>

namespace gnomon::test {

/// One instruction of `form`, whose memory operands lie at any place of the data area, across page
/// ends too, and sometimes where it faults. Nothing if chance gave none that is safe to run
/// natively.
/// @param place number of the Place that the memory operand is to have; nothing: any address.
[[nodiscard]] std::optional<Program> make_single(const FormList& list, const Form& form,
                                                 std::optional<unsigned> place, Random& random);

/// The same for the instruction that `sample` holds; where it lies is for this to say.
[[nodiscard]] std::optional<Program> make_single_of(const FormList& list, const Form& form,
                                                    const Sample& sample, Random& random);

/// Some 50 instructions: of `forms`, and runs of accesses by way of the same registers; with
/// forward branches, a loop, a call. None faults.
[[nodiscard]] std::optional<Program>
make_sequence(const FormList& list, const std::vector<const Form*>& forms, Random& random);
/// Gives a sequence other contents of registers and memory.
void vary_sequence(Program& program, Random& random);
/// Whether instructions of the form can be part of a sequence.
[[nodiscard]] bool fits_sequence(const Form& form);

} // namespace gnomon::test
