// SPDX-License-Identifier: Apache-2.0
/// @file A disk's location and the first and last bytes of its file, beside a plain reading of
/// what they say. A guest writes the bytes of its own disk.
#include "fuzz/support/input.h"
#include "platform/block/image_format.h"

#include <algorithm>
#include <string>

using namespace gnomon;
using namespace gnomon::fuzz;
using namespace gnomon::platform;

namespace {

void check_location(const std::string& text) {
    const auto kind = parse_location(text);
    if (!kind) {
        require(kind.error().usage && !kind.error().message.empty(), "a complaint without words");
        require(text.empty() || text.find('\0') != std::string::npos ||
                    text.find("://") != std::string::npos,
                "a plain path is refused");
        return;
    }
    require(!text.empty() && text.find('\0') == std::string::npos, "no name is taken for one");
    std::string lower = text.substr(0, text.find("://"));
    std::ranges::transform(lower, lower.begin(), [](char c) {
        return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    });
    const bool server =
        text.find("://") != std::string::npos && (lower == "nbd" || lower == "nbd+unix");
    require((*kind == LocationKind::nbd) == server, "a server and a file are confused");
    if (!text.starts_with("./")) {
        const auto as_file = parse_location("./" + text);
        require(as_file && *as_file == LocationKind::file, "the way out is none");
    }
}

void check_image(std::span<const std::byte> head, std::span<const std::byte> tail) {
    const ImageHead image = recognise_image(head, tail);
    require(image.name.empty() == (image.kind == ImageKind::raw), "a format without a name");
    const auto at = [&](std::size_t i) {
        return i < head.size() ? std::to_integer<unsigned>(head[i]) : 0U;
    };
    const bool magic =
        head.size() >= 4 && at(0) == 'Q' && at(1) == 'F' && at(2) == 'I' && at(3) == 0xfb;
    const bool version_2 = magic && (at(4) | at(5) | at(6)) == 0 ? at(7) >= 2 : magic;
    require((image.kind == ImageKind::qcow2) == version_2,
            "qcow2 is taken for another, or another for it");
    bool backing = false;
    for (std::size_t i = 8; i < 16; ++i)
        backing = backing || at(i) != 0;
    const bool version_3 = version_2 && ((at(4) | at(5) | at(6)) != 0 || at(7) >= 3);
    const bool external = version_3 && (at(79) & 4) != 0;
    require(image.names_other_files == (version_2 && (backing || external)),
            "other files are overlooked, or seen where there are none");
    // What is not at the ends does not matter.
    if (image.kind == ImageKind::raw && head.size() == image_head_bytes)
        require(recognise_image(head, {}).kind == ImageKind::raw, "the head is read differently");
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    Input input(data, size);
    const bool location = input.flag();
    if (location) {
        check_location(input.text(std::min<std::size_t>(input.remaining(), 256)));
        return 0;
    }
    const std::size_t tail_bytes = input.below(image_head_bytes + 1);
    const auto head = std::as_bytes(input.bytes(image_head_bytes));
    check_image(head, std::as_bytes(input.bytes(tail_bytes)));
    return 0;
}
