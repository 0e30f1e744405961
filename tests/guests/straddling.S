// SPDX-License-Identifier: Apache-2.0
/// @file Accesses across pages, into traced page tables, and to device registers (local APIC, I/O APIC) of all widths.
#include "guest.inc"

#define APIC_TPR 0x80
#define APIC_LVT_ERROR 0x370
#define APIC_INITIAL_COUNT 0x380
#define APIC_LVT_TIMER 0x320
#define APIC_VERSION 0x30

        GUEST_MAIN straddling
        mov r12d, WIN
        // Two pages that are neighbours in WIN and not in memory.
        MAP 0, page_c, PTE_P+PTE_W
        MAP 1, page_a, PTE_P+PTE_W
        MAP 2, 0, 0
        call reads
        call writes
        call absent
        call tables
        call devices
        call into_devices
        ret

/// Bytes 0x10, 0x11 ... around the border of pages 0 and 1.
pattern:
        xor ecx, ecx
1:      lea eax, [rcx + 0x10]
        mov [page_c + 4096 - 64 + rcx], al
        lea eax, [rcx + 0x50]
        mov [page_a + rcx], al
        inc ecx
        cmp ecx, 64
        jne 1b
        lea rbx, [r12 + 4096]
        ret

reads:  call pattern
        CASE "reads of 2, 4, 8, 16 and 32 bytes across the border"
        movzx eax, word ptr [rbx - 1]
        mov ecx, [rbx - 3]
        mov rdx, [rbx - 7]
        movups xmm0, [rbx - 9]
        movq rsi, xmm0
        movhlps xmm0, xmm0
        movq rdi, xmm0
        CHECK_EQ "2", rax, 0x504f
        CHECK_EQ "4", rcx, 0x504f4e4d
        CHECK_EQ "8", rdx, 0x504f4e4d4c4b4a49
        CHECK_EQ "16, low", rsi, 0x4e4d4c4b4a494847
        CHECK_EQ "16, high", rdi, 0x565554535251504f
        CASE "8 bytes at each offset"
        xor r8d, r8d
        lea rsi, [rbx - 8]
2:      mov rax, [rsi]
        movzx ecx, byte ptr [rsi]
        movzx edx, byte ptr [rsi + 7]
        cmp al, cl
        jne 3f
        shr rax, 56
        cmp al, dl
        jne 3f
        inc rsi
        inc r8d
        cmp r8d, 9
        jne 2b
3:      CHECK_EQ "good ones", r8, 9
        CASE "x87 load of 10 bytes, FILD of 8"
        fild qword ptr [rbx - 4]
        fistp qword ptr [scratch]
        fld tbyte ptr [table_80]
        fstp tbyte ptr [rbx - 5]
        fld tbyte ptr [rbx - 5]
        fistp qword ptr [scratch + 8]
        call pattern
        CHECK_EQ "FILD", [scratch], 0x535251504f4e4d4c
        CHECK_EQ "FLD", [scratch+8], 3
        CASE "operands of arithmetic, compare, SSE arithmetic"
        mov rax, 1
        add rax, [rbx - 5]
        cmp [rbx - 3], ecx
        imul ecx, [rbx - 2], 1
        pxor xmm0, xmm0
        movups xmm1, [rbx - 8]
        paddb xmm0, xmm1
        movq rdx, xmm0
        CHECK_EQ "ADD", rax, 0x5251504f4e4d4c4b+1
        CHECK_EQ "IMUL", rcx, 0x51504f4e
        CHECK_EQ "PADDB", rdx, 0x4f4e4d4c4b4a4948
        CASE "string instructions"
        lea rsi, [rbx - 32]
        mov edi, offset scratch
        mov ecx, 8
        rep movsq
        lea rsi, [rbx - 3]
        lodsq
        CHECK_EQ "REP MOVSQ", [scratch+32], 0x5756555453525150
        CHECK_EQ "LODSQ", rax, 0x54535251504f4e4d
        CASE "POP and RET across the border"
        mov rdx, rsp
        lea rsp, [rbx - 4]
        pop rax
        mov rsp, rdx
        mov rcx, [scratch]
        mov qword ptr [rbx - 4], offset 2f
        lea rsp, [rbx - 4]
        ret
