//! What is sent to a bank: the bytes of a command.

use pabal_bank::ledger::entry::flags;
use pabal_bank::ledger::{Command, Op};
use zerocopy::{FromBytes, IntoBytes};

/// Bytes of one command, aligned as commands are read.
#[derive(Clone, PartialEq, Eq)]
pub struct Sent(Vec<u64>);

impl std::fmt::Debug for Sent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let c = self.command();
        let op = Op::from_u16(c.header.op);
        write!(f, "{op:?} {} flags {} kind {}: ", c.id, c.header.flags, c.kind)?;
        write!(f, "{} from {} to {}, ", c.amount, c.debit, c.credit)?;
        write!(f, "target {:x}.{:x}, ends {}", c.target.high, c.target.low, c.expires_ms)
    }
}

impl Sent {
    /// These bytes, whether or not they are a command. They must be whole words of 8 bytes.
    pub fn new(bytes: &[u8]) -> Sent {
        assert!(bytes.len().is_multiple_of(8), "commands are whole words");
        let mut words = vec![0u64; bytes.len() / 8];
        words.as_mut_bytes().copy_from_slice(bytes);
        Sent(words)
    }

    /// All its bytes.
    pub fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The command that it begins with; it must be as long as one.
    pub fn command(&self) -> Command {
        Command::read_from_prefix(self.bytes()).expect("at least a command's length").0
    }

    /// Whether it happens together with the next one or not at all.
    pub fn is_linked(&self) -> bool {
        self.command().header.flags & flags::LINKED != 0
    }

    /// The same with its command changed, and what follows the command as it was.
    pub fn with(&self, change: impl FnOnce(&mut Command)) -> Sent {
        let mut command = self.command();
        change(&mut command);
        let mut sent = self.clone();
        sent.0.as_mut_bytes()[..size_of::<Command>()].copy_from_slice(command.as_bytes());
        sent
    }
}

impl From<Command> for Sent {
    fn from(command: Command) -> Sent {
        Sent::new(command.as_bytes())
    }
}

/// Sets the flags that make these commands one bundle. There must be one at least.
pub fn linked(commands: Vec<Sent>) -> Vec<Sent> {
    let last = commands.len() - 1;
    let link = |(i, sent): (usize, Sent)| {
        sent.with(|c| {
            c.header.flags &= !flags::LINKED;
            c.header.flags |= if i < last { flags::LINKED } else { 0 };
        })
    };
    commands.into_iter().enumerate().map(link).collect()
}
