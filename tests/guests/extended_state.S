// SPDX-License-Identifier: Apache-2.0
/// @file x87, SSE and AVX state: FXSAVE, XSAVE and their restores, XCR0, and what survives interrupts and CPL changes.
#include "guest.inc"

        GUEST_MAIN extended_state
        call legacy
        mov eax, 1
        cpuid
        bt ecx, 26
        jnc 1f
        call extended
        bt dword ptr [features], 28
        jnc 1f
        call avx
1:      call over_events
        ret

legacy: mov eax, 1
        cpuid
        mov [features], ecx
        CASE "FXSAVE and FXRSTOR of XMM0 to XMM15, MXCSR and FCW"
        .irp x, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        mov eax, 0x100 + \x
        movq xmm\x, rax
        .endr
        fninit
        push 0x27f
        fldcw [rsp]
        mov dword ptr [rsp], 0x9f80
        ldmxcsr [rsp]
        fld1
        fxsave64 [area]
        fninit
        mov dword ptr [rsp], 0x1f80
        ldmxcsr [rsp]
        pop rax
        pxor xmm0, xmm0
        pxor xmm7, xmm7
        pxor xmm15, xmm15
        fxrstor64 [area]
        fnstcw [word_place]
        stmxcsr [dword_place]
        movq rax, xmm0
        movq rcx, xmm7
        movq rdx, xmm15
        movzx esi, word ptr [word_place]
        mov edi, [dword_place]
        CHECK_EQ "XMM0", rax, 0x100
        CHECK_EQ "XMM7", rcx, 0x107
        CHECK_EQ "XMM15", rdx, 0x10f
        CHECK_EQ "FCW", rsi, 0x27f
        CHECK_EQ "MXCSR", rdi, 0x9f80
        CASE "and the x87 stack"
        fistp qword ptr [variable]
        fnstsw ax
        movzx eax, ax
        and eax, 0x3800
        CHECK_EQ "ST0", [variable], 1
        CHECK_EQ "TOP", rax, 0
        CASE "the image"
        movzx eax, byte ptr [area + 4]
        mov rcx, [area + 160 + 15 * 16]
        mov rdx, [area + 32]
        CHECK_EQ "abridged tag word", rax, 0x80
        CHECK_EQ "XMM15", rcx, 0x10f
        movabs rax, 0x8000000000000000
        CHECK_EQ "ST0's significand", rdx, rax
        CASE "FXRSTOR with reserved bits of MXCSR: #GP(0)"
        mov dword ptr [area + 24], 0x10000
1:      fxrstor64 [area]
        EXPECT_FAULT 13, 0, 1b
        fninit
        push 0x1f80
        ldmxcsr [rsp]
        pop rax
        CASE "FNSAVE and FRSTOR"
        fldpi
        fld1
        fnsave [area]
        fnstsw ax
        movzx ecx, ax
        frstor [area]
        fistp qword ptr [variable]
        CHECK_EQ "FNSAVE initialises", rcx, 0
        CHECK_EQ "ST0", [variable], 1
        fninit
        CASE "MMX and EMMS share the x87 registers"
        mov rax, 0x1122334455667788
        movq mm3, rax
        movq rcx, mm3
        fnstenv [area]
        movzx edx, word ptr [area + 8]
        emms
        fnstenv [area]
        movzx esi, word ptr [area + 8]
        CHECK_EQ "MM3", rcx, 0x1122334455667788
        and edx, 0xc0                   // MM3: exponent of ones, so special
        CHECK_EQ "tag of MM3", rdx, 0x80
        CHECK_EQ "tags after EMMS", rsi, 0xffff
        fninit
        ret

extended:
        CASE "XGETBV without CR4.OSXSAVE: #UD"
        xor ecx, ecx
1:      xgetbv
        EXPECT_FAULT 6, NO_ERROR_CODE, 1b
        CASE "XSAVE without CR4.OSXSAVE: #UD"
        mov eax, 7
        xor edx, edx
1:      xsave [area]
        EXPECT_FAULT 6, NO_ERROR_CODE, 1b
        mov rax, cr4
        bts rax, 18
        mov cr4, rax
        CASE "CPUID.OSXSAVE follows CR4"
        mov eax, 1
        cpuid
        shr ecx, 27
        and ecx, 1
        CHECK_EQ "OSXSAVE", rcx, 1
        CASE "XCR0 after reset"
        xor ecx, ecx
        xgetbv
        CHECK_EQ "EAX", rax, 1
        CASE "AVX without XCR0.AVX: #UD"
1:      vxorps ymm0, ymm0, ymm0
        EXPECT_FAULT 6, NO_ERROR_CODE, 1b
        CASE "XCR0 with an unknown component: #GP(0)"
        xor ecx, ecx
        mov eax, 3
        mov edx, 0x4000
1:      xsetbv
        EXPECT_FAULT 13, 0, 1b
        CASE "XSETBV of XCR1: #GP(0)"
        mov ecx, 1
        mov eax, 3
        xor edx, edx
