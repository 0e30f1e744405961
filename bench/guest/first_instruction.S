// SPDX-License-Identifier: Apache-2.0
// A kernel whose first instructions send a byte to the serial port; then it resets the machine by the i8042.
        .globl _start
_start:
        mov $0x3f8, %edx
        mov $'!', %al
        out %al, %dx
        mov $0xfe, %al
        out %al, $0x64
1:      hlt
        jmp 1b
        .section .note.GNU-stack, "", @progbits
