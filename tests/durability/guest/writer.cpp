// SPDX-License-Identifier: Apache-2.0
// The init of a guest that writes numbered records to its disk and says how many are flushed, for
// as long as it is let. On the kernel's command line: records.device=PATH records.life=N
// records.way=WAY. The ways:
//
//     direct   past the page cache, a few records, then fdatasync
//     cached   through the page cache, more of them, then fdatasync: many requests at once
//     fua      each record with RWF_DSYNC, which is a write with FUA where the disk has that
//     lie      like direct, without the fdatasync: what it says is not true
//
// Lines: "flushed N": the records less than N are. "FAIL ...": it cannot go on.
#include "records.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <string>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#include <vector>

namespace {

using namespace gnomon::records;
using std::uint64_t;

void say(const std::string& line) {
    const std::string whole = line + "\n";
    // Nobody is left to tell if this fails.
    [[maybe_unused]] const ssize_t written = write(STDOUT_FILENO, whole.data(), whole.size());
}

[[noreturn]] void fail(const std::string& what) {
    say("FAIL " + what + ": " + std::strerror(errno));
    reboot(RB_POWER_OFF);
    _exit(1);
}

std::string parameter(const std::string& name) {
    std::string text(4096, '\0');
    const int file = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
    const ssize_t got = file < 0 ? -1 : read(file, text.data(), text.size());
    if (got < 0) fail("/proc/cmdline");
    close(file);
    text.resize(static_cast<std::size_t>(got));
    const std::size_t at = text.find(" " + name + "=");
    if (at == std::string::npos) fail("no parameter " + name);
    const std::size_t begin = at + name.size() + 2;
    return text.substr(begin, text.find_first_of(" \n", begin) - begin);
}

void load_modules() {
    std::vector<std::string> names;
    DIR* const entries = opendir("/modules");
    if (entries == nullptr) return;
    while (const dirent* entry = readdir(entries))
        if (entry->d_name[0] != '.') names.push_back(std::string("/modules/") + entry->d_name);
    closedir(entries);
    std::sort(names.begin(), names.end());
    for (const std::string& name : names) {
        const int file = open(name.c_str(), O_RDONLY | O_CLOEXEC);
        if (file < 0 || syscall(SYS_finit_module, file, "", 0) != 0) fail(name);
        close(file);
    }
}

struct alignas(4096) Sector {
    std::array<uint64_t, sector / sizeof(uint64_t)> words;
};

void write_record(int file, uint64_t life, uint64_t number, int flags) {
    static Sector buffer;
    const Record one = record(life, number);
    buffer.words.fill(one.check);
    std::memcpy(buffer.words.data(), &one, sizeof one);
    iovec memory{&buffer, sector};
    const auto offset = static_cast<off_t>(slot_of(number) * sector);
    if (pwritev2(file, &memory, 1, offset, flags) != ssize_t{sector}) fail("pwritev2");
}

[[noreturn]] void write_records() {
    const std::string device = parameter("records.device"), way = parameter("records.way");
    const uint64_t life = std::strtoull(parameter("records.life").c_str(), nullptr, 10);
    // Disks are found some time after their driver is loaded.
    for (int i = 0; i < 1000 && access(device.c_str(), R_OK) != 0; ++i)
        usleep(10'000);
    const int cached = way == "cached" ? 0 : O_DIRECT;
    const int file = open(device.c_str(), O_RDWR | O_CLOEXEC | cached);
    if (file < 0) fail(device);
    const bool fua = way == "fua", lie = way == "lie";
    const uint64_t most = way == "cached" ? 200 : fua ? 1 : 12;
    uint64_t random = life * 2 + 1;
    for (uint64_t number = 0; number < slots;) {
        random = random * 6364136223846793005U + 1442695040888963407U;
        const uint64_t end = std::min(slots, number + 1 + (random >> 33) % most);
        for (; number < end; ++number)
            write_record(file, life, number, fua ? RWF_DSYNC : 0);
        if (!fua && !lie && fdatasync(file) != 0) fail("fdatasync");
        say("flushed " + std::to_string(number));
    }
    for (;;)
        pause();
}

} // namespace

int main() {
    if (mount("proc", "/proc", "proc", 0, nullptr) != 0) fail("mounting /proc");
    if (mount("devtmpfs", "/dev", "devtmpfs", 0, nullptr) != 0 && errno != EBUSY)
        fail("mounting /dev");
    load_modules();
    write_records();
}
