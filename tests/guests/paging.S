// SPDX-License-Identifier: Apache-2.0
/// @file Paging: page sizes, permissions, accessed and dirty bits, invalidation, PCID (SDM vol. 3A chapter 4).
#include "guest.inc"

        GUEST_MAIN paging
        mov dword ptr [page_a], 0x11111111
        mov dword ptr [page_b], 0x22222222
        call mapping
        call permissions
        call accessed_and_dirty
        call reserved_bits
        call supervisor_protections
        call large_pages
        call invalidation
        call pcid
        ret

mapping:
        mov r12d, WIN
        CASE "not present, read by CPL 0"
1:      mov eax, [r12]
        EXPECT_FAULT 14, 0, 1b, WIN
        CASE "not present, write by CPL 0"
1:      mov [r12+0xffc], eax
        EXPECT_FAULT 14, 2, 1b, WIN+0xffc
        CASE "not present, execution"
        jmp r12
        EXPECT_FAULT 14, 0x10, WIN, WIN
        CASE "not present, read by CPL 3"
        ENTER_USER user_read
        EXPECT_FAULT 14, 4, user_read+USER, WIN
        CASE "not present, write by CPL 3"
        ENTER_USER user_write
        EXPECT_FAULT 14, 6, user_write+USER, WIN
        CASE "not present in the page directory"
        mov ebx, WIN + 0x200000
1:      inc dword ptr [rbx]
        EXPECT_FAULT 14, 2, 1b, WIN+0x200000
        CASE "not present in the PML4"
        movabs rbx, 0xffff800000000000
1:      cmp qword ptr [rbx], 0
        EXPECT_FAULT 14, 0, 1b, 0xffff800000000000
        CASE "address 0, not present"
        mov qword ptr [pd_low_copy], 0
        mov rax, [pd_low]
        mov [pd_low_copy], rax
        mov qword ptr [pd_low], 0
        invlpg [0]
        xor ebx, ebx
1:      mov eax, [rbx]
        EXPECT_FAULT 14, 0, 1b, 0
        CASE "address 8, not present, write, flags live"
        xor ebx, ebx
        cmp ebx, ebx
1:      mov [rbx + 8], rbx
        EXPECT_FAULT 14, 2, 1b, 8
        CASE "address 0, not present, call"
        xor ebx, ebx
        call rbx
        EXPECT_FAULT 14, 0x10, 0, 0
        mov rax, [pd_low_copy]
        mov [pd_low], rax
        CASE "the highest page, not present"
        mov rbx, -8
1:      mov rax, [rbx]
        EXPECT_FAULT 14, 0, 1b, -8
        CASE "from not present to present needs no INVLPG"
        mov qword ptr [win_table], offset page_a + PTE_P
        mov eax, [r12]
        CHECK_EQ "content", rax, 0x11111111
        CASE "remap with INVLPG"
        MAP 0, page_b, PTE_P
        mov eax, [r12]
        CHECK_EQ "content", rax, 0x22222222
        CASE "remap with a CR3 load"
        mov qword ptr [win_table], offset page_a + PTE_P
        mov rax, cr3
        mov cr3, rax
        mov eax, [r12]
        CHECK_EQ "content", rax, 0x11111111
        CASE "unmap with INVLPG"
        MAP 0, 0, 0
1:      mov eax, [r12]
        EXPECT_FAULT 14, 0, 1b, WIN
        CASE "remap 300 times"
        mov ecx, 300
        xor r8d, r8d
2:      MAP 0, page_a, PTE_P
        add r8d, [r12]
        MAP 0, page_b, PTE_P
        add r8d, [r12]
        dec ecx
        jnz 2b
        CHECK_EQ "sum", r8, (0x33333333*300) & 0xffffffff
        CASE "unmap 512 pages by a string store, with a CR3 load"
        mov edi, offset win_table
        xor ecx, ecx
        mov rax, offset page_a + PTE_P + PTE_W
2:      mov [win_table + rcx * 8], rax
        inc ecx
        cmp ecx, 512
        jne 2b
        mov rbx, cr3
        mov cr3, rbx
        xor r8d, r8d
        xor ecx, ecx
        mov rbx, r12
3:      add r8d, [rbx]
        add rbx, 4096
        inc ecx
        cmp ecx, 512
        jne 3b
        xor eax, eax
        rep stosq
        mov rbx, cr3
        mov cr3, rbx
        lea rbx, [r12 + 511 * 4096]
