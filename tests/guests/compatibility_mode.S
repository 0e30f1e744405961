// SPDX-License-Identifier: Apache-2.0
/// @file Compatibility mode: 32-bit code at CPL 3 (and CPL 0) under a 64-bit kernel.
#include "compatibility.inc"

        GUEST_MAIN compatibility_mode
        call short_forms
        call stack
        call addresses
        call strings
        call control
        call decimal
        call faults
        call segments
        call ring0
        ret

short_forms:
        CODE32 "INC and DEC in one byte"
        mov eax, 0x7ffffffe
        .byte 0x40                      // inc eax
        .byte 0x40
        mov ecx, 0
        .byte 0x49                      // dec ecx
        mov edi, 5
        .byte 0x47                      // inc edi
        mov esi, 5
        .byte 0x4e                      // dec esi
        mov ebp, 1
        .byte 0x4d
        mov edx, 0xffff
        .byte 0x66, 0x42                // inc dx
        END32
        RESULT RAX, 0x80000000
        RESULT RCX, 0xffffffff
        RESULT RDI, 6
        RESULT RSI, 4
        RESULT RBP, 0
        RESULT RDX, 0
        CODE32 "INC ESP and DEC ESP"
        mov ebx, esp
        .byte 0x44
        mov ecx, esp
        .byte 0x4c, 0x4c
        sub ebx, esp
        .byte 0x44
        sub ecx, esp
        END32
        RESULT RBX, 1
        RESULT RCX, 1
        CODE32 "INC keeps CF"
        stc
        inc eax
        setc cl
        movzx ecx, cl
        END32
        RESULT RCX, 1
        CODE32 "32-bit arithmetic and high bytes"
        mov eax, 0x12345678
        add ah, al
        xchg al, ah
        mov edx, eax
        imul ecx, eax, 3
        cdq
        END32
        RESULT RAX, 0x123478ce
        RESULT RCX, 0x369d6a6a
        CODE32 "MOV moffs32"
        mov eax, 0x11223344
        mov [scratch + USER], eax
        xor eax, eax
        mov al, [scratch + USER + 1]
        mov ecx, eax
        mov eax, [scratch + USER]
        END32
        RESULT RAX, 0x11223344
        RESULT RCX, 0x33
        CODE32 "ARPL"
        mov eax, 0x10
        mov ecx, 0x0b
        .byte 0x63, 0xc8                // arpl ax, cx
        setz dl
        movzx edx, dl
        END32
        RESULT RAX, 0x13
        RESULT RDX, 1
        CODE32 "BOUND within"
        mov eax, 5
        mov dword ptr [scratch + USER], 1
        mov dword ptr [scratch + USER + 4], 9
        bound eax, [scratch + USER]
        END32
        CODE32 "LAHF and SAHF, SALC"
        stc
        .byte 0xd6                      // salc
        movzx ecx, al
        END32
        RESULT RCX, 0xff
        ret

stack:
        CODE32 "PUSH and POP are 4 bytes"
        mov ebx, esp
        mov eax, 0x11223344
        push eax
        push 0x55
        mov ecx, ebx
        sub ecx, esp
        pop edx
        pop esi
        sub ebx, esp
        END32
        RESULT RCX, 8
        RESULT RDX, 0x55
        RESULT RSI, 0x11223344
        RESULT RBX, 0
        CODE32 "PUSHA and POPA"
        mov eax, 1
        mov ecx, 2
        mov edx, 3
        mov ebx, 4
        mov ebp, 5
        mov esi, 6
        mov edi, 7
        pusha
        add dword ptr [esp], 0x10       // EDI
        add dword ptr [esp + 12], 0x100 // ESP: not loaded
        add dword ptr [esp + 28], 0x20  // EAX
        xor ecx, ecx
        xor edx, edx
        xor ebx, ebx
        popa
        END32
        RESULT RAX, 0x21
        RESULT RCX, 2
        RESULT RDX, 3
        RESULT RBX, 4
        RESULT RBP, 5
        RESULT RSI, 6
        RESULT RDI, 0x17
        lea rax, [user_stack_top + USER]
        CHECK_EQ "ESP", [rec_rsp], rax
        CODE32 "PUSHA pushes ESP as it was"
        mov ebx, esp
        pusha
        mov ecx, [esp + 12]
        sub ecx, ebx
        mov esp, ebx
        END32
        RESULT RCX, 0
        CODE32 "PUSHAW and POPAW"
        mov eax, 0x11111234
        mov ebx, esp
        pushaw
        sub ebx, esp
        mov eax, 0x22220000
        popaw
        END32
        RESULT RAX, 0x22221234
        CODE32 "PUSH ESP, POP ESP, PUSH [ESP], POP [ESP + 4]"
        mov ebx, esp
        push esp
        pop ecx
        sub ecx, ebx
        push 0x77
        push dword ptr [esp]
        push 0x88
        pop dword ptr [esp + 4]
        pop edx
        pop esi
        mov esp, ebx
        END32
        RESULT RCX, 0
        RESULT RDX, 0x77
        RESULT RSI, 0x88
        CODE32 "PUSH and POP of segments and of 16 bits"
        mov ebx, esp
        push ds
        pop eax
        push es
        pop ds
        pushw 0x1234
        mov ecx, ebx
        sub ecx, esp
        popw dx
        movzx edx, dx
        END32
        RESULT RAX, UDATA
        RESULT RCX, 2
        RESULT RDX, 0x1234
        CODE32 "CALL and RET, with and without release"
        mov ebx, esp
        push 1
        push 2
        call 2f
        jmp 3f
