// SPDX-License-Identifier: Apache-2.0
/// @file Kernel files: whatever is parsed must also load, or say why not.
#include "guest/boot/linux_boot.h"

#include <vector>

using namespace gnomon;

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    // SAFETY: bytes as bytes.
    const auto* bytes = reinterpret_cast<const std::byte*>(data);
    const auto image =
        guest::KernelImage::parse("fuzz", std::vector<std::byte>(bytes, bytes + size));
    if (!image) return 0;
    auto memory = GuestMemory::create(u64{8} << 20);
    if (!memory) return 0;
    if (guest::load_linux(*memory, {.kernel = *image, .command_line = "quiet"}))
        (void)guest::extract_vmlinux(*image);
    return 0;
}
