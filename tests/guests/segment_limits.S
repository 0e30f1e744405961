// SPDX-License-Identifier: Apache-2.0
/// @file What segments forbid in compatibility mode: limits, null selectors, writes to code (SDM vol. 3A section 5.3).
#include "compatibility.inc"

// Selectors of the local table.
#define UPPER_DATA 0x07
#define STACK_DOWN 0x0f
#define EXECUTE_ONLY32 0x17

        GUEST_MAIN segment_limits
        mov eax, offset page_b + USER - 0xff000 // its last page is page_b
        mov [local + 2], ax
        shr eax, 16
        mov [local + 4], al
        mov [local + 7], ah
        mov eax, offset page_a + USER - 1       // G = 1: in pages
        shr eax, 12
        mov [local + 8], ax
        shr eax, 16
        or al, 0xc0
        mov [local + 8 + 6], al
        mov eax, offset local
        mov [gdt + LDT_SELECTOR + 2], ax
        shr eax, 16
        mov [gdt + LDT_SELECTOR + 4], al
        mov [gdt + LDT_SELECTOR + 7], ah
        mov word ptr [gdt + LDT_SELECTOR], 23
        mov eax, LDT_SELECTOR
        lldt ax
        CODE32 "a limit: the last byte is reachable"
        mov eax, SMALL_DATA
        mov fs, eax
76:     mov al, fs:[0xfff]
        FAULT32 14, 5, 0xfff
        CODE32 "beyond the limit: #GP(0)"
        mov eax, SMALL_DATA
        mov fs, eax
76:     mov al, fs:[0x1000]
        FAULT32 13, 0
        CODE32 "across the limit: #GP(0)"
        mov eax, SMALL_DATA
        mov fs, eax
76:     mov eax, fs:[0xffd]
        FAULT32 13, 0
        CODE32 "expand-down: within the limit is outside"
        mov eax, EXPAND_DOWN
        mov fs, eax
76:     mov al, fs:[0xfff]
        FAULT32 13, 0
        CODE32 "a null segment: #GP(0)"
        xor eax, eax
        mov fs, eax
76:     mov al, fs:[ecx]
        FAULT32 13, 0
        CODE32 "a write to a read-only segment: #GP(0)"
        // READ_ONLY_DATA has DPL 0: loaded at CPL 0 only. CS is read-only too.
76:     mov cs:[scratch + USER], al
        FAULT32 13, 0
        CODE32 "within an expand-down segment"
        mov eax, EXPAND_DOWN
        mov fs, eax
        mov eax, fs:[scratch + USER]
        END32
        RESULT RAX, 0x600d
        CODE32 "a write beyond the limit: #GP(0)"
        mov eax, SMALL_DATA
        mov fs, eax
76:     mov dword ptr fs:[0xffd], eax
        FAULT32 13, 0
        CODE32 "DS with a limit: every kind of operand"
        mov ecx, SMALL_DATA
        mov ds, ecx
76:     lock xadd [0x1000], eax
        FAULT32 13, 0
        CODE32 "REP MOVSB up to the limit"
        mov eax, SMALL_DATA
        mov ds, eax
        mov esi, 0xffe
        mov edi, offset scratch + USER
        mov ecx, 5
76:     rep movsb
        FAULT32 14, 5, 0xffe
        CODE32 "REP STOSB: what lies within the limit is written"
        mov edi, 0xffffe
        mov ecx, UPPER_DATA
        mov es, ecx
        mov ecx, 5
        mov al, 0x77
76:     rep stosb
        FAULT32 13, 0
        CHECK_EQ "ECX", [saved_registers + FRAME_RCX], 3
        CHECK_EQ "EDI", [saved_registers + FRAME_RDI], 0x100000
        CODE32 "PUSH below an expand-down stack: #SS(0)"
        mov eax, STACK_DOWN
        mov ss, eax
        mov esp, offset page_a + USER + 4
        push eax
76:     push eax
        FAULT32 12, 0
        CODE32 "PUSHA there, whole or not at all"
        mov eax, STACK_DOWN
        mov ss, eax
        mov esp, offset page_a + USER + 28
76:     pusha
        FAULT32 12, 0
        lea rax, [page_a + USER + 28]
        CHECK_EQ "ESP", [rec_rsp], rax
        CODE32 "CALL there"
        mov eax, STACK_DOWN
        mov ss, eax
        mov esp, offset page_a + USER
76:     call 77f
77:     FAULT32 12, 0
        CODE32 "POP and LEAVE from below: #SS(0)"
        mov eax, STACK_DOWN
        mov ss, eax
        mov ebp, offset page_a + USER - 4
76:     leave
        FAULT32 12, 0
        CODE32 "BP as a base names SS"
        mov eax, STACK_DOWN
        mov ss, eax
        mov ebp, offset page_a + USER
76:     mov eax, [ebp - 4]
        FAULT32 12, 0
        CODE32 "a read through an execute-only CS: #GP(0)"
        push EXECUTE_ONLY32
        mov eax, offset 2f + USER
        push eax
        retf
2:      mov eax, [scratch + USER]
76:     mov eax, cs:[scratch + USER]
        FAULT32 13, 0
        CODE32 "a write through a data register that holds code: #GP(0)"
        mov eax, UCODE32
        mov ds, eax
        mov eax, [scratch + USER]
76:     mov [scratch + USER], eax
        FAULT32 13, 0
        CODE32 "a string write through a null ES: #GP(0)"
        xor eax, eax
        mov es, eax
        mov edi, offset scratch + USER
76:     stosb
        FAULT32 13, 0
        CODE32 "a far pointer beyond the limit: #GP(0)"
        mov eax, SMALL_DATA
        mov fs, eax
76:     lgs eax, fs:[0xffb]
        FAULT32 13, 0
        CODE32 "BT with a register reaches beyond the limit: #GP(0)"
        mov eax, SMALL_DATA
        mov fs, eax
        mov eax, 0x8000
76:     bt dword ptr fs:[0], eax
        FAULT32 13, 0
        CODE32 "FXSAVE and XLAT"
        mov eax, SMALL_DATA
        mov fs, eax
76:     fxsave fs:[0xf00]
        FAULT32 13, 0
        CODE32 "64-bit code does not look"
        mov eax, SMALL_DATA
        mov ds, eax
        .byte 0xea
        .long 2f + USER
        .word UCODE64
        .code64
2:      mov eax, [rip + scratch]
        int 0x80
78:     EXPECT_FAULT 0x80, NO_ERROR_CODE, 78b+USER
        RESULT RAX, 0x600d
        ret

        .data
scratch: .quad 0x600d
        .balign 16
local:  .quad 0x004ff3000000ffff        // UPPER_DATA: 1 MiB
        .quad 0x0040f70000000000        // STACK_DOWN: from page_a on
        .quad 0x00cff9000000ffff        // EXECUTE_ONLY32
        .section .note.GNU-stack, "", @progbits
