// SPDX-License-Identifier: Apache-2.0
/// @file Single-stepping with RFLAGS.TF (SDM vol. 3B section 18.3.1.4).
#include "guest.inc"

/// Sets TF; the next instruction is the first that is followed by a trap.
.macro STEP_ON
        pushfq
        or qword ptr [rsp], FLAG_TF
        popfq
.endm
/// Clears TF; its own last instruction is still stepped.
.macro STEP_OFF
        pushfq
        and qword ptr [rsp], ~FLAG_TF
        popfq
.endm

/// The `n`th #DB (from 0) pushed the address of `label`.
.macro STEPPED n:req, label:req
        CHECK_EQ "step \n", [log+24*\n+8], "offset \label"
.endm

        GUEST_MAIN single_step
        mov eax, 0xffff0ff0
        mov dr6, rax
        HOOK 1, step
        call straight
        call special
        call transfers
        call faults
        call privilege
        ret

/// Clears DR6.BS and notes that it was set alone; ends stepping when asked to.
step:   mov rax, dr6
        and [all_dr6], rax
        or [any_dr6], rax
        mov eax, 0xffff0ff0
        mov dr6, rax
        mov rax, [rdi + FRAME_RFLAGS]
        and [all_flags], rax
        mov rax, [stop_after]
        cmp [log_count], rax
        jb 1f
        and qword ptr [rdi + FRAME_RFLAGS], ~FLAG_TF
1:      ret

straight:
        CASE "TF set by POPF: the first trap is behind the next instruction"
        mov qword ptr [all_dr6], -1
        mov qword ptr [all_flags], -1
        mov qword ptr [stop_after], 3
        STEP_ON
        nop
2:      nop
3:      nop
4:      nop
        nop
        mov rax, [all_dr6]
        and eax, 0xe00f
        mov rcx, [all_flags]
        and ecx, FLAG_TF | FLAG_RF
        mov rdx, [any_dr6]
        and edx, 0xa00f
        CHECK_EQ "traps", [log_count], 3
        STEPPED 0, 2b
        STEPPED 1, 3b
        STEPPED 2, 4b
        CHECK_EQ "DR6.BS", rax, 0x4000
        CHECK_EQ "no other bit of DR6", rdx, 0
        CHECK_EQ "TF is in the image, RF is not", rcx, FLAG_TF
        CASE "the handler runs without TF"
        mov rax, [rec_handler_rflags]
        and eax, FLAG_TF
        CHECK_EQ "TF", rax, 0
        CASE "TF set by IRET"
        mov qword ptr [stop_after], 1
        mov rax, rsp
        push KDATA
        push rax
        push 0x102
        push KCODE
        push offset 2f
        iretq
2:      nop
3:      nop
        CHECK_EQ "traps", [log_count], 1
        STEPPED 0, 3b
        CASE "memory accesses, calls and returns, taken and not taken branches"
        mov qword ptr [stop_after], 8
        STEP_ON
        mov rax, [variable]
20:     call stepped_function
21:     cmp eax, eax
22:     jne 30f
23:     je 24f
        ud2
24:     nop
30:     nop
        CHECK_EQ "traps", [log_count], 8
        STEPPED 0, 20b
        STEPPED 1, stepped_function
        STEPPED 2, stepped_return
        STEPPED 3, 21b
        STEPPED 4, 22b
        STEPPED 5, 23b
        STEPPED 6, 24b
        STEPPED 7, 30b
        CASE "flags are those of the instruction"
        mov qword ptr [stop_after], 1
        mov ecx, -1
        STEP_ON
        add ecx, 1
2:      nop
        mov rax, [rec_rflags]
        and eax, FLAGS_ARITHMETIC
        CHECK_EQ "flags", rax, 0x55
        CASE "a loop of 100 turns"
        mov qword ptr [stop_after], 202
        mov ecx, 100
        STEP_ON
        nop
2:      dec ecx
        jnz 2b
3:      nop
        nop
        CHECK_EQ "traps", [log_count], 202
        CHECK_EQ "RCX", rcx, 0
        ret

stepped_function:
        mov eax, 1
stepped_return:
        ret

special:
        CASE "REP MOVSB: a trap for each turn"
        mov qword ptr [stop_after], 5
        mov esi, offset page_a
        mov edi, offset page_b
        mov ecx, 4
        STEP_ON
2:      rep movsb
3:      nop
4:      nop
        CHECK_EQ "traps", [log_count], 5
        STEPPED 0, 2b
        STEPPED 1, 2b
        STEPPED 2, 2b
        STEPPED 3, 3b
        STEPPED 4, 4b
        CASE "REP STOSQ with a count of 0: one trap"
        mov qword ptr [stop_after], 2
        mov edi, offset page_b
        xor ecx, ecx
        STEP_ON
