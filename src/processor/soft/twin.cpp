// SPDX-License-Identifier: Apache-2.0
#include "processor/soft/twin.h"

#include "processor/soft/assembler.h"

namespace gnomon::processor::soft {

u32 make_twin(CodeCache& cache, const AccessSite& site, u32 commit_thunk) {
    constexpr std::size_t room = 256;
    const std::size_t size = site.after - site.cont;
    if (cache.room(CodePart::cold) < size + room) return 0;
    Assembler a(cache, CodePart::cold);
    const u32 begin = a.here();
    a.db(cache.writable(site.cont), size);
    a.mov(Xbyak::util::r14, reinterpret_cast<std::uintptr_t>(&site));
    a.jump_to(commit_thunk);
    cache.add_twin(begin, a.here(), site.page_offset);
    a.commit();
    return begin;
}

} // namespace gnomon::processor::soft
