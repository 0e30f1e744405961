// SPDX-License-Identifier: Apache-2.0
/// @file When guests see that requests of their disks are done.
#pragma once

#include "platform/completion.h"

#include <memory>

namespace gnomon::monitor {

/// The scheduler of one life of a machine.
[[nodiscard]] std::unique_ptr<platform::CompletionScheduler> create_completion_scheduler();

} // namespace gnomon::monitor
