// SPDX-License-Identifier: GPL-2.0
//! Between the user and the guest until one of them has had enough.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use vmm::device::serial::Serial;
use vmm::machine::Machine;
use vmm::outcome::{Outcome, Stopper};
use vmm_sys_util::eventfd::EventFd;

/// The signals that end a run, as a descriptor.
pub struct Signals {
    fd: SignalFd,
}

impl Signals {
    /// Blocks them, for this thread and those that it makes.
    pub fn block() -> io::Result<Self> {
        let set: SigSet = [
            Signal::SIGINT,
            Signal::SIGTERM,
            Signal::SIGHUP,
            Signal::SIGQUIT,
        ]
        .into_iter()
        .collect();
        set.thread_block()?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Self { fd })
    }

    fn next(&self) -> io::Result<Option<i32>> {
        Ok(self.fd.read_signal()?.map(|signal| signal.ssi_signo as i32))
    }
}

/// All that can happen while a guest runs.
pub struct Attachment<'a> {
    pub machine: &'a Machine,
    pub input: Option<File>,
    /// The input is a terminal, in raw mode.
    pub terminal: bool,
    /// Readable when the guest takes input again.
    pub drained: EventFd,
    pub signals: Signals,
    pub escape: Option<u8>,
    pub timeout: Option<Duration>,
}

/// Input on its way to the guest.
#[derive(Default)]
struct Pending {
    bytes: Vec<u8>,
}

impl Pending {
    /// Hands over what there is room for.
    fn pass(&mut self, serial: &Serial) {
        let taken = serial.enqueue(&self.bytes);
        self.bytes.drain(..taken);
    }

    /// Adds input up to the escape key; whether that was in it.
    fn add(&mut self, input: &[u8], escape: Option<u8>) -> bool {
        let end = escape.and_then(|key| input.iter().position(|byte| *byte == key));
        self.bytes
            .extend_from_slice(&input[..end.unwrap_or(input.len())]);
        end.is_some()
    }
}

/// What poll said about a descriptor that might not be among those it looked at.
fn ready(fds: &[PollFd], index: Option<usize>) -> bool {
    index.is_some_and(|index| {
        fds[index]
            .revents()
            .is_some_and(|events| !events.is_empty())
    })
}

fn borrow(event: &EventFd) -> BorrowedFd<'_> {
    // SAFETY: the descriptor is open for as long as the `EventFd` is borrowed.
    unsafe { BorrowedFd::borrow_raw(event.as_raw_fd()) }
}