2:      mov rsp, rdx
        CHECK_EQ "POP", rax, 0x535251504f4e4d4c
        call pattern
        ret

writes: CASE "writes of 2, 4, 8 and 16 bytes across the border"
        mov word ptr [rbx - 1], 0x0201
        mov ax, [page_a]
        mov cl, [page_c + 4095]
        movzx eax, al
        movzx ecx, cl
        CHECK_EQ "second page", rax, 2
        CHECK_EQ "first page", rcx, 1
        movabs rax, 0x0807060504030201
        mov [rbx - 5], rax
        mov rcx, [page_c + 4096 - 8]
        mov rdx, [page_a]
        shr rcx, 24
        CHECK_EQ "8: first page", rcx, 0x0504030201
        and edx, 0xffffff
        CHECK_EQ "8: second page", rdx, 0x080706
        CASE "16 bytes"
        movups xmm0, [sixteen]
        movups [rbx - 3], xmm0
        movups xmm1, [rbx - 3]
        mov rax, [page_a]
        pcmpeqb xmm0, xmm1
        pmovmskb ecx, xmm0
        CHECK_EQ "read back", rcx, 0xffff
        CHECK_EQ "second page", rax, 0x0b0a090807060504
        CASE "read-modify-write, flags live"
        mov qword ptr [rbx - 4], 0x7fffffff
        stc
        adc dword ptr [rbx - 2], 0      // of 0x7fff
        mov rax, [rbx - 4]
        inc qword ptr [rbx - 4]
        mov rcx, [rbx - 4]
        CHECK_EQ "ADC", rax, 0x8000ffff
        CHECK_EQ "INC", rcx, 0x80010000
        CASE "LOCK XADD, LOCK CMPXCHG, XCHG across the border"
        mov qword ptr [rbx - 4], 5
        mov eax, 3
        lock xadd [rbx - 4], rax
        mov ecx, eax
        mov eax, 8
        mov edx, 9
        lock cmpxchg [rbx - 4], rdx
        mov esi, 77
        xchg [rbx - 4], rsi
        mov rdi, [rbx - 4]
        CHECK_EQ "XADD", rcx, 5
        CHECK_EQ "XCHG", rsi, 9
        CHECK_EQ "memory", rdi, 77
        CASE "PUSH and CALL across the border"
        mov rdx, rsp
        lea rsp, [rbx + 4]
        push 0x1234
        mov rax, [rbx - 4]
        lea rsp, [rbx + 4]
        call 2f
2:      mov rcx, [rbx - 4]
        mov rsp, rdx
        CHECK_EQ "PUSH", rax, 0x1234
        CHECK_EQ "CALL", rcx, "offset 2b"
        CASE "FXSAVE across the border"
        lea rsi, [rbx - 256]
        fxsave [rsi]
        movzx eax, word ptr [rsi]
        fxrstor [rsi]
        CHECK_EQ "FCW", rax, 0x37f
        CASE "REP STOSB across the border, downwards"
        std
        lea rdi, [rbx + 9]
        mov al, 0x3c
        mov ecx, 20
        rep stosb
        cld
        mov rax, [page_a]
        mov rcx, [page_c + 4096 - 8]
        CHECK_EQ "second page", rax, 0x3c3c3c3c3c3c3c3c
        CHECK_EQ "first page", rcx, 0x3c3c3c3c3c3c3c3c
        ret

absent: lea rbx, [r12 + 2 * 4096]
        CASE "a read whose second page is absent"
1:      mov rax, [rbx - 4]
        EXPECT_FAULT 14, 0, 1b, WIN+2*4096
        CASE "a write whose second page is absent writes nothing"
        mov dword ptr [page_a + 4092], 0x11
