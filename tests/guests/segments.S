// SPDX-License-Identifier: Apache-2.0
/// @file Segments in 64-bit mode: loads and their faults, FS and GS bases, the LDT, far transfers and call gates.
#include "guest.inc"

        GUEST_MAIN segments
        mov rax, cr4
        mov [saved_cr4], rax
        call loads
        call bases
        call local_table
        call queries
        call far_transfers
        call gates
        call system_registers
        ret

.macro LOAD_FAULT name:req, selector:req, vector:req, error:req, reg=es
        CASE "\name"
        mov eax, \selector
1:      mov \reg, eax
        EXPECT_FAULT \vector, \error, 1b
.endm

loads:  LOAD_FAULT "beyond the GDT's limit: #GP(selector)", 0x1000, 13, 0x1000
        LOAD_FAULT "not present: #NP(selector)", NOT_PRESENT_DATA, 11, NOT_PRESENT_DATA
        LOAD_FAULT "not present, SS: #SS(selector)", NOT_PRESENT_DATA, 12, NOT_PRESENT_DATA, ss
        LOAD_FAULT "execute-only into a data segment: #GP(selector)", EXECUTE_ONLY, 13, EXECUTE_ONLY, ds
        LOAD_FAULT "a TSS into a data segment: #GP(selector)", TSS_SELECTOR, 13, TSS_SELECTOR, fs
        LOAD_FAULT "read-only into SS: #GP(selector)", READ_ONLY_DATA, 13, READ_ONLY_DATA, ss
        LOAD_FAULT "code into SS: #GP(selector)", KCODE, 13, KCODE, ss
        LOAD_FAULT "DPL 3 into SS at CPL 0: #GP(selector)", UDATA, 13, (UDATA-3), ss
        LOAD_FAULT "RPL 3 into SS at CPL 0: #GP(selector)", (KDATA+3), 13, KDATA, ss
        LOAD_FAULT "RPL 3, DPL 0 into ES: #GP(selector)", (KDATA+3), 13, KDATA
        LOAD_FAULT "LDT selector without an LDT: #GP(selector)", 0xc, 13, 0xc
        CASE "null into SS with RPL 3 at CPL 0: #GP(0)"
        mov eax, 3
1:      mov ss, eax
        EXPECT_FAULT 13, 0, 1b
        CASE "null into SS at CPL 0, and a push"
        xor eax, eax
        mov ss, eax
        push 5
        pop rcx
        mov eax, ss
        mov edx, KDATA
        mov ss, edx
        CHECK_EQ "SS", rax, 0
        CHECK_EQ "popped", rcx, 5
        CASE "null into ES, FS, GS, DS"
        xor eax, eax
        mov es, eax
        mov ds, eax
        mov fs, eax
        mov gs, eax
        mov rcx, [variable]
        mov rdx, gs:[variable]
        mov eax, KDATA
        mov ds, eax
        mov es, eax
        CHECK_EQ "read by GS", rdx, rcx
        CASE "MOV to CS: #UD"
1:      .byte 0x8e, 0xc8
        EXPECT_FAULT 6, NO_ERROR_CODE, 1b
        CASE "the accessed bit is set by a load"
        btr qword ptr [gdt + UDATA - 3], 40
        mov eax, UDATA
        mov es, eax
        bt qword ptr [gdt + UDATA - 3], 40
        setc al
        movzx eax, al
        CHECK_EQ "accessed", rax, 1
        CASE "and not by one that faults"
        btr qword ptr [gdt + READ_ONLY_DATA], 40
        mov eax, READ_ONLY_DATA
1:      mov ss, eax
        EXPECT_FAULT 13, READ_ONLY_DATA, 1b
        bt qword ptr [gdt + READ_ONLY_DATA], 40
        setc al
        movzx eax, al
        CHECK_EQ "accessed", rax, 0
        CASE "MOV from a segment register: 16, 32 and 64 bits, memory"
        mov rax, -1
        mov rcx, -1
        mov rdx, -1
        mov ax, ds
        mov ecx, ds
        mov rdx, ds
        mov qword ptr [variable], -1
        mov [variable], ds
        CHECK_EQ "16", rax, 0xffffffffffff0010
        CHECK_EQ "32", rcx, 0x10
        CHECK_EQ "64", rdx, 0x10
        CHECK_EQ "memory", [variable], 0xffffffffffff0010
        mov eax, KDATA
        mov es, eax
        ret

