// SPDX-License-Identifier: Apache-2.0
// A driver with the four classic bugs of drivers that were written for slow disks, each of which
// can be switched on, and its robust twin (bug=0). It reads blocks at random places and looks at
// each answer: whether it was asked for, whether it came once, whether it is the right block.
//
// Parameters: bug (see below), requests, depth (commands under way), batch (commands are written
// with interrupts off until there is none left to write), spin (wait without halting),
// work (turns of the loop that stands for what drivers do) and parts (how often it is done, with an
// access to a device after each), stack (bytes), seed.
#include "disk.h"

namespace fragile {

namespace {

enum Bug : u64 {
    none = 0,
    flag_after_command = 1, ///< notes that it waits after it has written the command
    end_before_work = 2,    ///< the handler ends the interrupt, allows others, and then works
    result_after_ack = 3,   ///< looks at the result after it has acknowledged the interrupt
    command_in_handler = 4, ///< the handler issues the next command, and others may nest
};

constexpr u64 most_stack = 4096;
constexpr unsigned most_nested = 4; ///< what the driver's author thought enough

struct Slot {
    bool free = true;
    bool waiting = false; ///< for an interrupt
    u64 block = 0;
};

struct Parameters {
    u64 bug = none, requests = 0, depth = 1, work = 0, parts = 1;
    bool batch = false, spin = false;
};

Parameters g_is;
Slot g_slots[most_slots];
volatile u64 g_issued = 0, g_finished = 0;
volatile unsigned g_nested = 0, g_deepest = 0;
u64 g_random = 1;
// What the handler has been told. There is one place for it, as there is one result register.
unsigned g_told[2 * most_slots];
volatile unsigned g_told_count = 0;

u64 next_random() {
    g_random = g_random * 6364136223846793005 + 1442695040888963407;
    return g_random >> 33;
}

/// Some work, with accesses to a device in it.
void work() {
    for (u64 part = 0; part < g_is.parts; ++part) {
        for (u64 turn = 0; turn < g_is.work; ++turn)
            barrier();
        static_cast<void>(inb(0x61));
    }
}

void issue(unsigned slot) {
    Slot& s = g_slots[slot];
    s.free = false;
    s.block = next_random() % disk_blocks();
    g_issued = g_issued + 1;
    if (g_is.bug != flag_after_command) {
        s.waiting = true;
        barrier();
        read_block(slot, s.block);
        return;
    }
    s.waiting = false;
    barrier();
    read_block(slot, s.block);
    for (unsigned turn = 0; turn < 100; ++turn)
        barrier();
    s.waiting = true;
    barrier();
}

void finish(unsigned slot) {
    if (slot >= g_is.depth) fail("an answer to a command that was never given");
    Slot& s = g_slots[slot];
    if (s.free) fail("an answer to a command that has its answer");
    if (!s.waiting) fail("an interrupt before the driver waited for it");
    if (*slot_data(slot) != s.block) fail("another block than the one asked for");
    s.waiting = false;
    s.free = true;
    g_finished = g_finished + 1;
}

void take_all() {
    unsigned slot = 0;
    bool error = false;
    g_told_count = 0;
    while (take_completion(slot, error)) {
        if (error) fail("a read failed");
        g_told[g_told_count] = slot;
        g_told_count = g_told_count + 1;
    }
}

void finish_all() {
    for (unsigned n = 0; n < g_told_count; ++n)
        finish(g_told[n]);
}

extern "C" void on_disk_interrupt() {
    g_nested = g_nested + 1;
    if (g_nested > g_deepest) g_deepest = g_nested;
    take_all();
    switch (g_is.bug) {
    case end_before_work:
        finish_all();
        acknowledge_disk();
        end_of_interrupt();
        interrupts_on();
        work();
        interrupts_off();
        break;
    case result_after_ack:
        acknowledge_disk();
        end_of_interrupt();
        interrupts_on();
        work();
        finish_all();
        interrupts_off();
        break;
    case command_in_handler: {
        if (g_nested > most_nested) fail("too many handlers within each other");
        unsigned mine[most_slots];
        const unsigned count = g_told_count;
        for (unsigned n = 0; n < count; ++n)
            mine[n] = g_told[n];
        finish_all();
        acknowledge_disk();
        end_of_interrupt();
        interrupts_on();
        for (unsigned n = 0; n < count && g_issued < g_is.requests; ++n)
            issue(mine[n]);
        work();
        interrupts_off();
        break;
    }
    default:
        finish_all();
        acknowledge_disk();
        work();
        end_of_interrupt();
        break;
    }
    g_nested = g_nested - 1;
}

/// Whether there is a command to be given, or an end.
bool something_to_do() {
    if (g_finished == g_is.requests) return true;
    if (g_issued == g_is.requests) return false;
    if (g_is.bug == command_in_handler) return g_issued == 0;
    return g_issued - g_finished < g_is.depth;
}

/// Systems wait deeper in their stack than where they write commands.
[[gnu::noinline]] void wait() {
    u64 frames[32];
    __asm__ volatile("" : : "r"(frames) : "memory");
    if (g_is.spin) {
        while (!something_to_do()) {
        }
        return;
    }
    for (;;) {
        interrupts_off();
        if (something_to_do()) break;
        interrupts_on_and_halt();
    }
    interrupts_on();
}

void run() {
    interrupts_on();
    while (g_finished != g_is.requests) {
        for (unsigned slot = 0; slot < g_is.depth; ++slot) {
            if (g_issued == g_is.requests) break;
            if (g_is.batch || g_is.bug == command_in_handler) interrupts_off();
            if (g_slots[slot].free) issue(slot);
            if (!g_is.batch) interrupts_on();
        }
        interrupts_on();
        wait();
    }
    interrupts_off();
}

} // namespace

extern "C" {
extern const char guest_name[];
const char guest_name[] = "fragile"; // for the runtime
}

extern "C" void guest_main() {
    g_is.bug = parameter("bug", none);
    g_is.requests = parameter("requests", 1000);
    g_is.depth = parameter("depth", 1);
    g_is.work = parameter("work", 0);
    g_is.parts = parameter("parts", 1);
    g_is.batch = parameter("batch", 0) != 0;
    g_is.spin = parameter("spin", 0) != 0;
    g_random = parameter("seed", 1);
    const u8 vector = start_disk();
    if (g_is.depth < 1 || g_is.depth > disk_depth()) fail("no such depth");
    set_handler(vector, on_disk_interrupt);
    const u64 stack = parameter("stack", most_stack);
    run_on_small_stack(run, stack < most_stack ? stack : most_stack);
    print("DONE ");
    print(g_finished);
    print(" deepest ");
    print(u64{g_deepest});
    print("\n");
    power_off();
}

} // namespace fragile
