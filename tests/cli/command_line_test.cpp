// SPDX-License-Identifier: Apache-2.0
#include "cli/command_line.h"

#include "cli/help.h"
#include "support/temporary_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gnomon::cli {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

Result<Invocation> parse(std::vector<std::string> arguments) {
    return parse_command_line(arguments);
}

std::string usage_complaint(std::vector<std::string> arguments) {
    const auto parsed = parse(arguments);
    if (parsed) return "(accepted)";
    EXPECT_TRUE(parsed.error().usage) << parsed.error().message;
    EXPECT_THAT(parsed.error().message, Not(HasSubstr("\n")));
    return parsed.error().message;
}

TEST(CommandLine, RunTakesTheMachineOptions) {
    const auto parsed = parse({"run", "--kernel", "vmlinuz", "--initrd=i.img", "--append", "a b=c",
                               "--memory", "1G", "--stats=json", "--log-level", "debug",
                               "--no-reboot", "--no-seccomp", "--perf-map", "code.map"});
    ASSERT_TRUE(parsed) << parsed.error().message;
    EXPECT_EQ(parsed->action, Invocation::Action::run);
    const MachineSettings& machine = parsed->machine;
    EXPECT_EQ(machine.kernel, "vmlinuz");
    EXPECT_EQ(machine.initrd, "i.img");
    EXPECT_EQ(machine.append, "a b=c");
    EXPECT_EQ(machine.memory, u64{1} << 30);
    EXPECT_EQ(machine.stats, StatisticsFormat::json);
    EXPECT_EQ(machine.log_level, "debug");
    EXPECT_EQ(machine.no_reboot, true);
    EXPECT_EQ(machine.no_seccomp, true);
    EXPECT_EQ(machine.perf_map, "code.map");
}

TEST(CommandLine, DisksWithTheirOptions) {
    const auto parsed =
        parse({"run", "--kernel", "k", "--disk", "a.img", "--disk",
               "b,,c.img,model=virtio,format=raw,readonly,serial=S-1", "--disk",
               "d=e.img,format=auto,profile=hdd-7200", "--disk", "f.img,model=ide"});
    ASSERT_TRUE(parsed) << parsed.error().message;
    ASSERT_TRUE(parsed->machine.disks);
    DiskSettings first, second, third, fourth;
    first.location = "a.img";
    second.location = "b,c.img";
    second.format = platform::DiskFormat::raw;
    second.read_only = true;
    second.serial = "S-1";
    third.location = "d=e.img";
    third.profile = platform::DiskProfile::hdd_7200;
    fourth.location = "f.img";
    fourth.model = monitor::DiskModel::ide;
    EXPECT_THAT(*parsed->machine.disks, ElementsAre(first, second, third, fourth));
    EXPECT_TRUE(parse({"trace", "--disk", "a.img", "--", "ls"})->machine.disks);

    const auto complaint = [](const char* disk) {
        return usage_complaint({"run", "--kernel", "k", "--disk", disk});
    };
    EXPECT_THAT(complaint(""), AllOf(HasSubstr("--disk"), HasSubstr("name")));
    EXPECT_THAT(complaint(",readonly"), HasSubstr("name"));
    EXPECT_THAT(complaint("x,model=floppy"), AllOf(HasSubstr("--disk x"), HasSubstr("floppy"),
                                                   HasSubstr("virtio, nvme and ide")));
    EXPECT_THAT(complaint("x,model"), HasSubstr("'model'"));
    EXPECT_THAT(complaint("x,format=qed"), AllOf(HasSubstr("qed"), HasSubstr("raw")));
    EXPECT_THAT(complaint("x,profile=tape"), AllOf(HasSubstr("tape"), HasSubstr("nvme-ssd")));
    EXPECT_THAT(complaint("x,readonly=no"), HasSubstr("readonly=no"));
    EXPECT_THAT(complaint("x,cache=none"), HasSubstr("cache=none"));
    EXPECT_THAT(complaint("x,"), Not(HasSubstr("cache")));
    EXPECT_THAT(complaint("x,serial="), HasSubstr("serial"));
    EXPECT_THAT(complaint("x,serial=123456789012345678901"), HasSubstr("20"));
    EXPECT_THAT(complaint("x,serial=a b"), HasSubstr("a b"));
    EXPECT_THAT(usage_complaint({"run", "--kernel", "k", "--disk"}), HasSubstr("--disk"));
}

