pub mod msr {
    pub fn fill_root_bitmap(w: &mut [u64; 512]) {
        w.fill(0);
        for m in 0x480u32..=0x491 {
            w[m as usize / 64] |= 1 << (m % 64);
            w[256 + m as usize / 64] |= 1 << (m % 64);
        }
        w[256] |= 1 << 0x3a;
    }
    pub fn fill_child_bitmap(w: &mut [u64; 512]) {
        w.fill(!0);
    }
    pub enum RootRead {
        Native(u32),
    }
    pub fn root_read(_: u32) -> Result<RootRead, ()> {
        Err(())
    }
}
pub mod cpuid {
    pub fn fix_cr4_bits(leaf: u32, subleaf: u32, v: &mut [u32; 4], cr4: u64) {
        if leaf == 1 {
            v[2] = v[2] & !(1 << 27) | ((cr4 >> 18 & 1) as u32) << 27;
        }
        if leaf == 7 && subleaf == 0 {
            v[2] = v[2] & !(1 << 4) | ((cr4 >> 22 & 1) as u32) << 4;
        }
    }
    pub fn root(leaf: u32, _s: u32, mut n: [u32; 4], lp: u32) -> [u32; 4] {
        if leaf == 1 {
            n[2] &= !(1 << 5);
        }
        if leaf == hvabi::CPUID_ROOT_BASE {
            let s = hvabi::CPUID_SIGNATURE;
            return [hvabi::CPUID_ROOT_LP, s[0], s[1], s[2]];
        }
        if leaf == hvabi::CPUID_ROOT_LP {
            return [lp, hvabi::ABI_VERSION, 0, 0];
        }
        n
    }
}
pub mod cr {
    pub fn root_xcr0_valid(v: u64, o: u64) -> bool {
        v & !o == 0 && v & 1 == 1
    }
    pub struct W {
        pub shadow: u64,
        pub hardware: u64,
    }
    pub fn root_cr4(v: u64, _old: u64, f: (u64, u64)) -> Result<W, ()> {
        Ok(W { shadow: v, hardware: v | f.0 })
    }
}
