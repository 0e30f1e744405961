// SPDX-License-Identifier: Apache-2.0
/// @file The translator: from a place in guest memory to a block in the code cache.
#pragma once

#include "base/time_account.h"
#include "processor/code_map.h"
#include "processor/soft/block_emitter.h"

namespace gnomon::processor::soft {

/// Outcome of an attempt to translate.
struct Translation {
    enum class Kind {
        done,         ///< `entry` runs it
        needs_second, ///< the first instruction crosses the page end: call again with the second
                      ///< page
        cache_full,   ///< flush the cache and try again
    };
    Kind kind = Kind::done;
    u32 entry = 0;
};

/// Guest code as host memory: the page, and for a crossing instruction the page after it.
struct CodeBytes {
    const u8* page = nullptr;
    const u8* second = nullptr;
    Gpa second_frame;
    const PageCode* second_page = nullptr; ///< the block may check by itself that this one follows
};

class Translator {
public:
    Translator(CodeCache& cache, FeatureSet features, bool count_instructions)
        : m_cache(cache), m_features(features), m_count_instructions(count_instructions) {}
    void set_thunks(const Thunks& thunks) { m_thunks = thunks; }
    /// What is translated on a call from translated code is booked to the account.
    void book_time(TimeAccount* account) { m_time = account; }
    [[nodiscard]] TimeAccount* time() const { return m_time; }
    /// Who is told of every translation; nullptr: nobody.
    void map_code(CodeMap* map) { m_code_map = map; }

    /// How a block comes to be wanted.
    enum class Role : u8 {
        common,
        jumped_to, ///< by a jump of its page; rarely in other ways, it is to be expected
        singly,    ///< for what an access group cannot do; not to be found by its offset
    };
    /// Translates the block at `offset` of `page`. The caller has revoked cached rights to write to
    /// the frames.
    [[nodiscard]] Translation translate(Cpu& cpu, PageCode& page, u16 offset,
                                        const CodeBytes& bytes, Role role = Role::common);
    /// Code that goes to `offset` of `page` by its entry table, for jumps or for host CALLs; 0: no
    /// room.
    [[nodiscard]] u32 make_way(PageCode& page, u16 offset, bool call);

private:
    static constexpr unsigned max_instructions = max_block_instructions;

    CodeCache& m_cache;
    Thunks m_thunks;
    FeatureSet m_features;
    bool m_count_instructions;
    TimeAccount* m_time = nullptr;
    CodeMap* m_code_map = nullptr;
    Decoder m_decoder;
    std::unique_ptr<DecodedInstruction[]> m_decoded =
        std::make_unique<DecodedInstruction[]>(max_instructions);
};

} // namespace gnomon::processor::soft
