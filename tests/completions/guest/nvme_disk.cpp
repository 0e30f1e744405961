// SPDX-License-Identifier: Apache-2.0
// An NVMe controller with one I/O queue and MSI-X (NVM Express Base Specification 1.4).
#include "disk.h"
#include "pci.h"

namespace fragile {

namespace {

struct Submission {
    u8 opcode, flags;
    u16 command;
    u32 name_space;
    u64 reserved, metadata, prp1, prp2;
    u32 cdw10, cdw11, cdw12, cdw13, cdw14, cdw15;
};
static_assert(sizeof(Submission) == 64);
struct Completion {
    u32 result, reserved;
    u16 head, queue, command, status;
};
static_assert(sizeof(Completion) == 16);

constexpr u32 entries = 2 * most_slots;
constexpr u64 registers = 0xd000'0000, messages = 0xd010'0000; // where we put the memory ranges
constexpr u16 io_vector = 1;
constexpr u8 disk_vector = 0x50;

struct Ring {
    u32 tail = 0; ///< of the submission queue
    u32 head = 0; ///< of the completion queue
    u16 phase = 1;
};

alignas(4096) Submission g_admin_commands[entries], g_commands[entries];
alignas(4096) volatile Completion g_admin_completions[entries], g_completions[entries];
alignas(4096) volatile u64 g_data[most_slots][block_bytes / 8];
alignas(4096) u8 g_identify[4096];
Ring g_admin, g_io;
u64 g_blocks = 0;

void set_up_messages(const PciFunction& device) {
    constexpr unsigned bar0 = 0x10, bar4 = 0x20, command = 4, capabilities = 0x34;
    constexpr u32 memory_and_master = 6, msix = 0x11, msix_enable = u32{1} << 31;
    device.write(bar0, static_cast<u32>(registers));
    device.write(bar0 + 4, 0);
    device.write(bar4, static_cast<u32>(messages));
    device.write(command, memory_and_master);
    unsigned at = device.read(capabilities) & 0xff;
    while (at != 0 && (device.read(at) & 0xff) != msix)
        at = device.read(at) >> 8 & 0xff;
    if (at == 0) fail("the disk has no MSI-X");
    constexpr u64 entry = messages + io_vector * 16;
    write_register<u32>(entry, 0xfee0'0000);
    write_register<u32>(entry + 4, 0);
    write_register<u32>(entry + 8, disk_vector);
    write_register<u32>(entry + 12, 0); // not masked; the admin queue's stays so
    device.write(at, device.read(at) | msix_enable);
}

void ring_doorbell(unsigned queue, bool completion, u32 value) {
    write_register<u32>(registers + 0x1000 + queue * 8 + (completion ? 4 : 0), value);
}

void submit(Ring& ring, Submission* queue, unsigned id, const Submission& command) {
    queue[ring.tail] = command;
    ring.tail = (ring.tail + 1) % entries;
    barrier();
    ring_doorbell(id, false, ring.tail);
}

bool next(Ring& ring, const volatile Completion* queue, u16& command, bool& error) {
    const volatile Completion& entry = queue[ring.head];
    const u16 status = entry.status;
    if ((status & 1) != ring.phase) return false;
    barrier();
    command = entry.command;
    error = status >> 1 != 0;
    ring.head = (ring.head + 1) % entries;
    if (ring.head == 0) ring.phase ^= 1;
    return true;
}

void run_admin(Submission command) {
    submit(g_admin, g_admin_commands, 0, command);
    u16 id = 0;
    bool error = false;
    while (!next(g_admin, g_admin_completions, id, error)) {
    }
    ring_doorbell(0, true, g_admin.head);
    if (error) fail("an admin command failed");
}

u64 address_of(const volatile void* object) { return reinterpret_cast<u64>(object); }

} // namespace

u8 start_disk() {
    constexpr u64 cc = 0x14, csts = 0x1c, aqa = 0x24, asq = 0x28, acq = 0x30;
    constexpr u32 enable = 1 | 6 << 16 | 4 << 20;
    constexpr u32 contiguous = 1, interrupts = 2, queue = 1;
    enable_local_apic();
    constexpr u32 nvme_class = 0x01'0802;
    set_up_messages(find_function(nvme_class, "there is no NVMe disk"));
    write_register<u32>(registers + aqa, (entries - 1) << 16 | (entries - 1));
    write_register<u64>(registers + asq, address_of(g_admin_commands));
    write_register<u64>(registers + acq, address_of(g_admin_completions));
    write_register<u32>(registers + cc, enable);
    while ((read_register<u32>(registers + csts) & 1) == 0) {
    }
    Submission identify{};
    identify.opcode = 6;
    identify.name_space = 1;
    identify.prp1 = address_of(g_identify);
    run_admin(identify);
    constexpr u64 sector = 512;
    // SAFETY: NSZE is the first quadword of the structure.
    g_blocks = *reinterpret_cast<const u64*>(g_identify) * sector / block_bytes;
    Submission create{};
    create.opcode = 5; // completion queue
    create.prp1 = address_of(g_completions);
    create.cdw10 = (entries - 1) << 16 | queue;
    create.cdw11 = u32{io_vector} << 16 | interrupts | contiguous;
    run_admin(create);
    create.opcode = 1; // submission queue
    create.prp1 = address_of(g_commands);
    create.cdw11 = queue << 16 | contiguous;
    run_admin(create);
    return disk_vector;
}

u64 disk_blocks() { return g_blocks; }
unsigned disk_depth() { return most_slots; }
const volatile u64* slot_data(unsigned slot) { return g_data[slot]; }

void read_block(unsigned slot, u64 block) {
    constexpr u64 sectors = block_bytes / 512;
    Submission command{};
    command.opcode = 2;
    command.command = static_cast<u16>(slot);
    command.name_space = 1;
    command.prp1 = address_of(g_data[slot]);
    command.cdw10 = static_cast<u32>(block * sectors);
    command.cdw11 = static_cast<u32>(block * sectors >> 32);
    command.cdw12 = sectors - 1;
    submit(g_io, g_commands, 1, command);
}

bool take_completion(unsigned& slot, bool& error) {
    u16 command = 0;
    if (!next(g_io, g_completions, command, error)) return false;
    slot = command;
    return true;
}

void acknowledge_disk() { ring_doorbell(1, true, g_io.head); }
void end_of_interrupt() { end_at_local_apic(); }

} // namespace fragile
