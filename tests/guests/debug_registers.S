// SPDX-License-Identifier: Apache-2.0
/// @file Debug registers: breakpoints on execution, reads and writes, DR6, DR7, RF (SDM vol. 3B sections 18.2 and 18.3).
#include "guest.inc"

#define DR6_FIXED 0xffff0ff0
// DR7 for breakpoint 0: enabled locally or globally, its kind and length.
#define ON_EXECUTION 0x401
#define ON_WRITE_1 0x10401
#define ON_WRITE_2 0x50401
#define ON_WRITE_4 0xd0401
#define ON_WRITE_8 0x90401
#define ON_ACCESS_1 0x30401
#define ON_ACCESS_4 0xf0401
#define ON_ACCESS_8 0xb0401
#define ON_PORT_1 0x20401
#define ON_PORT_4 0xe0401

.macro SET_DR7 value
        mov eax, \value
        mov dr7, rax
.endm
.macro WATCH address, control
        mov eax, offset \address
        mov dr0, rax
        mov eax, DR6_FIXED
        mov dr6, rax
        SET_DR7 \control
.endm
.macro NO_WATCH
        SET_DR7 0x400
.endm
/// DR6 as it was at the `n`th event.
.macro DR6_OF n, bits
        mov rax, [log + 24 * \n + 16]
        xor eax, DR6_FIXED
        CHECK_EQ "DR6", rax, \bits
.endm

        GUEST_MAIN debug_registers
        call values
        call execution
        call writes
        call accesses
        call several
        call general_detect
        call user
        call ports
        call resume_flag
        NO_WATCH
        ret

values: CASE "fixed bits of DR6 and DR7"
        xor eax, eax
        mov dr6, rax
        mov rcx, dr6
        mov dr7, rax
        mov rdx, dr7
        mov esi, 0xffffffff
        mov dr6, rsi
        mov rsi, dr6
        CHECK_EQ "DR6", rcx, DR6_FIXED
        CHECK_EQ "DR7", rdx, 0x400
        CHECK_EQ "DR6 of ones", rsi, 0xffffefff
        CASE "DR0 to DR3 hold 64 bits"
        movabs rax, 0x123456789abcdef0
        mov dr0, rax
        inc rax
        mov dr1, rax
        inc rax
        mov dr2, rax
        inc rax
        mov dr3, rax
        mov rbx, dr0
        mov rcx, dr1
        mov rdx, dr2
        mov rsi, dr3
        CHECK_EQ "DR0", rbx, 0x123456789abcdef0
        CHECK_EQ "DR1", rcx, 0x123456789abcdef1
        CHECK_EQ "DR2", rdx, 0x123456789abcdef2
        CHECK_EQ "DR3", rsi, 0x123456789abcdef3
        CASE "upper half of DR7: #GP(0)"
        movabs rax, 0x100000400
1:      mov dr7, rax
        EXPECT_FAULT 13, 0, 1b
        CASE "upper half of DR6: #GP(0)"
        movabs rax, 0x1ffff0ff0
1:      mov dr6, rax
        EXPECT_FAULT 13, 0, 1b
        xor eax, eax
        mov dr1, rax
        mov dr2, rax
        mov dr3, rax
        ret

execution:
        CASE "a breakpoint on execution is a fault, without RF in the image"
        WATCH 2f, ON_EXECUTION
        xor ecx, ecx
        nop
2:      inc ecx
        EXPECT_FAULT 1, NO_ERROR_CODE, 2b
        CHECK_EQ "RCX: not executed", rcx, 0
        mov rax, [rec_rflags]
        and eax, FLAG_RF
        CHECK_EQ "RF", rax, 0
        DR6_OF 0, 1
        NO_WATCH
        CASE "IRET with RF runs it, once"
        HOOK 1, ignore
        WATCH 2f, ON_EXECUTION
        mov ecx, 3
2:      dec ecx
        jnz 2b
        NO_WATCH
        CHECK_EQ "events", [log_count], 3
        CHECK_EQ "RCX", rcx, 0
        CASE "in the middle of a block that has run before"
        call watched_function
        WATCH watched_place, ON_EXECUTION
        call watched_function
        mov ebx, eax
        NO_WATCH
        CHECK_EQ "events", [log_count], 1
        CHECK_EQ "RIP", [log+8], "offset watched_place"
        CHECK_EQ "result", rbx, 3
        CASE "and off again"
        call watched_function
        CHECK_EQ "events", [log_count], 0
        CASE "at the target of a jump and of a return"
        WATCH 2f, ON_EXECUTION
        mov eax, offset 2f
        jmp rax
        nop
