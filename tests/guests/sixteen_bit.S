// SPDX-License-Identifier: Apache-2.0
/// @file 16-bit code and stack segments in compatibility mode, at CPL 3 (SDM vol. 3A chapter 21): operand and address size
/// 16, IP of 16 bits, code segments with a base and a limit.
#include "guest.inc"

// Selectors of the local table.
#define CODE16 0x07
#define DATA16 0x0f
#define STACK16 0x17
#define FLAT_CODE16 0x1f
#define SHORT_CODE16 0x27
#define FLAT_STACK16 0x2f
#define LOCAL_LIMIT 0x2f
#define STACK_POINTER 0x2000

/// Gives a descriptor in `local` its base.
.macro BASE index, address
        mov eax, offset \address
        mov [local + 8 * \index + 2], ax
        shr eax, 16
        mov [local + 8 * \index + 4], al
        mov [local + 8 * \index + 7], ah
.endm

/// Runs the 16-bit code up to END16; afterwards [saved_registers] has its registers.
.macro CODE16_CASE name, code=CODE16, stack=STACK16
        CASE "\name"
        push \stack
        push STACK_POINTER
        push 2
        push \code
        push offset 77f - code16_base
        mov ecx, DATA16
        mov ds, ecx
        mov es, ecx
        xor eax, eax
        mov rbx, -1
        xor ecx, ecx
        mov rdx, 0x1111222233334444
        iretq
        .code16
77:
.endm
.macro END16
        int 0x80
        .code64
78:     EXPECT_FAULT 0x80, NO_ERROR_CODE, 78b-code16_base
.endm
.macro FAULT16 vector, error, cr2=ANY_CR2
        ud2
        .code64
        EXPECT_FAULT \vector, \error, 76b-code16_base, \cr2
.endm
        .set PLACE_RAX, FRAME_RAX
        .set PLACE_RCX, FRAME_RCX
        .set PLACE_RDX, FRAME_RDX
        .set PLACE_RBX, FRAME_RBX
        .set PLACE_RBP, FRAME_RBP
        .set PLACE_RSI, FRAME_RSI
        .set PLACE_RDI, FRAME_RDI
.macro RESULT reg:req, value:req
        mov rax, [saved_registers + PLACE_\reg]
        mov eax, eax
        CHECK_EQ "\reg", rax, "\value"
.endm
/// The low half of a register.
.macro RESULT16 reg:req, value:req
        movzx eax, word ptr [saved_registers + PLACE_\reg]
        CHECK_EQ "\reg", rax, "\value"
.endm
/// A place in `data` as an offset in DATA16.
#define AT(label) offset label - data16_base

        GUEST_MAIN sixteen_bit
        BASE 0, code16_base+USER
        BASE 1, data16_base+USER
        BASE 2, stack16_base+USER
        BASE 4, code16_base+USER
        mov eax, offset local
        mov [gdt + LDT_SELECTOR + 2], ax
        shr eax, 16
        mov [gdt + LDT_SELECTOR + 4], al
        mov [gdt + LDT_SELECTOR + 7], ah
        mov word ptr [gdt + LDT_SELECTOR], LOCAL_LIMIT
        mov eax, LDT_SELECTOR
        lldt ax
        call operands
        call addresses
        call stack
        call branches
        call strings
        call others
        call limits
        ret

