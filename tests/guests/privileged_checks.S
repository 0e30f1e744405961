// SPDX-License-Identifier: Apache-2.0
/// @file Values that privileged registers refuse, and what LAR, LSL, VERR and VERW say of every type of descriptor.
#include "guest.inc"

/// WRMSR of the value raises #GP(0).
.macro MSR_REFUSES name, index, value
        CASE "\name: #GP(0)"
        mov ecx, \index
        movabs rax, \value
        mov rdx, rax
        shr rdx, 32
1:      wrmsr
        EXPECT_FAULT 13, 0, 1b
.endm
/// WRMSR takes the value, and RDMSR gives it back.
.macro MSR_TAKES name, index, value
        CASE "\name"
        mov ecx, \index
        rdmsr
        mov r8, rax
        mov r9, rdx
        movabs rax, \value
        mov rdx, rax
        shr rdx, 32
        wrmsr
        rdmsr
        shl rdx, 32
        or rdx, rax
        mov rbx, rdx
        mov rax, r8
        mov rdx, r9
        wrmsr
        movabs rsi, \value
        CHECK_EQ "value", rbx, rsi
.endm
.macro CR_REFUSES name, register, bits
        CASE "\name: #GP(0)"
        mov rax, \register
        movabs rcx, \bits
        xor rax, rcx
1:      mov \register, rax
        EXPECT_FAULT 13, 0, 1b
.endm

        GUEST_MAIN privileged_checks
        call registers
        call msrs
        call extended
        call invalidation
        call descriptors
        call gates
        call shadow
        ret

registers:
        CR_REFUSES "CR0.NW without CD", cr0, 1 << 29
        CR_REFUSES "CR0.PG off in 64-bit code", cr0, 1 << 31
        CR_REFUSES "CR0.PE off", cr0, 1
        CR_REFUSES "CR4.VMXE", cr4, 1 << 13
        CR_REFUSES "CR4.LA57", cr4, 1 << 12
        CR_REFUSES "CR4.CET", cr4, 1 << 23
        CR_REFUSES "CR4.PKE", cr4, 1 << 22
        CR_REFUSES "CR4, upper half", cr4, 1 << 32
        CR_REFUSES "CR3 beyond the physical address size", cr3, 1 << 51
        CR_REFUSES "CR3 bit 63 without PCIDE", cr3, 1 << 63
        CASE "CR0.ET is fixed, reserved bits are ignored"
        mov rax, cr0
        mov rbx, rax
        and eax, ~0x10
        or eax, 0x40
        mov cr0, rax
        mov rcx, cr0
        mov cr0, rbx
        CHECK_EQ "CR0", rcx, rbx
        CASE "CR8 has 4 bits: #GP(0) beyond"
        mov eax, 16
1:      mov cr8, rax
        EXPECT_FAULT 13, 0, 1b
        CASE "CR8"
        mov eax, 15
        mov cr8, rax
        mov rbx, cr8
        xor eax, eax
        mov cr8, rax
        mov rcx, cr8
        CHECK_EQ "15", rbx, 15
        CHECK_EQ "0", rcx, 0
        CASE "CR5: #UD"
1:      .byte 0x0f, 0x20, 0xe8          // mov rax, cr5
        EXPECT_FAULT 6, NO_ERROR_CODE, 1b
        CASE "CR9: #UD"
1:      .byte 0x44, 0x0f, 0x20, 0xc8    // mov rax, cr9
        EXPECT_FAULT 6, NO_ERROR_CODE, 1b
        CASE "DR8: #UD"
1:      .byte 0x44, 0x0f, 0x21, 0xc0    // mov rax, dr8
        EXPECT_FAULT 6, NO_ERROR_CODE, 1b
        CASE "CR4.PCIDE with a PCID in CR3: #GP(0)"
        mov eax, 1
        xor ecx, ecx
        cpuid
        bt ecx, 17
        jnc 5f
        mov rbx, cr3
        lea rax, [rbx + 8]              // PWT
        mov cr3, rax
        mov rax, cr4
        bts rax, 17
1:      mov cr4, rax
        EXPECT_FAULT 13, 0, 1b
        mov cr3, rbx
5:      ret

