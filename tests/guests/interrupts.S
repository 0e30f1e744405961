// SPDX-License-Identifier: Apache-2.0
/// @file Interrupts: the PIT through 8259 and I/O APIC, the local APIC's timer and self-IPIs, NMIs, shadows, HLT.
#include "guest.inc"

#define APIC_ID 0x20
#define APIC_TPR 0x80
#define APIC_EOI 0xb0
#define APIC_SPURIOUS 0xf0
#define APIC_ISR 0x100
#define APIC_IRR 0x200
#define APIC_ICR_LOW 0x300
#define APIC_ICR_HIGH 0x310
#define APIC_LVT_TIMER 0x320
#define APIC_LVT_LINT0 0x350
#define APIC_INITIAL_COUNT 0x380
#define APIC_CURRENT_COUNT 0x390
#define APIC_DIVIDE 0x3e0

        GUEST_MAIN interrupts
        mov r12d, LOCAL_APIC
        mov dword ptr [r12 + APIC_SPURIOUS], 0x1ff
        mov eax, [r12 + APIC_ID]
        mov [r12 + APIC_ICR_HIGH], eax
        HOOK 0x40, count_apic
        HOOK 0x50, count_apic
        HOOK 0x30, count_apic
        HOOK 0x20, count_pic
        call flags_and_shadows
        call self_ipi
        call nmi
        call pit_8259
        call pit_io_apic
        call apic_timer
        call registers_over_interrupts
        ret

count_apic:
        mov rax, [rdi + FRAME_VECTOR]
        inc qword ptr [counts + rax * 8]
        mov rcx, [rdi + FRAME_RIP]
        mov [last_rip], rcx
        mov eax, LOCAL_APIC
        mov dword ptr [rax + APIC_EOI], 0
        ret

count_pic:
        inc qword ptr [counts + 0x20 * 8]
        mov rcx, [rdi + FRAME_RIP]
        mov [last_rip], rcx
        mov al, 0x20
        out 0x20, al
        ret

.macro SEND vector:req
        mov dword ptr [r12 + APIC_ICR_LOW], 0x44000 + \vector       // to itself, fixed
.endm
.macro SEND_NMI
        mov dword ptr [r12 + APIC_ICR_LOW], 0x4400                  // to the APIC ID in the high half: its own
.endm
.macro CLEAR_COUNT vector:req
        mov qword ptr [counts + \vector * 8], 0
.endm

flags_and_shadows:
        CASE "STI: one more instruction runs first"
        CLEAR_COUNT 0x40
        cli
        SEND 0x40
        xor ebx, ebx
        sti
        inc ebx
1:      inc ebx
        cli
        CHECK_EQ "count", [counts+0x40*8], 1
        CHECK_EQ "RIP", [last_rip], "offset 1b"
        CASE "STI, CLI: no window"
        CLEAR_COUNT 0x40
        SEND 0x40
        sti
        cli
        mov ecx, 100
2:      dec ecx
        jnz 2b
        CHECK_EQ "count", [counts+0x40*8], 0
        CASE "and the interrupt is still pending"
        sti
        nop
1:      nop
        cli
        CHECK_EQ "count", [counts+0x40*8], 1
        CHECK_EQ "RIP", [last_rip], "offset 1b"
        CASE "STI with IF set has no shadow"
        sti
        CLEAR_COUNT 0x40
        sti
        SEND 0x40
1:      nop
        nop
        cli
        CHECK_EQ "count", [counts+0x40*8], 1
        CASE "MOV SS holds an interrupt for one instruction"
        CLEAR_COUNT 0x40
        mov eax, KDATA
        SEND 0x40
        // POPF has no shadow, so the one below is that of MOV SS.
        push 0x202
        popfq
1:      mov ss, eax
        nop
