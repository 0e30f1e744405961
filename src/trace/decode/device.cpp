// SPDX-License-Identifier: Apache-2.0
/// ioctl: requests by name; terminals and a few others with their arguments.
#include "trace/decode/decoders.h"

#include <asm/termbits.h>
#include <linux/fs.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>

namespace gnomon::trace::decode {

namespace {

void request(CallFormatter& f, u32 value) {
    if (const Flag* flag = find_flag(flags::ioctl_request, value)) return f.put(flag->name);
    f.put("_IOC(");
    static constexpr std::string_view directions[] = {"_IOC_NONE", "_IOC_WRITE", "_IOC_READ",
                                                      "_IOC_READ|_IOC_WRITE"};
    f.put(directions[value >> 30]);
    f.put(", ");
    f.hex(value >> 8 & 0xff);
    f.put(", ");
    f.hex(value & 0xff);
    f.put(", ");
    f.hex(value >> 16 & 0x3fff);
    f.put(')');
}

struct Bits {
    u32 value;
    std::string_view name;
};

void set_of(CallFormatter& f, u32 value, std::span<const Bits> known, bool first = true) {
    for (const Bits& bit : known) {
        if ((value & bit.value) != bit.value) continue;
        if (!first) f.put('|');
        first = false;
        f.put(bit.name);
        value &= ~bit.value;
    }
    if (value == 0) return;
    if (!first) f.put('|');
    f.hex(value);
}

constexpr Bits input_bits[] = {{0x0001, "IGNBRK"}, {0x0002, "BRKINT"},  {0x0004, "IGNPAR"},
                               {0x0008, "PARMRK"}, {0x0010, "INPCK"},   {0x0020, "ISTRIP"},
                               {0x0040, "INLCR"},  {0x0080, "IGNCR"},   {0x0100, "ICRNL"},
                               {0x0200, "IUCLC"},  {0x0400, "IXON"},    {0x0800, "IXANY"},
                               {0x1000, "IXOFF"},  {0x2000, "IMAXBEL"}, {0x4000, "IUTF8"}};
constexpr Bits output_bits[] = {{0x01, "OPOST"}, {0x02, "OLCUC"}, {0x04, "ONLCR"},
                                {0x08, "OCRNL"}, {0x10, "ONOCR"}, {0x20, "ONLRET"},
                                {0x40, "OFILL"}, {0x80, "OFDEL"}};
constexpr Bits control_bits[] = {
    {0x0040, "CSTOPB"},    {0x0080, "CREAD"},      {0x0100, "PARENB"},
    {0x0200, "PARODD"},    {0x0400, "HUPCL"},      {0x0800, "CLOCAL"},
    {0x20000000, "ADDRB"}, {0x40000000, "CMSPAR"}, {0x80000000, "CRTSCTS"}};
constexpr Bits local_bits[] = {
    {0x0001, "ISIG"},   {0x0002, "ICANON"}, {0x0008, "ECHO"},    {0x0010, "ECHOE"},
    {0x0020, "ECHOK"},  {0x0040, "ECHONL"}, {0x0080, "NOFLSH"},  {0x0100, "TOSTOP"},
    {0x8000, "IEXTEN"}, {0x0004, "XCASE"},  {0x0200, "ECHOCTL"}, {0x0400, "ECHOPRT"},
    {0x0800, "ECHOKE"}, {0x1000, "FLUSHO"}, {0x4000, "PENDIN"},  {0x10000, "EXTPROC"}};

void terminal(CallFormatter& f, u64 address) {
    struct Termios {
        u32 input, output, control, local;
    } t{};
    if (!f.fetch(address, t)) return;
    f.put("{c_iflag=");
    set_of(f, t.input, input_bits);
    f.put(", c_oflag=");
    static constexpr std::string_view returns[] = {"CR0", "CR1", "CR2", "CR3"};
    static constexpr std::string_view tabs[] = {"TAB0", "TAB1", "TAB2", "TAB3"};
    f.put((t.output & NLDLY) != 0 ? "NL1|" : "NL0|");
    f.put(returns[t.output >> 9 & 3]);
    f.put('|');
    f.put(tabs[t.output >> 11 & 3]);
    f.put((t.output & BSDLY) != 0 ? "|BS1" : "|BS0");
    f.put((t.output & VTDLY) != 0 ? "|VT1" : "|VT0");
    f.put((t.output & FFDLY) != 0 ? "|FF1" : "|FF0");
    const u32 output_rest = t.output & ~u32{NLDLY | CRDLY | TABDLY | BSDLY | VTDLY | FFDLY};
    set_of(f, output_rest, output_bits, false);
    f.put(", c_cflag=");
    f.name(flags::tty_speed, t.control & CBAUD);
    if (const u32 in = t.control & CIBAUD; in != 0) {
        f.put('|');
        f.name(flags::tty_speed, in >> IBSHIFT);
        f.put("<<IBSHIFT");
    }
    static constexpr std::string_view sizes[] = {"|CS5", "|CS6", "|CS7", "|CS8"};
    f.put(sizes[t.control >> 4 & 3]);
    set_of(f, t.control & ~u32{CBAUD | CIBAUD | CSIZE}, control_bits, false);
    f.put(", c_lflag=");
    set_of(f, t.local, local_bits);
    f.put(", ...}");
}

void window_size(CallFormatter& f, u64 address) {
    std::array<u16, 4> w{};
    if (f.fetch(address, w))
        f.print("{{ws_row={}, ws_col={}, ws_xpixel={}, ws_ypixel={}}}", w[0], w[1], w[2], w[3]);
}

void wide_integer(CallFormatter& f, u64 address) {
    u64 value = 0;
    if (f.fetch(address, value)) f.print("[{}]", value);
}

void fiemap_or_range(CallFormatter& f, u64 address) {
    // struct file_clone_range
    struct Range {
        i64 fd;
        u64 source, length, destination;
    } r{};
    if (f.fetch(address, r))
        f.print("{{src_fd={}, src_offset={}, src_length={}, dest_offset={}}}", r.fd, r.source,
                r.length, r.destination);
}

enum class Way : u8 { none, value, in, out };

struct Form {
    u32 request;
    Way way;
    StructPrinter printer;
};

constexpr Form forms[] = {
    {TCGETS, Way::out, terminal},
    {TCSETS, Way::in, terminal},
    {TCSETSW, Way::in, terminal},
    {TCSETSF, Way::in, terminal},
    {0x802c542a, Way::out, terminal}, // TCGETS2 and its kin: the same beginning
    {0x402c542b, Way::in, terminal},
    {0x402c542c, Way::in, terminal},
    {0x402c542d, Way::in, terminal},
    {TIOCGWINSZ, Way::out, window_size},
    {TIOCSWINSZ, Way::in, window_size},
    {TIOCGPGRP, Way::out, integer},
    {TIOCSPGRP, Way::in, integer},
    {TIOCGSID, Way::out, integer},
    {TIOCOUTQ, Way::out, integer},
    {FIONREAD, Way::out, integer},
    {FIONBIO, Way::in, integer},
    {FIOASYNC, Way::in, integer},
    {TIOCPKT, Way::in, integer},
    {TIOCGPKT, Way::out, integer},
    {TIOCSPTLCK, Way::in, integer},
    {TIOCGPTLCK, Way::out, integer},
    {TIOCGEXCL, Way::out, integer},
    {TIOCGPTN, Way::out, unsigned_integer},
    {TIOCGETD, Way::out, integer},
    {TIOCSETD, Way::in, integer},
    {SIOCATMARK, Way::out, integer},
    {FIOSETOWN, Way::in, integer},
    {SIOCSPGRP, Way::in, integer},
    {FIOGETOWN, Way::out, integer},
    {SIOCGPGRP, Way::out, integer},
    {BLKGETSIZE, Way::out, word},
    {BLKRAGET, Way::out, word},
    {BLKFRAGET, Way::out, word},
    {BLKGETSIZE64, Way::out, wide_integer},
    {BLKSSZGET, Way::out, integer},
    {BLKROGET, Way::out, integer},
    {BLKBSZGET, Way::out, integer},
    {BLKPBSZGET, Way::out, unsigned_integer},
    {BLKIOMIN, Way::out, unsigned_integer},
    {BLKIOOPT, Way::out, unsigned_integer},
    {FICLONERANGE, Way::in, fiemap_or_range},
    {FIOCLEX, Way::none, nullptr},
    {FIONCLEX, Way::none, nullptr},
    {TIOCEXCL, Way::none, nullptr},
    {TIOCNXCL, Way::none, nullptr},
    {TIOCNOTTY, Way::none, nullptr},
    {TIOCSBRK, Way::none, nullptr},
    {TIOCCBRK, Way::none, nullptr},
    {TIOCVHANGUP, Way::none, nullptr},
    {TIOCSSERIAL, Way::none, nullptr},
    {TIOCCONS, Way::none, nullptr},
    {BLKRRPART, Way::none, nullptr},
    {BLKFLSBUF, Way::none, nullptr},
    {BLKTRACESTART, Way::none, nullptr},
    {BLKTRACESTOP, Way::none, nullptr},
    {BLKTRACETEARDOWN, Way::none, nullptr},
    {TIOCSCTTY, Way::value, nullptr},
    {TCSBRK, Way::value, nullptr},
    {TCSBRKP, Way::value, nullptr},
    {FICLONE, Way::value, nullptr},
};

const Form* find_form(u32 value) {
    for (const Form& form : forms)
        if (form.request == value) return &form;
    return nullptr;
}

bool takes_structure(u32 value) {
    const u32 type = value >> 8 & 0xff;
    constexpr u32 terminal_type = 0x54, console_type = 0x56, block_type = 0x12;
    return find_flag(flags::ioctl_request, value) != nullptr && type != terminal_type &&
           type != console_type && type != block_type;
}

} // namespace

void sys_ioctl(CallFormatter& f) {
    const Form* form = find_form(f.arg32(1));
    if (f.entering()) {
        f.print_argument(0);
        f.argument(1);
        request(f, f.arg32(1));
        const Way way = form == nullptr ? Way::none : form->way;
        if (form != nullptr && way == Way::out) return;
        if (form != nullptr && way == Way::none) return f.finish();
        f.argument(2);
        if (form == nullptr)
            // The arguments of sockets' and keyboards' requests are structures, of terminals' often
            // numbers.
            takes_structure(f.arg32(1)) ? f.pointer(f.arg(2)) : f.hex(f.arg(2));
        else if (way == Way::value)
            f.decimal(f.arg_int(2));
        else if (f.arg(2) == 0)
            f.put("NULL");
        else
            form->printer(f, f.arg(2));
        return f.finish();
    }
    if (form == nullptr || form->way != Way::out) return;
    f.argument(2);
    f.failed() || f.arg(2) == 0 ? f.pointer(f.arg(2)) : form->printer(f, f.arg(2));
}

} // namespace gnomon::trace::decode
