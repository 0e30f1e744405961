// SPDX-License-Identifier: Apache-2.0
/// @file The argument of -e: sets of calls, and their algebra.
#include "trace/filter.h"
#include "fuzz/support/input.h"

using namespace gnomon;
using namespace gnomon::fuzz;
using trace::Abi;
using trace::Filter;

namespace {

bool same(const Filter& a, const Filter& b) {
    return a.x86_64_numbers() == b.x86_64_numbers() && a.i386_numbers() == b.i386_numbers() &&
           a.beyond() == b.beyond();
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    const std::string text(reinterpret_cast<const char*>(data), size);
    const auto filter = Filter::parse(text);
    if (!filter) {
        require(filter.error().usage && !filter.error().message.empty(),
                "an error of another kind");
        return 0;
    }
    const std::size_t equals = text.find('=');
    const std::string list = equals == std::string::npos ? text : text.substr(equals + 1);

    const auto longer = Filter::parse("trace=" + list), shorter = Filter::parse("t=" + list);
    require(longer && shorter && same(*filter, *longer) && same(*filter, *shorter),
            "trace=LIST, t=LIST and LIST differ");
    const auto inverted = Filter::parse("trace=!" + list);
    require(inverted && inverted->beyond() == !filter->beyond(), "!LIST cannot be");
    // i386's socketcall and ipc are in both where some of the calls behind them are in each.
    Filter::Numbers differ = inverted->i386_numbers() ^ filter->i386_numbers();
    differ.set(102).set(117);
    require((inverted->x86_64_numbers() ^ filter->x86_64_numbers()).all() && differ.all(),
            "!LIST is not the complement of LIST");
    if (!list.starts_with('!')) {
        const auto repeated = Filter::parse("trace=" + list + "," + list);
        require(repeated && same(*filter, *repeated), "LIST,LIST is not LIST");
        const auto everything = Filter::parse("trace=" + list + ",all");
        require(everything && same(*everything, Filter()), "LIST,all is not all");
    }
    for (const u64 number : {u64{0}, u64{59}, u64{559}, u64{560}, ~u64{0}})
        for (const Abi abi : {Abi::x86_64, Abi::x32, Abi::i386})
            static_cast<void>(filter->wants(abi, number));
    return 0;
}