1:      mov [rbx - 4], rax
        EXPECT_FAULT 14, 2, 1b, WIN+2*4096
        mov eax, [page_a + 4092]
        CHECK_EQ "first page", rax, 0x11
        CASE "a push whose upper page is absent"
        mov rdx, rsp
        mov byte ptr [idt + 16 * 14 + 4], 2
        lea rsp, [rbx + 4]
1:      push rax
        EXPECT_FAULT 14, 2, 1b, WIN+2*4096
        mov byte ptr [idt + 16 * 14 + 4], 0
        CASE "an SSE read"
1:      movups xmm0, [rbx - 15]
        EXPECT_FAULT 14, 0, 1b, WIN+2*4096
        CASE "a read whose first page is absent: its own address"
        MAP 1, 0, 0
        MAP 2, page_a, PTE_P+PTE_W
1:      mov rax, [rbx - 4]
        EXPECT_FAULT 14, 0, 1b, WIN+2*4096-4
        CASE "REP MOVSB stops where the page ends"
        MAP 1, page_a, PTE_P+PTE_W
        MAP 2, 0, 0
        lea rdi, [rbx - 10]
        mov esi, offset page_c
        mov ecx, 100
1:      rep movsb
        EXPECT_FAULT 14, 2, 1b, WIN+2*4096
        CHECK_EQ "RCX", [saved_registers+FRAME_RCX], 90
        CHECK_EQ "RDI", [saved_registers+FRAME_RDI], rbx
        CHECK_EQ "RSI", [saved_registers+FRAME_RSI], "offset page_c+10"
        CASE "REP MOVSQ across the border: the element is not begun"
        lea rdi, [rbx - 20]
        mov esi, offset page_c
        mov ecx, 100
1:      rep movsq
        EXPECT_FAULT 14, 2, 1b, WIN+2*4096
        CHECK_EQ "RCX", [saved_registers+FRAME_RCX], 98
        CASE "REPNE SCASB stops there"
        lea rdi, [rbx - 10]
        mov al, 0xee
        mov ecx, 100
        mov rdx, rdi
1:      repne scasb
        EXPECT_FAULT 14, 0, 1b, WIN+2*4096
        CHECK_EQ "RCX", [saved_registers+FRAME_RCX], 90
        CASE "an instruction whose second page is absent"
        mov byte ptr [page_a + 4095], 0x48
        lea rcx, [rbx - 1]
        call rcx
        EXPECT_FAULT 14, 0x10, WIN+2*4096-1, WIN+2*4096
        CASE "FXSAVE whose second page is absent"
        lea rsi, [rbx - 256]
1:      fxsave [rsi]
        EXPECT_FAULT 14, 2, 1b, WIN+2*4096
        CASE "PUSHF and FNSTENV whose second page is absent"
1:      fnstenv [rbx - 4]
        EXPECT_FAULT 14, 2, 1b, WIN+2*4096
        fninit
        ret

tables: // The page table itself as the second page: entry 0 and what stands before it.
        MAP 3, page_d, PTE_P+PTE_W
        MAP 4, win_table, PTE_P+PTE_W
        lea rbx, [r12 + 4 * 4096]
        CASE "a write that straddles into a page table takes effect"
        mov rax, [win_table]
        mov [scratch], rax
        mov eax, [r12]
        mov rcx, offset page_b + PTE_P
        mov dword ptr [page_b], 0xb0b
        shl rcx, 32
        or rcx, 0x55
        mov [rbx - 4], rcx              // low half of entry 0
        invlpg [r12]
        mov eax, [r12]
        mov edx, [page_d + 4092]
        CHECK_EQ "content", rax, 0xb0b
        CHECK_EQ "first page", rdx, 0x55
        CASE "an SSE store that straddles into it"
        movups xmm0, [scratch - 8]
        movups [rbx - 8], xmm0
        invlpg [r12]
        mov byte ptr [page_c], 0x66
        movzx eax, byte ptr [r12]
        CHECK_EQ "content", rax, 0x66
        CASE "and off it at its other end"
        MAP 5, page_d, PTE_P+PTE_W
        lea rdx, [rbx + 4096]
        mov qword ptr [win_table + 511 * 8], offset page_b + PTE_P
        lea rsi, [r12 + 511 * 4096]
        mov eax, [rsi]
        mov qword ptr [rdx - 4], 0      // high half of entry 511
        mov dword ptr [rdx - 8], 0
        invlpg [rsi]