2:      rep stosq
3:      nop
4:      nop
        CHECK_EQ "traps", [log_count], 2
        STEPPED 0, 3b
        STEPPED 1, 4b
        CASE "REPE CMPSB that ends early"
        mov qword ptr [stop_after], 3
        mov esi, offset page_c
        mov edi, offset page_d
        mov byte ptr [page_c + 1], 7
        mov ecx, 4
        STEP_ON
2:      repe cmpsb
3:      nop
4:      nop
        CHECK_EQ "traps", [log_count], 3
        STEPPED 0, 2b
        STEPPED 1, 3b
        CASE "PUSHF pushes TF"
        mov qword ptr [stop_after], 1
        STEP_ON
        pushfq
2:      pop rax
        and eax, FLAG_TF
        CHECK_EQ "TF", rax, FLAG_TF
        STEPPED 0, 2b
        CASE "POPF that clears TF still traps"
        mov qword ptr [stop_after], 99
        push 2
        STEP_ON
        popfq
2:      nop
        nop
        CHECK_EQ "traps", [log_count], 1
        STEPPED 0, 2b
        CASE "IRET that clears TF still traps"
        mov rax, rsp
        push KDATA
        push rax
        push 2
        push KCODE
        push offset 2f
        STEP_ON
        iretq
2:      nop
        nop
        CHECK_EQ "traps", [log_count], 1
        STEPPED 0, 2b
        CASE "MOV SS holds the trap for an instruction"
        mov qword ptr [stop_after], 2
        mov eax, KDATA
        STEP_ON
        mov ss, eax
2:      nop
3:      nop
4:      nop
        CHECK_EQ "traps", [log_count], 2
        STEPPED 0, 3b
        STEPPED 1, 4b
        CASE "helpers: CPUID, RDMSR, MOV from CR0, MOV to CR3, WRMSR, INVLPG"
        mov qword ptr [stop_after], 7
        mov ecx, 0xc0000080
        mov r8, cr3
        STEP_ON
        rdmsr
20:     wrmsr
21:     cpuid
22:     mov rax, cr0
23:     mov cr3, r8
24:     invlpg [variable]
25:     mov cr0, rax
26:     nop
27:     nop
        CHECK_EQ "traps", [log_count], 7
        STEPPED 0, 20b
        STEPPED 1, 21b
        STEPPED 2, 22b
        STEPPED 3, 23b
        STEPPED 4, 24b
        STEPPED 5, 25b
        STEPPED 6, 26b
        CASE "IN and OUT, MMIO read and write"
        mov qword ptr [stop_after], 4
        mov ebx, LOCAL_APIC + 0x80
        STEP_ON
        in al, 0x61
20:     out 0x80, al
21:     mov eax, [rbx]
22:     mov [rbx], eax
23:     nop
        nop
        CHECK_EQ "traps", [log_count], 4
        STEPPED 0, 20b
        STEPPED 1, 21b
        STEPPED 2, 22b
        STEPPED 3, 23b
        CASE "a write to a page table"
        mov qword ptr [stop_after], 2
        STEP_ON
        mov qword ptr [win_table], offset page_a + PTE_P
20:     mov qword ptr [win_table], 0
21:     nop
        nop
        CHECK_EQ "traps", [log_count], 2
        STEPPED 0, 20b
        STEPPED 1, 21b
        CASE "code that patches the next instruction"
        mov qword ptr [stop_after], 2
        STEP_ON
        mov byte ptr [20f + 1], 7
20:     mov eax, 0
21:     nop
        CHECK_EQ "result", rax, 7
        STEPPED 0, 20b
        STEPPED 1, 21b
        CASE "an instruction across two pages"
        mov qword ptr [stop_after], 2
        mov byte ptr [page_a + 4095], 0xb8
        mov dword ptr [page_b], 5
        mov byte ptr [page_b + 4], 0xc3
        mov ebx, offset page_a + 4095
        STEP_ON
        call rbx
20:     nop
        CHECK_EQ "traps", [log_count], 2
        STEPPED 0, page_a+4095
        STEPPED 1, page_b+4
        CHECK_EQ "result", rax, 5
        CASE "x87 and SSE instructions"
        mov qword ptr [stop_after], 4
        STEP_ON
        fld1
20:     fstp qword ptr [variable]
21:     xorps xmm0, xmm0
22:     movups [page_c], xmm0
23:     nop
        nop
        CHECK_EQ "traps", [log_count], 4
        STEPPED 3, 23b
        ret

transfers:
        CASE "INT3: no trap of TF, and the image has it"
        HOOK 3, ignore
        mov qword ptr [stop_after], 99
        STEP_ON
        int3
