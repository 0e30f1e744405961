// SPDX-License-Identifier: Apache-2.0
/// @file What Set Features changes and Get Features tells (NVMe 1.4, section 5.21.1).
#pragma once

#include "platform/nvme/status.h"

#include <array>
#include <vector>

namespace gnomon::platform::nvme {

enum class FeatureId : u8 {
    arbitration = 0x01,
    power_management = 0x02,
    temperature_threshold = 0x04,
    error_recovery = 0x05,
    volatile_write_cache = 0x06,
    number_of_queues = 0x07,
    interrupt_coalescing = 0x08,
    interrupt_vector_configuration = 0x09,
    write_atomicity = 0x0a,
    asynchronous_events = 0x0b,
    host_identifier = 0x81, ///< data, not a dword
};

/// SEL of Get Features.
enum class FeatureSelect : u8 { current = 0, initial = 1, saved = 2, capabilities = 3 };

/// In kelvin. The temperature is that of a drive with nothing to do.
inline constexpr u16 composite_temperature = 310, warning_temperature = 343,
                     critical_temperature = 358;

/// Nothing is saveable: after a controller reset all values are the initial ones. Interrupt
/// coalescing is a hint that the controller does not take up: when interrupts come is the
/// completion scheduler's to say.
class Features {
public:
    /// @param queue_pairs for I/O, what Number of Queues says. @param vectors of interrupts.
    Features(unsigned queue_pairs, unsigned vectors);

    void reset();
    /// All but the host identifier. @param value CDW11. @param result DW0 of the completion.
    [[nodiscard]] Status set(FeatureId id, u32 value, u32& result);
    /// @param selector CDW11, where the feature has several values.
    [[nodiscard]] Status get(FeatureId id, FeatureSelect select, u32 selector, u32& result) const;
    /// Whether the feature may be set for one namespace.
    [[nodiscard]] static bool of_namespace(FeatureId id) { return id == FeatureId::error_recovery; }

    [[nodiscard]] bool write_cache() const { return (m_write_cache & 1) != 0; }
    /// Commands that one queue gives before the next one's turn.
    [[nodiscard]] unsigned burst() const;
    [[nodiscard]] bool temperature_critical() const {
        return composite_temperature >= m_over_temperature ||
               composite_temperature <= m_under_temperature;
    }
    /// Whether critical warnings of this kind (a bit of SMART's first byte) are events.
    [[nodiscard]] bool announces(u8 warning) const { return (m_events & warning) != 0; }

    std::array<u8, 16> host_identifier{};

private:
    unsigned m_queue_pairs;
    u32 m_arbitration = 0, m_power = 0, m_error_recovery = 0, m_write_cache = 1, m_coalescing = 0,
        m_atomicity = 0, m_events = 0;
    u16 m_over_temperature = warning_temperature, m_under_temperature = 0;
    std::vector<bool> m_not_coalesced; ///< by vector
};

} // namespace gnomon::platform::nvme
