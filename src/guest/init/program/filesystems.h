// SPDX-License-Identifier: Apache-2.0
/// @file What a program expects of a running Linux system: /proc, /sys, /dev, a loopback interface.
#pragma once

namespace gnomon::guest::init {

/// Mounts the file systems, makes the usual links and nodes in /dev, raises the loopback interface
/// and sets the host name. What the kernel or the root directory does not allow is left out.
void prepare_system();

} // namespace gnomon::guest::init
