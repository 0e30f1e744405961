// SPDX-License-Identifier: Apache-2.0
/// @file The runtime of the bare-metal test guests: entry, descriptor and page tables, exception recording, report.
#include "guest.inc"

// ---- entry

// Virtual machine monitors that enter ELF files by the PVH protocol (a second oracle) find this note; Gnomon enters at
// start64.
        .section .note.pvh, "a", @note
        .balign 4
        .long 4, 4, 18          // sizes of name and descriptor; the 32-bit entry
        .asciz "Xen"
        .long start32

        .text
        .code32
start32:
        cli
        mov [pvh_start_info], ebx
        xor esi, esi
        mov esp, offset stack_top
        mov eax, cr4
        or eax, 0x20
        mov cr4, eax
        mov eax, offset pml4
        mov cr3, eax
        mov ecx, 0xc0000080
        rdmsr
        or eax, 0x100
        wrmsr
        mov eax, cr0
        or eax, 0x80000001
        mov cr0, eax
        lgdt [gdt_pointer]
        xor esi, esi
        push KCODE
        push offset start64
        retf

        .code64
        .globl start64
start64:
        cli
        cld
        mov esp, offset stack_top
        mov [boot_parameters], rsi                      // Linux's boot protocol; 0 by way of start32
        mov eax, offset pml4
        mov cr3, rax
        lgdt [gdt_pointer]
        mov eax, KDATA
        mov ds, eax
        mov es, eax
        mov ss, eax
        xor eax, eax
        mov fs, eax
        mov gs, eax
        lea rax, [rip + 1f]
        push KCODE
        push rax
        retfq
1:      mov eax, offset tss
        mov [gdt + TSS_SELECTOR + 2], ax
        shr eax, 16
        mov [gdt + TSS_SELECTOR + 4], al
        mov [gdt + TSS_SELECTOR + 7], ah
        mov eax, offset ldt
        mov [gdt + LDT_SELECTOR + 2], ax
        shr eax, 16
        mov [gdt + LDT_SELECTOR + 4], al
        mov [gdt + LDT_SELECTOR + 7], ah
        mov eax, TSS_SELECTOR
        ltr ax
        xor ecx, ecx
        mov edi, offset idt
        mov eax, offset stubs
2:      mov edx, eax
        mov [rdi], dx
        mov word ptr [rdi + 2], KCODE
        mov word ptr [rdi + 4], 0x8e00
        shr edx, 16
        mov [rdi + 6], dx
        mov qword ptr [rdi + 8], 0
        add edi, 16
        add eax, 16
        inc ecx
        cmp ecx, 256
        jne 2b
        mov byte ptr [idt + 16 * 8 + 4], 1              // #DF on IST 1
        mov byte ptr [idt + 16 * 0x80 + 5], 0xee        // INT 0x80 from CPL 3
        mov byte ptr [idt + 16 * 3 + 5], 0xee           // INT3
        mov byte ptr [idt + 16 * 4 + 5], 0xee           // and INTO
        lidt [idt_pointer]
        mov rax, cr0
        and eax, 0xfffffff3                             // EM, TS
        or eax, 0x10022                                 // WP, NE, MP
        mov cr0, rax
        mov eax, 1
        xor ecx, ecx
        cpuid
        mov rax, cr4
        and edx, 4                                      // DE, bit 2 of CPUID and bit 3 of CR4
        lea eax, [rax + rdx * 2]
        or eax, 0x6a0                                   // PAE, PGE, OSFXSR, OSXMMEXCPT
        mov cr4, rax
        mov ecx, 0xc0000080
        rdmsr
        or eax, 0x801                                   // NXE, SCE
        wrmsr
        fninit
        // Both 8259s: vectors 0x20 and 0x28, everything masked.
        mov al, 0x11
        out 0x20, al
        out 0xa0, al
        mov al, 0x20
        out 0x21, al
        mov al, 0x28
        out 0xa1, al
        mov al, 4
        out 0x21, al
        mov al, 2
        out 0xa1, al
        mov al, 1
        out 0x21, al
        out 0xa1, al
        mov al, 0xff
        out 0x21, al
        out 0xa1, al
        call guest_main
        cli
        mov qword ptr [resume_rip], 0
        cmp qword ptr [failures], 0
        mov esi, offset text_passed
        mov eax, offset text_failed
        cmovne rsi, rax
        call print
        mov esi, offset guest_name
        call print
        mov esi, offset text_cases
        call print
        mov rax, [checks]
        call print_decimal
        mov al, 10
        call print_character