1:      mov eax, [rbx]
        EXPECT_FAULT 14, 0, 1b, WIN+511*4096
        CHECK_EQ "sum before", [saved_registers+FRAME_R8], (0x11111111*512) & 0xffffffff
        CASE "all of it went"
        mov rax, [win_table + 511 * 8]
        or rax, [win_table]
        CHECK_EQ "entries", rax, 0
        // The last store of REP STOSQ left RCX 512 - 512.
        CASE "page-table edits through a mapping of the page table itself"
        MAP 5, win_table, PTE_P+PTE_W
        lea rbx, [r12 + 5 * 4096]
        mov qword ptr [rbx + 8 * 6], offset page_b + PTE_P
        mov eax, [r12 + 6 * 4096]
        CHECK_EQ "content", rax, 0x22222222
        CASE "and a locked change through it"
        mov ecx, offset page_a + PTE_P
        xchg [rbx + 8 * 6], rcx
        lea rdx, [r12 + 6 * 4096]
        invlpg [rdx]
        mov eax, [rdx]
        and ecx, 0xfffff000
        CHECK_EQ "content", rax, 0x11111111
        CHECK_EQ "what XCHG returned", rcx, "offset page_b"
        CASE "a four-byte change of an entry"
        mov dword ptr [rbx + 8 * 6], offset page_b + PTE_P
        invlpg [rdx]
        mov eax, [rdx]
        CHECK_EQ "content", rax, 0x22222222
        CASE "a one-byte change of an entry"
        mov byte ptr [rbx + 8 * 6], 0
        invlpg [rdx]
1:      mov eax, [rdx]
        EXPECT_FAULT 14, 0, 1b, WIN+6*4096
        CASE "a 16-byte change of two entries"
        mov eax, offset page_a + PTE_P
        movq xmm0, rax
        mov eax, offset page_b + PTE_P
        movq xmm1, rax
        punpcklqdq xmm0, xmm1
        movups [rbx + 8 * 6], xmm0
        mov eax, [r12 + 6 * 4096]
        mov r8d, [r12 + 7 * 4096]
        shl r8, 32
        or rax, r8
        CHECK_EQ "contents", rax, 0x2222222211111111
        CASE "a change that straddles two entries"
        mov qword ptr [rbx + 8 * 6 + 4], 0
        mov rax, [rbx + 8 * 7]
        mov r8, [rbx + 8 * 6]
        mov ecx, offset page_b
        shr ecx, 16
        lea rdx, [r12 + 7 * 4096]
        invlpg [rdx]
        // The entry's low half is gone: not present.
1:      mov eax, [rdx]
        EXPECT_FAULT 14, 0, 1b, WIN+7*4096
        CASE "push and call write entries"
        mov r9, rsp
        lea rsp, [rbx + 8 * 7]
        push offset page_a + PTE_P
        mov rsp, r9
        lea rdx, [r12 + 6 * 4096]
        invlpg [rdx]
        mov eax, [rdx]
        CHECK_EQ "content", rax, 0x11111111
        CASE "a table that is its own entry's page: the table maps itself"
        MAP 8, win_table, PTE_P+PTE_W
        lea rbx, [r12 + 8 * 4096]
        mov rax, [rbx + 8 * 8]
        or al, PTE_A | PTE_D
        CHECK_EQ "entry seen through itself", rax, "offset win_table+0x63"
        MAP 5, 0, 0
        MAP 8, 0, 0
        ret

permissions:
        MAP 0, page_a, PTE_P
        CASE "read-only: CPL 0 may read"
        mov eax, [r12]
        CHECK_EQ "content", rax, 0x11111111
        CASE "read-only: CPL 0 write with CR0.WP"
1:      mov [r12], eax
        EXPECT_FAULT 14, 3, 1b, WIN
        CASE "read-only: CPL 0 read-modify-write with CR0.WP"
1:      lock add dword ptr [r12], 1
        EXPECT_FAULT 14, 3, 1b, WIN
        CASE "read-only: CMPXCHG that fails is a write"
        mov eax, 5
1:      cmpxchg [r12], ecx
        EXPECT_FAULT 14, 3, 1b, WIN
        CASE "read-only: CPL 0 write without CR0.WP"
        mov rax, cr0
        btr rax, 16
        mov cr0, rax
        mov dword ptr [r12], 0x11111112
        mov eax, [page_a]
        CHECK_EQ "content", rax, 0x11111112
        mov dword ptr [page_a], 0x11111111
        CASE "read-only again with CR0.WP"
        mov rax, cr0
        bts rax, 16
        mov cr0, rax