msrs:   MSR_REFUSES "LSTAR", 0xc0000082, 0x800000000000
        MSR_REFUSES "CSTAR", 0xc0000083, 0xffff7fffffffffff
        MSR_REFUSES "KERNEL_GS_BASE", 0xc0000102, 0x8000000000000000
        MSR_REFUSES "SYSENTER_EIP", 0x176, 0x800000000000
        MSR_REFUSES "SYSENTER_ESP", 0x175, 0x800000000000
        MSR_REFUSES "FMASK", 0xc0000084, 1 << 32
        MSR_REFUSES "TSC_AUX", 0xc0000103, 1 << 32
        MSR_REFUSES "EFER, reserved", 0xc0000080, 0xd03
        MSR_REFUSES "EFER.LME off under paging", 0xc0000080, 0x801
        MSR_REFUSES "PAT, type 2", 0x277, 0x0007040600070206
        MSR_REFUSES "PAT, type 8", 0x277, 0x0807040600070406
        MSR_TAKES "PAT", 0x277, 0x0107040500070406
        MSR_REFUSES "MTRR_DEF_TYPE, type 2", 0x2ff, 0xc02
        MSR_REFUSES "MTRR_DEF_TYPE, reserved", 0x2ff, 0x1c06
        MSR_TAKES "MTRR_DEF_TYPE", 0x2ff, 0xc06
        MSR_REFUSES "MTRR_FIX64K, type 3", 0x250, 0x0606060306060606
        MSR_TAKES "MTRR_FIX64K", 0x250, 0x0606060406060606
        MSR_REFUSES "MTRR_PHYSBASE0, type 7", 0x200, 0x80000007
        MSR_REFUSES "MTRR_PHYSBASE0, reserved", 0x200, 0x80000106
        MSR_REFUSES "MTRR_PHYSBASE0, beyond the physical address size", 0x200, 0x8000000000000006
        MSR_REFUSES "MTRR_PHYSMASK0, reserved", 0x201, 0xc0000400
        MSR_REFUSES "MTRR_PHYSMASK0, beyond the physical address size", 0x201, 0x80000000c0000800
        MSR_TAKES "MTRR_PHYSBASE0", 0x200, 0x80000000
        MSR_TAKES "MTRR_PHYSMASK0", 0x201, 0xc0000800
        MSR_REFUSES "MTRRCAP is read-only", 0xfe, 0
        MSR_REFUSES "ARCH_CAPABILITIES is read-only", 0x10a, 0
        MSR_REFUSES "APIC_BASE, reserved", 0x1b, 0xfee00901
        MSR_REFUSES "APIC_BASE: x2APIC without the APIC", 0x1b, 0xfee00500
        MSR_REFUSES "x2APIC registers without x2APIC mode", 0x808, 0
        MSR_REFUSES "PRED_CMD, reserved", 0x49, 0x100
        CASE "PRED_CMD is write-only: #GP(0)"
        mov ecx, 0x49
1:      rdmsr
        EXPECT_FAULT 13, 0, 1b
        CASE "SYSENTER_CS holds 32 bits"
        mov ecx, 0x174
        mov eax, 8
        mov edx, 0x77
        wrmsr
        rdmsr
        CHECK_EQ "upper half", rdx, 0
        ret

extended:
        mov eax, 1
        xor ecx, ecx
        cpuid
        bt ecx, 26
        jnc 5f
        CASE "XGETBV without CR4.OSXSAVE: #UD"
        xor ecx, ecx
1:      xgetbv
        EXPECT_FAULT 6, NO_ERROR_CODE, 1b
        mov rax, cr4
        mov rbx, rax
        bts rax, 18
        mov cr4, rax
        CASE "XSETBV of another register: #GP(0)"
        mov ecx, 1
        mov eax, 1
        xor edx, edx
1:      xsetbv
        EXPECT_FAULT 13, 0, 1b
        CASE "XSETBV of a component that is not there: #GP(0)"
        xor ecx, ecx
        mov eax, 3
        mov edx, 1 << 30
1:      xsetbv
        EXPECT_FAULT 13, 0, 1b
        CASE "XSETBV with a memory-like prefix: #UD"
