// SPDX-License-Identifier: Apache-2.0
/// @file --perf-map: where translated code lies, for scripts/perf-guest.sh.
#pragma once

#include "base/result.h"
#include "processor/code_map.h"

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

namespace gnomon::cli {

/// A file in the form of perf's /tmp/perf-PID.map: a line of start, size (both hexadecimal) and
/// name. Names are "user:ADDRESS" and "kernel:ADDRESS", which is the guest's, or "gnomon:ROUTINE".
class PerfMap final : public processor::CodeMap {
public:
    /// Creates the file. The error names the option.
    [[nodiscard]] static Result<std::unique_ptr<PerfMap>> create(const std::string& path);
    PerfMap(const PerfMap&) = delete;
    PerfMap& operator=(const PerfMap&) = delete;
    ~PerfMap() override = default;

    void translated(u64 host, u64 size, Gva guest, bool user) override;
    void routine(u64 host, u64 size, const char* name) override;
    /// Writes what is left. An error if something could not be written.
    [[nodiscard]] Result<> finish();

private:
    struct Close {
        void operator()(std::FILE* file) const { std::fclose(file); }
    };
    PerfMap(std::FILE* file, std::string path) : m_file(file), m_path(std::move(path)) {}
    void write(const std::string& line);

    std::vector<char> m_buffer = std::vector<char>(64 * 1024); ///< the file's, so it goes later
    std::unique_ptr<std::FILE, Close> m_file;
    std::string m_path;
};

} // namespace gnomon::cli
