// SPDX-License-Identifier: GPL-2.0
// The devices that a guest cannot find by itself, and how it turns itself off.
// Compiled into dsdt.aml with "iasl dsdt.asl"; a test of mod.rs compares the two.
DefinitionBlock ("dsdt.aml", "DSDT", 2, "HVMOD ", "HVCTL   ", 1)
{
    Scope (\_SB)
    {
        Device (COM1)
        {
            Name (_HID, EisaId ("PNP0501"))
            Name (_UID, Zero)
            Name (_DDN, "COM1")
            Name (_CRS, ResourceTemplate ()
            {
                IO (Decode16, 0x03F8, 0x03F8, 0x01, 0x08)
                Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) { 4 }
            })
        }

        // No interrupt: this clock has no alarm.
        Device (RTC)
        {
            Name (_HID, EisaId ("PNP0B00"))
            Name (_CRS, ResourceTemplate ()
            {
                IO (Decode16, 0x0070, 0x0070, 0x01, 0x02)
            })
        }
    }

    Name (\_S5, Package () { 5, 5 })
}
