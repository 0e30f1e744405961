// SPDX-License-Identifier: Apache-2.0
/// @file Every kind of operand: R12 to R15, RSP and the high byte registers in every place, addresses of all forms,
/// absolute moves, pushes and pops, 16-bit operands.
#include "guest.inc"

#define VALUE_13 0x1313131313131313
#define VALUE_14 0x1414141414141414
#define VALUE_15 0x1515151515151515

.macro SET_HIGH
        movabs r13, VALUE_13
        movabs r14, VALUE_14
        movabs r15, VALUE_15
.endm

/// R13 to R15 hold these values.
.macro CHECK_HIGH a=VALUE_13, b=VALUE_14, c=VALUE_15
        CHECK_EQ "R13", r13, "\a"
        CHECK_EQ "R14", r14, "\b"
        CHECK_EQ "R15", r15, "\c"
.endm

/// For each register: it is the destination, the source, and base and index of an address.
.macro REGISTER_FORMS reg, reg32, reg16, reg8
        CASE "\reg: 64-bit move and arithmetic"
        movabs \reg, 0x123456789abcdef0
        mov ecx, 0x10
        add \reg, rcx
        sub rcx, \reg
        CHECK_EQ "destination", \reg, 0x123456789abcdf00
        CHECK_EQ "source", rcx, 0x10-0x123456789abcdf00
        CASE "\reg: 32-bit writes clear the upper half"
        mov \reg, -1
        mov ecx, 5
        add \reg32, ecx
        CHECK_EQ "result", \reg, 4
        CASE "\reg: 16-bit writes keep the rest"
        movabs \reg, 0x123456789abcdef0
        mov ecx, 0x2222
        add \reg16, cx
        CHECK_EQ "result", \reg, 0x123456789abc0112
        CASE "\reg: 8-bit writes keep the rest"
        movabs \reg, 0x123456789abcdef0
        mov ecx, 0x20
        add \reg8, cl
        CHECK_EQ "result", \reg, 0x123456789abcde10
        CASE "\reg: 32-bit move to itself"
        mov \reg, -1
        mov \reg32, \reg32
        CHECK_EQ "result", \reg, 0xffffffff
        CASE "\reg: MOVZX and MOVSX, both ways"
        mov \reg, -2
        movzx ecx, \reg8
        movsx rdx, \reg16
        movsxd rsi, \reg32
        mov ebx, 0x80
        movsx \reg, bl
        CHECK_EQ "MOVZX from", rcx, 0xfe
        CHECK_EQ "MOVSX from", rdx, -2
        CHECK_EQ "MOVSXD from", rsi, -2
        CHECK_EQ "MOVSX to", \reg, -128
        CASE "\reg: CMOV that moves, and one that does not, of 32 bits"
        mov \reg, -1
        mov ecx, 7
        cmp ecx, ecx
        cmovne \reg32, ecx
        mov rdx, \reg
        cmove \reg, rcx
        CHECK_EQ "not moved", rdx, 0xffffffff
        CHECK_EQ "moved", \reg, 7
        CASE "\reg: SETcc, flags through"
        mov \reg, -1
        cmp ecx, ecx
        setne \reg8
        mov rdx, \reg
        sete \reg8
        CHECK_EQ "0", rdx, -256
        CHECK_EQ "1", \reg, -255
        CASE "\reg: XCHG with RCX"
        mov \reg, 1
        mov ecx, 2
        xchg \reg, rcx
        CHECK_EQ "one", \reg, 2
        CHECK_EQ "other", rcx, 1
        CASE "\reg: XADD with RCX"
        mov \reg, 1
        mov ecx, 2
        xadd \reg, rcx
        CHECK_EQ "one", \reg, 3
        CHECK_EQ "other", rcx, 1
        CASE "\reg: XADD of CL and its low byte"
        mov \reg, 0x101
        mov ecx, 0xff
        xadd cl, \reg8
        CHECK_EQ "one", \reg, 0x1ff
        CHECK_EQ "other", rcx, 0
        CASE "\reg: CMPXCHG as destination and as source"
        mov \reg, 5
        mov eax, 5
        mov ecx, 9
        cmpxchg \reg, rcx
        mov rdx, \reg
        mov eax, 9
        mov esi, 9
        mov \reg, 77
        cmpxchg rsi, \reg
        CHECK_EQ "destination", rdx, 9
        CHECK_EQ "source", rsi, 77
        CASE "\reg: CMPXCHG that fails, 32 bits"
        mov \reg, -1
        mov eax, 1
        cmpxchg \reg32, ecx
        CHECK_EQ "RAX", rax, 0xffffffff
        CASE "\reg: BSWAP, BSF, BSR, BT"
        movabs \reg, 0x0102030405060708
        bswap \reg
        bsf rcx, \reg
        bsr rdx, \reg
        bt \reg, 59
        setc al
        movzx eax, al
        CHECK_EQ "BSWAP", \reg, 0x0807060504030201
        CHECK_EQ "BSF", rcx, 0
        CHECK_EQ "BSR", rdx, 59
        CHECK_EQ "BT", rax, 1
        CASE "\reg: BSF of zero leaves it"
        mov \reg, 99
        xor ecx, ecx
        bsf \reg, rcx
        CHECK_EQ "result", \reg, 99
        CASE "\reg: shifts"
        mov \reg, 0x81
        mov ecx, 4
        shl \reg, cl
        rol \reg32, 28
        sar \reg, 1
        CHECK_EQ "result", \reg, 0x40
        CASE "\reg: SHLD and SHRD"
        mov \reg, 0xff
        movabs rdx, 0xabcdef0123456789
        mov ecx, 12
        shld \reg, rdx, cl
        mov rsi, \reg
        shrd rdx, \reg, 8
        CHECK_EQ "SHLD", rsi, 0xffabc
        CHECK_EQ "SHRD", rdx, 0xbcabcdef01234567
        CASE "\reg: IMUL, MUL, DIV"
        mov \reg, 7
        imul \reg, \reg, 100
        mov eax, 3
        mul \reg
        mov rsi, rax
        xor edx, edx
        mov eax, 1401
        div \reg
        CHECK_EQ "MUL", rsi, 2100
        CHECK_EQ "quotient", rax, 2
        CHECK_EQ "remainder", rdx, 1
        CASE "\reg: PUSH, POP and the stack"
        movabs \reg, 0x1122334455667788
        push \reg
        xor \reg32, \reg32
        pop rcx
        push 0x77
        pop \reg
        CHECK_EQ "pushed", rcx, 0x1122334455667788
        CHECK_EQ "popped", \reg, 0x77
        CASE "\reg: 16-bit PUSH and POP"
        movabs \reg, 0x1122334455667788
        mov rdx, rsp
        push \reg16
        sub rdx, rsp
        inc word ptr [rsp]
        pop \reg16
        CHECK_EQ "two bytes", rdx, 2
        CHECK_EQ "popped", \reg, 0x1122334455667789
        CASE "\reg: base of an address"
        mov \reg, offset table
        mov rcx, [\reg]
        mov rdx, [\reg + 8]
        mov rsi, [\reg + 0x80]
        CHECK_EQ "no displacement", rcx, 0x100
        CHECK_EQ "8 bits", rdx, 0x101
        CHECK_EQ "32 bits", rsi, 0x110
        CASE "\reg: index of an address"
        mov \reg, 3
        mov ebx, offset table
        mov rcx, [rbx + \reg * 8]
        mov rdx, [table + \reg * 8 + 8]
        CHECK_EQ "with base", rcx, 0x103
        CHECK_EQ "with a displacement", rdx, 0x104
        CASE "\reg: base and index at once"
        mov \reg, offset table
        shr \reg, 1
        mov rcx, [\reg + \reg]
        CHECK_EQ "content", rcx, 0x100
        CASE "\reg: base, and destination too"
        mov \reg, offset table
        mov \reg, [\reg + 16]
        CHECK_EQ "content", \reg, 0x102
        CASE "\reg: base and source: a store of itself"
        mov \reg, offset scratch
        mov [\reg], \reg
        CHECK_EQ "content", [scratch], "offset scratch"
        CASE "\reg: read-modify-write of memory"
        mov qword ptr [scratch], 40
        mov \reg, 2
        add [scratch], \reg
        CHECK_EQ "content", [scratch], 42
        CASE "\reg: 32-bit address, upper half ignored"
        mov ecx, offset table
        movabs \reg, 0xffffffff00000000
        add \reg, rcx
        mov rdx, [\reg32 + 8]
        CHECK_EQ "content", rdx, 0x101
        CASE "\reg: LEA"
        mov \reg, 100
        lea rcx, [\reg + 5]
        lea rdx, [rcx + \reg * 4 - 1]
        lea esi, [\reg - 200]
        lea \reg, [\reg + \reg * 2 + 1]
        CHECK_EQ "base", rcx, 105
        CHECK_EQ "index", rdx, 504
        CHECK_EQ "32 bits", rsi, 0xffffff9c
        CHECK_EQ "itself", \reg, 301
        CASE "\reg: 16-bit LEA"
        movabs \reg, 0x123456789abcdef0
        lea \reg16, [\reg + 0x1234]
        CHECK_EQ "result", \reg, 0x123456789abcf124
        CASE "\reg: JMP and CALL through it"
        mov \reg, offset 2f
        jmp \reg
        ud2
