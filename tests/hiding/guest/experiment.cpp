// SPDX-License-Identifier: Apache-2.0
#include "experiment.h"

namespace {

constexpr u32 msr_efer = 0xc0000080, msr_star = 0xc0000081, msr_lstar = 0xc0000082,
              msr_cstar = 0xc0000083, msr_fmask = 0xc0000084, msr_gs_base = 0xc0000101,
              msr_kernel_gs_base = 0xc0000102, msr_sysenter_cs = 0x174, msr_sysenter_esp = 0x175,
              msr_sysenter_eip = 0x176;
constexpr u64 cr4_smep = 1 << 20, cr4_smap = 1 << 21;
constexpr u8 vector_db = 1, vector_nmi = 2, vector_df = 8, vector_pf = 14, vector_ipi = 0x50,
             vector_call = 0x80, vector_end = 0x81;
constexpr u64 pf_write = 2;
constexpr u64 dr6_clear = 0xffff0ff0, dr6_single_step = 0x4000;
constexpr u64 user_top_page = 0x7ffffffff000, kernel_top_page = 0xfffffffffffff000;
constexpr u64 page_size = 4096;
constexpr u64 low_target = 0x1000;
constexpr unsigned most_events = 40, most_steps = 16, most_entries = 6;

alignas(4096) u64 window_table[512], window_directory[512], window_pointers[512];
alignas(4096) u64 top_table[512], top_directory[512], top_pointers[512];
alignas(4096) u64 user_top_table[512], user_top_directory[512], user_top_pointers[512];
alignas(4096) u64 other_pml4[512];
alignas(4096) u8 window_memory[window_pages * page_size];
/// What MOV SS loads: nothing else is near, for the breakpoints on it.
alignas(4096) u16 stack_selector_line[2048];
u16& stack_selector = stack_selector_line[0];

Options options;
Setup now;
bool running, mended;
unsigned events, steps, entries;
u64 program_address; // of the entering instruction
unsigned entry_length;

u64 physical(const void* p) { return reinterpret_cast<u64>(p); } // identity
bool from_user(const Setup& s) {
    return s.place == Place::user64 || s.place == Place::user32 || s.place == Place::user_top;
}
u8* stub_of(Entry e) { return e == Entry::sysenter ? sysenter_handler : syscall_handler; }
u64 stub_size(Entry e) {
    return static_cast<u64>((e == Entry::sysenter ? sysenter_handler_end : syscall_handler_end) -
                            stub_of(e));
}

void copy(u8* to, const u8* from, u64 size) {
    for (u64 i = 0; i < size; ++i)
        to[i] = from[i];
}

// ---- what the guest sees

void note_registers(const Frame& f) {
    const u64* r = &f.rax;
    static const char* const names[] = {"ax", "cx", "dx",  "bx",  "",    "bp",  "si",  "di",
                                        "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"};
    for (unsigned i = 0; i < 16; ++i)
        if (i != 4) note(names[i], r[i]);
    end_line();
}

void note_msrs() {
    note("star", read_msr(msr_star));
    note("lstar", read_msr(msr_lstar));
    note("cstar", read_msr(msr_cstar));
    note("fmask", read_msr(msr_fmask));
    note("gs", read_msr(msr_gs_base));
    note("kgs", read_msr(msr_kernel_gs_base));
    note("scs", read_msr(msr_sysenter_cs));
    note("sesp", read_msr(msr_sysenter_esp));
    note("seip", read_msr(msr_sysenter_eip));
    note("efer", read_msr(msr_efer));
    end_line();
}

/// Accessed and dirty bits, and that nobody else wrote there.
void note_tables() {
    note("p4", pml4[256]);
    note("p3", window_pointers[0]);
    note("p2", window_directory[0]);
    for (unsigned i = 0; i < window_pages; ++i)
        if (window_table[i] != 0) note("pte", window_table[i]);
    note("top", top_table[511]);
    note("utop", user_top_table[511]);
    end_line();
}

void note_event(const Frame& f) {
    note("vector", f.vector);
    note("error", f.error);
    note("rip", f.rip);
    note("cs", f.cs);
    note("rflags", f.rflags);
    note("rsp", f.rsp);
    note("ss", f.ss);
    if (f.vector == vector_pf) note("cr2", read_cr2());
    note_registers(f);
}

void note_setup(const Setup& s) {
    note("entry", static_cast<u64>(s.entry));
    note("place", static_cast<u64>(s.place));
    note("before", static_cast<u64>(s.before));
    note("target", static_cast<u64>(s.target));
    note("window", static_cast<u64>(s.window));
    note("back", static_cast<u64>(s.how_back));
    note("gate", static_cast<u64>(s.gate));
    note("sce", s.sce);
    note("smep", s.smep);
    note("smap", s.smap);
    note("mend", s.mend);
    note("null_cs", s.null_cs);
    note("same_stack", s.same_stack);
    note("other_tables", s.other_tables);
    note("fmask", s.fmask);
    note("flags", s.flags);
    note("back_flags", s.back_flags);
    note("number", s.number);
    for (const u64 b : s.breakpoint)
        note("dr", b);
    note("dr7", s.dr7);
    end_line();
}

// ---- mappings

void flush() { write_cr3(read_cr3()); }

u64 window_flags(Window w) {
    switch (w) {
    case Window::plain: return pte_p | pte_w;
    case Window::not_executable: return pte_p | pte_w | pte_nx;
    case Window::for_user: return pte_p | pte_w | pte_u;
    case Window::read_only: return pte_p;
    case Window::reserved_bit: return pte_p | pte_w | u64{1} << 48;
    default: return 0;
    }
}

void map_window(Window w) {
    const u64 flags = window_flags(w);
    for (unsigned i = 0; i < window_pages; ++i)
        window_table[i] = flags == 0 ? 0 : (physical(window_memory) + i * page_size) | flags;
    window_directory[0] = physical(window_table) | pte_p | pte_w | pte_u;
    window_pointers[0] = physical(window_directory) | pte_p | pte_w | pte_u;
    pml4[256] = physical(window_pointers) | pte_p | pte_w | pte_u;
}

void map_tops(const Setup& s) {
    top_table[511] = physical(s.place == Place::kernel_top ? page_a : page_d) | pte_p | pte_w;
    top_directory[511] = physical(top_table) | pte_p | pte_w;
    top_pointers[511] = physical(top_directory) | pte_p | pte_w;
    pml4[511] = physical(top_pointers) | pte_p | pte_w;
    user_top_table[511] = physical(page_a) | pte_p | pte_w | pte_u;
    user_top_directory[511] = physical(user_top_table) | pte_p | pte_w | pte_u;
    user_top_pointers[511] = physical(user_top_directory) | pte_p | pte_w | pte_u;
    pml4[255] = physical(user_top_pointers) | pte_p | pte_w | pte_u;
    for (unsigned i = 0; i < 512; ++i)
        other_pml4[i] = i == 256 ? 0 : pml4[i];
}

void place_handlers(const Setup& s) {
    const u8* const stub = stub_of(s.entry);
    const u64 size = stub_size(s.entry), at = address_of_target(s);
    copy(page_b + 0x200, stub, size); // Target::user_page
    if (s.target == Target::top)
        copy((s.place == Place::kernel_top ? page_a : page_d) + (at & (page_size - 1)), stub, size);
    if (at >= monitor_range && at < monitor_range + window_pages * page_size)
        copy(window_memory + (at - monitor_range), stub, size);
}

// ---- programs

struct Assembler {
    u8 bytes[64];
    unsigned size = 0;
    void add(u8 b) { bytes[size++] = b; }
    void add32(u64 v) {
        for (unsigned i = 0; i < 4; ++i)
            add(static_cast<u8>(v >> (8 * i)));
    }
    template <class... B>
    void list(B... b) {
        (add(static_cast<u8>(b)), ...);
    }
};

void assemble_before(Assembler& a, const Setup& s) {
    const bool kernel = !from_user(s);
    switch (s.before) {
    case Before::sti: a.add(0xfb); break;
    case Before::mov_ss:
        if (s.place == Place::user32)
            a.list(0x8e, 0x15);
        else
            a.list(0x8e, 0x14, 0x25);
        a.add32(physical(&stack_selector) + (kernel ? 0 : user_alias));
        break;
    case Before::set_tf:
        a.list(0x9c, 0x81, 0x0c, 0x24);
        a.add32(flag_tf);
        a.add(0x9d);
        break;
    case Before::write_lstar:
        if (!kernel) break;
        a.add(0xb9), a.add32(msr_lstar);
        a.add(0xb8), a.add32(address_of_target(s));
        a.add(0xba), a.add32(address_of_target(s) >> 32);
        a.list(0x0f, 0x30);
        break;
    case Before::send_nmi:
        if (!kernel) break;
        a.list(0xc7, 0x03); // MOV [RBX], the interrupt command: NMI to self
        a.add32(0x40400);
        break;
    case Before::swapgs:
        if (kernel) a.list(0x0f, 0x01, 0xf8);
        break;
    default: break;
    }
}

void assemble_entry(Assembler& a, Entry e) {
    const unsigned begin = a.size;
    switch (e) {
    case Entry::syscall: a.list(0x0f, 0x05); break;
    case Entry::sysenter: a.list(0x0f, 0x34); break;
    case Entry::int80: a.list(0xcd, 0x80); break;
    case Entry::vmcall: a.list(0x0f, 0x01, 0xc1); break;
    default: a.list(0x0f, 0x01, 0xd9); break;
    }
    entry_length = a.size - begin;
}

u64 code_base(const Setup& s) {
    switch (s.place) {
    case Place::user_top: return user_top_page;
    case Place::kernel_top: return kernel_top_page;
    case Place::kernel: return physical(page_a);
    default: return physical(page_a) + user_alias;
    }
}

/// Writes the program; returns its first address. The entering instruction ends the page at the
/// tops, and otherwise lies at a fixed place, which setups may name before the program exists.
u64 write_program(const Setup& s) {
    Assembler before, entry;
    assemble_before(before, s);
    assemble_entry(entry, s.entry);
    const u64 at = address_of_entry(s) & (page_size - 1);
    copy(page_a + at - before.size, before.bytes, before.size);
    copy(page_a + at, entry.bytes, entry.size);
    const u8 end[] = {0xcd, vector_end};
    if (at + entry.size < page_size) copy(page_a + at + entry.size, end, 2);
    return address_of_entry(s) - before.size;
}

void set_gate(u8 vector, u8 ist, u8 type) {
    idt[16 * vector + 4] = ist;
    idt[16 * vector + 5] = type;
}

void set_gates(const Setup& s) {
    static constexpr u8 types[] = {0xee, 0xef, 0xe5, 0x6e, 0x8e};
    for (unsigned v = 0; v < 256; ++v)
        set_gate(static_cast<u8>(v), 2, 0x8e);
    set_gate(vector_df, 1, 0x8e);
    set_gate(vector_db, s.same_stack ? 0 : 3, 0x8e);
    set_gate(vector_nmi, 4, 0x8e);
    set_gate(vector_ipi, 4, 0x8e);
    set_gate(vector_end, 2, 0xee);
    set_gate(vector_call, 0, types[static_cast<unsigned>(s.gate)]);
}

void load_breakpoints(const Setup& s) {
    asm volatile("mov %0, %%dr0" : : "r"(s.breakpoint[0]));
    asm volatile("mov %0, %%dr1" : : "r"(s.breakpoint[1]));
    asm volatile("mov %0, %%dr2" : : "r"(s.breakpoint[2]));
    asm volatile("mov %0, %%dr3" : : "r"(s.breakpoint[3]));
    asm volatile("mov %0, %%dr6" : : "r"(dr6_clear));
    asm volatile("mov %0, %%dr7" : : "r"(s.dr7));
}
void clear_breakpoints() { asm volatile("mov %0, %%dr7" : : "r"(u64{0x400})); }

void apic_write(u64 offset, u32 value) {
    *reinterpret_cast<volatile u32*>(local_apic + offset) = value;
}

// ---- events

void end_experiment(Frame& f) {
    running = false;
    clear_breakpoints();
    f.rip = reinterpret_cast<u64>(&experiment_ended);
    f.cs = kcode;
    f.rflags = flag_fixed;
    f.rsp = reinterpret_cast<u64>(kernel_stack_top);
    f.ss = kdata;
}

void list_entry(const Frame& f, u64 abi) {
    const u64 low = 0xffffffff;
    const u64 tables = now.other_tables ? physical(other_pml4) : physical(pml4);
    if (abi == 64)
        list_call(options.list, tables, f.rax & low, {f.rdi, f.rsi, f.rdx, f.r10, f.r8});
    else
        list_call(options.list, tables, f.rax & low,
                  {f.rbx & low, f.rcx & low, f.rdx & low, f.rsi & low, f.rdi & low});
}

/// The handler was entered, but this event came before it could say so, and ends the case.
void list_if_entered(const Frame& f, u64 at) {
    // The step has listed it, unless this is the step, whose frame did not get to the stack.
    if (now.target == Target::itself && (f.vector != vector_pf || (f.error & pf_write) == 0))
        return;
    const u64 done = at - address_of_target(now); // bytes of the handler
    const bool handler = now.target != Target::itself && now.target != Target::low;
    if (entries != 0 || done >= (handler ? stub_size(now.entry) : 1) || (f.cs & 3) != 0) return;
    Frame made = f;
    if (done != 0) made.rax = entry_frame.rax; // saved by the first instruction, then used
    if (now.entry == Entry::syscall) list_entry(made, 64);
    if (now.entry == Entry::sysenter) list_entry(made, 32);
}

/// Whether the experiment goes on.
bool on_debug(Frame& f) {
    u64 dr6;
    asm volatile("mov %%dr6, %0" : "=r"(dr6));
    note("dr6", dr6);
    asm volatile("mov %0, %%dr6" : : "r"(dr6_clear));
    if ((dr6 & 15) != 0) f.rflags |= flag_rf;
    // Each step is an entry; a breakpoint on it comes besides.
    const bool loops =
        now.target == Target::itself && f.rip == program_address && (dr6 & dr6_single_step) != 0;
    if (loops && (f.cs & 3) == 0) list_entry(f, now.entry == Entry::syscall ? 64 : 32);
    if (++steps < most_steps) return true;
    if (now.target == Target::itself) return false;
    f.rflags &= ~u64{flag_tf};
    clear_breakpoints();
    return true;
}

bool on_page_fault(const Frame& f) {
    const u64 address = read_cr2();
    if (now.mend && !mended && address >= monitor_range &&
        address < monitor_range + window_pages * page_size) {
        mended = true;
        write_cr3(physical(pml4));
        map_window(Window::plain);
        flush();
        return true;
    }
    list_if_entered(f, f.rip);
    return false;
}

bool on_int80(Frame& f) {
    if ((f.cs & 3) == 3) list_entry(f, 32);
    if (now.how_back == Return::end || ++entries > most_entries) return false;
    f.rflags = now.back_flags | flag_fixed;
    return true;
}

} // namespace