code16_base:
operands:
        CODE16_CASE "moves and arithmetic of 16 bits"
        mov ax, 0xfff0
        add ax, 0x20
        setc cl
        mov dx, 0x5678
        inc bx
        dec si
        END16
        RESULT RAX, 0x10
        RESULT RCX, 1
        RESULT RDX, 0x33335678
        RESULT RBX, 0xffff0000
        CODE16_CASE "32-bit operands by prefix"
        mov eax, 0x12345678
        add eax, 0x11111111
        mov ebx, eax
        shr ebx, 4
        inc ebx
        imul ecx, eax, 3
        cdq
        END16
        RESULT RAX, 0x23456789
        RESULT RBX, 0x02345679
        RESULT RCX, 0x69d0369b
        RESULT RDX, 0
        CODE16_CASE "CBW, CWD, MOVZX, MOVSX, MUL, DIV"
        mov al, 0x80
        cbw
        movzx ecx, al
        movsx bx, al
        cwd
        mov si, dx
        mov ax, 1000
        mov dx, 1000
        mul dx
        mov di, dx
        mov bp, 100
        div bp
        END16
        RESULT RCX, 0x80
        RESULT RBX, 0xffffff80
        RESULT16 RDI, 15
        RESULT RAX, 10000
        CODE16_CASE "CWDE and BSWAP of 32 bits, XCHG, SHLD, BT"
        mov ax, 0x8001
        cwde
        mov ecx, eax
        bswap ecx
        mov bx, 0x1234
        mov dx, 0xabcd
        shld bx, dx, 4
        bt dx, 0
        setc al
        xchg si, bx
        END16
        RESULT RAX, 0xffff8001
        RESULT RCX, 0x0180ffff
        RESULT16 RSI, 0x234a
        CODE16_CASE "CMOV, SETcc, XADD, CMPXCHG"
        mov ax, 5
        mov bx, 7
        cmp ax, bx
        cmovb cx, bx
        xadd ax, bx
        mov dx, 12
        cmpxchg dx, cx
        sete al
        END16
        RESULT RCX, 7
        RESULT RDX, 0x33330007
        RESULT RAX, 1
        ret

addresses:
        CODE16_CASE "BX + SI, BP in SS, displacements, 16 bits of memory"
        mov bx, AT(table)
        mov si, 4
        mov ax, [bx + si]
        mov cx, [bx + si + 2]
        mov edx, [bx]
        add word ptr [bx + 8], 1
        mov di, [bx + 8]
        END16
        RESULT RAX, 0x7766
        RESULT RCX, 0x9988
        RESULT RDX, 0x55443322
        RESULT16 RDI, 0xbbab
        mov word ptr [table + 8], 0xbbaa
        CODE16_CASE "offsets wrap at 64 KiB"
        mov bx, 0xfff0
        mov si, AT(table) + 0x10
        mov ax, [bx + si]
        lea cx, [bx + si + 5]
        lea edx, [bx + si]
        END16
        RESULT RAX, 0x3322
        RESULT RCX, "offset table+5-data16_base"
        RESULT RDX, "offset table-data16_base"
        CODE16_CASE "direct offsets, and 32-bit addresses by prefix"
        mov ax, ds:[table - data16_base]
        mov cx, ds:[table - data16_base + 2]
        mov edx, AT(table)
        mov dx, [edx + 4]
        mov ebx, 1
        mov bl, [ebx * 4 + table - data16_base]
        END16
        RESULT RAX, 0x3322
        RESULT RCX, 0x5544
        RESULT16 RDX, 0x7766
        RESULT RBX, 0x66
        CODE16_CASE "SSE: 66 is part of the opcode"
        mov bx, AT(table)
        movdqu xmm0, [bx]
        movdqa xmm1, xmm0
        movapd xmm2, xmm1
        movups xmm3, xmm2
        paddb xmm3, xmm3
        movd eax, xmm3
        pextrw ecx, xmm0, 2
        movd edx, xmm2
        END16
        RESULT RAX, 0xaa886644
        RESULT RCX, 0x7766
        RESULT RDX, 0x55443322
        CODE16_CASE "x87"
        mov bx, AT(table)
        fild word ptr [bx]
        fild dword ptr [bx]
        fistp dword ptr [bx + 16]
        fistp word ptr [bx + 20]
        mov eax, [bx + 16]
        mov cx, [bx + 20]
        END16
        RESULT RAX, 0x55443322
        RESULT RCX, 0x3322
        ret

