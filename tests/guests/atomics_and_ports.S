// SPDX-License-Identifier: Apache-2.0
/// @file LOCK forms, port I/O with its string instructions, CPUID's consistency, the time-stamp counter.
#include "guest.inc"

        GUEST_MAIN atomics_and_ports
        call locked
        call ports
        call string_ports
        call cpuid_leaves
        call time
        call random_and_hints
        ret

.macro LOCKED name, before, after, code:vararg
        CASE "LOCK \name"
        movabs rax, \before
        mov [variable], rax
        mov eax, 5
        mov ecx, 3
        mov r14, 3
        mov r15d, offset variable
        clc
        \code
        movabs rax, \after
        CHECK_EQ "memory", [variable], rax
.endm

locked: LOCKED "ADD r64", 10, 13, lock add [r15], rcx
        LOCKED "ADD imm8", 10, 17, lock add qword ptr [r15], 7
        LOCKED "ADD r8", 0x1ff, 0x102, lock add [r15], cl
        LOCKED "ADC", 10, 13, lock adc [r15], r14
        LOCKED "SUB r32", 10, 7, lock sub [r15], ecx
        LOCKED "SBB", 10, 7, lock sbb [r15], r14
        LOCKED "AND", 7, 3, lock and [r15], r14
        LOCKED "OR", 8, 11, lock or [r15], r14d
        LOCKED "XOR r16", 0x10001, 0x10002, lock xor [r15], cx
        LOCKED "NOT", 0, -1, lock not qword ptr [r15]
        LOCKED "NEG", 1, -1, lock neg qword ptr [r15]
        LOCKED "INC", 0xff, 0x100, lock inc qword ptr [r15]
        LOCKED "DEC", 0, 0xffffffff, lock dec dword ptr [r15]
        LOCKED "XADD", 10, 13, lock xadd [r15], r14
        LOCKED "CMPXCHG", 5, 3, lock cmpxchg [r15], r14
        LOCKED "CMPXCHG that fails", 6, 6, lock cmpxchg [r15], r14
        LOCKED "BTS imm", 0, 0x8, lock bts qword ptr [r15], 3
        LOCKED "BTR r64", 0xf, 0x7, lock btr [r15], r14
        LOCKED "BTC r32", 0xf, 0x7, lock btc [r15], ecx
        LOCKED "XCHG without the prefix", 10, 3, xchg [r15], r14
        CASE "LOCK BTS beyond the operand, and before it"
        mov qword ptr [variable - 8], 0
        mov qword ptr [variable], 0
        mov qword ptr [variable + 8], 0
        mov rcx, 64 + 5
        lock bts [variable], rcx
        mov rcx, -1
        lock bts [variable], rcx
        movabs rax, 0x8000000000000000
        CHECK_EQ "behind", [variable+8], 0x20
        CHECK_EQ "before", [variable-8], rax
        CASE "CMPXCHG8B"
        mov qword ptr [variable], 7
        mov eax, 7
        xor edx, edx
        mov ebx, 1
        mov ecx, 2
        lock cmpxchg8b [variable]
        setz al
        movzx eax, al
        CHECK_EQ "ZF", rax, 1
        CHECK_EQ "memory", [variable], 0x200000001
        CASE "CMPXCHG16B with RSP as base"
        mov rbp, rsp
        lea rsp, [rsp - 64]
        and rsp, -16
        mov qword ptr [rsp], 1
        mov qword ptr [rsp + 8], 2
        mov eax, 1
        mov edx, 2
        mov ebx, 3
        mov ecx, 4
        lock cmpxchg16b [rsp]
        mov rsi, [rsp]
        mov rdi, [rsp + 8]
        mov rsp, rbp
        CHECK_EQ "low", rsi, 3
        CHECK_EQ "high", rdi, 4
        CASE "CMPXCHG with memory that is read-only: a write fault though it fails"
        mov r12d, WIN
        MAP 0, page_a, PTE_P
        mov eax, 1
1:      lock cmpxchg [r12], ecx
        EXPECT_FAULT 14, 3, 1b, WIN
        ret

ports:  CASE "OUT and IN of 8, 16 and 32 bits: the PCI address register"
        mov edx, 0xcf8
        mov eax, 0x80000000
        out dx, eax
        xor eax, eax
        in eax, dx
        CHECK_EQ "read back", rax, 0x80000000
        CASE "32-bit IN clears the upper half; 16 and 8 bits keep the rest"
        mov rax, -1
        in eax, dx
        mov rcx, rax
        mov rax, -1
        mov edx, 0x604
        in ax, dx
        shr rax, 16
        mov rsi, -1
        mov rax, -1
        in al, 0x61
        shr rax, 8
        CHECK_EQ "32", rcx, 0x80000000
        mov rcx, rax
        movabs rdx, 0x00ffffffffffffff
        CHECK_EQ "8", rcx, rdx
        CASE "PCI device 0 exists"
        mov edx, 0xcfc
        in eax, dx
        mov ecx, eax
        cmp ecx, 0xffffffff
        setne al
        movzx eax, al
        CHECK_EQ "vendor", rax, 1
        CASE "UART scratch register"
        mov edx, 0x3ff
        mov al, 0x5a
        out dx, al
        xor eax, eax
        in al, dx
        CHECK_EQ "read back", rax, 0x5a
        CASE "a port that nobody answers for reads as ones"
        mov edx, 0x5678
        in ax, dx
        movzx eax, ax
        CHECK_EQ "16 bits", rax, 0xffff
        CASE "flags are kept over IN and OUT"
        stc
        in al, 0x61
        out 0x80, al
        setc al
        movzx eax, al
        CHECK_EQ "CF", rax, 1
        CASE "ACPI timer runs"
        mov edx, 0x608
        in eax, dx
        mov ecx, eax
        mov esi, 100000