bases:  CASE "FS and GS bases by MSR"
        WRITE_MSR 0xc0000100, 0x123456789abc
        WRITE_MSR 0xc0000101, 0xffff800000001000
        mov ecx, 0xc0000100
        rdmsr
        mov r8d, edx
        shl r8, 32
        or r8, rax
        CHECK_EQ "FS", r8, 0x123456789abc
        CASE "a non-canonical base: #GP(0)"
        mov ecx, 0xc0000101
        mov edx, 0x8000
        xor eax, eax
1:      wrmsr
        EXPECT_FAULT 13, 0, 1b
        CASE "a base and an offset that make a non-canonical address: #GP(0)"
1:      mov rax, gs:[0xffffffff80000000]
        EXPECT_FAULT 13, 0, 1b
        CASE "SWAPGS"
        WRITE_MSR 0xc0000101, page_a
        WRITE_MSR 0xc0000102, page_b
        mov qword ptr [page_a], 0xa
        mov qword ptr [page_b], 0xb
        mov r8, gs:[0]
        swapgs
        mov r9, gs:[0]
        mov ecx, 0xc0000102
        rdmsr
        mov r10d, eax
        swapgs
        mov r11, gs:[0]
        CHECK_EQ "before", r8, 0xa
        CHECK_EQ "swapped", r9, 0xb
        CHECK_EQ "kernel GS base", r10, "offset page_a"
        CHECK_EQ "back", r11, 0xa
        CASE "a selector load sets the base's low half and clears the rest"
        WRITE_MSR 0xc0000100, 0x123456789abc
        mov eax, BASED_DATA - 3 + 3
        mov fs, eax
        mov ecx, 0xc0000100
        rdmsr
        shl rdx, 32
        or rax, rdx
        CHECK_EQ "base", rax, 0x123456
        CASE "a null selector clears the base, as Intel's processors do"
        WRITE_MSR 0xc0000100, 0x123456789abc
        xor eax, eax
        mov fs, eax
        mov ecx, 0xc0000100
        rdmsr
        or eax, edx
        CHECK_EQ "base", rax, 0
        mov eax, 7
        xor ecx, ecx
        cpuid
        bt ebx, 0
        jnc 5f
        CASE "RDFSBASE without CR4.FSGSBASE: #UD"
1:      rdfsbase rax
        EXPECT_FAULT 6, NO_ERROR_CODE, 1b
        mov rax, cr4
        bts rax, 16
        mov cr4, rax
        CASE "WRFSBASE and RDFSBASE"
        mov r13, offset page_a
        wrfsbase r13
        rdfsbase r14
        mov r15, fs:[0]
        CHECK_EQ "base", r14, "offset page_a"
        CHECK_EQ "content", r15, 0xa
        CASE "32-bit forms"
        mov rax, -1
        wrgsbase eax
        rdgsbase rcx
        mov rdx, -1
        rdgsbase edx
        CHECK_EQ "written", rcx, 0xffffffff
        CHECK_EQ "read", rdx, 0xffffffff
        CASE "a non-canonical base: #GP(0)"
        movabs rax, 0x800000000000
1:      wrfsbase rax
        EXPECT_FAULT 13, 0, 1b
        CASE "WRGSBASE at CPL 3"
        ENTER_USER user_wrgsbase
        EXPECT_FAULT 0x80, NO_ERROR_CODE, user_wrgsbase_end+USER
        rdgsbase rcx
        CHECK_EQ "base", rcx, 0x7777
        mov rax, [saved_cr4]
        mov cr4, rax
