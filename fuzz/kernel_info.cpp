// SPDX-License-Identifier: Apache-2.0
/// @file BTF and kallsyms of a hostile kernel image.
#include "guest/linux/kernel_info.h"

using namespace gnomon;

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    // SAFETY: bytes as bytes.
    const auto bytes = std::as_bytes(std::span(data, size));
    if (const auto btf = guest::linux_::Btf::parse(bytes)) {
        (void)btf->offset_of("task_struct", "pid");
        (void)btf->offset_of("pt_regs", "ax");
    }
    if (const auto info = guest::linux_::KernelInfo::from_vmlinux(bytes))
        (void)info->slide_from(Gva(0xffffffff81c00000));
    return 0;
}
