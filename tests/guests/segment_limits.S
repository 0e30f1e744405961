// SPDX-License-Identifier: Apache-2.0
/// @file What segments forbid in compatibility mode: limits, null selectors, writes to code (SDM vol. 3A section 5.3).
#include "compatibility.inc"

        GUEST_MAIN segment_limits
        CODE32 "a limit: the last byte is reachable"
        mov eax, SMALL_DATA
        mov fs, eax
76:     mov al, fs:[0xfff]
        FAULT32 14, 5, 0xfff
        CODE32 "beyond the limit: #GP(0)"
        mov eax, SMALL_DATA
        mov fs, eax
76:     mov al, fs:[0x1000]
        FAULT32 13, 0
        CODE32 "across the limit: #GP(0)"
        mov eax, SMALL_DATA
        mov fs, eax
76:     mov eax, fs:[0xffd]
        FAULT32 13, 0
        CODE32 "expand-down: within the limit is outside"
        mov eax, EXPAND_DOWN
        mov fs, eax
76:     mov al, fs:[0xfff]
        FAULT32 13, 0
        CODE32 "a null segment: #GP(0)"
        xor eax, eax
        mov fs, eax
76:     mov al, fs:[ecx]
        FAULT32 13, 0
        CODE32 "a write to a read-only segment: #GP(0)"
        // READ_ONLY_DATA has DPL 0: loaded at CPL 0 only. CS is read-only too.
76:     mov cs:[scratch + USER], al
        FAULT32 13, 0
        ret

        .data
scratch: .quad 0
        .section .note.GNU-stack, "", @progbits
