// SPDX-License-Identifier: GPL-2.0
//! The command line.

pub mod devices;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

/// Look after hvmod, the hypervisor beneath this Linux, and run partitions on it.
#[derive(Debug, Parser)]
#[command(
    name = "hvctl",
    version,
    max_term_width = 100,
    arg_required_else_help = true
)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Check(Check),
    Info(Info),
    Log(Log),
    Run(Box<Run>),
    Stop(Stop),
    Balloon(Balloon),
    Devices(Devices),
}

/// Say whether this machine can run hvmod, and what to do about what is missing
///
/// Each requirement is on its own line: ok, FAIL, or unknown where it could not be looked
/// at. Reading the processor's MSRs needs root and the msr module; without them the
/// kernel's own findings are used.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit status: 0 when every requirement is met, 1 otherwise.")]
pub struct Check {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Show processors, partitions, memory, and why virtual machines exited
///
/// Also asks CPUID on each processor, and says so if one is not in the root partition.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The line 'speculation' names what hvcore does on a switch between partitions against \
    speculative execution. The module parameter speculation=N of hvmod chooses otherwise: a sum of 1 (IBPB), \
    2 (RSB filling), 4 (VERW) and 8 (L1D flush), 0 for nothing, -1 (the default) for what the processor needs. \
    What the processor cannot do is refused when hvmod is loaded.

Exit status: 0; 1 when hvmod is not loaded or a processor disagrees."
)]
pub struct Info {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Print the hypervisor's log
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit status: 0; 1 when the log cannot be read.")]
pub struct Log {
    /// Go on printing what is added, until interrupted
    #[arg(short, long)]
    pub follow: bool,
}

const RUN_HELP: &str = "\
The kernel is a Linux bzImage, or has a Multiboot 1 header: a 32-bit ELF, or a flat image whose \
header has addresses. The latter two get the kernel's file name as the first word of their \
command line and the initrd as their module. docs/test-kernels.md says what they find.

Exit status:
    0  the guest powered off
    2  hvctl cannot do what it was told: a bad option, a file, memory, no hypervisor
    4  the guest asked for a reset: a reboot, or Linux's panic=SECONDS
    6  the guest crashed: a triple fault, or an event that it has no memory for
    8  the guest did something that hvctl cannot emulate
   10  the hypervisor failed
   12  ended by the escape key
   14  ended by hvctl stop, the guest not having powered off in time
  124  ended by --timeout
  128+n  ended by signal n (129: terminal closed, 130: Ctrl-C, 143: kill, 137: kill -9)

A guest that halts, or panics without a reset, goes on until one of the last four.
With --exit-port, a guest's write of v ends the run with status 2v+1, of which a status keeps \
the low 8 bits: v and v+128 are the same. It is odd, as no other is but some signals'.

With HVCTL_LOG=info in the environment, hvctl says on standard error how it goes, and what its \
queues did; =debug says more.";

/// Boot a partition and attach this terminal to its console
#[derive(Debug, clap::Args)]
#[command(after_help = RUN_HELP)]
pub struct Run {
    /// What 'hvctl stop' is to know the run by [default: its process ID]
    ///
    /// Any user can take any name, once; but 'hvctl stop' and its like only speak to runs of the
    /// user who calls them, and of root.
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub name: Option<String>,

    /// Kernel to boot: a bzImage, or one with a Multiboot header
    #[arg(long, value_name = "FILE")]
    pub kernel: PathBuf,

    /// Initial RAM disk, or the Multiboot kernel's module
    #[arg(long, value_name = "FILE")]
    pub initrd: Option<PathBuf>,

    /// Kernel command line [default: console=ttyS0 for a bzImage, else empty]
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub cmdline: Option<String>,