1:      mov [r12], eax
        EXPECT_FAULT 14, 3, 1b, WIN
        CASE "supervisor page read by CPL 3"
        ENTER_USER user_read
        EXPECT_FAULT 14, 5, user_read+USER, WIN
        CASE "supervisor page written by CPL 3"
        ENTER_USER user_write
        EXPECT_FAULT 14, 7, user_write+USER, WIN
        CASE "supervisor page executed by CPL 3"
        ENTER_USER user_jump
        EXPECT_FAULT 14, 0x15, WIN, WIN
        MAP 0, page_a, PTE_P+PTE_U
        CASE "user page read by CPL 3"
        ENTER_USER user_read
        EXPECT_FAULT 0x80, NO_ERROR_CODE, user_read_end+USER
        CHECK_EQ "content", [saved_registers+FRAME_RAX], 0x11111111
        CASE "read-only user page written by CPL 3, CR0.WP off too"
        mov rax, cr0
        btr rax, 16
        mov cr0, rax
        ENTER_USER user_write
        EXPECT_FAULT 14, 7, user_write+USER, WIN
        mov rax, cr0
        bts rax, 16
        mov cr0, rax
        CASE "read-only in the page directory"
        MAP 0, page_a, PTE_P+PTE_U+PTE_W
        mov dword ptr [r12], 0x11111111
        and byte ptr [pd_win], 0xfd
        mov rax, cr3
        mov cr3, rax
1:      mov [r12], eax
        EXPECT_FAULT 14, 3, 1b, WIN
        CASE "supervisor in the page directory"
        or byte ptr [pd_win], 2
        and byte ptr [pd_win], 0xfb
        mov rax, cr3
        mov cr3, rax
        ENTER_USER user_read
        EXPECT_FAULT 14, 5, user_read+USER, WIN
        or byte ptr [pd_win], 4
        mov rax, cr3
        mov cr3, rax
        CASE "permission reduction with INVLPG"
        mov dword ptr [r12], 0x11111111
        MAP 0, page_a, PTE_P+PTE_U
1:      mov [r12], eax
        EXPECT_FAULT 14, 3, 1b, WIN
        CASE "a write that was refused is allowed at once when the entry allows it"
        mov qword ptr [win_table], offset page_a + PTE_P + PTE_W + PTE_U
        mov dword ptr [r12], 0x11111111
        EXPECT_NONE
        CASE "NX"
        mov byte ptr [page_c], 0xc3
        MAP 1, page_c, PTE_P+PTE_NX
        lea rbx, [r12 + 4096]
        call rbx
        EXPECT_FAULT 14, 0x11, WIN+4096, WIN+4096
        CASE "NX pages may be read"
        movzx eax, byte ptr [r12 + 4096]
        CHECK_EQ "content", rax, 0xc3
        CASE "no NX"
        MAP 1, page_c, PTE_P
        call rbx
        EXPECT_NONE
        CASE "NX again, and the translation is not run"
        MAP 1, page_c, PTE_P+PTE_NX
        call rbx
        EXPECT_FAULT 14, 0x11, WIN+4096, WIN+4096
        CASE "NX in the page directory"
        MAP 1, page_c, PTE_P
        bts qword ptr [pd_win], 63
        mov rax, cr3
        mov cr3, rax
        call rbx
        EXPECT_FAULT 14, 0x11, WIN+4096, WIN+4096
        btr qword ptr [pd_win], 63
        mov rax, cr3
        mov cr3, rax
        CASE "without EFER.NXE bit 63 is reserved"
        MAP 1, page_c, PTE_P+PTE_NX
        mov ecx, 0xc0000080
        rdmsr
        btr eax, 11
        wrmsr
1:      mov al, [r12 + 4096]
        EXPECT_FAULT 14, 9, 1b, WIN+4096
        CASE "without EFER.NXE a fetch has no I bit"
        MAP 1, 0, 0
        lea rbx, [r12 + 4096]
        call rbx
        EXPECT_FAULT 14, 0, WIN+4096, WIN+4096
        mov ecx, 0xc0000080
        rdmsr
        bts eax, 11
        wrmsr
        ret

user_read:
        mov eax, [r12]
        int 0x80
user_read_end:
user_write:
        mov [r12], eax
        int 0x80
user_jump:
        jmp r12