2:      mov eax, [esp + 4]
        ret 8
3:      sub ebx, esp
        call 4f
        jmp 5f
4:      mov ecx, 9
        ret
5:      END32
        RESULT RAX, 2
        RESULT RBX, 0
        RESULT RCX, 9
        CODE32 "CALL through a register and through memory"
        call 1f
1:      pop edi
        lea eax, [edi + (2f - 1b)]
        call eax
        lea edx, [edi + (4f - 1b)]
        mov [scratch + USER], edx
        call [scratch + USER]
        jmp 3f
2:      add ecx, 3
        ret
4:      add ecx, 4
        ret
3:      END32
        RESULT RCX, 7
        CODE32 "ENTER and LEAVE"
        mov ebx, esp
        mov ebp, 0x1234
        enter 16, 0
        mov ecx, ebx
        sub ecx, esp
        leave
        sub ebx, esp
        END32
        RESULT RCX, 20
        RESULT RBX, 0
        RESULT RBP, 0x1234
        CODE32 "PUSHF and POPF"
        stc
        pushf
        clc
        mov eax, [esp]
        popf
        setc cl
        movzx ecx, cl
        and eax, 1
        END32
        RESULT RAX, 1
        RESULT RCX, 1
        ret

addresses:
        CODE32 "base, index, scale, displacement"
        mov ebx, offset table + USER
        mov ecx, 3
        mov eax, [ebx + ecx * 4]
        mov edx, [table + USER + ecx * 4 + 4]
        mov esi, [ebx + 8]
        END32
        RESULT RAX, 0x103
        RESULT RDX, 0x104
        RESULT RSI, 0x102
        CODE32 "an address wraps at 4 GiB"
        mov ebx, offset table + USER
        mov ecx, 0xfffffffc
        mov eax, [ebx + ecx + 4]
        lea edx, [ebx + ecx * 4 + 16]
        sub edx, ebx
        END32
        RESULT RAX, 0x100
        RESULT RDX, 0
        CODE32 "LEA"
        mov ebx, 0xffffffff
        lea eax, [ebx + ebx]
        lea ecx, [ebx * 8 + 9]
        .byte 0x66
        lea edx, [ebx + 2]
        movzx edx, dx
        END32
        RESULT RAX, 0xfffffffe
        RESULT RCX, 1
        RESULT RDX, 1
        CODE32 "16-bit addresses: LEA"
        mov ebx, 0x11118000
        mov esi, 0x22228001
        xor eax, eax
        lea eax, [bx + si]
        lea ecx, [bx + si + 0x10]
        lea edx, [si - 1]
        END32
        RESULT RAX, 1
        RESULT RCX, 0x11
        RESULT RDX, 0x8000
        CODE32 "16-bit address: an access to the first 64 KiB"
        mov bx, 0x1234
76:     mov eax, [bx]
        FAULT32 14, 5, 0x1234
        CODE32 "ESP and EBP as base"
        push 0x31
        mov ebp, esp
        mov eax, [ebp]
        mov ecx, [esp]
        mov edx, 0
        mov esi, [esp + edx * 8]
        pop edi
        END32
        RESULT RAX, 0x31
        RESULT RCX, 0x31
        RESULT RSI, 0x31
        CODE32 "SSE with 32-bit addresses"
        mov ebx, offset table + USER
        movups xmm0, [ebx]
        movups [scratch + USER], xmm0
        mov eax, [scratch + USER + 12]
        movd ecx, xmm0
        END32
        RESULT RAX, 0x103
        RESULT RCX, 0x100
        ret

