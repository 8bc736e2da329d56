# The first instructions of the PV guest, its exception stubs and its Xen notes.
#
# Xen starts vCPU 0 here in 64-bit mode, in the builder's page tables, with %rsi on start_info and no stack. .bss is not
# in the file and the builder does not touch its pages, so clearing it comes first. The stack needs no clearing.
# Source: Xen public headers xen/elfnote.h and xen/arch-x86/xen-x86_64.h (exception frames).

#define __ASSEMBLY__ 1
#define HYPERVISOR_IRET 23
#include <xen/elfnote.h>

.section .text.entry, "ax", @progbits
.globl xen_pv_entry
.type xen_pv_entry, @function
xen_pv_entry:
    cld
    movl $xen_pv_stack_top, %esp
    xorl %ebp, %ebp
    movl $xen_pv_bss_begin, %edi
    movl $xen_pv_bss_words, %ecx
    xorl %eax, %eax
    rep stosq
    movq %rsi, %rdi
    call xen_pv_start
    ud2
.size xen_pv_entry, . - xen_pv_entry

# Every exception but a page fault is the guest's end, so a stub keeps nothing: it says which one it was and where its
# frame is.
# The frame: %rcx, %r11, then an error code where the CPU pushes one, then %rip, %cs, %rflags, %rsp, %ss.
# One stub every 16 bytes, in the order of the vectors.
.globl xen_pv_exception_stubs
.p2align 4
xen_pv_exception_stubs:
.irp vector, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19
    .p2align 4
.if \vector == 14
    jmp page_fault
.else
    movl $\vector, %edi
    jmp exception_common
.endif
.endr

exception_common:
    movq %rsp, %rsi
    andq $-16, %rsp
    call xen_pv_exception
    ud2

# A page fault may be repaired: what the C code may change is kept, and the way back is Xen's iret, which wants the
# frame of struct iret_context: %rax, %r11, %rcx, flags, then what the CPU pushed. Xen aligns the frame to 16 bytes.
page_fault:
    pushq %rax
    pushq %rdx
    pushq %rsi
    pushq %rdi
    pushq %r8
    pushq %r9
    pushq %r10
    leaq 56(%rsp), %rdi
    subq $8, %rsp
    call xen_pv_page_fault
    addq $8, %rsp
    popq %r10
    popq %r9
    popq %r8
    popq %rdi
    popq %rsi
    popq %rdx
    popq %rax
    movq (%rsp), %rcx
    movq 8(%rsp), %r11
    addq $24, %rsp
    pushq $0
    pushq %rcx
    pushq %r11
    pushq %rax
    movl $HYPERVISOR_IRET, %eax
    syscall
    ud2

.section .stack, "aw", @nobits
.p2align 12
    .skip 16384
xen_pv_stack_top:

.macro xen_note type, value:vararg
    .p2align 2
    .long 4, 3f - 2f, \type
    .asciz "Xen"
2:  \value
3:  .p2align 2
.endm

.section .note.Xen, "a", @note
    xen_note XEN_ELFNOTE_GUEST_OS, .asciz "Synfluid"
    xen_note XEN_ELFNOTE_XEN_VERSION, .asciz "xen-3.0"
    xen_note XEN_ELFNOTE_LOADER, .asciz "generic"
    xen_note XEN_ELFNOTE_VIRT_BASE, .quad xen_pv_base
    xen_note XEN_ELFNOTE_PADDR_OFFSET, .quad 0
    xen_note XEN_ELFNOTE_ENTRY, .quad xen_pv_entry
    xen_note XEN_ELFNOTE_FEATURES, .asciz "writable_page_tables|pae_pgdir_above_4gb"
    xen_note XEN_ELFNOTE_L1_MFN_VALID, .quad 1, 1

.section .note.GNU-stack, "", @progbits
