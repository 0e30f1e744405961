// SPDX-License-Identifier: Apache-2.0
/// @file An NVMe controller with all that it is connected to.
#pragma once

#include "nvme_host.h"
#include "platform/nvme/controller.h"

namespace gnomon::platform::nvme::test {

/// Counts what devices write.
class WrittenPages final : public DmaListener {
public:
    void dma_written(Gpa gpa, u64 size) override {
        ++calls;
        last = gpa;
        bytes += size;
    }
    u64 calls = 0, bytes = 0;
    Gpa last;
};

class FixedDelay final : public DelayModel {
public:
    [[nodiscard]] u64 nominal_ns(const BlockRequest& request) override {
        return 1000 + request.offset / 512;
    }
    [[nodiscard]] u64 command_ns() const override { return 7; }
};

/// The parts of a machine that a controller is connected to.
struct Bench {
    static constexpr u64 memory_bytes = u64{4} << 20, disk_bytes = u64{8} << 20;

    explicit Bench(Options options = {}, u64 memory_size = memory_bytes, u64 disk_size = disk_bytes)
        : memory(*GuestMemory::create(memory_size)), disk(disk_size),
          device({vectors, dma, disk, completions, delays, clock}, std::move(options), "nvme0") {}

    GuestMemory memory;
    WrittenPages written;
    Dma dma{memory, &written};
    RecordingVectors vectors;
    HeldCompletions completions;
    FixedDelay delays;
    ManualClock clock;
    MemoryDisk disk;
    Controller device;
};

} // namespace gnomon::platform::nvme::test
