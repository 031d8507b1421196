/* Ring 3 and back, as a kernel does it: entry of SYSCALL with SWAPGS and a stack of its own, and a way out. */

        .text
/* run_user(function, stack): runs a function in ring 3 until system call 0. */
        .globl run_user
run_user:
        push %rbx
        push %rbp
        push %r12
        push %r13
        push %r14
        push %r15
        mov %rsp, outer_stack
        push $0x1b
        push %rsi
        push $2
        push $0x23
        push %rdi
        iretq

leave_user:
        mov outer_stack, %rsp
        pop %r15
        pop %r14
        pop %r13
        pop %r12
        pop %rbp
        pop %rbx
        ret

        .weak system_call
        .globl syscall_entry
syscall_entry:
        swapgs
        mov %rsp, %gs:8
        mov %gs:0, %rsp
        push %gs:8
        push %r11
        push %rcx
        push %rdi
        push %rsi
        push %rdx
        push %r10
        push %r8
        push %r9
        test %eax, %eax
        jz 1f
        mov %rax, %rcx
        call system_call
        pop %r9
        pop %r8
        pop %r10
        pop %rdx
        pop %rsi
        pop %rdi
        pop %rcx
        pop %r11
        pop %rsp
        swapgs
        sysretq
1:      swapgs
        jmp leave_user

/* For processors: top of the stack for system calls, and a place for the user's. */
        .data
        .align 8
        .globl per_processor
per_processor:
        .quad kernel_stack_top - 16384, 0
outer_stack:
        .quad 0
        .section .note.GNU-stack, "", @progbits
