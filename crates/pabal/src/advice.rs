//! What to do about an error of the disk.
//!
//! "Input/output error" and the name of a file say what happened. Who reads it at three in the morning must also
//! know that nothing acknowledged is lost by it, and what comes next.

use rustix::io::Errno;
use std::io::{Error, ErrorKind};

/// What to do about this error, where the disk is its cause.
pub fn of(error: &anyhow::Error) -> Option<&'static str> {
    let failed = error.chain().find_map(within)?;
    match failed.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Some(
            "The disk has no room left. Make room, then start the bank again: whatever it had answered is in its \
             journal.",
        ),
        ErrorKind::ReadOnlyFilesystem => Some(
            "The file system takes no more writes; often its disk has failed. Look into the system's log, make it \
             writable or move the data folder to a sound disk, then start the bank again: whatever it had \
             answered is in its journal.",
        ),
        _ if failed.raw_os_error() == Some(Errno::IO.raw_os_error()) => Some(
            "The disk failed to do what it was told, and nothing is tried on it again. Look into the system's \
             log, replace the disk if it is the cause, then start the bank again, and have `pabal verify` read \
             it all: whatever it had answered is in its journal.",
        ),
        _ => None,
    }
}

/// The system's word in this error. What a replay met has it inside, where a chain of causes does not lead.
fn within<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e Error> {
    if let Some(pabal_engine::Error::Journal(error)) = error.downcast_ref() {
        return within(error);
    }
    match error.downcast_ref() {
        Some(pabal_journal::Error::Visitor(inside)) => within(&**inside),
        Some(pabal_journal::Error::Io { source, .. }) => Some(source),
        _ => error.downcast_ref(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    fn advice(errno: Errno) -> Option<&'static str> {
        let source = Error::from_raw_os_error(errno.raw_os_error());
        let journal = pabal_journal::Error::Io { path: "a segment".into(), source };
        let replay = pabal_journal::Error::Visitor(Box::new(journal));
        let within = of(&pabal_engine::Error::Journal(replay).into());
        let source = Error::from_raw_os_error(errno.raw_os_error());
        let journal = pabal_journal::Error::Io { path: "a segment".into(), source };
        let plain =
            of(&Err::<(), _>(pabal_engine::Error::Journal(journal)).context("on the way").unwrap_err());
        assert_eq!(within, plain, "a replay that meets it says the same");
        plain
    }

    #[test]
    fn what_the_disk_does_comes_with_what_to_do_and_what_people_do_not() {
        assert!(advice(Errno::NOSPC).is_some_and(|text| text.contains("Make room")));
        assert!(advice(Errno::DQUOT).is_some_and(|text| text.contains("Make room")));
        assert!(advice(Errno::ROFS).is_some_and(|text| text.contains("writable")));
        assert!(advice(Errno::IO).is_some_and(|text| text.contains("verify")));
        assert_eq!(advice(Errno::NOENT), None);
        assert_eq!(advice(Errno::ACCESS), None);
        assert_eq!(of(&anyhow::anyhow!("no such account")), None);
    }
}