// Fall through.
        .globl power_off
power_off:
        mov edx, 0x604
        mov eax, 0x3400                                 // SLP_EN, SLP_TYP 5
        out dx, ax
        mov edx, 0xf4                                   // for the second oracle
        mov eax, 0x10
        out dx, eax
3:      cli
        hlt
        jmp 3b

// ---- events

        .balign 16
stubs:
        .set vector, 0
        .rept 256
        .balign 16
        .if vector != 8 && (vector < 10 || vector > 14) && vector != 17 && vector != 21
        push NO_ERROR_CODE
        .endif
        push vector
        .byte 0xe9
        .long event - . - 4
        .set vector, vector + 1
        .endr

event:
        push r15
        push r14
        push r13
        push r12
        push r11
        push r10
        push r9
        push r8
        push rdi
        push rsi
        push rbp
        push rsp
        push rbx
        push rdx
        push rcx
        push rax
        cld
        mov rdi, rsp
        mov rbx, [rdi + FRAME_VECTOR]
        mov [rec_vector], rbx
        mov rax, [rdi + FRAME_ERROR]
        mov [rec_error], rax
        mov rax, [rdi + FRAME_RIP]
        mov [rec_rip], rax
        mov rax, [rdi + FRAME_CS]
        mov [rec_cs], rax
        mov rax, [rdi + FRAME_RFLAGS]
        mov [rec_rflags], rax
        mov rax, [rdi + FRAME_RSP]
        mov [rec_rsp], rax
        mov rax, [rdi + FRAME_SS]
        mov [rec_ss], rax
        mov [rec_frame], rdi
        mov rax, cr2
        mov [rec_cr2], rax
        mov eax, ss
        mov [rec_handler_ss], rax
        pushfq
        pop [rec_handler_rflags]
        mov rcx, [log_count]
        cmp rcx, 255
        ja 1f
        lea rdx, [rcx + rcx * 2]
        mov [log + rdx * 8], rbx
        mov rax, [rdi + FRAME_RIP]
        mov [log + rdx * 8 + 8], rax
        cmp rbx, 1
        jne 2f
        mov rax, dr6
2:      mov [log + rdx * 8 + 16], rax
1:      inc qword ptr [log_count]
        mov rax, [hooks + rbx * 8]
        test rax, rax
        jz 3f
        call rax
5:      pop rax
        pop rcx
        pop rdx
        pop rbx
        add rsp, 8
        pop rbp
        pop rsi
        pop rdi
        pop r8
        pop r9
        pop r10
        pop r11
        pop r12
        pop r13
        pop r14
        pop r15
        add rsp, 16
        iretq

// No hook: the case ends here.
3:      mov rsi, rdi
        mov edi, offset saved_registers
        mov ecx, 16
        rep movsq
        inc qword ptr [rec_count]
        mov rax, [resume_rip]
        test rax, rax
        jz 4f
        mov ecx, KDATA
        mov ds, ecx
        mov es, ecx
        // On to the check, with the registers of the event.
        mov rsi, [rec_frame]
        mov [rsi + FRAME_RIP], rax
        mov qword ptr [rsi + FRAME_CS], KCODE
        mov qword ptr [rsi + FRAME_RFLAGS], 2
        mov rax, [resume_rsp]
        mov [rsi + FRAME_RSP], rax
        mov qword ptr [rsi + FRAME_SS], KDATA
        jmp 5b
4:      mov esp, offset stack_top
        mov esi, offset text_unexpected
        call print
        call print_record
        jmp power_off

// ---- checks

        .globl check_fault
check_fault:
        push rsi
        inc qword ptr [checks]
        mov qword ptr [resume_rip], 0
        cmp qword ptr [rec_count], 1
        jne 1f
        mov rax, [rec_vector]
        cmp rax, [want_vector]
        jne 1f
        mov rax, [rec_error]
        cmp rax, [want_error]
        jne 1f
        mov rax, [rec_rip]
        cmp rax, [want_rip]
        jne 1f
        mov rax, ANY_CR2
        cmp [want_cr2], rax
        je 2f
        mov rax, [rec_cr2]
        cmp rax, [want_cr2]
        je 2f
1:      inc qword ptr [failures]
        mov esi, offset text_fail
        call print
        mov rsi, [case_name]
        call print
        mov esi, offset text_want
        call print
        mov rax, [want_vector]
        call print_hex
        mov esi, offset text_error
        call print
        mov rax, [want_error]
        call print_hex
        mov esi, offset text_rip
        call print
        mov rax, [want_rip]
        call print_hex
        mov rax, ANY_CR2
        cmp [want_cr2], rax
        je 3f
        mov esi, offset text_cr2
        call print
        mov rax, [want_cr2]
        call print_hex
