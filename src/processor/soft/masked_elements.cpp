// SPDX-License-Identifier: Apache-2.0
#include "processor/soft/masked_access.h"

#include "processor/soft/emission.h"

namespace gnomon::processor::soft {

namespace {

/// Whether faults of the memory operand are not suppressed, whatever the mask: the exception types
/// that end with NF (SDM vol. 2A section 2.8).
bool accesses_all(const ZydisDecodedInstruction& z) {
    switch (z.meta.exception_class) {
    case ZYDIS_EXCEPTION_CLASS_E1NF:
    case ZYDIS_EXCEPTION_CLASS_E2NF:
    case ZYDIS_EXCEPTION_CLASS_E3NF:
    case ZYDIS_EXCEPTION_CLASS_E4NF:
    case ZYDIS_EXCEPTION_CLASS_E5NF:
    case ZYDIS_EXCEPTION_CLASS_E6NF:
    case ZYDIS_EXCEPTION_CLASS_E9NF:
    case ZYDIS_EXCEPTION_CLASS_E10NF:
    case ZYDIS_EXCEPTION_CLASS_E11NF: return true;
    default: break;
    }
    switch (z.mnemonic) { // of E4NF, too, which Zydis does not know
    case ZYDIS_MNEMONIC_VCVTNE2PS2BF16:
    case ZYDIS_MNEMONIC_VDBPSADBW:
    case ZYDIS_MNEMONIC_VGF2P8AFFINEQB:
    case ZYDIS_MNEMONIC_VGF2P8AFFINEINVQB: return true;
    default: return false;
    }
}

bool is_packed(ZydisMnemonic mnemonic) {
    switch (mnemonic) {
    case ZYDIS_MNEMONIC_VCOMPRESSPS:
    case ZYDIS_MNEMONIC_VCOMPRESSPD:
    case ZYDIS_MNEMONIC_VPCOMPRESSB:
    case ZYDIS_MNEMONIC_VPCOMPRESSW:
    case ZYDIS_MNEMONIC_VPCOMPRESSD:
    case ZYDIS_MNEMONIC_VPCOMPRESSQ:
    case ZYDIS_MNEMONIC_VEXPANDPS:
    case ZYDIS_MNEMONIC_VEXPANDPD:
    case ZYDIS_MNEMONIC_VPEXPANDB:
    case ZYDIS_MNEMONIC_VPEXPANDW:
    case ZYDIS_MNEMONIC_VPEXPANDD:
    case ZYDIS_MNEMONIC_VPEXPANDQ: return true;
    default: return false;
    }
}

/// How many lanes an embedded broadcast fills.
unsigned broadcast_lanes(ZydisBroadcastMode mode) {
    switch (mode) {
    case ZYDIS_BROADCAST_MODE_1_TO_2: return 2;
    case ZYDIS_BROADCAST_MODE_1_TO_4: return 4;
    case ZYDIS_BROADCAST_MODE_1_TO_8: return 8;
    case ZYDIS_BROADCAST_MODE_1_TO_16: return 16;
    case ZYDIS_BROADCAST_MODE_1_TO_32: return 32;
    default: return 0;
    }
}

} // namespace

MaskedElements masked_elements(const DecodedInstruction& d) {
    const ZydisDecodedOperand* memory = d.memory();
    if (memory == nullptr || d.compact.mask == 0 || memory->element_size < 8) return {};
    MaskedElements e;
    e.whole = accesses_all(d.z);
    if (e.whole && !writes(*memory)) return {};
    e.mask = d.compact.mask;
    e.element = static_cast<u8>(memory->element_size / 8);
    const auto& broadcast = d.z.avx.broadcast;
    unsigned lanes = memory->size / memory->element_size;
    if (broadcast.is_static) // VBROADCAST and its like
        lanes = d.compact.vector_length / unsigned{e.element};
    else if (const unsigned n = broadcast_lanes(broadcast.mode); n != 0)
        lanes = n;
    e.lanes = static_cast<u8>(lanes);
    e.packed = is_packed(d.z.mnemonic);
    return e;
}

} // namespace gnomon::processor::soft
