// SPDX-License-Identifier: Apache-2.0
/// @file What Identify tells (NVMe 1.4, section 5.15).
#pragma once

#include "platform/nvme/data_page.h"
#include "platform/nvme/options.h"

#include <array>

namespace gnomon::platform::nvme {

enum class IdentifyStructure : u8 { // CNS
    name_space = 0x00,
    controller = 0x01,
    active_namespaces = 0x02,
    namespace_descriptors = 0x03,
};

inline constexpr std::size_t identify_bytes = 4096;

/// Limits that the controller keeps, and so tells. All 0's based where the specification is.
inline constexpr u8 abort_limit = 3, event_request_limit = 3, error_log_entries = 63;

/// A name that is unique as far as model and serial number are; version 8 (RFC 9562).
[[nodiscard]] std::array<u8, 16> unique_id(const Options& options);

/// @param disk_bytes the namespace's size.
[[nodiscard]] DataPage identify_controller(const Options& options, u64 disk_bytes);
[[nodiscard]] DataPage identify_namespace(u64 disk_bytes, bool read_only);
/// Those above `after`.
[[nodiscard]] DataPage identify_active_namespaces(u32 after);
[[nodiscard]] DataPage identify_namespace_descriptors(const Options& options);

} // namespace gnomon::platform::nvme
