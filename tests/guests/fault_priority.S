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
        CASE "and leaves what lies below the stack"
        mov rax, 0x123456789
        mov [user_stack_top - 8], rax
        ENTER_USER user_call
        EXPECT_FAULT 13, 0, user_call_place+USER
        CHECK_EQ "content", [user_stack_top - 8], 0x123456789
        CASE "#GP return to a non-canonical address"
        movabs rax, 0x800000000000
        push rax
        mov [variable], rsp
1:      ret
        EXPECT_FAULT 13, 0, 1b
        CHECK_EQ "RSP unchanged", [rec_rsp], [variable]
        CASE "a jump through memory"
        movabs rax, 0xffff7fffffffffff
        mov [variable], rax
1:      jmp [variable]
        EXPECT_FAULT 13, 0, 1b
        CASE "RET with release"
        movabs rax, 0x800000000000
        push rax
        mov [variable], rsp
1:      ret 32
        EXPECT_FAULT 13, 0, 1b
        CHECK_EQ "RSP unchanged", [rec_rsp], [variable]
        CASE "a call that is single-stepped"
        movabs rax, 0x800000000000
        mov qword ptr [rsp - 24], 0x77
        mov [variable], rsp
        HOOK 1, ignore
        pushfq
        or dword ptr [rsp], FLAG_TF
        popfq
1:      call rax
        EXPECT_FAULT 13, 0, 1b
        CHECK_EQ "RSP", [rec_rsp], [variable]
        UNHOOK 1
        CASE "a call whose push would fault, too"
        ENTER_USER user_call, stack=0x1000
        EXPECT_FAULT 13, 0, user_call_place+USER
        CASE "a canonical call whose push faults"
        ENTER_USER user_call_canonical, stack=0x1000
        EXPECT_FAULT 14, 7, user_call_place+USER, 0xff8
        call last_page
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
        CASE "MOVUPS has no alignment"
        mov esi, WIN + 0x2008
1:      movups xmm0, [rsi]
        EXPECT_FAULT 14, 0, 1b, WIN+0x2008
        CASE "MOVNTDQ, a store"
        mov esi, WIN + 0x2004
1:      movntdq [rsi], xmm0
        EXPECT_FAULT 13, 0, 1b
        ret

user_call_canonical:
        mov eax, 0x1000
        jmp user_call_place
user_call:
        movabs rax, 0x800000000000
user_call_place:
        call rax
ignore: ret

/// Direct branches out of the last page of the lower half.
last_page:
        mov qword ptr [pml4 + 8 * 255], offset top_pdpt + PTE_P + PTE_W
        mov qword ptr [top_pdpt + 8 * 511], offset top_pd + PTE_P + PTE_W
        mov qword ptr [top_pd + 8 * 511], offset top_pt + PTE_P + PTE_W
        mov qword ptr [top_pt + 8 * 511], offset page_a + PTE_P + PTE_W
        .set LAST_PAGE, 0x7ffffffff000
        CASE "JMP rel32 beyond the end of the lower half"
        mov byte ptr [page_a + 0x100], 0xe9
        mov dword ptr [page_a + 0x101], 0x1000
        movabs rax, LAST_PAGE + 0x100
        jmp rax
        EXPECT_FAULT 13, 0, LAST_PAGE+0x100
        CASE "Jcc"
        mov word ptr [page_a + 0x200], 0x840f
        mov dword ptr [page_a + 0x202], 0x1000
        movabs rax, LAST_PAGE + 0x200
        xor ecx, ecx
        jmp rax
        EXPECT_FAULT 13, 0, LAST_PAGE+0x200
        CASE "CALL rel32"
        mov byte ptr [page_a + 0x300], 0xe8
        mov dword ptr [page_a + 0x301], 0x1000
        movabs rax, LAST_PAGE + 0x300
        mov [variable], rsp
        jmp rax
        EXPECT_FAULT 13, 0, LAST_PAGE+0x300
        CHECK_EQ "RSP", [rec_rsp], [variable]
        CASE "LOOP keeps its counter"
        mov word ptr [page_a + 0xff0], 0x7fe2
        movabs rax, LAST_PAGE + 0xff0
        mov ecx, 5
        jmp rax
        EXPECT_FAULT 13, 0, LAST_PAGE+0xff0
        CHECK_EQ "RCX", rcx, 5
        CASE "running off the end is a fault at the next address"
        mov byte ptr [page_a + 0xfff], 0x90
        movabs rax, LAST_PAGE + 0xfff
        jmp rax
        EXPECT_FAULT 13, 0, LAST_PAGE+0x1000
        mov qword ptr [pml4 + 8 * 255], 0
        mov rax, cr3
        mov cr3, rax
        ret

        .data
variable: .quad 0
        .bss
        .balign 4096
top_pdpt: .skip 4096
top_pd: .skip 4096
top_pt: .skip 4096
        .section .note.GNU-stack, "", @progbits