1:      mov eax, [rsi]
        EXPECT_FAULT 14, 0, 1b, WIN+511*4096
        CASE "an access whose page-table entry is what it writes"
        // Entry 4 maps the table: changing it through itself holds until INVLPG.
        mov rax, [rbx + 32]
        lock btr qword ptr [rbx + 32], 1
        mov rcx, [win_table + 32]
        mov [win_table + 32], rax
        invlpg [rbx]
        and ecx, 2
        CHECK_EQ "W is cleared", rcx, 0
        CASE "REP MOVSQ into a page table"
        mov esi, offset new_entries
        lea rdi, [rbx + 8 * 8]
        mov ecx, 3
        rep movsq
        mov dword ptr [page_a], 0xa0a
        mov eax, [r12 + 8 * 4096]
        mov ecx, [r12 + 9 * 4096]
        lea r8, [r12 + 10 * 4096]
        CHECK_EQ "8", rax, 0xa0a
        CHECK_EQ "9", rcx, 0xb0b
        CASE "and the third is not present"
1:      mov eax, [r8]
        EXPECT_FAULT 14, 0, 1b, WIN+10*4096
        CASE "FXSAVE over entries"
        mov qword ptr [win_table + 64 * 8], offset page_a + PTE_P
        lea rsi, [r12 + 64 * 4096]
        mov eax, [rsi]
        fxsave [rbx + 64 * 8]
        mov rax, cr3
        mov cr3, rax
        movzx ecx, word ptr [win_table + 64 * 8]
        mov edi, offset win_table + 64 * 8
        mov ecx, 64
        xor eax, eax
        rep stosq
        EXPECT_NONE
        MAP 3, 0, 0
        MAP 5, 0, 0
        MAP 4, 0, 0
        ret

devices:
        mov r13d, LOCAL_APIC
        mov r14d, LOCAL_APIC + APIC_INITIAL_COUNT
        mov dword ptr [r13 + APIC_LVT_TIMER], 0x10040
        CASE "device registers: 32-bit read and write, R13 and R14 as base"
        mov dword ptr [r13 + APIC_TPR], 0x20
        mov eax, [r13 + APIC_TPR]
        mov dword ptr [r14], 0
        mov ecx, [r14]
        CHECK_EQ "TPR", rax, 0x20
        CHECK_EQ "initial count", rcx, 0
        CASE "read-modify-write of a device register"
        or dword ptr [r13 + APIC_TPR], 0x11
        add dword ptr [r13 + APIC_TPR], 1
        mov eax, [r13 + APIC_TPR]
        CHECK_EQ "TPR", rax, 0x32
        CASE "locked, XCHG, XADD, CMPXCHG"
        mov ecx, 0x40
        xchg [r13 + APIC_TPR], ecx
        mov edx, 2
        lock xadd [r13 + APIC_TPR], edx
        mov eax, 0x42
        mov esi, 0x55
        lock cmpxchg [r13 + APIC_TPR], esi
        mov edi, [r13 + APIC_TPR]
        CHECK_EQ "XCHG", rcx, 0x32
        CHECK_EQ "XADD", rdx, 0x40
        CHECK_EQ "CMPXCHG", rdi, 0x55
        CASE "flags of operations on it"
        cmp dword ptr [r13 + APIC_TPR], 0x55
        sete al
        test dword ptr [r13 + APIC_TPR], 0xaa
        sete cl
        movzx eax, al
        movzx ecx, cl
        CHECK_EQ "CMP", rax, 1
        CHECK_EQ "TEST", rcx, 1
        CASE "flags through it"
        stc
        mov ecx, [r13 + APIC_TPR]
        mov [r13 + APIC_TPR], ecx
        setc al
        movzx eax, al
        CHECK_EQ "CF", rax, 1
        CASE "every register as source and destination"
        .irp reg, eax, ebx, ecx, edx, esi, edi, ebp, r8d, r9d, r10d, r11d, r14d, r15d
        mov \reg, 0x33
        mov [r13 + APIC_TPR], \reg
        xor \reg, \reg
        mov \reg, [r13 + APIC_TPR]
        cmp \reg, 0x33
        jne 2f
        .endr
