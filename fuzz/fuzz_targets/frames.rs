//! Any bytes as what a client sends and as what a server sends, in pieces of any size: the same frames, whatever the
//! pieces, and no more room made than a rule allows.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pabal_fuzz::input::Input;
use pabal_fuzz::seeds;
use pabal_wire::parse::Header;
use pabal_wire::{Body, Broken, Head, Kind, Parser, Reply};

/// Frames, and what came of the rest: the rule that it breaks, or whether it stands in the middle of a frame.
type Parsed<H> = (Vec<(H, Body)>, Result<bool, Broken>);

fuzz_target!(init: seeds::plant("frames"), |data: &[u8]| {
    let mut input = Input(data);
    // Bit 0: what a server says; 1: heads are put into form.
    let bits = input.u8();
    let mut pieces = Vec::new();
    while !input.is_empty() {
        let piece = input.piece().to_vec();
        pieces.push(match bits & 3 {
            2 => formed(piece, asked),
            3 => formed(piece, said),
            _ => piece,
        });
    }
    if bits & 1 == 0 {
        look::<Head>(&pieces);
    } else {
        look::<Reply>(&pieces);
    }
});

fn look<H: Header + PartialEq + std::fmt::Debug>(pieces: &[Vec<u8>]) {
    let stream = pieces.concat();
    let whole = take::<H>(&[&stream]);
    for (head, body) in &whole.0 {
        assert_eq!(head.body_bytes(), Ok(body.as_bytes().len()), "a rule is kept");
    }
    // Nothing is lost and nothing is made up.
    let frames = whole.0.iter().flat_map(|(head, body)| [head.as_bytes(), body.as_bytes()].concat());
    let frames: Vec<u8> = frames.collect();
    assert!(stream.starts_with(&frames), "the frames are the stream");
    match whole.1 {
        Ok(midway) => assert_eq!(midway, frames.len() < stream.len()),
        Err(_) => assert!(frames.len() + size_of::<H>() <= stream.len(), "a whole head breaks it"),
    }
    let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
    assert_eq!(take::<H>(&pieces), whole);
    let single: Vec<&[u8]> = stream.chunks(1).collect();
    assert_eq!(take::<H>(&single), whole);
    // As from a socket, into a buffer of some length.
    let buffer_bytes = 1 + pieces.first().map_or(0, |piece| piece.len());
    assert_eq!(read::<H>(&stream, buffer_bytes), whole);
}

fn take<H: Header>(pieces: &[&[u8]]) -> Parsed<H> {
    let (mut parser, mut frames) = (Parser::<H>::default(), Vec::new());
    for piece in pieces {
        let mut rest = *piece;
        loop {
            match parser.take(&mut rest) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(broken) => return (frames, Err(broken)),
            }
        }
        assert!(rest.is_empty(), "all is taken");
    }
    (frames, Ok(parser.midway()))
}

fn read<H: Header>(mut stream: &[u8], buffer_bytes: usize) -> Parsed<H> {
    let (mut parser, mut frames) = (Parser::<H>::default(), Vec::new());
    let mut buffer = vec![0; buffer_bytes];
    loop {
        let brought = parser.read(&mut stream, &mut buffer).expect("from memory");
        let mut rest = &buffer[..brought.buffered];
        loop {
            match parser.take(&mut rest) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(broken) => return (frames, Err(broken)),
            }
        }
        if brought.bytes == 0 {
            return (frames, Ok(parser.midway()));
        }
    }
}

/// The bytes as a frame whose head says how long it is and keeps most rules.
fn formed<H: Header>(mut piece: Vec<u8>, form: fn(&mut H, usize)) -> Vec<u8> {
    let length = piece.len().max(size_of::<H>()).next_multiple_of(8);
    piece.resize(length, 0);
    let mut head = H::read_from_prefix(&piece).expect("long enough").0;
    form(&mut head, length - size_of::<H>());
    piece[..size_of::<H>()].copy_from_slice(head.as_bytes());
    piece
}

fn asked(head: &mut Head, length: usize) {
    head.length = length as u32;
    head.kind = 1 + head.kind % 4;
    head.class %= 5;
    head.lane = 1 + head.lane % 2;
    head.reserved = 0;
}

fn said(head: &mut Reply, length: usize) {
    head.length = length as u32;
    head.kind = 1 + head.kind % 6;
    head.reserved = 0;
    if head.kind == Kind::Replies as u16 {
        head.count = (length / 32) as u32;
    }
}