TEST(CommandLine, DisksInTheFileAreOneALine) {
    const test::TemporaryFolder folder;
    const std::string config =
        folder.file("m.toml", "disk = \"\"\"\na.img\nb.img,readonly\n\"\"\"\n");
    const auto parsed = parse({"run", "--kernel", "k", "--config", config});
    ASSERT_TRUE(parsed) << parsed.error().message;
    ASSERT_TRUE(parsed->machine.disks);
    ASSERT_EQ(parsed->machine.disks->size(), 2U);
    EXPECT_EQ((*parsed->machine.disks)[1].location, "b.img");
    EXPECT_TRUE((*parsed->machine.disks)[1].read_only);
    const auto other = parse({"run", "--kernel", "k", "--config", config, "--disk", "c.img"});
    ASSERT_TRUE(other);
    EXPECT_EQ(other->machine.disks->size(), 1U) << "the command line wins";
    for (const char* wrong : {"disk = 3\n", "disk = true\n"})
        EXPECT_THAT(usage_complaint({"run", "--kernel", "k", "--config", folder.file("w", wrong)}),
                    AllOf(HasSubstr(":1: disk"), HasSubstr("string")));
    EXPECT_THAT(usage_complaint({"run", "--kernel", "k", "--config",
                                 folder.file("w", "disk = \"x,model=tape\"\n")}),
                AllOf(HasSubstr("w:1: disk"), HasSubstr("tape")));
}

TEST(CommandLine, WhenCompletionsAreDelivered) {
    using monitor::CompletionPolicy;
    const test::TemporaryFolder folder;
    const std::string config = folder.file("m.toml", "completions = \"nominal\"\n");
    const auto policy = [&](std::initializer_list<std::string> options) {
        std::vector<std::string> words{"run", "--kernel", "k"};
        words.insert(words.end(), options);
        return parse(words)->machine.completions;
    };
    EXPECT_EQ(policy({}), std::nullopt);
    EXPECT_EQ(policy({"--completions", "immediate"})->kind, CompletionPolicy::Kind::immediate);
    EXPECT_EQ(policy({"--completions=fixed=1ms"})->fixed_ns, 1'000'000U);
    EXPECT_EQ(policy({"--config", config})->kind, CompletionPolicy::Kind::nominal);
    EXPECT_EQ(policy({"--config", config, "--completions", "adaptive"})->kind,
              CompletionPolicy::Kind::adaptive);
    EXPECT_THAT(usage_complaint({"run", "--kernel", "k", "--completions", "soon"}),
                AllOf(HasSubstr("--completions soon"), HasSubstr("fixed=TIME")));
    for (const char* wrong : {"completions = 3\n", "completions = \"fixed=1h\"\n"})
        EXPECT_THAT(usage_complaint({"run", "--kernel", "k", "--config", folder.file("w", wrong)}),
                    HasSubstr(":1: completions"));
}

TEST(CommandLine, WhatIsNotSaidStaysOpen) {
    const auto parsed = parse({"run", "--kernel", "k"});
    ASSERT_TRUE(parsed);
    EXPECT_FALSE(parsed->machine.memory || parsed->machine.stats || parsed->machine.no_reboot ||
                 parsed->machine.append || parsed->machine.log_level);
}

TEST(CommandLine, StatsStandsForItsTextForm) {
    const auto parsed = parse({"run", "--stats", "--kernel", "k"});
    ASSERT_TRUE(parsed);
    EXPECT_EQ(parsed->machine.stats, StatisticsFormat::text);
}

