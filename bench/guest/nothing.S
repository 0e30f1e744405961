// SPDX-License-Identifier: Apache-2.0
// The smallest program: exits with status 0.
        .globl _start
_start:
        mov $60, %eax           // exit
        xor %edi, %edi
        syscall
        .section .note.GNU-stack, "", @progbits
