// SPDX-License-Identifier: Apache-2.0
/// @file The program under test, the guest's files, and what every complaint of it must look like.
#pragma once

#include "support/child_process.h"
#include "support/temporary_folder.h"

#include <algorithm>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <string>
#include <unistd.h>
#include <vector>

namespace gnomon::test {

inline const std::string guest_kernel = GNOMON_GUEST_FILES "/cloud/vmlinuz";
inline const std::string guest_busybox = GNOMON_GUEST_FILES "/busybox/bin/busybox";

inline bool have_guest_files() {
    return ::access(guest_kernel.c_str(), R_OK) == 0 && ::access(guest_busybox.c_str(), X_OK) == 0;
}

using Words = std::vector<std::string>;

/// The program's command line.
inline Words gnomon(Words arguments) {
    arguments.insert(arguments.begin(), GNOMON_PROGRAM);
    return arguments;
}

/// `gnomon trace`, with the fetched kernel and busybox, of a command.
inline Words traced(const Words& options, const Words& command) {
    Words all{"trace", "--kernel", guest_kernel, "--busybox", guest_busybox};
    all.insert(all.end(), options.begin(), options.end());
    all.emplace_back("--");
    all.insert(all.end(), command.begin(), command.end());
    return gnomon(all);
}

/// One line on stderr that has these words, nothing on stdout, and the status.
inline void expect_complaint(const Finished& finished, int status, const Words& words) {
    EXPECT_EQ(finished.status, status) << finished.err;
    EXPECT_EQ(std::count(finished.err.begin(), finished.err.end(), '\n'), 1) << finished.err;
    EXPECT_THAT(finished.err, testing::StartsWith("gnomon: "));
    EXPECT_THAT(finished.err, testing::EndsWith("\n"));
    EXPECT_THAT(finished.err, testing::Not(testing::HasSubstr("internal error")));
    for (const std::string& word : words)
        EXPECT_THAT(finished.err, testing::HasSubstr(word));
    EXPECT_EQ(finished.out, "");
}

} // namespace gnomon::test
