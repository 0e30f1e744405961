// SPDX-License-Identifier: Apache-2.0
/// @file A triple fault: the machine ends with the processor's state on stderr.
#include "guest.inc"

        GUEST_MAIN triple_fault
        mov esi, offset text_before
        call print
        lidt [empty_idt]
        mov eax, 0xcafe0001
        ud2
        lidt [idt_pointer]
        mov esi, offset text_after
        call print
        ret

        .section .rodata
text_before: .asciz "about to shut down\n"
text_after: .asciz "after the shutdown\n"
empty_idt:
        .word 0
        .quad 0
        .section .note.GNU-stack, "", @progbits
