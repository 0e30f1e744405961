// SPDX-License-Identifier: Apache-2.0
/// Sockets: addresses, messages, options.
#include "trace/decode/decoders.h"

#include <algorithm>
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

namespace gnomon::trace::decode {

namespace {

constexpr size_t address_limit = 128; // struct sockaddr_storage

constexpr u16 big_endian(u16 value) { return static_cast<u16>(value << 8 | value >> 8); }

u16 load_port(std::span<const std::byte> b, size_t offset) {
    return big_endian(load<u16>(b, offset));
}

void print_unix(CallFormatter& f, std::span<const std::byte> b) {
    const std::string_view text(reinterpret_cast<const char*>(b.data()), b.size());
    const std::string_view path = text.substr(2);
    if (path.empty()) return; // unnamed
    f.put(", sun_path=");
    if (path[0] == '\0') {
        // Abstract: all bytes count. What follows the leading NUL may hold NULs.
        f.put('@');
        f.quote(path.substr(1));
    } else {
        f.quote(path.substr(0, path.find('\0')));
    }
}

void print_address(CallFormatter& f, std::span<const std::byte> b) {
    const u16 family = load<u16>(b, 0);
    f.put("{sa_family=");
    f.name(flags::address_family, family);
    char text[INET6_ADDRSTRLEN] = "";
    switch (family) {
    case AF_UNIX: print_unix(f, b); break;
    case AF_INET:
        if (b.size() < 16) goto other;
        ::inet_ntop(AF_INET, b.data() + 4, text, sizeof text);
        f.print(", sin_port=htons({}), sin_addr=inet_addr(\"{}\")", load_port(b, 2), text);
        break;
    case AF_INET6: {
        if (b.size() < 24) goto other;
        ::inet_ntop(AF_INET6, b.data() + 8, text, sizeof text);
        f.print(", sin6_port=htons({}), sin6_flowinfo=htonl({}), "
                "inet_pton(AF_INET6, \"{}\", &sin6_addr)",
                load_port(b, 2), ntohl(load<u32>(b, 4)), text);
        if (b.size() >= 28) f.print(", sin6_scope_id={}", load<u32>(b, 24));
        break;
    }
    case AF_NETLINK:
        if (b.size() < 12) goto other;
        if (const u16 pad = load<u16>(b, 2); pad != 0) f.print(", nl_pad={:#x}", pad);
        f.print(", nl_pid={}, nl_groups=", load<i32>(b, 4));
        if (const u32 groups = load<u32>(b, 8); groups == 0)
            f.put("00000000");
        else
            f.print("{:#08x}", groups);
        break;
    case AF_PACKET: {
        if (b.size() < 12) goto other;
        // Interfaces are numbers here: their names are known to the guest alone.
        f.put(", sll_protocol=htons(");
        f.name(flags::ethernet_protocol, load_port(b, 2));
        f.print("), sll_ifindex={}, sll_hatype=", load<i32>(b, 4));
        f.name(flags::hardware_type, load<u16>(b, 8));
        f.put(", sll_pkttype=");
        f.name(flags::packet_type, load<u8>(b, 10));
        f.print(", sll_halen={}", load<u8>(b, 11));
        if (b.size() > 12) {
            f.put(", sll_addr=[");
            const size_t count = std::min<size_t>(load<u8>(b, 11), b.size() - 12);
            for (size_t i = 0; i < count; ++i) {
                if (i != 0) f.put(", ");
                f.print("{:#x}", load<u8>(b, 12 + i));
            }
            f.put(']');
        }
        break;
    }
    default:
    other:
        if (b.size() > 2) {
            f.put(", sa_data=");
            f.quote(std::string_view(reinterpret_cast<const char*>(b.data()) + 2, b.size() - 2));
        }
    }
    f.put('}');
}

void socket_type(CallFormatter& f, u32 value) {
    const u32 type = value & 0xf;
    const Flag* name = find_flag(flags::socket_type, type);
    u32 rest = value;
    if (name != nullptr) {
        f.put(name->name);
        rest &= ~u32{0xf};
        if (rest == 0) return;
        f.put('|');
    }
    f.flags(flags::socket_type_flags, rest);
}

void socket_protocol(CallFormatter& f, u32 family, u64 protocol) {
    switch (family) {
    case AF_INET:
    case AF_INET6: return f.name(flags::ip_protocol, protocol);
    case AF_NETLINK: return f.name(flags::netlink_protocol, protocol);
    case AF_PACKET:
        f.put("htons(");
        f.name(flags::ethernet_protocol, big_endian(static_cast<u16>(protocol)));
        return f.put(')');
    default: f.unsigned_decimal(protocol);
    }
}

/// The length behind a socklen_t pointer as it was when the call was made; the call overwrites it.
void save_length(CallFormatter& f, u64 address) {
    i32 length = 0;
    f.call().saved_valid = address != 0 && f.read_object(address, length);
    f.call().saved[0] = static_cast<u32>(length);
}

/// [128 => 16], or [16] if the call left it.
void print_length(CallFormatter& f, u64 address, bool compare) {
    i32 now = 0;
    if (address == 0 || !f.call().saved_valid || !f.read_object(address, now))
        return f.pointer(address);
    const auto before = static_cast<i32>(f.call().saved[0]);
    if (compare && before != now)
        f.print("[{} => {}]", before, now);
    else
        f.print("[{}]", compare ? now : before);
}

/// The address that a call returned, and its length: two arguments.
void returned_address(CallFormatter& f, unsigned address, unsigned length) {
    f.argument(address);
    i32 now = 0;
    const bool known =
        f.call().saved_valid && f.arg(length) != 0 && f.read_object(f.arg(length), now);
    if (f.failed() || !known || now < 0)
        f.pointer(f.arg(address));
    else
        socket_address(f, f.arg(address),
                       std::min<u64>(static_cast<u32>(now), static_cast<u32>(f.call().saved[0])));
    f.argument(length);
    f.arg(address) == 0 ? f.pointer(f.arg(length)) : print_length(f, f.arg(length), !f.failed());
}

void accept(CallFormatter& f, bool with_flags) {
    if (f.entering()) {
        f.print_argument(0);
        return save_length(f, f.arg(2));
    }
    returned_address(f, 1, 2);
    if (with_flags) f.print_argument(3);
}

// --- messages ---

struct MessageHeader {
    u64 name = 0;
    u32 name_length = 0;
    u64 vector = 0;
    u64 vector_count = 0;
    u64 control = 0;
    u64 control_length = 0;
    u32 flags = 0;
};

size_t header_size(const CallFormatter& f) { return f.compat() ? 28 : 56; }

bool read_header(CallFormatter& f, u64 address, MessageHeader& h) {
    if (address == 0) return false;
    std::array<u64, 7> w{};
    if (!f.read_words(address, w)) return false;
    h = {w[0], static_cast<u32>(w[1]), w[2], w[3], w[4], w[5], static_cast<u32>(w[6])};
    return true;
}

void control_data(CallFormatter& f, u32 level, u32 type, std::span<const std::byte> b) {
    constexpr u32 rights = 1, credentials = 2;
    if (level == SOL_SOCKET && type == rights && b.size() >= 4) {
        f.put(", cmsg_data=[");
        for (size_t i = 0; i + 4 <= b.size(); i += 4) {
            if (i != 0) f.put(", ");
            f.decimal(load<i32>(b, i));
        }
        f.put(']');
    } else if (level == SOL_SOCKET && type == credentials && b.size() >= 12) {
        f.print(", cmsg_data={{pid={}, uid={}, gid={}}}", load<i32>(b, 0), load<u32>(b, 4),
                load<u32>(b, 8));
    } else if (level == 0 && type == IP_PKTINFO && b.size() >= 12) {
        std::array<u8, 8> a{};
        std::memcpy(a.data(), b.data() + 4, a.size());
        f.print(", cmsg_data={{ipi_ifindex={}, ipi_spec_dst=inet_addr(\"{}.{}.{}.{}\"), "
                "ipi_addr=inet_addr(\"{}.{}.{}.{}\")}}",
                load<i32>(b, 0), a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]);
    } else if ((level == SOL_SOCKET || level == 0) && !b.empty()) {
        f.put(", cmsg_data=");
        const size_t shown = std::min<size_t>(b.size(), f.string_limit());
        f.quote(std::string_view(reinterpret_cast<const char*>(b.data()), shown), shown < b.size());
    }
}

void control(CallFormatter& f, u64 address, u64 length) {
    constexpr size_t limit = 4096;
    const size_t word = f.word_size();
    const size_t head = word + 8;
    std::array<std::byte, limit> raw{};
    const size_t size = std::min<u64>(length, limit);
    if (size < head || !f.read(address, std::span(raw).first(size))) return f.pointer(address);
    const std::span<const std::byte> b = std::span<const std::byte>(raw).first(size);
    f.put('[');
    size_t offset = 0;
    while (offset + head <= size) {
        const u64 message = word == 8 ? load<u64>(b, offset) : load<u32>(b, offset);
        const u32 level = load<u32>(b, offset + word);
        const u32 type = load<u32>(b, offset + word + 4);
        if (offset != 0) f.put(", ");
        f.print("{{cmsg_len={}, cmsg_level=", message);
        f.name(FlagTable{flags::sockopt_level.entries, "SOL_???"}, level);
        f.put(", cmsg_type=");
        if (level == SOL_SOCKET)
            f.name(flags::control_message, type);
        else if (level == 0)
            f.name(flags::sockopt_ip, type);
        else
            f.hex(type);
        const u64 data = message > head ? std::min<u64>(message - head, size - offset - head) : 0;
        control_data(f, level, type, b.subspan(offset + head, data));
        f.put('}');
        if (message < head) {
            f.put(", ... /* ");
            f.pointer(address + offset + head);
            f.put(" */");
            break;
        }
        if (message > size - offset) break;
        offset += (message + word - 1) / word * word;
    }
    if (length > limit) f.put(", ...");
    f.put(']');
}

/// @param received how many bytes of the vector are true; ~0 for a message to be sent.
void message_header(CallFormatter& f, const MessageHeader& h, u64 received, bool show_data,
                    std::optional<u32> name_length_before) {
    f.put("{msg_name=");
    if (h.name_length != 0 && h.name != 0 && show_data)
        socket_address(f, h.name, h.name_length);
    else
        f.pointer(h.name);
    f.put(", msg_namelen=");
    if (name_length_before && *name_length_before != h.name_length)
        f.print("{} => ", static_cast<i32>(*name_length_before));
    f.decimal(static_cast<i32>(h.name_length));
    f.put(", msg_iov=");
    iovec(f, h.vector, h.vector_count, show_data, received);
    f.print(", msg_iovlen={}", h.vector_count);
    if (h.control_length != 0) {
        f.put(", msg_control=");
        if (h.control == 0 || !show_data)
            f.pointer(h.control);
        else
            control(f, h.control, h.control_length);
    }
    f.print(", msg_controllen={}, msg_flags=", h.control_length);
    f.flags(flags::message, h.flags);
    f.put('}');
}

void message(CallFormatter& f, u64 address, u64 received, bool show_data,
             std::optional<u32> name_length_before = std::nullopt) {
    MessageHeader h;
    if (!read_header(f, address, h)) return f.pointer(address);
    message_header(f, h, received, show_data, name_length_before);
}

/// struct mmsghdr: a header, and the bytes sent or received.
void message_vector(CallFormatter& f, u64 address, u64 count, bool received) {
    const size_t size = (header_size(f) + 4 + f.word_size() - 1) / f.word_size() * f.word_size();
    f.array(address, count, size, [&](std::span<const std::byte> b) {
        const u32 length = load<u32>(b, header_size(f));
        MessageHeader h;
        const auto word = [&](size_t i) {
            return f.compat() ? u64{load<u32>(b, i * 4)} : load<u64>(b, i * 8);
        };
        h = {word(0), static_cast<u32>(word(1)), word(2), word(3), word(4),
             word(5), static_cast<u32>(word(6))};
        f.put("{msg_hdr=");
        message_header(f, h, received ? length : ~u64{0}, true, std::nullopt);
        if (!f.failed()) f.print(", msg_len={}", length);
        f.put('}');
    });
}

// --- options ---

const FlagTable* option_names(u32 level) {
    switch (level) {
    case 0: return &flags::sockopt_ip;
    case SOL_SOCKET: return &flags::sockopt_socket;
    case 6: return &flags::sockopt_tcp;
    case 17: return &flags::sockopt_udp;
    case 41: return &flags::sockopt_ipv6;
    case 263: return &flags::sockopt_packet;
    case 270: return &flags::sockopt_netlink;
    default: return nullptr;
    }
}

void option_name(CallFormatter& f) {
    f.print_argument(0);
    f.argument(1);
    f.name(flags::sockopt_level, f.arg32(1));
    f.argument(2);
    if (const FlagTable* table = option_names(f.arg32(1)))
        f.name(*table, f.arg32(2));
    else
        f.unsigned_decimal(f.arg32(2));
}

void option_value(CallFormatter& f, u64 address, u32 length, bool written) {
    const u32 level = f.arg32(1);
    const u32 option = f.arg32(2);
    if (address == 0) return f.put("NULL");
    if (level == SOL_SOCKET) {
        if (option == SO_LINGER) {
            std::array<i32, 2> linger{};
            if (length < 8 || !f.read_object(address, linger)) return f.pointer(address);
            return f.print("{{l_onoff={}, l_linger={}}}", linger[0], linger[1]);
        }
        if (option == SO_PEERCRED && length >= 12) {
            std::array<i32, 3> c{};
            if (!f.read_object(address, c)) return f.pointer(address);
            return f.print("{{pid={}, uid={}, gid={}}}", c[0], c[1], c[2]);
        }
        if (option == SO_BINDTODEVICE || option == SO_PEERSEC) return f.bytes(address, length);
    }
    if (level == 0 && (option == IP_ADD_MEMBERSHIP || option == IP_DROP_MEMBERSHIP)) {
        std::array<u8, 8> m{};
        if (length < m.size() || !f.read_object(address, m)) return f.pointer(address);
        return f.print("{{imr_multiaddr=inet_addr(\"{}.{}.{}.{}\"), "
                       "imr_interface=inet_addr(\"{}.{}.{}.{}\")}}",
                       m[0], m[1], m[2], m[3], m[4], m[5], m[6], m[7]);
    }
    if (level == 6 && (option == 13 || option == 31)) // TCP_CONGESTION, TCP_ULP
        return f.bytes(address, length);
    if (length == 4) {
        i32 value = 0;
        if (!f.read_object(address, value)) return f.pointer(address);
        return f.print("[{}]", value);
    }
    if (written && length == 0) return f.pointer(address);
    f.bytes(address, length);
}

} // namespace

