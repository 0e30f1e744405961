// SPDX-License-Identifier: Apache-2.0
#include "platform/board.h"

#include "base/verify.h"

#include <algorithm>

namespace gnomon::platform {

namespace {

/// Which I/O APIC input the 8259's INTR is wired to, by PC convention.
constexpr unsigned intr_pin = 0;
constexpr unsigned maximum_cpus = 255; // 8-bit APIC IDs, of which 255 means all

BusRange<u16> ports(u16 first, u16 count) { return {first, static_cast<u16>(first + (count - 1))}; }

} // namespace

Board::Board(const BoardOptions& options, const Clock& clock)
    : m_clock(clock), m_io_apic(m_apic_bus), m_intr(*this), m_pic(InterruptLine(m_intr, 0)),
      m_isa(m_pic, m_io_apic), m_pci_lines(m_io_apic, m_pic),
      m_pit(clock, isa_line(layout::pit_irq)),
      m_rtc(clock, isa_line(layout::rtc_irq), options.utc_ns, options.memory_bytes),
      m_acpi_pm(clock, isa_line(layout::sci_irq), m_power),
      m_i8042(isa_line(layout::i8042_irq), m_power), m_reset(m_power), m_pci_ports(m_pci, m_reset),
      m_pci_ecam(m_pci), m_pci_decoder(m_port_bus, m_mmio_bus) {
    for (unsigned cpu = 0; cpu < options.cpu_count; ++cpu) {
        const LocalApicOptions apic{.id = cpu,
                                    .bootstrap = cpu == 0,
                                    .x2apic = options.x2apic,
                                    .timer_hz = options.apic_timer_hz};
        m_local_apics.push_back(std::make_unique<LocalApic>(apic, clock, m_apic_bus));
        m_apic_bus.attach(*m_local_apics.back());
        m_timed.push_back(m_local_apics.back().get());
    }
    m_apic_bus.attach(m_io_apic);
    for (unsigned n = 0; n < layout::serial_count; ++n) {
        m_serial.push_back(
            std::make_unique<Uart16550>(clock, isa_line(layout::serial_irq[n]), options.serial[n]));
        m_timed.push_back(m_serial.back().get());
    }
    // As firmware leaves them: the IRQs of PCI are level-triggered.
    u64 level = 0;
    for (unsigned gsi = layout::first_pci_gsi; gsi < layout::io_apic_pin_count; ++gsi)
        level |= u64{1} << layout::pci_isa_irq(gsi);
    m_pic.elcr_ports().write(0, 2, level);
    for (Timed* device : std::initializer_list<Timed*>{&m_pit, &m_rtc, &m_acpi_pm})
        m_timed.push_back(device);
}

Board::~Board() = default;

Result<std::unique_ptr<Board>> Board::create(const BoardOptions& options, const Clock& clock) {
    if (options.cpu_count < 1 || options.cpu_count > maximum_cpus)
        return usage_error("a machine with {} processors: choose 1 to {}", options.cpu_count,
                           maximum_cpus);
    if (options.apic_timer_hz == 0) return usage_error("an APIC timer of 0 Hz: choose a frequency");
    std::unique_ptr<Board> board(new Board(options, clock));
    if (Result<> placed = board->place_devices(); !placed)
        return tl::unexpected(std::move(placed.error()));
    return board;
}

Result<> Board::place_devices() {
    struct Placement {
        BusRange<u16> range;
        BusDevice& device;
        const char* name;
    };
    const Placement placements[] = {
        {ports(layout::pic_master_port, layout::pic_port_count), m_pic.master_ports(),
         "pic-master"},
        {ports(layout::pic_slave_port, layout::pic_port_count), m_pic.slave_ports(), "pic-slave"},
        {ports(layout::pic_elcr_port, layout::pic_elcr_port_count), m_pic.elcr_ports(), "pic-elcr"},
        {ports(layout::pit_port, layout::pit_port_count), m_pit, "pit"},
        {ports(layout::system_control_b_port, 1), m_pit.system_control_b(), "system-control-b"},
        {ports(layout::i8042_data_port, 1), m_i8042.data_port(), "i8042-data"},
        {ports(layout::i8042_command_port, 1), m_i8042.command_port(), "i8042-command"},
        {ports(layout::rtc_port, layout::rtc_port_count), m_rtc, "rtc"},
        {ports(layout::acpi_pm_port, layout::acpi_pm_port_count), m_acpi_pm, "acpi-pm"},
        {ports(layout::pci_config_port, layout::pci_config_port_count), m_pci_ports, "pci-config"},
    };
    for (const Placement& p : placements)
        if (Result<> placed = m_port_bus.insert(p.range, p.device, p.name); !placed) return placed;
    for (unsigned n = 0; n < layout::serial_count; ++n)
        if (Result<> placed =
                m_port_bus.insert(ports(layout::serial_port[n], layout::serial_port_count),
                                  *m_serial[n], fmt::format("serial{}", n));
            !placed)
            return placed;
    const Gpa io_apic(layout::io_apic_base);
    if (Result<> placed = m_mmio_bus.insert({io_apic, io_apic + (layout::io_apic_size - 1)},
                                            m_io_apic, "io-apic");
        !placed)
        return placed;
    const Gpa ecam(layout::pci_ecam_base);
    constexpr u64 ecam_size = layout::pci_bus_count * PciEcam::bytes_per_bus;
    if (Result<> placed = m_mmio_bus.insert({ecam, ecam + (ecam_size - 1)}, m_pci_ecam, "pci-ecam");
        !placed)
        return placed;
    return m_pci.insert({0, 0, 0}, m_host_bridge);
}

// --- the guest's accesses ---

LocalApic& Board::local_apic(unsigned cpu) {
    VERIFY(cpu < m_local_apics.size());
    return *m_local_apics[cpu];
}

/// Whether the access lies within the processor's APIC page. One that straddles the page's edge is
/// not the APIC's.
bool Board::in_local_apic(unsigned cpu, Gpa gpa, unsigned size, u64& offset) {
    const std::optional<Gpa> page = local_apic(cpu).page();
    if (!page || gpa < *page) return false;
    offset = gpa - *page;
    return size <= 8 && offset < layout::local_apic_size &&
           size <= layout::local_apic_size - offset;
}

u64 Board::mmio_read(unsigned cpu, Gpa gpa, unsigned size) {
    u64 offset = 0;
    if (in_local_apic(cpu, gpa, size, offset))
        return local_apic(cpu).read(offset, size) & byte_mask(size);
    return m_mmio_bus.read(gpa, size);
}

void Board::mmio_write(unsigned cpu, Gpa gpa, unsigned size, u64 value) {
    u64 offset = 0;
    if (in_local_apic(cpu, gpa, size, offset))
        local_apic(cpu).write(offset, size, value & byte_mask(size));
    else
        m_mmio_bus.write(gpa, size, value);
}

// --- interrupts ---

void Board::IntrLine::set_input(unsigned, bool asserted) {
    m_board.m_io_apic.set_input(intr_pin, asserted);
    m_board.local_apic(0).set_lint(0, asserted);
}

void Board::PciLines::set_input(unsigned gsi, bool asserted) {
    const unsigned irq = layout::pci_isa_irq(gsi);
    // A line reports only changes and starts low, so the counts cannot go below 0.
    const auto count = [asserted](unsigned& lines) { lines += asserted ? 1U : ~0U; };
    count(m_asserted[gsi]);
    count(m_isa_asserted[irq]);
    m_io_apic.set_input(gsi, m_asserted[gsi] != 0);
    m_pic.set_input(irq, m_isa_asserted[irq] != 0);
}

PciSlot Board::pci_slot(unsigned device) {
    VERIFY(device >= 1 && device < 32);
    const unsigned gsi = layout::pci_gsi(device);
    return {{0, static_cast<u8>(device), 0},
            m_pci_decoder,
            m_apic_bus,
            pci_interrupt_line(gsi),
            static_cast<u8>(layout::pci_isa_irq(gsi))};
}

InterruptLine Board::pci_interrupt_line(unsigned gsi) {
    VERIFY(gsi >= layout::first_pci_gsi && gsi < layout::io_apic_pin_count);
    return InterruptLine(m_pci_lines, gsi);
}

bool Board::takes_external_interrupts(unsigned cpu) const {
    const LocalApic& apic = *m_local_apics[cpu];
    return (cpu == 0 && apic.passes_external_interrupts()) ||
           m_io_apic.routes_external_interrupt(intr_pin, apic);
}

bool Board::external_interrupt_pending(unsigned cpu) const {
    return m_pic.pending() && takes_external_interrupts(cpu);
}

bool Board::interrupt_in_service(unsigned cpu) const {
    VERIFY(cpu < m_local_apics.size());
    return !m_local_apics[cpu]->in_service().empty() ||
           (m_pic.in_service() && takes_external_interrupts(cpu));
}

VectorSet Board::active_vectors(unsigned cpu) const {
    VERIFY(cpu < m_local_apics.size());
    VectorSet active = m_local_apics[cpu]->requested();
    active |= m_local_apics[cpu]->in_service();
    if (takes_external_interrupts(cpu)) active |= m_pic.active_vectors();
    return active;
}

bool Board::interrupt_pending(unsigned cpu) const {
    VERIFY(cpu < m_local_apics.size());
    return m_local_apics[cpu]->deliverable().has_value() || external_interrupt_pending(cpu);
}

std::optional<u8> Board::acknowledge_interrupt(unsigned cpu) {
    if (const std::optional<u8> vector = local_apic(cpu).acknowledge()) return vector;
    if (external_interrupt_pending(cpu)) return m_pic.acknowledge();
    return std::nullopt;
}

bool Board::nmi_pending(unsigned cpu) const {
    VERIFY(cpu < m_local_apics.size());
    return m_local_apics[cpu]->nmi_pending();
}

// --- time ---

std::optional<u64> Board::next_deadline_ns() const {
    // A plain number: an optional that is copied from register to register by way of memory costs a
    // stall for each device, at every exit.
    constexpr u64 never = ~u64{0};
    u64 first = never;
    for (const Timed* device : m_timed)
        if (const std::optional<u64> deadline = device->next_deadline_ns(); deadline)
            first = std::min(first, *deadline);
    return first != never ? std::optional<u64>(first) : std::nullopt;
}

void Board::run_timers() {
    const u64 now = m_clock.now_ns();
    for (Timed* device : m_timed)
        device->advance(now);
}

Uart16550& Board::serial(unsigned n) {
    VERIFY(n < m_serial.size());
    return *m_serial[n];
}

} // namespace gnomon::platform
