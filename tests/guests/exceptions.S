// SPDX-License-Identifier: Apache-2.0
/// @file Exceptions: vector, error code, CR2, the pushed RIP and RFLAGS, gates and stacks (SDM vol. 3A chapter 6).
#include "guest.inc"

        GUEST_MAIN exceptions
        call faults
        call flags_and_gates
        call stacks
        call double_faults
        call floating_point
        call alignment
        ret

faults:
        CASE "#DE by zero, 32 bits"
        xor ecx, ecx
        xor edx, edx
        mov eax, 1
1:      div ecx
        EXPECT_FAULT 0, NO_ERROR_CODE, 1b
        CASE "#DE quotient too large, 64 bits"
        mov rdx, 5
        mov rcx, 5
1:      div rcx
        EXPECT_FAULT 0, NO_ERROR_CODE, 1b
        CASE "#DE by zero from memory, behind a write to a register"
        mov qword ptr [variable], 0
        mov rbx, 17
        lea rsi, [variable]
        inc rbx
1:      idiv qword ptr [rsi]
        EXPECT_FAULT 0, NO_ERROR_CODE, 1b
        CHECK_EQ "RBX of the faulting instruction", [saved_registers+FRAME_RBX], 18
        CASE "#DE idiv of the most negative number"
        mov eax, 0x80000000
        cdq
        mov ecx, -1
1:      idiv ecx
        EXPECT_FAULT 0, NO_ERROR_CODE, 1b
        CASE "#DE by AH"
        mov eax, 0x1234
        mov ah, 0
1:      div ah
        EXPECT_FAULT 0, NO_ERROR_CODE, 1b
        CASE "#DE by R13, with R13-R15 in use"
        xor r13, r13
        mov r14, 14
        mov r15, 15
        mov eax, 3
        xor edx, edx
1:      div r13
        EXPECT_FAULT 0, NO_ERROR_CODE, 1b
        CHECK_EQ "R13", [saved_registers+FRAME_R13], 0
        CHECK_EQ "R14", [saved_registers+FRAME_R14], 14
        CHECK_EQ "R15", [saved_registers+FRAME_R15], 15
        CASE "#UD UD2"
1:      ud2
        EXPECT_FAULT 6, NO_ERROR_CODE, 1b
        CASE "#UD UD1"
1:      ud1 eax, ecx
        EXPECT_FAULT 6, NO_ERROR_CODE, 1b
        CASE "#UD LOCK on a register"
1:      .byte 0xf0, 0x01, 0xc8
        EXPECT_FAULT 6, NO_ERROR_CODE, 1b
        CASE "#UD PUSHA in 64-bit mode"
1:      .byte 0x60
        EXPECT_FAULT 6, NO_ERROR_CODE, 1b
        CASE "#UD INTO in 64-bit mode"
1:      .byte 0xce
        EXPECT_FAULT 6, NO_ERROR_CODE, 1b
        CASE "#UD LOCK MOV"
1:      .byte 0xf0, 0x89, 0x03
        EXPECT_FAULT 6, NO_ERROR_CODE, 1b
        CASE "#GP 16-byte instruction"
1:      .byte 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90
        EXPECT_FAULT 13, 0, 1b
        CASE "#GP read at a non-canonical address"
        movabs rsi, 0x800000000000
1:      mov eax, [rsi]
        EXPECT_FAULT 13, 0, 1b
        CASE "#GP write at a non-canonical address"
        movabs rsi, 0xffff7fffffffffff
1:      mov [rsi], rax
        EXPECT_FAULT 13, 0, 1b
        CASE "#GP read that ends behind the canonical range"
        movabs rsi, 0x7ffffffffffd
1:      mov eax, [rsi]
        EXPECT_FAULT 13, 0, 1b
        CASE "a read that wraps to address 0 faults in its first page"
        mov rsi, -2
1:      mov eax, [rsi]
        EXPECT_FAULT 14, 0, 1b, -2
        CASE "#SS read by RBP at a non-canonical address"
        movabs rbp, 0x800000000000
1:      mov eax, [rbp]
        EXPECT_FAULT 12, 0, 1b
        // The handler of these needs a stack of its own.
        mov byte ptr [idt + 16 * 12 + 4], 2
        CASE "#SS push at a non-canonical address"
        movabs rsp, 0x8000000000000000
