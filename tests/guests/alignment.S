// SPDX-License-Identifier: Apache-2.0
/// @file Alignment checking: CR0.AM, RFLAGS.AC, CPL 3 (SDM vol. 3A section 6.15, interrupt 17).
#include "compatibility.inc"

/// Runs the 64-bit code from `entry` on at CPL 3 with AC; R8 = an address that is a multiple of 64.
.macro USER64 name, entry
        CASE "\name"
        mov r8d, offset data + USER
        ENTER_USER \entry, rflags=FLAG_AC+2
.endm

        GUEST_MAIN alignment
        mov rax, cr0
        bts rax, 18
        mov cr0, rax
        USER64 "a dword", user_dword
        EXPECT_FAULT 17, 0, user_dword+USER
        USER64 "a word", user_word
        EXPECT_FAULT 17, 0, user_word+USER
        USER64 "a store of a quadword", user_store
        EXPECT_FAULT 17, 0, user_store+USER
        USER64 "a push", user_push
        EXPECT_FAULT 17, 0, user_push_place+USER
        USER64 "REP MOVSD: at the first element that is not aligned", user_string
        EXPECT_FAULT 17, 0, user_string_place+USER
        USER64 "a double of x87", user_double
        EXPECT_FAULT 17, 0, user_double+USER
        USER64 "aligned, byte-sized and 16-byte operands pass", user_good
        EXPECT_FAULT 0x80, NO_ERROR_CODE, user_good_end+USER
        USER64 "MOVAPS stays #GP(0)", user_movaps
        EXPECT_FAULT 13, 0, user_movaps+USER
        USER64 "ENTER, PUSHF and a far pointer", user_far
        EXPECT_FAULT 17, 0, user_far+USER
        USER64 "POPF switches it off", user_off
        EXPECT_FAULT 0x80, NO_ERROR_CODE, user_off_end+USER
        CASE "and on"
        mov r8d, offset data + USER
        ENTER_USER user_on
        EXPECT_FAULT 17, 0, user_on_place+USER
        CASE "not at CPL 0"
        pushfq
        or dword ptr [rsp], FLAG_AC
        popfq
        mov eax, [data + 1]
        pushfq
        and dword ptr [rsp], ~FLAG_AC
        popfq
        EXPECT_NONE
        CODE32 "32-bit code"
        pushfd
        or dword ptr [esp], FLAG_AC
        popfd
76:     mov eax, [data + USER + 2]
        FAULT32 17, 0
        mov rax, cr0
        btr rax, 18
        mov cr0, rax
        CASE "without CR0.AM"
        mov r8d, offset data + USER
        ENTER_USER user_unaligned, rflags=FLAG_AC+2
        EXPECT_FAULT 0x80, NO_ERROR_CODE, user_unaligned_end+USER
        ret

user_dword:
        mov eax, [r8 + 1]
user_word:
        mov ax, [r8 + 1]
user_store:
        mov [r8 + 4], rax
user_push:
        lea rsp, [r8 + 12]
user_push_place:
        push rax
user_string:
        lea rsi, [r8 + 2]
        lea rdi, [r8 + 16]
        mov ecx, 2
user_string_place:
        rep movsd
user_double:
        fld qword ptr [r8 + 4]
user_good:
        mov eax, [r8 + 4]
        mov al, [r8 + 3]
        movups xmm0, [r8 + 1]
        mov ax, [r8 + 2]
        lock cmpxchg8b [r8 + 8]
        push rax
        pop rax
        lea rsi, [r8 + 1]
        lea rdi, [r8 + 17]
        mov ecx, 9
        rep movsb
        int 0x80
user_good_end:
user_movaps:
        movaps xmm0, [r8 + 8]
user_far:
        lgs eax, [r8 + 2]
user_off:
        push 2
        popfq
        mov eax, [r8 + 1]
        int 0x80
user_off_end:
user_on:
        mov eax, [r8 + 1]
        push FLAG_AC + 2
        popfq
        mov eax, [r8 + 4]
user_on_place:
        mov eax, [r8 + 1]
user_unaligned:
        mov eax, [r8 + 1]
        int 0x80
user_unaligned_end:

        .data
        .balign 64
data:   .fill 16, 8, 0
        .section .note.GNU-stack, "", @progbits
