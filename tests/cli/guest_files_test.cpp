// SPDX-License-Identifier: Apache-2.0
#include "cli/guest_files.h"

#include "support/temporary_folder.h"

#include <elf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gnomon::cli {
namespace {

using testing::AllOf;
using testing::HasSubstr;

/// The head of an x86-64 executable with one program header of the given type.
std::string elf_with_segment(Elf64_Word type) {
    Elf64_Ehdr header{};
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_type = ET_EXEC;
    header.e_machine = EM_X86_64;
    header.e_phoff = sizeof header;
    header.e_phentsize = sizeof(Elf64_Phdr);
    header.e_phnum = 1;
    Elf64_Phdr segment{};
    segment.p_type = type;
    std::string text(reinterpret_cast<const char*>(&header), sizeof header);
    return text.append(reinterpret_cast<const char*>(&segment), sizeof segment);
}

class GuestFiles : public testing::Test {
protected:
    GuestFiles() {
        m_places.fetched = m_folder.path() / "guest";
        m_places.boot = m_folder.path() / "boot";
        m_places.system_busybox = m_folder.path() / "busybox";
    }
    test::TemporaryFolder m_folder;
    SearchPlaces m_places;
};

TEST_F(GuestFiles, KernelSearchOrder) {
    const auto none = find_kernel(std::nullopt, m_places);
    ASSERT_FALSE(none);
    EXPECT_FALSE(none.error().usage);
    EXPECT_THAT(none.error().message, AllOf(HasSubstr("--kernel"), HasSubstr("scripts/fetch.sh")));

    const std::string boot = m_folder.file("boot/vmlinuz-6.1.0-9-amd64", "k");
    EXPECT_EQ(find_kernel(std::nullopt, m_places), boot);
    const std::string fetched = m_folder.file("guest/cloud/vmlinuz", "k");
    EXPECT_EQ(find_kernel(std::nullopt, m_places), fetched);
    m_places.kernel_variable = m_folder.file("variable", "k");
    EXPECT_EQ(find_kernel(std::nullopt, m_places), *m_places.kernel_variable);
    const std::string given = m_folder.file("given", "k");
    EXPECT_EQ(find_kernel(given, m_places), given);
}

TEST_F(GuestFiles, NewestIsByVersionAndNotByName) {
    m_folder.file("boot/vmlinuz-6.1.0-9-amd64", "k");
    const std::string newest = m_folder.file("boot/vmlinuz-6.1.0-56-amd64", "k");
    m_folder.file("boot/vmlinuz-5.10.0-99-amd64", "k");
    m_folder.file("boot/initrd.img-9", "i");
    std::filesystem::create_directories(m_folder.path() / "boot" / "vmlinuz-9-folder");
    std::filesystem::create_symlink("nothing", m_folder.path() / "boot" / "vmlinuz-8-dangling");
    std::filesystem::create_symlink("vmlinuz-6.1.0-9-amd64",
                                    m_folder.path() / "boot" / "vmlinuz.old");
    EXPECT_EQ(find_kernel(std::nullopt, m_places), newest);
}

TEST_F(GuestFiles, ANamedKernelMustBeReadable) {
    m_folder.file("guest/cloud/vmlinuz", "k");
    const auto missing = find_kernel(m_folder.path() / "missing", m_places);
    ASSERT_FALSE(missing);
    EXPECT_THAT(missing.error().message, AllOf(HasSubstr("--kernel"), HasSubstr("missing")));
    const auto folder = find_kernel(m_folder.path(), m_places);
    ASSERT_FALSE(folder);
    EXPECT_THAT(folder.error().message, HasSubstr("directory"));
    m_places.kernel_variable = "/nonexistent";
    const auto variable = find_kernel(std::nullopt, m_places);
    ASSERT_FALSE(variable);
    EXPECT_THAT(variable.error().message,
                AllOf(HasSubstr("GNOMON_KERNEL"), HasSubstr("/nonexistent")));
}

TEST_F(GuestFiles, BusyboxMustBeStatic) {
    const std::string dynamic_executable = m_folder.file("busybox", elf_with_segment(PT_INTERP));
    EXPECT_FALSE(find_busybox(std::nullopt, m_places));
    const auto refused = find_busybox(dynamic_executable, m_places);
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().message, HasSubstr("statically"));
    const std::string static_executable = m_folder.file("busybox", elf_with_segment(PT_LOAD));
    EXPECT_EQ(find_busybox(std::nullopt, m_places), static_executable);
    const std::string fetched =
        m_folder.file("guest/busybox/bin/busybox", elf_with_segment(PT_LOAD));
    EXPECT_EQ(find_busybox(std::nullopt, m_places), fetched);
}

TEST_F(GuestFiles, NonsenseIsNoStaticExecutable) {
    const std::string whole = elf_with_segment(PT_LOAD);
    EXPECT_TRUE(is_static_executable(m_folder.file("whole", whole)));
    for (std::size_t size = 0; size < whole.size(); size++) {
        EXPECT_FALSE(is_static_executable(m_folder.file("cut", whole.substr(0, size)))) << size;
    }
    EXPECT_FALSE(is_static_executable(m_folder.file("script", "#!/bin/sh\n")));
    EXPECT_FALSE(is_static_executable(m_folder.path()));
    EXPECT_FALSE(is_static_executable("/nonexistent"));
}

} // namespace
} // namespace gnomon::cli
