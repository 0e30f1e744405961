// SPDX-License-Identifier: Apache-2.0
/// @file Asynchronous events: what the controller tells without being asked (NVMe 1.4,
/// section 5.2).
#pragma once

#include "platform/nvme/log_pages.h"

#include <array>
#include <deque>
#include <optional>

namespace gnomon::platform::nvme {

class Request;

enum class EventType : u8 { error = 0, health = 1 };

struct Event {
    static constexpr u8 invalid_doorbell_register = 0, invalid_doorbell_value = 1; // error
    static constexpr u8 temperature_threshold = 1;                                 // health

    EventType type = EventType::error;
    u8 information = 0;
    LogPage log = LogPage::errors; ///< to read, which lets the next event of the type through

    [[nodiscard]] u32 result() const {
        return static_cast<u32>(type) | u32{information} << 8 |
               static_cast<u32>(static_cast<u8>(log)) << 16;
    }
};

/// Of each type one event waits at most; after one was told, its type is masked until its log page
/// has been read.
class AsyncEvents {
public:
    void reset() { *this = AsyncEvents(); }
    void raise(const Event& event) {
        Slot& slot = of(event.type);
        if (!slot.masked && !slot.event) slot.event = event;
    }
    void log_was_read(LogPage log) {
        if (log == LogPage::errors) of(EventType::error).masked = false;
        if (log == LogPage::health) of(EventType::health).masked = false;
    }
    /// The next event to tell, which is then masked.
    [[nodiscard]] std::optional<Event> take() {
        for (Slot& slot : m_slots)
            if (slot.event) {
                slot.masked = true;
                return std::exchange(slot.event, std::nullopt);
            }
        return std::nullopt;
    }

    std::deque<Request*> requests; ///< of the guest, waiting for events

private:
    struct Slot {
        std::optional<Event> event;
        bool masked = false;
    };
    [[nodiscard]] Slot& of(EventType type) { return m_slots[static_cast<u8>(type)]; }

    std::array<Slot, 2> m_slots;
};

} // namespace gnomon::platform::nvme