1:      push rax
        EXPECT_FAULT 12, 0, 1b
        CHECK_EQ "RSP unchanged", [rec_rsp], 0x8000000000000000
        CASE "#SS pop at a non-canonical address"
        movabs rsp, 0x8000000000000000
1:      pop r13
        EXPECT_FAULT 12, 0, 1b
        CASE "#SS call at a non-canonical address"
        movabs rsp, 0x8000000000000000
1:      call faults
        EXPECT_FAULT 12, 0, 1b
        mov byte ptr [idt + 16 * 12 + 4], 0
        CASE "#SS leave at a non-canonical address"
        movabs rbp, 0x8000000000000000
1:      leave
        EXPECT_FAULT 12, 0, 1b
        CASE "#GP string store at a non-canonical address"
        movabs rdi, 0x800000000000
        mov ecx, 4
1:      rep stosb
        EXPECT_FAULT 13, 0, 1b
        CASE "#BP is a trap"
        int3
1:      nop
        EXPECT_FAULT 3, NO_ERROR_CODE, 1b
        CASE "#BP by INT 3 in two bytes"
        .byte 0xcd, 3
1:      nop
        EXPECT_FAULT 3, NO_ERROR_CODE, 1b
        CASE "#DB by INT1"
        .byte 0xf1
1:      nop
        EXPECT_FAULT 1, NO_ERROR_CODE, 1b
        CASE "INT n above the IDT limit: #GP with the vector"
        lidt [short_idt]
1:      int 0x81
        EXPECT_FAULT 13, 0x81*8+2, 1b
        lidt [idt_pointer]
        CASE "INT n by a gate that is not present: #NP"
        mov byte ptr [idt + 16 * 0x90 + 5], 0x0e
1:      int 0x90
        EXPECT_FAULT 11, 0x90*8+2, 1b
        mov byte ptr [idt + 16 * 0x90 + 5], 0x8e
        CASE "INT n by a gate of a wrong type: #GP"
        mov byte ptr [idt + 16 * 0x90 + 5], 0x85
1:      int 0x90
        EXPECT_FAULT 13, 0x90*8+2, 1b
        mov byte ptr [idt + 16 * 0x90 + 5], 0x8e
        CASE "INT n by a gate with a null selector: #GP(0)"
        mov word ptr [idt + 16 * 0x90 + 2], 0
1:      int 0x90
        EXPECT_FAULT 13, 0, 1b
        CASE "INT n by a gate to a data segment: #GP(selector)"
        mov word ptr [idt + 16 * 0x90 + 2], KDATA
1:      int 0x90
        EXPECT_FAULT 13, KDATA, 1b
        CASE "INT n by a gate to a 32-bit segment: #GP(selector)"
        mov word ptr [idt + 16 * 0x90 + 2], KCODE32
1:      int 0x90
        EXPECT_FAULT 13, KCODE32, 1b
        CASE "INT n by a gate to a segment that is not present: #NP(selector)"
        mov word ptr [idt + 16 * 0x90 + 2], NOT_PRESENT_CODE
1:      int 0x90
        EXPECT_FAULT 11, NOT_PRESENT_CODE, 1b
        mov word ptr [idt + 16 * 0x90 + 2], KCODE
        CASE "#UD by a gate that is not present: #NP with EXT"
        mov byte ptr [idt + 16 * 6 + 5], 0x0e
1:      ud2
        EXPECT_FAULT 11, 6*8+3, 1b
        mov byte ptr [idt + 16 * 6 + 5], 0x8e
        CASE "#NM by CR0.TS, SSE"
        mov rax, cr0
        or eax, 8
        mov cr0, rax
1:      xorps xmm0, xmm0
        EXPECT_FAULT 7, NO_ERROR_CODE, 1b
        CASE "#NM by CR0.TS, x87"
1:      fld1
        EXPECT_FAULT 7, NO_ERROR_CODE, 1b
        CASE "#NM by CR0.TS, FXSAVE"
1:      fxsave [area]
        EXPECT_FAULT 7, NO_ERROR_CODE, 1b
        CASE "#NM by CR0.TS and MP, FWAIT"
