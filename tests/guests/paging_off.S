// SPDX-License-Identifier: Apache-2.0
/// @file The end of IA-32e mode, from 32-bit code in ring 0 (SDM vol. 3A section 9.8.5.4): Gnomon's
/// processor has no other mode, so the machine shuts down there, and says with which state.
#include "guest.inc"

        GUEST_MAIN paging_off
        mov esi, offset text_before
        call print
        mov rax, cr4
        btr rax, 17                     // PCIDE would forbid it
        mov cr4, rax
        push KCODE32
        push offset leave
        retfq
        .code32
leave:  mov edx, cr0
        btr edx, 31
        mov eax, 0xcafe0001
        mov cr0, edx
        .code64
        // What the bytes behind mean there nobody knows; here they end the test with a failure.
        mov esi, offset text_after
        call print
        ret

        .section .rodata
text_before: .asciz "about to shut down\n"
text_after: .asciz "after the shutdown\n"
        .section .note.GNU-stack, "", @progbits
