// SPDX-License-Identifier: Apache-2.0
/// @file SYSCALL, SYSRET, SYSENTER, SYSEXIT, INT n and privileged instructions at CPL 3 (SDM vol. 3A section 5.8).
#include "guest.inc"

        GUEST_MAIN system_calls
        // Kernel CS and SS from 0x08; for SYSRET 0x18 + 16 and 0x18 + 8.
        WRITE_MSR 0xc0000081, 0x0018000800000000
        WRITE_MSR 0xc0000082, syscall_entry
        WRITE_MSR 0xc0000083, compatibility_entry
        WRITE_MSR 0xc0000084, 0x47700
        call system_call
        call system_return
        call sysenter_exit
        call software_interrupts
        call privileged
        ret

syscall_entry:
        mov [seen_rsp], rsp
        mov esp, offset rsp0_top
        mov [seen_rax], rax
        mov eax, cs
        mov [seen_cs], rax
        mov eax, ss
        mov [seen_ss], rax
        pushfq
        pop [seen_rflags]
        mov rsp, [seen_rsp]
        mov rax, [seen_rax]
        test rax, rax
        jz 1f
        sysretq
1:      mov ecx, ecx
        int 0x81
compatibility_entry:
        int 0x82

system_call:
        CASE "SYSCALL from CPL 3"
        mov r15, 0x1515
        ENTER_USER user_syscall, rflags=0xad7
        EXPECT_FAULT 0x81, NO_ERROR_CODE, compatibility_entry
        lea rax, [user_syscall_next + USER]
        CHECK_EQ "RCX", [saved_registers+FRAME_RCX], rax
        CHECK_EQ "R11", [saved_registers+FRAME_R11], 0xad7
        CHECK_EQ "R15", [saved_registers+FRAME_R15], 0x1515
        CHECK_EQ "CS", [seen_cs], KCODE
        CHECK_EQ "SS", [seen_ss], KDATA
        CHECK_EQ "RFLAGS masked", [seen_rflags], 0x8d7
        lea rax, [user_stack_top + USER]
        CHECK_EQ "RSP kept", [seen_rsp], rax
        CASE "SYSCALL and SYSRET"
        ENTER_USER user_round_trip, rflags=0xad7
        EXPECT_FAULT 0x80, NO_ERROR_CODE, user_round_trip_end+USER
        CHECK_EQ "RAX", [saved_registers+FRAME_RAX], 0x77
        CHECK_EQ "RFLAGS", [rec_rflags], 0xad7
        CHECK_EQ "CS", [rec_cs], UCODE64
        CHECK_EQ "SS", [rec_ss], UDATA
        CASE "1000 system calls"
        ENTER_USER user_many
        EXPECT_FAULT 0x80, NO_ERROR_CODE, user_many_end+USER
        CHECK_EQ "count", [saved_registers+FRAME_RBX], 1000
        CASE "SYSCALL at CPL 0"
        xor eax, eax
        syscall
1:      nop
        EXPECT_FAULT 0x81, NO_ERROR_CODE, compatibility_entry
        CHECK_EQ "RCX", [saved_registers+FRAME_RCX], "offset 1b"
        CASE "SYSCALL without EFER.SCE: #UD"
        mov ecx, 0xc0000080
        rdmsr
        btr eax, 0
        wrmsr
        ENTER_USER user_syscall
        EXPECT_FAULT 6, NO_ERROR_CODE, user_syscall_instruction+USER
        CASE "SYSRET without EFER.SCE: #UD"
1:      sysretq
        EXPECT_FAULT 6, NO_ERROR_CODE, 1b
        mov ecx, 0xc0000080
        rdmsr
        bts eax, 0
        wrmsr
        CASE "the MSRs read back"
        mov ecx, 0xc0000082
        rdmsr
        shl rdx, 32
        or rdx, rax
        CHECK_EQ "LSTAR", rdx, "offset syscall_entry"
        CASE "FMASK takes 32 bits: #GP(0) for more"
        mov ecx, 0xc0000084
        mov edx, 1
        xor eax, eax