3:      mov esi, offset text_got
        call print
        call print_record
        // Checks that follow in this case look at values: they would only repeat this failure.
        jmp 4f
2:      mov qword ptr [rec_count], 0
        call print_ok
4:      pop rsi
        ret

        .globl check_equal
check_equal:
        pushfq
        push rax
        push rsi
        cld
        inc qword ptr [checks]
        mov qword ptr [resume_rip], 0
        cmp qword ptr [rec_count], 0
        jne 1f
        mov rax, [check_actual]
        cmp rax, [check_expected]
        je 2f
1:      inc qword ptr [failures]
        mov esi, offset text_fail
        call print
        mov rsi, [case_name]
        call print
        mov esi, offset text_colon
        call print
        mov rsi, [check_name]
        call print
        cmp qword ptr [rec_count], 0
        jne 3f
        mov esi, offset text_want
        call print
        mov rax, [check_expected]
        call print_hex
        mov esi, offset text_got
        call print
        mov rax, [check_actual]
        call print_hex
        mov al, 10
        call print_character
        jmp 4f
3:      mov esi, offset text_exception
        call print
        call print_record
        jmp 4f
2:      call print_ok
4:      pop rsi
        pop rax
        popfq
        ret

print_ok:
        mov esi, offset text_ok
        call print
        mov rsi, [case_name]
        call print
        mov al, 10
        jmp print_character

print_record:
        cmp qword ptr [rec_count], 0
        jne 1f
        mov esi, offset text_nothing
        jmp print
1:      mov rax, [rec_vector]
        call print_hex
        mov esi, offset text_error
        call print
        mov rax, [rec_error]
        call print_hex
        mov esi, offset text_rip
        call print
        mov rax, [rec_rip]
        call print_hex
        mov esi, offset text_cr2
        call print
        mov rax, [rec_cr2]
        call print_hex
        mov esi, offset text_rsp
        call print
        mov rax, [rec_rsp]
        call print_hex
        mov al, 10
        jmp print_character

// ---- the serial port

        .globl print
print:                                          // RSI = text; changes RSI, RAX
1:      mov al, [rsi]
        test al, al
        jz 2f
        call print_character
        inc rsi
        jmp 1b
2:      ret

        .globl print_character
print_character:                                // AL; changes RAX
        push rdx
        push rax
        mov edx, 0x3fd
1:      in al, dx
        test al, 0x20
        jz 1b
        mov edx, 0x3f8
        pop rax
        out dx, al
        pop rdx
        ret

        .globl print_hex
print_hex:                                      // RAX; changes RAX
        push rcx
        push rdx
        mov rdx, rax
        mov ecx, 64
1:      sub ecx, 4                              // leading zeros
        jz 2f
        mov rax, rdx
        shr rax, cl
        jz 1b
2:      mov rax, rdx
        shr rax, cl
        and eax, 15
        mov al, [hex_digits + rax]
        call print_character
        sub ecx, 4
        jns 2b
        pop rdx
        pop rcx
        ret

print_decimal:                                  // RAX
        mov ecx, 10
        xor ebx, ebx
1:      xor edx, edx
        div rcx
        push rdx
        inc ebx
        test rax, rax
        jnz 1b
2:      pop rax
        add al, '0'
        call print_character
        dec ebx
        jnz 2b
        ret

        .section .rodata
hex_digits: .ascii "0123456789abcdef"
text_ok: .asciz "ok "
text_fail: .asciz "FAIL "
text_colon: .asciz ": "
text_want: .asciz ": want "
text_got: .asciz ", got "
text_error: .asciz " error "
text_rip: .asciz " rip "
text_cr2: .asciz " cr2 "
text_rsp: .asciz " rsp "
text_nothing: .asciz "no event\n"
text_exception: .asciz ": exception "
text_unexpected: .asciz "FAIL unexpected event outside a case: "
text_passed: .asciz "PASSED "
text_failed: .asciz "FAILED "
text_cases: .asciz ": checks "

// ---- tables

        .data
        .balign 16
        .globl gdt, gdt_pointer, idt, idt_pointer, tss, ldt