stack:  CODE16_CASE "PUSH and POP of 16 and 32 bits; the upper half of ESP stays"
        mov esp, 0xabcd0000 + STACK_POINTER
        push 0x1234
        push dword ptr 0x789abcde
        mov bp, sp
        mov ax, [bp]
        mov cx, [bp + 4]
        pop edx
        pop bx
        mov esi, esp
        END16
        RESULT RAX, 0xbcde
        RESULT RCX, 0x1234
        RESULT RDX, 0x789abcde
        RESULT RBX, 0xffff1234
        RESULT RSI, 0xabcd0000+STACK_POINTER
        CODE16_CASE "SP wraps at 64 KiB"
        mov esp, 0x10000
        push ax
        mov esi, esp
        pop ax
        mov edi, esp
        END16
        RESULT RSI, 0x1fffe
        RESULT RDI, 0x10000
        CODE16_CASE "PUSHA, POPA, PUSHF, POPF"
        mov cx, 2
        mov bp, 5
        pusha
        xor cx, cx
        xor bp, bp
        mov si, sp
        popa
        stc
        pushf
        clc
        popf
        setc al
        mov dx, sp
        END16
        RESULT RCX, 2
        RESULT RAX, 1
        RESULT16 RDX, STACK_POINTER
        CODE16_CASE "ENTER and LEAVE"
        mov ebp, 0x77770033
        enter 6, 0
        mov si, sp
        mov ax, [bp]
        leave
        mov di, sp
        END16
        RESULT RAX, 0x33
        RESULT RBP, 0x77770033
        RESULT16 RSI, 0x1ff8
        RESULT16 RDI, STACK_POINTER
        ret

branches:
        CODE16_CASE "CALL and RET push 2 bytes"
        mov ax, 1
        call 2f
        mov cx, sp
        jmp 3f
2:      mov bx, sp
        mov bp, sp
        mov dx, [bp]
        add ax, 1
        ret
3:      END16
        RESULT RAX, 2
        RESULT RCX, STACK_POINTER
        RESULT16 RBX, 0x1ffe
        CODE16_CASE "CALL through a register and memory, RET with release"
        mov bx, 2f - code16_base
        push 7
        call bx
        mov ds:[scratch - data16_base], bx
        push 8
        call word ptr ds:[scratch - data16_base]
        mov dx, sp
        jmp bp
        ud2
2:      inc ax
        mov bp, 3f - code16_base
        ret 2
3:      END16
        RESULT RAX, 2
        RESULT16 RDX, STACK_POINTER
        CODE16_CASE "Jcc, LOOP, JCXZ"
        mov ecx, 0x70003
2:      add ax, 5
        loop 2b
        jcxz 3f
        ud2
3:      cmp ax, 15
        je 4f
        ud2
4:      END16
        RESULT RAX, 15
        RESULT RCX, 0x70000
        CODE16_CASE "CALL and RET of 32 bits by prefix"
        .byte 0x66, 0xe8
        .long 2f - 1f
1:      mov cx, sp
        jmp 3f
2:      mov bp, sp
        mov dx, [bp + 2]
        .byte 0x66, 0xc3
3:      END16
        RESULT16 RDX, 0
        RESULT RCX, STACK_POINTER
        CODE16_CASE "far CALL and RET, far JMP to 32-bit code"
        .byte 0x9a
        .word 2f - code16_base, CODE16
        mov cx, sp
        .byte 0x66, 0xea
        .long 3f + USER
        .word UCODE32
2:      mov ax, 0x99
        retf
        .code32
3:      mov edx, cs
        int 0x80
        .code64
