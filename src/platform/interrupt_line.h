// SPDX-License-Identifier: Apache-2.0
/// @file The wire from a device to an interrupt controller.
#pragma once

#include <utility>

namespace gnomon::platform {

/// The inputs of an interrupt controller.
class InterruptSink {
public:
    InterruptSink() = default;
    InterruptSink(const InterruptSink&) = delete;
    InterruptSink& operator=(const InterruptSink&) = delete;
    virtual ~InterruptSink() = default;
    /// Input `pin` is now asserted or not. Polarity is not modelled: true means that the device
    /// asks for service.
    virtual void set_input(unsigned pin, bool asserted) = 0;
};

/// One end of a wire, held by the device that drives it. A default-constructed line leads nowhere.
/// The sink must outlive the line. Only changes of level reach the sink. Movable but not copyable,
/// so that sinks that join lines can count them; whoever destroys a line before its sink deasserts
/// it first.
class InterruptLine {
public:
    InterruptLine() = default;
    InterruptLine(InterruptSink& sink, unsigned pin) : m_sink(&sink), m_pin(pin) {}
    InterruptLine(InterruptLine&& other) noexcept
        : m_sink(std::exchange(other.m_sink, nullptr)), m_pin(other.m_pin),
          m_asserted(std::exchange(other.m_asserted, false)) {}
    InterruptLine& operator=(InterruptLine&&) = delete;
    InterruptLine(const InterruptLine&) = delete;
    InterruptLine& operator=(const InterruptLine&) = delete;
    ~InterruptLine() = default;

    /// Level-triggered use: asserted until told otherwise.
    void set(bool asserted) {
        if (asserted == m_asserted) return;
        m_asserted = asserted;
        if (m_sink != nullptr) m_sink->set_input(m_pin, asserted);
    }
    /// Edge-triggered use: one rising edge, whatever the level was; the line ends low.
    void pulse() {
        set(false);
        set(true);
        set(false);
    }
    [[nodiscard]] bool asserted() const { return m_asserted; }

private:
    InterruptSink* m_sink = nullptr;
    unsigned m_pin = 0;
    bool m_asserted = false;
};

} // namespace gnomon::platform
