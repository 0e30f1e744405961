// SPDX-License-Identifier: Apache-2.0
// The first disk of a PIIX's first channel, by bus-master DMA (ATA/ATAPI-7; SFF-8038i), with its
// interrupt by way of the 8259s. The disk takes one command at a time; the driver keeps those that
// wait, and has its handler write the next: in `acknowledge_disk`.
#include "disk.h"
#include "pci.h"

namespace fragile {

namespace {

constexpr u16 data = 0x1f0, count = 0x1f2, lba_low = 0x1f3, lba_mid = 0x1f4, lba_high = 0x1f5,
              device = 0x1f6, command_or_status = 0x1f7, control = 0x3f6;
constexpr u8 busy = 0x80, data_request = 0x08, error_bit = 0x01;
constexpr u8 no_interrupt = 2;
constexpr u8 lba_mode = 0xe0;
constexpr u64 sector_bytes = 512;
// Of the bus master, from its base.
constexpr u16 master_command = 0, master_status = 2, master_table = 4;
constexpr u8 start = 1, to_memory = 8, interrupt = 4, master_error = 2;

struct Region {
    u32 base;
    u16 bytes, flags;
};
constexpr u16 last_region = 0x8000;

alignas(8) Region g_table[1];
alignas(4096) volatile u64 g_data[most_slots][block_bytes / 8];
u16 g_master = 0;
u64 g_blocks = 0;

struct Waiting {
    unsigned slot;
    u64 block;
};
Waiting g_queue[most_slots]; // a ring
unsigned g_first = 0, g_waiting = 0;
bool g_under_way = false;
unsigned g_slot = 0; // of the command under way

/// With interrupts off.
void write_next_command() {
    if (g_under_way || g_waiting == 0) return;
    const Waiting next = g_queue[g_first];
    g_first = (g_first + 1) % most_slots;
    --g_waiting;
    g_under_way = true;
    g_slot = next.slot;
    g_table[0] = {static_cast<u32>(reinterpret_cast<u64>(g_data[next.slot])), block_bytes,
                  last_region};
    barrier();
    outl(static_cast<u16>(g_master + master_table),
         static_cast<u32>(reinterpret_cast<u64>(g_table)));
    outb(static_cast<u16>(g_master + master_command), to_memory);
    outb(static_cast<u16>(g_master + master_status), interrupt | master_error);
    constexpr u8 read_dma = 0xc8;
    const u64 sector = next.block * (block_bytes / sector_bytes);
    outb(device, static_cast<u8>(lba_mode | (sector >> 24 & 0xf)));
    outb(count, block_bytes / sector_bytes);
    outb(lba_low, static_cast<u8>(sector));
    outb(lba_mid, static_cast<u8>(sector >> 8));
    outb(lba_high, static_cast<u8>(sector >> 16));
    outb(command_or_status, read_dma);
    outb(static_cast<u16>(g_master + master_command), to_memory | start);
}

} // namespace

u8 start_disk() {
    constexpr u32 piix_class = 0x01'0180;
    const PciFunction function = find_function(piix_class, "there is no IDE disk");
    constexpr unsigned command = 4, bar4 = 0x20;
    constexpr u32 ports_and_master = 5;
    function.write(command, ports_and_master);
    g_master = static_cast<u16>(function.read(bar4) & 0xfff0);
    // How large it is, without an interrupt.
    constexpr u8 identify = 0xec;
    outb(control, no_interrupt);
    outb(device, lba_mode);
    outb(command_or_status, identify);
    u8 status = 0;
    while (((status = inb(command_or_status)) & busy) != 0) {
    }
    if ((status & (data_request | error_bit)) != data_request) fail("the disk says not what it is");
    u16 words[256];
    for (u16& word : words)
        word = inw(data);
    g_blocks = (words[60] | u64{words[61]} << 16) * sector_bytes / block_bytes;
    outb(control, 0);
    // The runtime has masked all inputs of the 8259s; they interrupt from 20h and 28h on.
    constexpr u16 first_mask = 0x21, second_mask = 0xa1;
    constexpr u8 second_controller = 1 << 2, irq_14 = 1 << 6, vector = 0x2e;
    outb(first_mask, static_cast<u8>(~second_controller));
    outb(second_mask, static_cast<u8>(~irq_14));
    return vector;
}

u64 disk_blocks() { return g_blocks; }
unsigned disk_depth() { return most_slots; }
const volatile u64* slot_data(unsigned slot) { return g_data[slot]; }

void read_block(unsigned slot, u64 block) {
    const InterruptsOff off;
    g_queue[(g_first + g_waiting) % most_slots] = {slot, block};
    ++g_waiting;
    write_next_command();
}

bool take_completion(unsigned& slot, bool& error) {
    if (!g_under_way) return false;
    const u8 master = inb(static_cast<u16>(g_master + master_status));
    if ((master & interrupt) == 0) return false;
    outb(static_cast<u16>(g_master + master_command), to_memory); // stop
    const u8 status = inb(command_or_status);                     // no interrupt any more
    outb(static_cast<u16>(g_master + master_status), interrupt | master_error);
    error = (status & (busy | data_request | error_bit)) != 0 || (master & master_error) != 0;
    slot = g_slot;
    g_under_way = false;
    return true;
}

void acknowledge_disk() {
    const InterruptsOff off;
    write_next_command();
}

void end_of_interrupt() {
    constexpr u16 first_command = 0x20, second_command = 0xa0;
    constexpr u8 not_specific = 0x20;
    outb(second_command, not_specific);
    outb(first_command, not_specific);
}

} // namespace fragile
