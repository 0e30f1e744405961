// SPDX-License-Identifier: Apache-2.0
// The hiding guest: looks for the monitor's hook on its system calls in every way it can, and
// prints what it sees. It does not know what is right: its output must be the same with and without
// the hook.
#include "experiment.h"

namespace {

constexpr u32 interesting_msrs[] = {0x174,      0x175,      0x176,      0xc0000081,
                                    0xc0000082, 0xc0000083, 0xc0000084, 0xc0000100,
                                    0xc0000101, 0xc0000102, 0xc0000103};
constexpr u64 interesting_values[] = {0,
                                      1,
                                      0x200100,
                                      0xffffffff,
                                      0x100000000,
                                      0x7fffffffffff,
                                      0x800000000000,
                                      0xffff7fffffffffff,
                                      monitor_range,
                                      monitor_range + 1,
                                      0xffffffffffffffff,
                                      0x8000000000000000};

u64 state;
u64 random() {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state * 0x2545f4914f6cdd1d;
}
u64 below(u64 n) { return (random() >> 11) % n; }
bool one_in(u64 n) { return below(n) == 0; }
template <class E>
E any() {
    return static_cast<E>(below(static_cast<u64>(E::count)));
}

/// WRMSR and RDMSR of one register, and what each of them raised.
void write_and_read(u32 index, u64 value) {
    const u8 write[] = {0x0f, 0x30}, read[] = {0x0f, 0x32};
    note("msr", index);
    note("value", value);
    run_bytes(write, 2, index, value >> 32, value);
    run_bytes(read, 2, index, 0x11, 0x22);
}

void registers(const Options& o) {
    for (const u32 index : interesting_msrs) {
        begin_case("msr", index, o.verbose);
        const u64 before = read_msr(index);
        for (const u64 value : interesting_values)
            write_and_read(index, value);
        write_msr(index, before);
        end_case();
    }
    // Every index around: which exist, and what they hold. Left out: the time.
    const u8 read[] = {0x0f, 0x32};
    const struct {
        u32 begin, end;
    } ranges[] = {{0, 0x400},
                  {0x480, 0x500},
                  {0x800, 0x840},
                  {0xc0000000, 0xc0000120},
                  {0x40000000, 0x40000020},
                  {0xc0010000, 0xc0010020}};
    for (const auto& range : ranges) {
        begin_case("msrs", range.begin, o.verbose);
        for (u32 index = range.begin; index < range.end; ++index)
            if (index != 0x10) run_bytes(read, 2, index, 0x11, 0x22);
        end_case();
    }
    const u8 cpuid[] = {0x0f, 0xa2};
    for (const u64 base : {u64{0}, u64{0x40000000}, u64{0x80000000}}) {
        begin_case("cpuid", base, o.verbose);
        for (u64 leaf = base; leaf < base + 0x20; ++leaf) {
            // The frequencies are measured anew in each run.
            if (leaf == 0x15 || leaf == 0x16 || leaf == 0x40000010) continue;
            run_bytes(cpuid, 2, 0, 0, leaf);
        }
        end_case();
    }
}

/// Reads, writes and jumps at the addresses where the monitor has its pages.
void accesses(const Options& o) {
    const u8 programs[][4] = {{0x48, 0x8b, 0x01, 0x90},  // MOV RAX, [RCX]
                              {0x48, 0x89, 0x11, 0x90},  // MOV [RCX], RDX
                              {0xf0, 0x48, 0xff, 0x01},  // LOCK INC [RCX]
                              {0x90, 0x90, 0xff, 0xe1},  // JMP RCX
                              {0x0f, 0x01, 0x39, 0x90},  // INVLPG [RCX]
                              {0x0f, 0x0d, 0x09, 0x90},  // PREFETCHW [RCX]
                              {0x0f, 0x00, 0xe1, 0x90},  // VERR CX
                              {0x0f, 0x01, 0xc1, 0x90}}; // VMCALL
    for (u64 w = 0; w < static_cast<u64>(Window::count); ++w) {
        begin_case("window", w, o.verbose);
        Setup s;
        s.window = static_cast<Window>(w);
        s.number = 400;
        run_experiment(s); // a system call first: what can be cached, is
        for (const u64 page : {0, 1, 2, 3, 25, 26, 27, 39, 40})
            for (const u64 offset : {u64{0}, u64{0x28}, u64{0xffc}})
                for (const auto& program : programs)
                    run_bytes(program, sizeof program, monitor_range + page * 4096 + offset, w, 0);
        end_case();
    }
}

/// Each field of a setup by itself, on each entry.
void directed(const Options& o) {
    u64 number = 0;
    const auto run = [&](const Setup& s) {
        const u64 this_one = number++;
        if (o.directed != ~u64{0} && o.directed != this_one) return;
        begin_case("directed", this_one, o.verbose);
        run_experiment(s);
        end_case();
    };
    for (const Entry entry :
         {Entry::syscall, Entry::sysenter, Entry::int80, Entry::vmcall, Entry::vmmcall})
        for (u64 p = 0; p < static_cast<u64>(Place::count); ++p) {
            Setup base;
            base.entry = entry;
            base.place = static_cast<Place>(p);
            // Numbers that no table has, which a tracer shows as they are.
            base.number = entry == Entry::syscall ? 400 : 2000;
            run(base);
            for (u64 n = 1; n < static_cast<u64>(Return::count); ++n) {
                Setup s = base;
                s.how_back = static_cast<Return>(n);
                run(s);
                s.back_flags = flag_tf; // steps on behind the return
                run(s);
                s.flags |= flag_tf; // and over the entry and the handler
                s.fmask = 0;
                run(s);
            }
            for (u64 n = 1; n < static_cast<u64>(Target::count); ++n) {
                Setup s = base;
                s.target = static_cast<Target>(n);
                s.flags |= flag_tf;
                s.fmask = 0;
                s.smep = (n & 1) != 0;
                for (u64 w = 0; w < static_cast<u64>(Window::count); ++w) {
                    s.window = static_cast<Window>(w);
                    run(s);
                    if (s.target == Target::itself) break;
                }
            }
            for (u64 n = 1; n < static_cast<u64>(Before::count); ++n)
                for (const u32 fmask : {0U, 0x300U, 0x47700U}) {
                    Setup s = base;
                    s.before = static_cast<Before>(n);
                    s.fmask = fmask;
                    run(s);
                    s.breakpoint[0] = watched_address(s);
                    s.dr7 = 0x700 | 1 | u64{3} << 16;
                    run(s);
                }
            // A breakpoint on each of the handler's instructions, on the user's stack, where SMAP
            // permits no frame: entered, and no further.
            for (const u64 instruction : {0, 8, 13, 21, 26}) {
                Setup s = base;
                s.same_stack = s.smap = true;
                s.breakpoint[2] = address_of_target(s) + instruction;
                s.dr7 = 0x400 | 0x10;
                run(s);
            }
            for (u64 n = 1; n < static_cast<u64>(Gate::count); ++n) {
                Setup s = base;
                s.gate = static_cast<Gate>(n);
                run(s);
            }
            for (const u64 breakpoint :
                 {address_of_entry(base), address_of_target(base), address_of_target(base) + 8,
                  address_of_entry(base) + 2, monitor_range, monitor_range + 0x1000,
                  reinterpret_cast<u64>(rsp0_top) - 8, reinterpret_cast<u64>(sysret64_instruction)})
                for (const u64 kind : {u64{0}, u64{1}, u64{0xb}}) {
                    Setup s = base;
                    s.breakpoint[1] = breakpoint;
                    s.dr7 = 0x700 | 4 | kind << 20;
                    s.how_back = Return::sysret64;
                    run(s);
                    s.flags |= flag_rf;
                    run(s);
                }
        }
}

void choose_breakpoints(Setup& s) {
    const u64 places[] = {address_of_entry(s),
                          address_of_target(s),
                          address_of_target(s) + 8,
                          address_of_entry(s) + 2,
                          monitor_range + below(window_pages) * 4096,
                          monitor_range + 0x1000 + below(32) * 8,
                          reinterpret_cast<u64>(rsp0_top) - 8 * (1 + below(6)),
                          reinterpret_cast<u64>(sysret64_instruction),
                          watched_address(s)};
    for (unsigned n = 0; n < 4; ++n) {
        if (!one_in(3)) continue;
        s.breakpoint[n] = places[below(sizeof places / sizeof *places)];
        const u64 kinds[] = {0, 1, 3, 0xb, 0xd, 0xf};
        s.dr7 |= u64{1} << (2 * n + below(2)) | kinds[below(6)] << (16 + 4 * n);
    }
}

u64 any_number() {
    switch (below(6)) {
    case 0: return 340 + below(70); // unassigned, and so logged without an exit
    case 1: return 512 + below(1000);
    case 2: return below(512);
    case 3: return u64{1} << 30 | below(600);
    case 4: return random() & 0xffffffff;
    default: return random();
    }
}

void randomly(const Options& o) {
    for (u64 n = o.from; n < o.from + o.cases; ++n) {
        state = (o.seed + 1) * 0x9e3779b97f4a7c15 ^ (n + 1) * 0xd1342543de82ef95;
        for (unsigned i = 0; i < 8; ++i)
            static_cast<void>(random());
        Setup s;
        s.entry = one_in(2) ? Entry::syscall : any<Entry>();
        s.place = any<Place>();
        s.before = one_in(2) ? Before::nothing : any<Before>();
        s.target = one_in(3) ? Target::handler : any<Target>();
        s.window = one_in(2) ? Window::plain : any<Window>();
        s.how_back = any<Return>();
        s.gate = one_in(2) ? Gate::interrupt : any<Gate>();
        s.sce = !one_in(16);
        s.smep = one_in(3);
        s.smap = one_in(5);
        s.mend = one_in(3);
        s.null_cs = one_in(16);
        s.other_tables = one_in(6);
        s.same_stack = one_in(4);
        const u32 masks[] = {0, 0x100, 0x200, 0x300, 0x47700, 0x257fd5, static_cast<u32>(random())};
        s.fmask = masks[below(7)];
        const u64 some = flag_if | flag_df | flag_iopl3 | flag_nt | flag_ac | flag_id | 0x8d5;
        s.flags =
            (random() & some) | (one_in(3) ? u64{flag_tf} : 0) | (one_in(4) ? u64{flag_rf} : 0);
        s.back_flags = (random() & some) | (one_in(3) ? u64{flag_tf} : 0);
        s.kernel_gs = static_cast<u64>(static_cast<i64>(random()) >> 17);
        s.number = any_number();
        if (o.list) {
            s.number =
                s.entry == Entry::syscall && one_in(2) ? 340 + below(70) : 600 + below(30000);
            if (one_in(4)) s.number |= random() << 32;                         // not for the kernel
            if (s.target == Target::monitor_entry) s.before = Before::nothing; // EAX: its low half
        }
        s.registers = random();
        if (s.target == Target::itself) {
            // It ends by single steps only, and is told from the program by its ring.
            s.flags |= flag_tf;
            s.fmask &= ~u32{flag_tf};
            if (s.place == Place::kernel || s.place == Place::kernel_top) s.place = Place::user64;
            if (s.before == Before::set_tf) s.before = Before::nothing;
        }
        if (one_in(3)) choose_breakpoints(s);
        begin_case("random", n, o.verbose);
        run_experiment(s);
        end_case();
    }
}

/// A system call under tables that map nothing but its own page: the handler cannot be fetched, nor
/// any fault delivered.
void shut_down() {
    alignas(4096) static u64 tables[4][512];
    tables[0][0] = reinterpret_cast<u64>(tables[1]) | pte_p | pte_w | pte_u;
    tables[1][0] = reinterpret_cast<u64>(tables[2]) | pte_p | pte_w | pte_u;
    tables[2][1] = reinterpret_cast<u64>(tables[3]) | pte_p | pte_w | pte_u;
    const u64 page = reinterpret_cast<u64>(page_c);
    tables[3][page >> 12 & 511] = page | pte_p | pte_w;
    const u8 program[] = {0x0f, 0x22, 0xd9, 0x0f, 0x05}; // MOV CR3, RCX; SYSCALL
    run_bytes(program, sizeof program, reinterpret_cast<u64>(tables[0]), 0, 400);
}

} // namespace

extern "C" void guest_main() {
    const Options o = read_options();
    prepare_experiments(o);
    put_text("HIDING\n");
    if (o.directed == ~u64{0}) {
        registers(o);
        accesses(o);
    }
    directed(o);
    randomly(o);
    if (o.fatal) {
        put_text("FATAL\n");
        shut_down();
    }
    put_text("END\n");
    power_off();
}
