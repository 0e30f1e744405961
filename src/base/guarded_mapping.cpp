// SPDX-License-Identifier: Apache-2.0
#include "base/guarded_mapping.h"

#include <cerrno>
#include <sys/mman.h>

namespace gnomon {

tl::expected<GuardedMapping, int> GuardedMapping::create(u64 bytes, const Options& options) {
    const u64 size = (bytes + page_offset_mask) & ~page_offset_mask;
    void* const outer = ::mmap(
        nullptr, size + 2 * mapping_guard_size, PROT_NONE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (options.below_2gib ? MAP_32BIT : 0), -1, 0);
    if (outer == MAP_FAILED) return tl::unexpected(errno);
    GuardedMapping mapping(static_cast<Hva>(outer) + mapping_guard_size, size);
    const int kind = options.descriptor >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
    if (::mmap(mapping.m_base, size, options.protection, kind | MAP_FIXED | MAP_NORESERVE,
               options.descriptor, 0) == MAP_FAILED)
        return tl::unexpected(errno);
    return mapping;
}

GuardedMapping& GuardedMapping::operator=(GuardedMapping&& other) noexcept {
    if (this == &other) return *this;
    unmap();
    m_base = std::exchange(other.m_base, nullptr);
    m_size = std::exchange(other.m_size, 0);
    return *this;
}

void GuardedMapping::unmap() {
    if (m_base != nullptr) ::munmap(m_base - mapping_guard_size, m_size + 2 * mapping_guard_size);
    m_base = nullptr;
}

} // namespace gnomon
