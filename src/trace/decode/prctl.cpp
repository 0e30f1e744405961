// SPDX-License-Identifier: Apache-2.0
/// prctl and arch_prctl.
#include "trace/decode/decoders.h"

#include <asm/prctl.h>
#include <linux/prctl.h>

namespace gnomon::trace::decode {

namespace {

void prctl_rest(CallFormatter& f, unsigned first, unsigned last) {
    for (unsigned i = first; i <= last; ++i) {
        f.argument(i);
        f.hex(f.arg(i));
    }
}

void prctl_enter(CallFormatter& f) {
    f.print_argument(0);
    const auto second = [&] { f.argument(1); };
    switch (f.arg32(0)) {
    case PR_GET_DUMPABLE:
    case PR_GET_KEEPCAPS:
    case PR_GET_SECCOMP:
    case PR_GET_SECUREBITS:
    case PR_GET_TIMING:
    case PR_GET_TIMERSLACK:
    case PR_TASK_PERF_EVENTS_DISABLE:
    case PR_TASK_PERF_EVENTS_ENABLE:
    case PR_GET_FP_MODE:
    case PR_SVE_GET_VL: return f.finish();
    case PR_GET_CHILD_SUBREAPER:
    case PR_GET_ENDIAN:
    case PR_GET_FPEMU:
    case PR_GET_FPEXC:
    case PR_GET_NAME:
    case PR_GET_PDEATHSIG:
    case PR_GET_TID_ADDRESS:
    case PR_GET_TSC:
    case PR_GET_UNALIGN: return; // the kernel fills argument 2
    case PR_CAPBSET_READ:
    case PR_CAPBSET_DROP:
        second();
        f.name(flags::capability, f.arg(1));
        break;
    case PR_SET_NAME:
        second();
        f.c_string(f.arg(1), 15); // TASK_COMM_LEN
        break;
    case PR_SET_PDEATHSIG:
        second();
        f.signal(f.arg32(1));
        break;
    case PR_SET_DUMPABLE:
        second();
        f.name(flags::dumpable, f.arg(1));
        break;
    case PR_SET_SECUREBITS:
        second();
        f.flags(flags::securebits, f.arg(1));
        break;
    case PR_SET_CHILD_SUBREAPER:
    case PR_SET_KEEPCAPS:
    case PR_SET_TIMERSLACK:
    case PR_SET_TIMING:
    case PR_SVE_SET_VL:
    case PR_SET_FP_MODE:
        second();
        f.as_signed(f.arg(1)) < 0 ? f.hex(f.arg(1)) : f.unsigned_decimal(f.arg(1));
        break;
    case PR_SET_NO_NEW_PRIVS:
    case PR_SET_THP_DISABLE:
    case PR_SET_IO_FLUSHER:
        second();
        f.unsigned_decimal(f.arg(1));
        prctl_rest(f, 2, 4);
        break;
    case PR_GET_NO_NEW_PRIVS:
    case PR_GET_THP_DISABLE:
    case PR_GET_IO_FLUSHER:
    case PR_MCE_KILL_GET:
    case PR_GET_TAGGED_ADDR_CTRL: prctl_rest(f, 1, 4); break;
    case PR_CAP_AMBIENT: {
        static constexpr Flag operations[] = {{1, "PR_CAP_AMBIENT_IS_SET"},
                                              {2, "PR_CAP_AMBIENT_RAISE"},
                                              {3, "PR_CAP_AMBIENT_LOWER"},
                                              {4, "PR_CAP_AMBIENT_CLEAR_ALL"}};
        second();
        f.name(FlagTable{operations, "PR_CAP_AMBIENT_???"}, f.arg(1));
        if (f.arg(1) >= 1 && f.arg(1) <= 3) {
            f.argument(2);
            f.name(flags::capability, f.arg(2));
            prctl_rest(f, 3, 4);
        } else {
            prctl_rest(f, 2, 4);
        }
        break;
    }
    case PR_SET_SECCOMP: {
        static constexpr Flag modes[] = {
            {0, "SECCOMP_MODE_DISABLED"}, {1, "SECCOMP_MODE_STRICT"}, {2, "SECCOMP_MODE_FILTER"}};
        second();
        f.name(FlagTable{modes, "SECCOMP_MODE_???"}, f.arg(1));
        constexpr u64 strict = 1, filter = 2;
        if (f.arg(1) == filter) {
            f.argument(2);
            filter_program(f, f.arg(2));
        } else if (f.arg(1) != strict) {
            prctl_rest(f, 2, 4);
        }
        break;
    }
    case PR_GET_SPECULATION_CTRL:
        second();
        f.name(flags::speculation, f.arg(1));
        break;
    case PR_SET_SPECULATION_CTRL: {
        static constexpr Flag controls[] = {{1, "PR_SPEC_PRCTL"},
                                            {2, "PR_SPEC_ENABLE"},
                                            {4, "PR_SPEC_DISABLE"},
                                            {8, "PR_SPEC_FORCE_DISABLE"},
                                            {16, "PR_SPEC_DISABLE_NOEXEC"}};
        second();
        f.name(flags::speculation, f.arg(1));
        f.argument(2);
        f.name(FlagTable{controls, "PR_SPEC_???"}, f.arg(2));
        break;
    }
    case PR_SET_PTRACER:
        second();
        f.arg(1) == ~u64{0} ? f.put("PR_SET_PTRACER_ANY") : f.unsigned_decimal(f.arg(1));
        break;
    case 0x53564d41: // PR_SET_VMA
        second();
        if (f.arg(1) != 0) {
            f.print("{:#x} /* PR_SET_VMA_??? */", f.arg(1));
            prctl_rest(f, 2, 4);
            break;
        }
        f.put("PR_SET_VMA_ANON_NAME");
        f.argument(2);
        f.pointer(f.arg(2));
        f.argument(3);
        f.unsigned_decimal(f.arg(3));
        f.argument(4);
        f.c_string(f.arg(4), 80);
        break;
    default: prctl_rest(f, 1, 4); break;
    }
    f.finish();
}

void prctl_exit(CallFormatter& f) {
    switch (f.arg32(0)) {
    case PR_GET_NAME:
        f.argument(1);
        f.failed() ? f.pointer(f.arg(1)) : f.c_string(f.arg(1), 15);
        break;
    case PR_GET_TID_ADDRESS:
        f.argument(1);
        f.failed() || f.arg(1) == 0 ? f.pointer(f.arg(1)) : word_pointer(f, f.arg(1));
        break;
    case PR_GET_PDEATHSIG: {
        f.argument(1);
        u32 signal = 0;
        if (f.failed() || f.arg(1) == 0 || !f.read_object(f.arg(1), signal)) {
            f.pointer(f.arg(1));
            break;
        }
        f.put('[');
        f.signal(signal);
        f.put(']');
        break;
    }
    case PR_GET_TSC: {
        static constexpr Flag values[] = {{1, "PR_TSC_ENABLE"}, {2, "PR_TSC_SIGSEGV"}};
        f.argument(1);
        u32 value = 0;
        if (f.failed() || f.arg(1) == 0 || !f.read_object(f.arg(1), value)) {
            f.pointer(f.arg(1));
            break;
        }
        f.put('[');
        f.name(FlagTable{values, "PR_TSC_???"}, value);
        f.put(']');
        break;
    }
    case PR_GET_CHILD_SUBREAPER:
    case PR_GET_ENDIAN:
    case PR_GET_FPEMU:
    case PR_GET_FPEXC:
    case PR_GET_UNALIGN:
        f.argument(1);
        f.failed() || f.arg(1) == 0 ? f.pointer(f.arg(1)) : unsigned_integer(f, f.arg(1));
        break;
    case PR_GET_DUMPABLE:
        if (!f.failed())
            if (const Flag* flag = find_flag(flags::dumpable, static_cast<u64>(f.result())))
                append(f.remark(), flag->name);
        break;
    case PR_GET_SECUREBITS:
        if (!f.failed() && f.result() != 0) {
            f.result_kind(ResultKind::hex);
            f.remark_with([&](CallFormatter& r) {
                r.flags(flags::securebits, static_cast<u32>(f.result()));
            });
        }
        break;
    default: break;
    }
}

} // namespace

void sys_prctl(CallFormatter& f) { f.entering() ? prctl_enter(f) : prctl_exit(f); }

void sys_arch_prctl(CallFormatter& f) {
    const u32 operation = f.arg32(0);
    const bool gets = operation == ARCH_GET_FS || operation == ARCH_GET_GS ||
                      (operation >= 0x1021 && operation <= 0x1024 && operation != 0x1023);
    if (f.entering()) {
        f.print_argument(0);
        if (operation == ARCH_GET_CPUID) return f.finish();
        if (gets) return;
        f.argument(1);
        operation == ARCH_SET_FS || operation == ARCH_SET_GS ? f.pointer(f.arg(1))
                                                             : f.hex(f.arg(1));
        return f.finish();
    }
    if (!gets) return;
    f.argument(1);
    f.failed() || f.arg(1) == 0 ? f.pointer(f.arg(1)) : word_pointer(f, f.arg(1));
}

} // namespace gnomon::trace::decode
