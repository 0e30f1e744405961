// SPDX-License-Identifier: Apache-2.0
/// @file A hostile kernel's type information, and questions to it.
#include "guest/linux/btf.h"
#include "fuzz/support/input.h"

using namespace gnomon;
using namespace gnomon::fuzz;

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    const auto bytes = std::as_bytes(std::span(data, size));
    const auto btf = guest::linux_::Btf::parse(bytes);
    if (!btf) return 0;
    require(btf->type_count() <= size / 12, "more types than there is room for");
    for (const std::string_view type :
         {"task_struct", "pt_regs", "pid", "thread_info", "u", "int"}) {
        static_cast<void>(btf->size_of(type));
        for (const std::string_view path : {"pid", "comm", "thread.fsbase", "thread_info.flags",
                                            "a", "numbers.nr", "a.a.a.a", "", ".", "pid."}) {
            const auto member = btf->member(type, path);
            const auto offset = btf->offset_of(type, path);
            require(member.has_value() == offset.has_value(), "two answers to one question");
            require(!member || member->offset == *offset, "two answers to one question");
        }
    }
    return 0;
}
