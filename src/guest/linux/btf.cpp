// SPDX-License-Identifier: Apache-2.0
#include "guest/linux/btf.h"

#include "guest/linux/btf_validate.h"

#include <bpf/btf.h>
#include <cerrno>
#include <cstring>
#include <limits>
#include <optional>
#include <string>

namespace gnomon::guest::linux_ {

namespace {

/// Types refer to each other freely, so a hostile description may be a cycle, or a tree that
/// doubles at every level. Kernels nest anonymous members and qualifiers a few deep.
constexpr unsigned max_qualifiers = 32;
constexpr unsigned max_anonymous_depth = 16;
constexpr unsigned max_members_visited = 100'000;

/// A point inside a structure.
struct Place {
    u64 bit_offset = 0;
    u32 type = 0;
    bool bit_field = false;
};

/// The type behind typedefs, qualifiers and tags; nullptr for void, nonsense and cycles.
const btf_type* underlying(const btf* types, u32 id) {
    for (unsigned i = 0; i < max_qualifiers; ++i) {
        const btf_type* type = btf__type_by_id(types, id);
        if (type == nullptr) return nullptr;
        if (!btf_is_mod(type) && !btf_is_typedef(type)) return btf_is_void(type) ? nullptr : type;
        id = type->type;
    }
    return nullptr;
}

/// The member `name` of `structure`, looking through its anonymous members.
std::optional<Place> find_member(const btf* types, const btf_type* structure, std::string_view name,
                                 unsigned depth, unsigned& visits_left) {
    if (depth == 0) return std::nullopt;
    const btf_member* members = btf_members(structure);
    for (u32 i = 0; i < btf_vlen(structure); ++i) {
        if (visits_left == 0) return std::nullopt;
        --visits_left;
        const u64 offset = btf_member_bit_offset(structure, i);
        if (members[i].name_off != 0) {
            const char* member_name = btf__name_by_offset(types, members[i].name_off);
            if (member_name == nullptr || name != member_name) continue;
            return Place{.bit_offset = offset,
                         .type = members[i].type,
                         .bit_field =
                             btf_member_bitfield_size(structure, i) != 0 || offset % 8 != 0};
        }
        const btf_type* inner = underlying(types, members[i].type);
        if (inner == nullptr || !btf_is_composite(inner)) continue;
        if (auto found = find_member(types, inner, name, depth - 1, visits_left)) {
            found->bit_offset += offset;
            return found;
        }
    }
    return std::nullopt;
}

std::optional<u32> find_composite(const btf* types, const std::string& name) {
    if (name.empty()) return std::nullopt; // would find any anonymous one
    for (const u32 kind : {BTF_KIND_STRUCT, BTF_KIND_UNION, BTF_KIND_TYPEDEF}) {
        const i32 id = btf__find_by_name_kind(types, name.c_str(), kind);
        if (id > 0) return static_cast<u32>(id);
    }
    return std::nullopt;
}

} // namespace

void Btf::Free::operator()(btf* b) const { btf__free(b); }

Result<Btf> Btf::parse(std::span<const std::byte> section) {
    if (const auto valid = validate_btf(section); !valid)
        return fail("the kernel's type information (.BTF) is unusable: {}", valid.error().message);
    btf* parsed = btf__new(section.data(), static_cast<u32>(section.size()));
    if (parsed == nullptr)
        return fail("the kernel's type information (.BTF) is unusable: libbpf: {}",
                    std::strerror(errno));
    return Btf(parsed);
}

Result<Btf::Member> Btf::member(std::string_view type, std::string_view path) const {
    const btf* types = m_btf.get();
    const auto root = find_composite(types, std::string(type));
    if (!root) return fail("the kernel's type information has no structure '{}'", type);

    Place place{.bit_offset = 0, .type = *root, .bit_field = false};
    std::string_view rest = path;
    while (true) {
        const std::size_t dot = rest.find('.');
        const std::string_view name = rest.substr(0, dot);
        const btf_type* structure = underlying(types, place.type);
        if (structure != nullptr && btf_is_array(structure))
            structure = underlying(types, btf_array(structure)->type);
        if (structure == nullptr || !btf_is_composite(structure) || place.bit_field)
            return fail("in '{}.{}', what holds '{}' is not a structure", type, path, name);
        unsigned visits_left = max_members_visited;
        const auto found = find_member(types, structure, name, max_anonymous_depth, visits_left);
        if (!found) return fail("the kernel's type information has no member '{}.{}'", type, path);
        place = {.bit_offset = place.bit_offset + found->bit_offset,
                 .type = found->type,
                 .bit_field = found->bit_field};
        if (dot == std::string_view::npos) break;
        rest.remove_prefix(dot + 1);
    }
    if (place.bit_field) return fail("'{}.{}' is a bit-field", type, path);
    const u64 offset = place.bit_offset / 8;
    const i64 size = btf__resolve_size(types, place.type);
    if (offset > std::numeric_limits<u32>::max() || size < 0 ||
        size > std::numeric_limits<u32>::max())
        return fail("the kernel's type information gives '{}.{}' no sensible place", type, path);
    return Member{.offset = static_cast<u32>(offset), .size = static_cast<u32>(size)};
}

Result<u32> Btf::offset_of(std::string_view type, std::string_view path) const {
    return member(type, path).map([](const Member& m) { return m.offset; });
}

Result<u32> Btf::size_of(std::string_view type) const {
    const auto root = find_composite(m_btf.get(), std::string(type));
    if (!root) return fail("the kernel's type information has no structure '{}'", type);
    const i64 size = btf__resolve_size(m_btf.get(), *root);
    if (size < 0 || size > std::numeric_limits<u32>::max())
        return fail("the kernel's type information gives '{}' no sensible size", type);
    return static_cast<u32>(size);
}

u32 Btf::type_count() const { return btf__type_cnt(m_btf.get()) - 1; }

} // namespace gnomon::guest::linux_