2:      nop
        NO_WATCH
        CHECK_EQ "events", [log_count], 1
        CHECK_EQ "RIP", [log+8], "offset 2b"
        CASE "within an instruction it is none"
        WATCH 2f+1, ON_EXECUTION
2:      mov ecx, 5
        NO_WATCH
        CHECK_EQ "events", [log_count], 0
        CASE "on REP MOVSB: once before it"
        WATCH 2f, ON_EXECUTION
        mov esi, offset page_a
        mov edi, offset page_b
        mov ecx, 8
2:      rep movsb
        NO_WATCH
        CHECK_EQ "events", [log_count], 1
        CHECK_EQ "RCX", rcx, 0
        CASE "on an instruction that faults: the breakpoint first"
        HOOK 6, skip_ud2
        WATCH 2f, ON_EXECUTION
2:      ud2
        NO_WATCH
        UNHOOK 6
        CHECK_EQ "events", [log_count], 2
        CHECK_EQ "first", [log], 1
        CHECK_EQ "second", [log+24], 6
        CASE "and one that single-steps"
        HOOK 1, stop_stepping
        WATCH 2f, ON_EXECUTION
        pushfq
        or qword ptr [rsp], FLAG_TF
        popfq
        nop
2:      nop
3:      nop
        NO_WATCH
        // Behind the NOP the trap and the breakpoint meet.
        CHECK_EQ "RIP", [log+8], "offset 2b"
        mov rax, [log + 16]
        and eax, 0x4000
        CHECK_EQ "BS", rax, 0x4000
        HOOK 1, ignore
        CASE "in another alias of the page it is none"
        WATCH 2f, ON_EXECUTION
        ENTER_USER 2f
2:      int 0x80
3:      EXPECT_FAULT 0x80, NO_ERROR_CODE, 3b+USER
        CHECK_EQ "events", [log_count], 1
        NO_WATCH
        ret

/// Goes on; past an execution breakpoint by RF, which the image does not have.
ignore: mov rax, dr6
        mov rdx, dr7
        xor ecx, ecx
1:      bt eax, ecx
        jnc 2f
        lea ebx, [rcx * 4 + 16]
        bt edx, ebx
        jc 2f
        inc ebx
        bt edx, ebx
        jc 2f
        or qword ptr [rdi + FRAME_RFLAGS], FLAG_RF
2:      inc ecx
        cmp ecx, 4
        jne 1b
        ret
skip_ud2:
        add qword ptr [rdi + FRAME_RIP], 2
        ret
stop_stepping:
        and qword ptr [rdi + FRAME_RFLAGS], ~FLAG_TF
        or qword ptr [rdi + FRAME_RFLAGS], FLAG_RF
        ret
watched_function:
        mov eax, 1
watched_place:
        inc eax
        inc eax
        ret

writes:
        HOOK 1, ignore
.macro WRITE_CASE name, control, events, code:vararg
        CASE "\name"
        WATCH watched, \control
        mov ebx, offset watched
        mov edx, 1
        \code
7:      nop
        NO_WATCH
        CHECK_EQ "events", [log_count], \events
.endm
        CASE "a write is a trap, behind it, without RF"
        WATCH watched, ON_WRITE_4
        mov dword ptr [watched], 0x77