2:      nop
        cli
        CHECK_EQ "count", [counts+0x40*8], 1
        CHECK_EQ "RIP: POPF opens the window at once", [last_rip], "offset 1b"
        CASE "POPF that clears IF closes it"
        CLEAR_COUNT 0x40
        sti
        nop
        push 2
        popfq
        SEND 0x40
        nop
        CHECK_EQ "count", [counts+0x40*8], 0
        CASE "IRET that sets IF opens it"
        mov rbx, rsp
        push KDATA
        push rbx
        push 0x202
        push KCODE
        push offset 1f
        iretq
1:      nop
        cli
        CHECK_EQ "count", [counts+0x40*8], 1
        CHECK_EQ "RIP", [last_rip], "offset 1b"
        CASE "STI; HLT with an interrupt pending wakes up"
        CLEAR_COUNT 0x40
        SEND 0x40
        sti
        hlt
1:      cli
        CHECK_EQ "count", [counts+0x40*8], 1
        CHECK_EQ "RIP is behind HLT", [last_rip], "offset 1b"
        CASE "MOV SS; INT3: the trap is not lost"
        mov eax, KDATA
        mov ss, eax
        int3
1:      nop
        EXPECT_FAULT 3, NO_ERROR_CODE, 1b
        ret

self_ipi:
        CASE "priorities: the higher vector first, the lower after EOI"
        CLEAR_COUNT 0x40
        CLEAR_COUNT 0x50
        SEND 0x40
        SEND 0x50
        sti
        nop
        nop
        cli
        CHECK_EQ "one", [counts+0x40*8], 1
        CHECK_EQ "other", [counts+0x50*8], 1
        CHECK_EQ "first", [log], 0x50
        CHECK_EQ "second", [log+24], 0x40
        CASE "IRR and ISR"
        SEND 0x40
        mov eax, [r12 + APIC_IRR + 0x20]
        CHECK_EQ "IRR", rax, 1
        CASE "TPR holds what is not above its class"
        CLEAR_COUNT 0x40
        mov dword ptr [r12 + APIC_TPR], 0x40
        sti
        nop
        nop
        mov rax, [counts + 0x40 * 8]
        mov dword ptr [r12 + APIC_TPR], 0x30
        nop
        nop
        cli
        CHECK_EQ "held", rax, 0
        CHECK_EQ "released", [counts+0x40*8], 1
        mov dword ptr [r12 + APIC_TPR], 0
        CASE "CR8 is TPR[7:4]"
        mov eax, 5
        mov cr8, rax
        mov ecx, [r12 + APIC_TPR]
        mov dword ptr [r12 + APIC_TPR], 0x7f
        mov rdx, cr8
        CHECK_EQ "TPR", rcx, 0x50
        CHECK_EQ "CR8", rdx, 7
        CASE "CR8 holds and releases"
        CLEAR_COUNT 0x40
        mov eax, 4
        mov cr8, rax
        SEND 0x40
        sti
        nop
        nop
        mov rbx, [counts + 0x40 * 8]
        xor eax, eax
        mov cr8, rax
        nop
        nop
        cli
        CHECK_EQ "held", rbx, 0
        CHECK_EQ "released", [counts+0x40*8], 1
        CASE "an interrupt between two instructions of a loop without memory accesses"
        CLEAR_COUNT 0x40
        sti
        SEND 0x40
        mov ecx, 1000
2:      dec ecx
        jnz 2b
        cli
        CHECK_EQ "count", [counts+0x40*8], 1
        ret

nmi_handler:
        inc qword ptr [counts + 2 * 8]
        mov rcx, [rdi + FRAME_RIP]
        mov [last_rip], rcx
        cmp qword ptr [nmi_nests], 0
        je 1f
        dec qword ptr [nmi_nests]
        mov rbx, [counts + 2 * 8]
        SEND_NMI
        nop
        nop
        mov rax, [counts + 2 * 8]
        sub rax, rbx
        add [nmi_nested], rax
1:      ret

nmi:    HOOK 2, nmi_handler
        CASE "an NMI with IF clear"
        SEND_NMI