5:      CASE "a return to CPL 3 drops segments of CPL 0"
        mov eax, KDATA
        mov ds, eax
        mov es, eax
        ENTER_USER user_segments
        EXPECT_FAULT 0x80, NO_ERROR_CODE, user_segments_end+USER
        CHECK_EQ "DS", [saved_registers+FRAME_RBX], 0
        CHECK_EQ "ES", [saved_registers+FRAME_RCX], 0
        ret

user_wrgsbase:
        mov eax, 0x7777
        wrgsbase rax
        int 0x80
user_wrgsbase_end:
user_segments:
        mov ebx, ds
        mov ecx, es
        int 0x80
user_segments_end:

local_table:
        CASE "LLDT and SLDT"
        mov eax, LDT_SELECTOR
        lldt ax
        sldt ecx
        CHECK_EQ "LDT", rcx, LDT_SELECTOR
        CASE "a segment of the LDT"
        mov eax, 0xc | 3
        mov es, eax
        mov ecx, es
        mov eax, KDATA
        mov es, eax
        CHECK_EQ "ES", rcx, 0xf
        CASE "beyond the LDT's limit: #GP(selector)"
        mov eax, 0x24
1:      mov es, eax
        EXPECT_FAULT 13, 0x24, 1b
        CASE "user code in a segment of the LDT"
        push 0xf
        push offset user_stack_top + USER
        push 2
        push 0x17
        push offset user_int80 + USER
        iretq
        EXPECT_FAULT 0x80, NO_ERROR_CODE, user_int80_end+USER
        CHECK_EQ "CS", [rec_cs], 0x17
        CHECK_EQ "SS", [rec_ss], 0xf
        CASE "LLDT of a data segment: #GP(selector)"
        mov eax, KDATA
1:      lldt ax
        EXPECT_FAULT 13, KDATA, 1b
        CASE "LLDT of an LDT selector: #GP(selector)"
        mov eax, 0xc
1:      lldt ax
        EXPECT_FAULT 13, 0xc, 1b
        CASE "LLDT of null"
        xor eax, eax
        lldt ax
        sldt rcx
        CHECK_EQ "LDT", rcx, 0
        ret

user_int80:
        int 0x80
user_int80_end:

queries:
        CASE "LAR and LSL"
        mov ecx, UCODE64
        lar eax, ecx
        setz bl
        lsl edx, ecx
        movzx ebx, bl
        and eax, 0x00f0ff00
        CHECK_EQ "ZF", rbx, 1
        CHECK_EQ "LAR", rax, 0x00a0fb00
        CHECK_EQ "LSL", rdx, 0xffffffff
        CASE "LAR of nothing clears ZF and keeps the register"
        mov ecx, 0x1000
        mov rax, 77
        lar eax, ecx
        setz bl
        movzx ebx, bl
        CHECK_EQ "ZF", rbx, 0
        CHECK_EQ "RAX", rax, 77
        CASE "LSL of a limit without G"
        mov ecx, SMALL_DATA
        lsl rax, rcx
        CHECK_EQ "LSL", rax, 0xfff
        CASE "VERR and VERW"
        mov ecx, READ_ONLY_DATA
        verr cx
        setz al
        verw cx
        setz bl
        mov ecx, EXECUTE_ONLY
        verr cx
        setz dl
        movzx eax, al
        movzx ebx, bl
        movzx edx, dl
        CHECK_EQ "VERR of read-only", rax, 1
        CHECK_EQ "VERW of read-only", rbx, 0
        CHECK_EQ "VERR of execute-only", rdx, 0
        ret

far_transfers:
        CASE "far return to the same level"
        mov rbx, rsp
        push KCODE
        push offset 2f
        retfq
2:      CHECK_EQ "RSP", rsp, rbx
        CASE "far return with release"
        push 1
        push 2
        push KCODE
        push offset 2f
        .byte 0x48, 0xca, 16, 0         // retfq 16
