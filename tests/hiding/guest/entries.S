// SPDX-License-Identifier: Apache-2.0
/// @file The part of the hiding guest that C++ cannot say: the way into an experiment, the guest's own system-call
/// handlers, and the ways back from them.
#include "guest.inc"

        .text
/// Runs the frame in RDI (struct Frame) until an event ends the experiment. Comes back as a function does.
        .globl enter_experiment
enter_experiment:
        push rbx
        push rbp
        push r12
        push r13
        push r14
        push r15
        mov [engine_rsp], rsp
        mov rsp, rdi
        jmp load_frame

/// Where events go that end the experiment: at CPL 0, flags 2.
        .globl experiment_ended
experiment_ended:
        mov rsp, [engine_rsp]
        mov eax, KDATA
        mov ds, eax
        mov es, eax
        pop r15
        pop r14
        pop r13
        pop r12
        pop rbp
        pop rbx
        ret

.macro POP_REGISTERS
        pop rax
        pop rcx
        pop rdx
        pop rbx
        add rsp, 8
        pop rbp
        pop rsi
        pop rdi
        pop r8
        pop r9
        pop r10
        pop r11
        pop r12
        pop r13
        pop r14
        pop r15
.endm

load_frame:
        POP_REGISTERS
        add rsp, 16                     // vector, error
        iretq

/// The handlers: position-independent, since copies of them run elsewhere, and without a stack until all is saved.
.macro HANDLER name, kind
        .globl \name, \name\()_end
\name:  mov [entry_frame + FRAME_RAX], rax
        mov eax, \kind
        mov [entry_frame + FRAME_VECTOR], rax
        mov eax, offset common
        jmp rax
\name\()_end:
.endm
        HANDLER syscall_handler, 0x100
        HANDLER compatibility_handler, 0x101
        HANDLER sysenter_handler, 0x102

common: mov [entry_frame + FRAME_RCX], rcx
        mov [entry_frame + FRAME_RDX], rdx
        mov [entry_frame + FRAME_RBX], rbx
        mov [entry_frame + FRAME_RBP], rbp
        mov [entry_frame + FRAME_RSI], rsi
        mov [entry_frame + FRAME_RDI], rdi
        mov [entry_frame + FRAME_R8], r8
        mov [entry_frame + FRAME_R9], r9
        mov [entry_frame + FRAME_R10], r10
        mov [entry_frame + FRAME_R11], r11
        mov [entry_frame + FRAME_R12], r12
        mov [entry_frame + FRAME_R13], r13
        mov [entry_frame + FRAME_R14], r14
        mov [entry_frame + FRAME_R15], r15
        mov [entry_frame + FRAME_RSP], rsp
        mov eax, cs
        mov [entry_frame + FRAME_CS], rax
        mov eax, ss
        mov [entry_frame + FRAME_SS], rax
        mov esp, offset entry_stack_top
        pushfq
        pop [entry_frame + FRAME_RFLAGS]
        push 2
        popfq
        mov edi, offset entry_frame
        call on_entry                   // RAX = how to go on
        mov esp, offset entry_frame
        cmp eax, 1
        jb experiment_ended
        je load_frame
        cmp eax, 3
        jb sysret64
        je sysret32
        cmp eax, 5
        jb sysexit64
        POP_REGISTERS
        mov rsp, [entry_frame + FRAME_RSP]
        sysexitd
sysret64:
        POP_REGISTERS
        mov rsp, [entry_frame + FRAME_RSP]
        .globl sysret64_instruction
sysret64_instruction:
        sysretq
sysret32:
        POP_REGISTERS
        mov rsp, [entry_frame + FRAME_RSP]
        sysretd
sysexit64:
        POP_REGISTERS
        mov rsp, [entry_frame + FRAME_RSP]
        sysexitq

        .bss
        .balign 4096
        .globl entry_frame, entry_stack_top, kernel_stack_top, sysenter_stack_top, engine_rsp
        .skip 16384
entry_stack_top:
        .skip 8192
kernel_stack_top:
        .skip 8192
sysenter_stack_top:
        .skip 64
entry_frame: .skip 8 * 24
engine_rsp: .skip 8
        .section .rodata
        .globl guest_name
guest_name: .asciz "hiding"
        .section .note.GNU-stack, "", @progbits