2:      nop
        NO_WATCH
        CHECK_EQ "events", [log_count], 1
        CHECK_EQ "RIP", [log+8], "offset 2b"
        CHECK_EQ "it is written", [watched], 0x77
        mov rax, [rec_rflags]
        and eax, FLAG_RF
        CHECK_EQ "RF", rax, 0
        DR6_OF 0, 1
        WRITE_CASE "a read is none", ON_WRITE_4, 0, mov eax, [rbx]
        WRITE_CASE "the byte before is none", ON_WRITE_4, 0, mov [rbx-1], dl
        WRITE_CASE "the byte behind is none", ON_WRITE_4, 0, mov [rbx+4], dl
        WRITE_CASE "the last byte is one", ON_WRITE_4, 1, mov [rbx+3], dl
        WRITE_CASE "a write that begins before is one", ON_WRITE_4, 1, mov [rbx-4], rdx
        WRITE_CASE "1 byte: its neighbour is none", ON_WRITE_1, 0, mov [rbx+1], dl
        WRITE_CASE "2 bytes: the second", ON_WRITE_2, 1, mov [rbx+1], dl
        WRITE_CASE "8 bytes: the last", ON_WRITE_8, 1, mov [rbx+7], dl
        WRITE_CASE "read-modify-write", ON_WRITE_4, 1, add [rbx], edx
        WRITE_CASE "locked", ON_WRITE_4, 1, lock xadd [rbx], edx
        WRITE_CASE "CMPXCHG", ON_WRITE_4, 1, cmpxchg [rbx], edx
        WRITE_CASE "an SSE store", ON_WRITE_4, 1, movups [rbx-8], xmm0
        WRITE_CASE "an x87 store", ON_WRITE_4, 1, fnstcw [rbx]
        WRITE_CASE "FXSAVE", ON_WRITE_4, 1, fxsave [rbx-32]
        mov edi, 64
        WRITE_CASE "BTS by a register", ON_WRITE_4, 1, bts [rbx-8], rdi
        mov edi, -8
        WRITE_CASE "BTS by a register, beside", ON_WRITE_4, 0, bts [rbx], rdi
        WRITE_CASE "SGDT", ON_WRITE_4, 1, sgdt [rbx]
        CASE "elsewhere in the page, and twice there"
        WATCH watched, ON_WRITE_4
        mov ebx, offset watched
        mov [rbx + 64], edx
        mov [rbx], edx
20:     inc dword ptr [rbx + 64]
        mov [rbx], edx
21:     mov [rbx + 68], edx
        NO_WATCH
        CHECK_EQ "events", [log_count], 2
        CHECK_EQ "first", [log+8], "offset 20b"
        CHECK_EQ "second", [log+24+8], "offset 21b"
        CASE "by PUSH and CALL"
        WATCH watched, ON_WRITE_8
        mov rbx, rsp
        mov esp, offset watched + 8
        push 1
20:     mov esp, offset watched + 8
        call 21f
21:     mov rsp, rbx
        NO_WATCH
        CHECK_EQ "events", [log_count], 2
        CHECK_EQ "first", [log+8], "offset 20b"
        CHECK_EQ "second", [log+24+8], "offset 21b"
        CASE "by REP STOSB: behind the turn that writes it, or a later one (fast string operation)"
        WATCH watched, ON_WRITE_1
        mov edi, offset watched - 2
        mov ecx, 5
2:      rep stosb
3:      nop
        NO_WATCH
        CHECK_EQ "events", [log_count], 1
        CHECK_EQ "RCX", rcx, 0
        mov rax, [log + 8]
        sub rax, offset 2b
        and rax, -3                     // STOSB has two bytes
        CHECK_EQ "RIP", rax, 0
        CASE "by MOVSQ"
        WATCH watched, ON_WRITE_1
        mov edi, offset watched
        mov esi, offset page_a
        movsq
3:      nop
        NO_WATCH
        CHECK_EQ "events", [log_count], 1
        CHECK_EQ "RIP", [log+8], "offset 3b"
        CASE "a write that faults is none"
        WATCH watched, ON_WRITE_4
        mov eax, WIN
        mov dr0, rax
        mov ebx, WIN
2:      mov [rbx], edx
        EXPECT_FAULT 14, 2, 2b, WIN
        CHECK_EQ "events", [log_count], 1
        NO_WATCH
        CASE "an interrupt's frame does not count as one by the handler"
        WATCH watched, ON_WRITE_4
        mov dword ptr [watched], 1
        mov dword ptr [watched], 2
        NO_WATCH
        CHECK_EQ "events", [log_count], 2
        CASE "a write behind MOV SS's shadow"
        WATCH watched, ON_WRITE_4
        mov eax, KDATA
        mov ss, eax
        mov dword ptr [watched], 2
2:      nop
        NO_WATCH
        CHECK_EQ "events", [log_count], 1
        CHECK_EQ "RIP", [log+8], "offset 2b"
        CASE "MOV SS from watched memory: one instruction later"
        mov word ptr [watched], KDATA
        WATCH watched, ON_ACCESS_1
        mov ss, [watched]
2:      nop
3:      nop
        NO_WATCH
        CHECK_EQ "events", [log_count], 1
        CHECK_EQ "RIP", [log+8], "offset 3b"
        ret

