// SPDX-License-Identifier: Apache-2.0
/// @file Self-modifying and cross-modifying code on one processor: it takes effect with the next instruction
/// (SDM vol. 3A section 8.1.3, with the branch that Intel asks for only where one is named).
#include "guest.inc"

        GUEST_MAIN self_modifying
        mov r12d, WIN
        call same_block
        call other_ways
        call other_pages
        call loops
        call aliases
        call edges
        call table_bits
        ret

same_block:
        CASE "the next instruction, same block"
        mov byte ptr [2f + 1], 7
        jmp 2f
2:      mov eax, 0
        CHECK_EQ "result", rax, 7
        CASE "an instruction later in the same block, no branch"
        xor ecx, ecx
        mov byte ptr [2f + 1], 9
        nop
        nop
        inc ecx
2:      mov eax, 0
        CHECK_EQ "result", rax, 9
        CHECK_EQ "between", rcx, 1
        CASE "the block that runs is run again"
        mov ecx, 3
        xor edx, edx
2:      mov eax, 1
        add edx, eax
        inc byte ptr [2b + 1]
        dec ecx
        jnz 2b
        CHECK_EQ "1 + 2 + 3", rdx, 6
        CASE "flags are kept over the write"
        mov eax, 0xff
        add al, 1
        mov byte ptr [2f + 1], 5
2:      mov ecx, 0
        setc al
        movzx eax, al
        CHECK_EQ "CF", rax, 1
        CHECK_EQ "result", rcx, 5
        CASE "an instruction that was invalid: its second byte"
        // 0f 0a is no instruction; 0f 1f c0 is a NOP.
        call invalid_code
        EXPECT_FAULT 6, NO_ERROR_CODE, invalid_code
        CASE "and becomes valid"
        mov byte ptr [invalid_code + 1], 0x1f
        call invalid_code
        EXPECT_NONE
        CASE "a prefix in front of code that has run"
        mov eax, -1
        call prefixed
        mov rcx, rax
        mov byte ptr [prefixed], 0x66
        mov eax, -1
        call prefixed
        CHECK_EQ "without", rcx, 0
        CHECK_EQ "with", rax, 0xffff0000
        CASE "code replaced by a shorter instruction"
        call shrinking
        mov ecx, eax
        mov word ptr [shrinking], 0xc390
        mov eax, 55
        call shrinking
        CHECK_EQ "before", rcx, 3
        CHECK_EQ "after", rax, 55
        ret

invalid_code:
        .byte 0x0f, 0x0a, 0xc0
        ret
prefixed:
        nop
        xor eax, eax
        ret
shrinking:
        mov eax, 3
        ret

.macro PATCHED
        call patch_me
.endm