void socket_address(CallFormatter& f, u64 address, u64 length) {
    if (address == 0) return f.put("NULL");
    std::array<std::byte, address_limit> raw{};
    size_t size = std::min<u64>(length, raw.size());
    u16 family = 0;
    // The kernel takes no more than its own structure of a longer address.
    if (size >= 2 && f.read_object(address, family) && family == AF_UNIX)
        size = std::min(size, sizeof(sockaddr_un));
    if (size < 2 || !f.read(address, std::span(raw).first(size))) return f.pointer(address);
    print_address(f, std::span<const std::byte>(raw).first(size));
}

void sys_socketcall(CallFormatter& f) {
    if (!f.entering()) return;
    f.argument(0);
    if (const Flag* call = find_flag(flags::socketcall, f.arg32(0)))
        f.put(call->name);
    else
        f.decimal(f.arg_int(0));
    f.print_argument(1);
    f.finish();
}

void sys_socket(CallFormatter& f) {
    if (!f.entering()) return;
    f.print_argument(0);
    f.argument(1);
    socket_type(f, f.arg32(1));
    f.argument(2);
    socket_protocol(f, f.arg32(0), f.arg(2));
    f.finish();
}

void sys_socketpair(CallFormatter& f) {
    if (f.entering()) {
        f.print_argument(0);
        f.argument(1);
        socket_type(f, f.arg32(1));
        f.argument(2);
        return socket_protocol(f, f.arg32(0), f.arg(2));
    }
    f.print_argument(3);
}