accesses:
        WRITE_CASE "a read", ON_ACCESS_4, 1, mov eax, [rbx]
        DR6_OF 0, 1
        WRITE_CASE "a write", ON_ACCESS_4, 1, mov [rbx], edx
        WRITE_CASE "a read beside", ON_ACCESS_4, 0, mov eax, [rbx+4]
        WRITE_CASE "a compare", ON_ACCESS_1, 1, cmp [rbx], dl
        WRITE_CASE "PUSH of memory", ON_ACCESS_8, 1, push [rbx]
        pop rax
        WRITE_CASE "an SSE operand", ON_ACCESS_4, 1, movups xmm1, [rbx-12]
        WRITE_CASE "a jump through memory beside", ON_ACCESS_4, 0, lea rax, [rbx]
        WRITE_CASE "execution is none", ON_ACCESS_1, 0, nop
        CASE "REP LODSB"
        WATCH watched, ON_ACCESS_1
        mov esi, offset watched - 1
        mov ecx, 3
2:      rep lodsb
        NO_WATCH
        CHECK_EQ "events", [log_count], 1
        mov rax, [log + 8]
        sub rax, offset 2b
        and rax, -3
        CHECK_EQ "RIP", rax, 0
        CASE "POP and RET from watched memory"
        mov rbx, rsp
        mov eax, offset 3f
        mov [watched], rax
        WATCH watched, ON_ACCESS_8
        mov esp, offset watched
        pop rcx
2:      mov esp, offset watched
        ret
3:      mov rsp, rbx
        NO_WATCH
        CHECK_EQ "events", [log_count], 2
        CHECK_EQ "first", [log+8], "offset 2b"
        CHECK_EQ "second", [log+24+8], "offset 3b"
        ret

several:
        CASE "all four at once"
        mov eax, offset watched
        mov dr0, rax
        inc eax
        mov dr1, rax
        inc eax
        mov dr2, rax
        mov eax, offset 2f
        mov dr3, rax
        mov eax, DR6_FIXED
        mov dr6, rax
        SET_DR7 0x01110455
        mov dword ptr [watched], 5
2:      nop
3:      nop
        mov rcx, dr6
        NO_WATCH
        // The trap of DR0 to DR2 at `2`, and DR3's fault there: as one event or as two.
        xor ecx, DR6_FIXED
        CHECK_EQ "DR6", rcx, 0xf
        CASE "not enabled, it is none"
        SET_DR7 0x01110400
        mov dword ptr [watched], 5
        NO_WATCH
        CHECK_EQ "events", [log_count], 0
        CASE "enabled globally"
        WATCH watched, 0xd0402
        mov dword ptr [watched], 5
2:      nop
        NO_WATCH
        CHECK_EQ "events", [log_count], 1
        CASE "address bits below the length do not count"
        WATCH watched+1, ON_WRITE_4
        mov byte ptr [watched], 5
        nop
        NO_WATCH
        CHECK_EQ "events", [log_count], 1
        xor eax, eax
        mov dr1, rax
        mov dr2, rax
        mov dr3, rax
        ret

general_detect:
        UNHOOK 1
        CASE "DR7.GD: MOV from a debug register is a fault"
        mov eax, DR6_FIXED
        mov dr6, rax
        SET_DR7 0x2400
1:      mov rcx, dr0
        EXPECT_FAULT 1, NO_ERROR_CODE, 1b
        DR6_OF 0, 0x2000
        CASE "and GD is cleared in the handler"
        mov rcx, dr7
        CHECK_EQ "DR7", rcx, 0x400
        HOOK 1, ignore
        ret

user:   CASE "a write by CPL 3, at its alias"
        mov eax, offset watched + USER
        mov dr0, rax
        mov eax, DR6_FIXED
        mov dr6, rax
        SET_DR7 ON_WRITE_4
        ENTER_USER user_write
        EXPECT_FAULT 0x80, NO_ERROR_CODE, user_write_end+USER
        CHECK_EQ "events", [log_count], 2
        lea rax, [user_write_2 + USER]
        CHECK_EQ "RIP", [log+8], rax
        CASE "an execution breakpoint at CPL 3"
        mov eax, offset user_write_2 + USER
        mov dr0, rax
        SET_DR7 ON_EXECUTION
        ENTER_USER user_write
        EXPECT_FAULT 0x80, NO_ERROR_CODE, user_write_end+USER
        CHECK_EQ "events", [log_count], 2
        lea rax, [user_write_2 + USER]
        CHECK_EQ "RIP", [log+8], rax
        NO_WATCH
        ret