2:      sete al
        movzx eax, al
        CHECK_EQ "all alike", rax, 1
        // Accesses that are not of 4 bytes have no defined result; they must do no harm.
        CASE "accesses of 1, 2, 8, 16 and 28 bytes, RMW too"
        mov al, [r13 + APIC_VERSION]
        mov ax, [r13 + APIC_VERSION + 1]
        push qword ptr [r13 + APIC_VERSION]
        pop rax
        movups xmm1, [r13 + APIC_VERSION + 4]
        movups [r13 + APIC_VERSION + 1], xmm1
        inc byte ptr [r13 + APIC_VERSION]
        add [r13 + APIC_VERSION + 3], rax
        fnstenv [r13 + APIC_VERSION]
        fldenv [r13 + APIC_VERSION]
        fninit
        EXPECT_NONE
        CASE "SSE and x87 loads from a device register"
        movd xmm0, dword ptr [r13 + APIC_TPR]
        movd eax, xmm0
        fild dword ptr [r13 + APIC_TPR]
        fistp dword ptr [scratch]
        mov edx, [scratch]
        CHECK_EQ "MOVD", rax, 0x33
        CHECK_EQ "FILD", rdx, 0x33
        CASE "SSE store of 4 bytes"
        mov eax, 0x44
        movd xmm0, eax
        movss [r13 + APIC_TPR], xmm0
        mov ecx, [r13 + APIC_TPR]
        CHECK_EQ "TPR", rcx, 0x44
        CASE "string instructions on it"
        lea rsi, [r13 + APIC_TPR]
        mov edi, offset scratch
        movsd
        mov esi, offset value_55
        lea rdi, [r13 + APIC_TPR]
        movsd
        mov ecx, [r13 + APIC_TPR]
        lea rdi, [r13 + APIC_TPR]
        mov eax, 0x66
        stosd
        mov edx, [r13 + APIC_TPR]
        lea rsi, [r13 + APIC_TPR]
        lodsd
        mov r8d, [scratch]
        CHECK_EQ "MOVSD from", r8, 0x44
        CHECK_EQ "MOVSD to", rcx, 0x55
        CHECK_EQ "STOSD", rdx, 0x66
        CHECK_EQ "LODSD", rax, 0x66
        CASE "REP MOVSD from and to it"
        lea rsi, [r13 + APIC_TPR]
        mov edi, offset scratch
        mov ecx, 4
        rep movsd
        mov r8d, [scratch]
        mov esi, offset value_55 + 12
        lea rdi, [r13 + APIC_TPR + 12]
        mov ecx, 4
        std                             // the defined register comes last
        rep movsd
        cld
        mov edx, [r13 + APIC_TPR]
        CHECK_EQ "from", r8, 0x66
        CHECK_EQ "to", rdx, 0x55
        CASE "I/O APIC: index and data"
        mov eax, IO_APIC
        mov dword ptr [rax], 1
        mov ecx, [rax + 0x10]
        shr ecx, 16
        and ecx, 0xff
        mov dword ptr [rax], 0x10 + 2 * 5
        mov dword ptr [rax + 0x10], 0x10077
        mov dword ptr [rax], 0x10 + 2 * 5
        mov edx, [rax + 0x10]
        CHECK_EQ "pins less one", rcx, 23
        CHECK_EQ "entry", rdx, 0x10077
        CASE "a device register through a mapping of 4 KiB"
        mov rax, LOCAL_APIC + PTE_P + PTE_W + PTE_PCD
        mov [win_table + 20 * 8], rax
        mov eax, [r12 + 20 * 4096 + APIC_TPR]
        mov dword ptr [r12 + 20 * 4096 + APIC_TPR], 0x21
        mov ecx, [r13 + APIC_TPR]
        CHECK_EQ "read", rax, 0x55
        CHECK_EQ "written", rcx, 0x21
        CASE "read-only mapping of a device register: the fault comes first"
        mov rax, LOCAL_APIC + PTE_P
        mov [win_table + 20 * 8], rax
        lea rcx, [r12 + 20 * 4096]
        invlpg [rcx]
