// SPDX-License-Identifier: Apache-2.0
/// @file The monitor is killed at random moments while a Linux guest writes: on disks that lose
/// what was not flushed, everything that the guest was told is flushed is there, and the next guest
/// finds a disk that works.
#include "durability/guest/records.h"
#include "guest/initramfs/cpio.h"
#include "program/seed.h"
#include "support/child_process.h"
#include "support/temporary_folder.h"

#include <array>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <optional>
#include <thread>

namespace gnomon {
namespace {

using namespace test;

struct Model {
    const char* name;
    const char* device;
    std::vector<std::string> drivers; ///< in the order to load them in
};

const std::array models{
    Model{"nvme", "/dev/nvme0n1", {}},
    Model{"virtio",
          "/dev/vda",
          {"virtio/virtio_ring", "virtio/virtio", "virtio/virtio_pci_modern_dev",
           "virtio/virtio_pci_legacy_dev", "virtio/virtio_pci", "block/virtio_blk"}},
    Model{"ide",
          "/dev/sda",
          {"scsi/scsi_common", "scsi/scsi_mod", "ata/libata", "ata/ata_piix", "scsi/sd_mod"}},
};

std::vector<std::byte> contents(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    const auto* const bytes = reinterpret_cast<const std::byte*>(text.data());
    return {bytes, bytes + text.size()};
}

/// What "flushed N" says last, in a line that came whole; 0 if there is none.
u64 last_flushed(const std::string& shown) {
    constexpr std::string_view word = "flushed ";
    const std::size_t end = shown.rfind('\n');
    const std::size_t at =
        end == std::string::npos ? std::string::npos : shown.substr(0, end).rfind(word);
    u64 number = 0;
    if (at != std::string::npos)
        std::from_chars(shown.data() + at + word.size(), shown.data() + end, number);
    return number;
}

class Durability : public testing::TestWithParam<Model> {
protected:
    void SetUp() override {
        const std::filesystem::path files = GNOMON_GUEST_FILES;
        m_kernel = (files / "cloud/vmlinuz").string();
        std::filesystem::path drivers;
        std::error_code none;
        for (const auto& version :
             std::filesystem::directory_iterator(files / "cloud/lib/modules", none))
            drivers = version.path() / "kernel/drivers";
        if (!std::filesystem::exists(m_kernel) || drivers.empty())
            GTEST_SKIP() << "no " << m_kernel << " or its modules: run scripts/fetch.sh";
        pack(drivers);
        std::filesystem::resize_file(m_disk = m_folder.file("disk.img", ""),
                                     records::slots * records::sector);
    }

    /// One life of a machine that is killed `delay` after it said first that something is flushed.
    /// @return the number of records that it said are flushed
    u64 kill_one(u64 life, const std::string& way, std::chrono::microseconds delay) {
        TerminalProcess process(
            {DROPPING_GNOMON, "run", "--kernel", m_kernel, "--initrd", m_initrd, "--memory", "192M",
             "--disk", fmt::format("{},model={}", m_disk, GetParam().name), "--append",
             fmt::format("console=ttyS0 quiet records.device={} records.life={} records.way={}",
                         GetParam().device, life, way)});
        EXPECT_TRUE(process.shows("flushed ")) << process.shown();
        process.read_for(std::chrono::duration_cast<std::chrono::milliseconds>(delay));
        std::this_thread::sleep_for(delay % std::chrono::milliseconds(1));
        process.signal(SIGKILL);
        EXPECT_EQ(process.wait(), 128 + SIGKILL) << process.shown();
        process.read_for(std::chrono::milliseconds(50));
        EXPECT_EQ(process.shown().find("FAIL"), std::string::npos) << process.shown();
        return last_flushed(process.shown());
    }

    /// How many of the first `count` records of a life the disk lacks.
    [[nodiscard]] u64 missing(u64 life, u64 count) const {
        std::ifstream disk(m_disk, std::ios::binary);
        u64 absent = 0;
        for (u64 number = 0; number < count; ++number) {
            std::array<u64, records::sector / sizeof(u64)> words{};
            disk.seekg(static_cast<std::streamoff>(records::slot_of(number) * records::sector));
            disk.read(reinterpret_cast<char*>(words.data()), sizeof words);
            records::Record found{};
            std::memcpy(&found, words.data(), sizeof found);
            const bool whole = std::all_of(words.begin() + sizeof found / sizeof(u64), words.end(),
                                           [&](u64 word) { return word == found.check; });
            if (!disk || !whole || found != records::record(life, number)) ++absent;
        }
        return absent;
    }

    void kill_many(u64 kills) {
        u64 life = 0, flushed = 0;
        for_each_case(kills, [&](Random& random) {
            static constexpr std::array ways{"direct", "cached", "fua"};
            const std::string way = ways[pick(random, 0, ways.size() - 1)];
            const std::chrono::microseconds delay(pick(random, 0, 400'000));
            const u64 count = kill_one(++life, way, delay);
            flushed += count;
            ASSERT_GT(count, 0U) << way;
            EXPECT_EQ(missing(life, count), 0U)
                << way << ", killed after " << delay.count() << " us, of " << count;
        });
        RecordProperty("flushed", std::to_string(flushed));
    }

private:
    void pack(const std::filesystem::path& drivers) {
        guest::CpioWriter writer(u64{64} << 20);
        for (const char* folder : {"dev", "proc", "modules"})
            ASSERT_TRUE(writer.add_directory(folder, 0755));
        ASSERT_TRUE(writer.add_file("init", 0755, contents(RECORDS_WRITER)));
        for (std::size_t i = 0; i < GetParam().drivers.size(); ++i) {
            const std::filesystem::path file = drivers / (GetParam().drivers[i] + ".ko");
            ASSERT_TRUE(std::filesystem::exists(file)) << file;
            ASSERT_TRUE(writer.add_file(fmt::format("modules/{}-{}", i, file.filename().string()),
                                        0644, contents(file)));
        }
        // The console is there before anything is mounted.
        ASSERT_TRUE(writer.add(
            {.name = "dev/console", .mode = S_IFCHR | 0600, .device_major = 5, .device_minor = 1},
            0));
        const std::vector<std::byte> archive = writer.finish();
        m_initrd = m_folder.file(
            "initrd", std::string(reinterpret_cast<const char*>(archive.data()), archive.size()));
    }

    TemporaryFolder m_folder;
    std::string m_kernel, m_initrd, m_disk;
};

std::string name_of(const testing::TestParamInfo<Model>& info) { return info.param.name; }

/// The layer below drops, and the test sees it: a guest that flushes nothing loses all it wrote.
TEST_P(Durability, AGuestThatDoesNotFlushLosesItsRecords) {
    const u64 count = kill_one(1, "lie", std::chrono::milliseconds(100));
    ASSERT_GT(count, 0U);
    EXPECT_EQ(missing(1, count), count);
}

TEST_P(Durability, WhatIsFlushedOutlivesKills) { kill_many(4); }

INSTANTIATE_TEST_SUITE_P(Disks, Durability, testing::ValuesIn(models), name_of);

} // namespace
} // namespace gnomon