/// Of the PCI address register, which has 32 bits, and of a port without a device.
ports:  HOOK 1, ignore
        CASE "DR4 with CR4.DE: #UD"
1:      .byte 0x0f, 0x21, 0xe0          // mov rax, dr4
        EXPECT_FAULT 6, NO_ERROR_CODE, 1b
.macro PORT_CASE name, port, control, events, code:vararg
        CASE "\name"
        mov eax, \port
        mov dr0, rax
        mov eax, DR6_FIXED
        mov dr6, rax
        mov edx, 0xcf8
        SET_DR7 \control
        mov eax, 0
        \code
7:      nop
        NO_WATCH
        CHECK_EQ "events", [log_count], \events
.endm
        PORT_CASE "a breakpoint on a port: IN", 0xcf8, ON_PORT_1, 1, in eax, dx
        CHECK_EQ "behind it", [log+8], "offset 7b"
        DR6_OF 0, 1
        PORT_CASE "OUT", 0xcf8, ON_PORT_1, 1, out dx, eax
        CHECK_EQ "behind it", [log+8], "offset 7b"
        DR6_OF 0, 1
        PORT_CASE "a byte of several", 0xcfb, ON_PORT_1, 1, in eax, dx
        PORT_CASE "four ports, of which one is read", 0xcf8, ON_PORT_4, 1, call one_of_four
        PORT_CASE "the port beside", 0xcfc, ON_PORT_1, 0, in eax, dx
        PORT_CASE "memory at the port's number", watched, ON_PORT_4, 0, mov ebx, [watched]
        PORT_CASE "REP OUTSB: at each turn", 0xe0, ON_PORT_1, 3, call three_outs
        CHECK_EQ "the first: at it", [log+8], "offset three_outs_place"
        CHECK_EQ "the last: behind it", [log+56], "offset three_outs_place + 2"
        PORT_CASE "REP INSB", 0xe0, ON_PORT_1, 3, call three_ins
        mov rax, cr4
        mov [saved_cr4], rax
        and eax, ~8
        mov cr4, rax
        CASE "DR4 and DR5 are DR6 and DR7 without CR4.DE"
        mov rcx, dr6
        .byte 0x0f, 0x21, 0xe2          // mov rdx, dr4
        .byte 0x0f, 0x21, 0xeb          // mov rbx, dr5
        CHECK_EQ "DR4", rdx, rcx
        CHECK_EQ "DR5", rbx, 0x400
        PORT_CASE "without CR4.DE there are none", 0xcf8, ON_PORT_1, 0, in eax, dx
        mov rax, [saved_cr4]
        mov cr4, rax
        ret

one_of_four:
        in al, 0xe0
        mov edx, 0xcfa
        in al, dx
        ret
three_outs:
        mov edx, 0xe0
        mov ecx, 3
        mov esi, offset watched
three_outs_place:
        rep outsb
        ret
three_ins:
        mov edx, 0xe0
        mov ecx, 3
        mov edi, offset watched
        rep insb
        ret

/// What is pushed for RF (SDM vol. 3B section 18.3.1.1).
resume_flag:
        HOOK 1, keep_flags
        CASE "between two turns of REP: RF"
        mov edx, 0xe0
        mov ecx, 2
        mov esi, offset watched
        mov eax, edx
        mov dr0, rax
        SET_DR7 ON_PORT_1
        rep outsb
        NO_WATCH
        mov rax, [kept_flags]
        mov rbx, [kept_flags + 8]
        and eax, FLAG_RF
        and ebx, FLAG_RF
        CHECK_EQ "first", rax, FLAG_RF
        CHECK_EQ "last", rbx, 0
        CASE "general detect: a fault, with RF"
        SET_DR7 0x2400
        mov rcx, dr0
        mov rax, [kept_flags]
        and eax, FLAG_RF
        CHECK_EQ "RF", rax, FLAG_RF
        HOOK 1, ignore
        ret

keep_flags:
        mov rcx, [log_count]
        mov rax, [rdi + FRAME_RFLAGS]
        mov [kept_flags + rcx * 8 - 8], rax
        ret

user_write:
        mov dword ptr [rip + watched], 3
user_write_2:
        int 0x80
user_write_end:

        .data
        .balign 128
        .skip 64
watched: .quad 0
kept_flags: .fill 8, 8, 0
saved_cr4: .quad 0
        .skip 512
        .section .note.GNU-stack, "", @progbits
