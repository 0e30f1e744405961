// SPDX-License-Identifier: Apache-2.0
#include "guest/acpi/tables.h"

#include "images.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <map>
#include <numeric>

namespace gnomon::guest::test {
namespace {

constexpr u64 base = 0xe0000;

u8 sum(std::span<const std::byte> bytes) {
    return std::accumulate(bytes.begin(), bytes.end(), u8{0}, [](u8 total, std::byte b) {
        return static_cast<u8>(total + std::to_integer<u8>(b));
    });
}

std::string signature(std::span<const std::byte> table) {
    return {reinterpret_cast<const char*>(table.data()), 4};
}

/// Finds the tables as an operating system does: from the RSDP in guest memory.
class AcpiTest : public ::testing::Test {
protected:
    void build(const AcpiConfig& config) {
        auto memory = GuestMemory::create(2 << 20);
        ASSERT_TRUE(memory);
        const auto rsdp = write_acpi_tables(*memory, config);
        ASSERT_TRUE(rsdp) << rsdp.error().message;
        EXPECT_EQ(rsdp->value(), base);
        m_image.resize(0x20000);
        ASSERT_TRUE(memory->read(*rsdp, m_image));
        const auto xsdt = table_at(field<u64>(m_image, 24));
        EXPECT_EQ(signature(xsdt), "XSDT");
        for (std::size_t i = 36; i + 8 <= xsdt.size(); i += 8)
            add(field<u64>(xsdt, i));
        add(field<u64>(m_tables.at("FACP"), 140));
    }
    void add(u64 address) {
        const auto table = table_at(address);
        EXPECT_EQ(sum(table), 0) << signature(table);
        m_tables[signature(table)] = table;
    }
    std::span<const std::byte> table_at(u64 address) {
        const auto all = std::span<const std::byte>(m_image);
        if (address < base || address - base + 36 > all.size()) {
            ADD_FAILURE() << "table at " << address;
            return all.first(36);
        }
        const auto rest = all.subspan(address - base);
        return rest.first(std::min<std::size_t>(field<u32>(rest, 4), rest.size()));
    }

