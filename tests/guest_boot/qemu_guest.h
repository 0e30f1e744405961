// SPDX-License-Identifier: Apache-2.0
/// @file A guest under QEMU whose four serial ports end in this process: an independent machine to
/// try the init program, the archives and the boot structures on.
#pragma once

#include "base/file_descriptor.h"
#include "guest/init/protocol.h"

#include <array>
#include <chrono>
#include <optional>
#include <string>
#include <vector>

namespace gnomon::guest::test {

/// The kernel that the boot tests use, from the environment; they are skipped without it.
inline constexpr const char* kernel_variable = "GNOMON_TEST_KERNEL";
/// A static busybox, likewise.
inline constexpr const char* busybox_variable = "GNOMON_TEST_BUSYBOX";

/// What a run of the guest gave.
struct Outcome {
    std::string console, output, error;
    std::vector<ControlMessage> control;
    u64 malformed = 0;
    bool powered_off = false; ///< QEMU ended by itself, with status 0

    [[nodiscard]] std::optional<ControlMessage> last() const {
        return control.empty() ? std::nullopt : std::optional(control.back());
    }
};

/// What the host sends: standard input through the window, then its end, and extra control lines.
struct Inputs {
    std::string standard_input{};
    bool end_input = true;
    std::string control_after_started{};
};

/// Runs QEMU with `arguments` and serves the ports until it ends or `timeout` has passed.
Outcome run_qemu(std::vector<std::string> arguments, const Inputs& inputs,
                 std::chrono::seconds timeout);

/// A file with these contents, removed with the object.
class TemporaryFile {
public:
    explicit TemporaryFile(std::span<const std::byte> contents);
    TemporaryFile(const TemporaryFile&) = delete;
    TemporaryFile& operator=(const TemporaryFile&) = delete;
    ~TemporaryFile();
    [[nodiscard]] const std::string& path() const { return m_path; }

private:
    std::string m_path;
};

} // namespace gnomon::guest::test
