// SPDX-License-Identifier: Apache-2.0
/// @file Accesses that may fault. A routine gets the address in RDI, bytes to write at RSI, room for bytes read at RDX,
/// and a size in RCX; it may change every register but R12 to R15, and runs at CPL 0 and, in the user alias, at CPL 3.
#include "guest.inc"

// Offsets in histories::Probe.
#define PROBE_ADDRESS 0
#define PROBE_INPUT 8
#define PROBE_OUTPUT 16
#define PROBE_SIZE 24
#define PROBE_ROUTINE 32
#define PROBE_USER 40
#define PROBE_AC 48
#define PROBE_RESULT 56

        .section .rodata
        .globl guest_name
guest_name: .asciz "histories"

        .text
        // make_probe(Probe*)
        .globl make_probe, probe_end
make_probe:
        push rbx
        push rbp
        push r12
        push r13
        push r14
        push r15
        mov r12, rdi
        mov [probe_stack], rsp
        mov rdi, [r12 + PROBE_ADDRESS]
        mov rsi, [r12 + PROBE_INPUT]
        mov rdx, [r12 + PROBE_OUTPUT]
        mov rcx, [r12 + PROBE_SIZE]
        mov rax, [r12 + PROBE_ROUTINE]
        mov ebx, 2
        cmp qword ptr [r12 + PROBE_AC], 0
        je 1f
        or ebx, FLAG_AC
1:      cmp qword ptr [r12 + PROBE_USER], 0
        jne 2f
        push rbx
        popfq
        call rax
        mov [r12 + PROBE_RESULT], rax
        jmp probe_end
2:      mov r8d, USER
        add rsi, r8
        add rdx, r8
        add rax, r8
        lea r9, [r8 + user_exit]
        mov [user_stack_top - 64], r9
        push UDATA
        lea r9, [r8 + user_stack_top - 64]
        push r9
        push rbx
        push UCODE64
        push rax
        iretq
        // Events come here too, with RSP = probe_stack.
probe_end:
        mov rsp, [probe_stack]
        push 2
        popfq
        cld
        pop r15
        pop r14
        pop r13
        pop r12
        pop rbp
        pop rbx
        ret
user_exit:
        int 0x80

.macro ROUTINE name:req
        .globl \name
\name:
.endm

ROUTINE read_1
        mov al, [rdi]
        mov [rdx], al
        ret
ROUTINE read_2
        mov ax, [rdi]
        mov [rdx], ax
        ret
ROUTINE read_4
        mov eax, [rdi]
        mov [rdx], eax
        ret
ROUTINE read_8
        mov rax, [rdi]
        mov [rdx], rax
        ret
ROUTINE read_8_r15                      // registers that translated code keeps in memory
        mov r9, r15
        mov r15, rdi
        mov r15, [r15]
        mov [rdx], r15
        mov r15, r9
        ret
ROUTINE read_16
        movups xmm0, [rdi]
        movups [rdx], xmm0
        ret
ROUTINE read_32
        vmovdqu ymm0, [rdi]
        vmovdqu [rdx], ymm0
        ret
ROUTINE read_string
        mov rsi, rdi
        mov rdi, rdx
        rep movsb
        ret
ROUTINE fetch
        jmp rdi                         // the code there returns

ROUTINE write_1
        mov al, [rsi]
        mov [rdi], al
        ret
ROUTINE write_2
        mov ax, [rsi]
        mov [rdi], ax
        ret
ROUTINE write_4
        mov eax, [rsi]
        mov [rdi], eax
        ret
ROUTINE write_8
        mov rax, [rsi]
        mov [rdi], rax
        ret
ROUTINE write_10
        fninit
        fld tbyte ptr [rsi]
        fstp tbyte ptr [rdi]
        ret
ROUTINE write_16
        movups xmm0, [rsi]
        movups [rdi], xmm0
        ret
ROUTINE write_32
        vmovdqu ymm0, [rsi]
        vmovdqu [rdi], ymm0
        ret
ROUTINE exchange_1
        mov al, [rsi]
        xchg [rdi], al
        ret
ROUTINE exchange_4
        mov eax, [rsi]
        xchg [rdi], eax
        ret
ROUTINE exchange_8
        mov rax, [rsi]
        xchg [rdi], rax
        ret
ROUTINE compare_exchange_8
        xor eax, eax
        mov r8, [rsi]
1:      lock cmpxchg [rdi], r8          // a failed comparison writes too, and gets the old value
        jne 1b
        ret
ROUTINE compare_exchange_16
        xor eax, eax
        xor edx, edx
        mov rbx, [rsi]
        mov rcx, [rsi + 8]
1:      lock cmpxchg16b [rdi]
        jne 1b
        ret
ROUTINE nontemporal_8
        mov rax, [rsi]
        movnti [rdi], rax
        ret
ROUTINE push_8
        mov rax, rsp
        lea rsp, [rdi + 8]
        push [rsi]
        mov rsp, rax
        ret
ROUTINE write_string                    // bytes, upwards
        rep movsb
        ret
ROUTINE write_string_down
        lea rdi, [rdi + rcx - 1]
        lea rsi, [rsi + rcx - 1]
        std
        rep movsb
        cld
        ret

        .bss
        .balign 8
        .globl probe_stack
probe_stack: .skip 8
        .section .note.GNU-stack, "", @progbits
