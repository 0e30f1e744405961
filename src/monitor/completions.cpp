// SPDX-License-Identifier: Apache-2.0
#include "monitor/completions.h"

namespace gnomon::monitor {

std::unique_ptr<platform::CompletionScheduler> create_completion_scheduler() {
    return std::make_unique<platform::ImmediateCompletions>();
}

} // namespace gnomon::monitor
