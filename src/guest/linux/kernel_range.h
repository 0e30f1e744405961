// SPDX-License-Identifier: Apache-2.0
/// @file Where an x86-64 Linux kernel is in virtual memory (Documentation/arch/x86/x86_64/mm.rst).
#pragma once

#include "base/address.h"

namespace gnomon::guest::linux_ {

/// The kernel image is linked into this range, and KASLR moves it inside.
inline constexpr Gva kernel_image_begin{0xffff'ffff'8000'0000};
inline constexpr Gva kernel_image_end{0xffff'ffff'c000'0000};
/// CONFIG_PHYSICAL_ALIGN is at least this for x86-64, and KASLR moves by multiples of it.
inline constexpr u64 kernel_slide_alignment = u64{2} << 20;

[[nodiscard]] constexpr bool in_kernel_image(Gva a) {
    return a >= kernel_image_begin && a < kernel_image_end;
}
/// The upper half of the canonical addresses, of four-level paging.
[[nodiscard]] constexpr bool in_kernel_half(Gva a) { return a >= Gva(0xffff'8000'0000'0000); }

} // namespace gnomon::guest::linux_
