// SPDX-License-Identifier: Apache-2.0
#include "native_cpu.h"

#include "base/file_descriptor.h"
#include "base/verify.h"
#include "host_state.h"
#include "layout.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>
#include <xbyak/xbyak.h>

namespace gnomon::test {

namespace {

/// What the stub and the signal handler share. At a fixed address below 2 GiB, so that the stub
/// needs no register to find it; outside the reservation, so that no program does.
struct Shared {
    u64 gpr[16];
    u64 rflags;
    u64 target;
    u64 fs_base, gs_base;
    u64 host_fs, host_gs, host_rsp;
    u64 iret_frame[5]; ///< RIP, CS, RFLAGS, RSP, SS
    u64 selector[processor::segment_count];
    u64 stop; ///< number of the stop that was reached
    u64 running;
    u64 stepping;    ///< single-step traps are recorded
    u64 stop_rip[4]; ///< where the program ends
    Step* steps;
    u64 step_count;
    u64 fault_vector, fault_error, fault_cr2, fault_rip, fault_rflags;
    HostState::Part parts[5];
    u64 fault_selectors;                            ///< CS in bits 15:0, SS in bits 63:48
    alignas(64) u8 extended[HostState::size_limit]; ///< in the host's standard format
};

constexpr u64 stub_address = 0x0f000000, shared_address = 0x0f010000;
constexpr u64 stub_size = 0x1000, shared_size = 0x4000;
constexpr u64 stop_count = 4;
static_assert(sizeof(Shared::stop_rip) == stop_count * sizeof(u64));
static_assert(sizeof(Shared) <= shared_size);

// SAFETY: mapped for as long as a NativeCpu exists.
Shared& shared() { return *reinterpret_cast<Shared*>(shared_address); }

/// Enters and leaves a program.
class Stub : public Xbyak::CodeGenerator {
public:
    explicit Stub(void* memory) : CodeGenerator(stub_size, memory) {
        const Xbyak::Reg64 all[] = {rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi,
                                    r8,  r9,  r10, r11, r12, r13, r14, r15};
        for (const auto& r : {rbx, rbp, r12, r13, r14, r15})
            push(r);
        mov(at(offsetof(Shared, host_rsp)), rsp);
        save_base(fs_save, offsetof(Shared, host_fs));
        save_base(gs_save, offsetof(Shared, host_gs));
        mov(eax, layout::user_ss);
        for (const unsigned name :
             {processor::seg_es, processor::seg_ds, processor::seg_fs, processor::seg_gs})
            db(0x8e), db(0xc0U | name << 3); // MOV name, EAX
        load_base(fs_save, offsetof(Shared, fs_base));
        load_base(gs_save, offsetof(Shared, gs_base));
        mov(eax, static_cast<u32>(HostState::components()));
        xor_(edx, edx);
        extended_state(5); // XRSTOR64
        for (unsigned i = 0; i < 16; ++i)
            if (i != processor::rsp) mov(all[i], at(offsetof(Shared, gpr) + 8 * i));
        // IRET loads RSP, RFLAGS and RIP at once and serialises, as code that was just written
        // through another mapping asks for.
        mov(rsp, shared_address + offsetof(Shared, iret_frame));
        db(0x48), db(0xcf);

        for (u64 i = 0; i < stop_count; ++i) {
            m_stops[i] = reinterpret_cast<u64>(getCurr());
            mov(qword[Xbyak::RegExp(std::size_t{shared_address + offsetof(Shared, stop)})],
                static_cast<u32>(i));
            jmp(m_leave, T_NEAR);
        }
        L(m_leave);
        m_leave_address = reinterpret_cast<u64>(getCurr());
        for (unsigned i = 0; i < 16; ++i)
            mov(at(offsetof(Shared, gpr) + 8 * i), all[i]);
        mov(rsp, at(offsetof(Shared, host_rsp)));
        pushfq();
        pop(rax);
        mov(at(offsetof(Shared, rflags)), rax);
        push(0x202);
        popfq();
        for (unsigned name = 0; name < processor::segment_count; ++name) {
            db(0x8c), db(0xc0U | name << 3); // MOV EAX, name
            mov(at(offsetof(Shared, selector) + 8 * name), rax);
        }
        save_base(fs_save, offsetof(Shared, fs_base));
        save_base(gs_save, offsetof(Shared, gs_base));
        load_base(fs_save, offsetof(Shared, host_fs));
        load_base(gs_save, offsetof(Shared, host_gs));
        mov(eax, static_cast<u32>(HostState::components()));
        xor_(edx, edx);
        extended_state(4); // XSAVE64
        fninit();
        mov(dword[rsp - 8], 0x1f80);
        ldmxcsr(dword[rsp - 8]);
        vzeroupper();
        for (const auto& r : {r15, r14, r13, r12, rbp, rbx})
            pop(r);
        ret();
    }
    [[nodiscard]] u64 leave_address() const { return m_leave_address; }
    [[nodiscard]] u64 stop_address(u64 i) const { return m_stops[i]; }

private:
    Xbyak::Address at(std::size_t offset) {
        return qword[Xbyak::RegExp(std::size_t{shared_address + offset})];
    }
    /// REX.W 0F AE /op on Shared::extended, by absolute address.
    void extended_state(unsigned op) {
        db(0x48), db(0x0f), db(0xae), db(op << 3 | 4), db(0x25);
        dd(static_cast<u32>(shared_address + offsetof(Shared, extended)));
    }
    /// RDFSBASE RAX, RDGSBASE RAX: F3 REX.W 0F AE /0, /1. WRFSBASE and WRGSBASE: /2, /3.
    static constexpr u8 fs_save = 0xc0, gs_save = 0xc8;
    void save_base(u8 modrm, std::size_t offset) {
        db(0xf3), db(0x48), db(0x0f), db(0xae), db(modrm);
        mov(at(offset), rax);
    }
    void load_base(u8 save_modrm, std::size_t offset) {
        mov(rax, at(offset));
        db(0xf3), db(0x48), db(0x0f), db(0xae), db(save_modrm + 0x10U);
    }

