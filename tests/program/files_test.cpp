// SPDX-License-Identifier: Apache-2.0
/// @file Files that are not there, not readable or not what they should be: one line that names the
/// file and the option, and status 1.
#include "program/program.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

namespace gnomon::test {
namespace {

namespace fs = std::filesystem;

class Files : public testing::Test {
protected:
    void SetUp() override {
        m_folder.file("empty", "");
        m_folder.file("text", std::string(5000, 'x'));
        fs::create_directory(m_folder.path() / "folder");
        ASSERT_EQ(::mkfifo(path("fifo").c_str(), 0600), 0);
        fs::create_symlink("loop", m_folder.path() / "loop");
        fs::create_symlink("nothing", m_folder.path() / "dangling");
        const FileDescriptor sparse(::open(path("sparse").c_str(), O_WRONLY | O_CREAT, 0600));
        ASSERT_EQ(::ftruncate(sparse.get(), off_t{1} << 40), 0);
        m_folder.file("secret", "x");
        ::chmod(path("secret").c_str(), 0);
    }
    [[nodiscard]] std::string path(const std::string& name) const {
        return (m_folder.path() / name).string();
    }
    /// Names of things that cannot be read as a file at all, whatever is expected in it.
    [[nodiscard]] Words unreadable() const {
        Words all{path("missing"),     path("folder"),   path("fifo"),
                  path("loop"),        path("dangling"), path("missing/deeper"),
                  path("text/deeper"), "/dev/null/x",    path(std::string(300, 'n'))};
        if (::geteuid() != 0) all.push_back(path("secret"));
        return all;
    }
    TemporaryFolder m_folder;
};

TEST_F(Files, Kernels) {
    Words kernels = unreadable();
    for (const char* name : {"empty", "text", "sparse"})
        kernels.push_back(path(name));
    for (const char* device : {"/dev/null", "/dev/zero", "/dev/full"})
        kernels.emplace_back(device);
    for (const std::string& kernel : kernels) {
        SCOPED_TRACE(kernel);
        expect_complaint(run_program(gnomon({"run", "--kernel", kernel})), 1, {"kernel", kernel});
        expect_complaint(run_program(gnomon({"trace", "--kernel", kernel})), 1, {"kernel", kernel});
    }
    expect_complaint(run_program(gnomon({"run", "--kernel", ""})), 1, {"--kernel"});
    // An ELF file, but no kernel: position-independent, with an interpreter.
    expect_complaint(run_program(gnomon({"run", "--kernel", "/bin/sh"})), 1,
                     {"/bin/sh", "vmlinux"});
}

TEST_F(Files, TheKernelOfTheEnvironment) {
    ASSERT_EQ(::setenv("GNOMON_KERNEL", path("missing").c_str(), 1), 0);
    const Finished finished = run_program(gnomon({"trace", "--", "true"}));
    ::unsetenv("GNOMON_KERNEL");
    expect_complaint(finished, 1, {"GNOMON_KERNEL", path("missing")});
}

TEST_F(Files, InitialRamDisks) {
    if (!have_guest_files()) GTEST_SKIP() << "no guest files: run scripts/fetch.sh";
    for (const std::string& initrd : unreadable()) {
        SCOPED_TRACE(initrd);
        expect_complaint(run_program(gnomon({"run", "--kernel", guest_kernel, "--initrd", initrd})),
                         1, {"initrd", initrd});
    }
    expect_complaint(
        run_program(gnomon({"run", "--kernel", guest_kernel, "--initrd", path("sparse")})), 1,
        {"initrd", path("sparse")});
    // One that the memory holds, but not together with the kernel.
    ASSERT_EQ(::truncate(path("sparse").c_str(), off_t{60} << 20), 0);
    expect_complaint(run_program(gnomon({"run", "--kernel", guest_kernel, "--initrd",
                                         path("sparse"), "--memory", "64M"})),
                     1, {"initrd", "60 MiB", "64 MiB", "memory"});
}

TEST_F(Files, Disks) {
    const std::string kernel = m_folder.file("kernel", "not needed");
    Words disks = unreadable();
    disks.push_back(path("empty"));
    disks.push_back(path("text")); // no number of sectors
    disks.emplace_back("/dev/zero");
    for (const std::string& disk : disks) {
        SCOPED_TRACE(disk);
        const Finished finished = run_program(gnomon({"run", "--kernel", kernel, "--disk", disk}));
        EXPECT_THAT(finished.status, testing::AnyOf(1, 2));
        expect_complaint(finished, finished.status, {"disk", disk});
    }
    // One disk twice: whoever comes second finds it locked.
    const std::string good = m_folder.file("good", std::string(65536, 'x'));
    expect_complaint(run_program(gnomon({"run", "--kernel", kernel, "--disk", good, "--disk",
                                         good + ",serial=2"})),
                     1, {good, "use"});
}

TEST_F(Files, MemoryThatIsTooLittleForTheKernelOrTooMuchForTheHost) {
    if (!have_guest_files()) GTEST_SKIP() << "no guest files: run scripts/fetch.sh";
    for (const char* size : {"1M", "2M", "16M", "32M"}) {
        SCOPED_TRACE(size);
        expect_complaint(run_program(gnomon({"run", "--kernel", guest_kernel, "--memory", size})),
                         1, {"memory", guest_kernel});
    }
    expect_complaint(run_program(gnomon({"run", "--kernel", guest_kernel, "--memory", "1023G"})), 1,
                     {"--memory", "host"});
    expect_complaint(run_program(traced({"--memory", "4M"}, {"true"})), 1, {"memory"});
}

TEST_F(Files, KernelCommandLines) {
    if (!have_guest_files()) GTEST_SKIP() << "no guest files: run scripts/fetch.sh";
    expect_complaint(run_program(gnomon(
                         {"run", "--kernel", guest_kernel, "--append", std::string(100000, 'a')})),
                     2, {"command line"});
}

TEST_F(Files, Configurations) {
    for (const std::string& file : unreadable()) {
        SCOPED_TRACE(file);
        expect_complaint(run_program(gnomon({"run", "--config", file})), 1, {"--config", file});
    }
    expect_complaint(run_program(gnomon({"run", "--config", path("sparse")})), 1,
                     {"--config", path("sparse")});
    expect_complaint(run_program(gnomon({"run", "--config", "/dev/zero"})), 1,
                     {"--config", "/dev/zero"});
}

TEST_F(Files, Busyboxes) {
    if (!have_guest_files()) GTEST_SKIP() << "no guest files: run scripts/fetch.sh";
    Words files = unreadable();
    for (const char* name : {"empty", "text", "sparse"})
        files.push_back(path(name));
    files.emplace_back("/bin/sh"); // not static
    for (const std::string& file : files) {
        SCOPED_TRACE(file);
        expect_complaint(run_program(gnomon(
                             {"trace", "--kernel", guest_kernel, "--busybox", file, "--", "true"})),
                         1, {"--busybox", file});
    }
}

TEST_F(Files, Roots) {
    if (!have_guest_files()) GTEST_SKIP() << "no guest files: run scripts/fetch.sh";
    m_folder.file("huge/ordinary", "x");
    fs::rename(path("sparse"), path("huge/sparse"));
    m_folder.file("closed/secret", "x");
    ::chmod(path("closed/secret").c_str(), 0);
    fs::path deep = m_folder.path() / "deep";
    for (int i = 0; i < 600; i++)
        deep /= "d";
    fs::create_directories(deep);
    std::vector<std::pair<std::string, Words>> roots;
    for (const char* name : {"missing", "text", "fifo", "loop", "dangling", "empty"})
        roots.push_back({path(name), {path(name)}});
    roots.push_back({path("huge"), {path("huge"), "sparse"}});
    roots.push_back({path("deep"), {path("deep/d/d"), "deep"}});
    if (::geteuid() != 0) roots.push_back({path("closed"), {path("closed/secret")}});
    for (const auto& [root, words] : roots) {
        SCOPED_TRACE(root);
        expect_complaint(run_program(traced({"--root", root}, {"true"})), 1, words);
    }
}

TEST_F(Files, TracesAndConsolesThatCannotBeWritten) {
    if (!have_guest_files()) GTEST_SKIP() << "no guest files: run scripts/fetch.sh";
    Words targets{path("folder"),    path("missing/file"), path("loop"),
                  path("text/file"), "/proc/version/x",    path(std::string(300, 'n'))};
    if (::geteuid() != 0) targets.push_back(path("secret"));
    for (const std::string& target : targets) {
        SCOPED_TRACE(target);
        expect_complaint(run_program(traced({"-o", target}, {"true"})), 1, {target, "-o"});
        expect_complaint(run_program(traced({"--console", target}, {"true"})), 1,
                         {target, "--console"});
    }
}

TEST_F(Files, StrangeThingsInARootDoNoHarm) {
    if (!have_guest_files()) GTEST_SKIP() << "no guest files: run scripts/fetch.sh";
    fs::create_directories(path("root/bin"));
    fs::copy_file(guest_busybox, path("root/bin/busybox"));
    fs::create_symlink("loop", path("root/loop"));
    fs::create_symlink("..", path("root/bin/up"));
    fs::create_symlink("/nothing/there", path("root/dangling"));
    ASSERT_EQ(::mkfifo(path("root/fifo").c_str(), 0600), 0);
    const FileDescriptor listening(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    path("root/socket").copy(static_cast<char*>(name.sun_path), sizeof name.sun_path - 1);
    ASSERT_EQ(::bind(listening.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name), 0);
    fs::create_hard_link(path("root/bin/busybox"), path("root/bin/again"));
    m_folder.file("root/name with spaces\nand a line end", "x");
    m_folder.file("root/\xff\xfe", "x");
    const Finished finished =
        run_program(traced({"--root", path("root"), "-e", "trace=none", "-o", path("trace")},
                           {"/bin/busybox", "ls", "/"}));
    EXPECT_EQ(finished.status, 0) << finished.err;
    for (const char* entry : {"loop", "dangling", "fifo", "socket", "name with spaces"})
        EXPECT_THAT(finished.out, testing::HasSubstr(entry));
}

TEST_F(Files, CommandsThatAreNotThere) {
    if (!have_guest_files()) GTEST_SKIP() << "no guest files: run scripts/fetch.sh";
    const std::vector<std::pair<std::string, int>> commands{
        {"no-such-command", 127}, {"/no/such/command", 127}, {"/etc/passwd", 126}, {"/etc", 126}};
    for (const auto& [command, status] : commands) {
        const Finished finished =
            run_program(traced({"-e", "trace=none", "-o", path("trace")}, {command}));
        EXPECT_EQ(finished.status, status) << command << finished.err;
        EXPECT_EQ(std::count(finished.err.begin(), finished.err.end(), '\n'), 1) << finished.err;
        EXPECT_THAT(finished.err, testing::HasSubstr(command));
        EXPECT_EQ(finished.out, "");
    }
}

} // namespace
} // namespace gnomon::test