1:      xsetbv
        EXPECT_FAULT 13, 0, 1b
        CASE "XCR0 = x87 and SSE"
        xor ecx, ecx
        mov eax, 3
        xor edx, edx
        xsetbv
        xgetbv
        CHECK_EQ "EAX", rax, 3
        CASE "XSAVE of SSE: header and content"
        call clear_area
        mov eax, 0x55
        movq xmm5, rax
        mov eax, 3
        xor edx, edx
        xsave64 [area]
        mov rax, [area + 512]
        and eax, 2
        mov rcx, [area + 160 + 5 * 16]
        CHECK_EQ "XSTATE_BV", rax, 2
        CHECK_EQ "XMM5", rcx, 0x55
        CASE "XRSTOR of what is not in the header: the initial state"
        mov qword ptr [area + 512], 0
        mov eax, 3
        xor edx, edx
        xrstor64 [area]
        movq rcx, xmm5
        CHECK_EQ "XMM5", rcx, 0
        CASE "XRSTOR of x87 alone keeps SSE"
        mov eax, 0x66
        movq xmm6, rax
        mov eax, 1
        xor edx, edx
        xrstor64 [area]
        movq rcx, xmm6
        CHECK_EQ "XMM6", rcx, 0x66
        CASE "XRSTOR of a header with a bit that XCR0 lacks: #GP(0)"
        mov qword ptr [area + 512], 8
        mov eax, 3
1:      xrstor64 [area]
        EXPECT_FAULT 13, 0, 1b
        CASE "XRSTOR of a header with reserved bytes: #GP(0)"
        mov qword ptr [area + 512], 0
        mov qword ptr [area + 528], 1
        mov eax, 3
1:      xrstor64 [area]
        EXPECT_FAULT 13, 0, 1b
        CASE "XSAVE not aligned to 64: #GP(0)"
1:      xsave64 [area + 16]
        EXPECT_FAULT 13, 0, 1b
        CASE "XSAVE with CR0.TS: #NM"
        mov rax, cr0
        or eax, 8
        mov cr0, rax
1:      xsave64 [area]
        EXPECT_FAULT 7, NO_ERROR_CODE, 1b
        clts
        CASE "XSAVE with LOCK: #UD"
1:      .byte 0xf0, 0x48, 0x0f, 0xae, 0x26
        EXPECT_FAULT 6, NO_ERROR_CODE, 1b
        CASE "XGETBV at CPL 3"
        ENTER_USER user_xgetbv
        EXPECT_FAULT 0x80, NO_ERROR_CODE, user_xgetbv_end+USER
        CHECK_EQ "EAX", [saved_registers+FRAME_RAX], 3
        CASE "XSETBV at CPL 3: #GP(0)"
        ENTER_USER user_xsetbv
        EXPECT_FAULT 13, 0, user_xsetbv+USER
        ret

user_xgetbv:
        xor ecx, ecx
        xgetbv
        int 0x80
user_xgetbv_end:
user_xsetbv:
        xsetbv

clear_area:
        mov edi, offset area
        xor eax, eax
        mov ecx, 128
        rep stosq
        ret

avx:    xor ecx, ecx
        mov eax, 7
        xor edx, edx
        xsetbv
        CASE "CPUID leaf 0xd"
        mov eax, 0xd
        xor ecx, ecx
        cpuid
        mov esi, eax
        and esi, 7
        mov edi, ebx
        mov eax, 0xd
        mov ecx, 2
        cpuid
        CHECK_EQ "components", rsi, 7
        CHECK_EQ "size in use", rdi, 832
        CHECK_EQ "size of AVX", rax, 256
        CHECK_EQ "offset of AVX", rbx, 576
        CASE "YMM registers through XSAVE and XRSTOR"
        call clear_area
        vmovups ymm1, [pattern]
        vmovups ymm15, [pattern + 32]
        mov eax, 7
        xor edx, edx
        xsave64 [area]
        vzeroall
        mov eax, 7
        xrstor64 [area]
        vmovups [buffer], ymm1
        vmovups [buffer + 32], ymm15
        mov rax, [area + 512]
        and eax, 6                      // x87 may be in its initial state
        CHECK_EQ "XSTATE_BV", rax, 6
        CHECK_EQ "YMM1, high", [buffer+24], 4
        CHECK_EQ "YMM15, high", [buffer+56], 8
        CASE "XRSTOR of AVX alone keeps the low halves"
        vxorps xmm1, xmm1, xmm1
        mov eax, 4
        xrstor64 [area]
        vmovups [buffer], ymm1
        CHECK_EQ "low", [buffer], 0
        CHECK_EQ "high", [buffer+24], 4
        CASE "legacy SSE keeps the high half, VEX clears it"
        vmovups ymm2, [pattern]
        vmovups ymm3, [pattern]
        pxor xmm2, xmm2
        vpxor xmm3, xmm3, xmm3
        vmovups [buffer], ymm2
        vmovups [buffer + 32], ymm3
        CHECK_EQ "legacy", [buffer+24], 4
        CHECK_EQ "VEX", [buffer+56], 0
        CASE "32-byte accesses across a page, with R13 to R15"
        mov r12d, WIN
        MAP 0, page_c, PTE_P+PTE_W
        MAP 1, page_a, PTE_P+PTE_W
        lea r13, [r12 + 4096 - 13]
        mov r14, 1
        vmovups ymm4, [pattern]
        vmovups [r13 + r14], ymm4
        vmovups ymm5, [r13 + r14]
        vmovups [buffer], ymm5
        mov rax, [r12 + 4096 + 12]
        CHECK_EQ "read back", [buffer+24], 4
        CHECK_EQ "in memory", rax, 4
        CASE "VMOVAPS that is not aligned: #GP(0)"
