// SPDX-License-Identifier: Apache-2.0
#include "platform/nvme/features.h"

namespace gnomon::platform::nvme {

namespace {

constexpr u32 no_burst_limit = 7;
constexpr u32 changeable = 1 << 2, namespace_specific = 1 << 1; // SEL 3
constexpr u32 coalescing_disabled = 1 << 16;

struct Temperature {
    static constexpr u32 composite = 0, all_sensors = 15, over = 0, under = 1;
    static constexpr u32 sensor(u32 cdw11) { return cdw11 >> 16 & 15; }
    static constexpr u32 type(u32 cdw11) { return cdw11 >> 20 & 3; }
};

} // namespace

Features::Features(unsigned queue_pairs, unsigned vectors)
    : m_queue_pairs(queue_pairs), m_not_coalesced(vectors) {}

void Features::reset() {
    *this = Features(m_queue_pairs, static_cast<unsigned>(m_not_coalesced.size()));
}

unsigned Features::burst() const {
    const u32 shift = m_arbitration & 7;
    return shift == no_burst_limit ? ~0U : 1U << shift;
}

Status Features::set(FeatureId id, u32 value, u32& result) {
    switch (id) {
    case FeatureId::arbitration: m_arbitration = value & 0xffff'ff07; return Status::success;
    case FeatureId::power_management:
        if ((value & 0x1f) != 0) return Status::invalid_field; // the only power state is 0
        m_power = value & 0xe0;
        return Status::success;
    case FeatureId::temperature_threshold: {
        const u32 sensor = Temperature::sensor(value), type = Temperature::type(value);
        if ((sensor != Temperature::composite && sensor != Temperature::all_sensors) ||
            type > Temperature::under)
            return Status::invalid_field;
        (type == Temperature::over ? m_over_temperature : m_under_temperature) =
            static_cast<u16>(value);
        return Status::success;
    }
    case FeatureId::error_recovery:
        // Bit 16: an error for blocks that were deallocated, which is not offered.
        if ((value & 1 << 16) != 0) return Status::invalid_field;
        m_error_recovery = value & 0xffff;
        return Status::success;
    case FeatureId::volatile_write_cache: m_write_cache = value & 1; return Status::success;
    case FeatureId::number_of_queues:
        if ((value & 0xffff) == 0xffff || value >> 16 == 0xffff) return Status::invalid_field;
        // What is offered, whatever was asked for.
        result = (m_queue_pairs - 1) | (m_queue_pairs - 1) << 16;
        return Status::success;
    case FeatureId::interrupt_coalescing: m_coalescing = value & 0xffff; return Status::success;
    case FeatureId::interrupt_vector_configuration:
        if ((value & 0xffff) >= m_not_coalesced.size()) return Status::invalid_field;
        m_not_coalesced[value & 0xffff] = (value & coalescing_disabled) != 0;
        return Status::success;
    case FeatureId::write_atomicity: m_atomicity = value & 1; return Status::success;
    case FeatureId::asynchronous_events: m_events = value & 0xff; return Status::success;
    case FeatureId::host_identifier: break;
    }
    return Status::invalid_field;
}

Status Features::get(FeatureId id, FeatureSelect select, u32 selector, u32& result) const {
    if (select == FeatureSelect::initial || select == FeatureSelect::saved)
        return Features(m_queue_pairs, static_cast<unsigned>(m_not_coalesced.size()))
            .get(id, FeatureSelect::current, selector, result);
    if (select > FeatureSelect::capabilities) return Status::invalid_field;
    switch (id) {
    case FeatureId::arbitration: result = m_arbitration; break;
    case FeatureId::power_management: result = m_power; break;
    case FeatureId::temperature_threshold:
        if (Temperature::sensor(selector) != Temperature::composite ||
            Temperature::type(selector) > Temperature::under)
            return Status::invalid_field;
        result = Temperature::type(selector) == Temperature::over ? m_over_temperature
                                                                  : m_under_temperature;
        break;
    case FeatureId::error_recovery: result = m_error_recovery; break;
    case FeatureId::volatile_write_cache: result = m_write_cache; break;
    case FeatureId::number_of_queues:
        result = (m_queue_pairs - 1) | (m_queue_pairs - 1) << 16;
        break;
    case FeatureId::interrupt_coalescing: result = m_coalescing; break;
    case FeatureId::interrupt_vector_configuration: {
        const u32 vector = selector & 0xffff;
        if (vector >= m_not_coalesced.size()) return Status::invalid_field;
        result = vector | (m_not_coalesced[vector] ? coalescing_disabled : 0);
        break;
    }
    case FeatureId::write_atomicity: result = m_atomicity; break;
    case FeatureId::asynchronous_events: result = m_events; break;
    case FeatureId::host_identifier: result = 0; break; // its value is data
    default: return Status::invalid_field;
    }
    if (select == FeatureSelect::capabilities)
        result = changeable | (of_namespace(id) ? namespace_specific : 0);
    return Status::success;
}

} // namespace gnomon::platform::nvme