strings:
        CODE32 "REP MOVSD, REP STOSB, SCASB, CMPSB"
        cld
        mov esi, offset table + USER
        mov edi, offset buffer + USER
        mov ecx, 8
        rep movsd
        mov eax, [buffer + USER + 28]
        mov ebx, ecx
        mov edi, offset buffer + USER
        mov ecx, 5
        push eax
        mov al, 0x7f
        rep stosb
        mov edi, offset buffer + USER
        mov ecx, 100
        repe scasb
        mov edx, ecx
        pop eax
        END32
        RESULT RAX, 0x107
        RESULT RBX, 0
        RESULT RDX, 94
        CODE32 "REP MOVSB downwards"
        std
        mov esi, offset table + USER + 7
        mov edi, offset buffer + USER + 7
        mov ecx, 8
        rep movsb
        cld
        mov eax, [buffer + USER + 4]
        END32
        RESULT RAX, 0x101
        CODE32 "LODSW and 16-bit counters by prefix 67"
        mov esi, offset table + USER
        mov ecx, 0x00020003
        lodsw
        movzx edx, ax
        END32
        RESULT RDX, 0x100
        RESULT RCX, 0x20003
        CODE32 "LOOP with CX, and JCXZ"
        mov ecx, 0x00020003
        xor eax, eax
2:      inc eax
        .byte 0x67, 0xe2, 2b - . - 1    // loopw
        jcxz 3f
        mov eax, 0
3:      END32
        RESULT RAX, 3
        RESULT RCX, 0x20000
        ret

control:
        CODE32 "far CALL by pointer into the same segment"
        call 1f
1:      pop edi
        lea eax, [edi + (2f - 1b)]
        mov [far_pointer + USER], eax
        mov word ptr [far_pointer + USER + 4], UCODE32
        call fword ptr [far_pointer + USER]
        jmp 3f
2:      mov ecx, 6
        mov edx, [esp + 4]
        and edx, 0xffff
        retf
3:      END32
        RESULT RCX, 6
        RESULT RDX, UCODE32
        CODE32 "far JMP with an immediate pointer to 64-bit code and back"
        .byte 0xea
        .long 2f + USER
        .word UCODE64
        .code64
2:      mov r8, 0x123456789
        shr r8, 4
        mov ebx, r8d
        push UCODE32
        push offset 3f + USER
        retfq
        .code32
3:      mov eax, ebx
        END32
        RESULT RAX, 0x12345678
        CODE32 "IRET at CPL 3"
        pushf
        push cs
        call 1f
1:      add dword ptr [esp], 2f - 1b
        iret
        ud2
2:      mov eax, 3
        END32
        RESULT RAX, 3
        CODE32 "INTO without overflow"
        xor eax, eax
        into
        mov eax, 8
        END32
        RESULT RAX, 8
        CODE32 "many turns of a loop with calls"
        mov ecx, 10000
        xor eax, eax
2:      call 3f
        dec ecx
        jnz 2b
        jmp 4f
3:      add eax, 2
        ret
4:      END32
        RESULT RAX, 20000
        CODE32 "CPUID, RDTSC, and SSE2 in between"
        xor eax, eax
        cpuid
        cmp eax, 1
        setae al
        movzx eax, al
        END32
        RESULT RAX, 1
        ret

decimal:
        CODE32 "AAA, AAS, AAM, AAD, DAA, DAS"
        mov eax, 0x0009
        add al, 5
        aaa
        mov ebx, eax
        mov eax, 57
        aam
        mov ecx, eax
        aad
        mov edx, eax
        mov eax, 0x19
        add al, 0x28
        daa
        mov esi, eax
        sub al, 0x18
        das
        mov edi, eax
        END32
        RESULT RBX, 0x104
        RESULT RCX, 0x507
        RESULT RDX, 57
        RESULT RSI, 0x47
        RESULT RDI, 0x29
        CODE32 "AAM 0: #DE"
        mov eax, 5
76:     .byte 0xd4, 0
        FAULT32 0, NO_ERROR_CODE
        ret

faults: CODE32 "#DE"
        xor ecx, ecx
76:     div ecx
        FAULT32 0, NO_ERROR_CODE
        CODE32 "INTO: #OF"
        mov byte ptr [scratch + USER], 1
        mov eax, 0x7fffffff
        inc eax
        into
76:     nop
        FAULT32 4, NO_ERROR_CODE
        CODE32 "BOUND: #BR"
        mov eax, 10
        mov dword ptr [scratch + USER], 1
        mov dword ptr [scratch + USER + 4], 9
76:     bound eax, [scratch + USER]
        FAULT32 5, NO_ERROR_CODE
        CODE32 "#PF"
        mov ebx, WIN
76:     mov eax, [ebx]
        FAULT32 14, 4, WIN
        CODE32 "#PF of a push"
        mov esp, WIN + 0x100
76:     push eax
        FAULT32 14, 6, WIN+0xfc
        CODE32 "a read across 4 GiB wraps to address 0"
        mov ebx, 0xfffffffe
76:     mov eax, [ebx]
        FAULT32 14, 5, 0xfffffffe
        CODE32 "SYSCALL: #UD, for an Intel processor"
76:     syscall
        FAULT32 6, NO_ERROR_CODE
        CODE32 "SWAPGS: #UD"