accessed_and_dirty:
        CASE "a mapping sets no bit"
        MAP 0, page_a, PTE_P+PTE_W+PTE_U
        mov rax, [win_table]
        and eax, PTE_A | PTE_D
        CHECK_EQ "A, D", rax, 0
        CASE "a read sets A"
        mov eax, [r12]
        mov rax, [win_table]
        and eax, PTE_A | PTE_D
        CHECK_EQ "A, D", rax, PTE_A
        CASE "a write sets D"
        mov dword ptr [r12], 0x11111111
        mov rax, [win_table]
        and eax, PTE_A | PTE_D
        CHECK_EQ "A, D", rax, PTE_A+PTE_D
        CASE "a write first sets both"
        MAP 0, page_a, PTE_P+PTE_W+PTE_U
        mov dword ptr [r12], 0x11111111
        mov rax, [win_table]
        and eax, PTE_A | PTE_D
        CHECK_EQ "A, D", rax, PTE_A+PTE_D
        CASE "cleared D is set again after INVLPG"
        mov rcx, [win_table]
        and ecx, ~(PTE_A | PTE_D)
        mov [win_table], rcx
        invlpg [r12]
        mov eax, [r12]
        mov rcx, [win_table]
        mov dword ptr [r12], 0x11111111
        mov rax, [win_table]
        and ecx, PTE_A | PTE_D
        and eax, PTE_A | PTE_D
        CHECK_EQ "after the read", rcx, PTE_A
        CHECK_EQ "after the write", rax, PTE_A+PTE_D
        CASE "a refused write sets no D"
        MAP 0, page_a, PTE_P+PTE_U
1:      mov [r12], eax
        EXPECT_FAULT 14, 3, 1b, WIN
        mov rax, [win_table]
        and eax, PTE_D
        CHECK_EQ "D", rax, 0
        CASE "a refused user access sets no A"
        MAP 0, page_a, PTE_P
        ENTER_USER user_read
        EXPECT_FAULT 14, 5, user_read+USER, WIN
        mov rax, [win_table]
        and eax, PTE_A
        CHECK_EQ "A", rax, 0
        CASE "execution sets A, not D"
        MAP 1, page_c, PTE_P+PTE_W
        lea rbx, [r12 + 4096]
        call rbx
        mov rax, [win_table + 8]
        and eax, PTE_A | PTE_D
        CHECK_EQ "A, D", rax, PTE_A
        CASE "an unused neighbour keeps A clear"
        MAP 1, page_a, PTE_P+PTE_W
        MAP 2, page_a, PTE_P+PTE_W
        MAP 3, page_a, PTE_P+PTE_W
        mov eax, [r12 + 2 * 4096]
        mov rax, [win_table + 8]
        or rax, [win_table + 24]
        and eax, PTE_A
        CHECK_EQ "A", rax, 0
        CASE "A in the page directory and above"
        and byte ptr [pd_win], 0xdf
        and byte ptr [pdpt + 16], 0xdf
        mov rax, cr3
        mov cr3, rax
        mov eax, [r12 + 3 * 4096]
        mov rax, [pd_win]
        and rax, [pdpt + 16]
        and eax, PTE_A
        CHECK_EQ "A", rax, PTE_A
        CASE "no A in the directory by a CR3 load alone"
        and byte ptr [pd_win], 0xdf
        mov rax, cr3
        mov cr3, rax
        mov rax, [pd_win]
        and eax, PTE_A
        CHECK_EQ "A", rax, 0
        CASE "a straddling write sets D of both pages"
        MAP 2, page_a, PTE_P+PTE_W
        MAP 3, page_b, PTE_P+PTE_W
        mov qword ptr [r12 + 3 * 4096 - 4], 0
        mov rax, [win_table + 16]
        and rax, [win_table + 24]
        and eax, PTE_A | PTE_D
        mov dword ptr [page_b], 0x22222222
        CHECK_EQ "A, D", rax, PTE_A+PTE_D
        CASE "a straddling write to a second page that is read-only writes nothing"
        MAP 3, page_b, PTE_P
        mov dword ptr [page_a + 4092], 0x55
1:      mov [r12 + 3 * 4096 - 4], rax
        EXPECT_FAULT 14, 3, 1b, WIN+3*4096
        mov eax, [page_a + 4092]
        CHECK_EQ "first page", rax, 0x55
        CASE "bits that software may use are kept"
        mov rax, offset page_a + PTE_P + PTE_W
        movabs rcx, 0x7ff0000000000e00
        or rax, rcx
        mov [win_table], rax
        invlpg [r12]
        mov dword ptr [r12], 0x11111111
        or al, PTE_A | PTE_D
        CHECK_EQ "entry", [win_table], rax
        CASE "D of a 2 MiB page"
        mov rax, [pd_low + 8 * 8]
        and eax, PTE_D
        mov dword ptr [0x1000000], 1
        mov rcx, [pd_low + 8 * 8]
        and ecx, PTE_A | PTE_D
        CHECK_EQ "before", rax, 0
        CHECK_EQ "after", rcx, PTE_A+PTE_D
        ret