2:      mov \reg, offset seven
        call \reg
        CHECK_EQ "result", rax, 7
        CASE "\reg: CALL and JMP through memory at it"
        mov \reg, offset pointer_to_seven
        xor eax, eax
        call [\reg]
        mov qword ptr [scratch], offset 2f
        mov \reg, offset scratch - 8
        jmp [\reg + 8]
        ud2
2:      CHECK_EQ "result", rax, 7
        CASE "\reg: PUSH and POP of memory at it"
        mov \reg, offset scratch
        mov qword ptr [scratch], 0x5678
        push [\reg]
        mov qword ptr [scratch], 0
        pop [\reg + 8]
        CHECK_EQ "content", [scratch+8], 0x5678
        CASE "\reg: MOVQ and CVTSI2SD"
        mov \reg, 3
        movq xmm1, \reg
        cvtsi2sd xmm2, \reg
        xor \reg32, \reg32
        movq \reg, xmm1
        cvttsd2si rcx, xmm2
        CHECK_EQ "MOVQ", \reg, 3
        CHECK_EQ "CVT", rcx, 3
        CASE "\reg: an SSE load and store at it"
        mov \reg, offset table
        movups xmm1, [\reg + 16]
        mov \reg, offset scratch
        movups [\reg], xmm1
        CHECK_EQ "low", [scratch], 0x102
        CHECK_EQ "high", [scratch+8], 0x103
        CASE "\reg: RDTSC-like helpers: MOV from CR0 to it"
        mov \reg, cr0
        mov rcx, cr0
        CHECK_EQ "CR0", \reg, rcx
        CASE "\reg: BTS on memory by a register offset"
        mov qword ptr [scratch], 0
        mov qword ptr [scratch + 8], 0
        mov \reg, 70
        bts [scratch], \reg
        CHECK_EQ "content", [scratch+8], 0x40
        CASE "\reg: TEST and CMP with memory"
        mov \reg, 0x101
        cmp \reg, [table + 8]
        sete cl
        test [table], \reg
        setne dl
        mov ch, dl
        movzx ecx, cx
        CHECK_EQ "results", rcx, 0x101
