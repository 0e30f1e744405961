// SPDX-License-Identifier: Apache-2.0
#include "guest/initramfs/cpio.h"
#include "guest/initramfs/root.h"
#include "images.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

namespace gnomon::guest::test {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

struct Unpacked {
    std::string name;
    u32 inode = 0, mode = 0, uid = 0, gid = 0, links = 0, mtime = 0, major = 0, minor = 0;
    std::string contents{};
};

/// A reader of its own for the format, as strict as Linux's.
std::vector<Unpacked> unpack(std::span<const std::byte> archive) {
    const std::string_view text(reinterpret_cast<const char*>(archive.data()), archive.size());
    std::vector<Unpacked> files;
    for (std::size_t at = 0;;) {
        if (at % 4 != 0 || at + 110 > text.size() || text.substr(at, 6) != "070701") {
            ADD_FAILURE() << "no header at " << at;
            return files;
        }
        std::array<u32, 13> fields{};
        for (std::size_t i = 0; i < fields.size(); ++i) {
            const char* digits = text.data() + at + 6 + 8 * i;
            EXPECT_EQ(std::from_chars(digits, digits + 8, fields[i], 16).ptr, digits + 8);
        }
        const std::size_t name_size = fields[11], size = fields[6];
        const std::size_t begin = (at + 110 + name_size + 3) / 4 * 4;
        if (name_size == 0 || begin + size > text.size()) {
            ADD_FAILURE() << "entry at " << at << " is cut short";
            return files;
        }
        EXPECT_EQ(text[at + 110 + name_size - 1], '\0');
        std::string name(text.substr(at + 110, name_size - 1));
        if (name == "TRAILER!!!") return files;
        files.push_back({.name = std::move(name),
                         .inode = fields[0],
                         .mode = fields[1],
                         .uid = fields[2],
                         .gid = fields[3],
                         .links = fields[4],
                         .mtime = fields[5],
                         .major = fields[9],
                         .minor = fields[10],
                         .contents = std::string(text.substr(begin, size))});
        at = (begin + size + 3) / 4 * 4;
    }
}

const Unpacked* find(const std::vector<Unpacked>& files, std::string_view name) {
    const auto found = std::ranges::find(files, name, &Unpacked::name);
    return found == files.end() ? nullptr : &*found;
}

/// A directory for one test, removed with it.
class TreeTest : public ::testing::Test {
protected:
    TreeTest() {
        std::string pattern = ::testing::TempDir() + "gnomon-tree-XXXXXX";
        m_root = ::mkdtemp(pattern.data());
    }
    ~TreeTest() override { fs::remove_all(m_root); }
    void write(const std::string& name, const std::string& contents, mode_t mode = 0644) {
        std::ofstream(m_root / name, std::ios::binary) << contents;
        ::chmod((m_root / name).c_str(), mode);
    }
    std::vector<Unpacked> pack(const TreeOptions& options = {}) {
        CpioWriter writer(u64{1} << 30);
        const auto added = add_tree(writer, m_root, options);
        EXPECT_TRUE(added) << added.error().message;
        m_archive = writer.finish();
        return unpack(m_archive);
    }

