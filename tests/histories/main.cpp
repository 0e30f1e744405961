// SPDX-License-Identifier: Apache-2.0
/// @file Random page-table histories: the guest's main routine. Parameters on the command line:
/// seed=N (default 1), steps=N of each history (20000), histories=N, with seeds from `seed` on (1).
#include "history.h"

extern "C" {
extern u64 pml4[512], pdpt[512];
}

namespace histories {

namespace {
alignas(page_size) u64 g_directory_2m[table_slots], g_directory_4k[table_slots];
alignas(page_size) u64 g_tables_4k[region_frames / table_slots][table_slots];
Model g_model;

/// The fixed mappings of the region: by one 1 GiB page (or 2 MiB pages where there are none), by 2
/// MiB pages, and by 4 KiB pages.
void map_region() {
    constexpr u64 rights = bit_p | bit_w | bit_a | bit_d;
    for (u64 i = 0; i < table_slots; ++i)
        g_directory_2m[i] = (region + i * span_of(2)) | rights | bit_ps;
    for (u64 i = 0; i < region_frames / table_slots; ++i) {
        for (u64 s = 0; s < table_slots; ++s)
            g_tables_4k[i][s] = (region + i * span_of(2) + s * page_size) | rights | bit_g;
        g_directory_4k[i] = reinterpret_cast<u64>(g_tables_4k[i]) | rights;
    }
    pdpt[5] = has_huge_pages() ? region | rights | bit_ps
                               : reinterpret_cast<u64>(g_directory_2m) | rights;
    pdpt[6] = reinterpret_cast<u64>(g_directory_2m) | rights;
    pdpt[7] = reinterpret_cast<u64>(g_directory_4k) | rights;
}
} // namespace

namespace {
constexpr u64 device_slot = 16, device_pages = 40; // entries of the fixed PDPT
}

void use_many_pages() {
    if (!has_huge_pages()) return;
    for (u64 i = 0; i < device_pages; ++i)
        // There is no RAM above 4 GiB.
        pdpt[device_slot + i] = ((4 + i) << 30) | bit_p | bit_a | bit_ps;
    for (u64 va = device_slot << 30; va < (device_slot + device_pages) << 30; va += span_of(2))
        (void)*reinterpret_cast<const volatile u8*>(va);
    for (u64 i = 0; i < device_pages; ++i) {
        pdpt[device_slot + i] = 0;
        invlpg((device_slot + i) << 30);
    }
}

u64 fixed_root_entry() { return pml4[0] | bit_a; }

extern "C" void guest_main() {
    start_machine();
    map_region();
    const u64 seed = parameter("seed", 1), steps = parameter("steps", 20000),
              count = parameter("histories", 1);
    for (u64 n = 0; n < count; ++n) {
        History history(g_model, seed + n);
        history.run(steps);
        const Counts& c = history.counts();
        print("seed ");
        print_number(seed + n);
        const struct {
            const char* name;
            u64 value;
        } values[] = {
            {" steps ", steps},       {" reads ", c.reads},       {" writes ", c.writes},
            {" fetches ", c.fetches}, {" faults ", c.faults},     {" edits ", c.edits},
            {" flushes ", c.flushes}, {" roots ", c.root_loads},  {" modes ", c.mode_changes},
            {" stale ", c.stale},     {" spurious ", c.spurious}, {" wide ", c.wide},
            {" skipped ", c.skipped}};
        for (const auto& v : values) {
            print(v.name);
            print_number(v.value);
        }
        print("\n");
    }
    print("PASSED histories ");
    print_number(count);
    print("\n");
    power_off();
}

} // namespace histories
