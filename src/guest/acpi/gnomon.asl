// SPDX-License-Identifier: Apache-2.0
//
// The DSDT of gnomon-pc (ACPI 6.4): the devices of a PC that an operating system does not find by
// itself. Addresses repeat src/platform's layout; the parts that vary with the configuration
// (processors, I/O APIC, fixed ACPI registers) are in the tables that are built at run time.

DefinitionBlock ("", "DSDT", 2, "GNOMON", "GNOMONPC", 0x00000001)
{
    // Soft off is SLP_TYP 5; no other sleep state exists.
    Name (\_S5, Package (0x04) { 0x05, 0x05, Zero, Zero })

    // Which interrupt controllers the operating system uses: it says so before it asks for _PRT.
    Name (PICM, Zero)
    Method (\_PIC, 1, NotSerialized)
    {
        PICM = Arg0
    }

    Scope (\_SB)
    {
        Device (PCI0)
        {
            Name (_HID, EisaId ("PNP0A03"))
            Name (_UID, Zero)
            Name (_BBN, Zero)
            Name (_CRS, ResourceTemplate ()
            {
                WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode,
                    0x0000, 0x0000, 0x0000, 0x0000, 0x0001)
                IO (Decode16, 0x0CF8, 0x0CF8, 0x01, 0x08)
                WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange,
                    0x0000, 0x0000, 0x0CF7, 0x0000, 0x0CF8)
                WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange,
                    0x0000, 0x0D00, 0xFFFF, 0x0000, 0xF300)
                // From the end of low RAM to the I/O APIC, around the window to configuration space.
                DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite,
                    0x00000000, 0xC0000000, 0xDFFFFFFF, 0x00000000, 0x20000000)
                DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite,
                    0x00000000, 0xF0000000, 0xFEBFFFFF, 0x00000000, 0x0EC00000)
            })

            // INTA of device n: input 16 + n % 8 of the I/O APIC, or 10 + n % 2 of the 8259s.
            Name (APRT, Package ()
            {
                Package () { 0x0001FFFF, Zero, Zero, 17 },
                Package () { 0x0002FFFF, Zero, Zero, 18 },
                Package () { 0x0003FFFF, Zero, Zero, 19 },
                Package () { 0x0004FFFF, Zero, Zero, 20 },
                Package () { 0x0005FFFF, Zero, Zero, 21 },
                Package () { 0x0006FFFF, Zero, Zero, 22 },
                Package () { 0x0007FFFF, Zero, Zero, 23 },
                Package () { 0x0008FFFF, Zero, Zero, 16 },
                Package () { 0x0009FFFF, Zero, Zero, 17 },
                Package () { 0x000AFFFF, Zero, Zero, 18 },
                Package () { 0x000BFFFF, Zero, Zero, 19 },
                Package () { 0x000CFFFF, Zero, Zero, 20 },
                Package () { 0x000DFFFF, Zero, Zero, 21 },
                Package () { 0x000EFFFF, Zero, Zero, 22 },
                Package () { 0x000FFFFF, Zero, Zero, 23 },
                Package () { 0x0010FFFF, Zero, Zero, 16 },
                Package () { 0x0011FFFF, Zero, Zero, 17 },
                Package () { 0x0012FFFF, Zero, Zero, 18 },
                Package () { 0x0013FFFF, Zero, Zero, 19 },
                Package () { 0x0014FFFF, Zero, Zero, 20 },
                Package () { 0x0015FFFF, Zero, Zero, 21 },
                Package () { 0x0016FFFF, Zero, Zero, 22 },
                Package () { 0x0017FFFF, Zero, Zero, 23 },
                Package () { 0x0018FFFF, Zero, Zero, 16 },
                Package () { 0x0019FFFF, Zero, Zero, 17 },
                Package () { 0x001AFFFF, Zero, Zero, 18 },
                Package () { 0x001BFFFF, Zero, Zero, 19 },
                Package () { 0x001CFFFF, Zero, Zero, 20 },
                Package () { 0x001DFFFF, Zero, Zero, 21 },
                Package () { 0x001EFFFF, Zero, Zero, 22 },
                Package () { 0x001FFFFF, Zero, Zero, 23 }
            })
            Name (PPRT, Package ()
            {
                Package () { 0x0001FFFF, Zero, Zero, 11 },
                Package () { 0x0002FFFF, Zero, Zero, 10 },
                Package () { 0x0003FFFF, Zero, Zero, 11 },
                Package () { 0x0004FFFF, Zero, Zero, 10 },
                Package () { 0x0005FFFF, Zero, Zero, 11 },
                Package () { 0x0006FFFF, Zero, Zero, 10 },
                Package () { 0x0007FFFF, Zero, Zero, 11 },
                Package () { 0x0008FFFF, Zero, Zero, 10 },
                Package () { 0x0009FFFF, Zero, Zero, 11 },
                Package () { 0x000AFFFF, Zero, Zero, 10 },
                Package () { 0x000BFFFF, Zero, Zero, 11 },
                Package () { 0x000CFFFF, Zero, Zero, 10 },
                Package () { 0x000DFFFF, Zero, Zero, 11 },
                Package () { 0x000EFFFF, Zero, Zero, 10 },
                Package () { 0x000FFFFF, Zero, Zero, 11 },
                Package () { 0x0010FFFF, Zero, Zero, 10 },
                Package () { 0x0011FFFF, Zero, Zero, 11 },
                Package () { 0x0012FFFF, Zero, Zero, 10 },
                Package () { 0x0013FFFF, Zero, Zero, 11 },
                Package () { 0x0014FFFF, Zero, Zero, 10 },
                Package () { 0x0015FFFF, Zero, Zero, 11 },
                Package () { 0x0016FFFF, Zero, Zero, 10 },
                Package () { 0x0017FFFF, Zero, Zero, 11 },
                Package () { 0x0018FFFF, Zero, Zero, 10 },
                Package () { 0x0019FFFF, Zero, Zero, 11 },
                Package () { 0x001AFFFF, Zero, Zero, 10 },
                Package () { 0x001BFFFF, Zero, Zero, 11 },
                Package () { 0x001CFFFF, Zero, Zero, 10 },
                Package () { 0x001DFFFF, Zero, Zero, 11 },
                Package () { 0x001EFFFF, Zero, Zero, 10 },
                Package () { 0x001FFFFF, Zero, Zero, 11 }
            })
            Method (_PRT, 0, NotSerialized)
            {
                If (PICM)
                {
                    Return (APRT)
                }

                Return (PPRT)
            }
        }

        // Configuration space, so that nothing else is put there.
        Device (MRES)
        {
            Name (_HID, EisaId ("PNP0C02"))
            Name (_CRS, ResourceTemplate ()
            {
                Memory32Fixed (ReadWrite, 0xE0000000, 0x10000000)
            })
        }

        Device (COM1)
        {
            Name (_HID, EisaId ("PNP0501"))
            Name (_UID, One)
            Name (_CRS, ResourceTemplate ()
            {
                IO (Decode16, 0x03F8, 0x03F8, 0x00, 0x08)
                IRQ (Edge, ActiveHigh, Exclusive) { 4 }
            })
        }

        Device (COM2)
        {
            Name (_HID, EisaId ("PNP0501"))
            Name (_UID, 0x02)
            Name (_CRS, ResourceTemplate ()
            {
                IO (Decode16, 0x02F8, 0x02F8, 0x00, 0x08)
                IRQ (Edge, ActiveHigh, Exclusive) { 3 }
            })
        }

        Device (COM3)
        {
            Name (_HID, EisaId ("PNP0501"))
            Name (_UID, 0x03)
            Name (_CRS, ResourceTemplate ()
            {
                IO (Decode16, 0x03E8, 0x03E8, 0x00, 0x08)
                IRQ (Edge, ActiveHigh, Exclusive) { 5 }
            })
        }

        Device (COM4)
        {
            Name (_HID, EisaId ("PNP0501"))
            Name (_UID, 0x04)
            Name (_CRS, ResourceTemplate ()
            {
                IO (Decode16, 0x02E8, 0x02E8, 0x00, 0x08)
                IRQ (Edge, ActiveHigh, Exclusive) { 7 }
            })
        }

        Device (RTC)
        {
            Name (_HID, EisaId ("PNP0B00"))
            Name (_CRS, ResourceTemplate ()
            {
                IO (Decode16, 0x0070, 0x0070, 0x01, 0x02)
                IRQNoFlags () { 8 }
            })
        }

        Device (TIMR)
        {
            Name (_HID, EisaId ("PNP0100"))
            Name (_CRS, ResourceTemplate ()
            {
                IO (Decode16, 0x0040, 0x0040, 0x01, 0x04)
                IRQNoFlags () { 0 }
            })
        }

        Device (PIC)
        {
            Name (_HID, EisaId ("PNP0000"))
            Name (_CRS, ResourceTemplate ()
            {
                IO (Decode16, 0x0020, 0x0020, 0x01, 0x02)
                IO (Decode16, 0x00A0, 0x00A0, 0x01, 0x02)
                IO (Decode16, 0x04D0, 0x04D0, 0x01, 0x02)
                IRQNoFlags () { 2 }
            })
        }

        Device (KBD)
        {
            Name (_HID, EisaId ("PNP0303"))
            Name (_CRS, ResourceTemplate ()
            {
                IO (Decode16, 0x0060, 0x0060, 0x01, 0x01)
                IO (Decode16, 0x0064, 0x0064, 0x01, 0x01)
                IRQNoFlags () { 1 }
            })
        }
    }
}
