// SPDX-License-Identifier: Apache-2.0
/// @file What a processor books its time to (TimeAccount).
#pragma once

namespace gnomon::processor {

enum class Activity : unsigned {
    translated_code, ///< guest code, with its helpers and slow accesses
    translation,     ///< making host code of guest code
    dispatch,        ///< the rest of `enter`: finding translations, events, state in and out
};
inline constexpr unsigned activity_count = 3;

} // namespace gnomon::processor