2:      CHECK_EQ "RSP", rsp, rbx
        CASE "far return to CPL 3"
        push UDATA
        push offset user_stack_top + USER
        push UCODE64
        push offset user_int80 + USER
        retfq
        EXPECT_FAULT 0x80, NO_ERROR_CODE, user_int80_end+USER
        CHECK_EQ "CS", [rec_cs], UCODE64
        CASE "far return to a segment that is not present: #NP(selector)"
        push NOT_PRESENT_CODE
        push offset 2f
2:      retfq
        EXPECT_FAULT 11, NOT_PRESENT_CODE, 2b
        CASE "far return to a data segment: #GP(selector)"
        push KDATA
        push offset 2f
2:      retfq
        EXPECT_FAULT 13, KDATA, 2b
        CASE "far call and return, 32-bit pointer"
        mov rbx, rsp
        call fword ptr [pointer]
        CHECK_EQ "result", rax, 0x99
        CHECK_EQ "RSP", rsp, rbx
        CASE "far call to conforming code: CPL stays"
        mov word ptr [pointer + 4], CONFORMING_CODE
        call fword ptr [pointer]
        mov word ptr [pointer + 4], KCODE
        CHECK_EQ "CS", rcx, CONFORMING_CODE
        CASE "far jump by a null selector: #GP(0)"
        mov word ptr [pointer + 4], 0
1:      jmp fword ptr [pointer]
        EXPECT_FAULT 13, 0, 1b
        CASE "far jump to CPL 3's code: #GP(selector)"
        mov word ptr [pointer + 4], UCODE64
1:      jmp fword ptr [pointer]
        EXPECT_FAULT 13, (UCODE64-3), 1b
        CASE "far jump to data: #GP(selector)"
        mov word ptr [pointer + 4], KDATA
1:      jmp fword ptr [pointer]
        EXPECT_FAULT 13, KDATA, 1b
        CASE "far jump to code that is not present: #NP(selector)"
        mov word ptr [pointer + 4], NOT_PRESENT_CODE
1:      jmp fword ptr [pointer]
        EXPECT_FAULT 11, NOT_PRESENT_CODE, 1b
        CASE "far jump to a TSS: #GP(selector)"
        mov word ptr [pointer + 4], AVAILABLE_TSS
1:      jmp fword ptr [pointer]
        EXPECT_FAULT 13, AVAILABLE_TSS, 1b
        mov word ptr [pointer + 4], KCODE
        CASE "far jump and call by immediate pointer: #UD in 64-bit mode"
1:      .byte 0xea, 0, 0, 0, 0, 8, 0
        EXPECT_FAULT 6, NO_ERROR_CODE, 1b
        ret

far_function:
        mov eax, 0x99
        mov ecx, cs
        .byte 0xcb                      // 32-bit operands, as the call had

/// Fills a call gate's 16 bytes.
.macro GATE place, target, selector, rights
        mov eax, offset \target
        mov [gdt + \place], ax
        mov word ptr [gdt + \place + 2], \selector
        mov word ptr [gdt + \place + 4], \rights
        shr eax, 16
        mov [gdt + \place + 6], ax
        mov qword ptr [gdt + \place + 8], 0
.endm

