// SPDX-License-Identifier: Apache-2.0
/// @file The ways to a disk's contents, for tests that every one of them must pass.
#pragma once

#include "block/disk.h"
#include "support/dropping_back_end.h"
#include "support/temporary_folder.h"

#include <array>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace gnomon::test {

/// `dropping` is not a way of the program's own, but a layer for tests of durability.
enum class Way : u8 { io_uring, io_uring_cached, threads, dropping, server, qcow2 };

inline std::string name_of(Way way) {
    constexpr std::array names{"io_uring", "io_uring_cached", "threads",
                               "dropping", "server",          "qcow2"};
    return names[static_cast<std::size_t>(way)];
}

/// Whether a program is where the shell would find it.
inline bool installed(const std::string& program) {
    return std::system(("command -v " + program + " >/dev/null").c_str()) == 0;
}

/// A program that runs beside the test, and no longer.
class Companion {
public:
    explicit Companion(const std::vector<std::string>& arguments) {
        std::vector<char*> argv;
        for (const std::string& one : arguments)
            argv.push_back(const_cast<char*>(one.c_str()));
        argv.push_back(nullptr);
        m_pid = ::fork();
        if (m_pid != 0) return;
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        ::execvp(argv[0], argv.data());
        ::_exit(127);
    }
    Companion(const Companion&) = delete;
    Companion& operator=(const Companion&) = delete;
    ~Companion() { kill(SIGKILL); }
    void signal(int number) const { ::kill(m_pid, number); }
    void kill(int number) {
        if (m_pid < 0) return;
        ::kill(m_pid, number);
        ::waitpid(m_pid, nullptr, 0);
        m_pid = -1;
    }

private:
    pid_t m_pid = -1;
};

/// A disk of zeroes in a folder of its own, to be opened again and again.
class DiskTest : public testing::TestWithParam<Way> {
protected:
    static constexpr u64 disk_size = u64{4} << 20;

    void SetUp() override {
        if ((GetParam() == Way::server || GetParam() == Way::qcow2) &&
            !(installed("qemu-nbd") && installed("qemu-img")))
            GTEST_SKIP() << "qemu-nbd is not installed";
        m_path = m_folder.file("disk.img", "");
        if (GetParam() == Way::qcow2) {
            const std::string command = "qemu-img create -q -f qcow2 " + m_path + " " +
                                        std::to_string(disk_size) + " >/dev/null";
            ASSERT_EQ(std::system(command.c_str()), 0);
        } else {
            std::filesystem::resize_file(m_path, disk_size);
        }
    }
    std::unique_ptr<BlockBackEnd> open(platform::DiskOptions options = {}) {
        options.report = [this](const std::string& line) { m_lines.push_back(line); };
        switch (GetParam()) {
        case Way::io_uring: options.io = platform::HostIo::io_uring; break;
        case Way::io_uring_cached:
            options.io = platform::HostIo::io_uring;
            options.direct = false;
            break;
        case Way::threads: options.io = platform::HostIo::threads; break;
        case Way::server: return open_served(options);
        case Way::dropping:
        case Way::qcow2: break;
        }
        auto disk = platform::open_disk(m_path, options);
        EXPECT_TRUE(disk) << disk.error().message;
        if (!disk) return nullptr;
        if (GetParam() == Way::dropping) return std::make_unique<DroppingBackEnd>(std::move(*disk));
        return std::move(*disk);
    }
    std::unique_ptr<BlockBackEnd> open_served(const platform::DiskOptions& options) {
        const std::string socket = (m_folder.path() / "socket").string();
        m_server.reset();
        std::filesystem::remove(socket);
        m_server = std::make_unique<Companion>(
            std::vector<std::string>{"qemu-nbd", "--persistent", "--format=raw", "--discard=unmap",
                                     "--shared=4", "--socket=" + socket, m_path});
        // The socket is there before anyone listens to it.
        auto disk = platform::open_disk("nbd+unix:///?socket=" + socket, options);
        for (unsigned i = 0; i < 1000 && !disk; ++i) {
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
            disk = platform::open_disk("nbd+unix:///?socket=" + socket, options);
        }
        EXPECT_TRUE(disk) << disk.error().message;
        return disk ? std::move(*disk) : nullptr;
    }
    /// Whether what is read and written is the file of that path itself.
    [[nodiscard]] static bool raw() { return GetParam() < Way::server; }

    TemporaryFolder m_folder;
    std::string m_path;
    std::unique_ptr<Companion> m_server;
    std::vector<std::string> m_lines;
};

inline const auto name_of_way = [](const testing::TestParamInfo<Way>& way) {
    return name_of(way.param);
};

/// Bytes that tell where they belong.
inline void fill(std::span<std::byte> memory, u64 seed) {
    for (std::size_t i = 0; i < memory.size(); ++i)
        memory[i] = static_cast<std::byte>((seed + i) * 0x9e3779b97f4a7c15ULL >> 56);
}

} // namespace gnomon::test