.endm

        GUEST_MAIN operands
        lea rax, [rsp - 8]
        mov [main_stack_minus_8], rax
        call register_forms_12
        call register_forms_13
        call register_forms_14
        call register_forms_15
        call register_forms_rbp
        call register_forms_rdi
        call high_registers_together
        call stack_pointer
        call high_bytes
        call addresses
        call absolute_moves
        call bmi_and_adx
        call flags_through_memory
        call branches
        ret

register_forms_12:
        REGISTER_FORMS r12, r12d, r12w, r12b
        ret
register_forms_13:
        REGISTER_FORMS r13, r13d, r13w, r13b
        ret
register_forms_14:
        REGISTER_FORMS r14, r14d, r14w, r14b
        ret
register_forms_15:
        REGISTER_FORMS r15, r15d, r15w, r15b
        ret
register_forms_rbp:
        REGISTER_FORMS rbp, ebp, bp, bpl
        ret
register_forms_rdi:
        REGISTER_FORMS rdi, edi, di, dil
        ret

seven:  mov eax, 7
        ret

high_registers_together:
        CASE "R13 and R14 and R15 in one address and operation"
        mov r13d, offset table
        mov r14d, 4
        mov r15, 0x1000
        add r15, [r13 + r14 * 8]
        CHECK_HIGH "offset table", 4, 0x1104
        CASE "store of R15 at R13 + R14"
        mov r13d, offset scratch
        mov r14d, 8
        mov r15, 0x77
        mov [r13 + r14], r15
        xor [r13 + r14], r14b
        CHECK_EQ "content", [scratch+8], 0x7f
        CHECK_HIGH "offset scratch", 8, 0x77
        CASE "XCHG of R13 and R14"
        SET_HIGH
        xchg r13, r14
        CHECK_HIGH VALUE_14, VALUE_13
        CASE "XCHG of R14D and R15D"
        SET_HIGH
        xchg r14d, r15d
        CHECK_HIGH VALUE_13, 0x15151515, 0x14141414
        CASE "XADD of R15 and R13"
        mov r13, 3
        mov r14, 0
        mov r15, 4
        xadd r15, r13
        CHECK_HIGH 4, 0, 7
        CASE "XADD of R14 with itself"
        SET_HIGH
        mov r14, 21
        xadd r14, r14
        CHECK_HIGH VALUE_13, 42
        CASE "CMPXCHG of R13 and R14 that works"
        mov r13, 1
        mov r14, 2
        mov r15, 3
        mov eax, 1
        cmpxchg r13, r14
        CHECK_HIGH 2, 2, 3
        CASE "CMPXCHG of memory at R13 by R15, locked"
        mov r13d, offset scratch
        mov r15, 3
        mov r14, 9
        mov qword ptr [scratch], 5
        mov eax, 5
        lock cmpxchg [r13], r15
        CHECK_EQ "content", [scratch], 3
        CHECK_HIGH "offset scratch", 9, 3
        CASE "XCHG of memory at R14 and R13"
        mov r14d, offset scratch
        mov r13, 8
        mov r15, 0
        mov qword ptr [scratch], 6
        xchg [r14], r13
        CHECK_EQ "content", [scratch], 8
        CHECK_HIGH 6, "offset scratch", 0
        CASE "XADD of memory at R15 and R14, 16 bits"
        mov r15d, offset scratch
        movabs r14, 0x1111111111110001
        mov r13, 5
        mov qword ptr [scratch], 0xffff
        lock xadd [r15], r14w
        CHECK_EQ "content", [scratch], 0
        CHECK_HIGH 5, 0x111111111111ffff, "offset scratch"
        CASE "IMUL R13, R14 and R15, [R13 + R14 * 2], 3"
        mov r13, 6
        mov r14, 7
        imul r13, r14
        mov r13d, offset table
        mov r14d, 4
        imul r15, [r13 + r14 * 2], 3
        CHECK_EQ "R15", r15, 0x101*3
        CASE "SHLD R13, R14, CL; SHRD R15, R13, 4; SHLD [R15], R14, 8"
        mov r13, 1
        movabs r14, 0xf000000000000000
        mov r15, 0x10
        mov ecx, 4
        shld r13, r14, cl
        shrd r15, r13, 4
        movabs rdx, 0xf000000000000001
        CHECK_HIGH 0x1f, 0xf000000000000000, rdx
        CASE "SHLD of memory at R15 by R14"
        mov r15d, offset scratch
        mov qword ptr [scratch], 1
        shld [r15], r14, 8
        CHECK_EQ "content", [scratch], 0x1f0
        CASE "MUL by R14 and DIV by memory at R13"
        mov r13d, offset table
        mov r14, 3
        mov eax, 0x200
        mul r14
        div qword ptr [r13 + 8]
        CHECK_EQ "quotient", rax, 5
        CHECK_EQ "remainder", rdx, 0x600-5*0x101
        CASE "CMPXCHG16B at R13"
        mov r13d, offset scratch
        mov r14, 14
        mov r15, 15
        mov qword ptr [scratch], 1
        mov qword ptr [scratch + 8], 2
        mov eax, 1
        mov edx, 2
        mov ebx, 3
        mov ecx, 4
        lock cmpxchg16b [r13]
        CHECK_EQ "low", [scratch], 3
        CHECK_EQ "high", [scratch+8], 4
        CHECK_HIGH "offset scratch", 14, 15
        CASE "CMPXCHG16B that fails"
        mov eax, 1
        mov edx, 2
        cmpxchg16b [r13]
        setz cl
        movzx ecx, cl
        CHECK_EQ "RAX", rax, 3
        CHECK_EQ "RDX", rdx, 4
        CHECK_EQ "ZF", rcx, 0
        CASE "conditional moves among them"
        mov r13, 1
        mov r14, 2
        mov r15, 3
        cmp r13, r14
        cmovl r15, r14
        cmovg r13d, r14d
        CHECK_HIGH 1, 2, 2
        CASE "PUSHF and POPF with them live"
        SET_HIGH
        cmp r13, r13
        pushfq
        add r13, 1
        popfq
        setz al
        movzx eax, al
        CHECK_EQ "ZF", rax, 1
        CHECK_HIGH VALUE_13+1
        CASE "REP MOVSB with them live"
        SET_HIGH
        mov esi, offset table
        mov edi, offset scratch
        mov ecx, 16
        rep movsb
        CHECK_EQ "content", [scratch+8], 0x101
        CHECK_HIGH
        ret