4:      EXPECT_FAULT 0x80, NO_ERROR_CODE, 4b+USER
        RESULT RAX, 0x99
        RESULT RCX, STACK_POINTER
        RESULT RDX, UCODE32
        // JMP rel16 from a place just above 0 to one just below 64 KiB, in segments that begin at page_a.
        CASE "a jump backwards wraps at 64 KiB"
        mov byte ptr [page_a + 0x10], 0xe9
        mov word ptr [page_a + 0x11], 0xffe0 - 0x13
        mov word ptr [page_a + 0xffe0], 0x80cd
        BASE 4, page_a+USER
        mov dword ptr [local + 8 * 4], 0xffff
        mov eax, offset page_a+USER
        mov [local + 8 * 4 + 2], ax
        push STACK16
        push STACK_POINTER
        push 2
        push SHORT_CODE16
        push 0x10
        iretq
        EXPECT_FAULT 0x80, NO_ERROR_CODE, 0xffe2
        CASE "and one forwards"
        mov byte ptr [page_a + 0xffe0], 0xe9
        mov word ptr [page_a + 0xffe1], 0x20 - 0xffe3 + 0x10000
        mov word ptr [page_a + 0x20], 0x80cd
        push STACK16
        push STACK_POINTER
        push 2
        push SHORT_CODE16
        push 0xffe0
        iretq
        EXPECT_FAULT 0x80, NO_ERROR_CODE, 0x22
        CASE "a 16-bit JMP in 32-bit code clears the upper half of EIP"
        push UDATA
        push offset user_stack_top+USER
        push 2
        push UCODE32
        push offset 2f+USER
        iretq
        .code32
2:      .byte 0x66, 0xe9
        .word 0
3:      ud2
        .code64
        EXPECT_FAULT 14, 0x15, 3b-0x200000
        ret

strings:
        CODE16_CASE "REP MOVSB by SI, DI and CX"
        mov esi, 0xaaaa0000
        mov si, AT(table)
        mov edi, 0xbbbb0000
        mov di, AT(scratch)
        mov ecx, 0xcccc0004
        rep movsb
        mov eax, ds:[scratch - data16_base]
        END16
        RESULT RAX, 0x55443322
        RESULT RCX, 0xcccc0000
        RESULT16 RSI, "offset table+4-data16_base"
        RESULT16 RDI, "offset scratch+4-data16_base"
        CODE16_CASE "STOSW, LODSD, SCASW"
        mov di, AT(scratch)
        mov ax, 0x4321
        stosw
        stosw
        mov si, AT(scratch)
        lodsd
        mov di, AT(scratch)
        scasw
        sete cl
        mov bx, di
        END16
        RESULT RAX, 0x43214321
        RESULT RCX, 1
        RESULT16 RBX, "offset scratch+2-data16_base"
        ret

others: CODE16_CASE "#DE: IP is the instruction's"
        xor cx, cx
76:     div cx
        FAULT16 0, NO_ERROR_CODE
        CODE16_CASE "#PF, with the linear address"
        mov eax, 0
        mov fs, ax
        mov ax, FLAT_STACK16
        mov fs, ax
76:     mov ax, fs:[0x1000]
        FAULT16 14, 5, 0x1000
        CODE16_CASE "SLDT, SMSW, STR of 16 and 32 bits"
        mov eax, -1
        .byte 0x0f, 0x00, 0xc0          // sldt ax
        mov ecx, -1
        .byte 0x66, 0x0f, 0x00, 0xc1    // sldt ecx
        END16
        RESULT RAX, 0xffff0000+LDT_SELECTOR
        RESULT RCX, LDT_SELECTOR
        CASE "a handler's IRET comes back to 16-bit code"
        HOOK 3, count_trap
        mov qword ptr [traps], 0
        push STACK16
        push STACK_POINTER
        push 2
        push CODE16
        push offset 77f - code16_base
        iretq
        .code16
77:     mov ax, 3
        int3
        add ax, 4
        int3
        add ax, 5
        END16
        RESULT RAX, 12
        CHECK_EQ "traps", [traps], 2
        UNHOOK 3
        CODE16_CASE "16-bit code without limit", FLAT_CODE16
        .code64
        EXPECT_FAULT 14, 0x15, 77b-code16_base
        CASE "32-bit code with a 16-bit stack"
        push STACK16
        push STACK_POINTER
        push 2
        push UCODE32
        push offset 77f + USER
        mov eax, UDATA
        mov ds, eax
        mov es, eax
        iretq
        .code32
