// SPDX-License-Identifier: Apache-2.0
/// @file Reading tasks of a known kernel from memory that holds anything at all.
#include "fuzz/support/input.h"
#include "guest/linux/kernel_range.h"
#include "guest/linux/task.h"
#include "tests/guest_linux/image_builder.h"

using namespace gnomon;
using namespace gnomon::fuzz;
namespace linux_ = gnomon::guest::linux_;

namespace {

/// The input, over and over, at all addresses; some pages are not there. Pointers in it lead to
/// itself.
class Memory final : public linux_::GuestVirtualMemory {
public:
    Memory(std::span<const std::byte> bytes, u8 absent)
        : m_bytes(bytes), m_absent(absent), m_small((absent & 0x80) != 0) {}
    [[nodiscard]] bool read(Gva address, std::span<std::byte> out) const override {
        ++reads;
        require(out.size() <= 4096, "a read of more than a structure");
        for (std::size_t i = 0; i < out.size(); ++i) {
            const u64 at = (address + i).value();
            if (m_bytes.empty() || (m_absent != 0 && (at >> 12) % 8 < m_absent % 8)) return false;
            out[i] = m_bytes[at % m_bytes.size()];
            // Numbers that can be process ids, where a structure has 32-bit numbers.
            if (m_small && out.size() == 4 && i >= 2) out[i] = std::byte{0};
        }
        return true;
    }
    mutable u64 reads = 0;

private:
    std::span<const std::byte> m_bytes;
    u8 m_absent;
    bool m_small;
};

const linux_::KernelInfo& kernel(bool per_cpu_in_image) {
    const auto make = [](linux_::test::KallsymsLayout layout) {
        return linux_::KernelInfo::from_vmlinux(linux_::test::small_kernel(layout)).value();
    };
    static const linux_::KernelInfo older = make(linux_::test::KallsymsLayout::v5_0);
    static const linux_::KernelInfo newer = make(linux_::test::KallsymsLayout::v7_0);
    return per_cpu_in_image ? newer : older;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    Input input(data, size);
    const auto& info = kernel(input.flag());
    const auto reader =
        linux_::TaskReader::create(info, input.below(256) * linux_::kernel_slide_alignment);
    require(reader.has_value(), "a task reader for a sound kernel");
    const u8 absent = input.take<u8>();
    const u64 start = input.number(), gs_base = input.number();
    const Memory memory(input.rest(), absent);
    for (const Gva task : {Gva(start), Gva(0xffff888000000000 | (start & 0xffffc0)),
                           reader->current(memory, Gva(gs_base)).value_or(Gva(0))}) {
        const u64 before = memory.reads;
        const auto identity = reader->identify(memory, task);
        require(memory.reads - before <= 256, "one task takes too many reads");
        if (!identity) continue;
        require(identity->task == task, "another task than was asked for");
        require(identity->pid >= 0 && identity->tgid >= 0 && identity->ppid >= 0,
                "a process id is negative");
        require(identity->comm.size() <= 15 && identity->comm.find('\0') == std::string::npos,
                "a name is longer than a task's, or has a NUL");
    }
    const auto text = memory.read_string(Gva(start), 300);
    require(!text || (text->text.size() <= 300 && text->text.find('\0') == std::string::npos),
            "a string is longer than its limit, or has a NUL");
    return 0;
}