reserved_bits:
        CASE "a reserved bit of a page-table entry"
        mov rax, offset page_a + PTE_P + PTE_W
        bts rax, 51
        mov [win_table], rax
        invlpg [r12]
1:      mov eax, [r12]
        EXPECT_FAULT 14, 9, 1b, WIN
        CASE "a reserved bit, write"
1:      mov [r12], eax
        EXPECT_FAULT 14, 0xb, 1b, WIN
        CASE "a reserved bit, CPL 3"
        ENTER_USER user_write
        EXPECT_FAULT 14, 0xf, user_write+USER, WIN
        CASE "a reserved bit, fetch"
        jmp r12
        EXPECT_FAULT 14, 0x19, WIN, WIN
        CASE "a reserved bit of an entry that is not present does not count"
        mov rax, [win_table]
        and al, 0xfe
        mov [win_table], rax
        invlpg [r12]
1:      mov eax, [r12]
        EXPECT_FAULT 14, 0, 1b, WIN
        CASE "a reserved bit of a 2 MiB page"
        mov qword ptr [pd_win + 8], 0x400000 + 0x2000 + PTE_P + PTE_W + PTE_PS
        mov ebx, WIN + 0x200000
1:      mov eax, [rbx]
        EXPECT_FAULT 14, 9, 1b, WIN+0x200000
        mov qword ptr [pd_win + 8], 0
        CASE "PS in a PML4 entry"
        mov qword ptr [pml4 + 8], offset pdpt + PTE_P + PTE_W + PTE_PS
        movabs rbx, 0x8000000000
1:      mov eax, [rbx]
        EXPECT_FAULT 14, 9, 1b, 0x8000000000
        mov qword ptr [pml4 + 8], 0
        ret

supervisor_protections:
        mov eax, 7
        xor ecx, ecx
        cpuid
        mov r13d, ebx
        mov r14d, ecx
        bt r13d, 7
        jnc 5f
        CASE "SMEP: CPL 0 does not execute user pages"
        mov rax, cr4
        bts rax, 20
        mov cr4, rax
        MAP 1, page_c, PTE_P+PTE_U
        lea rbx, [r12 + 4096]
        call rbx
        EXPECT_FAULT 14, 0x11, WIN+4096, WIN+4096
        CASE "SMEP: with a supervisor entry it does"
        MAP 1, page_c, PTE_P
        call rbx
        EXPECT_NONE
        CASE "without SMEP it does"
        MAP 1, page_c, PTE_P+PTE_U
        mov rax, cr4
        btr rax, 20
        mov cr4, rax
        call rbx
        EXPECT_NONE
        CASE "SMEP once more, the page has been executed"
        mov rax, cr4
        bts rax, 20
        mov cr4, rax
        call rbx
        EXPECT_FAULT 14, 0x11, WIN+4096, WIN+4096
        mov rax, cr4
        btr rax, 20
        mov cr4, rax
5:      bt r13d, 20
        jnc 6f
        MAP 0, page_a, PTE_P+PTE_W+PTE_U
        CASE "STAC without CR4.SMAP works"
        stac
        clac
        EXPECT_NONE
        mov rax, cr4
        bts rax, 21
        mov cr4, rax
        CASE "SMAP: CPL 0 does not read user pages"
1:      mov eax, [r12]
        EXPECT_FAULT 14, 1, 1b, WIN
        CASE "SMAP: CPL 0 does not write user pages"
1:      mov [r12], eax
        EXPECT_FAULT 14, 3, 1b, WIN
        CASE "SMAP: with AC it does"
        stac
        mov eax, [r12]
        mov dword ptr [r12], 0x11111111
        clac
        CHECK_EQ "content", rax, 0x11111111
        CASE "SMAP: and no more after CLAC"
        stac
        mov eax, [r12]
        clac
1:      mov eax, [r12]
        EXPECT_FAULT 14, 1, 1b, WIN
        CASE "SMAP: AC by POPF"
        pushfq
        or qword ptr [rsp], FLAG_AC
        popfq
        mov eax, [r12]
        clac
        CHECK_EQ "content", rax, 0x11111111
        CASE "SMAP: CPL 3 is free"
        ENTER_USER user_read
        EXPECT_FAULT 0x80, NO_ERROR_CODE, user_read_end+USER
        CASE "SMAP: a push to a user page"
        lea rsp, [r12 + 128]
        stac
        clac
        mov byte ptr [idt + 16 * 14 + 4], 2