gdt:    .quad 0
        .quad 0x00af9b000000ffff        // KCODE
        .quad 0x00cf93000000ffff        // KDATA
        .quad 0x00cffb000000ffff        // UCODE32
        .quad 0x00cff3000000ffff        // UDATA
        .quad 0x00affb000000ffff        // UCODE64
        .quad 0x00cff3000000ffff        // UDATA_SYSEXIT
        .quad 0x00cf13000000ffff        // NOT_PRESENT_DATA
        .quad 0x0000890000000067, 0     // TSS_SELECTOR
        .quad 0x000082000000001f, 0     // LDT_SELECTOR
        .quad 0x00af9f000000ffff        // CONFORMING_CODE
        .quad 0x00cf91000000ffff        // READ_ONLY_DATA
        .quad 0, 0                      // CALL_GATE, filled in by its user
        .quad 0x00af99000000ffff        // EXECUTE_ONLY
        .quad 0x00af1b000000ffff        // NOT_PRESENT_CODE
        .quad 0x00cf9b000000ffff        // KCODE32
        .quad 0x00cfb3000000ffff        // RING1_DATA
        .quad 0, 0                      // CALL_GATE_DPL0
        .quad 0x0000890000000067, 0     // AVAILABLE_TSS
        .quad 0x00cff3123456ffff        // BASED_DATA: base 0x123456
        .quad 0x0040f30000000fff        // SMALL_DATA: limit 0xfff
        .quad 0, 0                      // NOT_PRESENT_GATE
        .quad 0x0040f70000000fff        // EXPAND_DOWN
gdt_pointer:
        .word GDT_LIMIT
        .quad gdt
        .balign 8
idt_pointer:
        .word 0xfff
        .quad idt
        .balign 16
tss:    .long 0
        .quad rsp0_top, 0, 0            // RSP0 to RSP2
        .quad 0
        .quad ist1_top, ist2_top, ist3_top, ist4_top, 0, 0, 0
        .quad 0
        .word 0, 0x68
        .balign 8
ldt:    .quad 0
        .quad 0x00cff3000000ffff
        .quad 0x00affb000000ffff
        .quad 0x00cf93000000ffff

        .balign 4096
        .globl pml4, pdpt, pd_low, pd_user, pd_win, pd_devices, win_table
pml4:   .quad pdpt + PTE_P + PTE_W + PTE_U
        .fill 511, 8, 0
pdpt:   .quad pd_low + PTE_P + PTE_W + PTE_U
        .quad pd_user + PTE_P + PTE_W + PTE_U
        .quad pd_win + PTE_P + PTE_W + PTE_U
        .quad pd_devices + PTE_P + PTE_W + PTE_U
        .fill 508, 8, 0
.macro DIRECTORY base, flags
        .set page, \base
        .rept 512
        .quad page + \flags
        .set page, page + 0x200000
        .endr
.endm
pd_low: DIRECTORY 0, PTE_P + PTE_W + PTE_PS
pd_user: DIRECTORY 0, PTE_P + PTE_W + PTE_PS + PTE_U
pd_win: .quad win_table + PTE_P + PTE_W + PTE_U
        .fill 511, 8, 0
pd_devices: DIRECTORY 0xc0000000, PTE_P + PTE_W + PTE_PS + PTE_PCD
win_table: .fill 512, 8, 0

        .bss
        .balign 4096
        .globl idt, hooks, log, saved_registers, user_stack_top, stack_top, rsp0_top, ist1_top, ist2_top, ist3_top, ist4_top
        .globl page_a, page_b, page_c, page_d
idt:    .skip 4096
page_a: .skip 4096
page_b: .skip 4096
page_c: .skip 4096
page_d: .skip 4096
hooks:  .skip 8 * 256
log:    .skip 24 * 256
saved_registers: .skip 8 * 16
        .balign 16
        .skip 16384
stack_top:
        .skip 8192
rsp0_top:
        .skip 8192
ist1_top:
        .skip 8192
ist2_top:
        .skip 8192
ist3_top:
        .skip 8192
ist4_top:
        .skip 8192
user_stack_top:
        .skip 64
.macro VARIABLES names:vararg
        .irp name, \names
        .globl \name
\name:  .skip 8
        .endr
.endm
        VARIABLES boot_parameters, pvh_start_info
        VARIABLES case_name, case_scratch, resume_rip, resume_rsp, rax_scratch
        VARIABLES rec_count, rec_vector, rec_error, rec_rip, rec_cs, rec_rflags, rec_rsp, rec_ss, rec_cr2, rec_frame
        VARIABLES rec_handler_ss, rec_handler_rflags, log_count
        VARIABLES want_vector, want_error, want_rip, want_cr2
        VARIABLES check_scratch, check_actual, check_expected, check_name, checks, failures
        .section .note.GNU-stack, "", @progbits