extern "C" void on_event(Frame* f) {
    if (!running) {
        // Between experiments only what was left pending may come.
        if (f->vector == vector_ipi) apic_write(0xb0, 0);
        if (f->vector == vector_ipi || f->vector == vector_nmi) return;
        put_text("\nUNEXPECTED event ");
        put_hex(f->vector);
        put_text(" at ");
        put_hex(f->rip);
        put_text("\n");
        power_off();
    }
    note_event(*f);
    bool goes_on = ++events < most_events;
    switch (f->vector) {
    case vector_db: goes_on = on_debug(*f) && goes_on; break;
    case vector_pf: goes_on = on_page_fault(*f) && goes_on; break;
    case vector_call: goes_on = on_int80(*f) && goes_on; break;
    case vector_ipi: apic_write(0xb0, 0); break;
    case vector_nmi: break;
    case vector_end:
        if (f->rip == low_target + 2) list_if_entered(*f, low_target);
        goes_on = false;
        break;
    default: goes_on = false;
    }
    if (!goes_on) end_experiment(*f);
}

/// The guest's own handler. @return how entries.S goes on: 0 ends, 1 IRET, 2 to 5 SYSRET and
/// SYSEXIT.
extern "C" u64 on_entry(Frame* f) {
    note_event(*f);
    if (f->vector == 0x102)
        list_entry(*f, 32);
    else
        list_entry(*f, 64);
    const u64 back = f->vector == 0x102 ? program_address + entry_length : f->rcx;
    if (++entries > most_entries || now.how_back == Return::end) {
        running = false;
        clear_breakpoints();
        return 0;
    }
    switch (now.how_back) {
    case Return::iret:
        f->rip = back;
        f->cs = now.place == Place::user32 ? ucode32 : from_user(now) ? ucode64 : kcode;
        f->ss = from_user(now) ? udata : kdata;
        f->rflags = now.back_flags | flag_fixed;
        if (f->vector == 0x102)
            f->rsp = reinterpret_cast<u64>(user_stack_top) + (from_user(now) ? user_alias : 0);
        return 1;
    case Return::noncanonical:
        f->rcx = u64{1} << 47;
        f->r11 = now.back_flags;
        return 2;
    case Return::sysret64:
    case Return::sysret32:
        f->rcx = back;
        f->r11 = now.back_flags;
        return now.how_back == Return::sysret64 ? 2 : 3;
    default:
        f->rdx = back;
        f->rcx = reinterpret_cast<u64>(user_stack_top) + user_alias;
        return now.how_back == Return::sysexit64 ? 4 : 5;
    }
}