1:      .byte 0x66, 0x0f, 0x01, 0xd1
        EXPECT_FAULT 6, NO_ERROR_CODE, 1b
        CASE "XGETBV of another register: #GP(0)"
        mov ecx, 2
1:      xgetbv
        EXPECT_FAULT 13, 0, 1b
        CASE "XRSTOR: reserved bytes of the header: #GP(0)"
        mov qword ptr [page_a + 512], 0
        mov qword ptr [page_a + 520], 0
        mov qword ptr [page_a + 528], 1
        mov eax, 3
        xor edx, edx
1:      xrstor [page_a]
        EXPECT_FAULT 13, 0, 1b
        CASE "XRSTOR: components beyond XCR0: #GP(0)"
        mov qword ptr [page_a + 528], 0
        mov byte ptr [page_a + 512 + 7], 0x80
1:      xrstor [page_a]
        EXPECT_FAULT 13, 0, 1b
        mov byte ptr [page_a + 512 + 7], 0
        CASE "XSAVE to an address that is no multiple of 64: #GP(0)"
1:      xsave [page_a + 32]
        EXPECT_FAULT 13, 0, 1b
        mov cr4, rbx
5:      ret

invalidation:
        CASE "INVLPG of a non-canonical address is nothing"
        movabs rax, 0x800000000000
        invlpg [rax]
        EXPECT_NONE
        mov eax, 7
        xor ecx, ecx
        cpuid
        bt ebx, 10
        jnc 5f
.macro INVPCID_REFUSES name, type, first, second
        CASE "INVPCID, \name: #GP(0)"
        movabs rax, \first
        mov [page_a], rax
        movabs rax, \second
        mov [page_a + 8], rax
        mov eax, \type
1:      invpcid rax, [page_a]
        EXPECT_FAULT 13, 0, 1b
.endm
        INVPCID_REFUSES "type 4", 4, 0, 0
        INVPCID_REFUSES "reserved bits", 2, 0x1000, 0
        INVPCID_REFUSES "a PCID without PCIDE", 0, 5, 0
        INVPCID_REFUSES "a PCID without PCIDE, type 1", 1, 5, 0
        INVPCID_REFUSES "a non-canonical address", 0, 0, 0x800000000000
        CASE "INVPCID of all, with a PCID that does not count"
        mov qword ptr [page_a], 5
        mov eax, 2
        invpcid rax, [page_a]
        EXPECT_NONE
        CASE "INVPCID at CPL 3: #GP(0)"
        ENTER_USER user_invpcid
        EXPECT_FAULT 13, 0, user_invpcid+USER
5:      ret
user_invpcid:
        invpcid rax, [rip + page_a]

/// Every type of descriptor, S = 0 and 1, in one place of the GDT, at CPL 0.
descriptors:
        xor ebp, ebp                    // LAR, LSL, VERR, VERW: a bit for each type
        xor r12d, r12d
        xor r13d, r13d
        xor r14d, r14d
        mov r15d, 31
        CASE "LAR, LSL, VERR and VERW of all types"
2:      mov eax, r15d
        or eax, 0x80
        mov byte ptr [gdt + CALL_GATE + 5], al
        mov word ptr [gdt + CALL_GATE], 0x1234
        mov byte ptr [gdt + CALL_GATE + 6], 0
        mov ecx, CALL_GATE
        lar eax, ecx
        setz bl
        movzx ebx, bl
        lea ebp, [rbp * 2 + rbx]
        lsl eax, ecx
        setz bl
        movzx ebx, bl
        lea r12d, [r12 * 2 + rbx]
        verr cx
        setz bl
        movzx ebx, bl
        lea r13d, [r13 * 2 + rbx]
        verw cx
        setz bl
        movzx ebx, bl
        lea r14d, [r14 * 2 + rbx]
        dec r15d
        jns 2b
        mov r15d, 0xffff1a04
        CHECK_EQ "LAR: LDT, TSS, call gate", rbp, r15
        mov r15d, 0xffff0a04
        CHECK_EQ "LSL: LDT, TSS", r12, r15
        mov r15d, 0xccff0000
        CHECK_EQ "VERR", r13, r15
        CHECK_EQ "VERW", r14, 0x00cc0000
        mov qword ptr [gdt + CALL_GATE], 0
        ret

