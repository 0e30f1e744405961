// SPDX-License-Identifier: Apache-2.0
#include "base/guest_memory.h"

#include <cerrno>
#include <sys/mman.h>
#include <unistd.h>

namespace gnomon {

GuestMemory::GuestMemory(FileDescriptor fd, GuardedMapping mapping, u64 size)
    : m_fd(std::move(fd)), m_mapping(std::move(mapping)), m_size(size) {}

Result<GuestMemory> GuestMemory::create(u64 bytes) {
    if (bytes < (u64{1} << 20) || bytes % page_size != 0 ||
        bytes > (u64{1} << guest_physical_bits) - (ram_high_base - ram_low_limit))
        return usage_error(
            "guest memory of {} bytes: it must be a multiple of 4 KiB, at least 1 MiB and at "
            "most 1023 GiB; choose another --memory",
            bytes);
    FileDescriptor fd(::memfd_create("gnomon-ram", MFD_CLOEXEC));
    if (!fd) return fail("cannot create guest memory (memfd_create): {}", std::strerror(errno));
    if (::ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0)
        return fail("cannot size guest memory to {} bytes: {}", bytes, std::strerror(errno));
    auto mapping = GuardedMapping::create(
        bytes, {.protection = PROT_READ | PROT_WRITE, .descriptor = fd.get()});
    if (!mapping)
        return fail("cannot map {} bytes of guest memory: {}; choose a smaller --memory", bytes,
                    std::strerror(mapping.error()));
    return GuestMemory(std::move(fd), std::move(*mapping), bytes);
}

} // namespace gnomon