1:      push rax
        EXPECT_FAULT 14, 3, 1b, WIN+120
        mov byte ptr [idt + 16 * 14 + 4], 0
        CASE "SMAP: a string instruction"
        mov rsi, r12
        mov edi, offset page_d
        mov ecx, 16
1:      rep movsb
        EXPECT_FAULT 14, 1, 1b, WIN
        // A descriptor-table read from a user page faults, whatever AC says.
        CASE "SMAP: implicit supervisor access ignores AC: the LDT in a user page"
        MAP 4, page_d, PTE_P+PTE_W+PTE_U
        movabs rax, 0x00cf93000000ffff
        mov [page_d + 8], rax
        mov rax, [gdt + LDT_SELECTOR]
        mov [variable], rax
        mov eax, WIN + 4 * 4096
        mov [gdt + LDT_SELECTOR + 2], ax
        shr eax, 16
        mov [gdt + LDT_SELECTOR + 4], al
        mov [gdt + LDT_SELECTOR + 7], ah
        mov eax, LDT_SELECTOR
        lldt ax
        mov eax, 0xc
        stac
1:      mov es, eax
        EXPECT_FAULT 14, 1, 1b, WIN+4*4096+8
        CASE "SMAP: with the LDT in a supervisor page"
        MAP 4, page_d, PTE_P+PTE_W
        mov eax, 0xc
        mov es, eax
        EXPECT_NONE
        xor eax, eax
        lldt ax
        mov rax, [variable]
        mov [gdt + LDT_SELECTOR], rax
        mov eax, KDATA
        mov es, eax
        mov rax, cr4
        btr rax, 21
        mov cr4, rax
6:      bt r14d, 2
        jnc 7f
        mov rax, cr4
        bts rax, 11
        mov cr4, rax
        CASE "UMIP: SGDT at CPL 3"
        ENTER_USER user_sgdt
        EXPECT_FAULT 13, 0, user_sgdt+USER
        CASE "UMIP: SIDT at CPL 3"
        ENTER_USER user_sidt
        EXPECT_FAULT 13, 0, user_sidt+USER
        CASE "UMIP: SLDT at CPL 3"
        ENTER_USER user_sldt
        EXPECT_FAULT 13, 0, user_sldt+USER
        CASE "UMIP: STR at CPL 3"
        ENTER_USER user_str
        EXPECT_FAULT 13, 0, user_str+USER
        CASE "UMIP: SMSW at CPL 3"
        ENTER_USER user_smsw
        EXPECT_FAULT 13, 0, user_smsw+USER
        CASE "UMIP: SMSW at CPL 0"
        smsw rax
        mov rcx, cr0
        CHECK_EQ "CR0", rax, rcx
        mov rax, cr4
        btr rax, 11
        mov cr4, rax
7:      CASE "without UMIP: SMSW at CPL 3"
        ENTER_USER user_smsw
        EXPECT_FAULT 0x80, NO_ERROR_CODE, user_smsw_end+USER
        mov rcx, cr0
        CHECK_EQ "CR0", [saved_registers+FRAME_RAX], rcx
        ret

user_sgdt: sgdt [user_stack_top + USER]
        ud2
user_sidt: sidt [user_stack_top + USER]
        ud2
user_sldt: sldt eax
        ud2
user_str: str eax
        ud2
user_smsw: smsw rax
        int 0x80
user_smsw_end:

large_pages:
        mov dword ptr [0x1200000], 0x33333333
        mov dword ptr [0x1401000], 0x44444444
        mov ebx, WIN + 0x200000
        CASE "a 2 MiB page"
        mov qword ptr [pd_win + 8], 0x1200000 + PTE_P + PTE_W + PTE_PS
        mov eax, [rbx]
        CHECK_EQ "content", rax, 0x33333333
        CASE "another 2 MiB page"
        mov qword ptr [pd_win + 8], 0x1400000 + PTE_P + PTE_W + PTE_PS
        invlpg [rbx + 0x5000]
        mov eax, [rbx + 0x1000]
        CHECK_EQ "content", rax, 0x44444444
        CASE "INVLPG of one address drops all of a 2 MiB page"
        mov eax, [rbx]
        mov eax, [rbx + 0x1000]
        mov qword ptr [pd_win + 8], 0x1200000 + PTE_P + PTE_W + PTE_PS
        invlpg [rbx + 0x1000]
        mov eax, [rbx]
        CHECK_EQ "content", rax, 0x33333333
        CASE "from a 2 MiB page to a table"
        mov qword ptr [pd_win + 8], offset win_table + PTE_P + PTE_W
        MAP 0, page_a, PTE_P
        invlpg [rbx]
        mov eax, [rbx]
        CHECK_EQ "content", rax, 0x11111111
        mov qword ptr [pd_win + 8], 0
        invlpg [rbx]
        mov eax, 0x80000001
        cpuid
        bt edx, 26
        jnc 5f
        CASE "a 1 GiB page"
        mov qword ptr [pdpt + 4 * 8], 0 + PTE_P + PTE_W + PTE_PS
        movabs rbx, 0x101200000
        mov eax, [rbx]
        CHECK_EQ "content", rax, 0x33333333
        CASE "D of a 1 GiB page"
        mov dword ptr [rbx], 0x33333334
        mov rcx, [pdpt + 4 * 8]
        and ecx, PTE_A | PTE_D
        mov eax, [0x1200000]
        CHECK_EQ "content", rax, 0x33333334
        CHECK_EQ "A, D", rcx, PTE_A+PTE_D
        jmp 6f
5:      CASE "without 1 GiB pages PS is reserved there"
        mov qword ptr [pdpt + 4 * 8], 0 + PTE_P + PTE_W + PTE_PS
        movabs rbx, 0x101200000
1:      mov eax, [rbx]
        EXPECT_FAULT 14, 9, 1b, 0x101200000
6:      mov qword ptr [pdpt + 4 * 8], 0
        ret

invalidation:
        MAP 0, page_a, PTE_P+PTE_W+PTE_G
        CASE "a global page is dropped by clearing CR4.PGE"
        mov eax, [r12]
        mov qword ptr [win_table], offset page_b + PTE_P + PTE_W + PTE_G
        mov rax, cr4
        btr rax, 7
        mov cr4, rax
        mov ecx, [r12]
        bts rax, 7
        mov cr4, rax
        CHECK_EQ "content", rcx, 0x22222222
        CASE "a global page is dropped by INVLPG"
        MAP 0, page_a, PTE_P+PTE_W+PTE_G
        mov eax, [r12]
        CHECK_EQ "content", rax, 0x11111111
        mov eax, 7
        xor ecx, ecx
        cpuid
        bt ebx, 10
        jnc 5f
        CASE "INVPCID of all contexts with globals"
        mov qword ptr [win_table], offset page_b + PTE_P + PTE_W + PTE_G
        mov eax, 2
        invpcid rax, [invpcid_descriptor]
        mov eax, [r12]
        CHECK_EQ "content", rax, 0x22222222
        CASE "INVPCID of one address"
        mov qword ptr [win_table], offset page_a + PTE_P + PTE_W
        mov eax, WIN
        mov [invpcid_descriptor + 8], rax
        xor eax, eax
        invpcid rax, [invpcid_descriptor]
        mov eax, [r12]
        CHECK_EQ "content", rax, 0x11111111
        CASE "INVPCID of one context"
        mov qword ptr [win_table], offset page_b + PTE_P + PTE_W
        mov eax, 1
        invpcid rax, [invpcid_descriptor]
        mov eax, [r12]
        CHECK_EQ "content", rax, 0x22222222
        CASE "INVPCID of all contexts but globals"
        mov qword ptr [win_table], offset page_a + PTE_P + PTE_W
        mov eax, 3
        invpcid rax, [invpcid_descriptor]
        mov eax, [r12]
        CHECK_EQ "content", rax, 0x11111111
        CASE "INVPCID of an unknown type: #GP(0)"
        mov eax, 4
1:      invpcid rax, [invpcid_descriptor]
        EXPECT_FAULT 13, 0, 1b
        CASE "INVPCID with reserved bits: #GP(0)"
        mov qword ptr [invpcid_descriptor], 0x1000
        xor eax, eax
1:      invpcid rax, [invpcid_descriptor]
        EXPECT_FAULT 13, 0, 1b
        CASE "INVPCID of PCID 1 without CR4.PCIDE: #GP(0)"
        mov qword ptr [invpcid_descriptor], 1
        xor eax, eax
1:      invpcid rax, [invpcid_descriptor]
        EXPECT_FAULT 13, 0, 1b
        CASE "INVPCID of a non-canonical address: #GP(0)"
        mov qword ptr [invpcid_descriptor], 0
        movabs rax, 0x800000000000
        mov [invpcid_descriptor + 8], rax
        xor eax, eax