1:      nop
        nop
        CHECK_EQ "count", [counts+2*8], 1
        CASE "an NMI in the handler waits for its IRET"
        CLEAR_COUNT 2
        mov qword ptr [nmi_nests], 1
        SEND_NMI
        nop
        nop
        CHECK_EQ "both came", [counts+2*8], 2
        CHECK_EQ "none nested", [nmi_nested], 0
        CASE "an exception and its IRET in the handler unblock NMIs"
        CLEAR_COUNT 2
        HOOK 2, nmi_with_int3
        HOOK 3, ignore
        SEND_NMI
        nop
        nop
        UNHOOK 3
        CHECK_EQ "both came", [counts+2*8], 2
        CHECK_EQ "nested", [nmi_nested], 1
        HOOK 2, nmi_handler
        CASE "no NMI behind MOV SS"
        CLEAR_COUNT 2
        mov eax, KDATA
        mov ss, eax
        SEND_NMI
1:      nop
        CHECK_EQ "count", [counts+2*8], 1
        UNHOOK 2
        ret

ignore: ret
nmi_with_int3:
        inc qword ptr [counts + 2 * 8]
        cmp qword ptr [counts + 2 * 8], 1
        jne 1f
        SEND_NMI
        nop
        cmp qword ptr [counts + 2 * 8], 1
        jne 1f
        int3
        nop
        mov rax, [counts + 2 * 8]
        dec rax
        mov [nmi_nested], rax
1:      ret

/// Waits with HLT until the count of `vector` is at least `count`, or 2 s of TSC at 1 GHz and more have gone by.
.macro WAIT_FOR vector:req, count:req
        rdtsc
        shl rdx, 32
        or rax, rdx
        mov rbx, rax
2:      sti
        nop
        nop
        cli
        cmp qword ptr [counts + \vector * 8], \count
        jae 3f
        rdtsc
        shl rdx, 32
        or rax, rdx
        sub rax, rbx
        shr rax, 33
        jz 2b
3:
.endm

pit_8259:
        mov dword ptr [r12 + APIC_LVT_LINT0], 0x700     // ExtINT
        CASE "PIT, periodic, by the 8259"
        CLEAR_COUNT 0x20
        mov al, 0x34
        out 0x43, al
        mov al, 0xa9                    // 1193: 1 ms
        out 0x40, al
        mov al, 0x04
        out 0x40, al
        mov al, 0xfe
        out 0x21, al
        WAIT_FOR 0x20, 5
        mov rax, [counts + 0x20 * 8]
        cmp rax, 5
        setae al
        movzx eax, al
        CHECK_EQ "at least five", rax, 1
        CASE "HLT waits for it"
        CLEAR_COUNT 0x20
        sti
        hlt
1:      hlt
        cli
        mov rax, [counts + 0x20 * 8]
        cmp rax, 2
        setae al
        movzx eax, al
        CHECK_EQ "two", rax, 1
        CASE "masked, it is silent"
        mov al, 0xff
        out 0x21, al
        CLEAR_COUNT 0x20
        mov ecx, 2000
2:      sti
        in al, 0x61
        cli
        dec ecx
        jnz 2b
        CHECK_EQ "count", [counts+0x20*8], 0
        CASE "from CPL 3, on RSP0's stack"
        HOOK 0x20, user_interrupt
        mov al, 0xfe
        out 0x21, al
        ENTER_USER user_loop, rflags=0x202
        EXPECT_FAULT 0x80, NO_ERROR_CODE, user_loop_end+USER
        CHECK_EQ "pushed CS", [variable], UCODE64
        mov al, 0xff
        out 0x21, al
        HOOK 0x20, count_pic
        mov dword ptr [r12 + APIC_LVT_LINT0], 0x10700
        ret

user_interrupt:
        mov rax, [rdi + FRAME_CS]
        mov [variable], rax
        mov qword ptr [rdi + FRAME_RBX], 1
        mov al, 0x20
        out 0x20, al
        ret
