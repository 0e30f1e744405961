// SPDX-License-Identifier: Apache-2.0
/// @file Command lines and configurations that are wrong: one line that names the option, and
/// status 2.
#include "program/program.h"

#include <fmt/format.h>

namespace gnomon::test {
namespace {

struct Case {
    Words arguments;
    Words named; ///< what the line must have
};

class Usage : public testing::Test {
protected:
    static void expect_usage_errors(const std::vector<Case>& cases) {
        for (const Case& c : cases) {
            std::string shown;
            for (const std::string& argument : c.arguments)
                shown += "'" + argument + "' ";
            SCOPED_TRACE(shown);
            expect_complaint(run_program(gnomon(c.arguments)), 2, c.named);
        }
    }
    TemporaryFolder m_folder;
    std::string m_kernel = m_folder.file("kernel", "not needed");
};

TEST_F(Usage, Commands) {
    expect_usage_errors({
        {{}, {"run", "trace"}},
        {{""}, {"run", "trace"}},
        {{"walk"}, {"walk"}},
        {{"--nonsense"}, {"--nonsense"}},
        {{"run", "trace"}, {"run"}},
        {{"run", "--kernel", m_kernel, "extra"}, {"extra"}},
        {{"run", "--kernel", m_kernel, "--", "ls"}, {"trace -- COMMAND"}},
        {{"run"}, {"--kernel"}},
        {{"trace", "ls"}, {"ls", "--"}},
        {{"trace", "--"}, {"command", "--"}},
        {{"--", "ls"}, {"run", "trace"}},
    });
}

TEST_F(Usage, OptionsThatAreNotThereOrLackTheirValue) {
    std::vector<Case> cases;
    for (const char* command : {"run", "trace"}) {
        for (const char* option : {"--nonsense", "-Z", "--kernelx", "--no-", "---", "-1"})
            cases.push_back({{command, "--kernel", m_kernel, option}, {}});
        for (const char* option : {"--kernel", "--initrd", "--append", "--memory", "-m",
                                   "--log-level", "--config", "--check-shadow", "--perf-map"})
            cases.push_back({{command, option}, {option}});
        cases.push_back({{command, "--kernel", m_kernel, "--no-reboot=perhaps"}, {"no-reboot"}});
        cases.push_back({{command, "--kernel", m_kernel, "--no-seccomp=perhaps"}, {"no-seccomp"}});
    }
    for (const char* option :
         {"-e", "-o", "-s", "-a", "--root", "--busybox", "--console", "--output"})
        cases.push_back({{"trace", option}, {option}});
    for (const char* option : {"-e", "-o", "-s", "-a", "--root", "--busybox", "--console", "--tty",
                               "-c", "-C", "-t", "-r", "-T", "--json", "-f"})
        cases.push_back({{"run", "--kernel", m_kernel, option}, {option}});
    expect_usage_errors(cases);
}

TEST_F(Usage, Memory) {
    std::vector<Case> cases;
    for (const char* size : {"0",
                             "1",
                             "1K",
                             "1023K",
                             "1048577",
                             "4097K1",
                             "-1",
                             "-512M",
                             "+1M",
                             "16E",
                             "1E",
                             "1P",
                             "1024G",
                             "2T",
                             "99999999999999999999",
                             "18446744073709551616",
                             "18446744073709551615",
                             "17592186044416M",
                             "18014398509481984K",
                             "1e9",
                             "0x10000000",
                             "1.5G",
                             "1,5G",
                             "512MB",
                             "512 M",
                             " 512M",
                             "512M ",
                             "M",
                             "",
                             "lots",
                             "\xff",
                             "1M\n"}) {
        cases.push_back({{"run", "--kernel", m_kernel, "--memory", size}, {"--memory"}});
        cases.push_back({{"trace", "-m", size, "--", "true"}, {"--memory"}});
    }
    expect_usage_errors(cases);
}

TEST_F(Usage, ValuesOfOtherOptions) {
    const Words run{"run", "--kernel", m_kernel};
    const auto with = [&](std::initializer_list<const char*> more) {
        Words all = run;
        all.insert(all.end(), more.begin(), more.end());
        return all;
    };
    expect_usage_errors({
        {with({"--log-level", "loud"}), {"--log-level", "loud", "warn"}},
        {with({"--log-level", ""}), {"--log-level"}},
        {with({"--log-level", "WARN"}), {"--log-level", "WARN"}},
        {with({"--stats=xml"}), {"--stats", "xml", "json"}},
        {with({"--check-shadow", "often"}), {"--check-shadow", "often"}},
        {with({"--check-shadow", "-1"}), {"--check-shadow"}},
        {with({"--check-shadow", "99999999999999999999"}), {"--check-shadow"}},
        {{"trace", "-s", "-1", "--", "ls"}, {"-s", "-1"}},
        {{"trace", "-s", "x", "--", "ls"}, {"-s", "x"}},
        {{"trace", "-s", "", "--", "ls"}, {"-s"}},
        {{"trace", "-s", "4294967296", "--", "ls"}, {"-s", "4294967296"}},
        {{"trace", "-s", "3.5", "--", "ls"}, {"-s", "3.5"}},
        {{"trace", "-a", "wide", "--", "ls"}, {"-a", "wide"}},
        {{"trace", "-tttt", "--", "ls"}, {"-t"}},
        {{"trace", "-o", "", "--", "ls"}, {"-o"}},
        {{"trace", "-e", "signal=none", "--", "ls"}, {"-e", "signal=none", "trace="}},
        {{"trace", "-e", "trace=no_such_call", "--", "ls"}, {"no_such_call"}},
        {{"trace", "-e", "trace=%nonsense", "--", "ls"}, {"nonsense"}},
        {{"trace", "-e", "trace=/(/", "--", "ls"}, {"("}},
        {{"trace", "-e", "trace=,,", "--", "ls"}, {}},
        {{"trace", "-e", "trace=", "--", "ls"}, {}},
        {{"trace", "-e", "", "--", "ls"}, {}},
        {{"trace", "-e", "trace=!", "--", "ls"}, {}},
        {{"trace", "--tty", "--", "sh"}, {"--tty", "terminal"}},
    });
}

TEST_F(Usage, OptionsThatContradictEachOther) {
    expect_usage_errors({
        {{"trace", "-c", "-C", "--", "ls"}, {"-c", "-C"}},
        {{"trace", "--json", "-c", "--", "ls"}, {"--json", "-c"}},
        {{"trace", "--json", "-C", "--", "ls"}, {"--json"}},
        {{"trace", "--initrd", m_kernel, "--", "ls"}, {"--initrd", "--root"}},
        {{"trace", "--root", "/"}, {"--root"}},
        {{"trace", "--busybox", "/bin/busybox"}, {"--busybox"}},
        {{"trace", "--console", "-"}, {"--console"}},
        {{"trace", "--tty"}, {"--tty"}},
    });
}

TEST_F(Usage, TheLastOfRepeatedOptionsCounts) {
    expect_complaint(run_program(gnomon({"run", "--kernel", m_kernel, "--memory", "0", "--memory",
                                         "64M", "--kernel", "/nonexistent/kernel"})),
                     1, {"--kernel", "/nonexistent/kernel"});
    expect_complaint(
        run_program(gnomon({"run", "--kernel", m_kernel, "--memory", "64M", "--memory", "0"})), 2,
        {"--memory", "0"});
}

TEST_F(Usage, Configuration) {
    const std::vector<std::pair<std::string, Words>> files{
        {"kernel", {":1:"}},
        {"kernel = ", {":1:"}},
        {"kernel = \"unterminated", {":1:"}},
        {"\n\nmemory = = 3\n", {":3:"}},
        {"[machine]\nmemory = \"1G\"\n", {"machine"}},
        {"kernel = 1\n", {":1:", "kernel", "string"}},
        {"kernel = [\"a\"]\n", {":1:", "kernel", "array"}},
        {"initrd = true\n", {"initrd", "string"}},
        {"append = {a = 1}\n", {":1:", "append", "table"}},
        {"memory = -1\n", {"memory"}},
        {"memory = 1.5\n", {"memory"}},
        {"memory = true\n", {"memory"}},
        {"memory = \"16E\"\n", {"memory", "16E"}},
        {"memory = 99999999999999999999\n", {":1:"}},
        {"memory = 0\n", {"memory"}},
        {"stats = \"xml\"\n", {"stats", "json"}},
        {"stats = 1\n", {"stats"}},
        {"log-level = \"loud\"\n", {"log-level", "warn"}},
        {"no-reboot = \"yes\"\n", {"no-reboot", "true or false"}},
        {"no-seccomp = 1\n", {"no-seccomp", "true or false"}},
        {"nonsense = 1\n", {"nonsense", "kernel"}},
        {"kernel = \"a\"\nkernel = \"b\"\n", {":2:"}},
        {"check-shadow = 3\n", {"check-shadow"}},
        {std::string("kernel = \"a\0b\"\n", 15), {":1:"}},
        {"\xff\xfe\x00\x01", {}},
        {std::string(100000, '['), {}},
        {std::string(100000, '{'), {}},
        {"memory = " + std::string(100000, '['), {}},
    };
    int number = 0;
    for (const auto& [contents, words] : files) {
        const std::string path = m_folder.file(fmt::format("config{}", number++), contents);
        SCOPED_TRACE(contents.substr(0, 100));
        Words named = words;
        named.push_back(path);
        expect_complaint(run_program(gnomon({"run", "--config", path})), 2, named);
    }
    // Nothing in it is not wrong, but then no kernel is named.
    expect_complaint(run_program(gnomon({"run", "--config", m_folder.file("empty", "")})), 2,
                     {"--kernel"});
}

} // namespace
} // namespace gnomon::test
