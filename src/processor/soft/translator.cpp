// SPDX-License-Identifier: Apache-2.0
#include "processor/soft/translator.h"

#include "base/verify.h"
#include "processor/activity.h"
#include "processor/soft/emission.h"
#include "processor/soft/singly.h"
#include "processor/soft/soft_processor.h"
#include "processor/soft/target.h"

#include <algorithm>
#include <cstring>

namespace gnomon::processor::soft {

namespace {

/// Upper bounds of host code for one block; asked for before one is begun.
constexpr std::size_t block_room = 96 * 1024, block_cold_room = 48 * 1024,
                      block_site_room = 32 * 1024;

bool ends_block(const DecodedInstruction& d) {
    switch (d.disposition.action) {
    case Action::refuse:
    case Action::call:
    case Action::ret:
    case Action::jump:
    case Action::loop:
    case Action::helper_end: return true;
    default: return false;
    }
}

/// Flags that an instruction may need before it is done: those it reads, and all where C++ or a
/// branch may look.
u16 flags_needed(const DecodedInstruction& d, Mode mode) {
    // In ring 0 it cannot fault, and nobody looks.
    if (d.z.mnemonic == ZYDIS_MNEMONIC_RDTSC && mode.set() != TlbSet::user &&
        !mode.has(Mode::single))
        return 0;
    switch (d.disposition.action) {
    case Action::pass:
    case Action::lea:
    case Action::nothing:
    case Action::push:
    case Action::pop:
    case Action::leave: return d.flags_read;
    case Action::mov_or_segment: {
        const bool maybe_helper =
            d.z.opcode_map != ZYDIS_OPCODE_MAP_DEFAULT || d.z.opcode == 0x8c || d.z.opcode == 0x8e;
        return maybe_helper ? u16{rflags::arithmetic} : d.flags_read;
    }
    default: return rflags::arithmetic;
    }
}

/// How far ahead BlockEmitter is told which registers are wanted.
constexpr unsigned wanted_distance = 3;

/// Guest R13-R15 that an instruction reads, by bits.
u8 high_registers_read(const DecodedInstruction& d) {
    unsigned read = 0;
    const auto note = [&](u8 reg) {
        if (reg >= r13 && reg <= r15) read |= 1U << (reg - r13);
    };
    for (unsigned n = 0; n < d.z.operand_count; ++n) {
        const ZydisDecodedOperand& o = d.operands[n];
        if (o.type == ZYDIS_OPERAND_TYPE_REGISTER && reads(o)) note(gpr_number(o.reg.value));
    }
    if (d.compact.is_memory) {
        note(d.compact.base);
        note(d.compact.index);
    }
    return static_cast<u8>(read);
}

u16 flags_killed(const DecodedInstruction& d) {
    return d.disposition.action == Action::pass ? d.flags_written : u16{0};
}

} // namespace

Translation Translator::translate(Cpu& cpu, PageCode& page, u16 offset, const CodeBytes& bytes,
                                  Role role) {
    if (m_cache.room(CodePart::hot) < block_room ||
        m_cache.room(CodePart::cold) < block_cold_room || m_cache.site_room() < block_site_room)
        return {Translation::Kind::cache_full, 0};

    const unsigned limit = page.mode.has(Mode::single) ? 1 : max_instructions;
    unsigned count = 0;
    u32 at = offset;
    bool crossing = false;
    while (count < limit && at < page_size) {
        DecodedInstruction& d = m_decoded[count];
        const std::span<const u8> rest(bytes.page + at, page_size - at);
        DecodeStatus status =
            m_decoder.decode(rest, page.mode, static_cast<u16>(at), m_features, d);
        if (status == DecodeStatus::truncated) {
            if (count > 0) break;
            if (bytes.second == nullptr) return {Translation::Kind::needs_second, 0};
            u8 joined[32] = {};
            std::memcpy(joined, rest.data(), rest.size());
            std::memcpy(joined + rest.size(), bytes.second, 16);
            status = m_decoder.decode(std::span(joined, rest.size() + 16), page.mode,
                                      static_cast<u16>(at), m_features, d);
            crossing = true;
        }
        if (page.mode.has(Mode::avx512) && FeatureSet::of_avx512().has(d.disposition.feature))
            begin_avx512(cpu);
        ++count;
        at += d.compact.length;
        if (crossing || ends_block(d)) break;
    }
    VERIFY(count > 0);

    u16 needed_before[max_instructions];
    u16 live = rflags::arithmetic;
    for (unsigned n = count; n-- > 0;) {
        live = static_cast<u16>((live & ~flags_killed(m_decoded[n])) |
                                flags_needed(m_decoded[n], page.mode));
        needed_before[n] = live;
    }

    // By offset alone: the frame may be seen at several hooked pages. The check compares RIP.
    const auto hooked = [&](const DecodedInstruction& d) {
        return page.mode.has(Mode::hooked) &&
               std::any_of(std::begin(cpu.cb.execution_hook), std::end(cpu.cb.execution_hook),
                           [&](Gva hook) {
                               return hook != Gva() && hook.page_offset() == d.compact.page_offset;
                           });
    };
    // A check for a hook may change anything; elsewhere segments and address sizes would matter.
    AccessPlan plan;
    if (role != Role::singly && count > 1 && page.mode.has(Mode::code64) &&
        std::none_of(m_decoded.get(), m_decoded.get() + count, hooked))
        plan = plan_accesses({m_decoded.get(), count}, page.mode, {needed_before, count});

    // Guest R13-R15, by bits: what each instruction reads, then what the few behind it read.
    u8 wanted[max_instructions], wanted_soon[max_instructions];
    for (unsigned n = 0; n < count; ++n)
        wanted[n] = high_registers_read(m_decoded[n]);
    for (unsigned n = 0; n < count; ++n) {
        wanted_soon[n] = 0;
        for (unsigned k = n + 1; k < std::min(count, n + 1 + wanted_distance); ++k)
            wanted_soon[n] |= wanted[k];
    }

    BlockEmitter emitter(m_cache, m_thunks, m_features, page);
    emitter.begin_block(offset, needed_before[0] != 0, role == Role::jumped_to && !crossing);
    if (crossing && bytes.second_page != nullptr) emitter.emit_straddle_check(*bytes.second_page);
    bool open = true;
    for (unsigned n = 0; n < count && open; ++n) {
        const DecodedInstruction& d = m_decoded[n];
        emitter.begin_instruction(d.compact, plan, n, needed_before[n] != 0, wanted_soon[n]);
        if (hooked(d))
            emitter.emit_hook_check(d, page.mode.has(Mode::single) ? check_execution_hook_singly
                                                                   : check_execution_hook);
        if (m_count_instructions) emitter.emit_count();
        open = emitter.emit(d, needed_before[n] != 0);
    }
    if (open) emitter.go_to(at);
    const Block block = emitter.finish(static_cast<u16>(at - offset), crossing);
    const std::size_t bytes_emitted = emitter.commit();
    const bool findable = role != Role::singly && (!crossing || bytes.second_page != nullptr);
    m_cache.add(block, emitter.marks(), findable);
    // What returns there already is to be predicted from now on.
    if (const auto back = emitter.new_return_offset())
        if (const u32 way = m_cache.way(page, *back); way != 0)
            remember_way(cpu, page.mode.set(), cpu.page_base + *back, way);
    m_cache.note_code_bytes(page.frame, offset, std::min<u32>(at, page_size));
    if (crossing) {
        // An instruction that proves to be none may end before the bytes that tell so.
        const u32 beyond = at > page_size ? at - static_cast<u32>(page_size) : 1;
        m_cache.note_code_bytes(bytes.second_frame, 0, beyond);
        m_cache.add_straddling(block, bytes.second_frame);
    }
    if (m_code_map != nullptr) {
        const Gva guest = fetch_address(cpu.cb.state, cpu.page_base + offset);
        const bool user = page.mode.set() == TlbSet::user;
        m_code_map->translated(block.begin, block.end - block.begin, guest, user);
        m_code_map->translated(block.cold_begin, block.cold_end - block.cold_begin, guest, user);
    }
    ++cpu.statistics.translated_blocks;
    cpu.statistics.translated_instructions += count;
    cpu.statistics.translated_bytes += bytes_emitted;
    return {Translation::Kind::done, crossing ? block.unchecked_entry : block.entry};
}

u32 Translator::make_way(PageCode& page, u16 offset, bool call) {
    constexpr std::size_t way_room = 512;
    if (m_cache.room(CodePart::hot) < way_room || m_cache.room(CodePart::cold) < way_room) return 0;
    BlockEmitter emitter(m_cache, m_thunks, m_features, page);
    const u32 begin = emitter.emit_way(offset, call);
    emitter.commit();
    return begin;
}

u32 translate_singly(Cpu& cpu, const GroupSite& site) {
    Translator& translator = *cpu.translator;
    const TimedScope timed(translator.time(), static_cast<unsigned>(Activity::translation));
    // The block's own bytes are as they were when it was translated: a write to them would have
    // dropped it, and left it. So rights to write to the frame are revoked as well.
    CodeBytes bytes;
    // SAFETY: guest memory as bytes.
    bytes.page = reinterpret_cast<const u8*>(frame_host(cpu.cb, site.page->frame));
    const Translation rest =
        translator.translate(cpu, *site.page, site.page_offset, bytes, Translator::Role::singly);
    if (rest.kind == Translation::Kind::cache_full) return 0;
    VERIFY(rest.kind == Translation::Kind::done); // a block that has groups does not straddle
    const Block* block = cpu.code_cache->containing(rest.entry);
    VERIFY(block != nullptr);
    return block->plain_entry;
}

} // namespace gnomon::processor::soft