impl Attachment<'_> {
    /// Serves the console until the run ends, and says why.
    pub fn wait(mut self) -> io::Result<Outcome> {
        let deadline = self
            .timeout
            .and_then(|limit| Instant::now().checked_add(limit));
        let mut pending = Pending::default();
        loop {
            if let Some(outcome) = self.machine.ending().outcome() {
                return Ok(outcome.clone());
            }
            let limit = match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return Ok(Outcome::Stopped(Stopper::Timeout)),
                // Rounded up, so as not to spin in the last millisecond.
                Some(left) => {
                    PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX)
                }
                None => PollTimeout::NONE,
            };
            let mut fds = vec![
                PollFd::new(borrow(self.machine.ending().event()), PollFlags::POLLIN),
                PollFd::new(self.signals.fd.as_fd(), PollFlags::POLLIN),
                PollFd::new(borrow(&self.drained), PollFlags::POLLIN),
            ];
            // Input waits in the terminal while the guest does not take any.
            let input = match &self.input {
                Some(input) if pending.bytes.is_empty() => {
                    fds.push(PollFd::new(input.as_fd(), PollFlags::POLLIN));
                    Some(fds.len() - 1)
                }
                _ => None,
            };
            match poll(&mut fds, limit) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(cause) => return Err(cause.into()),
            }
            let (signal, drained, input) = (
                ready(&fds, Some(1)),
                ready(&fds, Some(2)),
                ready(&fds, input),
            );
            drop(fds);
            if signal {
                if let Some(number) = self.signals.next()? {
                    return Ok(Outcome::Stopped(Stopper::Signal(number)));
                }
            }
            if drained {
                // Only the fact counts, not how often.
                let _ = self.drained.read();
                pending.pass(self.machine.serial());
            }
            if input {
                if let Some(stopper) = self.read(&mut pending) {
                    return Ok(Outcome::Stopped(stopper));
                }
            }
        }
    }

    /// Reads input; what ends the run, if something in it does.
    fn read(&mut self, pending: &mut Pending) -> Option<Stopper> {
        let input = self.input.as_mut()?;
        let mut buffer = [0; 256];
        match input.read(&mut buffer) {
            // A terminal has no end but that it is gone; the signal of it goes to the shell.
            Ok(0) if self.terminal => return Some(Stopper::Signal(Signal::SIGHUP as i32)),
            Ok(0) => self.input = None,
            Ok(count) => {
                let escaped = pending.add(&buffer[..count], self.escape);
                pending.pass(self.machine.serial());
                return escaped.then_some(Stopper::EscapeKey);
            }
            Err(cause)
                if matches!(
                    cause.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            Err(cause) => {
                tracing::debug!("console input: {cause}");
                self.input = None;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::Arc;
    use vmm::device::pci;
    use vmm::hypervisor::{Failure, Interrupt, Interrupts};
    use vmm::memory;
    use vmm::outcome::Ending;
    use vmm_sys_util::eventfd::EFD_NONBLOCK;

    struct NoInterrupts;

    impl Interrupts for NoInterrupts {
        fn assert(&self, _: Interrupt) -> Result<(), Failure> {
            Ok(())
        }
    }

    fn machine(drained: &EventFd) -> Machine {
        let console = vmm::machine::Console {
            out: Box::new(io::sink()),
            drained: drained.try_clone().unwrap(),
        };
        let memory = memory::allocate(&[(0, 1 << 20)]).unwrap();
        let ending = Arc::new(Ending::new().unwrap());
        let pci = pci::Bus::new(Vec::new()).unwrap();
        Machine::new(memory, Arc::new(NoInterrupts), console, pci, None, ending)
    }

    struct Bench {
        machine: Arc<Machine>,
        drained: EventFd,
        near: File,
        far: Option<File>,
        terminal: bool,
    }

    fn bench() -> Bench {
        let drained = EventFd::new(EFD_NONBLOCK).unwrap();
        let (near, far) = nix::unistd::pipe().unwrap();
        Bench {
            machine: Arc::new(machine(&drained)),
            drained,
            near: near.into(),
            far: Some(far.into()),
            terminal: true,
        }
    }

    impl Bench {
        fn type_in(&mut self, bytes: &[u8]) {
            self.far.as_mut().unwrap().write_all(bytes).unwrap();
        }

        fn wait(self, escape: Option<u8>, timeout: Option<Duration>) -> Outcome {
            Attachment {
                machine: &self.machine,
                input: Some(self.near),
                terminal: self.terminal,
                drained: self.drained,
                signals: Signals::block().unwrap(),
                escape,
                timeout,
            }
            .wait()
            .unwrap()
        }
    }

    #[test]
    fn the_escape_key_ends_it() {
        let mut bench = bench();
        bench.type_in(b"ls\x1drest");
        let outcome = bench.wait(Some(0x1d), None);
        assert_eq!(outcome, Outcome::Stopped(Stopper::EscapeKey));
    }

    #[test]
    fn without_an_escape_key_all_bytes_pass_and_time_ends_it() {
        let mut bench = bench();
        bench.type_in(&[0x1d; 200]);
        let outcome = bench.wait(None, Some(Duration::from_millis(20)));
        assert_eq!(outcome, Outcome::Stopped(Stopper::Timeout));
    }

    #[test]
    fn the_end_of_the_input_is_not_the_end_of_the_run() {
        let mut bench = bench();
        bench.far = None;
        bench.terminal = false;
        let machine = bench.machine.clone();
        let guest = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            machine.ending().end(Outcome::PowerOff);
        });
        assert_eq!(bench.wait(None, None), Outcome::PowerOff);
        guest.join().unwrap();
    }

    #[test]
    fn a_terminal_that_is_gone_ends_it() {
        let mut bench = bench();
        bench.far = None;
        let outcome = bench.wait(None, Some(Duration::from_secs(60)));
        let gone = Outcome::Stopped(Stopper::Signal(Signal::SIGHUP as i32));
        assert_eq!(outcome, gone);
    }

    #[test]
    fn a_signal_ends_it() {
        let bench = bench();
        let signals = Signals::block().unwrap();
        nix::sys::pthread::pthread_kill(nix::sys::pthread::pthread_self(), Signal::SIGTERM)
            .unwrap();
        drop(signals);
        let outcome = bench.wait(None, None);
        assert_eq!(outcome, Outcome::Stopped(Stopper::Signal(15)));
    }

    #[test]
    fn input_waits_until_the_guest_takes_it() {
        let bench = bench();
        let mut pending = Pending::default();
        assert!(!pending.add(&[b'x'; 100], None));
        pending.pass(bench.machine.serial());
        assert!(!pending.bytes.is_empty() && pending.bytes.len() < 100);
        assert!(pending.add(b"a\x01b", Some(1)));
        assert!(pending.bytes.ends_with(b"xa"));
    }
}
