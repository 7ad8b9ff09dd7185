// SPDX-License-Identifier: GPL-2.0
//! What is behind a disk: a file or a block device of ours.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, fallocate, fcntl};

pub const SECTOR: u64 = 512;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    pub readonly: bool,
    /// Past our page cache (O_DIRECT).
    pub direct: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot use {} as a disk: {what}", path.display())]
pub struct OpenError {
    path: PathBuf,
    what: String,
}

/// An open one, which nobody else writes.
#[derive(Debug)]
pub struct Disk {
    file: File,
    size: u64,
    readonly: bool,
    direct: bool,
    block_size: u32,
}

mod ioctl {
    use super::*;

    nix::ioctl_read_bad!(logical_block_size, libc::BLKSSZGET, libc::c_int);
    nix::ioctl_read!(size, 0x12, 114, u64);

    pub fn of_block_device(file: &File) -> io::Result<(u64, u32)> {
        let (mut bytes, mut block) = (0, 0);
        // SAFETY: the call writes a number to where the pointer says.
        unsafe { size(file.as_raw_fd(), &raw mut bytes)? };
        // SAFETY: as above.
        unsafe { logical_block_size(file.as_raw_fd(), &raw mut block)? };
        Ok((bytes, block as u32))
    }
}

impl Disk {
    pub fn open(path: &Path, options: &Options) -> Result<Self, OpenError> {
        let refused = |what: String| OpenError {
            path: path.to_owned(),
            what,
        };
        let flags = libc::O_CLOEXEC | if options.direct { libc::O_DIRECT } else { 0 };
        let file = OpenOptions::new()
            .read(true)
            .write(!options.readonly)
            .custom_flags(flags)
            .open(path)
            .map_err(|cause| refused(open_hint(&cause, options)))?;
        let metadata = file
            .metadata()
            .map_err(|cause| refused(cause.to_string()))?;
        let kind = metadata.file_type();
        let (size, block_size) = if kind.is_block_device() {
            ioctl::of_block_device(&file).map_err(|cause| refused(cause.to_string()))?
        } else if kind.is_file() {
            // A file takes what its file system's device takes; 512 unless it is direct.
            (
                metadata.len(),
                if options.direct { 4096 } else { SECTOR as u32 },
            )
        } else {
            return Err(refused("it is neither a file nor a block device".into()));
        };
        if size < SECTOR {
            return Err(refused(format!("{size} bytes are less than a sector")));
        }
        lock(&file, options.readonly).map_err(|cause| refused(lock_hint(cause)))?;
        Ok(Self {
            file,
            size: size / u64::from(block_size) * u64::from(block_size),
            readonly: options.readonly,
            direct: options.direct,
            block_size,
        })
    }

    /// Of whatever file, for tests of those that read and write it.
    #[cfg(test)]
    pub fn of_file(file: File) -> Self {
        Self {
            file,
            size: 1 << 20,
            readonly: false,
            direct: false,
            block_size: SECTOR as u32,
        }
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    /// Bytes: whole blocks.
    pub fn size(&self) -> u64 {
        self.size
    }

    pub fn readonly(&self) -> bool {
        self.readonly
    }

    /// The smallest unit that the guest should use.
    pub fn block_size(&self) -> u32 {
        self.block_size
    }

    /// How buffers have to be aligned.
    pub fn alignment(&self) -> usize {
        if self.direct {
            self.block_size as usize
        } else {
            1
        }
    }

    /// Gives the range back to what is below. It may read as anything afterwards, here as
    /// zeros.
    pub fn discard(&self, offset: u64, length: u64) -> io::Result<()> {
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        self.allocate(flags, offset, length)
    }

    /// Makes the range zeros; `unmap` allows to give it back.
    pub fn write_zeroes(&self, offset: u64, length: u64, unmap: bool) -> io::Result<()> {
        if unmap && self.discard(offset, length).is_ok() {
            return Ok(());
        }
        let flags = FallocateFlags::FALLOC_FL_ZERO_RANGE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        self.allocate(flags, offset, length)
    }

    fn allocate(&self, flags: FallocateFlags, offset: u64, length: u64) -> io::Result<()> {
        // Inside the disk, whose size is a file's: no overflow.
        Ok(fallocate(&self.file, flags, offset as i64, length as i64)?)
    }
}

fn open_hint(cause: &io::Error, options: &Options) -> String {
    match cause.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EINVAL) if options.direct => {
            "its file system has no direct I/O: leave out 'direct'".into()
        }
        Some(Errno::EACCES | Errno::EPERM | Errno::EROFS) if !options.readonly => {
            format!("{cause}; for a disk that is only read, say 'readonly'")
        }
        _ => cause.to_string(),
    }
}

fn lock_hint(cause: Errno) -> String {
    match cause {
        Errno::EAGAIN | Errno::EACCES => {
            "it is in use by another program, perhaps another partition".into()
        }
        cause => format!("it cannot be locked: {cause}"),
    }
}

/// One writer or many readers. The lock goes with the process, however that ends.
fn lock(file: &File, shared: bool) -> Result<(), Errno> {
    let lock = libc::flock {
        l_type: if shared { libc::F_RDLCK } else { libc::F_WRLCK } as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_OFD_SETLK(&lock)).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    fn image(size: u64) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(size).unwrap();
        file
    }

    #[test]
    fn a_file_is_a_disk_of_whole_sectors() {
        let image = image(4 * SECTOR + 100);
        let disk = Disk::open(image.path(), &Options::default()).unwrap();
        assert_eq!((disk.size(), disk.block_size()), (4 * SECTOR, 512));
    }

    #[test]
    fn one_writer_or_many_readers() {
        let image = image(SECTOR);
        let open = |readonly| {
            let options = Options {
                readonly,
                direct: false,
            };
            Disk::open(image.path(), &options)
        };
        let writer = open(false).unwrap();
        for readonly in [false, true] {
            let error = open(readonly).unwrap_err().to_string();
            assert!(error.contains("in use"), "{error}");
        }
        drop(writer);
        let _readers = (open(true).unwrap(), open(true).unwrap());
        assert!(open(false).is_err());
    }

    #[test]
    fn what_is_no_disk_is_refused() {
        for (path, word) in [
            ("/nonexistent/disk", "No such file"),
            ("/dev/null", "neither"),
            ("/", "directory"),
        ] {
            let error = Disk::open(path.as_ref(), &Options::default()).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(word) && text.contains(path), "{text}");
        }
        assert!(Disk::open(image(100).path(), &Options::default()).is_err());
    }

    #[test]
    fn discarded_and_zeroed_is_zero() {
        let image = image(64 << 10);
        let disk = Disk::open(image.path(), &Options::default()).unwrap();
        for round in 0..3 {
            disk.file().write_all_at(&[7; 32 << 10], 0).unwrap();
            match round {
                0 => disk.discard(4096, 8192),
                1 => disk.write_zeroes(4096, 8192, true),
                _ => disk.write_zeroes(4096, 8192, false),
            }
            .unwrap();
            let mut data = vec![0; 16384];
            disk.file().read_exact_at(&mut data, 0).unwrap();
            let zeros = data.iter().filter(|byte| **byte == 0).count();
            assert_eq!((zeros, data[4096], data[4095]), (8192, 0, 7));
        }
    }
}