other_ways:
        CASE "by REP STOSB"
        call patch_me
        mov edi, offset patch_me + 1
        mov al, 0x11
        mov ecx, 1
        rep stosb
        call patch_me
        CHECK_EQ "result", rax, 0x11
        CASE "by REP MOVSB over the whole function"
        mov esi, offset template_22
        mov edi, offset patch_me
        mov ecx, 6
        rep movsb
        call patch_me
        CHECK_EQ "result", rax, 0x22
        CASE "by MOVSQ"
        mov esi, offset template_33
        mov edi, offset patch_me
        movsq
        call patch_me
        CHECK_EQ "result", rax, 0x33
        CASE "by a push"
        mov rcx, rsp
        movabs rax, 0x9090c300000044b8
        lea rsp, [patch_me + 8]
        push rax
        mov rsp, rcx
        call patch_me
        CHECK_EQ "result", rax, 0x44
        CASE "by a locked instruction"
        lock add byte ptr [patch_me + 1], 0x11
        call patch_me
        CHECK_EQ "result", rax, 0x55
        CASE "by XCHG"
        mov al, 0x66
        xchg [patch_me + 1], al
        movzx ecx, al
        call patch_me
        CHECK_EQ "old", rcx, 0x55
        CHECK_EQ "result", rax, 0x66
        CASE "by CMPXCHG16B"
        movdqa xmm0, [patch_me]
        movq rax, xmm0
        movhlps xmm0, xmm0
        movq rdx, xmm0
        movabs rbx, 0x9090c300000077b8
        mov rcx, rdx
        lock cmpxchg16b [patch_me]
        call patch_me
        CHECK_EQ "result", rax, 0x77
        CASE "by an SSE store"
        movups xmm0, [template_22]
        movaps [patch_me], xmm0
        call patch_me
        CHECK_EQ "result", rax, 0x22
        CASE "by FXSAVE: the x87 tag word and what follows are data, then code again"
        fxsave [patch_area]
        mov dword ptr [patch_area], 0x0000c3b8
        mov word ptr [patch_area + 4], 0xc300
        mov eax, offset patch_area
        call rax
        fxsave [patch_area]
        movzx ecx, word ptr [patch_area]
        CHECK_EQ "code", rax, 0xc3
        CHECK_EQ "FCW again", rcx, 0x37f
        CASE "by FSTP"
        push 0x00c390b8
        fild dword ptr [rsp]
        fistp dword ptr [patch_me]
        add rsp, 8
        mov word ptr [patch_me + 4], 0xc300
        call patch_me
        CHECK_EQ "result", rax, 0xc390
        CASE "by SGDT"
        call sgdt_place
        mov ecx, eax
        sgdt [sgdt_place + 1]
        mov eax, [sgdt_place + 1]
        movzx edx, word ptr [gdt_pointer]
        movzx eax, ax
        CHECK_EQ "before", rcx, 1
        CHECK_EQ "limit", rax, rdx
        CASE "by the frame of an interrupt"
        // The pushed RIP lands on the function; its lowest byte is that of RET.
        HOOK 0x99, return_at_once
        mov byte ptr [idt + 16 * 0x99 + 4], 4
        mov rcx, [tss + 0x24 + 24]
        mov qword ptr [tss + 0x24 + 24], offset frame_function + 40
        mov eax, 1
        call frame_function
        mov ebx, eax
        call interrupt_here
        mov eax, 1
        call frame_function
        mov [tss + 0x24 + 24], rcx
        mov byte ptr [idt + 16 * 0x99 + 4], 0
        UNHOOK 0x99
        CHECK_EQ "before", rbx, 5
        CHECK_EQ "after", rax, 1
        CASE "by CPL 3"
        ENTER_USER user_patch
        EXPECT_FAULT 0x80, NO_ERROR_CODE, user_patch_end+USER
        CHECK_EQ "result", [saved_registers+FRAME_RAX], 0x88
        CASE "by the processor: the accessed bit of a descriptor in a page of code"
        mov eax, offset gdt_code_page
        call rax
        mov ecx, eax
        sgdt [saved_gdt]
        mov rdx, [gdt + KDATA]
        mov [gdt_code_page + 0x18], rdx
        btr qword ptr [gdt_code_page + 0x18], 40
        mov rdx, [gdt + KCODE]
        mov [gdt_code_page + 8], rdx
        mov rdx, [gdt + KDATA]
        mov [gdt_code_page + 0x10], rdx
        lgdt [code_gdt]
        mov edx, 0x18
        mov es, edx
        lgdt [saved_gdt]
        mov edx, KDATA
        mov es, edx
        bt qword ptr [gdt_code_page + 0x18], 40
        setc dl
        movzx edx, dl
        CHECK_EQ "code", rcx, 6
        CHECK_EQ "accessed", rdx, 1
        ret

return_at_once: ret

user_patch:
        call patch_me_user
        mov byte ptr [rip + patch_me_user + 1], 0x88
        call patch_me_user
        int 0x80
user_patch_end:
patch_me_user:
        mov eax, 0x10
        ret

        .balign 16
patch_me:
        mov eax, 0x10
        ret
        nop
        nop
        .balign 16
template_22:
        mov eax, 0x22
        ret
        nop
        nop
        .balign 16
template_33:
        mov eax, 0x33
        ret
        nop
        nop
        .balign 16
sgdt_place:
        mov eax, 1
        ret
        .skip 16

        .balign 4096
        .skip 4000                      // for what the handler pushes
        .balign 16
        .skip 8
frame_function:
        mov eax, 5
        ret
        .skip 64
        .balign 256
        .skip 0xc1
interrupt_here:
        int 0x99
        ret                             // at an address that ends with c3
        .balign 4096
gdt_code_page:
        mov eax, 6
        ret
        nop
        nop
        .quad 0, 0, 0, 0
        .balign 512
patch_area:
        .skip 512

other_pages:
        CASE "code in another page, by a store"
        mov dword ptr [page_a], 0x000001b8
        mov word ptr [page_a + 4], 0xc300
        mov ebx, offset page_a
        call rbx
        mov ecx, eax
        mov byte ptr [page_a + 1], 2
        call rbx
        CHECK_EQ "before", rcx, 1
        CHECK_EQ "after", rax, 2
        CASE "data beside code in a page, 1000 stores"
        mov ecx, 1000
        xor edx, edx