user_loop:
        xor ebx, ebx
1:      test ebx, ebx
        jz 1b
        int 0x80
user_loop_end:

.macro IO_APIC_WRITE index:req, value:req
        mov eax, IO_APIC
        mov dword ptr [rax], \index
        mov dword ptr [rax + 0x10], \value
.endm

pit_io_apic:
        CASE "PIT, periodic, by pin 2 of the I/O APIC"
        CLEAR_COUNT 0x30
        mov ecx, [r12 + APIC_ID]
        IO_APIC_WRITE 0x15, ecx
        IO_APIC_WRITE 0x14, 0x30
        WAIT_FOR 0x30, 5
        mov rax, [counts + 0x30 * 8]
        cmp rax, 5
        setae al
        movzx eax, al
        CHECK_EQ "at least five", rax, 1
        CASE "the redirection entry reads back"
        mov eax, IO_APIC
        mov dword ptr [rax], 0x14
        mov ecx, [rax + 0x10]
        and ecx, 0x1efff
        CHECK_EQ "low half", rcx, 0x30
        CASE "masked there, it is silent"
        IO_APIC_WRITE 0x14, 0x10030
        sti
        nop
        cli
        CLEAR_COUNT 0x30
        mov ecx, 2000
2:      sti
        in al, 0x61
        cli
        dec ecx
        jnz 2b
        CHECK_EQ "count", [counts+0x30*8], 0
        // Mode 0 and no count: the PIT is quiet.
        mov al, 0x30
        out 0x43, al
        ret

apic_timer:
        mov dword ptr [r12 + APIC_DIVIDE], 3            // by 16
        CASE "local APIC timer, one shot"
        CLEAR_COUNT 0x40
        mov dword ptr [r12 + APIC_LVT_TIMER], 0x40
        mov dword ptr [r12 + APIC_INITIAL_COUNT], 10000
        WAIT_FOR 0x40, 1
        mov eax, [r12 + APIC_CURRENT_COUNT]
        CHECK_EQ "count", [counts+0x40*8], 1
        CHECK_EQ "current count", rax, 0
        CASE "and only one"
        mov ecx, 2000
2:      sti
        in al, 0x61
        cli
        dec ecx
        jnz 2b
        CHECK_EQ "count", [counts+0x40*8], 1
        CASE "periodic"
        CLEAR_COUNT 0x40
        mov dword ptr [r12 + APIC_LVT_TIMER], 0x20040
        mov dword ptr [r12 + APIC_INITIAL_COUNT], 20000
        WAIT_FOR 0x40, 10
        mov dword ptr [r12 + APIC_INITIAL_COUNT], 0
        mov rax, [counts + 0x40 * 8]
        cmp rax, 10
        setae al
        movzx eax, al
        CHECK_EQ "at least ten", rax, 1
        CASE "the current count falls"
        mov dword ptr [r12 + APIC_LVT_TIMER], 0x10040
        mov dword ptr [r12 + APIC_INITIAL_COUNT], 0xffffffff
        mov ecx, [r12 + APIC_CURRENT_COUNT]
        mov edx, 1000
