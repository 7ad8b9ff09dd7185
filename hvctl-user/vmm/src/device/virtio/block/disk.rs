// SPDX-License-Identifier: GPL-2.0
//! What is behind a disk: a file or a block device of ours.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, fallocate, fcntl};

use super::request::Range;

pub const SECTOR: u64 = 512;
/// What an image of that format begins with.
pub const QCOW2_MAGIC: [u8; 4] = *b"QFI\xfb";

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    pub readonly: bool,
    /// Past our page cache (O_DIRECT).
    pub direct: bool,
    /// It is raw, whatever it looks like.
    pub raw: bool,
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
    /// With `direct`, the same through our page cache: for what is not aligned.
    cached: Option<File>,
    size: u64,
    readonly: bool,
    /// What `file` wants offsets, lengths and buffers to be multiples of.
    alignment: u32,
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
        let open = |flags: libc::c_int| {
            OpenOptions::new()
                .read(true)
                .write(!options.readonly)
                .custom_flags(libc::O_CLOEXEC | flags)
                .open(path)
                .map_err(|cause| refused(open_hint(&cause, options)))
        };
        // To open a FIFO could wait without end.
        let kind = path
            .metadata()
            .map_err(|cause| refused(cause.to_string()))?
            .file_type();
        if !kind.is_block_device() && !kind.is_file() {
            return Err(refused("it is neither a file nor a block device".into()));
        }
        // Of a block device, O_EXCL asks that nobody has it mounted.
        let alone = match kind.is_block_device() && !options.readonly {
            true => libc::O_EXCL,
            false => 0,
        };
        let file = open(alone | if options.direct { libc::O_DIRECT } else { 0 })?;
        let metadata = file
            .metadata()
            .map_err(|cause| refused(cause.to_string()))?;
        let (size, block_size) = if metadata.file_type().is_block_device() {
            ioctl::of_block_device(&file).map_err(|cause| refused(cause.to_string()))?
        } else {
            (metadata.len(), SECTOR as u32)
        };
        lock(&file, options.readonly).map_err(|cause| refused(lock_hint(cause)))?;
        let disk = Self {
            cached: match options.direct {
                true => Some(open(0)?),
                false => None,
            },
            size: size / u64::from(block_size) * u64::from(block_size),
            readonly: options.readonly,
            alignment: match options.direct {
                true => direct_alignment(&file).max(block_size),
                false => 1,
            },
            block_size,
            file,
        };
        if !options.raw && disk.is_qcow2() {
            return Err(refused(FORMAT_HINT.into()));
        }
        if disk.size < SECTOR {
            return Err(refused(format!(
                "it has {size} bytes, and a sector {block_size}; 'truncate -s 1G' makes it larger"
            )));
        }
        if disk.size < size {
            tracing::warn!(
                "{}: its last {} bytes are no whole sector, and the guest does not see them",
                path.display(),
                size - disk.size
            );
        }
        Ok(disk)
    }

    /// Whether it begins as an image of that format does.
    fn is_qcow2(&self) -> bool {
        let file = self.cached.as_ref().unwrap_or(&self.file);
        let mut start = [0; QCOW2_MAGIC.len()];
        file.read_exact_at(&mut start, 0).is_ok() && start == QCOW2_MAGIC
    }

    /// Of whatever file, for tests of those that read and write it.
    #[cfg(test)]
    pub fn of_file(file: File) -> Self {
        Self {
            file,
            cached: None,
            size: 1 << 20,
            readonly: false,
            alignment: 1,
            block_size: SECTOR as u32,
        }
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    /// What to read or write the range with, and how its buffers have to be aligned.
    pub fn way_to(&self, range: Range) -> (&File, usize) {
        match &self.cached {
            Some(cached) if (range.offset | range.length) % u64::from(self.alignment) != 0 => {
                (cached, 1)
            }
            _ => (&self.file, self.alignment as usize),
        }
    }

    /// Bytes: whole blocks.
    pub fn size(&self) -> u64 {
        self.size
    }

    pub fn readonly(&self) -> bool {
        self.readonly
    }

    /// The smallest unit that the guest can use.
    pub fn block_size(&self) -> u32 {
        self.block_size
    }

    /// The smallest unit that the guest should use, as a power of two of the former.
    pub fn physical_block_exponent(&self) -> u8 {
        (self.alignment.max(self.block_size) / self.block_size).ilog2() as u8
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

/// A guest may have written that, to have it read as one: so it is never guessed.
const FORMAT_HINT: &str = "it looks like a qcow2 image: say format=qcow2, or format=raw if the \
                           guest is to see the file's own bytes";

/// What O_DIRECT asks of offsets, lengths and addresses in memory (statx(2), STATX_DIOALIGN).
fn direct_alignment(file: &File) -> u32 {
    /// What any disk is content with.
    const SAFE: u32 = 4096;
    // SAFETY: all zeros is a value of it.
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    let (mask, at) = (libc::STATX_DIOALIGN, libc::AT_EMPTY_PATH);
    // SAFETY: the path is a string, and the kernel writes to what the last pointer is to.
    let result = unsafe { libc::statx(file.as_raw_fd(), c"".as_ptr(), at, mask, &raw mut found) };
    let (memory, offset) = (found.stx_dio_mem_align, found.stx_dio_offset_align);
    if result != 0 || found.stx_mask & mask == 0 || memory == 0 || offset == 0 {
        return SAFE;
    }
    memory.max(offset).next_power_of_two()
}

fn open_hint(cause: &io::Error, options: &Options) -> String {
    match cause.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EINVAL) if options.direct => {
            "its file system has no direct I/O: leave out 'direct'".into()
        }
        Some(Errno::EBUSY) => {
            format!("{cause}: it is mounted, or another program has it for itself")
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
            "it is in use, by another program, another run, or another --disk of this one; what \
             is in use can be shared only if all of them say 'readonly'"
                .into()
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
                ..Options::default()
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
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let fifo = fifo.to_str().unwrap().to_owned();
        for (path, word) in [
            ("/nonexistent/disk", "No such file"),
            ("/dev/null", "neither"),
            ("/", "neither"),
            (fifo.as_str(), "neither"),
        ] {
            for readonly in [false, true] {
                let options = Options {
                    readonly,
                    ..Options::default()
                };
                let error = Disk::open(path.as_ref(), &options).unwrap_err();
                let text = error.to_string();
                assert!(text.contains(word) && text.contains(path), "{text}");
            }
        }
        assert!(Disk::open(image(100).path(), &Options::default()).is_err());
    }

    #[test]
    fn a_raw_disk_that_looks_like_an_image_is_not_guessed_at() {
        let image = image(SECTOR);
        image.as_file().write_all_at(b"QFI\xfb", 0).unwrap();
        let open = |raw| {
            let options = Options {
                raw,
                ..Options::default()
            };
            Disk::open(image.path(), &options)
        };
        let error = open(false).unwrap_err().to_string();
        assert!(error.contains("format=qcow2"), "{error}");
        assert_eq!(open(true).unwrap().size(), SECTOR);
    }

    #[test]
    fn directly_read_is_what_is_aligned() {
        // Not in /tmp, which may be memory.
        let place = std::env::current_dir().unwrap();
        let file = tempfile::NamedTempFile::new_in(place).unwrap();
        file.as_file().set_len(8192 + SECTOR).unwrap();
        let options = Options {
            direct: true,
            ..Options::default()
        };
        let disk = match Disk::open(file.path(), &options) {
            Ok(disk) => disk,
            Err(cause) => return eprintln!("skipped: {cause}"),
        };
        assert_eq!((disk.size(), disk.block_size()), (8192 + SECTOR, 512));
        let way = |offset, length| disk.way_to(Range { offset, length });
        let is_direct = |(file, _): (&File, usize)| {
            nix::fcntl::fcntl(file, FcntlArg::F_GETFL).unwrap() & libc::O_DIRECT != 0
        };
        assert!(is_direct(way(0, 8192)) && way(0, 8192).1 >= 512);
        assert!(!is_direct(way(100, 412)));
        if disk.alignment > 512 {
            assert!(!is_direct(way(8192, 512)));
        }
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