1:      fwait
        EXPECT_FAULT 7, NO_ERROR_CODE, 1b
        CASE "#NM no more after CLTS"
        clts
        xorps xmm0, xmm0
        mov rax, cr0
        and eax, 8
        EXPECT_NONE
        CASE "CR0.EM: SSE raises #UD"
        mov rax, cr0
        or eax, 4
        mov cr0, rax
1:      xorps xmm0, xmm0
        EXPECT_FAULT 6, NO_ERROR_CODE, 1b
        CASE "CR0.EM: x87 raises #NM"
1:      fld1
        EXPECT_FAULT 7, NO_ERROR_CODE, 1b
        mov rax, cr0
        and eax, 0xfffffffb
        mov cr0, rax
        CASE "without CR4.OSFXSR SSE raises #UD"
        mov rax, cr4
        and eax, 0xfffffdff
        mov cr4, rax
1:      xorps xmm0, xmm0
        EXPECT_FAULT 6, NO_ERROR_CODE, 1b
        mov rax, cr4
        or eax, 0x200
        mov cr4, rax
        CASE "#GP CR0.PG without PE"
        mov rax, cr0
        and eax, 0xfffffffe
1:      mov cr0, rax
        EXPECT_FAULT 13, 0, 1b
        CASE "#GP CR4 reserved bit"
        mov rax, cr4
        or eax, 0x80000000
1:      mov cr4, rax
        EXPECT_FAULT 13, 0, 1b
        CASE "#GP clearing CR4.PAE in long mode"
        mov rax, cr4
        and eax, 0xffffffdf
1:      mov cr4, rax
        EXPECT_FAULT 13, 0, 1b
        CASE "#GP upper half of CR0"
        mov rax, cr0
        bts rax, 32
1:      mov cr0, rax
        EXPECT_FAULT 13, 0, 1b
        CASE "#GP reserved bits of CR3"
        mov rax, cr3
        bts rax, 60
1:      mov cr3, rax
        EXPECT_FAULT 13, 0, 1b
        CASE "#GP upper half of CR8"
        mov eax, 16
1:      mov cr8, rax
        EXPECT_FAULT 13, 0, 1b
        CASE "#UD CR1"
1:      .byte 0x0f, 0x20, 0xc8
        EXPECT_FAULT 6, NO_ERROR_CODE, 1b
        mov rax, cr4
        test al, 8
        jz 2f
        CASE "#UD DR4 with CR4.DE"
1:      .byte 0x0f, 0x21, 0xe0
        EXPECT_FAULT 6, NO_ERROR_CODE, 1b
2:
        CASE "#GP RDMSR of nothing"
        mov ecx, 0x12345678
1:      rdmsr
        EXPECT_FAULT 13, 0, 1b
        CASE "#GP WRMSR of nothing"
        mov ecx, 0x12345678
1:      wrmsr
        EXPECT_FAULT 13, 0, 1b
        CASE "#GP WRMSR of a non-canonical LSTAR"
        mov ecx, 0xc0000082
        mov edx, 0x8000
        xor eax, eax
1:      wrmsr
        EXPECT_FAULT 13, 0, 1b
        CASE "#GP EFER reserved bits"
        mov ecx, 0xc0000080
        rdmsr
        or eax, 2
1:      wrmsr
        EXPECT_FAULT 13, 0, 1b
        CASE "#GP XSETBV without x87"
        mov rax, cr4
        or eax, 0x40000
        mov cr4, rax
        xor ecx, ecx
        xor edx, edx
        mov eax, 2
1:      xsetbv
        EXPECT_FAULT 13, 0, 1b
        CASE "#GP XSETBV of AVX without SSE"
        mov eax, 5
        xor edx, edx
        xor ecx, ecx
1:      xsetbv
        EXPECT_FAULT 13, 0, 1b
        ret

flags_and_gates:
        CASE "a fault pushes RF and the arithmetic flags as they were"
        mov eax, -1
        add eax, 1                      // CF, PF, AF, ZF
1:      ud2
        EXPECT_FAULT 6, NO_ERROR_CODE, 1b
        CHECK_EQ "RFLAGS", [rec_rflags], 0x10057
        CASE "a page fault in the middle of a flag's life"
        mov eax, 0x7fffffff
        add eax, 1                      // OF, SF, AF, PF
        mov ebx, WIN