2:      mov [page_a + 64], ecx
        call rbx
        add edx, eax
        dec ecx
        jnz 2b
        CHECK_EQ "sum", rdx, 2000
        CASE "a store that straddles into the code"
        mov qword ptr [page_a + 4096 - 4], 0
        mov dword ptr [page_b], 0x000003b8
        mov word ptr [page_b + 4], 0xc300
        mov ebx, offset page_b
        call rbx
        mov ecx, eax
        movabs rax, 0x0004b800000000
        shl rax, 8
        mov eax, 0xb8
        mov qword ptr [page_b - 2], 0x04b80000
        mov dword ptr [page_b + 2], 0xc3000000
        call rbx
        CHECK_EQ "before", rcx, 3
        CHECK_EQ "after", rax, 4
        CASE "a page of code replaced by REP MOVSQ"
        mov edi, offset page_a
        mov ecx, 512
        movabs rax, 0x9090909090909090
        rep stosq
        mov byte ptr [page_a + 4095], 0xc3
        mov ebx, offset page_a
        mov eax, 42
        call rbx
        mov esi, offset page_b
        mov edi, offset page_a
        mov ecx, 512
        mov r8d, eax
        rep movsq
        call rbx
        CHECK_EQ "NOPs", r8, 42
        CHECK_EQ "copied", rax, 4
        ret

loops:
        CASE "patched 1000 times, and run each time"
        mov ecx, 1000
        xor edx, edx
2:      mov [3f + 1], ecx
        jmp 3f
3:      mov eax, 0
        add rdx, rax
        dec ecx
        jnz 2b
        CHECK_EQ "sum", rdx, 500500
        CASE "a function patched 1000 times"
        mov ecx, 1000
        xor edx, edx
2:      mov [patch_me_user + 1], ecx
        call patch_me_user
        add rdx, rax
        dec ecx
        jnz 2b
        CHECK_EQ "sum", rdx, 500500
        CASE "code generated at 500 places of a page, each run once and then again"
        mov edi, offset page_c
        xor ecx, ecx
2:      mov byte ptr [rdi], 0xb8
        mov [rdi + 1], ecx
        mov byte ptr [rdi + 5], 0xc3
        call rdi
        cmp eax, ecx
        jne 3f
        add edi, 8
        inc ecx
        cmp ecx, 500
        jne 2b
3:      CHECK_EQ "first", rcx, 500
        CASE "again"
        mov edi, offset page_c
        xor ecx, ecx
2:      call rdi
        cmp eax, ecx
        jne 3f
        add edi, 8
        inc ecx
        cmp ecx, 500
        jne 2b
3:      CHECK_EQ "second", rcx, 500
        ret

aliases:
        MAP 0, page_d, PTE_P+PTE_W
        MAP 1, page_d, PTE_P+PTE_W
        mov dword ptr [page_d], 0x000001b8
        mov word ptr [page_d + 4], 0xc300
        lea rbx, [r12 + 4096]
        CASE "code at two addresses"
        call r12
        mov ecx, eax
        call rbx
        CHECK_EQ "one", rcx, 1
        CHECK_EQ "other", rax, 1
        CASE "written at one, run at the other"
        mov byte ptr [r12 + 1], 2
        call rbx
        mov ecx, eax
        mov byte ptr [rbx + 1], 3
        call r12
        CHECK_EQ "one", rcx, 2
        CHECK_EQ "other", rax, 3
        CASE "written at a third, run at both"
        mov byte ptr [page_d + 1], 4
        call r12
        mov ecx, eax
        call rbx
        add ecx, eax
        CHECK_EQ "sum", rcx, 8
        CASE "written at the identity address through a large page, 100 times"
        mov ecx, 100
        xor edx, edx
2:      mov [page_d + 1], ecx
        call r12
        add edx, eax
        mov [rbx + 1], edx
        call rbx
        sub eax, edx
        add edx, eax
        dec ecx
        jnz 2b
        CHECK_EQ "sum", rdx, 5050
        CASE "remapped: other code at the same address"
        mov dword ptr [page_c], 0x000055b8
        mov word ptr [page_c + 4], 0xc300
        mov dword ptr [page_d], 0x000066b8
        call r12
        mov ecx, eax
        MAP 0, page_c, PTE_P
        call r12
        CHECK_EQ "before", rcx, 0x66
        CHECK_EQ "after", rax, 0x55
        CASE "RIP is that of the alias"
        // lea rax, [rip]; ret
        mov dword ptr [page_d], 0x00058d48
        mov dword ptr [page_d + 4], 0xc3000000
        MAP 0, page_d, PTE_P
        call r12
        mov rcx, rax
        call rbx
        CHECK_EQ "one", rcx, WIN+7
        CHECK_EQ "other", rax, WIN+4096+7
        ret