.macro GATE place, target, selector, rights
        mov eax, offset \target
        mov [gdt + \place], ax
        mov word ptr [gdt + \place + 2], \selector
        mov word ptr [gdt + \place + 4], \rights
        shr eax, 16
        mov [gdt + \place + 6], ax
        mov qword ptr [gdt + \place + 8], 0
.endm
gates:  CASE "a call gate to 32-bit code: #GP(selector)"
        GATE CALL_GATE, gates, KCODE32, 0xec00
        mov word ptr [pointer + 4], CALL_GATE
1:      call fword ptr [pointer]
        EXPECT_FAULT 13, KCODE32, 1b
        CASE "a call gate to a null selector: #GP(0)"
        GATE CALL_GATE, gates, 0, 0xec00
1:      call fword ptr [pointer]
        EXPECT_FAULT 13, 0, 1b
        CASE "a call gate to data: #GP(selector)"
        GATE CALL_GATE, gates, KDATA, 0xec00
1:      call fword ptr [pointer]
        EXPECT_FAULT 13, KDATA, 1b
        CASE "a call gate to a non-canonical address: #GP(0)"
        GATE CALL_GATE, gates, KCODE, 0xec00
        mov dword ptr [gdt + CALL_GATE + 8], 0x8000
1:      call fword ptr [pointer]
        EXPECT_FAULT 13, 0, 1b
        CASE "a call gate whose upper half has a type: #GP(selector)"
        GATE CALL_GATE, gates, KCODE, 0xec00
        mov dword ptr [gdt + CALL_GATE + 12], 0x0c00
1:      call fword ptr [pointer]
        EXPECT_FAULT 13, CALL_GATE, 1b
        CASE "a task gate: #GP(selector)"
        GATE CALL_GATE, gates, TSS_SELECTOR, 0xe500
1:      call fword ptr [pointer]
        EXPECT_FAULT 13, CALL_GATE, 1b
        CASE "a 16-bit call gate: #GP(selector)"
        GATE CALL_GATE, gates, KCODE, 0xe400
1:      call fword ptr [pointer]
        EXPECT_FAULT 13, CALL_GATE, 1b
        CASE "a far jump by a gate to an inner level: #GP(selector)"
        GATE CALL_GATE, gates, KCODE, 0xec00
        mov word ptr [pointer + 4], CALL_GATE + 3
        ENTER_USER user_jump
        EXPECT_FAULT 13, KCODE, user_jump+USER
        CASE "an IDT gate's offset that is not canonical: #GP(0)"
        mov dword ptr [idt + 16 * 0x90 + 8], 0x8000
1:      int 0x90
        EXPECT_FAULT 13, 0, 1b
        mov dword ptr [idt + 16 * 0x90 + 8], 0
        CASE "a task gate in the IDT: #GP with the vector"
        mov byte ptr [idt + 16 * 0x90 + 5], 0x85
1:      int 0x90
        EXPECT_FAULT 13, 0x482, 1b
        mov byte ptr [idt + 16 * 0x90 + 5], 0x8e
        ret
user_jump:
        jmp fword ptr [rip + pointer]

/// MOV SS holds debug traps off for one instruction.
shadow: HOOK 1, keep_event
        CASE "a data breakpoint met by MOV SS comes after the next instruction"
        mov eax, offset stack_selector
        mov dr0, rax
        mov eax, 0xffff0ff0
        mov dr6, rax
        mov eax, 0xf0401                // accesses, 4 bytes
        mov dr7, rax
        mov ss, [stack_selector]
        nop
2:      mov eax, 0x400
        mov dr7, rax
        CHECK_EQ "events", [log_count], 1
        CHECK_EQ "RIP", [log + 8], "offset 2b"
        UNHOOK 1
        CASE "INT3 behind MOV SS: the breakpoint of MOV SS is not seen before the handler"
        mov eax, KDATA
        mov ss, eax
        int3
2:      EXPECT_FAULT 3, NO_ERROR_CODE, 2b
        ret
keep_event:
        ret

        .data
        .balign 8
stack_selector: .quad KDATA
pointer: .long 0
        .word CALL_GATE
        .section .note.GNU-stack, "", @progbits