1:      mov ecx, [rbx]
        EXPECT_FAULT 14, 0, 1b, WIN
        CHECK_EQ "RFLAGS", [rec_rflags], 0x10896
        CASE "a trap does not push RF"
        cmp eax, eax
        int3
1:      nop
        EXPECT_FAULT 3, NO_ERROR_CODE, 1b
        CHECK_EQ "RFLAGS", [rec_rflags], 0x46
        CASE "an interrupt gate clears IF, keeps IOPL and ID, clears NT, TF, RF"
        push 0x207202
        popfq
        int 0x99
1:      nop
        EXPECT_FAULT 0x99, NO_ERROR_CODE, 1b
        CHECK_EQ "pushed RFLAGS", [rec_rflags], 0x207202
        CHECK_EQ "RFLAGS in the handler without its own", [rec_handler_rflags], [kept_interrupt]
        CASE "a trap gate keeps IF"
        mov byte ptr [idt + 16 * 0x99 + 5], 0x8f
        sti
        int 0x99
1:      nop
        EXPECT_FAULT 0x99, NO_ERROR_CODE, 1b
        mov rax, [rec_handler_rflags]
        and eax, 0x200
        CHECK_EQ "IF in the handler", rax, 0x200
        mov byte ptr [idt + 16 * 0x99 + 5], 0x8e
        CASE "IRET to a frame made by hand: RSP and RFLAGS"
        mov [variable], rsp
        push KDATA
        push [variable]
        push 0xad7
        push KCODE
        push offset 1f
        iretq
        ud2
1:      SAVE_FLAGS flags_seen
        cli
        cld
        CHECK_EQ "RFLAGS", [flags_seen], 0xad7
        CHECK_EQ "RSP", rsp, [variable]
        CASE "IRET with NT: #GP(0)"
        pushfq
        or qword ptr [rsp], FLAG_NT
        popfq
1:      iretq
        EXPECT_FAULT 13, 0, 1b
        CASE "IRET to a null code segment: #GP(0)"
        push KDATA
        push rsp
        push 2
        push 0
        push offset 1f
1:      iretq
        EXPECT_FAULT 13, 0, 1b
        CASE "IRET to a data segment: #GP(selector)"
        push KDATA
        push rsp
        push 2
        push KDATA
        push offset 1f
1:      iretq
        EXPECT_FAULT 13, KDATA, 1b
        CASE "IRET to CPL 3 with a supervisor stack: #GP(selector)"
        push KDATA
        push rsp
        push 2
        push UCODE64
        push offset 1f
1:      iretq
        EXPECT_FAULT 13, KDATA, 1b
        CASE "IRET to a non-canonical RIP: #GP(0)"
        push KDATA
        push rsp
        push 2
        push KCODE
        movabs rax, 0x800000000000
        push rax
1:      iretq
        EXPECT_FAULT 13, 0, 1b
        CASE "IRET to a stack segment that is not present: #SS(selector)"
        push NOT_PRESENT_DATA
        push rsp
        push 2
        push KCODE
        push offset 1f
1:      iretq
        EXPECT_FAULT 12, NOT_PRESENT_DATA, 1b
        CASE "IRET at CPL 0 to a null SS"
        mov [variable], rsp
        push 0
        push [variable]
        push 2
        push KCODE
        push offset 1f
        iretq
1:      mov eax, ss
        mov ecx, KDATA
        mov ss, ecx
        CHECK_EQ "SS", rax, 0
        ret

stacks:
        CASE "the stack is aligned to 16 bytes before an event"
        lea rax, [rsp - 13]
        mov [variable], rax
        mov rsp, rax
        int 0x99
1:      nop
        EXPECT_FAULT 0x99, NO_ERROR_CODE, 1b
        CHECK_EQ "pushed RSP", [rec_rsp], [variable]
        mov rax, [rec_frame]
        add rax, FRAME_SS + 8
        and eax, 15
        CHECK_EQ "alignment of the frame", rax, 0
        CASE "IST 4 at CPL 0"
        mov byte ptr [idt + 16 * 0x99 + 4], 4
        mov [variable], rsp
        int 0x99
