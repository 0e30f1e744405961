// SPDX-License-Identifier: Apache-2.0
#include "monitor/completions/safepoints.h"

namespace gnomon::monitor {

void HandlerWatch::pop_returned(const CpuState& state) {
    while (!m_frames.empty() && is_back(m_frames.back(), state)) {
        m_back = m_frames.back();
        m_frames.pop_back();
    }
}

unsigned HandlerWatch::entered(unsigned device, const CpuState& state) {
    pop_returned(state);
    // On another stack: of the handlers that were interrupted there nothing can be said any more.
    if (!m_frames.empty() && !is_below(m_frames.back(), state)) m_frames.clear();
    if (m_frames.size() == most_frames) m_frames.erase(m_frames.begin());
    m_frames.push_back({device, state.cr3, state.rsp, state.cs});
    return static_cast<unsigned>(std::count_if(m_frames.begin(), m_frames.end(),
                                               [&](const Frame& f) { return f.device == device; }));
}

void HandlerWatch::left() {
    if (m_frames.empty()) return;
    m_back = m_frames.back();
    m_frames.pop_back();
}

std::optional<ReturnContext> HandlerWatch::awaited() const {
    if (m_frames.empty()) return std::nullopt;
    const Frame& frame = m_frames.back();
    return ReturnContext{.cr3 = frame.cr3, .rsp = frame.rsp, .cs = frame.cs};
}

bool HandlerWatch::returned(const CpuState& state) {
    pop_returned(state);
    // The same privilege in another address space: the context has been switched.
    const auto switched = [&](const Frame& frame) {
        return frame.cs == state.cs && frame.cr3 != state.cr3;
    };
    if (!m_frames.empty() && switched(m_frames.back())) m_frames.clear();
    if (m_back && switched(*m_back)) m_back.reset();
    return m_frames.empty() && m_back && is_back(*m_back, state);
}

bool HandlerWatch::under_way(unsigned device, const CpuState& state) const {
    return std::any_of(m_frames.begin(), m_frames.end(), [&](const Frame& frame) {
        return frame.device == device && is_below(frame, state);
    });
}

bool HandlerWatch::expects_return(const CpuState& state) const {
    const auto near = [&](const Frame& frame) {
        return is_below(frame, state) || is_back(frame, state);
    };
    return m_frames.empty() ? m_back && near(*m_back) : near(m_frames.back());
}

} // namespace gnomon::monitor