    Bytes m_image;
    std::map<std::string, std::span<const std::byte>> m_tables;
};

TEST_F(AcpiTest, HasAnRsdpOfRevision2) {
    build({});
    const auto rsdp = std::span(m_image).first(36);
    EXPECT_EQ(std::memcmp(rsdp.data(), "RSD PTR ", 8), 0);
    EXPECT_EQ(field<u8>(rsdp, 15), 2);
    EXPECT_EQ(field<u32>(rsdp, 20), 36u);
    EXPECT_EQ(sum(rsdp.first(20)), 0);
    EXPECT_EQ(sum(rsdp), 0);
    EXPECT_EQ(m_tables.size(), 4u);
}

TEST_F(AcpiTest, DescribesTheFixedHardware) {
    build({});
    const auto fadt = m_tables.at("FACP");
    EXPECT_EQ(fadt.size(), 276u);
    EXPECT_EQ(field<u8>(fadt, 8), 6);
    EXPECT_EQ(field<u16>(fadt, 46), 9);  // SCI_INT
    EXPECT_EQ(field<u32>(fadt, 48), 0u); // SMI_CMD
    EXPECT_EQ(field<u32>(fadt, 56), 0x600u);
    EXPECT_EQ(field<u32>(fadt, 64), 0x604u);
    EXPECT_EQ(field<u32>(fadt, 76), 0x608u);
    EXPECT_EQ(field<u8>(fadt, 88), 4);
    EXPECT_EQ(field<u8>(fadt, 89), 2);
    EXPECT_EQ(field<u8>(fadt, 91), 4);
    EXPECT_EQ(field<u16>(fadt, 109), 7); // legacy devices, 8042, no VGA
    EXPECT_EQ(field<u32>(fadt, 112) & (1 << 8 | 1 << 10), u32{1 << 8 | 1 << 10});
    EXPECT_EQ(field<u8>(fadt, 116), 1); // RESET_REG is a port
    EXPECT_EQ(field<u64>(fadt, 120), 0xcf9u);
    EXPECT_EQ(field<u8>(fadt, 128), 6);
    EXPECT_EQ(field<u64>(fadt, 152), 0x600u);
    EXPECT_EQ(field<u64>(fadt, 176), 0x604u);
    EXPECT_EQ(field<u64>(fadt, 212), 0x608u);
    EXPECT_EQ(field<u64>(fadt, 140), field<u32>(fadt, 40));
    const u64 facs_address = field<u32>(fadt, 36);
    EXPECT_EQ(facs_address % 64, 0u);
    const auto facs = table_at(facs_address);
    EXPECT_EQ(signature(facs), "FACS");
    EXPECT_EQ(facs.size(), 64u);
}

/// The MADT's entries by type, without type and length.
std::multimap<unsigned, Bytes> madt_entries(std::span<const std::byte> madt) {
    std::multimap<unsigned, Bytes> entries;
    for (std::size_t at = 44; at + 2 <= madt.size();) {
        const std::size_t size = field<u8>(madt, at + 1);
        if (size < 2 || size > madt.size() - at) {
            ADD_FAILURE() << "entry at " << at;
            break;
        }
        const auto body = madt.subspan(at + 2, size - 2);
        entries.emplace(field<u8>(madt, at), Bytes(body.begin(), body.end()));
        at += size;
    }
    return entries;
}

TEST_F(AcpiTest, ListsTheInterruptControllers) {
    build({.processor_count = 3});
    const auto madt = m_tables.at("APIC");
    EXPECT_EQ(field<u32>(madt, 36), 0xfee00000u);
    EXPECT_EQ(field<u32>(madt, 40), 1u);
    const auto entries = madt_entries(madt);
    ASSERT_EQ(entries.count(0), 3u);
    u8 id = 0;
    for (auto [at, end] = entries.equal_range(0); at != end; ++at, ++id) {
        EXPECT_EQ(field<u8>(at->second, 1), id);
        EXPECT_EQ(field<u32>(at->second, 2), 1u);
    }
    ASSERT_EQ(entries.count(1), 1u);
    const Bytes& io_apic = entries.find(1)->second;
    EXPECT_EQ(field<u8>(io_apic, 0), 3);
    EXPECT_EQ(field<u32>(io_apic, 2), 0xfec00000u);
    EXPECT_EQ(field<u32>(io_apic, 6), 0u);
    ASSERT_EQ(entries.count(2), 2u);
    auto at = entries.lower_bound(2);
    EXPECT_EQ(field<u8>(at->second, 1), 0);
    EXPECT_EQ(field<u32>(at->second, 2), 2u);
    EXPECT_EQ(field<u16>(at->second, 6), 0);
    ++at;
    EXPECT_EQ(field<u8>(at->second, 1), 9);
    EXPECT_EQ(field<u32>(at->second, 2), 9u);
    EXPECT_EQ(field<u16>(at->second, 6), 0xd); // level, active high
    ASSERT_EQ(entries.count(4), 1u);
    EXPECT_EQ(field<u8>(entries.find(4)->second, 0), 0xff);
    EXPECT_EQ(field<u8>(entries.find(4)->second, 3), 1);
}

TEST_F(AcpiTest, SaysWhereConfigurationSpaceIs) {
    build({});
    const auto mcfg = m_tables.at("MCFG");
    ASSERT_EQ(mcfg.size(), 60u);
    EXPECT_EQ(field<u64>(mcfg, 44), 0xe0000000u);
    EXPECT_EQ(field<u16>(mcfg, 52), 0); // segment group
    EXPECT_EQ(field<u8>(mcfg, 54), 0);  // buses
    EXPECT_EQ(field<u8>(mcfg, 55), 0);
    build({.pci_ecam = Gpa(0xf0000000), .pci_bus_count = 256});
    EXPECT_EQ(field<u64>(m_tables.at("MCFG"), 44), 0xf0000000u);
    EXPECT_EQ(field<u8>(m_tables.at("MCFG"), 55), 255);
}

TEST_F(AcpiTest, GivesHighProcessorsX2apicEntries) {
    build({.processor_count = 300});
    const auto entries = madt_entries(m_tables.at("APIC"));
    EXPECT_EQ(entries.count(0), 255u);
    ASSERT_EQ(entries.count(9), 45u);
    EXPECT_EQ(field<u32>(entries.lower_bound(9)->second, 2), 255u);
    EXPECT_EQ(entries.count(10), 1u);
}

TEST_F(AcpiTest, TakesTheConfiguredAddresses) {
    build({.io_apic_id = u8{77}, .pm_timer = 0xb008, .reset_value = 14});
    EXPECT_EQ(field<u32>(m_tables.at("FACP"), 76), 0xb008u);
    EXPECT_EQ(field<u64>(m_tables.at("FACP"), 212), 0xb008u);
    EXPECT_EQ(field<u8>(m_tables.at("FACP"), 128), 14);
    EXPECT_EQ(field<u8>(madt_entries(m_tables.at("APIC")).find(1)->second, 0), 77);
}

TEST(AcpiTables, RefusesWhatItCannotDescribe) {
    EXPECT_TRUE(build_acpi_tables({.processor_count = 0}).error().usage);
    EXPECT_TRUE(build_acpi_tables({.processor_count = 1025}).error().usage);
    EXPECT_TRUE(build_acpi_tables({.processor_count = 1024}).has_value());
    EXPECT_FALSE(build_acpi_tables({.pci_bus_count = 0}));
    EXPECT_FALSE(build_acpi_tables({.pci_bus_count = 257}));
    EXPECT_FALSE(build_acpi_tables({.base = Gpa(0xe0008)}));
    EXPECT_FALSE(build_acpi_tables({.base = Gpa(~u64{15})}));
    EXPECT_FALSE(build_acpi_tables({.base = Gpa(0xfffe0000), .size = 0x20001}));
    EXPECT_THAT(build_acpi_tables({.size = 0x400}).error().message,
                ::testing::HasSubstr("have room for 1024"));
    auto memory = GuestMemory::create(1 << 20);
    ASSERT_TRUE(memory);
    EXPECT_FALSE(write_acpi_tables(*memory, {.base = Gpa(0x100000)}));
}

TEST(AcpiTables, HasADsdtWithTheDevices) {
    const auto dsdt = acpi_dsdt();
    ASSERT_GT(dsdt.size(), 36u);
    EXPECT_EQ(signature(dsdt), "DSDT");
    EXPECT_EQ(field<u32>(dsdt, 4), dsdt.size());
    EXPECT_EQ(sum(dsdt), 0);
    const std::string text(reinterpret_cast<const char*>(dsdt.data()), dsdt.size());
    for (const char* name :
         {"_S5_", "PCI0", "COM1", "COM2", "COM3", "COM4", "RTC_", "KBD_", "_PRT", "_PIC", "MRES"})
        EXPECT_THAT(text, ::testing::HasSubstr(name));
}

} // namespace
} // namespace gnomon::guest::test
