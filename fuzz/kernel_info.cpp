// SPDX-License-Identifier: Apache-2.0
/// @file A whole hostile vmlinux: ELF, sections, kallsyms and BTF, and what is concluded from them.
#include "guest/linux/kernel_info.h"
#include "fuzz/support/input.h"
#include "guest/linux/kernel_range.h"

using namespace gnomon;
using namespace gnomon::fuzz;

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    const auto bytes = std::as_bytes(std::span(data, size));
    const auto info = guest::linux_::KernelInfo::from_vmlinux(bytes);
    if (!info) {
        require(info.error().message.find('\n') == std::string::npos, "an error of several lines");
        return 0;
    }
    for (const std::string& line : info->missing)
        require(line.find('\n') == std::string::npos, "a diagnostic of several lines");
    // Whatever the guest says about its LSTAR, a slide moves the kernel within its range.
    for (const u64 lstar : {u64{0xffffffff81c00000}, ~u64{0}, u64{0}, u64{0xffffffffa0000040}}) {
        const auto slide = info->slide_from(Gva(lstar));
        if (!slide) continue;
        require(*slide % guest::linux_::kernel_slide_alignment == 0, "a slide is not aligned");
        require(guest::linux_::in_kernel_image(Gva(lstar)), "a slide to outside of the kernel");
    }
    return 0;
}