    fs::path m_root;
    Bytes m_archive;
};

TEST_F(TreeTest, PacksEveryTypeOfFile) {
    fs::create_directories(m_root / "a/b");
    ::chmod((m_root / "a").c_str(), 01777);
    write("a/b/file", std::string("x\0y\n", 4), 04751);
    write("empty", "");
    fs::create_symlink("../nowhere/at all", m_root / "a/link");
    ASSERT_EQ(::mkfifo((m_root / "fifo").c_str(), 0600), 0);
    const auto files = pack();
    ASSERT_EQ(files.size(), 6u);
    EXPECT_EQ(find(files, "a")->mode, S_IFDIR | 01777u);
    EXPECT_EQ(find(files, "a/b/file")->mode, S_IFREG | 04751u);
    EXPECT_EQ(find(files, "a/b/file")->contents, std::string("x\0y\n", 4));
    EXPECT_EQ(find(files, "a/link")->mode & S_IFMT, u32{S_IFLNK});
    EXPECT_EQ(find(files, "a/link")->contents, "../nowhere/at all");
    EXPECT_EQ(find(files, "fifo")->mode, S_IFIFO | 0600u);
    EXPECT_EQ(find(files, "empty")->contents, "");
    // Directories come before what is in them.
    EXPECT_LT(find(files, "a"), find(files, "a/b"));
    EXPECT_LT(find(files, "a/b"), find(files, "a/b/file"));
}

TEST_F(TreeTest, PacksDeviceNodes) {
    if (::mknod((m_root / "null").c_str(), S_IFCHR | 0666, makedev(1, 3)) != 0)
        GTEST_SKIP() << "may not make device nodes";
    ::chmod((m_root / "null").c_str(), 0666);
    const auto files = pack();
    ASSERT_EQ(files.size(), 1u);
    EXPECT_EQ(files[0].mode, S_IFCHR | 0666u);
    EXPECT_EQ(files[0].major, 1u);
    EXPECT_EQ(files[0].minor, 3u);
}

TEST_F(TreeTest, KeepsHardLinksTogether) {
    write("one", "contents");
    fs::create_hard_link(m_root / "one", m_root / "two");
    write("other", "contents");
    const auto files = pack();
    ASSERT_EQ(files.size(), 3u);
    EXPECT_EQ(find(files, "one")->inode, find(files, "two")->inode);
    EXPECT_NE(find(files, "one")->inode, find(files, "other")->inode);
    EXPECT_EQ(find(files, "two")->links, 2u);
    EXPECT_EQ(find(files, "one")->contents + find(files, "two")->contents, "contents");
}

TEST_F(TreeTest, MapsTheCallersFilesToRoot) {
    write("file", "");
    const TreeOptions caller{.owner_uid = ::geteuid(), .owner_gid = ::getegid()};
    EXPECT_EQ(pack(caller)[0].uid, 0u);
    EXPECT_EQ(pack(caller)[0].gid, 0u);
    const auto other = pack({.owner_uid = ::geteuid() + 1, .owner_gid = ::getegid() + 1});
    EXPECT_EQ(other[0].uid, ::geteuid());
}

TEST_F(TreeTest, IsTheSameForTheSameTree) {
    for (const char* name : {"z", "a", "m"})
        write(name, name);
    pack();
    const Bytes first = m_archive;
    pack();
    EXPECT_TRUE(first == m_archive);
}

TEST_F(TreeTest, PacksALargeFile) {
    const Bytes large = elf_like((std::size_t{5} << 20) + 3);
    const std::string text(reinterpret_cast<const char*>(large.data()), large.size());
    write("large", text);
    EXPECT_TRUE(pack()[0].contents == text);
    CpioWriter small(1 << 20);
    const auto added = add_tree(small, m_root, {});
    ASSERT_FALSE(added);
    EXPECT_THAT(added.error().message, HasSubstr("more than 1 MiB (large is one too many)"));
}

TEST_F(TreeTest, NamesAnUnreadableFile) {
    write("secret", "x", 0);
    CpioWriter writer(1 << 20);
    if (::access((m_root / "secret").c_str(), R_OK) == 0) GTEST_SKIP() << "root reads everything";
    const auto added = add_tree(writer, m_root, {});
    ASSERT_FALSE(added);
    EXPECT_THAT(added.error().message, HasSubstr("/secret for the initramfs: Permission denied"));
}

TEST_F(TreeTest, NamesADirectoryThatIsNone) {
    CpioWriter writer(1 << 20);
    EXPECT_THAT(add_tree(writer, "/no/such", {}).error().message, HasSubstr("/no/such: No such"));
    write("file", "");
    EXPECT_THAT(add_tree(writer, m_root / "file", {}).error().message,
                HasSubstr("not a directory"));
}

TEST(Tree, LeavesOutKernelFileSystems) {
    CpioWriter writer(1 << 30);
    if (!fs::exists("/proc/self")) GTEST_SKIP() << "no /proc";
    // What is mounted below is left out; the directory that is named is walked all the same.
    const auto added = add_tree(writer, "/proc/self/task", {});
    ASSERT_TRUE(added) << added.error().message;
    for (const Unpacked& file : unpack(writer.finish()))
        EXPECT_EQ(file.name.find('/'), std::string::npos) << file.name;
}

TEST(Cpio, MakesParentsOnce) {
    CpioWriter writer(1 << 20);
    ASSERT_TRUE(writer.add_file("usr/share/x", 0600, bytes_of("1")));
    ASSERT_TRUE(writer.add_symlink("usr/share/y", "x"));
    ASSERT_TRUE(writer.add_directory("usr/lib", 0700));
    std::vector<std::string> names;
    for (const Unpacked& file : unpack(writer.finish()))
        names.push_back(file.name);
    EXPECT_THAT(
        names, ::testing::ElementsAre("usr", "usr/share", "usr/share/x", "usr/share/y", "usr/lib"));
}

TEST(Cpio, RefusesNamesThatTheFormatCannotHold) {
    CpioWriter writer(1 << 20);
    for (const std::string& name :
         {std::string(), std::string("TRAILER!!!"), std::string(4096, 'x'), std::string("a\0b", 3)})
        EXPECT_FALSE(writer.add({.name = name, .mode = S_IFREG}, 0));
    EXPECT_TRUE(writer.add({.name = std::string(4095, 'x'), .mode = S_IFREG}, 0));
    EXPECT_THAT(writer.add({.name = "big", .mode = S_IFREG}, u64{1} << 32).error().message,
                HasSubstr("below 4 GiB"));
    EXPECT_FALSE(writer.add({.name = "big", .mode = S_IFREG}, 0xffffffff));
}

TEST_F(TreeTest, PackRootAddsInitAndCommand) {
    write("init", "the directory's own");
    const CommandSpec command{.arguments = {"ls", "-l"}};
    const auto archive = pack_root(m_root, command);
    ASSERT_TRUE(archive) << archive.error().message;
    const auto files = unpack(*archive);
    EXPECT_EQ(find(files, "init")->contents, "the directory's own");
    EXPECT_EQ(find(files, ".gnomon/init")->mode, S_IFREG | 0700u);
    EXPECT_EQ(find(files, ".gnomon/init")->contents.size(), init_program().size());
    EXPECT_EQ(bytes_of(find(files, ".gnomon/command")->contents), *encode_command(command));
    fs::create_directory(m_root / ".gnomon");
    EXPECT_THAT(pack_root(m_root, command).error().message, HasSubstr("reserved"));
    EXPECT_THAT(pack_root("/no/such", command).error().message, HasSubstr("/no/such"));
}

TEST_F(TreeTest, BusyboxRootHasWhatAShellNeeds) {
    // Any static x86-64 ELF file will do, whether it can list applets or not.
    const Bytes elf = make_elf(0x400000, {{0x400000, 0x400000, 100, Bytes(100)}});
    write("busybox", std::string(reinterpret_cast<const char*>(elf.data()), elf.size()), 0600);
    const auto archive = make_busybox_root(m_root / "busybox", {.arguments = {"sh"}});
    ASSERT_TRUE(archive) << archive.error().message;
    const auto files = unpack(*archive);
    EXPECT_EQ(find(files, "bin/busybox")->contents.size(), elf.size());
    EXPECT_EQ(find(files, "bin/sh")->contents, "busybox");
    EXPECT_EQ(find(files, "sbin")->contents, "bin");
    EXPECT_EQ(find(files, "usr/bin")->contents, "../bin");
    EXPECT_EQ(find(files, "tmp")->mode, S_IFDIR | 01777u);
    for (const char* name : {"proc", "sys", "dev", "etc/passwd", "etc/group", ".gnomon/init"})
        EXPECT_NE(find(files, name), nullptr) << name;
    write("dynamic", "#!/bin/sh\n", 0755);
    EXPECT_THAT(make_busybox_root(m_root / "dynamic", {.arguments = {"sh"}}).error().message,
                HasSubstr("busybox-static"));
}

TEST_F(TreeTest, AppletsAreWhatBusyboxLists) {
    write("busybox", "#!/bin/sh\necho sh; echo [; echo ../evil; echo 'a b'; echo; echo ls\n", 0755);
    EXPECT_THAT(busybox_applets(m_root / "busybox"), ::testing::ElementsAre("[", "ls", "sh"));
    write("broken", "#!/bin/sh\necho sh; exit 1\n", 0755);
    EXPECT_GT(busybox_applets(m_root / "broken").size(), 50u);
    EXPECT_GT(busybox_applets("/no/such/busybox").size(), 50u);
}

} // namespace
} // namespace gnomon::guest::test