u64 address_of_entry(const Setup& s) {
    const unsigned length = s.entry == Entry::vmcall || s.entry == Entry::vmmcall ? 3 : 2;
    const bool top = s.place == Place::user_top || s.place == Place::kernel_top;
    return code_base(s) + (top ? page_size - length : 0x800);
}

u64 address_of_target(const Setup& s) {
    switch (s.target) {
    case Target::user_page: return physical(page_b) + 0x200 + user_alias;
    case Target::monitor_range: return monitor_range + page_size + 0x123;
    case Target::monitor_entry: return monitor_range;
    case Target::monitor_data: return monitor_range + 2 * page_size + 0x40;
    case Target::straddling: return monitor_range + page_size - 4;
    // Ends where the address space does, or before a program that does.
    case Target::top: return 0 - stub_size(s.entry) - (s.place == Place::kernel_top ? 64 : 0);
    case Target::itself: return address_of_entry(s);
    case Target::low: return low_target;
    default: return reinterpret_cast<u64>(stub_of(s.entry));
    }
}

u64 watched_address(const Setup& s) {
    return physical(&stack_selector) + (from_user(s) ? user_alias : 0);
}

void prepare_experiments(const Options& o) {
    options = o;
    for (u64& hook : hooks)
        hook = reinterpret_cast<u64>(&on_event);
    apic_write(0xf0, 0x1ff); // software enable
    // Where execution goes on behind the top of the address space, and at Target::low.
    for (const u64 at : {u64{0}, low_target})
        asm volatile("movw %0, (%1)" : : "r"(u16{vector_end << 8 | 0xcd}), "r"(at) : "memory");
}