1:      nop
        EXPECT_FAULT 0x99, NO_ERROR_CODE, 1b
        mov rax, [rec_frame]
        add rax, FRAME_SS + 8
        CHECK_EQ "frame on the IST's stack", rax, [tss+0x24+3*8]
        CHECK_EQ "pushed RSP", [rec_rsp], [variable]
        CHECK_EQ "SS is kept", [rec_handler_ss], KDATA
        CASE "IST 3 and an exception from CPL 3"
        mov byte ptr [idt + 16 * 6 + 4], 3
        ENTER_USER user_ud
        EXPECT_FAULT 6, NO_ERROR_CODE, user_ud+USER
        mov rax, [rec_frame]
        add rax, FRAME_SS + 8
        CHECK_EQ "frame on the IST's stack", rax, [tss+0x24+2*8]
        CHECK_EQ "SS is null", [rec_handler_ss], 0
        mov byte ptr [idt + 16 * 6 + 4], 0
        mov byte ptr [idt + 16 * 0x99 + 4], 0
        CASE "RSP0 from CPL 3"
        ENTER_USER user_ud, rflags=0xad7
        EXPECT_FAULT 6, NO_ERROR_CODE, user_ud+USER
        mov rax, [rec_frame]
        add rax, FRAME_SS + 8
        CHECK_EQ "frame on RSP0's stack", rax, [tss+4]
        CHECK_EQ "SS is null", [rec_handler_ss], 0
        CHECK_EQ "pushed CS", [rec_cs], UCODE64
        CHECK_EQ "pushed SS", [rec_ss], UDATA
        lea rax, [user_stack_top + USER]
        CHECK_EQ "pushed RSP", [rec_rsp], rax
        CHECK_EQ "pushed RFLAGS", [rec_rflags], 0x10ad7
        CASE "a page fault while the frame of a #UD is pushed stays a page fault"
        mov rax, [tss + 4]
        mov [variable], rax
        mov eax, WIN + 0x1000
        mov [tss + 4], rax
        mov byte ptr [idt + 16 * 14 + 4], 2
        ENTER_USER user_ud
        EXPECT_FAULT 14, 2, user_ud+USER, WIN+0x1000-8
        CHECK_EQ "pushed CS", [rec_cs], UCODE64
        CASE "a page fault on RSP0 while a page fault is delivered: #DF"
        mov byte ptr [idt + 16 * 14 + 4], 0
        ENTER_USER user_pf
        EXPECT_FAULT 8, 0, user_pf+USER
        mov rax, [variable]
        mov [tss + 4], rax
        CASE "#SS from a non-canonical RSP0"
        movabs rax, 0x800000000100
        mov [tss + 4], rax
        mov byte ptr [idt + 16 * 12 + 4], 2
        ENTER_USER user_ud
        EXPECT_FAULT 12, 1, user_ud+USER
        mov byte ptr [idt + 16 * 12 + 4], 0
        mov rax, [variable]
        mov [tss + 4], rax
        ret

user_ud: ud2
user_pf: mov eax, [0x10]

double_faults:
        CASE "#GP while #GP is delivered: #DF"
        mov byte ptr [idt + 16 * 13 + 5], 0
        movabs rsi, 0x800000000000
1:      mov eax, [rsi]
        EXPECT_FAULT 8, 0, 1b
        CHECK_EQ "on IST 1", [rec_rsp], rsp
        mov byte ptr [idt + 16 * 13 + 5], 0x8e
        CASE "#NP while #PF is delivered: #DF"
        mov byte ptr [idt + 16 * 14 + 5], 0x0e
        mov ebx, WIN
1:      mov eax, [rbx]
        EXPECT_FAULT 8, 0, 1b, WIN
        mov byte ptr [idt + 16 * 14 + 5], 0x8e
        CASE "#NP while #DE is delivered: #DF"
        mov byte ptr [idt + 16 * 0 + 5], 0x0e
        xor ecx, ecx
1:      div ecx
        EXPECT_FAULT 8, 0, 1b
        mov byte ptr [idt + 16 * 0 + 5], 0x8e
        CASE "a bad stack: the #PF of the push is a #DF"
        mov esp, WIN + 0x2000
1:      push rax
        EXPECT_FAULT 8, 0, 1b, WIN+0x2000-8
        ret

