// SPDX-License-Identifier: Apache-2.0
/// @file The real-time clock beside a twin that is never told that time passes: both must read the
/// same, whatever date the guest has set.
#include "platform/rtc_mc146818.h"
#include "fuzz/support/machine.h"

using namespace gnomon;
using namespace gnomon::fuzz;
using platform::RtcMc146818;

namespace {

/// Whether a register of a running clock holds a possible value in the format in force.
bool possible(u8 value, bool binary, unsigned first, unsigned last) {
    if (!binary && ((value & 15) > 9 || value >> 4 > 9)) return false;
    const unsigned number = binary ? value : (value >> 4) * 10U + (value & 15U);
    return number >= first && number <= last;
}

u8 read_register(RtcMc146818& rtc, RtcMc146818::Reg reg) {
    rtc.write(0, 1, static_cast<u8>(reg));
    return static_cast<u8>(rtc.read(1, 1));
}

void check(RtcMc146818& rtc) {
    using Reg = RtcMc146818::Reg;
    const u8 b = read_register(rtc, Reg::b);
    require(read_register(rtc, Reg::d) == RtcMc146818::vrt, "register D is not valid RAM and time");
    const bool stopped = (b & RtcMc146818::set) != 0 || (read_register(rtc, Reg::a) & 0x60) == 0x60;
    if (stopped) return; // then the registers hold what the guest put there
    const bool binary = (b & RtcMc146818::dm) != 0;
    require(possible(read_register(rtc, Reg::seconds), binary, 0, 59), "impossible seconds");
    require(possible(read_register(rtc, Reg::minutes), binary, 0, 59), "impossible minutes");
    const u8 hours = read_register(rtc, Reg::hours);
    require((b & RtcMc146818::hours24) != 0 ? possible(hours, binary, 0, 23)
                                            : possible(hours & 0x7f, binary, 1, 12),
            "impossible hours");
    require(possible(read_register(rtc, Reg::day), binary, 1, 31), "impossible day");
    require(possible(read_register(rtc, Reg::month), binary, 1, 12), "impossible month");
    require(possible(read_register(rtc, Reg::day_of_week), binary, 1, 7), "impossible weekday");
    require(possible(read_register(rtc, Reg::year), binary, 0, 99), "impossible year");
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    Input input(data, size);
    platform::ManualClock clock;
    WireTap wires;
    const u64 utc_ns = input.take<u64>() >> 3, memory = input.take<u32>();
    RtcMc146818 rtc(clock, wires.line(0), utc_ns, memory);
    RtcMc146818 twin(clock, wires.line(1), utc_ns, memory);
    while (!input.empty()) {
        const u8 what = input.take<u8>();
        switch (what & 3) {
        case 0: {
            const Access a = take_access(input, 2);
            require(make_access(rtc, a) == make_access(twin, a),
                    "what the RTC shows depends on how often it is advanced");
            break;
        }
        case 1: { // one of its registers
            const u8 index = (what & 4) != 0 ? 0x32 : what >> 4;
            const u8 value = input.take<u8>();
            for (RtcMc146818* one : {&rtc, &twin}) {
                one->write(0, 1, index);
                if ((what & 8) != 0) one->write(1, 1, value);
            }
            require(rtc.read(1, 1) == twin.read(1, 1),
                    "what the RTC shows depends on how often it is advanced");
            break;
        }
        default: pass(rtc, clock, take_delay(input), 8); break;
        }
        settle(rtc, clock);
        const u8 flags = rtc.memory(static_cast<u8>(RtcMc146818::Reg::c));
        require(((flags & RtcMc146818::irqf) != 0) == wires.level[0],
                "IRQF is not what the interrupt line is");
        if ((what & 0x30) == 0x30) {
            check(rtc);
            check(twin);
        }
    }
    return 0;
}
