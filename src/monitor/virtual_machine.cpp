// SPDX-License-Identifier: Apache-2.0
#include "monitor/virtual_machine.h"

#include "base/host_time.h"
#include "guest/acpi/tables.h"
#include "guest/boot/linux_boot.h"
#include "monitor/cpuid.h"
#include "monitor/shadow/strict_walker.h"
#include "processor/exceptions.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <poll.h>
#include <sys/random.h>
#include <utility>
#include <x86intrin.h>

namespace gnomon::monitor {

using processor::ControlBlock;
using processor::Exit;
using processor::ExitReason;
using processor::Injection;
using processor::RegisterBlock;
using processor::Segment;
using processor::Vector;

namespace {

Segment flat_segment(u16 selector, u32 rights) {
    Segment s;
    s.selector = selector;
    s.limit = 0xffffffff;
    s.rights = rights;
    return s;
}

} // namespace

Result<std::unique_ptr<VirtualMachine>> VirtualMachine::create(MachineResources& resources) {
    auto processor = processor::create_software_processor(resources.options.linear_views);
    if (!processor) return tl::unexpected(processor.error());
    auto vm = create_empty(resources, {std::move(*processor), {.tlb_keyed_by_root = true}});
    if (!vm) return vm;
    if (auto booted = (*vm)->boot(); !booted) return tl::unexpected(booted.error());
    return vm;
}

Result<std::unique_ptr<VirtualMachine>> VirtualMachine::create_empty(MachineResources& resources,
                                                                     Parts parts) {
    std::unique_ptr<VirtualMachine> vm(new VirtualMachine(resources));
    if (auto built = vm->build(std::move(parts)); !built) return tl::unexpected(built.error());
    return vm;
}

VirtualMachine::~VirtualMachine() {
    if (m_shadow != nullptr) m_shadow->detach();
}

Result<> VirtualMachine::build(Parts parts) {
    auto memory = GuestMemory::create(m_resources.options.memory);
    if (!memory) return tl::unexpected(memory.error());
    m_memory.emplace(std::move(*memory));

    platform::BoardOptions board;
    board.memory_bytes = m_memory->size();
    board.utc_ns = utc_now_ns();
    board.apic_timer_hz = crystal_hz(m_resources.clock.tsc_hz());
    std::vector<int> descriptors;
    for (unsigned n = 0; n < m_serial.size(); ++n) {
        m_serial[n].endpoint = m_resources.options.serial[n];
        if (m_serial[n].endpoint == nullptr) continue;
        board.serial[n] = &m_serial[n];
        if (const int fd = m_serial[n].endpoint->poll_descriptor(); fd >= 0)
            descriptors.push_back(fd);
    }
    auto made_board = platform::Board::create(board, m_resources.clock);
    if (!made_board) return tl::unexpected(made_board.error());
    m_board = std::move(*made_board);

    m_processor = std::move(parts.processor);
    m_time = m_resources.time;
    m_processor->book_time(m_time);
    m_processor->map_code(m_resources.options.code_map);
    m_tlb = std::make_unique<Tlb>(*m_processor);

    auto shadow = ShadowMmu::create(*m_memory, *m_tlb, parts.shadow);
    if (!shadow) return tl::unexpected(shadow.error());
    m_shadow = std::move(*shadow);
    m_shadow->book_time(m_time);

    ControlBlock& cb = m_processor->control_block();
    cb.ram_base = m_memory->base();
    cb.ram_file = m_memory->fd();
    cb.ram_low_size = m_memory->low_size();
    cb.ram_high_size = m_memory->high_size();
    m_cpuid = guest_cpuid(m_resources.clock.tsc_hz(), 0);
    cb.cpuid = m_cpuid.data();
    cb.cpuid_count = static_cast<u32>(m_cpuid.size());
    set_tsc_offset();
    m_shadow->attach(cb);

    if (m_resources.options.observer != nullptr) {
        SystemCallObserver* observer = m_resources.options.observer;
        if (m_time != nullptr) observer = &m_timed_observer.emplace(*observer, *m_time);
        auto interposer = Interposer::create(cb, *m_memory, *m_shadow, m_resources.clock, *observer,
                                             m_resources.knowledge);
        if (!interposer) return tl::unexpected(interposer.error());
        m_interposer = std::move(*interposer);
    }

    std::vector<int> disk_descriptors;
    if (!m_resources.options.disks.empty()) {
        m_device_writes.emplace(*m_shadow, *m_processor);
        m_view.emplace(cb, *m_board, m_resources.clock);
        m_completions = std::make_unique<Completions>(m_resources.options.completions, *m_view,
                                                      m_board->cpu_count(),
                                                      m_resources.options.completion_rules);
        auto disks = Disks::create(m_resources.options.disks, *m_board, *m_memory, *m_completions,
                                   *m_device_writes, m_resources.clock);
        if (!disks) return tl::unexpected(disks.error());
        m_disks = std::move(*disks);
        disk_descriptors = m_disks->poll_descriptors();
    }

    auto events =
        EventThread::create([p = m_processor.get()] { p->kick(); }, std::move(descriptors),
                            std::move(disk_descriptors), m_resources.heartbeat);
    if (!events) return tl::unexpected(events.error());
    m_events = std::move(*events);
    return {};
}

Result<> VirtualMachine::boot() {
    const auto rsdp = guest::write_acpi_tables(*m_memory, guest::AcpiConfig{});
    if (!rsdp) return tl::unexpected(rsdp.error());
    std::array<std::byte, 32> seed{};
    [[maybe_unused]] const auto got = ::getrandom(seed.data(), seed.size(), 0);
    const auto state = guest::load_linux(*m_memory, {m_resources.kernel, m_resources.options.initrd,
                                                     m_resources.options.append, *rsdp, seed});
    if (!state) return tl::unexpected(state.error());

    ControlBlock& cb = m_processor->control_block();
    RegisterBlock& s = cb.state;
    s.rip = state->rip;
    s.gpr[processor::rsi] = state->rsi;
    s.gpr[processor::rsp] = state->rsp;
    s.rflags = state->rflags;
    s.cr0 = state->cr0;
    s.cr3 = state->cr3;
    s.cr4 = state->cr4;
    s.efer = state->efer;
    s.gdtr = {state->gdt_base, state->gdt_limit, 0};
    s.idtr = {state->idt_base, state->idt_limit, 0};
    constexpr u32 data = 0x3 | Segment::s | Segment::present | Segment::db | Segment::g;
    constexpr u32 code = 0xb | Segment::s | Segment::present | Segment::l | Segment::g;
    for (Segment& segment : s.segment)
        segment = flat_segment(state->ds, data);
    s.segment[processor::seg_cs] = flat_segment(state->cs, code);
    s.tr = flat_segment(state->tr, 0xb | Segment::present);
    s.tr.base = state->tr_base;
    s.tr.limit = state->tr_limit;
    s.ldtr.rights = Segment::unusable;
    const u16 fcw = 0x37f;
    const u32 mxcsr = 0x1f80;
    std::memcpy(s.extended.legacy + processor::ExtendedState::fcw, &fcw, 2);
    std::memcpy(s.extended.legacy + processor::ExtendedState::mxcsr, &mxcsr, 4);
    m_shadow->load_root(s.cr3, PagingRole::of(s));
    if (m_interposer != nullptr) m_interposer->root_loaded();
    return {};
}

// ---------------------------------------------------------------- the loop

Result<RunOutcome> VirtualMachine::run() {
    const auto ended = [this](RunEnd end) {
        if (m_interposer != nullptr) m_interposer->finish();
        RunOutcome outcome{end, {}};
        if (end == RunEnd::triple_fault) outcome.processor_state = state_text();
        return outcome;
    };
    set_tsc_offset();
    if (m_resources.guest_start_ns == 0) {
        m_resources.guest_start_ns = monotonic_ns();
        if (m_time != nullptr) m_time->start(static_cast<unsigned>(Activity::events));
    }
    const Booked booked(m_time, Activity::events);
    for (;;) {
        if (m_resources.stop.load()) return ended(RunEnd::stopped);
        if (const auto request = m_board->power_request())
            return ended(*request == platform::PowerRequest::power_off ? RunEnd::power_off
                                                                       : RunEnd::reset);
        const auto end = step();
        if (!end) return tl::unexpected(end.error());
        if (*end) return ended(**end);
    }
}

Result<std::optional<RunEnd>> VirtualMachine::step() {
    if (m_events->input_seen() || m_input_waits) pump_serial();
    reap_disks();
    look_at_completions(false);
    prepare_events();
    const bool watched = m_completions != nullptr && m_completions->any_known();
    const u64 entered_ns = watched ? m_resources.clock.now_ns() : 0;
    const Exit exit = m_processor->enter();
    if (m_view) m_view->moved();
    if (watched) m_completions->ran(0, m_view->now_ns() - entered_ns);
    const auto end = [&] {
        ExitTally& tally = m_statistics.exits[static_cast<unsigned>(exit.reason)];
        ++tally.count;
        if (m_time == nullptr) return handle(exit);
        const unsigned before = m_time->change(static_cast<unsigned>(Activity::exit_handling));
        const u64 begin = m_time->changed_at();
        const auto ended = handle(exit);
        m_time->change(before);
        tally.ticks += m_time->changed_at() - begin;
        return ended;
    }();
    if (m_resources.options.check_shadow != 0)
        if (auto checked = check_shadow(); !checked) return tl::unexpected(checked.error());
    return end;
}

/// The strict walker's turn, when `drains` says that a coherency point has passed.
Result<> VirtualMachine::check_shadow() {
    const ShadowStatistics now = m_shadow->statistics();
    const u64 points = now.drains + now.root_loads;
    if (points / m_resources.options.check_shadow ==
        m_coherency_points / m_resources.options.check_shadow)
        return {};
    m_coherency_points = points;
    const Booked booked(m_time, Activity::shadow_check);
    ControlBlock& cb = m_processor->control_block();
    m_shadow->reconcile(cb.write_buffer);
    const StrictWalker walker(*m_memory, m_shadow->arena(), m_shadow->arena_size());
    const StrictReport report = walker.check(m_shadow->root(), PagingState::of(cb.state));
    if (report.ok()) {
        const std::string wrong = m_processor->check_translations();
        if (wrong.empty()) return {};
        return fail("the processor holds what the shadow tables do not, after {} coherency "
                    "points: {}",
                    points, wrong);
    }
    return fail("the shadow tables differ from the guest's after {} coherency points:\n{}", points,
                report.text());
}

/// Runs the board's timers when they are due and offers the guest what is pending.
void VirtualMachine::prepare_events() {
    ControlBlock& cb = m_processor->control_block();
    if (m_board_touched ||
        (m_view ? m_view->now_ns() : m_resources.clock.now_ns()) >= m_deadline_ns) {
        m_board->run_timers();
        update_deadline();
        m_board_touched = false;
    }
    cb.nmi_window = m_board->nmi_pending(0);
    // An instruction under way (I/O data, an event, the substitute handler) is completed first.
    // What waits meanwhile has the processor come back for it: it may be the last kick there is.
    if (cb.io_data_valid || cb.monitor_mode || !cb.execution_hook_armed ||
        cb.injection.kind != Injection::Kind::none) {
        if (m_board->interrupt_pending(0)) cb.interrupt_window = true;
        return;
    }
    if (m_board->nmi_pending(0) && !cb.nmi_blocked && !cb.interrupt_shadow) {
        m_board->take_nmi(0);
        cb.nmi_window = false;
        cb.injection = {};
        cb.injection.kind = Injection::Kind::nmi;
        cb.injection.vector = static_cast<u8>(Vector::nmi);
        return;
    }
    cb.interrupt_window = false;
    const bool closed = (cb.state.rflags & processor::rflags::if_) == 0 || cb.interrupt_shadow;
    if (!m_board->interrupt_pending(0)) {
        cb.interrupt_window = closed && m_completions != nullptr && m_completions->wants_window(0);
        return;
    }
    if (closed) {
        cb.interrupt_window = true;
        return;
    }
    if (const auto vector = m_board->acknowledge_interrupt(0)) {
        cb.injection = {};
        cb.injection.kind = Injection::Kind::external_interrupt;
        cb.injection.vector = *vector;
        ++m_statistics.interrupts;
        if (m_completions != nullptr) m_completions->interrupt_injected(0, *vector);
        update_deadline();
        if (m_board->interrupt_pending(0)) m_board_touched = true;
    }
}

void VirtualMachine::update_deadline() {
    set_deadline(m_board->next_deadline_ns().value_or(EventThread::never));
}

/// @param board_ns when the board, or what took its place since, is next due.
void VirtualMachine::set_deadline(u64 board_ns) {
    m_deadline_ns = board_ns;
    if (m_completions != nullptr)
        m_deadline_ns = std::min(m_deadline_ns, m_completions->next_look_ns(0));
    // An earlier kick is good for a later deadline: the next is set then.
    if (m_armed_ns <= m_deadline_ns) return;
    m_armed_ns = m_deadline_ns;
    const u64 now = m_resources.clock.now_ns();
    m_events->set_deadline(monotonic_ns() + (m_deadline_ns > now ? m_deadline_ns - now : 0));
}

void VirtualMachine::deliver_completions(bool halted) {
    static_cast<void>(m_completions->look(0, halted));
    if (!halted && m_completions->next_look_ns(0) < m_deadline_ns) set_deadline(m_deadline_ns);
}

void VirtualMachine::pump_serial() {
    m_input_waits = false;
    for (unsigned n = 0; n < m_serial.size(); ++n) {
        SerialEndpoint* endpoint = m_serial[n].endpoint;
        if (endpoint == nullptr) continue;
        auto& uart = m_board->serial(n);
        std::byte buffer[64];
        for (;;) {
            const std::size_t space = std::min(uart.receive_space(), sizeof buffer);
            if (space == 0) {
                m_input_waits = m_input_waits || endpoint->poll_descriptor() >= 0;
                break;
            }
            const std::size_t got = endpoint->receive(std::span(buffer, space));
            if (got == 0) break;
            // SAFETY: bytes as bytes.
            [[maybe_unused]] const auto taken =
                uart.receive(std::span(reinterpret_cast<const u8*>(buffer), got));
            m_board_touched = true;
        }
    }
    // What finds no room stays readable: watching for it again would only spin.
    if (!m_input_waits) m_events->clear_input();
}

// ---------------------------------------------------------------- exits

std::optional<RunEnd> VirtualMachine::handle(const Exit& exit) {
    switch (exit.reason) {
    case ExitReason::kicked: m_armed_ns = EventThread::never; [[fallthrough]];
    case ExitReason::interrupt_window: m_board_touched = true; break;
    case ExitReason::halt: handle_halt(); break;
    case ExitReason::page_fault: handle_page_fault(exit); break;
    case ExitReason::mmio: handle_mmio(exit); break;
    case ExitReason::io: handle_io(exit); break;
    case ExitReason::msr_read:
    case ExitReason::msr_write: handle_msr(exit); break;
    case ExitReason::control_register:
        // Legal in compatibility mode, but it ends IA-32e mode, and there is no other.
        if (exit.index == 0 && (exit.value & processor::cr0::pg) == 0) return RunEnd::triple_fault;
        handle_control_register(exit);
        break;
    case ExitReason::invlpg:
    case ExitReason::invpcid:
        m_shadow->flush();
        advance(exit);
        break;
    case ExitReason::software_interrupt: break; // none is intercepted
    case ExitReason::software_interrupt_delivered:
        if (m_interposer != nullptr) m_interposer->on_software_interrupt(exit);
        break;
    case ExitReason::hypercall:
        if (m_interposer != nullptr) m_interposer->on_hypercall();
        break;
    case ExitReason::execution_hook:
        if (m_interposer != nullptr) m_interposer->on_execution_hook(exit);
        m_processor->control_block().execution_hook_armed = false;
        break;
    case ExitReason::write_buffer_full:
        m_shadow->reconcile(m_processor->control_block().write_buffer);
        break;
    case ExitReason::triple_fault: return RunEnd::triple_fault;
    case ExitReason::wbinvd: advance(exit); break;
    }
    if (std::exchange(m_triple_fault, false)) return RunEnd::triple_fault;
    return std::nullopt;
}

/// Completes an instruction that left with RIP at it.
void VirtualMachine::advance(const Exit& exit) {
    ControlBlock& cb = m_processor->control_block();
    cb.state.rip += exit.instruction_length;
    if (!cb.state.code64()) cb.state.rip &= 0xffffffff;
    cb.interrupt_shadow = false;
    cb.state.rflags &= ~processor::rflags::rf; // it covered this instruction
    u64 traps = std::exchange(cb.held_debug_traps, 0);
    if ((cb.state.rflags & processor::rflags::tf) != 0) traps |= u64{1} << 14; // DR6.BS
    if (traps == 0) return;
    cb.state.dr[6] |= traps;
    inject(Vector::db);
}

void VirtualMachine::inject(Vector vector, std::optional<u32> error_code, u64 cr2) {
    Injection event;
    event.kind = Injection::Kind::exception;
    event.vector = static_cast<u8>(vector);
    event.has_error_code = error_code.has_value();
    event.error_code = error_code.value_or(0);
    event.cr2 = cr2;
    m_processor->control_block().injection = event;
}

void VirtualMachine::handle_page_fault(const Exit& exit) {
    ControlBlock& cb = m_processor->control_block();
    const FaultOutcome outcome = m_shadow->handle_page_fault(exit, cb.state);
    if (outcome.kind == FaultOutcome::Kind::retry) return;
    ++m_statistics.injected_page_faults;
    const Injection first = cb.injection;
    inject(Vector::pf, outcome.error_code, exit.gva.value());
    if (!exit.during_delivery) return;
    cb.state.cr2 = exit.gva.value(); // a #DF made of it does not carry the address
    if (const auto combined = processor::combine_exceptions(first, cb.injection))
        cb.injection = *combined;
    else
        m_triple_fault = true;
}

void VirtualMachine::handle_io(const Exit& exit) {
    ControlBlock& cb = m_processor->control_block();
    if (exit.write) {
        m_board->port_bus().write(exit.port, exit.size, exit.data);
    } else {
        cb.io_data = m_board->port_bus().read(exit.port, exit.size);
        cb.io_data_valid = true;
    }
    m_board_touched = true;
}

void VirtualMachine::handle_mmio(const Exit& exit) {
    ControlBlock& cb = m_processor->control_block();
    if (exit.write) {
        m_board->mmio_write(0, exit.gpa, exit.size, exit.data);
    } else {
        cb.io_data = m_board->mmio_read(0, exit.gpa, exit.size);
        cb.io_data_valid = true;
    }
    m_board_touched = true;
    cb.state.cr8 = m_board->cr8(0);
}

void VirtualMachine::handle_control_register(const Exit& exit) {
    ControlBlock& cb = m_processor->control_block();
    RegisterBlock& s = cb.state;
    const u64 cr0 = s.cr0, cr4 = s.cr4, efer = s.efer;
    switch (exit.index) {
    case 0: {
        s.cr0 = exit.value | processor::cr0::et;
        const bool paging = (s.cr0 & processor::cr0::pg) != 0;
        if (paging && (s.efer & processor::efer::lme) != 0) s.efer |= processor::efer::lma;
        if (!paging) s.efer &= ~processor::efer::lma;
        m_shadow->control_registers_changed(s, cr0, cr4, efer);
        break;
    }
    case 3:
        s.cr3 = exit.value & ~(u64{1} << 63);
        m_shadow->load_root(s.cr3, PagingRole::of(s));
        if (m_interposer != nullptr) m_interposer->root_loaded();
        break;
    case 4:
        s.cr4 = exit.value;
        m_shadow->control_registers_changed(s, cr0, cr4, efer);
        break;
    case 8:
        m_board->set_cr8(0, static_cast<u8>(exit.value & 15));
        s.cr8 = exit.value & 15;
        m_board_touched = true;
        break;
    default: break;
    }
    advance(exit);
}

// ---------------------------------------------------------------- MSRs

void VirtualMachine::handle_msr(const Exit& exit) {
    RegisterBlock& s = m_processor->control_block().state;
    if (exit.reason == ExitReason::msr_read) {
        const auto value = read_msr(exit.index);
        if (!value) {
            inject(Vector::gp, 0);
            return;
        }
        s.gpr[processor::rax] = *value & 0xffffffff;
        s.gpr[processor::rdx] = *value >> 32;
    } else if (!write_msr(exit.index, exit.value)) {
        inject(Vector::gp, 0);
        return;
    }
    advance(exit);
}

namespace {
constexpr u32 msr_tsc = 0x10, msr_tsc_adjust = 0x3b, msr_efer = 0xc0000080;
}

std::optional<u64> VirtualMachine::read_msr(u32 index) {
    if (platform::LocalApic::owns_msr(index)) {
        u64 value = 0;
        m_board_touched = true;
        return m_board->local_apic(0).read_msr(index, value) ? std::optional(value) : std::nullopt;
    }
    if (m_interposer != nullptr)
        if (const auto own = m_interposer->read_msr(index)) return own;
    switch (index) {
    case msr_tsc: return m_resources.clock.tsc() + m_tsc_adjust;
    case msr_tsc_adjust: return m_tsc_adjust;
    default: return m_msrs.read(index);
    }
}

bool VirtualMachine::write_msr(u32 index, u64 value) {
    ControlBlock& cb = m_processor->control_block();
    if (platform::LocalApic::owns_msr(index)) {
        m_board_touched = true;
        const bool ok = m_board->local_apic(0).write_msr(index, value);
        cb.state.cr8 = m_board->cr8(0);
        return ok;
    }
    if (m_interposer != nullptr && m_interposer->owns_msr(index))
        return m_interposer->write_msr(index, value);
    switch (index) {
    case msr_efer: {
        const u64 old = cb.state.efer;
        cb.state.efer = (value & ~processor::efer::lma) | (old & processor::efer::lma);
        m_shadow->control_registers_changed(cb.state, cb.state.cr0, cb.state.cr4, old);
        return true;
    }
    case msr_tsc:
    case msr_tsc_adjust:
        m_tsc_adjust = index == msr_tsc ? value - m_resources.clock.tsc() : value;
        if (m_interposer != nullptr) m_interposer->set_tsc_adjust(m_tsc_adjust);
        set_tsc_offset();
        m_board->local_apic(0).set_tsc_adjust(m_tsc_adjust);
        m_board_touched = true;
        return true;
    default: return m_msrs.write(index, value);
    }
}

// ---------------------------------------------------------------- the process stops and goes on

void MachineResources::skip_stopped_time(u64 tsc_read) {
    if (const auto since = heartbeat.stopped_since(__rdtsc()))
        clock.skip(std::max(*since, tsc_read));
}

void VirtualMachine::process_continued() {
    ControlBlock& cb = m_processor->control_block();
    m_resources.skip_stopped_time(std::atomic_ref(cb.tsc_read).load(std::memory_order_relaxed));
    set_tsc_offset();
}

/// The guest's TSC from the clock and what the guest has added itself. The handler of SIGCONT may
/// come in between and do the same.
void VirtualMachine::set_tsc_offset() {
    const std::atomic_ref offset(m_processor->control_block().tsc_offset);
    u64 clock = 0;
    do {
        clock = m_resources.clock.tsc_offset();
        offset.store(clock + m_tsc_adjust, std::memory_order_relaxed);
        std::atomic_signal_fence(std::memory_order_seq_cst);
    } while (clock != m_resources.clock.tsc_offset());
}

// ---------------------------------------------------------------- idling

/// A wait so long that what the guest did before it is shown first.
constexpr u64 shown_before_wait_ns = 5'000'000;

/// HLT: the machine's own thread waits where its next event comes from.
void VirtualMachine::handle_halt() {
    ControlBlock& cb = m_processor->control_block();
    cb.interrupt_shadow = false;
    if (cb.injection.kind != Injection::Kind::none) return; // a trap of HLT itself
    const Booked booked(m_time, Activity::idle);
    ++m_statistics.idle_periods;
    // What has waited for the halt ends it.
    reap_disks();
    look_at_completions(true);
    if (m_board->interrupt_pending(0) && (cb.state.rflags & processor::rflags::if_) != 0) return;
    m_events->set_deadline(EventThread::never);
    m_armed_ns = EventThread::never;
    // The disks' come first: input is not watched for while some waits.
    std::vector<pollfd> fds;
    if (m_disks != nullptr) {
        m_events->watch_completions(false);
        for (const int fd : m_disks->poll_descriptors())
            fds.push_back({fd, POLLIN, 0});
    }
    const nfds_t disks = fds.size();
    for (const SerialAdapter& serial : m_serial)
        if (serial.endpoint != nullptr && serial.endpoint->poll_descriptor() >= 0)
            fds.push_back({serial.endpoint->poll_descriptor(), POLLIN, 0});
    for (;;) {
        if (m_resources.stop.load() || m_board->power_request()) break;
        if (m_view) m_view->moved();
        m_board->run_timers();
        reap_disks();
        look_at_completions(true);
        if (m_board->interrupt_pending(0) && (cb.state.rflags & processor::rflags::if_) != 0) break;
        if (m_board->nmi_pending(0)) break;
        const u64 now = m_resources.clock.now_ns();
        u64 deadline = m_board->next_deadline_ns().value_or(now + 100'000'000);
        if (m_completions != nullptr) deadline = std::min(deadline, m_completions->next_look_ns(0));
        // A stop may come between the look above and the wait: never wait longer than this without
        // looking again.
        const u64 wait = std::min<u64>(deadline > now ? deadline - now : 0, 100'000'000);
        if (wait == 0) continue;
        if (m_interposer != nullptr && wait >= shown_before_wait_ns) m_interposer->idle();
        const timespec timeout{static_cast<time_t>(wait / 1'000'000'000),
                               static_cast<long>(wait % 1'000'000'000)};
        const nfds_t watched = m_input_waits ? disks : fds.size();
        if (::ppoll(fds.data(), watched, &timeout, nullptr) > 0 &&
            std::any_of(fds.begin() + static_cast<std::ptrdiff_t>(disks),
                        fds.begin() + static_cast<std::ptrdiff_t>(watched),
                        [](const pollfd& fd) { return fd.revents != 0; }))
            pump_serial();
        if (m_view) m_view->slept(m_resources.clock.now_ns() - now);
    }
    // What comes from now on makes the event thread kick; what came before is seen by the next
    // `step`.
    if (m_disks != nullptr) m_events->watch_completions(true);
    m_board_touched = true;
}

// ---------------------------------------------------------------- reports

std::string VirtualMachine::state_text() const {
    const RegisterBlock& s = m_processor->control_block().state;
    static constexpr const char* names[] = {"RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI",
                                            "R8 ", "R9 ", "R10", "R11", "R12", "R13", "R14", "R15"};
    std::string text;
    for (unsigned i = 0; i < 16; ++i)
        text += fmt::format("{}={:016x}{}", names[i], s.gpr[i], i % 4 == 3 ? "\n" : " ");
    text += fmt::format("RIP={:016x} RFLAGS={:08x} CPL={} CR0={:08x} CR2={:016x} CR3={:016x} "
                        "CR4={:08x} EFER={:x}\n",
                        s.rip, s.rflags, s.cpl(), s.cr0, s.cr2, s.cr3, s.cr4, s.efer);
    static constexpr const char* segments[] = {"ES", "CS", "SS", "DS", "FS", "GS"};
    for (unsigned i = 0; i < processor::segment_count; ++i)
        text += fmt::format("{}={:04x} base={:016x} limit={:08x} rights={:05x}\n", segments[i],
                            s.segment[i].selector, s.segment[i].base, s.segment[i].limit,
                            s.segment[i].rights);
    text += fmt::format("GDT={:016x}:{:x} IDT={:016x}:{:x} TR={:04x} base={:016x}\n", s.gdtr.base,
                        s.gdtr.limit, s.idtr.base, s.idtr.limit, s.tr.selector, s.tr.base);
    return text;
}

Statistics VirtualMachine::report() const {
    Statistics all = run_statistics(m_statistics, m_shadow->statistics(),
                                    m_time != nullptr ? m_time->ns_per_tick() : 0);
    accumulate(all, m_processor->report());
    if (m_completions != nullptr) accumulate(all, m_completions->report());
    if (m_timed_observer) accumulate(all, {m_timed_observer->report()});
    return all;
}

} // namespace gnomon::monitor
