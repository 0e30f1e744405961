// SPDX-License-Identifier: Apache-2.0
#include "platform/virtio/pci_transport.h"

#include "base/verify.h"

#include <utility>

namespace gnomon::platform {

namespace {

constexpr u16 virtio_vendor = 0x1af4, first_device_id = 0x1040, subsystem = 0x1100;
constexpr u64 memory_size = 0x4000;
// Capabilities: struct virtio_pci_cap, by offset.
enum class Structure : u8 { common = 1, notify = 2, isr = 3, device = 4, config_access = 5 };
constexpr unsigned cap_bar = 4, cap_offset = 8, cap_length = 12, cap_data = 16;

void store(std::span<u8> out, unsigned offset, u32 value) {
    for (unsigned i = 0; i < 4; ++i)
        out[offset + i] = static_cast<u8>(value >> (8 * i));
}

} // namespace

VirtioPciDevice::VirtioPciDevice(PciSlot slot, const Kind& kind, GuestMemory& memory,
                                 DmaListener* listener)
    : PciDevice(std::move(slot),
                {.vendor_id = virtio_vendor,
                 .device_id = static_cast<u16>(first_device_id + kind.type),
                 .subsystem_vendor_id = virtio_vendor,
                 .subsystem_id = subsystem,
                 .class_code = kind.class_code,
                 .revision_id = 1},
                kind.name, memory, listener),
      m_offered(kind.features | Feature::version_1 | Feature::event_index |
                Feature::indirect_descriptors),
      m_max_queue_size(kind.queue_size) {
    VERIFY(kind.queues >= 1 && kind.queues <= structure_size / notify_multiplier);
    for (unsigned n = 0; n < kind.queues; ++n)
        m_queues.emplace_back(dma()).setting.size = kind.queue_size;
    add_memory_range(memory_bar, memory_size, m_registers, true);
    add_msix(msix_bar, kind.queues + 1);
    add_structures();
    add_express();
}

void VirtioPciDevice::add_structures() {
    const auto add = [this](Structure type, u64 offset, u64 length, std::span<const u8> tail) {
        std::array<u8, 18> body{}; // without the bytes of id and next
        const auto size = static_cast<unsigned>(cap_data - 2 + tail.size());
        body[0] = static_cast<u8>(size + 2);
        body[1] = static_cast<u8>(type);
        body[cap_bar - 2] = memory_bar;
        store(body, cap_offset - 2, static_cast<u32>(offset));
        store(body, cap_length - 2, static_cast<u32>(length));
        std::copy(tail.begin(), tail.end(), body.begin() + cap_data - 2);
        std::array<u8, 18> writable{};
        if (type == Structure::config_access) {
            writable[cap_bar - 2] = 0xff;
            std::fill(writable.begin() + cap_offset - 2, writable.end(), u8{0xff});
        }
        return add_capability(capability_vendor, std::span(body).first(size),
                              std::span(writable).first(size));
    };
    std::array<u8, 4> tail{};
    static_cast<void>(add(Structure::common, common_offset, 0x38, {}));
    static_cast<void>(add(Structure::isr, isr_offset, 1, {}));
    static_cast<void>(add(Structure::device, device_offset, structure_size, {}));
    m_config_access = add(Structure::config_access, 0, 0, tail);
    store(tail, 0, notify_multiplier);
    static_cast<void>(
        add(Structure::notify, notify_offset, notify_multiplier * m_queues.size(), tail));
}

bool VirtioPciDevice::running() const {
    return !m_resetting && (m_status & Status::driver_ok) != 0 &&
           (m_status & Status::needs_reset) == 0;
}

// --- registers ---

u64 VirtioPciDevice::Registers::read(u64 offset, unsigned size) {
    const u64 within = offset % structure_size;
    u64 value = 0;
    for (unsigned i = 0; i < size && i < 8; ++i) {
        u8 byte = 0;
        switch (offset - within) {
        case common_offset: byte = m_device.common_byte(within + i); break;
        case isr_offset: byte = within + i == 0 ? m_device.read_isr() : u8{0}; break;
        case device_offset: byte = m_device.device_config(within + i); break;
        default: break;
        }
        value |= u64{byte} << (8 * i);
    }
    return value;
}

void VirtioPciDevice::Registers::write(u64 offset, unsigned size, u64 value) {
    const u64 within = offset % structure_size;
    if (m_device.m_resetting) return;
    switch (offset - within) {
    case common_offset: m_device.write_common(within, size, value); break;
    case device_offset:
        for (unsigned i = 0; i < size && i < 8; ++i)
            m_device.set_device_config(within + i, static_cast<u8>(value >> (8 * i)));
        break;
    case notify_offset: m_device.notify(within); break;
    default: break;
    }
}

u8 VirtioPciDevice::common_byte(u64 offset) const {
    const Queue* queue = m_queue_select < m_queues.size() ? &m_queues[m_queue_select] : nullptr;
    const auto byte_of = [offset](u64 value, CommonReg reg) {
        return static_cast<u8>(value >> (8 * (offset - static_cast<u64>(reg))));
    };
    const auto before = [offset](CommonReg reg) { return offset < static_cast<u64>(reg); };
    // A selector beyond the two words that there are selects zeroes.
    const auto word_of = [](u64 features, u32 select) {
        return select < 2 ? features >> (32 * select) & 0xffff'ffff : 0;
    };
    using enum CommonReg;
    if (before(device_feature)) return byte_of(m_device_feature_select, device_feature_select);
    if (before(driver_feature_select))
        return byte_of(word_of(m_offered, m_device_feature_select), device_feature);
    if (before(driver_feature)) return byte_of(m_driver_feature_select, driver_feature_select);
    if (before(config_msix_vector))
        return byte_of(word_of(m_driver_features, m_driver_feature_select), driver_feature);
    if (before(num_queues)) return byte_of(m_config_vector, config_msix_vector);
    if (before(device_status)) return byte_of(m_queues.size(), num_queues);
    if (before(config_generation)) return m_status;
    if (before(queue_select)) return 0; // the configuration never changes by itself
    if (before(queue_size)) return byte_of(m_queue_select, queue_select);
    if (queue == nullptr) return 0; // a size of 0 says that there is none
    if (before(queue_msix_vector)) return byte_of(queue->setting.size, queue_size);
    if (before(queue_enable)) return byte_of(queue->vector, queue_msix_vector);
    if (before(queue_notify_off)) return byte_of(queue->queue.enabled() ? 1 : 0, queue_enable);
    if (before(queue_desc)) return byte_of(m_queue_select, queue_notify_off);
    if (before(queue_driver)) return byte_of(queue->setting.descriptors.value(), queue_desc);
    if (before(queue_device)) return byte_of(queue->setting.available.value(), queue_driver);
    if (offset < 0x38) return byte_of(queue->setting.used.value(), queue_device);
    return 0;
}

void VirtioPciDevice::write_common(u64 offset, unsigned size, u64 value) {
    const auto reg = static_cast<CommonReg>(offset);
    if (offset >= static_cast<u64>(CommonReg::queue_size)) {
        write_selected_queue(offset, size, value);
        return;
    }
    if (size == 4 && reg == CommonReg::device_feature_select) {
        m_device_feature_select = static_cast<u32>(value);
    } else if (size == 4 && reg == CommonReg::driver_feature_select) {
        m_driver_feature_select = static_cast<u32>(value);
    } else if (size == 4 && reg == CommonReg::driver_feature) {
        if ((m_status & Status::features_ok) != 0 || m_driver_feature_select >= 2) return;
        const unsigned shift = 32 * m_driver_feature_select;
        m_driver_features = (m_driver_features & ~(u64{0xffff'ffff} << shift)) | (value << shift);
    } else if (size == 2 && reg == CommonReg::config_msix_vector) {
        m_config_vector = usable_vector(value);
    } else if (size == 1 && reg == CommonReg::device_status) {
        set_status(static_cast<u8>(value));
    } else if (size == 2 && reg == CommonReg::queue_select) {
        m_queue_select = static_cast<u16>(value);
    }
}

void VirtioPciDevice::write_selected_queue(u64 offset, unsigned size, u64 value) {
    if (m_queue_select >= m_queues.size()) return;
    Queue& queue = m_queues[m_queue_select];
    if (size == 2 && offset == static_cast<u64>(CommonReg::queue_msix_vector)) {
        queue.vector = usable_vector(value);
        return;
    }
    if (queue.queue.enabled()) return;
    if (size == 2 && offset == static_cast<u64>(CommonReg::queue_size)) {
        // Larger ones stay as they are read back; `enable_queue` judges the rest.
        if (value <= m_max_queue_size) queue.setting.size = static_cast<u16>(value);
    } else if (size == 2 && offset == static_cast<u64>(CommonReg::queue_enable)) {
        if (value == 1) enable_queue(queue);
    } else if ((size == 4 || size == 8) && offset % size == 0 && offset >= 0x20 && offset < 0x38) {
        Gpa& address = offset < 0x28   ? queue.setting.descriptors
                       : offset < 0x30 ? queue.setting.available
                                       : queue.setting.used;
        const unsigned shift = offset % 8 == 0 ? 0 : 32;
        const u64 mask = byte_mask(size) << shift;
        address = Gpa((address.value() & ~mask) | ((value << shift) & mask));
    }
}

void VirtioPciDevice::enable_queue(Queue& queue) {
    if ((m_status & Status::features_ok) == 0) return;
    if (!queue.queue.enable(queue.setting, (features() & Feature::event_index) != 0,
                            (features() & Feature::indirect_descriptors) != 0))
        need_reset();
}

u16 VirtioPciDevice::usable_vector(u64 vector) const {
    return vector < m_queues.size() + 1 ? static_cast<u16>(vector) : no_vector;
}

// --- the status protocol ---

void VirtioPciDevice::set_status(u8 value) {
    if (value == 0) {
        reset();
        return;
    }
    u8 status = static_cast<u8>((value & ~Status::needs_reset) | (m_status & Status::needs_reset));
    const bool acceptable =
        (m_driver_features & ~m_offered) == 0 && (m_driver_features & Feature::version_1) != 0;
    if ((m_status & Status::features_ok) == 0 && !acceptable)
        status = static_cast<u8>(status & ~Status::features_ok);
    // Nothing is taken back but by a reset, and nothing runs on features that were not accepted.
    status = static_cast<u8>(status | m_status);
    if ((status & Status::features_ok) == 0) status = static_cast<u8>(status & ~Status::driver_ok);
    const bool starts = (status & ~m_status & Status::driver_ok) != 0;
    m_status = status;
    if (!starts) return;
    // What was made available before is as good as notified.
    for (unsigned n = 0; n < queue_count() && running(); ++n)
        if (m_queues[n].queue.enabled()) queue_notified(n);
}

void VirtioPciDevice::reset() {
    for (Queue& queue : m_queues)
        queue.queue.disable();
    m_isr = 0;
    set_pin(false);
    if (m_resetting) return;
    m_resetting = true;
    if (begin_reset()) reset_finished();
}

void VirtioPciDevice::reset_finished() {
    VERIFY(m_resetting);
    m_resetting = false;
    for (Queue& queue : m_queues) {
        queue.setting = {};
        queue.setting.size = m_max_queue_size;
        queue.vector = no_vector;
    }
    m_driver_features = 0;
    m_device_feature_select = m_driver_feature_select = 0;
    m_config_vector = no_vector;
    m_queue_select = 0;
    m_status = 0;
}

void VirtioPciDevice::need_reset() {
    if (m_resetting || (m_status & Status::needs_reset) != 0) return;
    m_status = static_cast<u8>(m_status | Status::needs_reset);
    if ((m_status & Status::driver_ok) != 0) interrupt(m_config_vector, isr_configuration);
}

// --- notifications, both ways ---

void VirtioPciDevice::notify(u64 offset) {
    const u64 n = offset / notify_multiplier;
    if (n >= m_queues.size() || !running() || !m_queues[n].queue.enabled()) return;
    queue_notified(static_cast<unsigned>(n));
}

void VirtioPciDevice::interrupt_for(unsigned n) {
    if (m_queues.at(n).queue.wants_interrupt()) interrupt(m_queues[n].vector, isr_queue);
}

void VirtioPciDevice::interrupt(u16 vector, u8 isr) {
    if (messages_enabled()) {
        if (vector != no_vector) send(vector);
        return;
    }
    m_isr = static_cast<u8>(m_isr | isr);
    set_pin(true);
}

u8 VirtioPciDevice::read_isr() {
    interrupt_status_read();
    const u8 isr = std::exchange(m_isr, u8{0});
    set_pin(false);
    return isr;
}

// --- access without a memory range ---

VirtioPciDevice::Target VirtioPciDevice::config_access_target() const {
    const unsigned bar = config_value(m_config_access + cap_bar, 1);
    const u64 offset = config_value(m_config_access + cap_offset, 4);
    const u32 size = config_value(m_config_access + cap_length, 4);
    const u64 room = range_size(bar);
    if ((size != 1 && size != 2 && size != 4) || offset % size != 0 || room < size ||
        offset > room - size)
        return {};
    return {range_device(bar), offset, size};
}

void VirtioPciDevice::config_reading(unsigned offset, unsigned size) {
    const unsigned data = m_config_access + cap_data;
    if (offset >= data + 4 || offset + size <= data) return;
    if (const Target target = config_access_target(); target.device != nullptr)
        set_config_value(data, target.size,
                         static_cast<u32>(target.device->read(target.offset, target.size)));
}

void VirtioPciDevice::config_written(unsigned offset, unsigned size) {
    const unsigned data = m_config_access + cap_data;
    if (offset >= data + 4 || offset + size <= data) return;
    if (const Target target = config_access_target(); target.device != nullptr)
        target.device->write(target.offset, target.size, config_value(data, target.size));
}

} // namespace gnomon::platform