TEST(CommandLine, TraceTakesStracesOptions) {
    const auto parsed = parse(
        {"trace", "-f",   "-e", "trace=open", "-e", "trace=openat,read", "-o", "out",    "-s",
         "100",   "-ttt", "-r", "-T",         "-C", "--memory",          "1G", "--root", "dir",
         "--",    "sh",   "-c", "exit 7",     "--", "--memory"});
    ASSERT_TRUE(parsed) << parsed.error().message;
    EXPECT_EQ(parsed->action, Invocation::Action::trace);
    const TraceSettings& trace = parsed->trace;
    EXPECT_EQ(trace.filter, "openat,read");
    EXPECT_EQ(trace.options.output, "out");
    EXPECT_EQ(trace.options.string_limit, 100U);
    EXPECT_EQ(trace.options.timestamps, trace::TimestampStyle::epoch);
    EXPECT_TRUE(trace.options.relative && trace.options.duration && trace.options.summary_also);
    EXPECT_FALSE(trace.options.summary || trace.options.json);
    EXPECT_EQ(trace.root, "dir");
    EXPECT_THAT(trace.command, ElementsAre("sh", "-c", "exit 7", "--", "--memory"));
    EXPECT_EQ(parsed->machine.memory, u64{1} << 30);
}

TEST(CommandLine, TimestampStylesAreCounted) {
    EXPECT_EQ(parse({"trace", "-t", "--", "x"})->trace.options.timestamps,
              trace::TimestampStyle::seconds);
    EXPECT_EQ(parse({"trace", "-tt", "--", "x"})->trace.options.timestamps,
              trace::TimestampStyle::microseconds);
    EXPECT_EQ(parse({"trace", "-t", "-t", "--", "x"})->trace.options.timestamps,
              trace::TimestampStyle::microseconds);
}

TEST(CommandLine, FilterForms) {
    EXPECT_EQ(parse({"trace", "-e", "read,write", "--", "x"})->trace.filter, "read,write");
    EXPECT_EQ(parse({"trace", "-etrace=%file", "--", "x"})->trace.filter, "%file");
    EXPECT_EQ(parse({"trace", "-e", "trace=!futex", "--", "x"})->trace.filter, "!futex");
    EXPECT_EQ(parse({"trace", "--trace=read", "--", "x"})->trace.filter, "read");
    EXPECT_EQ(parse({"trace", "--", "x"})->trace.filter, std::nullopt);
}

TEST(CommandLine, TraceWithoutACommandIsAWholeMachine) {
    const auto parsed = parse({"trace", "-c", "--initrd", "i", "--kernel", "k"});
    ASSERT_TRUE(parsed);
    EXPECT_TRUE(parsed->trace.command.empty());
    EXPECT_TRUE(parsed->trace.options.summary);
    EXPECT_EQ(parsed->machine.initrd, "i");
}

