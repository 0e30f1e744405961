// SPDX-License-Identifier: Apache-2.0
/// @file A real kernel's file cut short or damaged: a complaint, or a guest that fails; never more.
#include "program/program.h"
#include "program/seed.h"

namespace gnomon::test {
namespace {

/// The boot sector and the setup header; what follows is code that the 64-bit entry does not use.
constexpr std::size_t header_size = 0x290;

class KernelImages : public testing::Test {
protected:
    void SetUp() override {
        if (!have_guest_files()) GTEST_SKIP() << "no guest files: run scripts/fetch.sh";
        std::ifstream file(guest_kernel, std::ios::binary);
        m_image.assign(std::istreambuf_iterator<char>(file), {});
        ASSERT_GT(m_image.size(), header_size);
    }

    /// A file that is no kernel any more is complained about. One that still is may run, fail in
    /// the guest, reset, or go on until it is ended here.
    void expect_a_clean_end(const std::string& image, bool may_run) {
        const std::string path = m_folder.file("image", image);
        const Finished finished =
            run_program({"/usr/bin/timeout", "--preserve-status", "-s", "TERM", "-k", "60", "2",
                         GNOMON_PROGRAM, "run", "--kernel", path, "--memory", "128M", "--no-reboot",
                         "--append", "console=ttyS0 panic=-1"});
        const bool complained = finished.status == 1 && finished.out.empty() &&
                                finished.err.find("triple fault") == std::string::npos;
        if (complained || !may_run) {
            expect_complaint(finished, 1, {path});
            return;
        }
        EXPECT_THAT(finished.status, testing::AnyOf(0, 1, 128 + SIGTERM)) << finished.err;
        EXPECT_THAT(finished.err, testing::Not(testing::HasSubstr("internal error")));
        if (finished.status == 1) {
            EXPECT_THAT(finished.err, testing::HasSubstr("triple fault"));
        } else {
            EXPECT_EQ(finished.err, "");
        }
    }
    std::string m_image;
    TemporaryFolder m_folder;
};

TEST_F(KernelImages, CutShortAnywhere) {
    for_each_case(40, [&](Random& random) {
        const std::size_t size = pick(random, 0, 1) == 0 ? pick(random, 0, header_size)
                                                         : pick(random, 0, m_image.size() - 1);
        SCOPED_TRACE(size);
        // Behind the kernel itself there may be a signature, which nobody needs.
        expect_a_clean_end(m_image.substr(0, size), size > m_image.size() - 65536);
    });
}

TEST_F(KernelImages, CutShortInEveryByteOfTheHeader) {
    const std::size_t step = from_environment("GNOMON_STEP", 31);
    for (std::size_t size = 0; size < header_size; size += step) {
        SCOPED_TRACE(size);
        expect_a_clean_end(m_image.substr(0, size), false);
    }
}

TEST_F(KernelImages, DamagedHeaders) {
    for_each_case(6, [&](Random& random) {
        std::string image = m_image;
        const u64 bytes = pick(random, 1, 8);
        for (u64 i = 0; i < bytes; i++)
            image[pick(random, 0x1f1, header_size - 1)] = static_cast<char>(pick(random, 0, 255));
        expect_a_clean_end(image, true);
    });
}

TEST_F(KernelImages, DamagedContents) {
    for_each_case(2, [&](Random& random) {
        std::string image = m_image;
        for (int i = 0; i < 1000; i++)
            image[pick(random, header_size, image.size() - 1)] =
                static_cast<char>(pick(random, 0, 255));
        expect_a_clean_end(image, true);
    });
}

} // namespace
} // namespace gnomon::test