    /// Guest memory, such as 512M or 2G; a number alone is in MiB. Whole MiB only
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = memory, allow_hyphen_values = true)]
    pub memory: u64,

    /// Virtual processors, 1 to 64
    #[arg(
        long, visible_alias = "vcpus", value_name = "NUMBER", default_value_t = 1, allow_hyphen_values = true,
        value_parser = clap::value_parser!(u8).range(1..=hvmod_ioctls::MAX_VPS as i64),
    )]
    pub cpus: u8,

    /// Disk: path=FILE, then any of readonly, direct (past the page cache), serial=TEXT (up to
    /// 20 characters), queues=N (default 1), format=raw or qcow2. Repeatable
    ///
    /// FILE is an image or a block device; without format it is raw. A name with a comma in it
    /// wants quotes that the shell leaves alone: "path='a,b'". A qcow2 image that is built on
    /// another needs the word backing.
    #[arg(long, value_name = "KEY=VALUE,...", value_parser = devices::disk)]
    pub disk: Vec<devices::Disk>,

    /// Network interface: tap=NAME (made if it is not there), bridge=NAME (a new tap that joins
    /// it) or macvtap=NAME, then any of mac=ADDRESS, queues=N. Repeatable
    ///
    /// The root's vhost-net serves it. A tap of another user's needs CAP_NET_ADMIN, as a bridge
    /// does. Without mac, a macvtap has its interface's, others a random one.
    #[arg(long, value_name = "KEY=VALUE,...", value_parser = devices::net)]
    pub net: Vec<devices::Net>,

    /// Folder of the root's: dir=PATH,tag=NAME, then readonly if the guest may not write. The
    /// guest mounts it with 'mount -t virtiofs NAME WHERE'. Repeatable
    ///
    /// A process of its own, virtiofsd, serves it, with access to this folder alone.
    #[arg(long, value_name = "KEY=VALUE,...", value_parser = devices::share)]
    pub share: Vec<devices::Share>,

    /// Sockets between root and guest (AF_VSOCK), served by the root's vhost-vsock: cid=NUMBER,
    /// from 3 on
    #[arg(long, value_name = "cid=NUMBER", value_parser = devices::vsock)]
    pub vsock: Option<devices::Vsock>,

    /// Random numbers of the root's kernel
    #[arg(long)]
    pub rng: bool,

    /// A balloon: 'hvctl balloon' asks the guest to do without some of its memory
    #[arg(long)]
    pub balloon: bool,

    /// Where the guest's second console goes, Linux's hvc0: pty, file:PATH or null
    #[arg(long, value_name = "WHERE", value_parser = second_console)]
    pub virtio_console: Option<Console>,

    /// Where the guest's serial console goes: stdio, pty, file:PATH or null
    #[arg(long, value_name = "WHERE", default_value = "stdio", value_parser = console)]
    pub console: Console,

    /// Let the guest end the run by a write to I/O port 0xf4
    ///
    /// The write has 1, 2 or 4 bytes. With it come the other things that test kernels look
    /// for: QEMU's configuration device at 0x510, four bytes to write and read at 0xe0 and at
    /// 0xe8, a port for each of the I/O APIC's pins from 0x2000 on, 64 KiB of memory at
    /// 0xff000000.
    #[arg(long)]
    pub exit_port: bool,

    /// Keep capabilities, files and system calls that a run does not need once it is set up
    ///
    /// Without this they are given up before the guest runs. A system call that is refused from
    /// then on is told on standard error, a file or a network in the kernel's audit log.
    #[arg(long)]
    pub unconfined: bool,

    /// Keep the guest's memory from everybody else, this kernel included; no virtio devices
    #[arg(long)]
    pub private: bool,

    /// Show a Linux guest a plain processor, without Hyper-V's interface for guests
    ///
    /// Without this a bzImage finds by CPUID that there is a hypervisor, the frequencies of TSC
    /// and APIC timer, and a clock that it reads from memory. Multiboot kernels and private
    /// guests find none of that.
    #[arg(long)]
    pub plain: bool,

    /// Key that ends the run, where the console is a terminal: ^] and its like, or none
    #[arg(long, value_name = "KEY", default_value = "^]", value_parser = escape)]
    pub escape: Escape,

    /// End the run after so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = timeout, allow_hyphen_values = true)]
    pub timeout: Option<Duration>,
}

/// Ask a guest to power off, as by its power button; end its run if it does not
///
/// Waits until the run has ended. The button is pressed again every 15 seconds, for a guest that
/// did not listen yet.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 when the guest powered off by itself; 2 when there is no \
                        such run; 14 when its run had to be ended."
)]
pub struct Stop {
    /// The run: its --name, or the process ID of 'hvctl run'
    #[arg(value_name = "NAME", value_parser = name)]
    pub name: String,

    /// End the run after so many seconds
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = timeout)]
    pub timeout: Duration,

    /// End the run at once
    #[arg(long)]
    pub force: bool,
}

/// Ask a guest to do without some of its memory, and say how much it does without now
///
/// The run needs --balloon. The root gets what the guest gives in units of 2 MiB; the answer says
/// how much that is. The guest has it again as soon as it wants it, if the root can spare it then.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit status: 0; 1 when there is no such run, or it has no balloon.")]
pub struct Balloon {
    /// The run: its --name, or the process ID of 'hvctl run'
    #[arg(value_name = "NAME", value_parser = name)]
    pub name: String,

    /// What to do without, such as 64M, in all; 0M gives all back
    #[arg(value_name = "SIZE", value_parser = balloon)]
    pub size: Option<u64>,
}

/// Show what the queues of a run's virtio devices counted so far
///
/// doorbells: times that the driver's doorbell woke hvctl; of these, by intercept: those that a
/// processor's thread had to pass on. chains: requests that hvctl took. interrupts: those that it
/// sent; suppressed: times that it gave requests back and the driver wanted no interrupt. Fewer
/// doorbells and interrupts than chains is what suppression saves. Queues that the root's kernel or
/// another process serves have none of these.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit status: 0; 1 when there is no such run.")]
pub struct Devices {
    /// The run: its --name, or the process ID of 'hvctl run'
    #[arg(value_name = "NAME", value_parser = name)]
    pub name: String,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Where COM1 leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Console {
    Stdio,
    Pty,
    File(PathBuf),
    Null,
}

/// The byte that ends the run, if one does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Escape(pub Option<u8>);

impl std::fmt::Display for Escape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(byte) => write!(f, "Ctrl-{}", char::from(byte | 0x40)),
            None => f.write_str("none"),
        }
    }
}

