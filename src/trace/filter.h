// SPDX-License-Identifier: Apache-2.0
/// @file Which calls are traced: strace's -e trace=LIST.
#pragma once

#include "base/result.h"
#include "trace/event.h"
#include "trace/syscall_table.h"

#include <bitset>
#include <string_view>

namespace gnomon::trace {

/// A set of system calls of both numberings. Immutable after parsing; any thread.
class Filter {
public:
    using Numbers = std::bitset<SyscallTable::max_number>;

    /// Everything.
    Filter();
    /// Parses the argument of -e: "trace=LIST", "t=LIST" or "LIST". LIST is [!]ITEM[,ITEM]..., an
    /// ITEM all, none, a name, a number, %class, /regex (POSIX extended), each with an optional
    /// leading '?' (an unknown one is no error) and names with an optional @64 or @32.
    [[nodiscard]] static Result<Filter> parse(std::string_view expression);

    [[nodiscard]] bool wants(Abi abi, u64 number) const {
        if (abi == Abi::x32) number &= ~x32_syscall_bit;
        if (number >= SyscallTable::max_number) return m_beyond;
        return abi == Abi::i386 ? m_i386[number] : m_x86_64[number];
    }
    /// Whether a call behind i386's socketcall or ipc is wanted; wants() is true of these two if
    /// one is.
    [[nodiscard]] bool wants_multiplexed(std::string_view name) const;
    /// For the monitor's bitmap in the guest.
    [[nodiscard]] const Numbers& x86_64_numbers() const { return m_x86_64; }
    [[nodiscard]] const Numbers& i386_numbers() const { return m_i386; }
    /// Whether numbers outside of the tables are traced.
    [[nodiscard]] bool beyond() const { return m_beyond; }

private:
    [[nodiscard]] Result<> add(std::string_view item);
    void invert();

    Numbers m_x86_64;
    Numbers m_i386;
    std::bitset<32> m_multiplexed; ///< indexed as multiplexed_calls()
    bool m_beyond = false;
};

} // namespace gnomon::trace
