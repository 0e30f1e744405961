// SPDX-License-Identifier: Apache-2.0
// Pieces of code that use what only an operating system would, and use it badly.
#include "hostile_guest/code_writer.h"
#include "hostile_guest/program_maker.h"

#include "platform/layout.h"

#include <cstddef>
#include <iterator>

namespace gnomon::test::hostile {

namespace {

enum Register : unsigned { rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi };

constexpr u32 msrs[] = {
    0x10,       0x1b,       0x3a,       0x3b,       0x48,       0x49,       0x8b,       0xce,
    0xfe,       0x10a,      0x174,      0x175,      0x176,      0x179,      0x17a,      0x1a0,
    0x1d9,      0x200,      0x20f,      0x250,      0x258,      0x26f,      0x277,      0x2ff,
    0x345,      0x6e0,      0x802,      0x808,      0x80b,      0x80f,      0x830,      0x832,
    0x838,      0x83e,      0x83f,      0xda0,      0xc0000080, 0xc0000081, 0xc0000082, 0xc0000083,
    0xc0000084, 0xc0000100, 0xc0000101, 0xc0000102, 0xc0000103, 0xc0010015, 0x40000000, 0x4b564d00};

u32 some_msr(Random& random) {
    if (random.percent(15)) return static_cast<u32>(random.next());
    if (random.percent(10)) return static_cast<u32>(random.below(0x2000));
    if (random.percent(15)) return 0x800 + static_cast<u32>(random.below(0x40));
    return msrs[random.below(std::size(msrs))];
}

u16 some_selector(Random& random) {
    constexpr u16 known[] = {0,
                             3,
                             selector::kernel_code,
                             selector::kernel_data,
                             selector::user_code32,
                             selector::user_data,
                             selector::user_code,
                             selector::tss,
                             selector::kernel_code32,
                             selector::code1,
                             selector::data1,
                             selector::call_gate,
                             selector::code16,
                             selector::expand_down,
                             selector::conforming,
                             selector::ldt};
    if (random.percent(60)) return known[random.below(std::size(known))];
    return static_cast<u16>(random.percent(50) ? random.next() & 0x1ff : random.next());
}

u16 some_port(Random& random) {
    constexpr u16 known[] = {0x20,  0x21,  0xa0,  0xa1,  0x40,  0x43,  0x60,  0x61,
                             0x64,  0x70,  0x71,  0x80,  0x92,  0x3f8, 0x3fd, 0x4d0,
                             0x4d1, 0x600, 0x602, 0x608, 0xcf8, 0xcfc, 0xcfe};
    return random.percent(75) ? known[random.below(std::size(known))]
                              : static_cast<u16>(random.next());
}

} // namespace

void ProgramMaker::system(Writer& w, Random& random) {
    const auto control_register = [&](bool write, unsigned number, unsigned reg) {
        if (number >= 8) w.bytes({0x44});
        w.bytes({0x0f, static_cast<u8>(write ? 0x22 : 0x20),
                 static_cast<u8>(0xc0 | (number & 7) << 3 | reg)});
    };
    const auto system_memory = [&](u8 second, unsigned field, unsigned reg) {
        w.bytes({0x0f, second, static_cast<u8>(field << 3 | reg)});
    };
    for (u64 n = 1 + random.below(4); n > 0; --n) {
        switch (random.below(24)) {
        case 0: // CR0, from what it is: one bit or some change
            control_register(false, 0, rax);
            w.bytes(
                {0x0f, 0xba, 0xf8,
                 static_cast<u8>(random.pick({1, 2, 3, 16, 16, 18, 29, 30, 31}))}); // btc eax, n
            control_register(true, 0, rax);
            break;
        case 1: // CR4
            control_register(false, 4, rax);
            w.bytes({0x0f, 0xba, 0xf8,
                     static_cast<u8>(random.percent(70)
                                         ? random.pick({2, 3, 7, 9, 10, 11, 16, 18, 20, 21})
                                         : static_cast<int>(random.below(32)))});
            control_register(true, 4, rax);
            break;
        case 2: // CR3: mostly the same again, or nearly
            if (random.percent(70)) {
                control_register(false, 3, rax);
                if (random.percent(30))
                    w.bytes({0x48, 0x0f, 0xba, 0xe8,
                             static_cast<u8>(random.pick({3, 4, 63}))}); // bts rax, n
                if (random.percent(3))
                    w.bytes({0x48, 0x05, 0x00, 0x10, 0x00, 0x00}); // add rax, 0x1000
            } else if (random.percent(15)) {
                w.load(rax, hostile_value(random));
            } else {
                w.load(rax, place::pml4);
            }
            control_register(true, 3, rax);
            break;
        case 3: // CR8, CR2, and those that are not there
            w.load(rax, random.percent(60) ? random.below(16) : hostile_value(random));
            control_register(random.percent(70),
                             static_cast<unsigned>(random.pick({8, 8, 2, 1, 5, 7, 9, 15})), rax);
            break;
        case 4: { // debug registers
            w.load(rax, random.percent(60) ? hostile_address(random) : random.next() & 0xffff'ffff);
            const unsigned number = static_cast<unsigned>(random.below(8));
            w.bytes({0x0f, static_cast<u8>(random.percent(80) ? 0x23 : 0x21),
                     static_cast<u8>(0xc0 | number << 3)});
            if (random.percent(30)) {
                w.load32(rax, static_cast<u32>(random.next() & 0xffff03ff));
                w.bytes({0x0f, 0x23, 0xf8}); // mov dr7, rax
            }
            break;
        }
        case 5:
        case 6:
        case 7: { // MSRs
            w.load32(rcx, some_msr(random));
            if (random.percent(65)) {
                const u64 value =
                    random.percent(20) ? kernel_address(random) : hostile_value(random);
                w.load32(rax, static_cast<u32>(value));
                w.load32(rdx, static_cast<u32>(value >> 32));
                w.bytes({0x0f, 0x30});
            }
            w.bytes({0x0f, 0x32});
            break;
        }
        case 8: // EFER, one bit changed
            w.load32(rcx, 0xc0000080);
            w.bytes({0x0f, 0x32});
            w.bytes({0x0f, 0xba, 0xf8, static_cast<u8>(random.pick({0, 11, 11, 8, 10, 12, 1}))});
            w.bytes({0x0f, 0x30});
            break;
        case 9: // LGDT, LIDT: mostly of garbage that keeps something
            w.load(rbx, hostile_address(random));
            if (random.percent(80))
                system_memory(0x01, random.percent(50) ? 0 : 1, rbx); // SGDT, SIDT
            else
                system_memory(0x01, random.percent(70) ? 2 : 3, rbx);
            break;
        case 10: // LTR, LLDT, STR, SLDT, LMSW, SMSW
            w.load32(rax, some_selector(random));
            w.bytes({0x0f, 0x00, static_cast<u8>(0xc0 | random.below(4) << 3)});
            w.bytes({0x0f, 0x01, static_cast<u8>(0xc0 | (random.percent(50) ? 4U : 6U) << 3)});
            break;
        case 11: // segment registers
            w.load32(rax, some_selector(random));
            w.bytes({0x8e, static_cast<u8>(0xc0 | random.pick({0, 2, 3, 4, 5, 1}) << 3)});
            break;
        case 12: // INVLPG
            w.load(rbx, hostile_address(random));
            system_memory(0x01, 7, rbx);
            break;
        case 13: // INVPCID
            w.load(rax, random.below(5));
            w.load(rbx, hostile_address(random));
            w.bytes({0x66, 0x0f, 0x38, 0x82, 0x03});
            break;
        case 14: // XSETBV, XGETBV
            w.load32(rcx, static_cast<u32>(random.below(3)));
            w.load32(rax, static_cast<u32>(random.percent(70) ? random.pick({1, 3, 7, 5, 0})
                                                              : static_cast<int>(random.next())));
            w.load32(rdx, random.percent(90) ? 0 : 1);
            w.bytes({0x0f, 0x01, static_cast<u8>(random.percent(70) ? 0xd1 : 0xd0)});
            break;
        case 15: w.bytes({0x0f, 0x06}); break;                                        // CLTS
        case 16: w.bytes({static_cast<u8>(random.percent(50) ? 0xfb : 0xfa)}); break; // STI, CLI
        case 17: w.bytes({0xf4}); break;                                              // HLT
        case 18:
            w.load32(rax, static_cast<u32>(random.pick<u32>(
                              {0, 1, 4, 7, 0xb, 0xd, 0x15, 0x40000000, 0x80000008})));
            w.bytes({0x0f, 0xa2});
            break;
        case 19:
            w.bytes({0x0f, 0x01,
                     static_cast<u8>(random.pick(
                         {0xf8, 0xc1, 0xd9, 0xca, 0xcb, 0xf9, 0xc8, 0xc9, 0xee, 0xef}))});
            break;
        case 20: // FS and GS bases
            w.load(rax, hostile_value(random));
            w.bytes({0xf3, 0x48, 0x0f, 0xae, static_cast<u8>(0xc0 | random.below(4) << 3)});
            break;
        case 21: // POPF with TF, AC, NT, IOPL ...
            w.load32(rax, static_cast<u32>(random.next() & 0x3f7fd7) |
                              (random.percent(30) ? 0x100U : 0));
            w.bytes({0x50, 0x9d, 0x90, 0x90});
            break;
        case 22:
            w.bytes({0x0f, static_cast<u8>(random.pick({0x09, 0x08, 0x31, 0x33, 0xff, 0xb9}))});
            break; // WBINVD, INVD, RDTSC, RDPMC, UD
        default:   // LAR, LSL, VERR, VERW, MOV from segment, XSAVE, XRSTOR
            w.load32(rax, some_selector(random));
            w.bytes({0x0f, static_cast<u8>(random.pick({0x02, 0x03})), 0xd8});
            w.bytes({0x0f, 0x00, static_cast<u8>(0xe0 | random.below(2) << 3)});
            w.load(rbx, hostile_address(random) & (random.percent(80) ? ~u64{63} : ~u64{0}));
            w.load32(rax,
                     static_cast<u32>(random.percent(70) ? 7 : static_cast<int>(random.next())));
            w.bytes({0x48, 0x0f, static_cast<u8>(random.percent(80) ? 0xae : 0xc7),
                     static_cast<u8>(random.pick({4, 5, 6, 0, 1, 3}) << 3 | rbx)});
            break;
        }
    }
}

void ProgramMaker::transfer(Writer& w, Random& random) {
    const u64 target = random.percent(60)   ? w.address() - random.below(200)
                       : random.percent(20) ? kernel_address(random)
                                            : hostile_address(random);
    switch (random.below(16)) {
    case 0:
    case 1:
    case 2: // system calls of every number
        w.load(rax, random.percent(80) ? random.below(520) : hostile_value(random));
        w.bytes({0x0f, 0x05});
        return;
    case 3:
        w.load32(rax, static_cast<u32>(random.below(450)));
        w.bytes({0xcd, 0x80});
        return;
    case 4: // SYSENTER, with something sensible to enter
        if (random.percent(50)) {
            w.load32(rcx, 0x174);
            w.load32(rax, selector::kernel_code);
            w.load32(rdx, 0);
            w.bytes({0x0f, 0x30});
        }
        w.bytes({0x0f, 0x34});
        return;
    case 5:
        w.load(rcx, target);
        w.load(11, random.percent(70) ? 0x202 : random.next());
        w.bytes({0x48, 0x0f, 0x07}); // SYSRETQ
        return;
    case 6:
        w.load(rdx, target);
        w.load(rcx, place::user_data + 0x800);
        w.bytes({0x48, 0x0f, 0x35}); // SYSEXITQ
        return;
    case 7: w.bytes({0xcd, random.byte()}); return;
    case 8: w.bytes({random.pick<u8>({0xcc, 0xf1, 0xce, 0x0b})}); return;
    case 9: { // IRET with a frame of its own
        const u16 code = some_selector(random), stack = some_selector(random);
        w.load(rax, random.percent(70) ? stack : random.next());
        w.bytes({0x50});
        w.load(rax, hostile_address(random));
        w.bytes({0x50});
        w.load(rax, random.percent(60) ? 0x202 : random.next());
        w.bytes({0x50});
        w.load(rax, random.percent(70) ? code : random.next());
        w.bytes({0x50});
        w.load(rax, target);
        w.bytes({0x50});
        if (random.percent(85)) w.bytes({0x48});
        w.bytes({0xcf});
        return;
    }
    case 10: // far call or jump through memory: a gate, or any selector
        w.load(rax, target);
        w.bytes({0x50});
        w.load(rax, random.percent(40) ? u64{selector::call_gate} | random.below(4)
                                       : some_selector(random));
        w.bytes({0x50});
        if (random.percent(50)) w.bytes({0x48});
        w.bytes({0xff, static_cast<u8>(random.percent(50) ? 0x1c : 0x2c),
                 0x24}); // [rsp]: 16:16, 16:32, 16:64
        return;
    case 11: // RETF
        w.load(rax, some_selector(random));
        w.bytes({0x50});
        w.load(rax, target);
        w.bytes({0x50});
        if (random.percent(80)) w.bytes({0x48});
        w.bytes({0xcb});
        return;
    case 12: // also what the interposer watches, with arguments that are not what it expects
        w.load(rdi, hostile_address(random));
        w.load(rsi, hostile_address(random));
        w.load(rbx, random.percent(50) ? kernel_address(random) : target);
        w.bytes({0xff, static_cast<u8>(random.percent(50) ? 0xe3 : 0xd3)}); // jmp, call rbx
        return;
    case 13:
        w.load(rax, target);
        w.bytes({0x50, 0xc3}); // ret
        return;
    case 14: // RSP somewhere, and an exception there
        w.load(rsp, hostile_address(random));
        w.bytes({0x50});
        return;
    default: w.bytes({0x0f, 0x01, 0xf8}); return; // SWAPGS
    }
}

void ProgramMaker::strings(Writer& w, Random& random) {
    w.load(rcx, random.percent(85) ? random.below(random.percent(80) ? 0x30 : 0x400)
                                   : hostile_value(random));
    w.load(rdi, hostile_address(random));
    w.load(rsi, hostile_address(random));
    if (random.percent(15)) w.bytes({0xfd}); // STD
    if (random.percent(80)) w.bytes({static_cast<u8>(random.percent(70) ? 0xf3 : 0xf2)});
    if (random.percent(10)) w.bytes({0x67});
    if (random.percent(20)) w.bytes({0x66});
    if (random.percent(30)) w.bytes({0x48});
    w.bytes({static_cast<u8>(
        random.pick({0xa4, 0xa5, 0xa4, 0xa5, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf, 0xa6, 0xa7}))});
    w.bytes({0xfc});
}

void ProgramMaker::devices(Writer& w, Random& random) {
    for (u64 n = 1 + random.below(5); n > 0; --n) {
        if (random.percent(50)) { // ports
            w.load32(rdx, some_port(random));
            w.load32(rax, static_cast<u32>(random.percent(60) ? random.below(256) : random.next()));
            if (random.percent(20)) { // string I/O
                w.load(rcx, random.below(20));
                w.load(rdi, hostile_address(random));
                w.load(rsi, hostile_address(random));
                if (random.percent(70)) w.bytes({0xf3});
                if (random.percent(30)) w.bytes({0x66});
                w.bytes({static_cast<u8>(0x6c | random.below(4))});
            } else {
                if (random.percent(20)) w.bytes({0x66});
                w.bytes({static_cast<u8>(0xec | random.below(4))});
            }
            continue;
        }
        namespace layout = platform::layout;
        const u64 base = random.pick({layout::local_apic_base, layout::local_apic_base,
                                      layout::io_apic_base, u64{0xfed0'0000}, u64{0xffff'fff0}});
        w.load(rbx, base + (random.percent(70) ? 16 * random.below(0x40) : random.below(0x1000)));
        w.load(rax, random.percent(50) ? random.below(0x200) : random.next());
        switch (random.below(8)) {
        case 0: w.bytes({0x89, 0x03}); break;                   // mov [rbx], eax
        case 1: w.bytes({0x8b, 0x03}); break;                   // mov eax, [rbx]
        case 2: w.bytes({0x48, 0x89, 0x03}); break;             // 8 bytes
        case 3: w.bytes({0x48, 0x87, 0x03}); break;             // xchg
        case 4: w.bytes({0xf0, 0x48, 0x0f, 0xb1, 0x03}); break; // lock cmpxchg
        case 5: w.bytes({0x0f, 0x11, 0x03}); break;             // movups [rbx], xmm0
        case 6: w.bytes({0xc5, 0xfe, 0x6f, 0x03}); break;       // vmovdqu ymm0, [rbx]
        default:
            w.bytes({0xff, static_cast<u8>(random.percent(50) ? 0xe3 : 0x33)});
            break; // jmp rbx; push [rbx]
        }
    }
}

void ProgramMaker::self_modification(Writer& w, Random& random) {
    const auto near = [&](u64 range) { return w.address() - range / 2 + random.below(range); };
    switch (random.below(5)) {
    case 0: // MOV [rip + d], imm32: in front of or behind itself
        w.bytes({0xc7, 0x05});
        w.number(static_cast<i32>(random.below(128)) - 64);
        w.number(static_cast<u32>(random.next()));
        break;
    case 1: // bytes of chance somewhere in the code, then on
        w.load(rdi, near(512));
        w.load(rax, random.next());
        if (random.percent(50))
            w.bytes({0x48, 0x89, 0x07}); // mov [rdi], rax
        else
            w.bytes({0xc5, 0xfe, 0x7f, 0x07}); // vmovdqu [rdi], ymm0
        break;
    case 2: // code is copied over code
        w.load(rsi, near(1024));
        w.load(rdi, near(256));
        w.load32(rcx, 1 + static_cast<u32>(random.below(64)));
        w.bytes({0xf3, 0xa4});
        break;
    case 3: // the next page's, and there
        w.load(rdi, (w.address() & ~page_offset_mask) + page_size - 3);
        w.load(rax, 0x0b0f'9090'9090'9090);
        w.bytes({0x48, 0x89, 0x07});
        w.bytes({0xff, 0xe7}); // jmp rdi
        break;
    default: { // through the other mapping of the same frame
        w.load(rdi, place::top + near(256));
        w.load(rax, random.next());
        w.bytes({0x48, 0x89, 0x07, 0x90, 0x90});
        break;
    }
    }
}

void ProgramMaker::page_tables(Writer& w, Random& random) {
    const auto entry = [&] {
        u64 e = random.percent(70) ? 0x67U : random.below(0x1000);
        e |= random.percent(80)   ? place::scratch + (random.below(32) << 12)
             : random.percent(50) ? place::pml4 + (random.below(24) << 12)
                                  : random.next() & 0x000f'ffff'ffff'f000;
        if (random.percent(10)) e |= u64{1} << 63;
        return e;
    };
    u64 at = place::tables + 0x1000 + random.below(place::tables_end - place::tables - 0x1000);
    if (random.percent(40)) at = place::tables + (random.below(10) << 12) + 8 * random.below(512);
    if (random.percent(3)) at = place::pml4 + 8 * random.below(512);
    if (random.percent(20)) // by way of the PML4 that names itself: the entry of a window
        at = 0xffff'0000'0000'0000 | place::self_map_slot << 39 | (place::windows >> 9) |
             8 * random.below(place::window_count);
    w.load(rbx, at & (random.percent(85) ? ~u64{7} : ~u64{0}));
    w.load(rax, entry());
    switch (random.below(6)) {
    case 0: w.bytes({0x48, 0x87, 0x03}); break;             // xchg [rbx], rax
    case 1: w.bytes({0xf0, 0x48, 0x0f, 0xb1, 0x03}); break; // lock cmpxchg
    case 2: w.bytes({0x88, 0x03}); break;                   // mov [rbx], al
    case 3:                                                 // rep stosq
        w.bytes({0x48, 0x89, 0xdf});
        w.load32(rcx, static_cast<u32>(random.below(100)));
        w.bytes({0xf3, 0x48, 0xab});
        break;
    default: w.bytes({0x48, 0x89, 0x03}); break;
    }
    w.load(rbx, hostile_address(random));
    if (random.percent(50)) w.bytes({0x0f, 0x01, 0x3b});                      // invlpg [rbx]
    if (random.percent(20)) w.bytes({0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8});    // CR3 again
    w.bytes({0x48, static_cast<u8>(random.percent(50) ? 0x8b : 0x89), 0x0b}); // rcx, [rbx]
}

void ProgramMaker::monitor_pages(Writer& w, Random& random) {
    const u64 at =
        place::monitor_range + (random.percent(60) ? random.below(0x200) : random.below(0x20000));
    switch (random.below(8)) {
    case 0:
    case 1:
        w.load(rbx, at);
        w.bytes({0x48, 0x8b, 0x03}); // mov rax, [rbx]
        return;
    case 2:
    case 3:
        w.load(rdi, at);
        w.load(rax, random.next());
        w.bytes({0x48, 0x89, 0x07});
        return;
    case 4: // entered like any code
        w.load(rbx, random.percent(60) ? place::monitor_range : at);
        w.bytes({0xff, static_cast<u8>(random.percent(50) ? 0xe3 : 0xd3)});
        return;
    case 5: // as the vector of system calls, and then one
        w.load32(rcx, random.pick<u32>({0xc0000082, 0xc0000083, 0x176}));
        w.load32(rax, static_cast<u32>(at));
        w.load32(rdx, static_cast<u32>(at >> 32));
        w.bytes({0x0f, 0x30});
        w.load32(rax, static_cast<u32>(random.below(512)));
        w.bytes({0x0f, static_cast<u8>(random.percent(80) ? 0x05 : 0x34)});
        return;
    case 6: // as a stack, and as the source of a copy
        w.load(rsp, at & ~u64{7});
        w.bytes({0x50, 0x5b});
        return;
    default:
        w.load(rsi, at);
        w.load(rdi, place::user_data);
        w.load32(rcx, 64);
        w.bytes({0xf3, 0xa4});
        return;
    }
}

} // namespace gnomon::test::hostile