1:      mov [rcx + APIC_TPR], eax
        EXPECT_FAULT 14, 3, 1b, WIN+20*4096+APIC_TPR
        CASE "memory that nobody answers for reads as ones"
        mov ebx, 0xfef00000
        mov eax, [rbx]
        mov [rbx], eax
        CHECK_EQ "content", rax, 0xffffffff
        mov dword ptr [r13 + APIC_TPR], 0
        ret

into_devices:
        // Page 30: RAM, page 31: the local APIC, whose register 0 is reserved; page 32: RAM again.
        MAP 30, page_c, PTE_P+PTE_W
        mov rax, LOCAL_APIC + PTE_P + PTE_W + PTE_PCD
        mov [win_table + 31 * 8], rax
        MAP 32, page_a, PTE_P+PTE_W
        lea rbx, [r12 + 31 * 4096]
        CASE "a read that straddles from memory into a device"
        mov dword ptr [page_c + 4092], 0x11223344
        mov rax, [rbx - 4]
        mov eax, eax
        CHECK_EQ "the memory's part", rax, 0x11223344
        CASE "a write that straddles from memory into a device"
        movabs rax, 0x55667788
        mov [rbx - 4], rax
        mov ecx, [page_c + 4092]
        CHECK_EQ "the memory's part", rcx, 0x55667788
        CASE "a read-modify-write there"
        inc qword ptr [rbx - 4]
        mov ecx, [page_c + 4092]
        CHECK_EQ "the memory's part", rcx, 0x55667789
        CASE "from a device into memory"
        lea rdx, [rbx + 4096]
        mov dword ptr [page_a], 0xabcd
        mov rax, [rdx - 4]
        shr rax, 32
        CHECK_EQ "the memory's part", rax, 0xabcd
        CASE "a write from a device into memory"
        movabs rax, 0x7654321000000000
        mov [rdx - 4], rax
        mov ecx, [page_a]
        CHECK_EQ "the memory's part", rcx, 0x76543210
        CASE "an SSE load and store across the border"
        movups xmm0, [rbx - 12]
        movq rax, xmm0
        mov rcx, [page_c + 4084]
        movups [rbx - 8], xmm0
        mov rdx, [page_c + 4088]
        CHECK_EQ "load", rax, rcx
        CHECK_EQ "store", rdx, rcx
        CASE "REP MOVSB from memory into a device's page and on"
        mov edi, offset scratch
        lea rsi, [rbx - 4]
        mov ecx, 4
        rep movsb
        mov eax, [scratch]
        mov ecx, [page_c + 4092]
        CHECK_EQ "content", rax, rcx
        ret

        .data
        .balign 16
sixteen: .byte 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16
table_80: .quad 0xc000000000000000
        .word 0x4000
        .balign 16
value_55: .long 0x55, 0, 0, 0
new_entries: .quad page_a + PTE_P, page_b + PTE_P, 0
        .quad 0x1111111111111111
scratch: .skip 128
        .section .note.GNU-stack, "", @progbits
