// SPDX-License-Identifier: Apache-2.0
// Page faults and mappings.
#include "rows.h"

#include <sys/mman.h>
#include <unistd.h>

namespace bench {

namespace {

constexpr std::size_t page = 4096;
constexpr std::size_t pages = 128; ///< few, so that a sample is short

class Mapping {
public:
    Mapping(std::size_t bytes, int flags, int file)
        : m_bytes(bytes), m_address(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, file, 0)) {
        if (m_address == MAP_FAILED) give_up("mmap");
    }
    ~Mapping() {
        if (munmap(m_address, m_bytes) != 0) give_up("munmap");
    }
    Mapping(const Mapping&) = delete;
    Mapping& operator=(const Mapping&) = delete;

    /// A huge page would be one fault for all of them.
    void no_huge_pages() const {
        if (madvise(m_address, m_bytes, MADV_NOHUGEPAGE) != 0) give_up("madvise");
    }
    /// Writes to the first `count` pages.
    void touch(std::size_t count) const {
        auto* const bytes = static_cast<volatile char*>(m_address);
        for (std::size_t i = 0; i < count; i++)
            bytes[i * page] = 1;
    }

private:
    std::size_t m_bytes;
    void* m_address;
};

/// Nanoseconds for each page of a fresh mapping that is written to. Not timed: mapping and
/// unmapping.
double touch_time(const Mapping& mapping) {
    const std::uint64_t start = now();
    mapping.touch(pages);
    return static_cast<double>(now() - start) / pages;
}

} // namespace

Outcome fault_anonymous(Budget budget) {
    return least_of(budget, [] {
        const Mapping mapping(pages * page, MAP_PRIVATE | MAP_ANONYMOUS, -1);
        mapping.no_huge_pages();
        return touch_time(mapping);
    });
}

// A memfd is a file of tmpfs. Its pages are there already. Writes, since reads of a file fault in
// neighbours too.
Outcome fault_file(Budget budget) {
    const int file = memfd_create("bench", MFD_CLOEXEC);
    if (file < 0) give_up("memfd_create");
    if (ftruncate(file, pages * page) != 0) give_up("ftruncate");
    Mapping(pages * page, MAP_SHARED, file).touch(pages);
    const Outcome outcome =
        least_of(budget, [file] { return touch_time(Mapping(pages * page, MAP_SHARED, file)); });
    close(file);
    return outcome;
}

Outcome map_unmap(Budget budget) {
    return least_of_batches(budget, [](std::uint64_t count) {
        for (; count != 0; count--)
            Mapping(16 * page, MAP_PRIVATE | MAP_ANONYMOUS, -1).touch(1);
    });
}

} // namespace bench
