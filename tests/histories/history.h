// SPDX-License-Identifier: Apache-2.0
/// @file One random page-table history: edits, invalidations, changes of mode, and accesses whose
/// every outcome the model must explain. Reproducible by its seed.
#pragma once

#include "machine.h"
#include "model.h"

namespace histories {

/// splitmix64.
class Random {
public:
    explicit Random(u64 seed) : m_state(seed) {}
    u64 next() {
        u64 z = m_state += 0x9e3779b97f4a7c15;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
        z = (z ^ z >> 27) * 0x94d049bb133111eb;
        return z ^ z >> 31;
    }
    u64 below(u64 bound) { return (next() >> 32) * bound >> 32; }
    bool one_in(u64 n) { return below(n) == 0; }

private:
    u64 m_state;
};

/// The entry that every root has in slot 0: the guest's own code and data, and the fixed mappings.
[[nodiscard]] u64 fixed_root_entry();

/// Touches device space through 1 GiB pages, 2 MiB after 2 MiB.
void use_many_pages();

struct Counts {
    u64 reads = 0, writes = 0, fetches = 0; ///< done
    u64 faults = 0, edits = 0, flushes = 0, root_loads = 0, mode_changes = 0;
    u64 stale = 0;        ///< accesses that used an older translation
    u64 spurious = 0;     ///< page faults that only an older translation explains
    u64 wide = 0;         ///< accesses explained only by another root's translations
    u64 skipped = 0;      ///< accesses not made, because of what they might overwrite
    u64 table_writes = 0; ///< accesses that wrote through the tables under test
};

class History {
public:
    History(Model& model, u64 seed) : m_model(model), m_random(seed), m_seed(seed) {}

    /// In a calm period edits are those of an operating system, mostly to the last level of tables
    /// with one parent, and are followed by INVLPG: so that what a monitor does for one page has to
    /// be right. Otherwise anything may happen, and much is forgotten with every flush.
    static constexpr u64 period = 4000; ///< steps; periods alternate
    [[nodiscard]] bool calm() const { return m_step / period % 2 == 1; }

    /// Does not return when something is not as the architecture has it: it reports and powers off.
    void run(u64 steps);
    [[nodiscard]] const Counts& counts() const { return m_counts; }

private:
    // history.cpp
    void step();
    void change_mode();
    void load_root();
    void flush(u64 va);
    void flush_everything();
    void check_frame(unsigned frame);
    void remember(const char* what, u64 a = 0, u64 b = 0, u64 c = 0);

    // edits.cpp
    void build();
    void build_calm();
    void edit_walk();
    void repair(u64 va);
    void edit_raw();
    void edit_leaf();
    void split_or_merge();
    void reuse();
    void set_entry(u64 pa, u64 value);
    void write_physical(u64 pa, const u8* bytes, u64 size);
    [[nodiscard]] u64 random_leaf();
    [[nodiscard]] u64 random_large(unsigned level);
    [[nodiscard]] u64 random_table();
    [[nodiscard]] u64 random_word(u64 old);
    [[nodiscard]] u64 table_frame();
    [[nodiscard]] bool acceptable(u64 word) const;
    [[nodiscard]] bool may_write(u64 pa, const u8* bytes, u64 size) const;

    // accesses.cpp
    struct Piece { ///< the part of an access in one page
        u64 va = 0, size = 0, offset_in_access = 0;
        u64 frame[24]; ///< candidates for where it may go
        unsigned frame_count = 0;
    };
    [[nodiscard]] u64 random_address(); ///< often one used before
    [[nodiscard]] u64 fresh_address();
    void access();
    void access_bad_address();
    void collect(Piece& piece, Access access) const;
    void judge_fault(const Probe& probe, Access access, const Piece* pieces, unsigned count);
    void judge_read(const Piece& piece, Access access, const u8* bytes);
    void judge_write(const Piece* pieces, unsigned count, Access access, const u8* bytes);
    [[nodiscard]] u64 find_write(const Piece& piece, Access access, const u8* bytes);
    struct Written { ///< physical memory that an access has overwritten
        u64 pa = 0, size = 0;
    };
    [[nodiscard]] bool explain(const Piece& piece, Access access, u64 frame,
                               const Written (&written)[2]);

    [[noreturn]] void fail(const char* what);
    void describe(u64 va, Access access);

    struct Event {
        const char* what;
        u64 step, a, b, c;
    };
    static constexpr unsigned event_count = 48;

    Model& m_model;
    Random m_random;
    u64 m_seed, m_step = 0;
    bool m_is_root[frames] = {};
    u64 m_recent[16] = {}, m_focus = 0;
    Event m_events[event_count] = {};
    unsigned m_next_event = 0;
    u64 m_dirtied[2] = {}; ///< entries in which the write being judged may set D
    const char* m_form = "";
    Counts m_counts;
};

} // namespace histories
