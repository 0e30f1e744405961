// SPDX-License-Identifier: Apache-2.0
/// @file How the tables of names are written. Only for the .cpp files of this folder.
#pragma once

#include "trace/names/flags.h"

#include <type_traits>

namespace gnomon::trace::names {

/// The value as the kernel sees it in a register: 32-bit constants are not sign-extended.
template <class T>
constexpr u64 constant(T value) {
    if constexpr (sizeof(T) <= 4)
        return static_cast<u32>(value);
    else
        return static_cast<u64>(value);
}

} // namespace gnomon::trace::names

/// A constant under its own name.
#define NAMED(x)                                                                                   \
    ::gnomon::trace::Flag { ::gnomon::trace::names::constant(x), #x }
/// A constant that the headers lack.
#define NUMBERED(name, value)                                                                      \
    ::gnomon::trace::Flag { ::gnomon::trace::names::constant(value), #name }
/// Defines gnomon::trace::flags::NAME.
#define FLAG_TABLE(name, unknown, ...)                                                             \
    namespace {                                                                                    \
    constexpr ::gnomon::trace::Flag name##_entries[] = {__VA_ARGS__};                              \
    }                                                                                              \
    const ::gnomon::trace::FlagTable name { name##_entries, unknown }