1:      wrmsr
        EXPECT_FAULT 13, 0, 1b
        CASE "LSTAR that is unmapped: the fault is at the entry, at CPL 0"
        WRITE_MSR 0xc0000082, WIN
        ENTER_USER user_syscall
        EXPECT_FAULT 14, 0x10, WIN, WIN
        CHECK_EQ "CS", [rec_cs], KCODE
        lea rax, [user_stack_top + USER]
        CHECK_EQ "RSP", [rec_rsp], rax
        WRITE_MSR 0xc0000082, syscall_entry
        ret

user_syscall:
        xor eax, eax
        std
        push 0xad7
        popfq
user_syscall_instruction:
        syscall
user_syscall_next:
        ud2
user_round_trip:
        mov eax, 0x77
        push 0xad7
        popfq
        syscall
        int 0x80
user_round_trip_end:
user_many:
        xor ebx, ebx
1:      mov eax, 1
        syscall
        inc ebx
        cmp ebx, 1000
        jne 1b
        int 0x80
user_many_end:

system_return:
        CASE "SYSRET to 64-bit code"
        mov ecx, offset user_int80 + USER
        mov r11d, 0x203ad7              // IOPL 3, ID
        mov [main_rsp], rsp
        mov esp, offset user_stack_top + USER
        sysretq
        EXPECT_FAULT 0x80, NO_ERROR_CODE, user_int80_end+USER
        CHECK_EQ "CS", [rec_cs], UCODE64
        CHECK_EQ "SS", [rec_ss], UDATA
        CHECK_EQ "RFLAGS", [rec_rflags], 0x203ad7
        CASE "SYSRET clears RF and VM, and what is reserved"
        mov ecx, offset user_int80 + USER
        movabs r11, 0xffffffff00030002
        mov esp, offset user_stack_top + USER
        sysretq
        EXPECT_FAULT 0x80, NO_ERROR_CODE, user_int80_end+USER
        CHECK_EQ "RFLAGS", [rec_rflags], 2
        CASE "SYSRET to 32-bit code"
        mov ecx, offset user_code32 + USER
        mov r11d, 2
        mov esp, offset user_stack_top + USER
        sysretd
        EXPECT_FAULT 0x80, NO_ERROR_CODE, user_code32_end+USER
        CHECK_EQ "CS", [rec_cs], UCODE32
        CHECK_EQ "SS", [rec_ss], UDATA
        CHECK_EQ "it was 32-bit code", [saved_registers+FRAME_RAX], 5
        CASE "SYSRET to a non-canonical address: #GP(0) at CPL 0"
        movabs rcx, 0x800000000000
        mov r11d, 2
        mov [main_rsp], rsp
1:      sysretq
        EXPECT_FAULT 13, 0, 1b
        CHECK_EQ "CS", [rec_cs], KCODE
        CHECK_EQ "RSP", [rec_rsp], [main_rsp]
        CASE "SYSRET at CPL 3: #GP(0)"
        ENTER_USER user_sysret
        EXPECT_FAULT 13, 0, user_sysret+USER
        ret

user_sysret: sysretq
user_int80:
        int 0x80
user_int80_end:
        .code32
user_code32:
        mov eax, 4
        inc eax
        int 0x80
user_code32_end:
user_sysenter32:
        mov eax, 4
        inc eax
        sysenter
        ud2
        .code64

sysenter_exit:
        mov eax, 1
        cpuid
        bt edx, 11
        jc 5f
        ret
5:      WRITE_MSR 0x174, 0
        CASE "SYSENTER with a null SYSENTER_CS: #GP(0)"
        ENTER_USER user_sysenter
        EXPECT_FAULT 13, 0, user_sysenter+USER
        CASE "SYSEXIT with a null SYSENTER_CS: #GP(0)"
