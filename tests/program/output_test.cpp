// SPDX-License-Identifier: Apache-2.0
/// @file Output that cannot be written: a full disk, and a reader that has gone.
#include "program/program.h"

namespace gnomon::test {
namespace {

using testing::HasSubstr;

class Output : public testing::Test {
protected:
    void SetUp() override {
        if (!have_guest_files()) GTEST_SKIP() << "no guest files: run scripts/fetch.sh";
    }
    /// Runs a script of the host's shell; $1 is the program, $2 the kernel, $3 the busybox, $4 a
    /// folder.
    [[nodiscard]] Finished shell(const std::string& script) const {
        return run_program({"/bin/bash", "-c", script, "bash", GNOMON_PROGRAM, guest_kernel,
                            guest_busybox, m_folder.path().string()});
    }
    TemporaryFolder m_folder;
};

TEST_F(Output, HelpOntoAFullDisk) {
    const Finished finished = shell("\"$1\" --help >/dev/full");
    EXPECT_EQ(finished.status, 1);
    EXPECT_EQ(finished.err, "gnomon: stdout: No space left on device\n");
}

TEST_F(Output, ATraceOntoAFullDiskDoesNotDisturbTheCommand) {
    const Finished finished =
        run_program(traced({"-o", "/dev/full"}, {"sh", "-c", "echo hello; exit 3"}));
    EXPECT_EQ(finished.status, 1);
    EXPECT_EQ(finished.out, "hello\n");
    EXPECT_THAT(finished.err,
                testing::MatchesRegex("gnomon: .*/dev/full: No space left on device.*\n"));
}

TEST_F(Output, ConsoleMessagesOntoAFullDiskAreOnlyMessages) {
    const Finished finished =
        run_program(traced({"-o", "/dev/null", "--console", "/dev/full"}, {"sh", "-c", "exit 3"}));
    EXPECT_EQ(finished.status, 3) << finished.err;
}

TEST_F(Output, TheCommandsOutputOntoAFullDisk) {
    const Finished finished = shell("\"$1\" trace --kernel \"$2\" --busybox \"$3\" -o /dev/null -- "
                                    "sh -c 'while :; do echo x; done' >/dev/full");
    EXPECT_EQ(finished.status, 1);
    EXPECT_EQ(finished.err, "gnomon: stdout: No space left on device\n");
}

TEST_F(Output, AMachinesOutputOntoAFullDisk) {
    const Finished finished =
        shell("\"$1\" run --kernel \"$2\" --append console=ttyS0 >/dev/full </dev/null");
    EXPECT_EQ(finished.status, 1);
    EXPECT_EQ(finished.err, "gnomon: stdout: No space left on device\n");
}

TEST_F(Output, AReaderOfTheOutputThatHasGoneEndsTheRun) {
    const Finished finished = shell(
        "{ \"$1\" trace --kernel \"$2\" --busybox \"$3\" -o \"$4/trace\" -- yes; echo $? >&2; } "
        "| head -n 2; tail -n 1 \"$4/trace\"");
    EXPECT_EQ(finished.err, "141\n");
    EXPECT_THAT(finished.out, testing::StartsWith("y\ny\n"));
    EXPECT_THAT(finished.out, HasSubstr("system calls entered"));
}

TEST_F(Output, AReaderOfTheTraceThatHasGoneEndsTheRun) {
    const Finished finished = shell("{ \"$1\" trace --kernel \"$2\" --busybox \"$3\" -- "
                                    "sh -c 'while :; do echo >/dev/null; done' 2>&1 >/dev/null; "
                                    "echo $? >\"$4/status\"; } | head -n 1; cat \"$4/status\"");
    EXPECT_THAT(finished.out, testing::EndsWith("\n141\n"));
    EXPECT_EQ(finished.err, "");
}

} // namespace
} // namespace gnomon::test
