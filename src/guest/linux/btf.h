// SPDX-License-Identifier: Apache-2.0
/// @file The kernel's own description of its data structures: BTF, the BPF Type Format
/// (Documentation/bpf/btf.rst), which a kernel built with CONFIG_DEBUG_INFO_BTF carries in section
/// `.BTF`.
#pragma once

#include "base/result.h"
#include "base/types.h"

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>

struct btf;

namespace gnomon::guest::linux_ {

/// Questions to a kernel's type information, answered by libbpf. The section may come from anybody:
/// all of it is validated before libbpf sees it.
///
/// A path names a member as C does: "pid", "thread.fsbase", "thread_info.flags". Members of
/// anonymous structures and unions count as members of what encloses them. A path steps into the
/// first element of an array ("numbers.nr"), and never through a pointer, behind which an offset
/// means nothing. Threads: immutable after `parse`; questions may be asked from any.
class Btf {
public:
    struct Member {
        u32 offset = 0; ///< in bytes from the start of the type
        u32 size = 0;   ///< in bytes; of the whole array for an array; zero for a flexible array
    };

    /// @param section the contents of `.BTF`, copied.
    [[nodiscard]] static Result<Btf> parse(std::span<const std::byte> section);

    /// `type` is the tag of a struct or union, or a typedef of one. Bit-fields have no byte offset:
    /// an Error.
    [[nodiscard]] Result<Member> member(std::string_view type, std::string_view path) const;
    [[nodiscard]] Result<u32> offset_of(std::string_view type, std::string_view path) const;
    /// The size of a whole type, in bytes.
    [[nodiscard]] Result<u32> size_of(std::string_view type) const;
    /// How many types there are, `void` not counted.
    [[nodiscard]] u32 type_count() const;

private:
    struct Free {
        void operator()(btf* b) const;
    };
    explicit Btf(btf* parsed) : m_btf(parsed) {}

    std::unique_ptr<btf, Free> m_btf;
};

} // namespace gnomon::guest::linux_
