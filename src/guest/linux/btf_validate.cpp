// SPDX-License-Identifier: Apache-2.0
#include "guest/linux/btf_validate.h"

#include "base/types.h"

#include <cstring>
#include <linux/btf.h>
#include <optional>

namespace gnomon::guest::linux_ {

namespace {

/// A distribution's kernel has 4 to 6 MB. libbpf copies the section and indexes it.
constexpr std::size_t max_section_bytes = std::size_t{64} << 20;

/// What follows a record's 12 common bytes, and which of its words are names and type numbers.
struct RecordShape {
    u32 fixed = 0;              ///< bytes
    u32 per_element = 0;        ///< bytes, times `vlen`
    bool refers = false;        ///< the common `size/type` word is a type number
    bool element_names = false; ///< the first word of each element is a name
    int element_type = -1;      ///< index of the word of each element that is a type number
};

std::optional<RecordShape> shape_of(u32 kind) {
    switch (kind) {
    case BTF_KIND_INT: return RecordShape{.fixed = 4};
    case BTF_KIND_ARRAY: return RecordShape{.fixed = sizeof(btf_array)};
    case BTF_KIND_STRUCT:
    case BTF_KIND_UNION:
        return RecordShape{
            .per_element = sizeof(btf_member), .element_names = true, .element_type = 1};
    case BTF_KIND_ENUM: return RecordShape{.per_element = sizeof(btf_enum), .element_names = true};
    case BTF_KIND_ENUM64: return RecordShape{.per_element = 12, .element_names = true};
    case BTF_KIND_FWD:
    case BTF_KIND_FLOAT: return RecordShape{};
    case BTF_KIND_PTR:
    case BTF_KIND_TYPEDEF:
    case BTF_KIND_VOLATILE:
    case BTF_KIND_CONST:
    case BTF_KIND_RESTRICT:
    case BTF_KIND_FUNC:
    case BTF_KIND_TYPE_TAG: return RecordShape{.refers = true};
    case BTF_KIND_FUNC_PROTO:
        return RecordShape{.per_element = sizeof(btf_param),
                           .refers = true,
                           .element_names = true,
                           .element_type = 1};
    case BTF_KIND_VAR: return RecordShape{.fixed = sizeof(btf_var), .refers = true};
    case BTF_KIND_DECL_TAG: return RecordShape{.fixed = 4, .refers = true};
    case BTF_KIND_DATASEC:
        return RecordShape{.per_element = sizeof(btf_var_secinfo), .element_type = 0};
    default: return std::nullopt;
    }
}

u32 word_at(std::span<const std::byte> bytes, u64 offset) {
    u32 value = 0;
    std::memcpy(&value, bytes.data() + offset, sizeof value);
    return value;
}

/// One pass over the records. The number of types is known only after the first, so the second
/// checks them.
/// @param type_count 0 in the first pass. @return the number of types, or an Error.
Result<u32> pass(std::span<const std::byte> types, u32 strings_size, u32 type_count) {
    u32 count = 0;
    const auto bad_name = [&](u32 name) { return name >= strings_size; };
    const auto bad_type = [&](u32 type) { return type_count != 0 && type > type_count; };
    u64 at = 0;
    while (at < types.size()) {
        ++count;
        const u64 left = types.size() - at;
        if (left < sizeof(btf_type)) return fail("record {} is cut short", count);
        const u32 name = word_at(types, at);
        const u32 info = word_at(types, at + 4);
        const u32 size_or_type = word_at(types, at + 8);
        const u32 kind = BTF_INFO_KIND(info);
        const u32 elements = BTF_INFO_VLEN(info);
        const auto shape = shape_of(kind);
        if (!shape) return fail("record {} is of unknown kind {}", count, kind);
        const u64 size = sizeof(btf_type) + shape->fixed + u64{shape->per_element} * elements;
        if (left < size) return fail("record {} is cut short", count);
        if (bad_name(name)) return fail("the name of record {} lies outside the strings", count);
        if (shape->refers && bad_type(size_or_type))
            return fail("record {} refers to no type", count);
        const u64 body = at + sizeof(btf_type);
        if (kind == BTF_KIND_ARRAY &&
            (bad_type(word_at(types, body)) || bad_type(word_at(types, body + 4))))
            return fail("record {} refers to no type", count);
        for (u32 i = 0; i < elements && shape->per_element != 0; ++i) {
            const u64 element = body + u64{shape->per_element} * i;
            if (shape->element_names && bad_name(word_at(types, element)))
                return fail("a name in record {} lies outside the strings", count);
            if (shape->element_type >= 0 &&
                bad_type(word_at(types, element + 4 * static_cast<u64>(shape->element_type))))
                return fail("record {} refers to no type", count);
        }
        at += size;
    }
    return count;
}

} // namespace

Result<> validate_btf(std::span<const std::byte> section) {
    btf_header header;
    if (section.size() < sizeof header) return fail("it is cut short");
    if (section.size() > max_section_bytes)
        return fail("it has {} bytes, which no kernel needs", section.size());
    std::memcpy(&header, section.data(), sizeof header);
    if (header.magic != BTF_MAGIC || header.version != BTF_VERSION)
        return fail("it is not BTF of version 1");
    // Offsets count from the end of the header, whose length the header itself gives. The order and
    // the alignment are what libbpf expects.
    if (header.hdr_len < sizeof header || header.hdr_len % 4 != 0 ||
        header.hdr_len > section.size())
        return fail("its header has length {}", header.hdr_len);
    const u64 body_size = section.size() - header.hdr_len;
    if (header.type_off % 4 != 0 || header.type_len % 4 != 0 ||
        u64{header.type_off} + header.type_len > header.str_off ||
        u64{header.str_off} + header.str_len > body_size)
        return fail("its parts lie outside it");
    const auto body = section.subspan(header.hdr_len);
    const auto strings = body.subspan(header.str_off, header.str_len);
    if (strings.empty() || strings.front() != std::byte{0} || strings.back() != std::byte{0})
        return fail("its strings are not terminated");
    const auto types = body.subspan(header.type_off, header.type_len);
    const auto count = pass(types, header.str_len, 0);
    if (!count) return tl::unexpected(count.error());
    if (*count == 0) return fail("it describes no types");
    if (const auto checked = pass(types, header.str_len, *count); !checked)
        return tl::unexpected(checked.error());
    return {};
}

} // namespace gnomon::guest::linux_
