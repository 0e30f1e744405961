// SPDX-License-Identifier: Apache-2.0
/// @file The reset port ends a machine that was started with --no-reboot.
#include "guest.inc"

        GUEST_MAIN reset
        mov esi, offset text_before
        call print
        mov edx, 0xcf9
        mov al, 2
        out dx, al
        mov al, 6
        out dx, al
        mov esi, offset text_after
        call print
        ret

        .section .rodata
text_before: .asciz "about to reset\n"
text_after: .asciz "after the reset\n"
        .section .note.GNU-stack, "", @progbits
