// SPDX-License-Identifier: Apache-2.0
#include "cli/perf_map.h"

#include <cerrno>
#include <cstring>
#include <fmt/format.h>

namespace gnomon::cli {

Result<std::unique_ptr<PerfMap>> PerfMap::create(const std::string& path) {
    std::FILE* const file = std::fopen(path.c_str(), "we"); // e: not for programs that we start
    if (file == nullptr) return fail("--perf-map {}: {}", path, std::strerror(errno));
    std::unique_ptr<PerfMap> map(new PerfMap(file, path));
    // Or else stdio asks for the file's block size at the first write, which the sandbox refuses.
    std::setvbuf(file, map->m_buffer.data(), _IOFBF, map->m_buffer.size());
    return map;
}

void PerfMap::translated(u64 host, u64 size, Gva guest, bool user) {
    write(fmt::format("{:x} {:x} {}:{:x}\n", host, size, user ? "user" : "kernel", guest.value()));
}

void PerfMap::routine(u64 host, u64 size, const char* name) {
    write(fmt::format("{:x} {:x} gnomon:{}\n", host, size, name));
}

void PerfMap::write(const std::string& line) {
    // `finish` asks whether all could be written.
    static_cast<void>(std::fwrite(line.data(), 1, line.size(), m_file.get()));
}

Result<> PerfMap::finish() {
    if (std::fflush(m_file.get()) != 0 || std::ferror(m_file.get()) != 0)
        return fail("--perf-map {}: not all of it could be written", m_path);
    return {};
}

} // namespace gnomon::cli
