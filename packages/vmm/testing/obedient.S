/*
 * A kernel that says `boot`, then obeys letters typed on COM1: r resets, o switches off, p panics, c panics and loads a crash
 * kernel, x ends with status 5. It echoes any other, and says `button` when the power button is pressed.
 */
.globl _start
_start: lea booted(%rip), %rsi
        call say
wait:   mov $0x600, %dx
        in %dx, %ax
        test $0x100, %ax
        jz 1f
        mov $0x100, %ax
        out %ax, %dx
        lea button(%rip), %rsi
        call say
1:      mov $0x3fd, %dx
        in %dx, %al
        test $1, %al
        jz wait
        mov $0x3f8, %dx
        in %dx, %al
        cmp $'r', %al
        je reset
        cmp $'o', %al
        je off
        cmp $'p', %al
        je panic
        cmp $'c', %al
        je crash
        cmp $'x', %al
        je exit
        out %al, %dx
        jmp wait
reset:  mov $6, %al
        mov $0xcf9, %dx
        jmp tell
off:    mov $0x34, %al
        mov $0x605, %dx
        jmp tell
panic:  mov $1, %al
        mov $0x505, %dx
        jmp tell
crash:  mov $2, %al
        mov $0x505, %dx
        jmp tell
exit:   mov $2, %al
        mov $0xf4, %dx
tell:   out %al, %dx
        jmp wait
say:    mov $0x3f8, %dx
1:      lodsb
        test %al, %al
        jz 2f
        out %al, %dx
        jmp 1b
2:      ret
booted: .asciz "boot\n"
button: .asciz "button\n"