76:     .byte 0x0f, 0x01, 0xf8
        FAULT32 6, NO_ERROR_CODE
        CODE32 "RDFSBASE: #UD"
76:     .byte 0xf3, 0x0f, 0xae, 0xc0
        FAULT32 6, NO_ERROR_CODE
        CODE32 "HLT: #GP(0)"
76:     hlt
        FAULT32 13, 0
        CODE32 "VEX needs AVX: LDS with a memory operand is LDS"
        mov dword ptr [scratch + USER], 0x1234
        mov word ptr [scratch + USER + 4], UDATA
        lds eax, [scratch + USER]
        END32
        RESULT RAX, 0x1234
        CODE32 "LES and LSS"
        mov dword ptr [scratch + USER], 0x1234
        mov word ptr [scratch + USER + 4], UDATA
        les ecx, [scratch + USER]
        mov [scratch + USER], esp
        lss esp, [scratch + USER]
        mov edx, es
        END32
        RESULT RCX, 0x1234
        RESULT RDX, UDATA
        CODE32 "#GP of a segment load"
        mov eax, KDATA
76:     mov ds, eax
        FAULT32 13, KDATA
        ret

segments:
        CODE32 "DS with a base"
        mov eax, BASED_DATA
        mov ds, eax
        mov ebx, offset table + USER - 0x123456
        mov eax, [ebx + 4]
        mov ecx, ss:[table + USER]
        mov edx, es:[table + USER + 8]
        END32
        RESULT RAX, 0x101
        RESULT RCX, 0x100
        RESULT RDX, 0x102
        CODE32 "ES with a base: string store"
        mov eax, BASED_DATA
        mov es, eax
        mov edi, offset buffer + USER - 0x123456
        mov eax, 0x5a
        mov ecx, 4
        rep stosb
        mov eax, [buffer + USER]
        END32
        RESULT RAX, 0x5a5a5a5a
        CODE32 "SS with a base: pushes and calls"
        mov eax, BASED_DATA
        mov edx, esp
        sub edx, 0x123456
        mov ss, eax
        mov esp, edx
        push 0x66
        call 2f
        jmp 3f
2:      mov ecx, [esp + 4]
        ret
3:      pop ebx
        mov eax, UDATA
        mov ss, eax
        add esp, 0x123456
        END32
        RESULT RCX, 0x66
        RESULT RBX, 0x66
        CODE32 "FS with a base"
        mov eax, BASED_DATA
        mov fs, eax
        mov eax, fs:[table + USER - 0x123456 + 12]
        END32
        RESULT RAX, 0x103
        ret

ring0:  CASE "32-bit code at CPL 0: far return there, far jump back"
        mov rbx, rsp
        push KCODE32
        push offset 2f
        retfq
        .code32
2:      mov eax, 5
        .byte 0x40
        push eax
        pop ecx
        mov edx, cs
        .byte 0xea
        .long 3f
        .word KCODE
        .code64
3:      mov rsp, rbx
        CHECK_EQ "EAX", rax, 6
        CHECK_EQ "ECX", rcx, 6
        CHECK_EQ "CS", rdx, KCODE32
        CASE "an exception in 32-bit code at CPL 0: SS and RSP are pushed"
        mov rbx, rsp
        push KCODE32
        push offset 2f
        retfq
        .code32
2:      ud2
        .code64
        EXPECT_FAULT 6, NO_ERROR_CODE, 2b
        CHECK_EQ "CS", [rec_cs], KCODE32
        CHECK_EQ "SS", [rec_ss], KDATA
        CASE "an interrupt returns to 32-bit code at CPL 0"
        HOOK 0x99, ignore
        mov rbx, rsp
        push KCODE32
        push offset 2f
        retfq
        .code32
2:      mov eax, 1
        int 0x99
        .byte 0x40
        .byte 0xea
        .long 3f
        .word KCODE
        .code64
3:      mov rsp, rbx
        UNHOOK 0x99
        CHECK_EQ "EAX", rax, 2
        CASE "64-bit registers survive 32-bit code"
        mov rbx, rsp
        movabs r13, 0x123456789abcdef0
        movabs rsi, 0x123456789abcdef0
        push KCODE32
        push offset 2f
        retfq
        .code32
2:      mov eax, 1
        .byte 0xea
        .long 3f
        .word KCODE
        .code64
3:      mov rsp, rbx
        CHECK_EQ "R13", r13, 0x123456789abcdef0
        ret

ignore: ret

        .data
        .balign 64
table:
        .set entry, 0x100
        .rept 32
        .long entry
        .set entry, entry + 1
        .endr
scratch: .quad 0, 0, 0, 0
far_pointer: .quad 0
buffer: .skip 256
        .section .note.GNU-stack, "", @progbits