    Xbyak::Label m_leave;
    u64 m_leave_address = 0;
    u64 m_stops[stop_count] = {};
};

// What runs while the FS base may be the program's: no instrumentation that keeps thread-local
// state.
#ifdef __clang__
#define GNOMON_PLAIN_CODE __attribute__((no_sanitize("address", "undefined", "coverage")))
#else
#define GNOMON_PLAIN_CODE __attribute__((no_sanitize("address", "undefined")))
#endif

constexpr int handled[] = {SIGSEGV, SIGFPE, SIGILL, SIGBUS, SIGTRAP};
struct sigaction previous[64];
u64 leave_address = 0;
u64 stop_addresses[stop_count];
alignas(64) u8 signal_stack[64 * 1024];

/// Without the library, which may use thread-local storage.
GNOMON_PLAIN_CODE void copy_bytes(void* to, const void* from, std::size_t size) {
    asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
}

/// Records the state that a single-step trap has interrupted; whether the program goes on.
GNOMON_PLAIN_CODE bool note_step(const mcontext_t& context, u64 rip) {
    // SAFETY: mapped for as long as a NativeCpu exists.
    Shared& s = *reinterpret_cast<Shared*>(shared_address);
    if (s.step_count == step_limit) return false;
    Step& step = s.steps[s.step_count++];
    static constexpr int numbers[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                      REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                      REG_R12, REG_R13, REG_R14, REG_R15};
    for (unsigned i = 0; i < 16; ++i)
        step.gpr[i] = static_cast<u64>(context.gregs[numbers[i]]);
    step.rip = rip;
    step.rflags = static_cast<u64>(context.gregs[REG_EFL]) & ~processor::rflags::rf;
    step.cs = static_cast<u16>(context.gregs[REG_CSGSFS]);
    // The frame holds the standard format of XSAVE.
    for (const HostState::Part& part : s.parts)
        copy_bytes(reinterpret_cast<u8*>(&step.extended) + part.here,
                   reinterpret_cast<const u8*>(context.fpregs) + part.there, part.size);
    for (const u64 stop : s.stop_rip)
        if (rip == stop) return false;
    return true;
}

/// The FS base may be the program's here: nothing that uses thread-local storage before `running`
/// is seen to be 0.
GNOMON_PLAIN_CODE void handle(int number, siginfo_t* info, void* context) {
    // SAFETY: mapped for as long as a NativeCpu exists.
    Shared& s = *reinterpret_cast<Shared*>(shared_address);
    if (s.running != 0) {
        mcontext_t& machine = static_cast<ucontext_t*>(context)->uc_mcontext;
        auto& registers = machine.gregs;
        const auto rip = static_cast<u64>(registers[REG_RIP]);
        constexpr auto tf = static_cast<greg_t>(processor::rflags::tf);
        constexpr greg_t debug_trap = 1;
        if (s.stepping != 0 && registers[REG_TRAPNO] == debug_trap) {
            if (rip >= stub_address && rip < stub_address + stub_size) {
                registers[REG_EFL] &= ~tf; // the trap was held until the program had ended
                return;
            }
            if (note_step(machine, rip)) return;
        }
        s.running = 0;
        s.fault_vector = static_cast<u64>(registers[REG_TRAPNO]);
        s.fault_error = static_cast<u64>(registers[REG_ERR]);
        s.fault_cr2 = static_cast<u64>(registers[REG_CR2]);
        s.fault_rip = rip;
        s.fault_rflags = static_cast<u64>(registers[REG_EFL]);
        s.fault_selectors = static_cast<u64>(registers[REG_CSGSFS]);
        s.stop = stop_count;
        registers[REG_EFL] &= ~tf;
        registers[REG_RIP] = static_cast<greg_t>(leave_address);
        registers[REG_CSGSFS] = static_cast<greg_t>((s.fault_selectors & 0x0000ffffffff0000) |
                                                    layout::user_cs | u64{layout::user_ss} << 48);
        return;
    }
    const struct sigaction& old = previous[number];
    if ((old.sa_flags & SA_SIGINFO) != 0 && old.sa_sigaction != nullptr) {
        old.sa_sigaction(number, info, context);
        return;
    }
    ::signal(number, SIG_DFL);
}

/// FF 25: JMP [RIP + 0], then the address. In 32-bit code EA: JMP ptr16:32.
constexpr std::size_t native_stop_size = 14, native_stop_size32 = 7;

} // namespace

bool host_has_fsgsbase() {
    constexpr unsigned long hwcap2_fsgsbase = 1 << 1;
    return (getauxval(AT_HWCAP2) & hwcap2_fsgsbase) != 0;
}

Result<std::unique_ptr<NativeCpu>> NativeCpu::create() {
    if (!host_has_fsgsbase()) return fail("the host does not let programs use WRFSBASE");
    std::unique_ptr<NativeCpu> n(new NativeCpu);
    const auto map = [&n](u64 address, std::size_t size, int protection, int flags, int fd,
                          u64 offset) -> u8* {
        void* const p = ::mmap(reinterpret_cast<void*>(address), size, protection, flags, fd,
                               static_cast<off_t>(offset));
        if (p == MAP_FAILED) return nullptr;
        n->m_mappings.push_back(p);
        n->m_sizes.push_back(size);
        return static_cast<u8*>(p);
    };
    constexpr int fresh = MAP_FIXED_NOREPLACE;
    constexpr u64 code_size = layout::code_pages * page_size;
    const FileDescriptor file(::memfd_create("instructions", MFD_CLOEXEC));
    if (file.get() < 0 ||
        ::ftruncate(file.get(), static_cast<off_t>(code_size + layout::data_size)) != 0)
        return fail("memfd_create: {}", std::strerror(errno));
    u8* const stub = map(stub_address, stub_size, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | fresh, -1, 0);
    const u8* const common = map(shared_address, shared_size, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS | fresh, -1, 0);
    const u8* const reserve =
        map(layout::reserve_begin, layout::reserve_end - layout::reserve_begin, PROT_NONE,
            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | fresh, -1, 0);
    const u8* const low = map(layout::low_begin, layout::low_end - layout::low_begin, PROT_NONE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | fresh, -1, 0);
    if (stub == nullptr || common == nullptr || reserve == nullptr || low == nullptr)
        return fail("the fixed addresses of this test are taken: {}", std::strerror(errno));
    u8* const view = map(0, code_size + layout::data_size, PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_POPULATE, file.get(), 0);
    bool ok = view != nullptr && map(layout::code_begin, code_size, PROT_READ | PROT_EXEC,
                                     MAP_SHARED | MAP_FIXED, file.get(), 0) != nullptr;
    for (u64 i = 0; i < layout::data_pages; ++i) {
        if (layout::data_kinds[i] == layout::PageKind::absent) continue;
        const bool writable = layout::data_kinds[i] != layout::PageKind::read_only;
        ok = ok &&
             map(layout::data_begin + i * page_size, page_size,
                 PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED | MAP_FIXED | MAP_POPULATE,
                 file.get(), code_size + i * page_size) != nullptr;
    }
    if (!ok) return fail("mmap: {}", std::strerror(errno));
    n->m_code = {view, code_size};
    n->m_data = {view + code_size, layout::data_size};

    std::ranges::copy(n->m_host_state.parts(), shared().parts);
    const Stub assembled(stub);
    leave_address = assembled.leave_address();
    for (u64 i = 0; i < stop_count; ++i)
        stop_addresses[i] = assembled.stop_address(i);
    if (::mprotect(stub, stub_size, PROT_READ | PROT_EXEC) != 0)
        return fail("mprotect: {}", std::strerror(errno));

    stack_t stack{};
    stack.ss_sp = signal_stack;
    stack.ss_size = sizeof signal_stack;
    VERIFY(::sigaltstack(&stack, nullptr) == 0);
    struct sigaction action {};
    action.sa_sigaction = handle;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigemptyset(&action.sa_mask);
    for (const int number : handled)
        VERIFY(::sigaction(number, &action, &previous[number]) == 0);
    return n;
}

NativeCpu::~NativeCpu() {
    if (!m_code.empty()) {
        for (const int number : handled)
            ::sigaction(number, &previous[number], nullptr);
        stack_t stack{};
        stack.ss_flags = SS_DISABLE;
        ::sigaltstack(&stack, nullptr);
    }
    for (std::size_t i = m_mappings.size(); i-- > 0;)
        ::munmap(m_mappings[i], m_sizes[i]);
}

void NativeCpu::load(const Program& program) {
    const auto place = [this](u64 address, const void* bytes, std::size_t size) {
        VERIFY(address >= layout::code_begin && address + size <= layout::code_end);
        std::memcpy(m_code.data() + (address - layout::code_begin), bytes, size);
    };
    for (const Bytes& b : program.code)
        place(b.address, b.content.data(), b.content.size());
    VERIFY(program.stops.size() <= stop_count);
    for (std::size_t i = 0; i < program.stops.size(); ++i) {
        const Stop& stop = program.stops[i];
        if (stop.code32) {
            u8 jump[native_stop_size32] = {0xea};
            std::memcpy(jump + 1, &stop_addresses[i], 4);
            std::memcpy(jump + 5, &layout::user_cs, sizeof layout::user_cs);
            place(stop.address, jump, sizeof jump);
        } else {
            u8 jump[native_stop_size] = {0xff, 0x25};
            std::memcpy(jump + 6, &stop_addresses[i], sizeof stop_addresses[i]);
            place(stop.address, jump, sizeof jump);
        }
    }
}

std::span<const Step> NativeCpu::steps() const {
    return {m_steps.data(), static_cast<std::size_t>(shared().step_count)};
}

Outcome NativeCpu::run(const Program& program, MachineState& state) {
    Shared& s = shared();
    std::memcpy(s.gpr, state.gpr, sizeof s.gpr);
    s.fs_base = state.fs_base;
    s.gs_base = state.gs_base;
    m_host_state.write(s.extended, state.extended);
    s.stop = stop_count;
    s.step_count = 0;
    s.stepping = program.stepped ? 1 : 0;
    if (program.stepped) {
        if (m_steps.empty()) m_steps.resize(step_limit);
        s.steps = m_steps.data();
        for (std::size_t i = 0; i < stop_count; ++i)
            s.stop_rip[i] = i < program.stops.size() ? program.stops[i].address : 0;
    }
    const u64 frame[] = {program.rip, program.code32 ? layout::user_cs32 : layout::user_cs,
                         state.rflags | processor::rflags::if_, state.gpr[processor::rsp],
                         layout::user_ss};
    std::memcpy(s.iret_frame, frame, sizeof frame);
    s.running = 1;
    // SAFETY: assembled by Stub as a function without arguments that keeps what the ABI says is
    // kept.
    reinterpret_cast<void (*)()>(stub_address)();
    const bool faulted = s.running == 0;
    s.running = 0;
    std::memcpy(state.gpr, s.gpr, sizeof s.gpr);
    state.rflags = s.rflags;
    state.fs_base = s.fs_base;
    state.gs_base = s.gs_base;
    m_host_state.read(state.extended, s.extended);
    for (unsigned i = 0; i < processor::segment_count; ++i)
        state.selector[i] = static_cast<u16>(s.selector[i]);

    Outcome out;
    if (faulted) {
        state.rflags = s.fault_rflags & ~processor::rflags::rf;
        state.selector[processor::seg_cs] = static_cast<u16>(s.fault_selectors);
        state.selector[processor::seg_ss] = static_cast<u16>(s.fault_selectors >> 48);
        const auto stop = std::ranges::find(program.stops, s.fault_rip, &Stop::address);
        if (program.stepped && s.fault_vector == static_cast<u64>(processor::Vector::db)) {
            if (stop != program.stops.end()) {
                out.kind = Outcome::Kind::stopped;
                out.rip = s.fault_rip;
                return out;
            }
            out.note = "more steps than are recorded";
            return out;
        }
        out.kind = Outcome::Kind::faulted;
        out.rip = s.fault_rip;
        out.vector = static_cast<u8>(s.fault_vector);
        out.error_code = static_cast<u32>(s.fault_error);
        if (out.vector == static_cast<u8>(processor::Vector::pf)) out.cr2 = s.fault_cr2;
    } else if (s.stop < program.stops.size()) {
        out.kind = Outcome::Kind::stopped;
        out.rip = program.stops[s.stop].address;
        state.selector[processor::seg_cs] =
            program.stops[s.stop].code32 ? layout::user_cs32 : layout::user_cs;
    } else {
        out.note = fmt::format("stop {} of {}", s.stop, program.stops.size());
    }
    return out;
}

} // namespace gnomon::test
