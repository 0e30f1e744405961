// SPDX-License-Identifier: Apache-2.0
/// @file Which of two faults comes: branches to non-canonical addresses fault before they change anything, and alignment
/// is checked before paging. As processors do; seen on AMD's, and documented for Intel's.
#include "guest.inc"

        GUEST_MAIN fault_priority
        CASE "#GP jump to a non-canonical address"
        movabs rax, 0x800000000000
1:      jmp rax
        EXPECT_FAULT 13, 0, 1b
        CASE "#GP call to a non-canonical address pushes nothing"
        movabs rax, 0x800000000000
        mov qword ptr [rsp - 8], 77
        mov [variable], rsp
1:      call rax
        EXPECT_FAULT 13, 0, 1b
        CHECK_EQ "RSP", [rec_rsp], [variable]
        CASE "#GP return to a non-canonical address"
        movabs rax, 0x800000000000
        push rax
        mov [variable], rsp
1:      ret
        EXPECT_FAULT 13, 0, 1b
        CHECK_EQ "RSP unchanged", [rec_rsp], [variable]
        CASE "the #GP of alignment comes before the page fault"
        mov esi, WIN + 8
1:      movaps xmm0, [rsi]
        EXPECT_FAULT 13, 0, 1b
        CASE "CMPXCHG16B that would straddle into a page that is absent"
        MAP 1, page_a, PTE_P+PTE_W
        mov esi, WIN + 2 * 4096 - 8
1:      lock cmpxchg16b [rsi]
        EXPECT_FAULT 13, 0, 1b
        CASE "FXSAVE"
        mov esi, WIN + 8
1:      fxsave [rsi]
        EXPECT_FAULT 13, 0, 1b
        ret

        .data
variable: .quad 0
        .section .note.GNU-stack, "", @progbits