77:     mov esp, 0x10000
        push 0x12345678
        mov esi, esp
        call 2f
2:      mov edi, esp
        pop eax
        pop ebx
        mov ecx, esp
        int 0x80
        .code64
78:     EXPECT_FAULT 0x80, NO_ERROR_CODE, 78b+USER
        RESULT RSI, 0x1fffc
        RESULT RDI, 0x1fff8
        RESULT RBX, 0x12345678
        RESULT RCX, 0x10000
        CODE16_CASE "16-bit code with a 32-bit stack", CODE16, UDATA
        .code16
        mov esp, offset user_stack_top + USER
        mov ebx, esp
        push 0x33
        push dword ptr 0x44
        sub ebx, esp
        pop ecx
        pop ax
        END16
        RESULT RBX, 6
        RESULT RCX, 0x44
        RESULT RAX, 0x33
        ret

count_trap:
        inc qword ptr [traps]
        ret

limits: CASE "a fetch beyond the limit of CS: #GP(0)"
        BASE 4, code16_base+USER
        mov eax, offset 77f - code16_base
        mov [local + 8 * 4], ax
        push STACK16
        push STACK_POINTER
        push 2
        push SHORT_CODE16
        push offset 77f - code16_base
        iretq
        .code16
77:     nop
76:     nop
        FAULT16 13, 0
        CASE "an instruction that crosses it: #GP(0)"
        mov eax, offset 76f - code16_base
        mov [local + 8 * 4], ax
        push STACK16
        push STACK_POINTER
        push 2
        push SHORT_CODE16
        push offset 77f - code16_base
        iretq
        .code16
77:     nop
76:     mov al, 1
        FAULT16 13, 0
        CASE "a jump beyond it: #GP(0) at the jump"
        mov eax, offset 75f - code16_base
        mov [local + 8 * 4], ax
        push STACK16
        push STACK_POINTER
        push 2
        push SHORT_CODE16
        push offset 77f - code16_base
        iretq
        .code16
77:     nop
76:     jmp 74f
75:     nop
74:     nop
        FAULT16 13, 0
        CASE "a call beyond it changes neither SP nor the stack"
        mov eax, offset 75f - code16_base
        mov [local + 8 * 4], ax
        mov word ptr [stack16_base + STACK_POINTER - 2], 0x5a5a
        push STACK16
        push STACK_POINTER
        push 2
        push SHORT_CODE16
        push offset 77f - code16_base
        iretq
        .code16
77:     nop
76:     call 74f
75:     nop
74:     nop
        FAULT16 13, 0
        movzx eax, word ptr [rec_rsp]
        CHECK_EQ "SP", rax, STACK_POINTER
        movzx eax, word ptr [stack16_base + STACK_POINTER - 2]
        CHECK_EQ "slot", rax, 0x5a5a
        CASE "IRET to a place beyond it: #GP(0)"
        push STACK16
        push STACK_POINTER
        push 2
        push SHORT_CODE16
        push 0xffff
1:      iretq
        EXPECT_FAULT 13, 0, 1b
        ret

        .data
        .balign 16
local:  .quad 0x0000fb000000ffff        // CODE16
        .quad 0x0000f3000000ffff        // DATA16
        .quad 0x0000f3000000ffff        // STACK16
        .quad 0x008ffb000000ffff        // FLAT_CODE16
        .quad 0x0000fb000000ffff        // SHORT_CODE16
        .quad 0x008ff3000000ffff        // FLAT_STACK16
traps:  .quad 0
        .balign 16
data16_base:
        .quad 0
table:  .byte 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0, 0
        .skip 16
scratch: .quad 0, 0
        .bss
        .balign 16
stack16_base: .skip 0x10000
        .section .note.GNU-stack, "", @progbits