stack_pointer:
        CASE "RSP as source and destination"
        mov rbx, rsp
        mov rcx, rsp
        sub rsp, 64
        lea rdx, [rsp + 64]
        add rsp, 64
        CHECK_EQ "MOV", rcx, rbx
        CHECK_EQ "LEA", rdx, rbx
        CHECK_EQ "RSP", rsp, [main_stack_minus_8]
        CASE "RSP as base, with index, with displacement"
        push 0x11
        push 0x22
        push 0x33
        mov ecx, 1
        mov rax, [rsp]
        mov rdx, [rsp + rcx * 8]
        mov rsi, [rsp + rcx * 8 + 8]
        add rsp, 24
        CHECK_EQ "base", rax, 0x33
        CHECK_EQ "index", rdx, 0x22
        CHECK_EQ "displacement", rsi, 0x11
        CASE "PUSH RSP pushes the old value"
        mov rbx, rsp
        push rsp
        pop rcx
        CHECK_EQ "pushed", rcx, rbx
        CASE "POP RSP takes the value"
        mov rbx, rsp
        push offset scratch + 16
        pop rsp
        mov rcx, rsp
        mov rsp, rbx
        CHECK_EQ "RSP", rcx, "offset scratch+16"
        CASE "POP [RSP + 8] uses the new RSP"
        sub rsp, 32
        mov rbx, rsp
        mov qword ptr [rsp], 0x99
        mov qword ptr [rsp + 8], 1
        mov qword ptr [rsp + 16], 2
        pop [rsp + 8]
        mov rcx, [rbx + 16]
        lea rsp, [rbx + 32]
        CHECK_EQ "content", rcx, 0x99
        CASE "PUSH [RSP + 8] uses the old RSP"
        push 0x44
        push 0x55
        push [rsp + 8]
        pop rax
        add rsp, 16
        CHECK_EQ "pushed", rax, 0x44
        CASE "PUSH and POP of memory with RSP as base and R13 as index"
        mov r13d, 1
        push 0x44
        push 0x55
        push [rsp + r13 * 8]
        pop [rsp + r13 * 8]
        pop rax
        pop rcx
        CHECK_EQ "first", rax, 0x55
        CHECK_EQ "second", rcx, 0x44
        CASE "XCHG of RSP with R14 and with memory"
        mov rbx, rsp
        mov r14d, offset scratch
        xchg rsp, r14
        mov rcx, rsp
        xchg rsp, r14
        mov [scratch], rsp
        mov rsp, 0x1234
        xchg [scratch], rsp
        CHECK_EQ "exchanged", rcx, "offset scratch"
        CHECK_EQ "back", rsp, rbx
        CHECK_EQ "content", [scratch], 0x1234
        CASE "32- and 16-bit and 8-bit writes to it"
        mov rbx, rsp
        mov rsp, -1
        mov esp, esp
        mov rcx, rsp
        mov sp, 0x1234
        mov rdx, rsp
        mov spl, 0x99
        mov rsi, rsp
        mov rsp, rbx
        CHECK_EQ "32", rcx, 0xffffffff
        CHECK_EQ "16", rdx, 0xffff1234
        CHECK_EQ "8", rsi, 0xffff1299
        CASE "arithmetic with RSP and memory"
        mov qword ptr [scratch], 16
        mov rbx, rsp
        sub rsp, [scratch]
        mov rcx, rsp
        add rsp, [scratch]
        add rcx, 16
        CHECK_EQ "RSP", rcx, rbx
        CASE "AND of RSP, flags"
        mov rbx, rsp
        and rsp, -64
        mov rcx, rsp
        mov rsp, rbx
        mov rdx, rbx
        and rdx, -64
        CHECK_EQ "RSP", rcx, rdx
        CASE "ENTER and LEAVE"
        mov rbx, rsp
        mov rbp, 0x1111
        enter 32, 0
        mov rcx, rsp
        mov rdx, rbp
        leave
        lea rsi, [rbx - 40]
        lea rdi, [rbx - 8]
        CHECK_EQ "RSP", rcx, rsi
        CHECK_EQ "RBP", rdx, rdi
        CHECK_EQ "RBP afterwards", rbp, 0x1111
        CHECK_EQ "RSP afterwards", rsp, rbx
        CASE "ENTER with two levels"
        mov rbx, rsp
        mov rbp, rsp
        push 0x77
        mov rbp, rsp
        enter 16, 2
        mov rcx, [rbp]
        lea rdx, [rbp - 8]
        mov rsp, rbx
        lea rsi, [rbx - 8]
        CHECK_EQ "old RBP", rcx, rsi
        CASE "RET n"
        mov rbx, rsp
        push 1
        push 2
        call 3f
        jmp 4f
