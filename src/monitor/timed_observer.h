// SPDX-License-Identifier: Apache-2.0
/// @file An observer that passes everything on to another and books the time that this takes.
#pragma once

#include "base/statistics.h"
#include "monitor/activity.h"
#include "monitor/interposer.h"

namespace gnomon::monitor {

class TimedObserver final : public SystemCallObserver {
public:
    /// Both outlive the object.
    TimedObserver(SystemCallObserver& observer, TimeAccount& time)
        : m_observer(observer), m_time(time) {}

    [[nodiscard]] CallAction action(u64 number) override { return m_observer.action(number); }
    [[nodiscard]] CallAction return_action(u64 number) override {
        return m_observer.return_action(number);
    }
    void entered(const SystemCallEntry& entry, const UserMemory& memory) override {
        const Booked booked(&m_time, Activity::trace);
        ++m_entered;
        m_observer.entered(entry, memory);
    }
    void returned(const SystemCallReturn& exit, const UserMemory& memory) override {
        const Booked booked(&m_time, Activity::trace);
        ++m_returned;
        m_observer.returned(exit, memory);
    }
    void summed(const SummedCalls& calls) override {
        const Booked booked(&m_time, Activity::trace);
        m_summed += calls.calls;
        m_observer.summed(calls);
    }
    void signal(const SignalDelivery& delivery) override {
        const Booked booked(&m_time, Activity::trace);
        ++m_others;
        m_observer.signal(delivery);
    }
    void task_exited(const TaskExit& exit) override {
        const Booked booked(&m_time, Activity::trace);
        ++m_others;
        m_observer.task_exited(exit);
    }
    void executing(const Caller& caller, const UserMemory& memory) override {
        const Booked booked(&m_time, Activity::trace);
        ++m_others;
        m_observer.executing(caller, memory);
    }
    void idle() override {
        const Booked booked(&m_time, Activity::trace);
        m_observer.idle();
    }
    void knowledge_missing(const std::string& why) override { m_observer.knowledge_missing(why); }

    /// Group "trace".
    [[nodiscard]] StatisticGroup report() const {
        return {"trace",
                {{"calls_entered", m_entered},
                 {"calls_returned", m_returned},
                 {"calls_summed", m_summed},
                 {"other_reports", m_others}}};
    }

private:
    SystemCallObserver& m_observer;
    TimeAccount& m_time;
    u64 m_entered = 0, m_returned = 0, m_summed = 0, m_others = 0;
};

} // namespace gnomon::monitor