1:      sysexitq
        EXPECT_FAULT 13, 0, 1b
        WRITE_MSR 0x174, KCODE
        WRITE_MSR 0x175, ist4_top
        WRITE_MSR 0x176, sysenter_entry
        CASE "SYSENTER from 64-bit code"
        ENTER_USER user_sysenter, rflags=0xad7
        EXPECT_FAULT 0x83, NO_ERROR_CODE, sysenter_entry_end
        CHECK_EQ "CS", [rec_cs], KCODE
        CHECK_EQ "SS", [rec_ss], KDATA
        CHECK_EQ "RSP", [rec_rsp], "offset ist4_top"
        CHECK_EQ "RFLAGS: IF is cleared", [rec_rflags], 0x8d7
        CASE "SYSENTER from 32-bit code"
        ENTER_USER user_sysenter32, cs=UCODE32
        EXPECT_FAULT 0x83, NO_ERROR_CODE, sysenter_entry_end
        CHECK_EQ "CS", [rec_cs], KCODE
        CHECK_EQ "RAX", [saved_registers+FRAME_RAX], 5
        CASE "SYSEXIT to 64-bit code"
        mov edx, offset user_int80 + USER
        mov ecx, offset user_stack_top + USER
        sysexitq
        EXPECT_FAULT 0x80, NO_ERROR_CODE, user_int80_end+USER
        CHECK_EQ "CS", [rec_cs], UCODE64
        CHECK_EQ "SS", [rec_ss], UDATA_SYSEXIT
        lea rax, [user_stack_top + USER]
        CHECK_EQ "RSP", [rec_rsp], rax
        CASE "SYSEXIT to 32-bit code"
        mov edx, offset user_code32 + USER
        mov ecx, offset user_stack_top + USER
        sysexitd
        EXPECT_FAULT 0x80, NO_ERROR_CODE, user_code32_end+USER
        CHECK_EQ "CS", [rec_cs], UCODE32
        CHECK_EQ "SS", [rec_ss], UDATA
        CASE "SYSEXIT to a non-canonical address: #GP(0)"
        movabs rdx, 0x800000000000
        mov ecx, 0
1:      sysexitq
        EXPECT_FAULT 13, 0, 1b
        CASE "SYSEXIT at CPL 3: #GP(0)"
        ENTER_USER user_sysexit
        EXPECT_FAULT 13, 0, user_sysexit+USER
        ret

user_sysenter:
        sysenter
        ud2
user_sysexit:
        sysexitq
sysenter_entry:
        int 0x83
sysenter_entry_end:

software_interrupts:
        CASE "INT 0x80 from CPL 3"
        ENTER_USER user_int80, rflags=0x202
        EXPECT_FAULT 0x80, NO_ERROR_CODE, user_int80_end+USER
        CHECK_EQ "RFLAGS", [rec_rflags], 0x202
        mov rax, [rec_handler_rflags]
        and eax, FLAG_IF
        CHECK_EQ "IF in the handler", rax, 0
        CASE "INT 0x81 from CPL 3, gate for CPL 0: #GP(vector)"
        ENTER_USER user_int81
        EXPECT_FAULT 13, 0x81*8+2, user_int81+USER
        CASE "INT 14 from CPL 3 is no page fault: #GP(vector)"
        ENTER_USER user_int14
        EXPECT_FAULT 13, 14*8+2, user_int14+USER
        CASE "INT3 from CPL 3"
        ENTER_USER user_int3
        EXPECT_FAULT 3, NO_ERROR_CODE, user_int3_end+USER
        CASE "INT3 from CPL 3 with a gate for CPL 0: #GP(vector)"
        mov byte ptr [idt + 16 * 3 + 5], 0x8e
        ENTER_USER user_int3
        EXPECT_FAULT 13, 3*8+2, user_int3+USER
        mov byte ptr [idt + 16 * 3 + 5], 0xee
        CASE "INT1 from CPL 3 does not ask the gate"
        ENTER_USER user_int1
        EXPECT_FAULT 1, NO_ERROR_CODE, user_int1_end+USER
        CASE "INT n at CPL 0 for an exception's vector pushes no error code"
        mov [main_rsp], rsp
        HOOK 13, int13
        int 13
        UNHOOK 13
        // The handler's stub took a pushed word for the error code: see there.
        CHECK_EQ "RSP", rsp, [main_rsp]
        ret

int13:  // RDI = frame; without an error code everything stands one place lower.
        mov rax, [rdi + FRAME_ERROR]
        mov [variable], rax
        lea rsp, [rdi + FRAME_ERROR]
        iretq

user_int81: int 0x81
user_int14: int 14
user_int3: int3
user_int3_end:
user_int1: .byte 0xf1
user_int1_end:

.macro PRIVILEGED name, vector, error, code:vararg
        CASE "CPL 3: \name"
        jmp 3f