3:      ret 16
4:      CHECK_EQ "RSP", rsp, rbx
        CASE "CALL through [RSP + n]"
        push offset seven
        xor eax, eax
        call [rsp]
        add rsp, 8
        CHECK_EQ "result", rax, 7
        CASE "16-bit operand PUSH imm"
        mov rbx, rsp
        .byte 0x66, 0x6a, 0xff
        mov rcx, rsp
        movzx edx, word ptr [rsp]
        mov rsp, rbx
        sub rbx, rcx
        CHECK_EQ "bytes", rbx, 2
        CHECK_EQ "content", rdx, 0xffff
        CASE "PUSH FS, POP GS"
        push fs
        pop gs
        EXPECT_NONE
        CASE "PUSHF and POPF of 16 bits"
        cmp eax, eax
        mov rbx, rsp
        pushfw
        mov rcx, rsp
        popfw
        setz al
        movzx eax, al
        sub rbx, rcx
        CHECK_EQ "bytes", rbx, 2
        CHECK_EQ "ZF", rax, 1
        ret

high_bytes:
        CASE "AH, BH, CH, DH among themselves"
        mov eax, 0x1122
        mov ebx, 0x3344
        mov ah, bh
        xchg bh, bl
        add ah, al
        CHECK_EQ "RAX", rax, 0x5522
        CHECK_EQ "RBX", rbx, 0x4433
        .irp reg, rsp, rbp, rsi, rdi
        CASE "high bytes and memory at \reg"
        mov [saved_rsp], rsp
        movabs rax, 0x8877665544332211
        mov [scratch], rax
        mov \reg, offset scratch
        mov ah, [\reg]
        mov bh, [\reg + 1]
        mov ch, [\reg + 2]
        mov dh, [\reg + 3]
        mov [\reg + 4], ah
        add [\reg + 5], bh
        xor ch, [\reg + 6]
        cmp dh, [\reg + 3]
        sete al
        xchg [\reg + 7], dh
        mov rdi, \reg
        mov rsp, [saved_rsp]
        movzx eax, ax
        movzx ecx, ch
        movzx edx, dh
        CHECK_EQ "RAX", rax, 0x1101
        CHECK_EQ "CH", rcx, 0x33^0x77
        CHECK_EQ "DH", rdx, 0x88
        CHECK_EQ "memory", [scratch], 0x4477881144332211
        CHECK_EQ "address", rdi, "offset scratch"
        .endr
        CASE "XADD of memory and AH; CMPXCHG of memory by CH"
        mov byte ptr [scratch], 5
        mov eax, 0x0300
        lock xadd [scratch], ah
        mov edx, eax
        mov al, 8
        mov ecx, 0x0900
        lock cmpxchg [scratch], ch
        movzx esi, byte ptr [scratch]
        shr edx, 8
        CHECK_EQ "XADD", rdx, 5
        CHECK_EQ "CMPXCHG", rsi, 9
        CASE "CMPXCHG of AH-less registers: CMPXCHG BH, CL"
        mov ebx, 0x4200
        mov eax, 0x42
        mov ecx, 0x24
        cmpxchg bh, cl
        CHECK_EQ "RBX", rbx, 0x2400
        CASE "SETcc to memory and to DH, shifts of BH, NOT and NEG of CH"
        cmp eax, eax
        mov edx, 0
        sete dh
        mov ebx, 0x8100
        rol bh, 1
        mov ecx, 0x0100
        neg ch
        not ch
        CHECK_EQ "DH", rdx, 0x100
        CHECK_EQ "BH", rbx, 0x300
        CHECK_EQ "CH", rcx, 0
        CASE "MOVZX and MOVSX from high bytes, and from memory at R15"
        mov eax, 0x8000
        movzx ecx, ah
        movsx edx, ah
        mov byte ptr [scratch], 0x80
        mov r15d, offset scratch
        movsx r14, byte ptr [r15]
        CHECK_EQ "MOVZX", rcx, 0x80
        CHECK_EQ "MOVSX", rdx, 0xffffff80
        CHECK_EQ "from memory", r14, -128
        CASE "MUL and DIV of high bytes"
        mov eax, 7
        mov ecx, 0x0600
        mul ch
        mov ebx, eax
        mov eax, 45
        div ch
        CHECK_EQ "MUL", rbx, 42
        CHECK_EQ "DIV", rax, 0x0307
        CASE "CRC32 of a high byte; MOVBE with R14"
        mov eax, 1
        cpuid
        bt ecx, 20
        jnc 5f
        xor eax, eax
        mov ebx, 0x100
        crc32 eax, bh
        mov edx, 0
        mov ecx, 1
        crc32 edx, cl
        cmp eax, edx
        setne al
        movzx eax, al
        CHECK_EQ "same", rax, 0
