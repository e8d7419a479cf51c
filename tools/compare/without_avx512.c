// Hides AVX-512 and AMX from a program and its threads, so that its libraries choose the kernels that they have for
// processors without. For libraries that have no option for it:
//
//     cc -O2 -shared -fPIC tools/compare/without_avx512.c -o without_avx512.so
//     LD_PRELOAD=$PWD/without_avx512.so PROGRAM
//
// The kernel lets the instruction CPUID fault (`cpuid_fault` in /proc/cpuinfo). The
// handler executes it instead and removes the features. The dynamic loader has asked before: the C library keeps its own
// AVX-512 routines for copying memory.

#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define ARCH_SET_CPUID 0x1012
#define BIT(n) (1u << (n))

enum { FAULTS = 0, WORKS = 1 };

static long set_cpuid(long state) { return syscall(SYS_arch_prctl, ARCH_SET_CPUID, state); }

// Positions of the bits: Intel, Software Developer's Manual, volume 2, CPUID.
static void hide(uint32_t leaf, uint32_t subleaf, uint32_t *eax, uint32_t *ebx, uint32_t *ecx, uint32_t *edx) {
    if (leaf == 7 && subleaf == 0) {
        // AVX512F, DQ, IFMA, PF, ER, CD, BW, VL.
        *ebx &= ~(BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31));
        // AVX512_VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ.
        *ecx &= ~(BIT(1) | BIT(6) | BIT(11) | BIT(12) | BIT(14));
        // AVX512_4VNNIW, 4FMAPS, VP2INTERSECT; AMX-BF16; AVX512_FP16; AMX-TILE, AMX-INT8.
        *edx &= ~(BIT(2) | BIT(3) | BIT(8) | BIT(22) | BIT(23) | BIT(24) | BIT(25));
    }
    if (leaf == 7 && subleaf == 1) {
        // AVX512_BF16, AMX-FP16.
        *eax &= ~(BIT(5) | BIT(21));
    }
}

static void on_fault(int signal_number, siginfo_t *info, void *context) {
    (void)info;
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const uint8_t *instruction = (const uint8_t *)registers[REG_RIP];
    if (instruction[0] != 0x0f || instruction[1] != 0xa2) {
        // Another fault: the instruction is executed again and ends the program.
        signal(signal_number, SIG_DFL);
        return;
    }
    uint32_t leaf = (uint32_t)registers[REG_RAX], subleaf = (uint32_t)registers[REG_RCX];
    uint32_t eax = leaf, ebx, ecx = subleaf, edx;
    set_cpuid(WORKS);
    __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    set_cpuid(FAULTS);
    hide(leaf, subleaf, &eax, &ebx, &ecx, &edx);
    registers[REG_RAX] = eax;
    registers[REG_RBX] = ebx;
    registers[REG_RCX] = ecx;
    registers[REG_RDX] = edx;
    registers[REG_RIP] += 2;
}

__attribute__((constructor)) static void start(void) {
    struct sigaction action = {0};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    if (sigaction(SIGSEGV, &action, NULL) || set_cpuid(FAULTS)) {
        perror("AVX-512 cannot be hidden: the kernel does not let CPUID fault");
        exit(1);
    }
}