void run_experiment(const Setup& s) {
    now = s;
    note_setup(s);
    mended = false;
    events = steps = entries = 0;
    map_window(s.window);
    map_tops(s);
    place_handlers(s);
    const u64 begin = write_program(s);
    program_address = address_of_entry(s);
    set_gates(s);
    const u64 target = address_of_target(s);
    const bool late = s.before == Before::write_lstar && !from_user(s);
    write_msr(msr_star, 0x0018000800000000);
    write_msr(msr_lstar, late ? reinterpret_cast<u64>(compatibility_handler) : target);
    write_msr(msr_cstar, reinterpret_cast<u64>(compatibility_handler));
    write_msr(msr_fmask, s.fmask);
    write_msr(msr_sysenter_cs, s.null_cs ? 0 : u64{kcode});
    write_msr(msr_sysenter_esp, reinterpret_cast<u64>(sysenter_stack_top));
    write_msr(msr_sysenter_eip, target);
    write_msr(msr_kernel_gs_base, s.kernel_gs);
    write_msr(msr_gs_base, 0);
    write_msr(msr_efer, (read_msr(msr_efer) & ~u64{1}) | (s.sce ? 1 : 0));
    write_cr4((read_cr4() & ~(cr4_smep | cr4_smap)) | (s.smep ? cr4_smep : 0) |
              (s.smap ? cr4_smap : 0));
    note_msrs();

    const bool user = from_user(s);
    stack_selector = user ? udata : kdata;
    Frame f{};
    u64* const r = &f.rax;
    u64 x = s.registers | 1;
    for (unsigned i = 0; i < 16; ++i) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        r[i] = x;
    }
    f.rax = s.number;
    if (s.before == Before::send_nmi) f.rbx = local_apic + 0x300;
    f.rip = begin;
    f.cs = s.place == Place::user32 ? ucode32 : user ? ucode64 : kcode;
    f.ss = user ? udata : kdata;
    f.rsp = reinterpret_cast<u64>(user ? user_stack_top + user_alias : kernel_stack_top) - 256;
    f.rflags = s.flags | flag_fixed;
    if (s.before == Before::sti) {
        apic_write(0x310, 0);
        apic_write(0x300, 0x40000 | vector_ipi); // to self; taken once IF is set
        f.rflags &= ~u64{flag_if};
        if (user) f.rflags |= flag_iopl3;
    }
    write_cr2(0);
    write_cr3(s.other_tables ? physical(other_pml4) : physical(pml4));
    load_breakpoints(s);
    running = true;
    enter_experiment(&f);
    write_cr3(physical(pml4));
    asm volatile("sti; nop; nop; cli"); // what is still pending
    note("gs", read_msr(msr_gs_base));
    note_msrs();
    note_tables();
    u64 frame = reinterpret_cast<u64>(rsp0_top);
    asm("" : "+r"(frame)); // nothing the compiler knows the size of
    for (unsigned i = 1; i <= 6; ++i)
        note("rsp0", reinterpret_cast<const volatile u64*>(frame - 8 * u64{i})[0]);
    end_line();
}

void run_bytes(const u8* bytes, u64 size, u64 rcx, u64 rdx, u64 rax) {
    Setup s;
    s.place = Place::kernel;
    now = s;
    events = steps = entries = 0;
    set_gates(s);
    copy(page_c, bytes, size);
    const u8 end[] = {0xcd, vector_end};
    copy(page_c + size, end, 2);
    Frame f{};
    f.rax = rax;
    f.rcx = rcx;
    f.rdx = rdx;
    f.rip = physical(page_c);
    f.cs = kcode;
    f.ss = kdata;
    f.rsp = reinterpret_cast<u64>(kernel_stack_top) - 256;
    f.rflags = flag_fixed;
    write_cr2(0);
    running = true;
    enter_experiment(&f);
}
