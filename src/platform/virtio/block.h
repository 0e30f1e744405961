// SPDX-License-Identifier: Apache-2.0
/// @file The virtio block device.
///
/// Virtio 1.2, section 5.2.
#pragma once

#include "platform/block/delay_model.h"
#include "platform/completion.h"
#include "platform/virtio/pci_transport.h"

#include <memory>
#include <string>

namespace gnomon::platform {

struct VirtioBlockOptions {
    std::string name;       ///< for reports of its completions
    std::string serial;     ///< the first 20 bytes are shown
    bool read_only = false; ///< even if the back end may be written
    unsigned queues = 4;    ///< 1 to 64
};

class VirtioBlock final : public VirtioPciDevice {
public:
    static constexpr u16 queue_size = 256;

    /// `back_end` and `completions` must outlive it. Nothing else uses `back_end` meanwhile.
    /// @param delays null: none, as becomes a device without a physical counterpart.
    VirtioBlock(PciSlot slot, BlockBackEnd& back_end, CompletionScheduler& completions,
                const VirtioBlockOptions& options, GuestMemory& memory, DmaListener* listener,
                std::unique_ptr<DelayModel> delays = nullptr);
    /// Waits until the back end has nothing of it any more.
    ~VirtioBlock() override;

    // Of its own, virtio_blk_config.
    enum class ConfigReg : u8 {
        capacity = 0,                  // r- 64 bits, in sectors of 512 bytes
        size_max = 8,                  // r- 0: not offered
        seg_max = 12,                  // r-
        geometry = 16,                 // r- 0: not offered
        blk_size = 20,                 // r- 512
        physical_block_exp = 24,       // r- 8 bits: 8 sectors
        alignment_offset = 25,         // r- 8 bits
        min_io_size = 26,              // r- 16 bits, in sectors
        opt_io_size = 28,              // r- in sectors
        writeback = 32,                // rw 8 bits: 1 has a write cache, 0 writes through
        num_queues = 34,               // r- 16 bits
        max_discard_sectors = 36,      // r-
        max_discard_seg = 40,          // r- 1
        discard_alignment = 44,        // r- in sectors
        max_write_zeroes_sectors = 48, // r-
        max_write_zeroes_seg = 52,     // r- 1
        write_zeroes_may_unmap = 56    // r- 8 bits
    };
    struct BlockFeature {
        static constexpr u64 seg_max = 1 << 2, read_only = 1 << 5, blk_size = 1 << 6,
                             flush = 1 << 9, topology = 1 << 10, config_wce = 1 << 11,
                             multiple_queues = 1 << 12, discard = 1 << 13, write_zeroes = 1 << 14;
    };

private:
    /// One request of the driver, from its descriptors to its status.
    class Request final : public BlockRequest, public Completion {
    public:
        explicit Request(VirtioBlock& owner) : device(owner) {}
        void done(BlockStatus result) override { device.host_done(*this, result); }
        void deliver() override { device.deliver(*this); }

        VirtioBlock& device;
        unsigned queue = 0;
        VirtioChain chain;
        u8 status = 0;
        u32 written = 0;       ///< bytes at the beginning of the chain's writable part
        bool at_host = false;  ///< submitted to the back end, and not done
        bool timed = false;    ///< the delay model was asked
        bool dropped = false;  ///< nobody waits for it any more
        std::size_t place = 0; ///< in m_active
    };

    void queue_notified(unsigned n) override;
    [[nodiscard]] bool begin_reset() override;
    [[nodiscard]] u8 device_config(u64 offset) const override;
    void set_device_config(u64 offset, u8 value) override;
    void interrupt_status_read() override { m_completions.status_polled(m_device); }

    void fill_config(unsigned queues);
    void process(unsigned n);
    void process_one(unsigned n);
    [[nodiscard]] bool begin(Request& request);
    /// Each returns the status that it found at once, or nothing if the host is to do it.
    [[nodiscard]] std::optional<u8> prepare(Request& request, u32 type, u64 sector);
    [[nodiscard]] std::optional<u8> prepare_transfer(Request& request, u64 sector, bool write);
    [[nodiscard]] std::optional<u8> prepare_range(Request& request, BlockOperation operation);
    [[nodiscard]] u8 identify(Request& request);
    void host_done(Request& request, BlockStatus status);
    void deliver(Request& request);
    [[nodiscard]] Request& take_request();
    void release(Request& request);
    [[nodiscard]] bool writes_through() const;

    BlockBackEnd& m_back_end;
    CompletionScheduler& m_completions;
    std::unique_ptr<DelayModel> m_delays; ///< not null
    unsigned m_device;                    ///< the scheduler's number of it
    std::string m_serial;
    bool m_read_only;
    std::array<u8, 60> m_config{};
    std::vector<std::unique_ptr<Request>> m_free, m_active;
    std::vector<unsigned> m_in_queue; ///< how many of m_active are each queue's
    // Of each queue: stopped because it had as many as it may; to be looked at.
    std::vector<bool> m_full, m_wanted;
    bool m_processing = false;
};

} // namespace gnomon::platform
