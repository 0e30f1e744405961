// SPDX-License-Identifier: Apache-2.0
#include "base/guest_memory.h"

#include <cerrno>
#include <sys/mman.h>
#include <unistd.h>

namespace gnomon {

GuestMemory::GuestMemory(FileDescriptor fd, Hva base, u64 size)
    : m_fd(std::move(fd)), m_base(base), m_size(size) {}

GuestMemory::GuestMemory(GuestMemory&& other) noexcept
    : m_fd(std::move(other.m_fd)), m_base(std::exchange(other.m_base, nullptr)),
      m_size(std::exchange(other.m_size, 0)) {}

GuestMemory::~GuestMemory() {
    if (m_base != nullptr) ::munmap(m_base, m_size);
}

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
    void* base =
        ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd.get(), 0);
    if (base == MAP_FAILED)
        return fail("cannot map {} bytes of guest memory: {}; choose a smaller --memory", bytes,
                    std::strerror(errno));
    return GuestMemory(std::move(fd), static_cast<Hva>(base), bytes);
}

} // namespace gnomon
