// SPDX-License-Identifier: Apache-2.0
/// @file Cases of 32-bit code at CPL 3. It runs at USER and leaves by INT 0x80, with results in
/// registers.
#pragma once
#include "guest.h"

/// Runs the 32-bit code up to END32, at CPL 3; afterwards [saved_registers] has its registers.
.macro CODE32 name:req
        CASE "\name"
        push UDATA
        push offset user_stack_top+USER
        push 2
        push UCODE32
        push offset 77f+USER
        mov ecx, UDATA
        mov ds, ecx
        mov es, ecx
        xor eax, eax
        mov rbx, -1                     // upper halves must not matter
        mov ecx, 0
        iretq
        .code32
77:
.endm
.macro END32
        int 0x80
        .code64
78:     EXPECT_FAULT 0x80, NO_ERROR_CODE, 78b+USER
.endm
// As symbols, which macro arguments can be joined to.
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
        CHECK_EQ "\reg", rax, \value
.endm
/// The 32-bit code must have ended with a fault at label 76.
.macro FAULT32 vector:req, error:req, cr2=ANY_CR2
        ud2
        .code64
        EXPECT_FAULT \vector, \error, 76b+USER, \cr2
.endm
