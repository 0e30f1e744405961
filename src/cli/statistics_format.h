// SPDX-License-Identifier: Apache-2.0
/// @file Statistics as text for people and as JSON for programs.
#pragma once

#include "base/statistics.h"

#include <string>

namespace gnomon::cli {

/// A table for each group: largest first, without what is zero, shares of the time that "process"
/// gives as "wall". The group "process" stays in its order.
[[nodiscard]] std::string statistics_text(const Statistics& all);

/// One line: an object with "version", and a member for each group, which has one for each number.
/// Names end in the unit (_ns, _bytes) unless it is a count; a count with a time is an object of
/// "count" and "ns".
[[nodiscard]] std::string statistics_json(const Statistics& all);

} // namespace gnomon::cli