gates:  GATE CALL_GATE, gate_target, KCODE, 0xec00
        GATE CALL_GATE_DPL0, gate_target, KCODE, 0x8c00
        GATE NOT_PRESENT_GATE, gate_target, KCODE, 0x6c00
        mov dword ptr [pointer], 0
        CASE "a call gate at CPL 0"
        mov word ptr [pointer + 4], CALL_GATE
        mov rbx, rsp
        call fword ptr [pointer]
        CHECK_EQ "result", rax, 0x6a7e
        CHECK_EQ "RSP", rsp, rbx
        CASE "a call gate from CPL 3"
        mov word ptr [pointer + 4], CALL_GATE + 3
        ENTER_USER user_gate
        EXPECT_FAULT 0x80, NO_ERROR_CODE, user_gate_end+USER
        CHECK_EQ "CS there", [gate_cs], KCODE
        CHECK_EQ "SS there", [gate_ss], 0
        CHECK_EQ "CS pushed", [gate_frame+8], UCODE64
        CHECK_EQ "SS pushed", [gate_frame+24], UDATA
        lea rax, [user_stack_top + USER]
        CHECK_EQ "RSP pushed", [gate_frame+16], rax
        CHECK_EQ "RSP afterwards", [rec_rsp], rax
        mov rax, [tss + 4]
        sub rax, 32
        CHECK_EQ "RSP there", [gate_rsp], rax
        CASE "a gate for CPL 0 from CPL 3: #GP(selector)"
        mov word ptr [pointer + 4], CALL_GATE_DPL0 + 3
        ENTER_USER user_gate
        EXPECT_FAULT 13, CALL_GATE_DPL0, user_gate+USER
        CASE "a gate that is not present: #NP(selector)"
        mov word ptr [pointer + 4], NOT_PRESENT_GATE + 3
        ENTER_USER user_gate
        EXPECT_FAULT 11, NOT_PRESENT_GATE, user_gate+USER
        CASE "a far jump by a gate at CPL 0"
        mov word ptr [pointer + 4], CALL_GATE
        GATE CALL_GATE, 2f, KCODE, 0xec00
        jmp fword ptr [pointer]
2:      EXPECT_NONE
        mov dword ptr [pointer], offset far_function
        mov word ptr [pointer + 4], KCODE
        ret

gate_target:
        mov [gate_rsp], rsp
        mov eax, cs
        mov [gate_cs], rax
        mov eax, ss
        mov [gate_ss], rax
        mov rax, [rsp]
        mov [gate_frame], rax
        mov rax, [rsp + 8]
        mov [gate_frame + 8], rax
        mov rax, [rsp + 16]
        mov [gate_frame + 16], rax
        mov rax, [rsp + 24]
        mov [gate_frame + 24], rax
        mov eax, 0x6a7e
        retfq

user_gate:
        call fword ptr [rip + pointer]
        int 0x80
user_gate_end:

system_registers:
        CASE "SGDT, SIDT"
        sgdt [variable]
        movzx eax, word ptr [variable]
        mov rcx, [variable + 2]
        sidt [variable]
        mov rdx, [variable + 2]
        CHECK_EQ "GDT limit", rax, GDT_LIMIT
        CHECK_EQ "GDT base", rcx, "offset gdt"
        CHECK_EQ "IDT base", rdx, "offset idt"
        CASE "LGDT of a non-canonical base: #GP(0)"
        mov word ptr [variable], 0xff
        movabs rax, 0x800000000000
        mov [variable + 2], rax
1:      lgdt [variable]
        EXPECT_FAULT 13, 0, 1b
        CASE "STR, and LTR makes the TSS busy"
        str ecx
        movzx edx, byte ptr [gdt + TSS_SELECTOR + 5]
        CHECK_EQ "TR", rcx, TSS_SELECTOR
        CHECK_EQ "type", rdx, 0x8b
        CASE "LTR of a busy TSS: #GP(selector)"
        mov eax, TSS_SELECTOR
1:      ltr ax
        EXPECT_FAULT 13, TSS_SELECTOR, 1b
        CASE "LTR of data: #GP(selector)"
        mov eax, KDATA
1:      ltr ax
        EXPECT_FAULT 13, KDATA, 1b
        CASE "LTR of null: #GP(0)"
        xor eax, eax
1:      ltr ax
        EXPECT_FAULT 13, 0, 1b
        CASE "SMSW, LMSW: PE stays"
        smsw eax
        mov rcx, cr0
        xor edx, edx
        mov edx, ecx
        and edx, 0xfffe
        lmsw dx
        mov rdx, cr0
        CHECK_EQ "SMSW", rax, rcx
        CHECK_EQ "CR0", rdx, rcx
        ret

        .data
        .balign 16
variable: .quad 0x1234567812345678, 0
saved_cr4: .quad 0
pointer: .long far_function
        .word KCODE
        .balign 8
gate_rsp: .quad 0
gate_cs: .quad 0
gate_ss: .quad 0
gate_frame: .quad 0, 0, 0, 0
        .section .note.GNU-stack, "", @progbits