1:      invpcid rax, [invpcid_descriptor]
        EXPECT_FAULT 13, 0, 1b
5:      CASE "INVLPG of a non-canonical address does nothing"
        movabs rax, 0x800000000000
        invlpg [rax]
        EXPECT_NONE
        CASE "INVLPG at CPL 3: #GP(0)"
        ENTER_USER user_invlpg
        EXPECT_FAULT 13, 0, user_invlpg+USER
        CASE "CR3 at CPL 3: #GP(0)"
        ENTER_USER user_cr3
        EXPECT_FAULT 13, 0, user_cr3+USER
        ret

user_invlpg: invlpg [r12]
user_cr3: mov rax, cr3

pcid:
        mov eax, 1
        cpuid
        bt ecx, 17
        jc 5f
        ret
5:      CASE "CR3 bit 63 without CR4.PCIDE: #GP(0)"
        mov rax, cr3
        bts rax, 63
1:      mov cr3, rax
        EXPECT_FAULT 13, 0, 1b
        CASE "CR4.PCIDE with CR3[11:0] not 0: #GP(0)"
        mov rax, cr3
        or rax, 8
        mov cr3, rax
        mov rax, cr4
        bts rax, 17
1:      mov cr4, rax
        EXPECT_FAULT 13, 0, 1b
        mov rax, cr3
        and rax, -4096
        mov cr3, rax
        CASE "CR4.PCIDE on"
        mov rax, cr4
        bts rax, 17
        mov cr4, rax
        mov rcx, cr4
        CHECK_EQ "CR4", rcx, rax
        CASE "a second address space"
        // Its PML4 differs in WIN: a PDPT of its own with another table behind.
        mov esi, offset pdpt
        mov edi, offset pdpt2
        mov ecx, 512
        rep movsq
        mov qword ptr [pdpt2 + 2 * 8], offset pd_win2 + 7
        mov qword ptr [pd_win2], offset win_table2 + 7
        mov qword ptr [win_table2], offset page_b + PTE_P + PTE_W
        mov qword ptr [pml4_2], offset pdpt2 + 7
        MAP 0, page_a, PTE_P+PTE_W
        mov r13, cr3
        mov r14d, offset pml4_2 + 1
        xor r8d, r8d
        xor r9d, r9d
        mov ecx, 100
2:      add r8d, [r12]
        mov rax, r14
        bts rax, 63
        mov cr3, rax
        add r9d, [r12]
        mov rax, r13
        bts rax, 63
        mov cr3, rax
        dec ecx
        jnz 2b
        CHECK_EQ "own content", r8, (0x11111111*100) & 0xffffffff
        CHECK_EQ "the other's content", r9, (0x22222222*100) & 0xffffffff
        CASE "bit 63 is not kept in CR3"
        mov rax, r14
        bts rax, 63
        mov cr3, rax
        mov rax, cr3
        mov cr3, r13
        CHECK_EQ "CR3", rax, r14
        CASE "without bit 63 the context's translations go"
        mov eax, [r12]
        mov qword ptr [win_table], offset page_b + PTE_P + PTE_W
        mov rax, cr3
        mov cr3, rax
        mov eax, [r12]
        CHECK_EQ "content", rax, 0x22222222
        CASE "INVPCID of one address of the other context"
        mov cr3, r14
        mov eax, [r12]
        mov rax, r13
        bts rax, 63
        mov cr3, rax
        mov qword ptr [win_table2], offset page_a + PTE_P + PTE_W
        mov qword ptr [invpcid_descriptor], 1
        mov eax, WIN
        mov [invpcid_descriptor + 8], rax
        xor eax, eax
        invpcid rax, [invpcid_descriptor]
        mov rax, r14
        bts rax, 63
        mov cr3, rax
        mov eax, [r12]
        mov rcx, r13
        bts rcx, 63
        mov cr3, rcx
        CHECK_EQ "content", rax, 0x11111111
        CASE "clearing CR4.PCIDE"
        mov rax, cr4
        btr rax, 17
        mov cr4, rax
        mov eax, [r12]
        CHECK_EQ "content", rax, 0x22222222
        ret

        .data
        .balign 16
invpcid_descriptor: .quad 0, 0
variable: .quad 0
pd_low_copy: .quad 0
        .bss
        .balign 4096
pml4_2: .skip 4096
pdpt2:  .skip 4096
pd_win2: .skip 4096
win_table2: .skip 4096
        .section .note.GNU-stack, "", @progbits