const MIB: u64 = 1 << 20;

fn memory(text: &str) -> Result<u64, String> {
    let size = parse_size::Config::new()
        .with_binary()
        .with_default_factor(MIB)
        .parse_size(text)
        .map_err(|cause| format!("{cause}; write for example 512M or 2G"))?;
    match size {
        0 => Err("a guest needs memory; write for example 512M".into()),
        size if size % MIB != 0 => Err(format!("{size} bytes are not whole MiB")),
        size => Ok(size),
    }
}

fn balloon(text: &str) -> Result<u64, String> {
    match text {
        "0" | "0M" => Ok(0),
        text => memory(text),
    }
}

fn name(text: &str) -> Result<String, String> {
    let sign = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if (1..=64).contains(&text.len()) && text.bytes().all(sign) {
        Ok(text.into())
    } else {
        Err("a name is up to 64 letters, digits, '-', '_' and '.'".into())
    }
}

fn console(text: &str) -> Result<Console, String> {
    match text {
        "stdio" => Ok(Console::Stdio),
        "pty" => Ok(Console::Pty),
        "null" => Ok(Console::Null),
        text => match text.strip_prefix("file:") {
            Some(path) if !path.is_empty() => Ok(Console::File(path.into())),
            _ => Err("it is stdio, pty, file:PATH or null".into()),
        },
    }
}

fn second_console(text: &str) -> Result<Console, String> {
    match console(text)? {
        Console::Stdio => Err("stdio is the first console's: it is pty, file:PATH or null".into()),
        other => Ok(other),
    }
}

fn escape(text: &str) -> Result<Escape, String> {
    match text.as_bytes() {
        b"none" => Ok(Escape(None)),
        [b'^', key] if matches!(key.to_ascii_uppercase(), b'@'..=b'_') => {
            Ok(Escape(Some(key.to_ascii_uppercase() & 0x1f)))
        }
        _ => Err("it is ^ and a letter or one of [ \\ ] ^ _, or none".into()),
    }
}

fn timeout(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "it is a number of seconds".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(limit) if !limit.is_zero() => Ok(limit),
        _ => Err("it is a number of seconds above 0".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn run(arguments: &[&str]) -> Result<Run, clap::Error> {
        let all = ["hvctl", "run", "--kernel", "k"].iter().chain(arguments);
        match Args::try_parse_from(all)?.command {
            Command::Run(run) => Ok(*run),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn memory_is_whole_mebibytes() {
        for (text, mib) in [
            ("128M", 128),
            ("128MiB", 128),
            ("128MB", 128),
            ("64", 64),
            ("2G", 2048),
            ("1024k", 1),
        ] {
            assert_eq!(
                run(&["--memory", text]).unwrap().memory,
                mib * MIB,
                "{text}"
            );
        }
        for text in ["0", "0M", "1k", "1025k", "x", "", "-5M", "99999999999G"] {
            let error = run(&[&format!("--memory={text}")]).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{text}");
        }
        assert_eq!(run(&[]).unwrap().memory, 256 * MIB);
    }

    #[test]
    fn consoles() {
        let console = |text| run(&["--console", text]).map(|run| run.console);
        assert_eq!(console("stdio").unwrap(), Console::Stdio);
        assert_eq!(
            console("file:/tmp/x").unwrap(),
            Console::File("/tmp/x".into())
        );
        assert!(console("file:").is_err() && console("tcp").is_err());
    }

    #[test]
    fn escape_keys() {
        let escape = |text| run(&["--escape", text]).map(|run| run.escape);
        assert_eq!(run(&[]).unwrap().escape, Escape(Some(0x1d)));
        assert_eq!(escape("^a").unwrap(), Escape(Some(1)));
        assert_eq!(escape("none").unwrap(), Escape(None));
        assert!(escape("x").is_err() && escape("^1").is_err());
        assert_eq!(Escape(Some(0x1d)).to_string(), "Ctrl-]");
    }

    #[test]
    fn times_and_processors() {
        assert_eq!(
            run(&["--timeout", "1.5"]).unwrap().timeout,
            Some(Duration::from_millis(1500))
        );
        for text in ["0", "-1", "nan", "inf", "soon"] {
            assert!(run(&[&format!("--timeout={text}")]).is_err(), "{text}");
        }
        assert_eq!(run(&[]).unwrap().cpus, 1);
        assert_eq!(run(&["--cpus", "64"]).unwrap().cpus, 64);
        assert_eq!(run(&["--vcpus", "2"]).unwrap().cpus, 2);
        for text in ["0", "65", "256", "-1", "two", ""] {
            assert!(run(&[&format!("--cpus={text}")]).is_err(), "{text}");
        }
    }

    #[test]
    fn a_kernel_is_required_and_a_command_line_may_begin_with_a_dash() {
        assert!(Args::try_parse_from(["hvctl", "run"]).is_err());
        assert_eq!(
            run(&["--cmdline", "-v"]).unwrap().cmdline.as_deref(),
            Some("-v")
        );
    }
}
