// SPDX-License-Identifier: Apache-2.0
#include "processor/soft/cpu_windows.h"

#include "base/verify.h"

#include <asm/prctl.h>
#include <cerrno>
#include <cstring>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace gnomon::processor::soft {

Result<CpuWindows> CpuWindows::create(unsigned count) {
    const auto failed = [](int error) {
        return fail("cannot map the processor's state: {}", std::strerror(error));
    };
    CpuWindows w;
    w.m_fd = FileDescriptor(::memfd_create("gnomon-cpu", MFD_CLOEXEC));
    if (!w.m_fd || ::ftruncate(w.m_fd.get(), static_cast<off_t>(cpu_bytes)) != 0)
        return failed(errno);
    auto mapping = GuardedMapping::create(count * stride, {.protection = PROT_NONE});
    if (!mapping) return failed(mapping.error());
    w.m_mapping = std::move(*mapping);
    constexpr int rights = PROT_READ | PROT_WRITE;
    for (unsigned n = 0; n < count; ++n) {
        const Hva window = w.m_mapping.base() + n * stride;
        if (::mmap(window, cpu_bytes, rights, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, w.m_fd.get(),
                   0) == MAP_FAILED ||
            ::mprotect(window + cpu_bytes + mapping_guard_size, sets_bytes, rights) != 0)
            return failed(errno);
    }
    w.m_first = w.m_mapping.base() + (cpu_bytes - sizeof(Cpu));
    // SAFETY: within the mapping, and aligned, since the end of its pages is.
    w.m_cpu.reset(new (w.m_first) Cpu);
    return w;
}

void set_gs_base(Hva address) {
    // Linux lets user mode execute WRGSBASE when this bit is set (HWCAP2_FSGSBASE).
    static const bool instruction = (::getauxval(AT_HWCAP2) & 2) != 0;
    if (instruction)
        asm volatile("wrgsbase %0" : : "r"(address));
    else
        VERIFY(::syscall(SYS_arch_prctl, ARCH_SET_GS, address) == 0);
}

} // namespace gnomon::processor::soft