TEST(CommandLine, UsageErrorsSayWhatAndWhere) {
    EXPECT_THAT(usage_complaint({}), HasSubstr("run or trace"));
    EXPECT_THAT(usage_complaint({"walk"}), AllOf(HasSubstr("walk"), HasSubstr("run and trace")));
    EXPECT_THAT(usage_complaint({"--walk"}), HasSubstr("--walk"));
    EXPECT_THAT(usage_complaint({"run"}), HasSubstr("--kernel"));
    EXPECT_THAT(usage_complaint({"run", "--kernel"}), HasSubstr("--kernel"));
    EXPECT_THAT(usage_complaint({"run", "--kernel", "k", "--colour"}),
                AllOf(HasSubstr("--colour"), HasSubstr("gnomon run --help")));
    EXPECT_THAT(usage_complaint({"run", "--kernel", "k", "extra"}), HasSubstr("extra"));
    EXPECT_THAT(usage_complaint({"run", "--kernel", "k", "--", "ls"}),
                HasSubstr("trace -- COMMAND"));
    EXPECT_THAT(usage_complaint({"run", "--kernel", "k", "--memory", "0"}), HasSubstr("too small"));
    EXPECT_THAT(usage_complaint({"run", "--kernel", "k", "--memory", "9999G"}),
                HasSubstr("too large"));
    EXPECT_THAT(usage_complaint({"run", "--kernel", "k", "--stats=xml"}), HasSubstr("xml"));
    EXPECT_THAT(usage_complaint({"run", "--kernel", "k", "--log-level", "loud"}),
                HasSubstr("loud"));
    EXPECT_THAT(usage_complaint({"trace", "ls", "-l"}), HasSubstr("behind '--'"));
    EXPECT_THAT(usage_complaint({"trace", "--"}), HasSubstr("command"));
    EXPECT_THAT(usage_complaint({"trace", "-s", "many", "--", "x"}), HasSubstr("many"));
    EXPECT_THAT(usage_complaint({"trace", "-s", "99999999999", "--", "x"}),
                HasSubstr("99999999999"));
    EXPECT_THAT(usage_complaint({"trace", "-tttt", "--", "x"}), HasSubstr("-ttt"));
    EXPECT_THAT(usage_complaint({"trace", "-e", "signal=all", "--", "x"}), HasSubstr("signal=all"));
    EXPECT_THAT(usage_complaint({"trace", "--json", "-c", "--", "x"}), HasSubstr("--json"));
    EXPECT_THAT(usage_complaint({"trace", "-c", "-C", "--", "x"}), HasSubstr("-C"));
    EXPECT_THAT(usage_complaint({"trace", "--root", "d"}), HasSubstr("--root"));
    EXPECT_THAT(usage_complaint({"trace", "--initrd", "i", "--", "x"}), HasSubstr("--root"));
    EXPECT_THAT(usage_complaint({"run", "--kernel", "k", "--perf-map="}), HasSubstr("--perf-map"));
    EXPECT_THAT(usage_complaint({"run", "trace"}), HasSubstr("one command"));
}

TEST(CommandLine, HelpNamesEveryOptionAndTheVersionIsAsked) {
    EXPECT_EQ(parse({"--help"})->text, general_help());
    EXPECT_EQ(parse({"run", "--help"})->text, run_help());
    EXPECT_EQ(parse({"trace", "-h"})->text, trace_help());
    EXPECT_THAT(parse({"--version"})->text,
                testing::MatchesRegex("gnomon [0-9]+\\.[0-9]+\\.[0-9]+\n"));
    for (const char* option :
         {"--kernel", "--initrd", "--append", "--memory", "--no-reboot", "--no-seccomp", "--stats",
          "--perf-map", "--log-level", "--config", "--disk", "--completions"}) {
        EXPECT_THAT(run_help(), HasSubstr(option));
        EXPECT_THAT(trace_help(), HasSubstr(option));
    }
    for (const char* option :
         {"-e ", "-f ", "-o ", "-c ", "-C ", "-s ", "-a ", "-t,", "-tt", "-ttt", "-r ", "-T ",
          "--json", "--root", "--busybox", "--console", "--tty"}) {
        EXPECT_THAT(trace_help(), HasSubstr(option));
    }
}

TEST(CommandLine, TheCommandLineWinsOverTheFile) {
    const test::TemporaryFolder folder;
    const std::string config =
        folder.file("m.toml", "kernel = \"from-file\"\nmemory = \"1G\"\n"
                              "append = \"quiet\"\nno-reboot = true\nstats = \"json\"\n"
                              "log-level = \"info\"\ninitrd = \"i\"\n"
                              "no-seccomp = true\n");
    const auto parsed = parse({"run", "--memory", "256M", "--config", config, "--append", ""});
    ASSERT_TRUE(parsed) << parsed.error().message;
    EXPECT_EQ(parsed->machine.kernel, "from-file");
    EXPECT_EQ(parsed->machine.memory, u64{256} << 20);
    EXPECT_EQ(parsed->machine.append, "");
    EXPECT_EQ(parsed->machine.no_reboot, true);
    EXPECT_EQ(parsed->machine.stats, StatisticsFormat::json);
    EXPECT_EQ(parsed->machine.log_level, "info");
    EXPECT_EQ(parsed->machine.initrd, "i");
    EXPECT_EQ(parsed->machine.no_seccomp, true);
}