5:      CASE "IN and OUT keep AH"
        mov eax, 0xaabbccdd
        in al, 0x61
        shr eax, 8
        CHECK_EQ "rest of RAX", rax, 0xaabbcc
        ret

addresses:
        CASE "RIP-relative"
        mov rax, [rip + table]
        add qword ptr [rip + scratch_one], 5
        CHECK_EQ "read", rax, 0x100
        CHECK_EQ "changed", [scratch_one], 6
        CASE "RIP-relative with an immediate behind"
        mov dword ptr [rip + scratch], 0x12345678
        cmp dword ptr [rip + scratch], 0x12345678
        sete al
        movzx eax, al
        CHECK_EQ "compared", rax, 1
        CASE "EIP-relative"
        lea rcx, [eip + table]
        mov rax, [eip + table]
        CHECK_EQ "LEA", rcx, "offset table"
        CHECK_EQ "read", rax, 0x100
        CASE "absolute, sign-extended displacement"
        mov rax, [table]
        CHECK_EQ "read", rax, 0x100
        CASE "negative displacement and index"
        mov ebx, offset table + 64
        mov rcx, -4
        mov rax, [rbx + rcx * 8 - 8]
        CHECK_EQ "read", rax, 0x103
        CASE "index without base, scale 8"
        mov ecx, offset table
        shr ecx, 3
        mov rax, [rcx * 8]
        CHECK_EQ "read", rax, 0x100
        CASE "32-bit address wraps"
        mov ecx, offset table
        mov rdx, -16
        lea rsi, [ecx + edx]
        mov rax, [ecx + edx + 16]
        CHECK_EQ "LEA", rsi, "offset table-16"
        CHECK_EQ "read", rax, 0x100
        CASE "LEA with 64-bit wrap and no base"
        mov rcx, -1
        lea rax, [rcx * 8 + 4]
        lea rdx, [rcx + rcx]
        CHECK_EQ "scaled", rax, -4
        CHECK_EQ "sum", rdx, -2
        CASE "LEA changes no flag"
        cmp eax, eax
        lea rax, [rcx + 1]
        setz al
        movzx eax, al
        CHECK_EQ "ZF", rax, 1
        CASE "FS and GS with bases by MSR"
        WRITE_MSR 0xc0000100, table
        WRITE_MSR 0xc0000101, table+64
        mov rax, fs:[8]
        mov ebx, 16
        mov rcx, gs:[rbx + 8]
        mov r13, -8
        mov rdx, gs:[r13]
        .byte 0x64                       // FS
        lea rsi, [rbx]
        CHECK_EQ "FS", rax, 0x101
        CHECK_EQ "GS", rcx, 0x10b
        CHECK_EQ "GS with R13", rdx, 0x107
        CHECK_EQ "LEA ignores the base", rsi, 16
        CASE "FS with a 32-bit address: the base is added behind the wrap"
        WRITE_MSR 0xc0000100, table
        mov rcx, -8
        mov rax, fs:[ecx + 16]
        CHECK_EQ "content", rax, 0x101
        CASE "CS, DS, ES, SS overrides do nothing in 64-bit mode"
        mov ebx, offset table
        mov rax, cs:[rbx]
        mov rcx, es:[rbx + 8]
        mov rdx, ss:[rbx + 16]
        CHECK_EQ "CS", rax, 0x100
        CHECK_EQ "ES", rcx, 0x101
        CHECK_EQ "SS", rdx, 0x102
        CASE "XLAT"
        mov ebx, offset table
        mov eax, 9
        xlatb
        CHECK_EQ "AL", rax, 1
        ret