edges:
        // mov eax, imm32 with its opcode as the last byte of a page
        MAP 0, page_a, PTE_P+PTE_W
        MAP 1, page_b, PTE_P+PTE_W
        MAP 2, page_c, PTE_P+PTE_W
        mov byte ptr [page_a + 4095], 0xb8
        mov dword ptr [page_b], 1
        mov byte ptr [page_b + 4], 0xc3
        mov dword ptr [page_c], 2
        mov byte ptr [page_c + 4], 0xc3
        lea rbx, [r12 + 4095]
        CASE "an instruction across two pages"
        call rbx
        CHECK_EQ "result", rax, 1
        CASE "its second half is patched"
        mov byte ptr [page_b], 0x71
        call rbx
        CHECK_EQ "result", rax, 0x71
        CASE "its first half is patched"
        mov byte ptr [page_a + 4095], 0xbf
        xor edi, edi
        call rbx
        CHECK_EQ "EDI", rdi, 0x71
        mov byte ptr [page_a + 4095], 0xb8
        CASE "the second page is remapped"
        call rbx
        MAP 1, page_c, PTE_P+PTE_W
        call rbx
        CHECK_EQ "result", rax, 2
        CASE "the second page is remapped back and forth 50 times"
        mov ecx, 50
        xor edx, edx
2:      MAP 1, page_b, PTE_P
        call rbx
        add edx, eax
        MAP 1, page_c, PTE_P
        call rbx
        add edx, eax
        dec ecx
        jnz 2b
        CHECK_EQ "sum", rdx, 50*0x73
        CASE "the second page is gone"
        MAP 1, 0, 0
        call rbx
        EXPECT_FAULT 14, 0x10, WIN+4095, WIN+4096
        CASE "the second page is NX"
        MAP 1, page_c, PTE_P+PTE_NX
        call rbx
        EXPECT_FAULT 14, 0x11, WIN+4095, WIN+4096
        CASE "an instruction that ends with its page, the next page gone"
        MAP 1, 0, 0
        mov byte ptr [page_a + 4095], 0xc3
        mov eax, 3
        call rbx
        CHECK_EQ "result", rax, 3
        CASE "a block that runs off its page: the fault is at the next page"
        mov byte ptr [page_a + 4095], 0x90
        call rbx
        EXPECT_FAULT 14, 0x10, WIN+4096, WIN+4096
        CASE "a block that patches itself across the page's end"
        MAP 1, page_b, PTE_P+PTE_W
        mov byte ptr [page_a + 4095], 0xb8
        mov dword ptr [page_b], 1
        call rbx
        mov ecx, eax
        mov word ptr [r12 + 4095], 0x09b8
        call rbx
        CHECK_EQ "before", rcx, 1
        CHECK_EQ "after", rax, 9
        ret

/// The page-table page of [WIN + 2 MiB, WIN + 4 MiB) holds code too: MOV RAX, imm64 whose constant is entry 1.
table_bits:
        mov dword ptr [page_d + 4], 0xb8480000
        mov rax, offset page_a + PTE_P + PTE_W
        mov [page_d + 8], rax
        mov byte ptr [page_d + 16], 0xc3
        mov qword ptr [pd_win + 8], offset page_d + PTE_P + PTE_W + PTE_A
        mov rbx, WIN + 0x201000
        CASE "an entry of a page table as a constant"
        call page_d + 6
        CHECK_EQ "result", rax, "offset page_a + 3"
        CASE "the processor sets A"
        mov cl, [rbx]
        call page_d + 6
        CHECK_EQ "result", rax, "offset page_a + 0x23"
        CASE "and D"
        mov [rbx], cl
        call page_d + 6
        CHECK_EQ "result", rax, "offset page_a + 0x63"
        mov qword ptr [pd_win + 8], 0
        invlpg [rbx]
        ret

        .data
variable: .quad 0
saved_gdt: .quad 0, 0
code_gdt:
        .word 0x1f
        .quad gdt_code_page
        .section .note.GNU-stack, "", @progbits