TEST(CommandLine, ConfigFileErrorsNameFileAndLine) {
    const test::TemporaryFolder folder;
    const auto complaint = [&](const std::string& contents) {
        return usage_complaint({"run", "--config", folder.file("m.toml", contents)});
    };
    EXPECT_THAT(complaint("kernel = \"k\"\n\nmemroy = \"1G\"\n"),
                AllOf(HasSubstr("m.toml:3:"), HasSubstr("memroy")));
    EXPECT_THAT(complaint("\nkernel = 5\n"), AllOf(HasSubstr("m.toml:2:"), HasSubstr("a string")));
    EXPECT_THAT(complaint("memory = \"1X\"\n"),
                AllOf(HasSubstr("m.toml:1:"), HasSubstr("not a size")));
    EXPECT_THAT(complaint("memory = -1\n"), HasSubstr("m.toml:1:"));
    EXPECT_THAT(complaint("memory = 4096\n"),
                AllOf(HasSubstr("m.toml:1:"), HasSubstr("too small")));
    EXPECT_THAT(complaint("no-reboot = \"yes\"\n"), HasSubstr("true or false"));
    EXPECT_THAT(complaint("stats = \"xml\"\n"), HasSubstr("m.toml:1:"));
    EXPECT_THAT(complaint("log-level = \"loud\"\n"), HasSubstr("warn"));
    EXPECT_THAT(complaint("[machine]\nkernel = \"k\"\n"),
                AllOf(HasSubstr("m.toml:1:"), HasSubstr("machine")));
    EXPECT_THAT(complaint("kernel = \"k\"\nthis is no TOML\n"), HasSubstr("m.toml:2:"));
}

TEST(CommandLine, ConfigFilesMayHoldCharactersBeyondAsciiInStringsOnly) {
    // toml++ has undefined behaviour where some of them stand elsewhere.
    const test::TemporaryFolder folder;
    const auto parsed =
        parse({"run", "--kernel", "k", "--config",
               folder.file("good.toml", "\xef\xbb\xbf# \u00e9t\u00e9 \"\"\"\n"
                                        "initrd = \"caf\u00e9\" # \u03bf\nappend = \"\\\"\u00fc\"\n"
                                        "stats = \"\"\"\ntext\"\"\" # \u00fc\n")});
    ASSERT_TRUE(parsed) << parsed.error().message;
    EXPECT_EQ(parsed->machine.initrd, "caf\u00e9");
    EXPECT_EQ(parsed->machine.append, "\"\u00fc");
    for (const std::string bad : {"memory = \u03bf8\n", "\u00fc = 1\n", "append = \"\" \u00fc\n",
                                  "append = \"\"\"\\\u00fc\"\"\"\n", "append = '''\u00fc'''\n",
                                  "append = \"\"\"a\"\"\"\"\" \u00fc\n", "append = \"a\r\u00fc\"\n",
                                  "append = '\u00fc'\n"}) {
        EXPECT_THAT(usage_complaint({"run", "--config", folder.file("m.toml", "\n" + bad)}),
                    AllOf(HasSubstr("m.toml:2:"), HasSubstr("ASCII")))
            << bad;
    }
    EXPECT_THAT(usage_complaint({"run", "--config", folder.file("m.toml", "# \xc3\x28\n")}),
                AllOf(HasSubstr("m.toml:1:"), HasSubstr("UTF-8")));
    for (const std::string bad : {"[[[machine]\n", "memory = [1]\n", "memory = {a = 1}\n",
                                  "stats = 1979-05-27Ta\n", "stats = 10:20:3a\n"})
        EXPECT_THAT(usage_complaint({"run", "--config", folder.file("m.toml", bad)}),
                    AllOf(HasSubstr("m.toml:1:"), HasSubstr("no option is")));
}

TEST(CommandLine, AMissingConfigFileIsNoUsageError) {
    const auto parsed = parse({"run", "--config", "/nonexistent/m.toml"});
    ASSERT_FALSE(parsed);
    EXPECT_FALSE(parsed.error().usage);
    EXPECT_THAT(parsed.error().message, HasSubstr("/nonexistent/m.toml"));
}

} // namespace
} // namespace gnomon::cli
