// SPDX-License-Identifier: Apache-2.0
/// @file What the command line needs from the layers below, so that its tests can put something
/// else there.
#pragma once

#include "cli/trace_observer.h"
#include "monitor/machine.h"

#include <functional>
#include <memory>

namespace gnomon::cli {

struct Factories {
    std::function<Result<std::unique_ptr<monitor::Machine>>(monitor::MachineOptions)> machine;
    std::function<Result<std::unique_ptr<TraceObserver>>(const TraceObserverSettings&)> observer;
};

} // namespace gnomon::cli