absolute_moves:
        CASE "MOV RAX, moffs64"
        movabs rax, [table + 8]
        CHECK_EQ "RAX", rax, 0x101
        CASE "MOV EAX and AX and AL, moffs"
        mov rax, -1
        movabs eax, [table + 8]
        mov rcx, rax
        mov rax, -1
        movabs ax, [table + 8]
        mov rdx, rax
        mov rax, -1
        movabs al, [table + 8]
        CHECK_EQ "EAX", rcx, 0x101
        CHECK_EQ "AX", rdx, 0xffffffffffff0101
        CHECK_EQ "AL", rax, -255
        CASE "MOV moffs, RAX and AL"
        movabs rax, 0x1122334455667788
        movabs [scratch], rax
        mov al, 0x99
        movabs [scratch + 1], al
        CHECK_EQ "content", [scratch], 0x1122334455669988
        CASE "MOV RAX, moffs above 4 GiB: a page fault at that address"
1:      movabs rax, [0x123456789a00]
        EXPECT_FAULT 14, 0, 1b, 0x123456789a00
        CASE "MOV EAX, moffs32 by an address-size prefix"
        .byte 0x67, 0xa1
        .long table + 16
        CHECK_EQ "EAX", rax, 0x102
        CASE "MOV RAX, FS:moffs"
        WRITE_MSR 0xc0000100, 0x10
        .byte 0x64, 0x48, 0xa1
        .quad table
        CHECK_EQ "RAX", rax, 0x102
        ret

bmi_and_adx:
        mov eax, 7
        xor ecx, ecx
        cpuid
        mov [scratch + 24], ebx
        bt ebx, 8
        jnc 5f
        CASE "MULX among R13, R14, R15"
        mov rdx, 3
        mov r15, 5
        mulx r13, r14, r15
        CHECK_HIGH 0, 15, 5
        CASE "MULX from memory at R13 into R13 and RSP's neighbour"
        mov r13d, offset table
        mov r14, 1
        mov r15, 1
        mov rdx, -1
        mulx r15, r13, [r13 + 8]
        CHECK_HIGH -0x101, 1, 0x100
        CASE "MULX with both results in one register"
        mov rdx, -1
        mov r15, -1
        mulx r14, r14, r15
        CHECK_EQ "high half wins", r14, -2
        CASE "SHLX, SARX, RORX with R13 to R15 and memory"
        mov r13, 4
        mov r14, 0x10
        shlx r15, r14, r13
        mov r14d, offset table
        sarx rcx, [r14], r13
        rorx r13, r14, 0
        CHECK_HIGH "offset table", "offset table", 0x100
        CHECK_EQ "SARX", rcx, 0x10
        CASE "PEXT and PDEP, BZHI, ANDN"
        mov r13, 0xff0
        movabs r14, 0x123456789abcdef0
        pext r15, r14, r13
        pdep rcx, r15, r13
        mov r15, 0xef
        bzhi rdx, r14, r13
        andn rsi, r13, r14
        CHECK_EQ "PDEP", rcx, 0xef0
        CHECK_EQ "ANDN", rsi, 0x123456789abcd000
        CASE "BLSR, BLSI, BEXTR on R14 and memory at R15"
        mov r14, 0x18
        blsr r13, r14
        blsi r14, r14
        mov r15d, offset table
        mov ecx, 0x0804
        bextr rdx, [r15], rcx
        CHECK_HIGH 0x10, 8, "offset table"
        CHECK_EQ "BEXTR", rdx, 0x10
