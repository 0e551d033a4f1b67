//! Those who keep no rule: they speak a version that nobody speaks, guess a credential, send what is no frame, say
//! nothing, ask without end and never take an answer. What each must hear is known beforehand, and nothing else may
//! come; what they cost others is seen by how the others fare.

use super::super::judge::wrong;
use super::credential;
use super::pipe::{self, ClientEnd};
use crate::random::Random;
use pabal_bank::ledger::Code;
use pabal_core::question::BankStanding;
use pabal_core::{Channel, Question};
use pabal_wire::frame::{LANE_ONLINE, VERSION};
use pabal_wire::{Asking, Head, Kind, Limits, Replies, Reply};
use std::io::{ErrorKind, Read, Write};
use zerocopy::IntoBytes;

/// Questions that one who floods asks.
const FLOOD: usize = 1500;
/// Bytes of such a question with its head, and of its answer.
const ASKED_BYTES: usize = size_of::<Head>() + size_of::<Question>();
const ANSWERED_BYTES: usize = size_of::<Reply>() + size_of::<BankStanding>();

/// Bytes that leave one who takes no answer, at most: what lies in the pipe and what was read beyond the bounds, a
/// pipe's worth each; and what was asked, of which the answers lie in the pipe, in the server's hands up to the bound
/// at which it reads no more, or are on their way then.
pub fn taken_bytes_max(limits: &Limits, room: usize) -> usize {
    let answered = (room + limits.untaken_bytes / 4) / ANSWERED_BYTES;
    2 * room + ASKED_BYTES * (answered + 2 * limits.in_flight as usize + 2)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// Speaks only what comes after our newest version.
    Version,
    /// Guesses a credential.
    Credential,
    /// Breaks a rule of frames after its hello.
    Broken,
    /// Stops in the middle of a frame, or before the first.
    Silent,
    /// Asks and asks, and takes no answer.
    Floods,
}

/// See the module.
pub struct Hostile {
    end: Option<ClientEnd>,
    manner: Manner,
    to_send: Vec<u8>,
    sent: usize,
    taken_max: usize,
    parser: Replies,
    /// Kinds and codes that came.
    heard: Vec<(u16, u16)>,
    done: bool,
}

fn hello(oldest: u32, newest: u64) -> Head {
    Head { kind: Asking::Hello as u16, tag: 9, count: oldest, item: newest, ..Head::default() }
}

fn question(credential: [u8; 16], tag: u64) -> Vec<u8> {
    let question = Question::status();
    let head = Head {
        length: question.as_bytes().len() as u32,
        kind: Asking::Query as u16,
        version: VERSION,
        tag,
        credential,
        lane: LANE_ONLINE,
        ..Head::default()
    };
    [head.as_bytes(), question.as_bytes()].concat()
}

impl Hostile {
    pub fn new(end: ClientEnd, taken_max: usize, random: &mut Random) -> Hostile {
        use Manner::{Broken, Credential, Floods, Silent, Version};
        let manner = random.of(&[Version, Credential, Broken, Silent, Floods]);
        let known = hello(1, 1).as_bytes().to_vec();
        let to_send = match manner {
            Version => {
                hello(u32::from(VERSION) + 1, u64::from(VERSION) + 1 + random.below(9)).as_bytes().to_vec()
            }
            Credential => {
                let mut bytes = known;
                (0..1 + random.below(4)).for_each(|tag| bytes.extend(question(credential(None), tag)));
                bytes
            }
            Broken => {
                let good = question(credential(Some(Channel::Watch)), 5);
                let mut head = good[..size_of::<Head>()].to_vec();
                // Length, kind, version, lane, class, what is reserved.
                let (at, value) =
                    random.of(&[(0, 7), (3, 9), (4, 77), (5, 0xff), (6, 5), (33, 2), (32, 9), (34, 1)]);
                head[at] ^= value;
                [known, head, good[size_of::<Head>()..].to_vec()].concat()
            }
            Silent => {
                let all = [known, question(credential(Some(Channel::Watch)), 3)].concat();
                all[..random.below(all.len() as u64) as usize].to_vec()
            }
            Floods => {
                let asks = (0..FLOOD as u64).flat_map(|tag| question(credential(Some(Channel::Watch)), tag));
                known.into_iter().chain(asks).collect()
            }
        };
        let (parser, heard) = (Replies::default(), Vec::new());
        Hostile { end: Some(end), manner, to_send, sent: 0, taken_max, parser, heard, done: false }
    }

    /// Goes on in its manner; now and then it has had enough.
    pub fn step(&mut self, random: &mut Random) {
        let Some(end) = &mut self.end else { return };
        match end.write(&self.to_send[self.sent..]) {
            Ok(bytes) => self.sent += bytes,
            Err(error) => self.done = error.kind() != ErrorKind::WouldBlock,
        }
        if self.manner == Manner::Floods {
            if self.sent > self.taken_max {
                wrong("flood taken in", format!("{} bytes of one who takes no answer", self.sent));
            }
        } else {
            self.listen();
        }
        let left = self.end.as_ref().is_none_or(|end| pipe::is_left(&end.0));
        self.done |= left && self.manner == Manner::Floods;
        if self.done || random.one_in(100) {
            (self.end, self.done) = (None, true);
        }
    }

    /// Reads what is there.
    fn listen(&mut self) {
        let mut buffer = [0; 4096];
        while let Some(end) = &mut self.end {
            match end.read(&mut buffer) {
                Ok(0) => (self.done, self.end) = (true, None),
                Ok(bytes) => {
                    let mut rest = &buffer[..bytes];
                    loop {
                        match self.parser.take(&mut rest) {
                            Ok(Some((head, _))) => self.heard.push((head.kind, head.code)),
                            Ok(None) => break,
                            Err(broken) => wrong("server breaks the protocol", broken.to_string()),
                        }
                    }
                }
                Err(error) => {
                    if error.kind() != ErrorKind::WouldBlock {
                        (self.done, self.end) = (true, None);
                    }
                    break;
                }
            }
        }
        self.judge();
    }

    fn judge(&self) {
        let welcome = (Kind::Welcome as u16, 0);
        let refused = |code: Code| (Kind::Refused as u16, code as u16);
        let (first, then, then_max) = match self.manner {
            Manner::Version => (refused(Code::VersionUnknown), welcome, 0),
            Manner::Credential => (welcome, refused(Code::CredentialUnknown), usize::MAX),
            Manner::Broken => (welcome, refused(Code::Malformed), 1),
            Manner::Silent | Manner::Floods => (welcome, welcome, 0),
        };
        let right = match self.heard.split_first() {
            None => true,
            // Too many are there.
            Some((heard, rest)) if *heard == refused(Code::Overloaded) => rest.is_empty(),
            Some((heard, rest)) => {
                *heard == first && rest.len() <= then_max && rest.iter().all(|heard| *heard == then)
            }
        };
        if !right {
            wrong("hostile client heard", format!("{:?}: {:?}", self.manner, self.heard));
        }
    }

    /// Whether it has gone, or was shown out.
    pub fn is_done(&self) -> bool {
        self.done
    }
}