2:      dec edx
        jnz 2b
        mov edx, [r12 + APIC_CURRENT_COUNT]
        mov dword ptr [r12 + APIC_INITIAL_COUNT], 0
        cmp edx, ecx
        setb al
        movzx eax, al
        CHECK_EQ "falls", rax, 1
        sti
        nop
        cli
        mov eax, 1
        cpuid
        bt ecx, 24
        jnc 5f
        CASE "TSC deadline"
        CLEAR_COUNT 0x40
        mov dword ptr [r12 + APIC_LVT_TIMER], 0x40040
        mfence
        rdtsc
        shl rdx, 32
        or rax, rdx
        add rax, 1000000
        mov [variable], rax
        mov rdx, rax
        shr rdx, 32
        mov ecx, 0x6e0
        wrmsr
        WAIT_FOR 0x40, 1
        rdtsc
        shl rdx, 32
        or rdx, rax
        cmp rdx, [variable]
        setae bl
        movzx ebx, bl
        mov ecx, 0x6e0
        rdmsr
        or eax, edx
        CHECK_EQ "count", [counts+0x40*8], 1
        CHECK_EQ "not before its time", rbx, 1
        CHECK_EQ "disarmed", rax, 0
        CASE "TSC deadline in the past comes at once"
        CLEAR_COUNT 0x40
        mov ecx, 0x6e0
        mov eax, 1
        xor edx, edx
        wrmsr
        WAIT_FOR 0x40, 1
        CHECK_EQ "count", [counts+0x40*8], 1
        CASE "HLT until the TSC deadline"
        CLEAR_COUNT 0x40
        rdtsc
        add eax, 3000000
        adc edx, 0
        mov ecx, 0x6e0
        wrmsr
        sti
        hlt
        cli
        CHECK_EQ "count", [counts+0x40*8], 1
5:      mov dword ptr [r12 + APIC_LVT_TIMER], 0x10040
        ret

registers_over_interrupts:
        CASE "every register, flags and XMM over 300 interrupts"
        CLEAR_COUNT 0x40
        HOOK 0x40, clobber
        mov dword ptr [r12 + APIC_LVT_TIMER], 0x20040
        mov dword ptr [r12 + APIC_INITIAL_COUNT], 5000
        mov [main_rsp], rsp
        mov rax, 0x1001
        mov rcx, 0x1002
        mov rdx, 0x1003
        mov rbx, 0x1004
        mov rbp, 0x1005
        mov rsi, 0x1006
        mov rdi, 0x1007
        mov r8, 0x1008
        mov r9, 0x1009
        mov r10, 0x100a
        mov r11, 0x100b
        mov r13, 0x100d
        mov r14, 0x100e
        mov r15, 0x100f
        movq xmm7, r15
        sti
2:      add rax, 1
        sub rax, 1
        xchg r13, r14
        mov r9, r13
        mov r13, r14
        mov r14, r9
        stc
        lea rdi, [rdi + 8]
        mov r10, [variable]
        lea rdi, [rdi - 8]
        jnc 3f                          // CF got lost
        add r15, 16
        sub r15, 16
        cmp qword ptr [counts + 0x40 * 8], 300
        jb 2b
        jmp 4f
3:      mov edx, 0xbad
4:      cli
        mov dword ptr [r12 + APIC_INITIAL_COUNT], 0
        mov dword ptr [r12 + APIC_LVT_TIMER], 0x10040
        HOOK 0x40, count_apic
        CHECK_EQ "RAX", rax, 0x1001
        CHECK_EQ "RCX", rcx, 0x1002
        CHECK_EQ "RDX", rdx, 0x1003
        CHECK_EQ "RBX", rbx, 0x1004
        CHECK_EQ "RBP", rbp, 0x1005
        CHECK_EQ "RSI", rsi, 0x1006
        CHECK_EQ "RDI", rdi, 0x1007
        CHECK_EQ "R8", r8, 0x1008
        CHECK_EQ "R11", r11, 0x100b
        CHECK_EQ "R13", r13, 0x100d
        CHECK_EQ "R14", r14, 0x100e
        CHECK_EQ "R15", r15, 0x100f
        CHECK_EQ "RSP", rsp, [main_rsp]
        movq rax, xmm7
        CHECK_EQ "XMM7", rax, 0x100f
        ret

clobber:
        mov rbx, -1
        mov r13, -1
        mov r14, -1
        mov r15, -1
        mov rbp, -1
        stc
        jmp count_apic

        .data
        .balign 8
counts: .fill 256, 8, 0
last_rip: .quad 0
nmi_nests: .quad 0
nmi_nested: .quad 0
variable: .quad 0
main_rsp: .quad 0
        .section .note.GNU-stack, "", @progbits