2:      in eax, dx
        cmp eax, ecx
        jne 3f
        dec esi
        jnz 2b
3:      setne al
        movzx eax, al
        CHECK_EQ "changed", rax, 1
        ret

string_ports:
        CASE "REP OUTSB to the UART's scratch register: the last byte stays"
        mov esi, offset text
        mov edx, 0x3ff
        mov ecx, 5
        rep outsb
        mov rdi, rsi
        in al, dx
        movzx eax, al
        CHECK_EQ "last", rax, 'o'
        CHECK_EQ "RCX", rcx, 0
        CHECK_EQ "RSI", rdi, "offset text+5"
        CASE "REP INSB from it"
        mov edi, offset buffer
        mov ecx, 8
        rep insb
        movabs rax, 0x6f6f6f6f6f6f6f6f
        CHECK_EQ "content", [buffer], rax
        CHECK_EQ "RDI", rdi, "offset buffer+8"
        CASE "INSD and OUTSD of the PCI address register"
        mov edx, 0xcf8
        mov esi, offset address_value
        outsd
        mov edi, offset buffer
        insd
        mov eax, [buffer]
        CHECK_EQ "read back", rax, 0x80000800
        CASE "REP INSB downwards across a page's border"
        mov r12d, WIN
        MAP 0, page_c, PTE_P+PTE_W
        MAP 1, page_a, PTE_P+PTE_W
        mov edx, 0x3ff
        lea rdi, [r12 + 4096 + 3]
        mov ecx, 8
        std
        rep insb
        cld
        mov eax, [page_a]
        mov ecx, [page_c + 4092]
        CHECK_EQ "second page", rax, 0x6f6f6f6f
        CHECK_EQ "first page", rcx, 0x6f6f6f6f
        CASE "REP INSB into a page that is absent"
        MAP 1, 0, 0
        lea rdi, [r12 + 4096 - 3]
        mov ecx, 8
1:      rep insb
        EXPECT_FAULT 14, 2, 1b, WIN+4096
        CHECK_EQ "RCX", [saved_registers+FRAME_RCX], 5
        CASE "REP OUTSB from a page that is absent"
        lea rsi, [r12 + 4096 - 3]
        mov ecx, 8
1:      rep outsb
        EXPECT_FAULT 14, 0, 1b, WIN+4096
        CHECK_EQ "RCX", [saved_registers+FRAME_RCX], 5
        CASE "REP INSW with a count of 0"
        xor ecx, ecx
        mov edi, 0
        rep insw
        CHECK_EQ "RDI", rdi, 0
        CASE "INSB into code that has run"
        mov byte ptr [patch + 1], 1
        call patch
        mov edi, offset patch + 1
        insb
        call patch
        CHECK_EQ "result", rax, 'o'
        CASE "INSB into a page table"
        MAP 0, page_a, PTE_P
        MAP 2, win_table, PTE_P+PTE_W
        mov eax, [r12]
        xor eax, eax
        out dx, al
        lea rdi, [r12 + 2 * 4096]
        insb
        invlpg [r12]
1:      mov eax, [r12]
        EXPECT_FAULT 14, 0, 1b, WIN
        ret

patch:  mov eax, 0
        ret