5:      bt dword ptr [scratch + 24], 19
        jnc 6f
        CASE "ADCX and ADOX"
        mov r13, -1
        mov r14, 1
        mov r15, 5
        xor eax, eax
        adcx r13, r14
        adox r15, r14
        adcx r15, r14
        CHECK_HIGH 0, 1, 8
6:      ret

flags_through_memory:
        CASE "ADC through loads and stores of all kinds"
        xor eax, eax
        stc
        mov [scratch], rax
        mov rcx, [scratch]
        push rcx
        pop rdx
        mov r13, [table]
        lea rsi, [rdx + 5]
        mov [scratch], r13
        movups xmm0, [table]
        adc eax, 0
        CHECK_EQ "CF", rax, 1
        CASE "OF, SF, ZF, AF, PF through a store that misses the TLB"
        mov r12d, WIN + 10 * 4096
        MAP 10, page_a, PTE_P+PTE_W
        mov eax, 0x7fffffff
        add eax, 1
        mov [r12], eax
        SAVE_FLAGS scratch
        mov rax, [scratch]
        and eax, FLAGS_ARITHMETIC
        CHECK_EQ "flags", rax, 0x894
        CASE "INC keeps CF across a page fault's refill"
        MAP 10, page_a, PTE_P+PTE_W
        stc
        inc dword ptr [r12]
        setc al
        movzx eax, al
        CHECK_EQ "CF", rax, 1
        CASE "a shift by zero keeps the flags"
        mov ecx, 0
        cmp eax, eax
        stc
        shl eax, cl
        setc dl
        movzx edx, dl
        CHECK_EQ "CF", rdx, 1
        CASE "LAHF and SAHF"
        mov eax, 0xd500
        sahf
        mov eax, 0
        lahf
        CHECK_EQ "AH", rax, 0xd700
        CASE "RCL through CF and memory at R14"
        mov qword ptr [scratch], 0x40
        mov r14d, offset scratch
        stc
        rcl byte ptr [r14], 2
        setc cl
        movzx ecx, cl
        movzx eax, byte ptr [scratch]
        CHECK_EQ "CF", rcx, 1
        CHECK_EQ "content", rax, 2
        CASE "NEG, SBB chain on memory"
        mov qword ptr [scratch], 0
        mov qword ptr [scratch + 8], 0
        sub qword ptr [scratch], 1
        sbb qword ptr [scratch + 8], 0
        CHECK_EQ "low", [scratch], -1
        CHECK_EQ "high", [scratch+8], -1
        ret

branches:
        CASE "LOOP, LOOPE, LOOPNE, JRCXZ"
        mov ecx, 5
        xor eax, eax
2:      inc eax
        loop 2b
        mov ecx, 5
3:      inc eax
        cmp ecx, 3
        loopne 3b
        mov edx, ecx
        xor ecx, ecx
        jrcxz 4f
        mov eax, 0
4:      CHECK_EQ "turns", rax, 8
        CHECK_EQ "RCX", rdx, 2
        CASE "LOOP with a 32-bit counter clears the upper half"
        movabs rcx, 0x500000002
        xor eax, eax
2:      inc eax
        .byte 0x67
        loop 2b
        CHECK_EQ "turns", rax, 2
        CHECK_EQ "RCX", rcx, 0
        CASE "every condition"
        xor ebx, ebx
        mov eax, 1
        cmp eax, 2
        jb 2f
        lea ebx, [rbx + 1]
2:      jle 2f
        lea ebx, [rbx + 2]
2:      jge 3f
        lea ebx, [rbx + 4]
3:      js 2f
        lea ebx, [rbx + 8]
2:      jo 3f
        lea ebx, [rbx + 16]
3:      ja 3f
        lea ebx, [rbx + 32]
3:      CHECK_EQ "taken", rbx, 4+16+32
        CASE "16-bit operand-size JMP is near in 64-bit mode for Intel's processors"
        .byte 0x66
        jmp 2f
        ud2
2:      EXPECT_NONE
        ret

        .data
        .balign 64
table:
        .set entry, 0x100
        .rept 32
        .quad entry
        .set entry, entry + 1
        .endr
scratch: .quad 0, 0, 0, 0
scratch_one: .quad 1
pointer_to_seven: .quad seven
saved_rsp: .quad 0
main_stack_minus_8: .quad 0
        .section .note.GNU-stack, "", @progbits
