// SPDX-License-Identifier: Apache-2.0
/// @file The guest's RAM: one memfd, mapped once into this process, placed below 3 GiB and above 4
/// GiB.
#pragma once

#include "base/address.h"
#include "base/file_descriptor.h"
#include "base/guarded_mapping.h"
#include "base/result.h"

#include <array>
#include <cstring>
#include <span>
#include <type_traits>

namespace gnomon {

/// RAM below this guest-physical address is identity-placed; the rest continues at `ram_high_base`.
inline constexpr u64 ram_low_limit = u64{3} << 30;
inline constexpr u64 ram_high_base = u64{4} << 30;

/// Width of guest-physical addresses shown by CPUID leaf 0x80000008; higher bits in a PTE are
/// reserved.
inline constexpr unsigned guest_physical_bits = 40;

/// Owner of the guest's RAM. Threads: any, the contents are shared with the running guest; a reader
/// that needs a stable value copies first. All accessors are bounds-checked and overflow-safe.
class GuestMemory {
public:
    /// @param bytes a multiple of 4 KiB, at least 1 MiB.
    [[nodiscard]] static Result<GuestMemory> create(u64 bytes);
    GuestMemory(GuestMemory&&) noexcept = default;
    GuestMemory& operator=(GuestMemory&&) = delete;
    ~GuestMemory() = default;

    [[nodiscard]] u64 size() const { return m_size; }
    [[nodiscard]] u64 low_size() const { return m_size < ram_low_limit ? m_size : ram_low_limit; }
    [[nodiscard]] u64 high_size() const { return m_size - low_size(); }
    [[nodiscard]] Hva base() const { return m_mapping.base(); }
    [[nodiscard]] int fd() const { return m_fd.get(); }

    /// The host address of [gpa, gpa + size), or nullptr unless all of it is RAM and contiguous.
    [[nodiscard]] Hva hva(Gpa gpa, u64 size) const {
        const u64 a = gpa.value();
        if (a < low_size()) return size <= low_size() - a ? base() + a : nullptr;
        if (a >= ram_high_base && a - ram_high_base < high_size())
            return size <= high_size() - (a - ram_high_base)
                       ? base() + ram_low_limit + (a - ram_high_base)
                       : nullptr;
        return nullptr;
    }
    [[nodiscard]] bool is_ram(Gpa gpa) const { return hva(gpa, 1) != nullptr; }

    [[nodiscard]] bool read(Gpa gpa, std::span<std::byte> out) const {
        const Hva p = hva(gpa, out.size());
        if (p == nullptr) return false;
        if (!out.empty()) std::memcpy(out.data(), p, out.size());
        return true;
    }
    [[nodiscard]] bool write(Gpa gpa, std::span<const std::byte> in) {
        const Hva p = hva(gpa, in.size());
        if (p == nullptr) return false;
        if (!in.empty()) std::memcpy(p, in.data(), in.size());
        return true;
    }
    template <class T>
    requires std::is_trivially_copyable_v<T>
    [[nodiscard]] bool read_object(Gpa gpa, T& out) const {
        return read(gpa, std::as_writable_bytes(std::span(&out, 1)));
    }
    template <class T>
    requires std::is_trivially_copyable_v<T>
    [[nodiscard]] bool write_object(Gpa gpa, const T& in) {
        return write(gpa, std::as_bytes(std::span(&in, 1)));
    }

private:
    GuestMemory(FileDescriptor fd, GuardedMapping mapping, u64 size);

    FileDescriptor m_fd;
    GuardedMapping m_mapping;
    u64 m_size = 0;
};

} // namespace gnomon