void sys_bind(CallFormatter& f) {
    if (!f.entering()) return;
    f.print_argument(0);
    f.argument(1);
    socket_address(f, f.arg(1), f.arg32(2));
    f.print_argument(2);
    f.finish();
}

void sys_accept(CallFormatter& f) { accept(f, false); }
void sys_accept4(CallFormatter& f) { accept(f, true); }
void sys_getsockname(CallFormatter& f) { accept(f, false); }

void sys_sendto(CallFormatter& f) {
    if (!f.entering()) return;
    f.print_arguments(0, 3);
    f.argument(4);
    socket_address(f, f.arg(4), f.arg32(5));
    f.print_argument(5);
    f.finish();
}

void sys_recvfrom(CallFormatter& f) {
    if (f.entering()) {
        f.print_argument(0);
        return save_length(f, f.arg(5));
    }
    f.print_arguments(1, 3);
    if (f.arg(4) == 0 || f.arg(5) == 0) return f.print_arguments(4, 5);
    returned_address(f, 4, 5);
}

void sys_sendmsg(CallFormatter& f) {
    if (!f.entering()) return;
    f.print_argument(0);
    f.argument(1);
    message(f, f.arg(1), ~u64{0}, true);
    f.print_argument(2);
    f.finish();
}

void sys_recvmsg(CallFormatter& f) {
    if (f.entering()) {
        f.print_argument(0);
        MessageHeader h;
        f.call().saved_valid = read_header(f, f.arg(1), h);
        f.call().saved[0] = h.name_length;
        return;
    }
    f.argument(1);
    if (f.failed()) {
        MessageHeader h;
        if (f.call().saved_valid && read_header(f, f.arg(1), h))
            f.print("{{msg_namelen={}}}", static_cast<i32>(f.call().saved[0]));
        else
            f.pointer(f.arg(1));
    } else {
        std::optional<u32> before;
        if (f.call().saved_valid) before = static_cast<u32>(f.call().saved[0]);
        message(f, f.arg(1), static_cast<u64>(f.result()), true, before);
    }
    f.print_argument(2);
}

