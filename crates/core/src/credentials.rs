//! Credentials of channels: a secret of 128 bits each, in a file that only the bank's user can read.
//!
//! Made at random when it is not there. Whoever reads a channel's file can send as that channel, and as no other.

use crate::channel::Channel;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Folder of the credentials, in the data folder.
pub const CREDENTIALS: &str = "credentials";

/// A secret. It is never shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Credential(pub [u8; 16]);

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credential(..)")
    }
}

/// The credentials of all channels.
#[derive(Debug)]
pub struct Credentials(Vec<(Channel, Credential)>);

impl Credentials {
    /// Reads those of this data folder; makes what is not there.
    pub fn open(data: &Path) -> io::Result<Credentials> {
        let folder = data.join(CREDENTIALS);
        match fs::DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            made => made?,
        }
        let each = |&channel: &Channel| Ok((channel, read_or_make(&folder, channel)?));
        Channel::ALL.iter().map(each).collect::<io::Result<_>>().map(Credentials)
    }

    /// These, whoever made them: nothing is read or written.
    pub fn of_these(credentials: Vec<(Channel, Credential)>) -> Credentials {
        Credentials(credentials)
    }

    /// Reads that of one channel: for the process that sends as it.
    pub fn of(data: &Path, channel: Channel) -> io::Result<Credential> {
        read(&data.join(CREDENTIALS), channel)
    }

    /// The channel that has this credential. Takes as long whatever was guessed.
    pub fn channel(&self, credential: &[u8; 16]) -> Option<Channel> {
        let mut found = None;
        for (channel, its) in &self.0 {
            let differs = its.0.iter().zip(credential).fold(0, |differs, (a, b)| differs | (a ^ b));
            if std::hint::black_box(differs) == 0 {
                found = Some(*channel);
            }
        }
        found
    }
}

fn read(folder: &Path, channel: Channel) -> io::Result<Credential> {
    let path = folder.join(channel.name());
    let text = fs::read_to_string(&path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    let text = text.trim().as_bytes();
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    let mut secret = [0; 16];
    let whole = text.len() == 32
        && text.chunks(2).zip(&mut secret).all(|(pair, byte)| match (digit(pair[0]), digit(pair[1])) {
            (Some(high), Some(low)) => {
                *byte = high << 4 | low;
                true
            }
            _ => false,
        });
    let wrong = || format!("{}: not a credential; remove it, and the core makes a new one", path.display());
    whole.then_some(Credential(secret)).ok_or_else(|| io::Error::new(ErrorKind::InvalidData, wrong()))
}

fn read_or_make(folder: &Path, channel: Channel) -> io::Result<Credential> {
    match read(folder, channel) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        other => return other,
    }
    let mut secret = [0; 16];
    getrandom::fill(&mut secret).map_err(|_| io::Error::other("the system gives no random bytes"))?;
    let text: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    // Under another name first: one that was cut short would keep its channel out.
    let (path, unfinished) = (folder.join(channel.name()), folder.join(format!("{}.tmp", channel.name())));
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&unfinished, &path)?;
    Ok(Credential(secret))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn each_channel_has_its_own_which_stays_and_which_others_cannot_read() {
        let data = tempfile::tempdir().expect("a folder");
        let made = Credentials::open(data.path()).expect("made");
        let again = Credentials::open(data.path()).expect("read");
        for &channel in Channel::ALL {
            let its = Credentials::of(data.path(), channel).expect("there");
            assert_eq!(made.channel(&its.0), Some(channel));
            assert_eq!(again.channel(&its.0), Some(channel));
            let mut other = its.0;
            other[15] ^= 1;
            assert_eq!(made.channel(&other), None);
            let file = data.path().join(CREDENTIALS).join(channel.name());
            assert_eq!(fs::metadata(file).expect("there").permissions().mode() & 0o777, 0o600);
        }
        assert!(!format!("{made:?}").contains(char::is_numeric), "never shown");
    }

    #[test]
    fn one_that_was_spoiled_is_named_and_not_replaced() {
        let data = tempfile::tempdir().expect("a folder");
        Credentials::open(data.path()).expect("made");
        let file = data.path().join(CREDENTIALS).join("staff");
        for text in ["", "00", "zz112233445566778899aabbccddeeff", "00112233445566778899aabbccddeeff00"] {
            fs::write(&file, text).expect("written");
            let error = Credentials::open(data.path()).expect_err("spoiled").to_string();
            assert!(error.contains("staff") && error.contains("remove it"), "{error}");
        }
    }
}
