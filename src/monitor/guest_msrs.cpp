// SPDX-License-Identifier: Apache-2.0
#include "monitor/guest_msrs.h"

#include "base/guest_memory.h"
#include "monitor/cpuid.h"

namespace gnomon::monitor {

namespace {

namespace msr {
constexpr u32 platform_id = 0x17, feature_control = 0x3a, spec_ctrl = 0x48, pred_cmd = 0x49,
              bios_sign_id = 0x8b, mtrr_cap = 0xfe, arch_capabilities = 0x10a, platform_info = 0xce,
              mcg_cap = 0x179, mcg_status = 0x17a, misc_enable = 0x1a0, mtrr_variable = 0x200,
              mtrr_fixed_64k = 0x250, mtrr_fixed_16k = 0x258, mtrr_fixed_4k = 0x268,
              mtrr_default = 0x2ff;
}

constexpr u64 memory_type_valid(u64 type) {
    return type == 0 || type == 1 || (type >= 4 && type <= 6);
}

/// Index into the fixed-range registers, or nothing.
std::optional<unsigned> fixed_index(u32 index) {
    if (index == msr::mtrr_fixed_64k) return 0;
    if (index == msr::mtrr_fixed_16k || index == msr::mtrr_fixed_16k + 1)
        return 1 + index - msr::mtrr_fixed_16k;
    if (index >= msr::mtrr_fixed_4k && index < msr::mtrr_fixed_4k + 8)
        return 3 + index - msr::mtrr_fixed_4k;
    return std::nullopt;
}

} // namespace

std::optional<u64> GuestMsrs::read(u32 index) const {
    if (index >= msr::mtrr_variable && index < msr::mtrr_variable + m_mtrr_variable.size())
        return m_mtrr_variable[index - msr::mtrr_variable];
    if (const auto fixed = fixed_index(index)) return m_mtrr_fixed[*fixed];
    switch (index) {
    case msr::platform_id: return 0;
    case msr::feature_control: return 1; // locked, nothing enabled
    case msr::spec_ctrl: return m_spec_ctrl;
    case msr::bios_sign_id: return m_bios_sign_id;
    case msr::mtrr_cap:
        return u64{1} << 10 | u64{1} << 8 | m_mtrr_variable.size() / 2; // WC, fixed ranges
    case msr::arch_capabilities: return arch_capabilities;
    case msr::platform_info: return 0;
    case msr::mcg_cap: return 0; // no banks
    case msr::mcg_status: return 0;
    case msr::misc_enable: return m_misc_enable;
    case msr::mtrr_default: return m_mtrr_default;
    default: return std::nullopt;
    }
}

bool GuestMsrs::write(u32 index, u64 value) {
    if (index >= msr::mtrr_variable && index < msr::mtrr_variable + m_mtrr_variable.size()) {
        // SDM vol. 3A section 11.11.2.3: a base has a type, a mask the valid bit.
        const bool base = (index - msr::mtrr_variable) % 2 == 0;
        const u64 reserved = (base ? 0xf00 : 0x7ff) | ~((u64{1} << guest_physical_bits) - 1);
        if ((value & reserved) != 0 || (base && !memory_type_valid(value & 0xff))) return false;
        m_mtrr_variable[index - msr::mtrr_variable] = value;
        return true;
    }
    if (const auto fixed = fixed_index(index)) {
        for (unsigned i = 0; i < 64; i += 8)
            if (!memory_type_valid(value >> i & 0xff)) return false;
        m_mtrr_fixed[*fixed] = value;
        return true;
    }
    switch (index) {
    case msr::spec_ctrl:
        if ((value & ~(u64{7} | u64{1} << 10)) != 0) return false; // IBRS STIBP SSBD, BHI_DIS_S
        m_spec_ctrl = value;
        return true;
    case msr::pred_cmd: return (value & ~u64{1}) == 0; // a barrier: there is nothing to forget
    case msr::bios_sign_id: return true; // written before CPUID to have the revision latched
    case msr::misc_enable: m_misc_enable = value; return true;
    case msr::mcg_status: return value == 0;
    case msr::mtrr_default:
        if ((value & ~u64{0xcff}) != 0 || !memory_type_valid(value & 0xff)) return false;
        m_mtrr_default = value;
        return true;
    default: return false;
    }
}

} // namespace gnomon::monitor
