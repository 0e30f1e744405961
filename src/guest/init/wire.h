// SPDX-License-Identifier: Apache-2.0
/// @file The words that the guest's init program and the host exchange. Constants only: the init
/// program has no standard library. The host's side is guest/init/protocol.h.
///
/// Serial ports, from the guest's view (all raw, 8 data bits, no echo, binary clean):
///
///     ttyS0  the kernel's console, not used here
///     ttyS1  in: the command's standard input    out: its standard output
///     ttyS2                                      out: its standard error (nothing with a terminal)
///     ttyS3  in and out: the control protocol, lines of ASCII ended by "\n"
///
/// Guest to host, in this order:
///
///     ready          the ports are open; the host may begin to send
///     started PID    the command's process exists and will call execve next (sent before that)
///     window N       any number of times from "ready" on: see below
///     exit N         the command ended with status N (0 to 255); 127: not found, 126: not
///     executable signal N       or: a signal ended it error TEXT     or: init could not run it at
///     all. May come instead of any line above
///
/// After the last of these the guest powers itself off. All output has left the ports before
/// "exit".
///
/// Host to guest:
///
///     eof N          standard input ends after exactly N bytes in all; may come before or after
///     them resize R C     the terminal now has R rows and C columns (with a terminal only) kill N
///     send signal N to the command's process group
///
/// Flow control of standard input: a serial port may lose what nobody reads, so the host keeps the
/// number of bytes sent in all at or below the limit of the last "window N" line, which begins with
/// `initial_window` and grows as the command reads. A host that sends less than that in all may
/// ignore the lines.
///
/// Everything here is what the guest says, and the guest is hostile: a command that runs as root
/// may write to ttyS3 itself.
#pragma once

namespace gnomon::guest::wire {

inline constexpr char command_path[] = "/.gnomon/command";
inline constexpr char init_path[] = "/.gnomon/init";
inline constexpr char directory_path[] = "/.gnomon";

/// First field of the command file. All its fields end with a NUL; numbers are decimal:
///     magic, "pipe" or "tty", rows, columns, working directory, argc, argv..., envc, env...
inline constexpr char command_magic[] = "gnomon-command-1";
inline constexpr char mode_pipe[] = "pipe";
inline constexpr char mode_tty[] = "tty";

/// Ends every line.
inline constexpr char line_end = '\n';
/// Longest line with its end, either way. A receiver drops longer ones.
inline constexpr unsigned line_limit = 512;
/// Bytes of standard input that the host may send before the first "window" line.
inline constexpr unsigned long initial_window = 16384;

// The first word of each line.
inline constexpr char ready[] = "ready";
inline constexpr char started[] = "started";
inline constexpr char window[] = "window";
inline constexpr char exit[] = "exit";
inline constexpr char signal[] = "signal";
inline constexpr char error[] = "error";
inline constexpr char eof[] = "eof";
inline constexpr char resize[] = "resize";
inline constexpr char kill[] = "kill";

} // namespace gnomon::guest::wire
