// SPDX-License-Identifier: Apache-2.0
#include "hostile_guest/hostile_machine.h"

#include "base/host_time.h"
#include "base/verify.h"
#include "monitor/shadow/strict_walker.h"

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstddef>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <sys/mman.h>
#include <sys/time.h>

extern "C" const char __executable_start, etext; // by the linker

namespace gnomon::test::hostile {

using processor::ControlBlock;
using processor::Injection;
using processor::RegisterBlock;
using processor::Segment;

namespace {

constexpr u64 canary = 0xc0a1'a7e5'c0a1'a7e5;
constexpr unsigned hypercall_slack = 64; ///< entries that end the substitute handler

/// An ELF file with nothing in it, where there is no kernel.
std::vector<std::byte> empty_image() {
    std::vector<std::byte> bytes(64 + 56 + 16);
    const auto put = [&](std::size_t at, auto value) {
        std::memcpy(bytes.data() + at, &value, sizeof value);
    };
    put(0, u32{0x464c457f});
    put(4, u32{0x00010102});
    put(16, u16{2});
    put(18, u16{62});
    put(20, u32{1});
    put(24, u64{0x100000});
    put(32, u64{64});
    put(52, u16{64});
    put(54, u16{56});
    put(56, u16{1});
    put(64, u32{1});
    put(68, u32{5});
    put(72, u64{120});
    put(80, u64{0x100000});
    put(88, u64{0x100000});
    put(96, u64{16});
    put(104, u64{16});
    return bytes;
}

template <class T>
T must(Result<T> result) {
    if (!result) {
        fmt::print(stderr, "{}\n", result.error().message);
        std::abort();
    }
    return std::move(*result);
}

/// CPU time of this thread, in ns.
u64 thread_time() { return host_time_ns(CLOCK_THREAD_CPUTIME_ID); }

Segment flat(u16 sel, u32 rights) {
    Segment s;
    s.selector = sel;
    s.limit = 0xffffffff;
    s.rights = rights | static_cast<u32>(sel & 3) << 5;
    return s;
}

} // namespace

// ---------------------------------------------------------------- kicks

namespace {
// A signal handler has no other way to know whom to kick.
std::atomic<processor::Processor*> kicked_processor = nullptr;
std::atomic<unsigned> kick_count = 0;

void on_alarm(int) {
    if (processor::Processor* const p = kicked_processor.load()) p->kick();
    kick_count.fetch_add(1);
}
} // namespace

Kicker::Kicker(processor::Processor& processor, unsigned interval_us) {
    kick_count = 0;
    kicked_processor = &processor;
    struct sigaction action {};
    action.sa_handler = on_alarm;
    action.sa_flags = SA_RESTART;
    ::sigaction(SIGALRM, &action, nullptr);
    const timeval interval{0, static_cast<suseconds_t>(interval_us)};
    const itimerval timer{interval, interval};
    ::setitimer(ITIMER_REAL, &timer, nullptr);
}

Kicker::~Kicker() {
    const itimerval off{};
    ::setitimer(ITIMER_REAL, &off, nullptr);
    kicked_processor = nullptr;
}

unsigned Kicker::count() const { return kick_count.load(); }

// ---------------------------------------------------------------- choices

MachineChoices MachineChoices::of(Random& random) {
    MachineChoices c;
    c.count_instructions = random.percent(30);
    c.shadow.arena_bytes = u64{8} << 20;
    if (random.percent(25)) c.memory = place::memory_size + page_size;
    if (random.percent(2)) c.memory = ram_low_limit + place::memory_size;
    if (random.percent(20)) c.code_cache_bytes = std::size_t{512} << 10;
    if (random.percent(20)) c.shadow.arena_bytes = u64{288} << 10;
    if (random.percent(15)) c.shadow.write_buffer_records = 128;
    if (random.percent(20)) c.shadow.prefetch = 0;
    if (random.percent(20)) c.shadow.prefill = false;
    c.shadow.tlb_keyed_by_root = !random.percent(15);
    if (random.percent(40)) c.views = processor::LinearViews::all;
    return c;
}

std::shared_ptr<Kernel> Kernel::open(const std::string& path) {
    if (!std::filesystem::exists(path)) return nullptr;
    auto image = guest::KernelImage::open(path);
    if (!image) return nullptr;
    std::shared_ptr<Kernel> kernel(new Kernel(std::move(*image)));
    auto vmlinux = guest::extract_vmlinux(kernel->image);
    if (!vmlinux) return nullptr;
    kernel->vmlinux = std::move(*vmlinux);
    kernel->knowledge = std::make_shared<monitor::KernelKnowledge>(kernel->image);
    const auto& info = kernel->knowledge->get();
    if (!info) return nullptr;
    const auto add = [&](std::optional<Gva> address) {
        if (address) kernel->addresses.push_back(address->value());
    };
    for (unsigned n = 0; n < 4; ++n) // the likeliest: it makes the others known
        add(info->symbols.entry_syscall_64);
    add(info->symbols.entry_syscall_compat);
    add(info->symbols.entry_sysenter_compat);
    add(info->symbols.syscall_exit_to_user_mode);
    add(info->symbols.init_task);
    if (info->kallsyms != nullptr)
        for (const char* const name : {"do_exit", "signal_setup_done"})
            add(info->kallsyms->lookup(name));
    return kernel;
}

// ---------------------------------------------------------------- the observer

/// Counts what is reported, and has every kind of action.
class HostileMachine::Observer final : public monitor::SystemCallObserver {
public:
    [[nodiscard]] static monitor::CallAction kind(u64 number) {
        return static_cast<monitor::CallAction>(number % 3);
    }
    [[nodiscard]] monitor::CallAction action(u64 number) override { return kind(number); }
    void entered(const monitor::SystemCallEntry& entry,
                 const monitor::UserMemory& memory) override {
        ++entries;
        // As a decoder would: at whatever the arguments say.
        std::byte bytes[64];
        for (const u64 argument : entry.args)
            (void)memory.read(Gva(argument), bytes);
        const u64 now = clock->now_ns();
        if (failure.empty() && (entry.time_ns > now || now - entry.time_ns > 60'000'000'000))
            failure = fmt::format("a call's time is {} ns at {} ns", entry.time_ns, now);
    }
    void returned(const monitor::SystemCallReturn& r, const monitor::UserMemory& memory) override {
        ++returns;
        std::byte bytes[64];
        (void)memory.read(Gva(static_cast<u64>(r.result)), bytes);
    }
    void signal(const monitor::SignalDelivery&) override { ++signals; }
    void task_exited(const monitor::TaskExit&) override { ++exits; }
    void knowledge_missing(const std::string&) override {}

    const platform::Clock* clock = nullptr;
    u64 entries = 0, returns = 0, signals = 0, exits = 0;
    std::string failure;
};

// ---------------------------------------------------------------- the machine

HostileMachine::HostileMachine(const MachineChoices& choices, GuestStatistics& statistics)
    : m_choices(choices), m_statistics(statistics), m_observer(std::make_unique<Observer>()) {}

HostileMachine::~HostileMachine() {
    for (void* page : m_canaries)
        ::munmap(page, page_size);
}

Result<std::unique_ptr<HostileMachine>> HostileMachine::create(const MachineChoices& choices,
                                                               std::shared_ptr<Kernel> kernel,
                                                               GuestStatistics& statistics) {
    std::unique_ptr<HostileMachine> h(new HostileMachine(choices, statistics));
    h->m_kernel = std::move(kernel);
    std::optional<guest::KernelImage> image;
    if (h->m_kernel != nullptr) {
        image = h->m_kernel->image;
        // SAFETY: bytes as bytes. The text of the image is in its first half.
        h->m_maker.set_real_code(std::span(reinterpret_cast<const u8*>(h->m_kernel->vmlinux.data()),
                                           h->m_kernel->vmlinux.size() / 2)
                                     .subspan(0x200000));
        h->m_maker.set_kernel_addresses(h->m_kernel->addresses);
    } else {
        image = must(guest::KernelImage::parse("nothing", empty_image()));
        h->m_maker.set_real_code(std::span(reinterpret_cast<const u8*>(&__executable_start),
                                           static_cast<std::size_t>(&etext - &__executable_start)));
    }
    monitor::MachineOptions options;
    options.memory = choices.memory;
    options.observer = h->m_observer.get();
    static const u64 tsc_hz = platform::host_tsc_hz();
    h->m_resources.reset(new monitor::MachineResources{
        std::move(options), std::move(*image),
        h->m_kernel != nullptr ? h->m_kernel->knowledge : nullptr, platform::HostClock(tsc_hz),
        monitor::Heartbeat(tsc_hz), true}); // stopped: HLT does not wait
    h->m_observer->clock = &h->m_resources->clock;

    auto soft =
        processor::soft::SoftProcessor::create({.code_cache_bytes = choices.code_cache_bytes,
                                                .count_instructions = choices.count_instructions,
                                                .views = choices.views});
    if (!soft) return tl::unexpected(soft.error());
    auto observed = std::make_unique<ObservedProcessor>(std::move(*soft), statistics.happenings);
    h->m_processor = observed.get();
    auto machine = monitor::VirtualMachine::create_empty(*h->m_resources,
                                                         {std::move(observed), choices.shadow});
    if (!machine) return tl::unexpected(machine.error());
    h->m_machine = std::move(*machine);
    h->m_processor->remember();
    // SAFETY: bytes as bytes; the first page is the handler's code.
    const auto* const code = reinterpret_cast<const u8*>(h->block().monitor_pages);
    h->m_handler.assign(code, code + monitor::handler_code_size);
    h->place_canaries();
    ++statistics.machines;
    return h;
}

/// Pages of a known content next to the guard pages of everything that guests' accesses end in.
void HostileMachine::place_canaries() {
    std::vector<std::pair<u64, u64>> regions;
    const auto add = [&](const void* base, u64 size) {
        regions.emplace_back(reinterpret_cast<u64>(base), size);
    };
    const ControlBlock& cb = block();
    add(m_machine->memory().base(), m_machine->memory().size());
    add(m_machine->shadow().arena(), m_machine->shadow().arena_size());
    add(cb.monitor_pages, (cb.monitor_pages_size + page_offset_mask) & ~page_offset_mask);
    std::ifstream maps("/proc/self/maps");
    for (std::string line; std::getline(maps, line);)
        if (line.find("gnomon-code") != std::string::npos) {
            u64 begin = 0, end = 0;
            if (std::sscanf(line.c_str(), "%lx-%lx", &begin, &end) == 2)
                regions.emplace_back(begin, end - begin);
        }
    for (const auto& [begin, size] : regions)
        for (const u64 at :
             {begin - mapping_guard_size - page_size, begin + size + mapping_guard_size}) {
            void* const wanted = reinterpret_cast<void*>(at);
            void* const page = ::mmap(wanted, page_size, PROT_READ | PROT_WRITE,
                                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
            if (page == MAP_FAILED) continue; // something else is there
            std::fill_n(static_cast<u64*>(page), page_size / 8, canary);
            m_canaries.push_back(page);
        }
    m_statistics.canary_pages += m_canaries.size();
}

void HostileMachine::clear_memory() {
    GuestMemory& memory = m_machine->memory();
    // The pages go back to the host: RAM is as empty as at first.
    const auto punch = [&](u64 at, u64 size) {
        VERIFY(::fallocate(memory.fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                           static_cast<off_t>(at), static_cast<off_t>(size)) == 0);
    };
    punch(0, memory.size());
}

/// As a device would that has overwritten everything.
void HostileMachine::forget_memory() {
    if (!m_used) return;
    GuestMemory& memory = m_machine->memory();
    const u64 low = memory.low_size(), high = memory.high_size();
    m_processor->invalidate_code(Gpa(0), low);
    m_processor->invalidate_code(Gpa(ram_high_base), high);
    m_machine->shadow().note_write(Gpa(0), low);
    m_machine->shadow().note_write(Gpa(ram_high_base), high);
}

void HostileMachine::reset_registers() {
    ControlBlock& cb = block();
    RegisterBlock& s = cb.state;
    const u64 lstar = s.lstar, cstar = s.cstar, sysenter = s.sysenter_eip;
    const u64 old_cr0 = s.cr0, old_cr4 = s.cr4, old_efer = s.efer;
    s = {};
    s.lstar = lstar, s.cstar = cstar, s.sysenter_eip = sysenter;
    s.cr0 = processor::cr0::pe | processor::cr0::mp | processor::cr0::et | processor::cr0::ne |
            processor::cr0::wp | processor::cr0::pg | processor::cr0::am;
    s.cr3 = place::pml4;
    s.cr4 = processor::cr4::pae | processor::cr4::pge | processor::cr4::osfxsr |
            processor::cr4::osxmmexcpt | processor::cr4::osxsave | processor::cr4::fsgsbase;
    s.efer =
        processor::efer::sce | processor::efer::lme | processor::efer::lma | processor::efer::nxe;
    s.xcr0 = processor::xcr0::x87 | processor::xcr0::sse | processor::xcr0::avx;
    using processor::soft::Feature, processor::soft::FeatureSet;
    if (FeatureSet::of_host().has(Feature::avx512)) s.xcr0 |= processor::xcr0::avx512;
    s.gdtr = {place::gdt, 0x18f, 0};
    s.idtr = {place::idt, 0xfff, 0};
    s.tr = flat(selector::tss, 0xb | Segment::present);
    s.tr.base = place::tss;
    s.tr.limit = 0x1fff;
    s.ldtr = flat(selector::ldt, 0x2 | Segment::present);
    s.ldtr.base = place::ldt;
    s.ldtr.limit = 0xfff;
    s.star = u64{0x1b} << 48 | u64{selector::kernel_code} << 32;
    s.fmask = 0x47700;
    s.sysenter_cs = selector::kernel_code;
    s.sysenter_esp = place::kernel_stack;
    s.kernel_gs_base = place::kernel_data;
    const u16 fcw = 0x37f;
    const u32 mxcsr = 0x1f80;
    std::memcpy(s.extended.legacy + processor::ExtendedState::fcw, &fcw, sizeof fcw);
    std::memcpy(s.extended.legacy + processor::ExtendedState::mxcsr, &mxcsr, sizeof mxcsr);
    cb.injection = {};
    cb.interrupt_window = cb.nmi_window = cb.interrupt_shadow = cb.nmi_blocked = false;
    cb.io_data_valid = cb.monitor_mode = cb.monitor_mode_by_hook = false;
    cb.held_debug_traps = 0;
    cb.execution_hook_armed = true;
    cb.io_data = 0;
    monitor::ShadowMmu& shadow = m_machine->shadow();
    if (m_used) shadow.control_registers_changed(s, old_cr0, old_cr4, old_efer);
    shadow.load_root(s.cr3, monitor::PagingRole::of(s));
    m_processor->invalidate_tlb();
    monitor::Interposer& interposer = *m_machine->interposer();
    for (const u32 msr : {0xc0000082U, 0xc0000083U, 0x176U}) {
        VERIFY(interposer.write_msr(msr, GuestImage::syscall_handler()));
        m_processor->expect_msr(msr, GuestImage::syscall_handler());
    }
    m_used = true;
}

void HostileMachine::prepare_image(Random& random, bool ring3) {
    clear_memory();
    m_image.write(m_machine->memory(), random);
    forget_memory();
    reset_registers();
    constexpr u32 data = 0x3 | Segment::s | Segment::present | Segment::db | Segment::g;
    constexpr u32 code = 0xb | Segment::s | Segment::present | Segment::l | Segment::g;
    RegisterBlock& s = block().state;
    for (Segment& segment : s.segment)
        segment = flat(ring3 ? selector::user_data : selector::kernel_data, data);
    s.segment[processor::seg_cs] = flat(ring3 ? selector::user_code : selector::kernel_code, code);
    s.rflags = processor::rflags::fixed1;
    s.rip = ring3 ? place::user_code : place::kernel_code;
    s.gpr[processor::rsp] = ring3 ? place::user_data + place::data_size : place::kernel_stack;
}

void HostileMachine::prepare(Random& random) {
    GuestMemory& memory = m_machine->memory();
    clear_memory();
    m_image.write(memory, random);
    const ProgramSummary summary = m_maker.make(memory, m_image, random);
    ++m_statistics.guests;
    m_statistics.ring3 += summary.ring3;
    for (unsigned n = 0; n < piece_count; ++n)
        m_statistics.pieces[n] += summary.pieces[n];
    forget_memory();
    reset_registers();

    // The first resumption is where it begins; handlers go on with the second.
    Resumption first;
    const u64 at = place::control + offsetof(GuestControl, resumption);
    VERIFY(memory.read_object(Gpa(at), first));
    VERIFY(memory.write_object(Gpa(place::control), u64{at + sizeof first}));
    constexpr u32 data = 0x3 | Segment::s | Segment::present | Segment::db | Segment::g;
    constexpr u32 code = 0xb | Segment::s | Segment::present | Segment::l | Segment::g;
    RegisterBlock& s = block().state;
    const bool ring3 = summary.ring3;
    for (Segment& segment : s.segment)
        segment = flat(ring3 ? selector::user_data : selector::kernel_data, data);
    s.segment[processor::seg_cs] = flat(ring3 ? selector::user_code : selector::kernel_code, code);
    if (ring3) s.segment[processor::seg_gs].base = place::user_data;
    constexpr unsigned order[] = {15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 3, 2, 1, 0};
    for (unsigned n = 0; n < std::size(order); ++n)
        s.gpr[order[n]] = first.gpr[n];
    s.gpr[processor::rsp] = first.rsp;
    s.rip = first.rip;
    s.rflags = first.rflags & ~u64{0x10000};
    if (m_kernel != nullptr && random.percent(50)) { // it has set up what it is believed to be
        s.segment[processor::seg_gs].base = hostile_address(random) & 0x7fff'ffff'ffff;
        const u64 entry = m_kernel->addresses[0];
        VERIFY(m_machine->interposer()->write_msr(0xc0000082, entry));
        m_processor->expect_msr(0xc0000082, entry);
    }
    if (random.percent(25)) { // another machine's habits
        const u64 old_cr0 = s.cr0, old_cr4 = s.cr4;
        if (random.percent(50)) s.cr4 |= processor::cr4::smap;
        if (random.percent(30)) s.cr4 |= processor::cr4::smep;
        if (random.percent(30)) s.cr4 |= processor::cr4::umip;
        if (random.percent(30)) s.cr4 |= processor::cr4::tsd | processor::cr4::de;
        if (random.percent(30)) s.cr0 &= ~processor::cr0::wp;
        m_machine->shadow().control_registers_changed(s, old_cr0, old_cr4, s.efer);
    }
}

void HostileMachine::prepare(std::span<const u8> input) {
    // 16 bytes for choices and registers, then up to a page of code.
    u8 head[16] = {};
    const std::size_t used = std::min(input.size(), sizeof head);
    std::copy_n(input.begin(), used, head);
    const auto code = input.subspan(used, std::min<std::size_t>(input.size() - used, page_size));
    u64 seed = 0;
    std::memcpy(&seed, head + 8, sizeof seed);
    Random random(seed);
    const bool ring3 = (head[0] & 1) != 0;
    prepare_image(random, ring3);
    GuestMemory& memory = m_machine->memory();
    // As near the end of the page as asked for; for both rings.
    const u64 offset = (head[0] & 2) != 0 ? 0 : page_size - head[1] % 64U;
    for (const u64 base : {place::kernel_code, place::user_code})
        VERIFY(memory.write(Gpa(base + offset), std::as_bytes(code)));
    RegisterBlock& s = block().state;
    s.rip += offset;
    for (unsigned n = 0; n < 16; ++n)
        if (n != processor::rsp || (head[0] & 4) != 0) s.gpr[n] = hostile_value(random);
    const u64 changed = head[2] | u64{head[3]} << 8;
    const u64 old_cr0 = s.cr0, old_cr4 = s.cr4;
    if ((changed & 1) != 0) s.cr4 |= processor::cr4::smap;
    if ((changed & 2) != 0) s.cr4 |= processor::cr4::smep;
    if ((changed & 4) != 0) s.cr0 &= ~processor::cr0::wp;
    if ((changed & 8) != 0) s.rflags |= processor::rflags::tf;
    if ((changed & 16) != 0) s.rflags |= processor::rflags::if_ | processor::rflags::iopl;
    if ((changed & 32) != 0) s.rflags |= processor::rflags::ac;
    m_machine->shadow().control_registers_changed(s, old_cr0, old_cr4, s.efer);
    // After an exception: at another byte of the code.
    Resumption list[resumption_count + 1];
    for (Resumption& r : list) {
        for (u64& g : r.gpr)
            g = hostile_value(random);
        r.rip = s.rip + (code.empty() ? 0 : random.below(code.size()));
        const bool inner = random.percent(50);
        if (inner)
            r.rip = r.rip - (ring3 ? place::user_code : place::kernel_code) + place::kernel_code;
        else
            r.rip = r.rip - (ring3 ? place::user_code : place::kernel_code) + place::user_code;
        r.cs = inner ? selector::kernel_code : selector::user_code;
        r.ss = inner ? selector::kernel_data : selector::user_data;
        r.rsp = inner ? place::kernel_stack : place::user_data + place::data_size;
        r.rflags = 2;
    }
    list[resumption_count / 4].rip = m_image.end_address();
    list[resumption_count / 4].cs = selector::kernel_code;
    list[resumption_count / 4].ss = selector::kernel_data;
    VERIFY(memory.write_object(Gpa(place::control + offsetof(GuestControl, resumption)), list));
    // All of it was written after the processor was told to forget.
    m_processor->invalidate_code(Gpa(0), place::scratch);
    ++m_statistics.guests;
    m_statistics.ring3 += ring3;
}

/// What the substitute handler has begun, it ends: so that accounts can be made.
void HostileMachine::end_monitor_mode() {
    const u64 calls = m_processor->statistics().hooked_calls;
    for (unsigned n = 0; block().monitor_mode && m_failure.empty(); ++n) {
        if (n == hypercall_slack) {
            // The guest's own handler may be a SYSCALL: then each end is the next beginning.
            if (m_processor->statistics().hooked_calls > calls + 1) return;
            m_failure = fmt::format("the substitute handler does not end; it is at {:#x}",
                                    block().state.rip);
            return;
        }
        const auto end = m_machine->step();
        if (!end)
            m_failure = end.error().message;
        else if (*end)
            return;
    }
}

std::string HostileMachine::run(const Budget& budget, bool thorough) {
    const auto before = m_processor->statistics();
    const Happenings happened = m_statistics.happenings;
    const auto calls = m_machine->interposer()->calls();
    m_calls_before.assign(calls.begin(), calls.end());
    m_hooked_before = before.hooked_calls;
    m_int80_before = m_processor->interrupt_calls();
    m_observer->entries = 0;
    m_failure.clear();
    bool over = false;
    {
        const Kicker kicker(*m_processor, budget.kick_us);
        unsigned kicks = 0, seen = 0;
        u64 last = thread_time();
        for (unsigned steps = 0; steps < budget.steps && !over; ++steps) {
            const auto end = m_machine->step();
            ++m_statistics.steps;
            if (!end) {
                m_failure = end.error().message;
                break;
            }
            ControlBlock& cb = block();
            if (!m_processor->failure().empty()) break;
            if (*end) {
                over = true;
                if (**end == monitor::RunEnd::triple_fault) ++m_statistics.shut_down;
            } else if (m_machine->board().power_request()) {
                over = true;
                m_usable = false;
                ++m_statistics.powered_off;
            } else if (cb.state.rip == m_image.end_address() + 1 && cb.state.cpl() == 0) {
                over = true;
                ++m_statistics.ended;
            } else if (kicker.count() > seen) {
                seen = kicker.count();
                // The clock that ticks goes on while another process has the processor.
                if (const u64 now = thread_time(); now - last < budget.kick_us * u64{500})
                    continue;
                else
                    last = now;
                ++kicks;
                ++m_statistics.kicks;
                if (kicks >= budget.kicks) break;
                // Out of whatever loop it is in, as a watchdog's NMI would bring it.
                if (cb.injection.kind == Injection::Kind::none && !cb.monitor_mode &&
                    !cb.io_data_valid && !cb.nmi_blocked && !cb.interrupt_shadow) {
                    cb.injection.kind = Injection::Kind::nmi;
                    cb.injection.vector = static_cast<u8>(processor::Vector::nmi);
                }
            }
        }
        if (!over) ++m_statistics.out_of_time;
        end_monitor_mode();
    }
    if (m_failure.empty()) m_failure = check_accounts();
    account(before, happened);
    if (m_failure.empty()) m_failure = check(thorough);
    return m_failure;
}

/// Every call that was reported was made, and every call that was made was reported or counted.
std::string HostileMachine::check_accounts() {
    if (block().monitor_mode) return {}; // the machine shut down on the way: said elsewhere
    m_machine->interposer()->drain_ring();
    const u64 made = m_processor->statistics().hooked_calls - m_hooked_before +
                     (m_processor->interrupt_calls() - m_int80_before);
    u64 quiet = 0;
    const auto calls = m_machine->interposer()->calls();
    for (u64 n = 0; n < calls.size(); ++n)
        if (Observer::kind(n) == monitor::CallAction::none) quiet += calls[n] - m_calls_before[n];
    m_statistics.entries += m_observer->entries;
    m_statistics.calls_uncounted += quiet;
    if (made != m_observer->entries + quiet)
        return fmt::format("{} system calls were made, {} reported and {} left out", made,
                           m_observer->entries, quiet);
    return m_observer->failure;
}

void HostileMachine::account(const processor::soft::Cpu::Statistics& before,
                             const Happenings& happened) {
    GuestStatistics& s = m_statistics;
    const auto& now = m_processor->statistics();
    const Happenings& h = s.happenings;
    s.rewrote_code += now.code_invalidations != before.code_invalidations;
    s.straddled += now.straddles != before.straddles;
    s.wrote_tables += now.traced_writes != before.traced_writes;
    s.made_calls += now.hooked_calls != before.hooked_calls;
    s.flushed_cache += now.cache_flushes != before.cache_flushes;
    s.used_devices +=
        h.device_reads + h.device_writes != happened.device_reads + happened.device_writes;
    s.touched_monitor +=
        h.monitor_reads + h.monitor_writes + h.monitor_fetches !=
        happened.monitor_reads + happened.monitor_writes + happened.monitor_fetches;
    GuestControl control;
    u64 handled = 0;
    if (m_machine->memory().read_object(Gpa(place::control), control))
        for (const u64 n : control.vector_count)
            handled += std::min<u64>(n, u64{1} << 32); // the sum does not wrap
    if (handled > 2 * resumption_count) handled = 0;   // the guest has written there
    for (unsigned v = 0; v < 256 && handled != 0; ++v)
        s.happenings.vectors[v] += control.vector_count[v];
    if (!m_choices.count_instructions) return;
    // Less what handlers executed, and what may have been begun more than once: instructions that
    // exited or faulted. System calls have a handler, and the substitute handler, too.
    u64 exits = 0;
    for (unsigned n = 0; n < processor::exit_reason_count; ++n)
        exits += h.exits[n] - happened.exits[n];
    constexpr u64 longest_substitute_handler = 60;
    const u64 calls = now.hooked_calls - before.hooked_calls;
    const u64 others = exits + handled * (handler_instructions + 1) +
                       calls * (handler_instructions + longest_substitute_handler);
    const u64 begun = now.instructions - before.instructions;
    const u64 own = begun > others ? begun - others : 0;
    ++s.retired[std::min<u64>(own, GuestStatistics::retired_limit)];
    ++s.counted;
}

std::string HostileMachine::check(bool thorough) {
    if (!m_processor->failure().empty()) return m_processor->failure();
    if (std::memcmp(m_handler.data(), block().monitor_pages, m_handler.size()) != 0)
        return "the substitute handler has been written to";
    for (const void* page : m_canaries) {
        const auto* const words = static_cast<const u64*>(page);
        if (std::any_of(words, words + page_size / 8, [](u64 w) { return w != canary; }))
            return fmt::format("the canary page at {} has been written to", page);
    }
    if (!thorough) return {};
    monitor::ShadowMmu& shadow = m_machine->shadow();
    shadow.reconcile(block().write_buffer);
    const monitor::StrictWalker walker(m_machine->memory(), shadow.arena(), shadow.arena_size());
    const auto report =
        walker.check(shadow.root(), monitor::PagingState::of(block().state), 20'000);
    ++m_statistics.strict_checks;
    m_statistics.strict_leaves += report.leaves;
    if (!report.ok()) return "the shadow tables differ from the guest's:\n" + report.text();
    return m_processor->check_translations();
}

// ---------------------------------------------------------------- statistics

u64 GuestStatistics::median_retired() const {
    u64 sum = 0;
    for (unsigned n = 0; n <= retired_limit; ++n)
        if ((sum += retired[n]) * 2 >= counted) return n;
    return 0;
}

std::string GuestStatistics::text() const {
    static constexpr const char* piece_names[] = {
        "random_bytes", "instructions", "real_code",         "system",      "transfers",
        "strings",      "devices",      "self_modification", "page_tables", "monitor_pages"};
    static_assert(std::size(piece_names) == piece_count);
    std::string out = fmt::format(
        "{} guests ({} began in ring 3) in {} machines; median of retired instructions {} (of {} "
        "guests in which they were counted)\n"
        "ends: {} at the end, {} shut down, {} powered off, {} by budget; {} kicks, {} exits\n"
        "guests that rewrote translated code {}, used devices {}, straddled pages {}, wrote page "
        "tables {}, made system calls {}, touched the monitor's addresses {}, filled the code "
        "cache {}\n"
        "system calls reported {}, left out {}, by INT 0x80 {}; faults at the monitor's addresses: "
        "{} reads, {} writes, {} fetches; strict walks {} ({} leaves); canary pages {}\n",
        guests, ring3, machines, median_retired(), counted, ended, shut_down, powered_off,
        out_of_time, kicks, steps, rewrote_code, used_devices, straddled, wrote_tables, made_calls,
        touched_monitor, flushed_cache, entries, calls_uncounted, happenings.interrupt_calls,
        happenings.monitor_reads, happenings.monitor_writes, happenings.monitor_fetches,
        strict_checks, strict_leaves, canary_pages);
    out += "exits:";
    for (unsigned n = 0; n < processor::exit_reason_count; ++n)
        out += fmt::format(" {} {}", processor::exit_reason_names[n], happenings.exits[n]);
    out += "\nvectors:";
    u64 others = 0;
    for (unsigned v = 0; v < 256; ++v) {
        if (v < 32 && happenings.vectors[v] != 0)
            out += fmt::format(" {}: {}", v, happenings.vectors[v]);
        if (v >= 32) others += happenings.vectors[v];
    }
    out += fmt::format(" others: {}\npieces:", others);
    for (unsigned n = 0; n < piece_count; ++n)
        out += fmt::format(" {} {}", piece_names[n], pieces[n]);
    return out + "\n";
}

} // namespace gnomon::test::hostile
