// SPDX-License-Identifier: Apache-2.0
/// @file What the bare-metal test guests share: the layout of their address space and the macros that state a case.
///
/// A case is CASE "name", the instructions, and one or more checks. An exception or interrupt without a hook ends the
/// case: the runtime records it and goes on at the first check, at CPL 0 with the stack pointer of CASE and the other
/// registers of the event (EXPECT_FAULT changes RAX). So a case that fails never stops the others. Numeric labels 97 to 99 belong to the macros.
#pragma once

        .intel_syntax noprefix

// ---- selectors; the order is what STAR and SYSENTER_CS want
#define KCODE 0x08
#define KDATA 0x10
#define UCODE32 0x1b
#define UDATA 0x23
#define UCODE64 0x2b
#define UDATA_SYSEXIT 0x33
#define NOT_PRESENT_DATA 0x38
#define TSS_SELECTOR 0x40
#define LDT_SELECTOR 0x50
#define CONFORMING_CODE 0x60
#define READ_ONLY_DATA 0x68
#define CALL_GATE 0x70
#define EXECUTE_ONLY 0x80
#define NOT_PRESENT_CODE 0x88
#define KCODE32 0x90
#define RING1_DATA 0x98
#define CALL_GATE_DPL0 0xa0
#define AVAILABLE_TSS 0xb0
#define BASED_DATA 0xc3
#define SMALL_DATA 0xcb
#define NOT_PRESENT_GATE 0xd0
#define EXPAND_DOWN 0xe3
#define GDT_LIMIT 0xe7

// ---- the address space: [0, 1 GiB) identity, supervisor; the same RAM for user mode at USER; 512 pages of 4 KiB at WIN,
// not present at first; [3 GiB, 4 GiB) identity, for device registers
#define USER 0x40000000
#define WIN 0x80000000
#define LOCAL_APIC 0xfee00000
#define IO_APIC 0xfec00000

#define PTE_P 1
#define PTE_W 2
#define PTE_U 4
#define PTE_PCD 16
#define PTE_A 32
#define PTE_D 64
#define PTE_PS 128
#define PTE_G 256
#define PTE_NX (1 << 63)

#define NO_ERROR_CODE -1
#define ANY_CR2 0x5a5a5a5a5a5a5a5a

// ---- RFLAGS
#define FLAG_CF 1
#define FLAG_ZF 0x40
#define FLAG_TF 0x100
#define FLAG_IF 0x200
#define FLAG_DF 0x400
#define FLAG_IOPL3 0x3000
#define FLAG_NT 0x4000
#define FLAG_RF 0x10000
#define FLAG_AC 0x40000
#define FLAG_ID 0x200000
#define FLAGS_ARITHMETIC 0x8d5

// ---- offsets in the frame that a hook gets in RDI
#define FRAME_RAX 0
#define FRAME_RCX 8
#define FRAME_RDX 16
#define FRAME_RBX 24
#define FRAME_RSP_UNUSED 32
#define FRAME_RBP 40
#define FRAME_RSI 48
#define FRAME_RDI 56
#define FRAME_R8 64
#define FRAME_R9 72
#define FRAME_R10 80
#define FRAME_R11 88
#define FRAME_R12 96
#define FRAME_R13 104
#define FRAME_R14 112
#define FRAME_R15 120
#define FRAME_VECTOR 128
#define FRAME_ERROR 136
#define FRAME_RIP 144
#define FRAME_CS 152
#define FRAME_RFLAGS 160
#define FRAME_RSP 168
#define FRAME_SS 176

// ---- cases

/// Begins a case; keeps every register and flag.
.macro CASE name:req
        .pushsection .rodata
97:     .asciz "\name"
        .popsection
        mov [case_scratch], rax
        mov [resume_rsp], rsp
        lea rax, [rip + 97b]
        mov [case_name], rax
        lea rax, [rip + 99f]
        mov [resume_rip], rax
        mov qword ptr [rec_count], 0
        mov qword ptr [log_count], 0
        mov rax, [case_scratch]
.endm

/// The case must have ended with this vector and error code (or NO_ERROR_CODE), pushed RIP and, if given, CR2.
.macro EXPECT_FAULT vector:req, error:req, rip_label:req, cr2=ANY_CR2
99:     mov qword ptr [want_vector], \vector
        mov qword ptr [want_error], \error
        movabs rax, offset \rip_label
        mov [want_rip], rax
        mov rax, \cr2
        mov [want_cr2], rax
        call check_fault
.endm

/// Two 64-bit operands are equal, and the case has had no exception. Keeps every register and flag.
.macro CHECK_EQ what:req, actual:req, expected:req
        .pushsection .rodata
97:     .asciz "\what"
        .popsection
99:     mov [check_scratch], rax
        mov rax, \actual
        mov [check_actual], rax
        mov rax, [check_scratch]
        mov rax, \expected
        mov [check_expected], rax
        lea rax, [rip + 97b]
        mov [check_name], rax
        mov rax, [check_scratch]
        call check_equal
.endm

/// The case has had no exception.
.macro EXPECT_NONE
        CHECK_EQ "no exception", [rec_count], 0
.endm

/// Stores the flags that are in `mask` in memory; keeps every register and flag.
.macro SAVE_FLAGS to:req
        mov [rax_scratch], rax
        pushfq
        mov rax, [rsp]
        mov [\to], rax
        popfq
        mov rax, [rax_scratch]
.endm

/// Events with this vector call `routine` (RDI = frame; it may use every register) and return by IRET; 0: none.
.macro HOOK vector:req, routine:req
        mov qword ptr [hooks + 8 * \vector], offset \routine
.endm
.macro UNHOOK vector:req
        mov qword ptr [hooks + 8 * \vector], 0
.endm

/// To CPL 3, keeping the registers; comes back by any event.
.macro ENTER_USER entry:req, cs=UCODE64, rflags=2, stack=user_stack_top+USER
        push UDATA
        push offset \stack
        push \rflags
        push \cs
        push offset \entry+USER
        iretq
.endm

/// Page `index` of WIN becomes `page` with `flags`, or not present with `MAP index, 0, 0`. Keeps the registers.
.macro MAP index:req, page:req, flags:req
        mov [rax_scratch], rax
        .ifc \page,0
        mov eax, 0
        .else
        movabs rax, offset \page + \flags
        .endif
        mov [win_table + 8 * (\index)], rax
        mov eax, WIN + 4096 * (\index)
        invlpg [rax]
        mov rax, [rax_scratch]
.endm

.macro WRITE_MSR index:req, value:req
        mov ecx, \index
        movabs rax, offset \value
        mov rdx, rax
        shr rdx, 32
        wrmsr
.endm

/// The guest's code begins here, at CPL 0 with interrupts off; it ends with `ret`.
.macro GUEST_MAIN name:req
        .section .rodata
guest_name: .asciz "\name"
        .globl guest_name
        .text
        .globl guest_main
guest_main:
.endm
