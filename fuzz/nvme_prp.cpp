// SPDX-License-Identifier: Apache-2.0
/// @file NVMe's physical region pages: lists of any content against a second reading of the
/// specification, which goes entry by entry.
#include "fuzz/support/input.h"
#include "platform/nvme/command.h"
#include "platform/nvme/prp.h"

using namespace gnomon;
using namespace gnomon::fuzz;
using platform::Dma;
using platform::nvme::Segment;
using platform::nvme::Status;

namespace {

constexpr u64 memory_bytes = u64{1} << 20; // a multiple of the largest page

struct Expected {
    Status status = Status::success;
    std::vector<std::pair<u64, u64>> pieces;
};

Expected expect(const GuestMemory& memory, u64 prp1, u64 prp2, u64 length, u64 page) {
    Expected out;
    const auto fail = [&](Status status) {
        out.status = status;
        return out;
    };
    const auto is_ram = [](u64 at, u64 size) {
        return at < memory_bytes && size <= memory_bytes - at;
    };
    u64 place = prp1;
    u64 list = 0; // where the next entry is, once there is a list
    if (length == 0) return out;
    if (prp1 % 4 != 0) return fail(Status::prp_offset_invalid);
    while (true) {
        const u64 size = std::min(length, page - place % page);
        if (!is_ram(place, size)) return fail(Status::data_transfer_error);
        out.pieces.emplace_back(place, size);
        length -= size;
        if (length == 0) return out;
        if (out.pieces.size() == 1 && length <= page) {
            place = prp2;
        } else {
            if (out.pieces.size() == 1) {
                list = prp2;
                if (list % 8 != 0) return fail(Status::prp_offset_invalid);
            }
            if (list % page == page - 8 && length > page) { // the page's last entry leads on
                if (!memory.read_object(Gpa(list), list)) return fail(Status::data_transfer_error);
                if (list % page != 0) return fail(Status::prp_offset_invalid);
            }
            if (!memory.read_object(Gpa(list), place)) return fail(Status::data_transfer_error);
            list += 8;
        }
        if (place % page != 0) return fail(Status::prp_offset_invalid);
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    Input input(data, size);
    auto memory = GuestMemory::create(memory_bytes);
    require(memory.has_value(), "no memory");
    const Dma dma(*memory, nullptr);
    const u64 page = page_size << input.below(5);
    const auto address = [&]() -> u64 {
        const u8 shape = input.take<u8>();
        if (shape < 8) return input.number();
        const u64 base = u64{input.take<u8>()} * page % (memory_bytes + page);
        if (shape < 128) return base;
        return shape < 192 ? base + page - 8 : base + (u64{shape} & 63) * 8;
    };
    while (!input.empty()) {
        // Some entries, then some requests.
        for (u64 i = input.below(16); i != 0; --i) {
            const u64 at = address() % (memory_bytes - 512) & ~u64{7};
            const u64 count = 1 + input.below(64), value = address(), step = input.below(2) * page;
            for (u64 k = 0; k < count; ++k)
                require(memory->write_object(Gpa(at + 8 * k), value + k * step), "no memory");
        }
        const u64 prp1 = address() + (input.flag() ? u64{input.take<u8>()} * 4 : 0),
                  prp2 = address();
        const u64 length = input.flag()
                               ? input.below(platform::nvme::max_transfer_bytes / 512 + 1) * 512
                               : input.below(platform::nvme::max_transfer_bytes + 1);
        std::vector<Segment> out;
        const Status status = platform::nvme::walk_prps(dma, {prp1, prp2}, length, page, out);
        const Expected expected = expect(*memory, prp1, prp2, length, page);
        require(status == expected.status, "another status than expected");
        if (status != Status::success) continue;
        auto piece = expected.pieces.begin();
        u64 within = 0;
        for (const Segment& segment : out) {
            require(segment.host == memory->hva(segment.gpa, segment.size) &&
                        segment.host != nullptr,
                    "a piece is not where it says");
            for (u64 done = 0; done < segment.size;) {
                require(piece != expected.pieces.end(), "too many bytes");
                require(segment.gpa.value() + done == piece->first + within, "another place");
                const u64 step = std::min(segment.size - done, piece->second - within);
                done += step;
                within += step;
                if (within == piece->second) {
                    ++piece;
                    within = 0;
                }
            }
        }
        require(piece == expected.pieces.end() && within == 0, "too few bytes");
    }
    return 0;
}