1:      vmovaps ymm0, [pattern + 16]
        EXPECT_FAULT 13, 0, 1b
        CASE "VADDPD with an operand that is not aligned"
        vaddpd ymm0, ymm0, [pattern + 8]
        EXPECT_NONE
        CASE "masked store: faults of bytes that are masked do not count"
        vpcmpeqd xmm0, xmm0, xmm0
        vpsrldq xmm0, xmm0, 8           // the two lower elements
        vmovups xmm1, [pattern]
        lea rbx, [r12 + 2 * 4096 - 8]
        vmaskmovps [rbx], xmm0, xmm1
        mov rax, [rbx]
        CHECK_EQ "stored", rax, 1
        CASE "and those that are not masked do"
        lea rbx, [r12 + 2 * 4096 - 4]
1:      vmaskmovps [rbx], xmm0, xmm1
        EXPECT_FAULT 14, 2, 1b, WIN+2*4096
        CASE "AVX with CR0.TS: #NM"
        mov rax, cr0
        or eax, 8
        mov cr0, rax
1:      vxorps ymm0, ymm0, ymm0
        EXPECT_FAULT 7, NO_ERROR_CODE, 1b
        clts
        ret

wipe:   pxor xmm0, xmm0
        pxor xmm8, xmm8
        pxor xmm15, xmm15
        ret
ignore: ret

over_events:
        CASE "XMM, x87 and MXCSR over a software interrupt, CPUID, MMIO, and port I/O"
        HOOK 0x99, ignore
        mov eax, 0xabc
        movq xmm8, rax
        movq xmm15, rax
        fninit
        fldpi
        push 0x7f80
        ldmxcsr [rsp]
        int 0x99
        xor eax, eax
        cpuid
        mov eax, LOCAL_APIC
        mov eax, [rax + 0x30]
        in al, 0x61
        mov rax, cr3
        mov cr3, rax
        mov eax, WIN
        mov qword ptr [win_table], 0
        invlpg [rax]
        movq rcx, xmm8
        movq rdx, xmm15
        fistp qword ptr [variable]
        stmxcsr [dword_place]
        mov esi, [dword_place]
        mov dword ptr [rsp], 0x1f80
        ldmxcsr [rsp]
        pop rax
        CHECK_EQ "XMM8", rcx, 0xabc
        CHECK_EQ "XMM15", rdx, 0xabc
        CHECK_EQ "ST0", [variable], 3
        CHECK_EQ "MXCSR", rsi, 0x7f80
        CASE "what a handler changes stays changed"
        HOOK 0x99, wipe
        mov eax, 0xabc
        movq xmm8, rax
        int 0x99
        movq rcx, xmm8
        UNHOOK 0x99
        CHECK_EQ "XMM8", rcx, 0
        CASE "rounding by MXCSR and FCW"
        push 0x7f80                     // towards zero
        ldmxcsr [rsp]
        mov rax, 0x4004000000000000     // 2.5
        movq xmm0, rax
        cvtsd2si rcx, xmm0
        mov dword ptr [rsp], 0x5f80     // upwards
        ldmxcsr [rsp]
        cvtsd2si rdx, xmm0
        mov dword ptr [rsp], 0x1f80
        ldmxcsr [rsp]
        fninit
        mov dword ptr [rsp], 0xb7f      // upwards
        fldcw [rsp]
        mov [variable], rax
        fld qword ptr [variable]
        fistp qword ptr [variable]
        fninit
        pop rax
        CHECK_EQ "SSE towards zero", rcx, 2
        CHECK_EQ "SSE upwards", rdx, 3
        CHECK_EQ "x87 upwards", [variable], 3
        CASE "an SSE exception that is masked sets its flag"
        push 0x1f80
        ldmxcsr [rsp]
        mov eax, 0x3f800000
        movd xmm0, eax
        pxor xmm1, xmm1
        divss xmm0, xmm1
        stmxcsr [rsp]
        mov ecx, [rsp]
        mov dword ptr [rsp], 0x1f80
        ldmxcsr [rsp]
        pop rax
        CHECK_EQ "MXCSR", rcx, 0x1f84
        ret

        .data
        .balign 64
area:   .skip 1024
buffer: .skip 64
pattern: .quad 1, 2, 3, 4, 5, 6, 7, 8, 9
variable: .quad 0
dword_place:  .long 0
word_place:   .word 0
features: .quad 0
        .section .note.GNU-stack, "", @progbits