2:      \code
        int 0x80
3:      mov ecx, 1
        push UDATA
        push offset user_stack_top+USER
        push 2
        push UCODE64
        push offset 2b+USER
        iretq
        EXPECT_FAULT \vector, \error, 2b+USER
.endm

privileged:
        PRIVILEGED "HLT", 13, 0, hlt
        PRIVILEGED "CLI", 13, 0, cli
        PRIVILEGED "STI", 13, 0, sti
        PRIVILEGED "IN", 13, 0, in al, 0x61
        PRIVILEGED "OUT", 13, 0, out dx, eax
        PRIVILEGED "REP INSB", 13, 0, rep insb
        PRIVILEGED "RDMSR", 13, 0, rdmsr
        PRIVILEGED "WRMSR", 13, 0, wrmsr
        PRIVILEGED "LGDT", 13, 0, lgdt [rsp]
        PRIVILEGED "LIDT", 13, 0, lidt [rsp]
        PRIVILEGED "LLDT", 13, 0, lldt ax
        PRIVILEGED "LTR", 13, 0, ltr ax
        PRIVILEGED "MOV to CR0", 13, 0, mov cr0, rax
        PRIVILEGED "MOV from CR0", 13, 0, mov rax, cr0
        PRIVILEGED "MOV to CR8", 13, 0, mov cr8, rax
        PRIVILEGED "MOV from DR7", 13, 0, mov rax, dr7
        PRIVILEGED "MOV to DR0", 13, 0, mov dr0, rax
        PRIVILEGED "CLTS", 13, 0, clts
        PRIVILEGED "LMSW", 13, 0, lmsw ax
        PRIVILEGED "INVD", 13, 0, invd
        PRIVILEGED "WBINVD", 13, 0, wbinvd
        PRIVILEGED "SWAPGS", 13, 0, swapgs
        PRIVILEGED "XSETBV without OSXSAVE", 6, NO_ERROR_CODE, xsetbv
        PRIVILEGED "VMCALL's neighbour VMLAUNCH", 6, NO_ERROR_CODE, vmlaunch
        PRIVILEGED "RSM", 6, NO_ERROR_CODE, rsm
        CASE "CPL 3: POPF changes neither IF nor IOPL"
        ENTER_USER user_popf, rflags=0x202
        EXPECT_FAULT 0x80, NO_ERROR_CODE, user_popf_end+USER
        CHECK_EQ "RFLAGS", [rec_rflags], 0x202
        CASE "CPL 3 with IOPL 3: CLI, IN and POPF of IF work"
        ENTER_USER user_iopl, rflags=0x3202
        EXPECT_FAULT 0x80, NO_ERROR_CODE, user_iopl_end+USER
        CHECK_EQ "RFLAGS", [rec_rflags], 0x3002
        CASE "CR4.TSD: RDTSC at CPL 3"
        mov rax, cr4
        or eax, 4
        mov cr4, rax
        ENTER_USER user_rdtsc
        EXPECT_FAULT 13, 0, user_rdtsc+USER
        CASE "CR4.TSD: RDTSC at CPL 0 works"
        rdtsc
        EXPECT_NONE
        mov rax, cr4
        and eax, 0xfffffffb
        mov cr4, rax
        CASE "RDTSC at CPL 3"
        ENTER_USER user_rdtsc
        EXPECT_FAULT 0x80, NO_ERROR_CODE, user_rdtsc_end+USER
        CASE "the I/O permission bitmap beyond the TSS limit forbids"
        ENTER_USER user_in
        EXPECT_FAULT 13, 0, user_in+USER
        ret

user_popf:
        push 0x3002
        popfq
        int 0x80
user_popf_end:
user_iopl:
        in al, 0x61
        cli
        sti
        push 0x3002
        popfq
        int 0x80
user_iopl_end:
user_rdtsc:
        rdtsc
        int 0x80
user_rdtsc_end:
user_in:
        in al, 0x61
        int 0x80

        .data
        .balign 8
seen_rsp: .quad 0
seen_rax: .quad 0
seen_cs: .quad 0
seen_ss: .quad 0
seen_rflags: .quad 0
main_rsp: .quad 0
variable: .quad 0
        .section .note.GNU-stack, "", @progbits
