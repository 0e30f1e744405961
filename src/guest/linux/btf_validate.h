// SPDX-License-Identifier: Apache-2.0
/// @file The check that stands between a stranger's BTF section and libbpf.
#pragma once

#include "base/result.h"

#include <cstddef>
#include <span>

namespace gnomon::guest::linux_ {

/// Whether `section` is one whole, self-contained, little-endian BTF blob of version 1: header,
/// type records and strings inside the section, every record whole, every name inside the strings,
/// every type number that of a type. It says nothing about cycles between types: whoever follows
/// references bounds them.
[[nodiscard]] Result<> validate_btf(std::span<const std::byte> section);

} // namespace gnomon::guest::linux_