cpuid_leaves:
        CASE "the highest leaves"
        xor eax, eax
        cpuid
        cmp eax, 0xd
        setae sil
        mov eax, 0x80000000
        cpuid
        cmp eax, 0x80000008
        setae dil
        movzx esi, sil
        movzx edi, dil
        CHECK_EQ "basic", rsi, 1
        CHECK_EQ "extended", rdi, 1
        CASE "upper halves are cleared"
        mov rax, -1
        mov rbx, -1
        mov rcx, -1
        mov rdx, -1
        mov eax, 1
        cpuid
        or rax, rbx
        or rax, rcx
        or rax, rdx
        shr rax, 32
        CHECK_EQ "upper halves", rax, 0
        CASE "what 64-bit mode needs"
        mov eax, 0x80000001
        cpuid
        and edx, 0x20100800             // LM, NX, SYSCALL
        mov eax, 1
        mov esi, edx
        cpuid
        and edx, 0x07008069             // FPU, PSE, MSR, PAE, CMOV, FXSR, SSE, SSE2
        CHECK_EQ "extended", rsi, 0x20100800
        CHECK_EQ "basic", rdx, 0x07008069
        CASE "a feature of CPUID can be switched on in CR4, and no other: SMEP, SMAP, UMIP, FSGSBASE, PKE, LA57, CET"
        mov eax, 7
        xor ecx, ecx
        cpuid
        mov r8d, ebx
        mov r9d, ecx
        mov r10d, 0
        // Bits of CR4 in pairs with those of CPUID leaf 7.
        .irp pair, 0x1407, 0x1514, 0x1000
        bt r8d, \pair & 0xff
        setc r11b
        mov esi, \pair >> 8
        call try_cr4
        .endr
        .irp pair, 0x0b02, 0x1603, 0x0c10, 0x1707
        bt r9d, \pair & 0xff
        setc r11b
        mov esi, \pair >> 8
        call try_cr4
        .endr
        CHECK_EQ "disagreements", r10, 0
        CASE "a leaf beyond the last one is like the last, or zero; it does not fault"
        mov eax, 0x3fffffff
        cpuid
        EXPECT_NONE
        CASE "AVX needs OSXSAVE; the hypervisor bit and its leaf"
        mov eax, 1
        cpuid
        bt ecx, 31
        jnc 5f
        mov eax, 0x40000000
        cpuid
        cmp eax, 0x40000000
        setae al
        movzx eax, al
        CHECK_EQ "leaf", rax, 1
5:      CASE "APIC ID"
        mov eax, 1
        cpuid
        shr ebx, 24
        mov eax, LOCAL_APIC
        mov eax, [rax + 0x20]
        shr eax, 24
        CHECK_EQ "same", rax, rbx
        ret

/// ESI = bit of CR4, R11B = whether it should be allowed; counts disagreements in R10. #GP is taken here.
try_cr4:
        HOOK 13, cr4_refused
        mov byte ptr [refused], 0
        mov rax, cr4
        mov rdi, rax
        bts rax, rsi
        mov cr4, rax
cr4_next:
        mov cr4, rdi
        UNHOOK 13
        mov al, [refused]
        xor al, 1
        cmp al, r11b
        je 1f
        bts r10, rsi
1:      ret
cr4_refused:
        mov byte ptr [refused], 1
        mov qword ptr [rdi + FRAME_RIP], offset cr4_next
        ret

time:   CASE "RDTSC does not go back, 100000 times"
        mov ecx, 100000
        xor r8d, r8d
        xor r9d, r9d
2:      rdtsc
        shl rdx, 32
        or rax, rdx
        cmp rax, r8
        jae 3f
        inc r9d
3:      mov r8, rax
        dec ecx
        jnz 2b
        CHECK_EQ "times", r9, 0
        CASE "RDTSC clears the upper halves"
        mov rax, -1
        mov rdx, -1
        rdtsc
        or rax, rdx
        shr rax, 32
        CHECK_EQ "upper halves", rax, 0
        CASE "RDTSC and IA32_TIME_STAMP_COUNTER agree"
        rdtsc
        shl rdx, 32
        or rax, rdx
        mov r8, rax
        mov ecx, 0x10
        rdmsr
        shl rdx, 32
        or rax, rdx
        mov r9, rax
        rdtsc
        shl rdx, 32
        or rdx, rax
        cmp r8, r9
        setbe cl
        cmp r9, rdx
        setbe al
        and al, cl
        movzx eax, al
        CHECK_EQ "in order", rax, 1
        CASE "RDTSCP and IA32_TSC_AUX"
        mov eax, 0x80000001
        cpuid
        bt edx, 27
        jnc 5f
        WRITE_MSR 0xc0000103, 0x1234
        rdtscp
        CHECK_EQ "ECX", rcx, 0x1234
5:      CASE "writing the TSC moves it"
        mov ecx, 0x10
        xor eax, eax
        mov edx, 0x1000
        wrmsr
        rdtsc
        sub edx, 0x1000
        CHECK_EQ "upper half", rdx, 0
        ret

random_and_hints:
        CASE "hints and fences"
        pause
        lfence
        mfence
        sfence
        nop
        .byte 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0
        .byte 0xf3, 0x0f, 0x1e, 0xfa    // ENDBR64
        prefetcht0 [0x12345678]
        prefetchw [variable]
        clflush [variable]
        EXPECT_NONE
        CASE "CLFLUSH of an address that is not mapped: #PF"
        mov r12d, WIN
        MAP 0, 0, 0
1:      clflush [r12]
        EXPECT_FAULT 14, 0, 1b, WIN
        CASE "RDRAND gives something"
        mov eax, 1
        cpuid
        bt ecx, 30
        jnc 5f
        rdrand r14
        jc 5f
        rdrand r14
        jc 5f
        rdrand r14
        setnc al
        movzx eax, al
        CHECK_EQ "refused three times", rax, 0
5:      CASE "UD0 with an operand"
1:      .byte 0x0f, 0xff, 0xc0
        EXPECT_FAULT 6, NO_ERROR_CODE, 1b
        ret

        .data
        .balign 16
        .quad 0, 0
variable: .quad 0, 0, 0
buffer: .skip 64
text:   .ascii "hello"
address_value: .long 0x80000800
refused: .byte 0
        .section .note.GNU-stack, "", @progbits