2:      STEP_OFF
        // The first event is INT3's; its IRET brings TF back, with a trap behind the first instruction of STEP_OFF.
        CHECK_EQ "first event", [log], 3
        CHECK_EQ "its RIP", [log+8], "offset 2b"
        CHECK_EQ "second event", [log+24], 1
        UNHOOK 3
        CASE "far call and return"
        mov qword ptr [stop_after], 2
        STEP_ON
        call fword ptr [far_pointer]
20:     nop
        nop
        CHECK_EQ "traps", [log_count], 2
        STEPPED 0, far_function
        STEPPED 1, 20b
        CASE "SYSCALL at CPL 0 with FMASK.TF: TF is gone, no trap"
        WRITE_MSR 0xc0000081, 0x0018000800000000
        WRITE_MSR 0xc0000082, syscall_entry
        WRITE_MSR 0xc0000084, 0x100
        mov qword ptr [stop_after], 99
        STEP_ON
        syscall
        nop
        EXPECT_NONE
        CHECK_EQ "traps", [log_count], 0
        ret

syscall_entry:
        nop
        nop
        jmp rcx
far_function:
        .byte 0xcb                      // 32-bit operands, as the call had
ignore: ret

faults:
        CASE "a fault comes instead of the trap"
        mov qword ptr [stop_after], 99
        HOOK 6, skip_ud2
        STEP_ON
20:     ud2
21:     STEP_OFF
        CHECK_EQ "first event", [log], 6
        CHECK_EQ "its RIP", [log+8], "offset 20b"
        CHECK_EQ "second event", [log+24], 1
        UNHOOK 6
        CASE "a page fault that is repaired: one trap, behind the instruction"
        mov qword ptr [stop_after], 99
        HOOK 14, repair
        mov ebx, WIN
        mov qword ptr [win_table], 0
        invlpg [rbx]
        STEP_ON
        mov eax, [rbx]
21:     STEP_OFF
        UNHOOK 14
        CHECK_EQ "first event", [log], 14
        CHECK_EQ "second event", [log+24], 1
        CHECK_EQ "its RIP", [log+24+8], "offset 21b"
        ret

skip_ud2:
        add qword ptr [rdi + FRAME_RIP], 2
        ret
repair: mov qword ptr [win_table], offset page_a + PTE_P + PTE_W
        ret

privilege:
        CASE "TF at CPL 3"
        mov qword ptr [stop_after], 99
        ENTER_USER user_steps, rflags=0x102
        EXPECT_FAULT 0x80, NO_ERROR_CODE, user_steps_end+USER
        CHECK_EQ "events", [log_count], 3
        lea rax, [user_steps_2 + USER]
        CHECK_EQ "first", [log+8], rax
        CASE "SYSCALL at CPL 3 with FMASK.TF: no trap"
        WRITE_MSR 0xc0000082, syscall_return
        ENTER_USER user_syscall, rflags=0x102
        EXPECT_FAULT 0x80, NO_ERROR_CODE, user_syscall_end+USER
        // SYSRET loads TF and, unlike IRET, traps at once, as if the SYSCALL had completed just now. Then comes MOV.
        CHECK_EQ "events", [log_count], 3
        lea rax, [user_syscall_1 + USER]
        CHECK_EQ "first", [log+8], rax
        lea rax, [user_syscall_2 + USER]
        CHECK_EQ "second", [log+32], rax
        CASE "SYSRET under TF that clears it: no trap"
        mov qword ptr [stop_after], 99
        mov ecx, offset user_steps + USER
        mov r11d, 2
        push 0x102
        popfq
        sysretq
        EXPECT_FAULT 0x80, NO_ERROR_CODE, user_steps_end+USER
        CHECK_EQ "events", [log_count], 1
        CASE "SYSCALL without FMASK.TF: a trap at the entry"
        WRITE_MSR 0xc0000084, 0
        ENTER_USER user_syscall, rflags=0x102
        EXPECT_FAULT 0x80, NO_ERROR_CODE, user_syscall_end+USER
        CHECK_EQ "first", [log+8], "offset syscall_return"
        ret

syscall_return:
        and r11d, ~0x10000
        sysretq
user_steps:
        nop
user_steps_2:
        nop
        int 0x80
user_steps_end:
user_syscall:
        syscall
user_syscall_1:
        mov eax, 1
user_syscall_2:
        int 0x80
user_syscall_end:

        .data
        .balign 8
all_dr6: .quad 0
any_dr6: .quad 0
all_flags: .quad 0
stop_after: .quad 0
variable: .quad 0
far_pointer:
        .long far_function
        .word KCODE
        .section .note.GNU-stack, "", @progbits
