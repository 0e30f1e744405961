// SPDX-License-Identifier: Apache-2.0
/// @file The one place where the monitor's interposer meets the tracer.
#pragma once

#include "base/result.h"
#include "trace/options.h"

#include <functional>
#include <memory>
#include <optional>
#include <string>

namespace gnomon::monitor {
class SystemCallObserver;
}

namespace gnomon::cli {

struct TraceObserverSettings {
    trace::TraceOptions options;
    std::optional<std::string> filter; ///< strace's list, as behind -e trace=; empty: all calls
    std::string kernel; ///< path of the kernel image whose types and symbols are used
};

/// Turns what the interposer sees into the trace that the user asked for.
class TraceObserver {
public:
    /// Opens the output (-o). A filter that cannot be understood is a usage error.
    [[nodiscard]] static Result<std::unique_ptr<TraceObserver>>
    create(const TraceObserverSettings& settings);
    TraceObserver(const TraceObserver&) = delete;
    TraceObserver& operator=(const TraceObserver&) = delete;
    virtual ~TraceObserver() = default;

    /// For MachineOptions::observer; lives as long as this object.
    [[nodiscard]] virtual monitor::SystemCallObserver* observer() = 0;
    /// `handler` is called when nobody reads the trace any more (a closed pipe), from the thread
    /// that runs the machine.
    virtual void when_nobody_reads(std::function<void()> handler) = 0;
    /// After the run, the machine still there: ends open lines, prints the summary and the balance
    /// of enters and exits, flushes. An error if something of the trace could not be written.
    [[nodiscard]] virtual Result<> finish() = 0;

protected:
    TraceObserver() = default;
};

} // namespace gnomon::cli