void sys_sendmmsg(CallFormatter& f) {
    // msg_len is known only when the call returns.
    if (f.entering()) return f.print_argument(0);
    f.argument(1);
    f.failed() ? message_vector(f, f.arg(1), f.arg32(2), false)
               : message_vector(f, f.arg(1), static_cast<u64>(f.result()), false);
    f.print_arguments(2, 3);
}

void sys_recvmmsg(CallFormatter& f) {
    const StructPrinter timeout = f.call().row->args[4].printer;
    if (f.entering()) {
        f.print_argument(0);
        // The timeout is overwritten with what is left of it.
        std::array<i64, 2> before{};
        if (f.arg(4) != 0) {
            if (timeout == timespec && f.call().abi != Abi::x32) {
                std::array<u64, 2> words{};
                f.call().saved_valid = f.read_words(f.arg(4), words);
                before = {f.as_signed(words[0]), f.as_signed(words[1])};
            } else {
                f.call().saved_valid = f.read_object(f.arg(4), before);
            }
            f.call().saved = {static_cast<u64>(before[0]), static_cast<u64>(before[1])};
        }
        return;
    }
    f.argument(1);
    f.failed() ? f.pointer(f.arg(1))
               : message_vector(f, f.arg(1), static_cast<u64>(f.result()), true);
    f.print_arguments(2, 3);
    f.argument(4);
    if (!f.call().saved_valid) return f.pointer(f.arg(4));
    f.print("{{tv_sec={}, tv_nsec={}}}", static_cast<i64>(f.call().saved[0]),
            static_cast<i64>(f.call().saved[1]));
    if (f.failed()) return;
    if (f.result() == 0) return append(f.remark(), "Timeout");
    append(f.remark(), "left ");
    f.remark_with([&](CallFormatter& remark) { timeout(remark, f.arg(4)); });
}

void sys_setsockopt(CallFormatter& f) {
    if (!f.entering()) return;
    option_name(f);
    f.argument(3);
    f.arg_int(4) <= 0 ? f.pointer(f.arg(3)) : option_value(f, f.arg(3), f.arg32(4), false);
    f.print_argument(4);
    f.finish();
}

void sys_getsockopt(CallFormatter& f) {
    if (f.entering()) {
        option_name(f);
        return save_length(f, f.arg(4));
    }
    i32 now = 0;
    const bool known = f.call().saved_valid && f.read_object(f.arg(4), now) && now >= 0;
    f.argument(3);
    if (f.failed() || !known)
        f.pointer(f.arg(3));
    else
        option_value(f, f.arg(3),
                     std::min(static_cast<u32>(now), static_cast<u32>(f.call().saved[0])), true);
    f.argument(4);
    print_length(f, f.arg(4), !f.failed());
}

} // namespace gnomon::trace::decode