floating_point:
        CASE "#MF comes with the next x87 instruction"
        fninit
        push 0x37b                      // ZE unmasked
        fldcw [rsp]
        fld1
        fldz
        fdivp
        nop
1:      fld1
        EXPECT_FAULT 16, NO_ERROR_CODE, 1b
        CASE "#MF by FWAIT"
        fninit
        push 0x37b
        fldcw [rsp]
        fld1
        fldz
        fdivp
1:      fwait
        EXPECT_FAULT 16, NO_ERROR_CODE, 1b
        CASE "FNSTSW does not wait"
        fnstsw ax
        and eax, 0x84
        fnclex
        CHECK_EQ "ES and ZE", rax, 0x84
        fninit
        CASE "#MF with a memory operand"
        push 0x37b
        fldcw [rsp]
        fld1
        fldz
        fdivp
1:      fstp qword ptr [variable]
        EXPECT_FAULT 16, NO_ERROR_CODE, 1b
        fninit
        CASE "#XM divide by zero"
        push 0x1d80
        ldmxcsr [rsp]
        xorps xmm1, xmm1
        mov eax, 0x3f800000
        movd xmm0, eax
1:      divss xmm0, xmm1
        EXPECT_FAULT 19, NO_ERROR_CODE, 1b
        stmxcsr [variable]
        mov eax, [variable]
        CHECK_EQ "MXCSR.ZE", rax, 0x1d84
        CASE "#XM with a memory operand changes no register"
        push 0x1d80
        ldmxcsr [rsp]
        mov eax, 0x3f800000
        movd xmm0, eax
        mov dword ptr [variable], 0
1:      divss xmm0, [variable]
        EXPECT_FAULT 19, NO_ERROR_CODE, 1b
        movd eax, xmm0
        CHECK_EQ "XMM0", rax, 0x3f800000
        CASE "without CR4.OSXMMEXCPT: #UD"
        mov rax, cr4
        and eax, 0xfffffbff
        mov cr4, rax
        xorps xmm1, xmm1
1:      divss xmm0, xmm1
        EXPECT_FAULT 6, NO_ERROR_CODE, 1b
        mov rax, cr4
        or eax, 0x400
        mov cr4, rax
        CASE "LDMXCSR with reserved bits: #GP(0)"
        push 0x10000
1:      ldmxcsr [rsp]
        EXPECT_FAULT 13, 0, 1b
        push 0x1f80
        ldmxcsr [rsp]
        add rsp, 8
        ret

alignment:
        CASE "MOVAPS load"
        lea rsi, [area + 8]
1:      movaps xmm0, [rsi]
        EXPECT_FAULT 13, 0, 1b
        CASE "MOVAPS store"
        lea rsi, [area + 1]
1:      movaps [rsi], xmm0
        EXPECT_FAULT 13, 0, 1b
        CASE "PADDD"
        lea rsi, [area + 4]
1:      paddd xmm0, [rsi]
        EXPECT_FAULT 13, 0, 1b
        CASE "MOVNTDQ"
        lea rsi, [area + 4]
1:      movntdq [rsi], xmm0
        EXPECT_FAULT 13, 0, 1b
        CASE "CMPXCHG16B"
        lea rsi, [area + 8]
1:      cmpxchg16b [rsi]
        EXPECT_FAULT 13, 0, 1b
        CASE "FXSAVE"
        lea rsi, [area + 8]
1:      fxsave [rsi]
        EXPECT_FAULT 13, 0, 1b
        CASE "MOVAPS across a page"
        lea rsi, [page_a + 4088]
1:      movaps xmm0, [rsi]
        EXPECT_FAULT 13, 0, 1b
        CASE "MOVAPS store across a page"
        lea rsi, [page_a + 4088]
1:      movaps [rsi], xmm0
        EXPECT_FAULT 13, 0, 1b
        CASE "MOVUPS is free"
        lea rsi, [area + 1]
        movups xmm0, [rsi]
        EXPECT_NONE
        ret

        .data
        .balign 16
area:   .skip 512
variable: .quad 0
flags_seen: .quad 0
kept_interrupt: .quad 0x203002
short_idt:
        .word 0x81 * 16 + 14
        .quad idt
        .section .note.GNU-stack, "", @progbits
