/*
 * Boots from 32-bit protected mode (PVH's entry) into long mode with the first GiB and the local APIC mapped to
 * themselves, for ring 3 too, and calls runtime_main. The second processor, if one is started, ends in second_main.
 */

#define CR0 0x80010023 /* PG WP NE MP PE */
#define CR4 0x620      /* OSXMMEXCPT OSFXSR PAE */
#define EFER 0xc0000080
#define EFER_BITS 0x901 /* NXE LME SCE */
#define TRAMPOLINE 0x8000

        .section .note.pvh, "a", @note
        .long 4, 4, 18 /* XEN_ELFNOTE_PHYS32_ENTRY */
        .asciz "Xen"
        .long _start

        .text
        .code32
        .globl _start
_start:
        cli
        cld
        lgdt gdt_pointer
        mov $stack_top, %esp

        movl $pdpt + 7, pml4
        movl $low_directory + 7, pdpt
        movl $high_directory + 7, pdpt + 3 * 8
        /* 512 pages of 2 MiB: present, writable, user's, large. */
        mov $low_directory, %edi
        mov $0x87, %eax
1:      mov %eax, (%edi)
        add $0x200000, %eax
        add $8, %edi
        cmp $low_directory + 4096, %edi
        jb 1b
        /* 0xfee00000: not cached. */
        movl $0xfee00093, high_directory + 503 * 8
        ljmp $0x38, $enter_long

/* On both processors: 32-bit code with the GDT loaded. */
        .globl enter_long
enter_long:
        mov $0x10, %ax
        mov %ax, %ds
        mov %ax, %es
        mov %ax, %ss
        xor %eax, %eax
        mov %ax, %fs
        mov %ax, %gs
        mov $CR4, %eax
        mov %eax, %cr4
        mov $pml4, %eax
        mov %eax, %cr3
        mov $EFER, %ecx
        mov $EFER_BITS, %eax
        xor %edx, %edx
        wrmsr
        mov $CR0, %eax
        mov %eax, %cr0
        ljmp $0x08, $long_mode

        .code64
long_mode:
        fninit
        mov %esp, %esp
        cmpl $0, second_starts
        jne second_main
        call runtime_main
1:      hlt
        jmp 1b

/* Copied to TRAMPOLINE: where the second processor starts, in real mode. */
        .code16
        .globl trampoline, trampoline_end
trampoline:
        cli
        xor %ax, %ax
        mov %ax, %ds
        lgdtl TRAMPOLINE + trampoline_pointer - trampoline
        mov $0x21, %eax
        mov %eax, %cr0
        ljmpl $0x38, $TRAMPOLINE + 1f - trampoline
        .code32
1:      mov $0x10, %ax
        mov %ax, %ds
        mov $second_stack_top, %esp
        jmp *TRAMPOLINE + trampoline_target - trampoline
        .align 4
trampoline_target:
        .long enter_long
trampoline_pointer:
        .word gdt_end - gdt - 1
        .long gdt
trampoline_end:
        .code64

/* Exceptions: vector and error code on the stack, then exception(frame). */
        .altmacro
        .macro stub vector
stub\vector:
        .if \vector == 8 || (\vector >= 10 && \vector <= 14) || \vector == 17
        .else
        push $0
        .endif
        push $\vector
        jmp exception_entry
        .endm
        .set i, 0
        .rept 32
        stub %i
        .set i, i + 1
        .endr

exception_entry:
        push %rax
        push %rcx
        push %rdx
        push %rsi
        push %rdi
        push %r8
        push %r9
        push %r10
        push %r11
        lea 72(%rsp), %rdi
        cld
        call exception
        pop %r11
        pop %r10
        pop %r9
        pop %r8
        pop %rdi
        pop %rsi
        pop %rdx
        pop %rcx
        pop %rax
        add $16, %rsp
        iretq

        .data
        .align 16
        .globl gdt
gdt:    .quad 0
        .quad 0x00af9b000000ffff /* 08: code, 64 bits */
        .quad 0x00cf93000000ffff /* 10: data */
        .quad 0x00cff3000000ffff /* 18: data of ring 3 */
        .quad 0x00affb000000ffff /* 20: code of ring 3, 64 bits */
        .quad 0, 0               /* 28: TSS, filled in by runtime_main */
        .quad 0x00cf9b000000ffff /* 38: code, 32 bits */
gdt_end:
gdt_pointer:
        .word gdt_end - gdt - 1
        .long gdt
        .globl second_starts
second_starts:
        .long 0

        .section .rodata
        .align 8
        .globl exception_stubs
exception_stubs:
        .macro address vector
        .quad stub\vector
        .endm
        .set i, 0
        .rept 32
        address %i
        .set i, i + 1
        .endr

        .bss
        .align 4096
        .globl pml4, low_directory
pml4:   .skip 4096
pdpt:   .skip 4096
low_directory:
        .skip 4096
high_directory:
        .skip 4096
        .skip 65536
        .globl stack_top
stack_top:
        .skip 65536
second_stack_top:
        .section .note.GNU-stack, "", @progbits
