//! One file: gzip, lines, records. Everything is streamed; every length is bounded before it is believed.

use super::parse_error::{Fault, LineFault, ReadError};
use super::parse_field::Field;
use super::tables::RECORD_BYTES_MAX;
use csv::ByteRecord;
use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// Bytes of a file at most when it is unpacked.
pub const FILE_BYTES_MAX: u64 = 1 << 30;
/// Bytes of a line at most, its line end not counted.
pub const LINE_BYTES_MAX: usize = 4096;
const BUFFER_BYTES: usize = 64 * 1024;

/// A file that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Its name in the folder.
    pub name: String,
    /// Its length when unpacked, bytes.
    pub bytes: u64,
    /// Its records; the header is none.
    pub records: u32,
    /// BLAKE3 of its unpacked content.
    pub digest: [u8; 32],
}

/// A record of a file with as many fields as the table has columns.
pub(super) struct Line<'f> {
    pub file: &'f str,
    /// 1-based; the header is line 1.
    pub number: u32,
    columns: &'static [&'static str],
    record: &'f ByteRecord,
}

/// Reads a file whose header must be `columns`, and hands each record to `each`, in order.
pub(super) fn read_file(
    dir: &Path,
    name: &str,
    columns: &'static [&'static str],
    each: &mut dyn FnMut(&Line<'_>) -> Result<(), ReadError>,
) -> Result<SourceFile, ReadError> {
    let system = |source| ReadError::Io { file: name.into(), source };
    let path = dir.join(name);
    let kind = match std::fs::metadata(&path) {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return Err(ReadError::Missing { file: name.into(), folder: dir.into() });
        }
        kind => kind.map_err(system)?,
    };
    if !kind.is_file() {
        return Err(system(io::Error::other("not a file"))); // a pipe would block for ever
    }
    let gate = Gate::new(MultiGzDecoder::new(File::open(&path).map_err(system)?), FILE_BYTES_MAX);
    // The gate has seen to it that a record ends where its line does.
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .terminator(csv::Terminator::Any(b'\n'))
        .buffer_capacity(BUFFER_BYTES)
        .from_reader(gate);
    let mut record = ByteRecord::new();
    let mut lines = 0u32;
    loop {
        match reader.read_byte_record(&mut record) {
            Ok(true) => {}
            Ok(false) => break,
            Err(e) => return Err(reader.get_mut().why(name, e)),
        }
        let number = record.position().and_then(|p| u32::try_from(p.line()).ok());
        let number = number.ok_or_else(|| line_error(name, u32::MAX, LineFault::TooMany))?;
        let line = Line { file: name, number, columns, record: &record };
        if lines == 0 {
            line.check_header()?;
        } else {
            line.check_form()?;
            each(&line)?;
        }
        lines += 1;
    }
    if lines == 0 {
        return Err(line_error(name, 1, LineFault::NoHeader { expected: columns.join(",") }));
    }
    let gate = reader.into_inner();
    let digest = *gate.hasher.finalize().as_bytes();
    Ok(SourceFile { name: name.into(), bytes: gate.bytes, records: lines - 1, digest })
}

fn line_error(file: &str, line: u32, fault: LineFault) -> ReadError {
    ReadError::Line { file: file.into(), line, fault }
}

impl<'f> Line<'f> {
    /// An error about the line as a whole.
    pub fn bad(&self, fault: LineFault) -> ReadError {
        line_error(self.file, self.number, fault)
    }

    /// The fields, in the order of the columns.
    pub fn fields(&'f self) -> Fields<'f> {
        Fields { line: self, next: 0 }
    }

    /// The record as it is kept: a field with a comma or a quotation mark is quoted again.
    pub fn text(&self) -> Result<Box<str>, ReadError> {
        let mut text = String::with_capacity(self.record.as_slice().len() + self.columns.len());
        for i in 0..self.record.len() {
            if i > 0 {
                text.push(',');
            }
            let field = String::from_utf8_lossy(self.bytes(i)); // every field was checked when it was read
            if field.contains([',', '"']) {
                text.push('"');
                text.push_str(&field.replace('"', "\"\""));
                text.push('"');
            } else {
                text.push_str(&field);
            }
        }
        if text.len() > RECORD_BYTES_MAX {
            return Err(self.bad(LineFault::RecordTooLong { found: text.len() }));
        }
        Ok(text.into())
    }

    fn check_header(&self) -> Result<(), ReadError> {
        for (i, column) in self.columns.iter().enumerate().take(self.record.len()) {
            if self.bytes(i) != column.as_bytes() {
                return Err(self.wrong(column, self.bytes(i), Fault::Header));
            }
        }
        self.check_form()
    }

    fn check_form(&self) -> Result<(), ReadError> {
        let (found, expected) = (self.record.len(), self.columns.len());
        if found != expected {
            return Err(self.bad(LineFault::FieldCount { found, expected }));
        }
        let bytes = self.record.as_slice().len() + found - 1;
        if bytes > RECORD_BYTES_MAX {
            return Err(self.bad(LineFault::RecordTooLong { found: bytes }));
        }
        Ok(())
    }

    /// A field's bytes. A carriage return before the line end is part of the line end.
    fn bytes(&self, i: usize) -> &'f [u8] {
        let bytes = self.record.get(i).unwrap_or_default();
        let last = i + 1 == self.record.len();
        if last { bytes.strip_suffix(b"\r").unwrap_or(bytes) } else { bytes }
    }
}

/// The fields of a line, one after the other: the leftmost bad one is the one reported.
pub(super) struct Fields<'l> {
    line: &'l Line<'l>,
    next: usize,
}

impl<'l> Fields<'l> {
    /// The next field. There are as many as the table has columns.
    pub fn next(&mut self) -> Result<Field<'l>, ReadError> {
        let column = self.line.columns[self.next];
        let bytes = self.line.bytes(self.next);
        self.next += 1;
        let wrong = |fault| self.line.wrong(column, bytes, fault);
        let text = std::str::from_utf8(bytes).map_err(|_| wrong(Fault::NotUtf8))?;
        if text.chars().any(char::is_control) {
            return Err(wrong(Fault::Control));
        }
        Ok(Field { line: self.line, column, text })
    }
}

/// Stands between the decoder and the CSV reader: counts, hashes, and stops what would grow without bound.
///
/// The CSV reader takes a record to go on over line ends until a quotation mark closes, and passes over
/// blank lines; here both are errors. What stands before a bad line is handed on first, so that the first
/// error of a file is the one reported.
struct Gate<R> {
    inner: R,
    hasher: blake3::Hasher,
    bytes: u64,
    bytes_max: u64,
    line: u32,
    line_bytes: usize,
    /// An odd number of quotation marks so far on this line.
    quote_open: bool,
    ends_in_return: bool,
    stop: Option<Stop>,
}

enum Stop {
    Line(u32, LineFault),
    TooLarge,
    Source(io::Error),
}

impl<R: Read> Gate<R> {
    fn new(inner: R, bytes_max: u64) -> Gate<R> {
        let hasher = blake3::Hasher::new();
        let (quote_open, ends_in_return, stop) = (false, false, None);
        Gate { inner, hasher, bytes: 0, bytes_max, line: 1, line_bytes: 0, quote_open, ends_in_return, stop }
    }

    /// Why reading ended early.
    fn why(&mut self, file: &str, error: csv::Error) -> ReadError {
        let file = file.to_string();
        match self.stop.take() {
            Some(Stop::Line(line, fault)) => ReadError::Line { file, line, fault },
            Some(Stop::TooLarge) => ReadError::TooLarge { file, max: self.bytes_max },
            Some(Stop::Source(e)) => match e.kind() {
                ErrorKind::UnexpectedEof => ReadError::Gzip { file, what: "it ends too early".into() },
                ErrorKind::InvalidData | ErrorKind::InvalidInput => {
                    ReadError::Gzip { file, what: e.to_string() }
                }
                _ => ReadError::Io { file, source: e },
            },
            None => ReadError::Io { file, source: io::Error::other(error) },
        }
    }

    /// Walks over fresh bytes; gives how many of them may be handed on.
    fn pass(&mut self, bytes: &[u8]) -> usize {
        let mut line_start = 0;
        for (i, &byte) in bytes.iter().enumerate() {
            let fault = if byte == b'\n' {
                let content = self.line_bytes - usize::from(self.ends_in_return);
                if self.quote_open {
                    Some(LineFault::OpenQuote)
                } else {
                    (content == 0).then_some(LineFault::Blank)
                }
            } else {
                (self.line_bytes >= LINE_BYTES_MAX).then_some(LineFault::TooLong { max: LINE_BYTES_MAX })
            };
            if let Some(fault) = fault {
                self.stop = Some(Stop::Line(self.line, fault));
                return line_start;
            }
            if byte == b'\n' {
                let Some(line) = self.line.checked_add(1) else {
                    self.stop = Some(Stop::Line(self.line, LineFault::TooMany));
                    return line_start;
                };
                (self.line, self.line_bytes, self.ends_in_return) = (line, 0, false);
                line_start = i + 1;
            } else {
                self.line_bytes += 1;
                self.ends_in_return = byte == b'\r';
                self.quote_open ^= byte == b'"';
            }
        }
        bytes.len()
    }
}

impl<R: Read> Read for Gate<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let stopped = || io::Error::other("stopped at the gate");
        if self.stop.is_some() {
            return Err(stopped());
        }
        let count = match self.inner.read(buffer) {
            Ok(count) => count,
            Err(e) if e.kind() == ErrorKind::Interrupted => return Err(e),
            Err(e) => {
                self.stop = Some(Stop::Source(e));
                return Err(stopped());
            }
        };
        if count == 0 && self.quote_open {
            self.stop = Some(Stop::Line(self.line, LineFault::OpenQuote));
            return Err(stopped());
        }
        self.bytes += count as u64;
        if self.bytes > self.bytes_max {
            self.stop = Some(Stop::TooLarge);
            return Err(stopped());
        }
        self.hasher.update(&buffer[..count]);
        let passed = self.pass(&buffer[..count]);
        if passed == 0 && self.stop.is_some() { Err(stopped()) } else { Ok(passed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the gate hands on of a text that comes in pieces of this size, and why it stopped.
    fn passed(text: &[u8], piece: usize, bytes_max: u64) -> (Vec<u8>, Option<String>) {
        let mut gate = Gate::new(text, bytes_max);
        let (mut passed, mut buffer) = (Vec::new(), vec![0; piece]);
        loop {
            match gate.read(&mut buffer) {
                Ok(0) => return (passed, None),
                Ok(count) => passed.extend_from_slice(&buffer[..count]),
                Err(e) => return (passed, Some(gate.why("f", e.into()).to_string())),
            }
        }
    }

    #[test]
    fn whole_lines_pass_and_the_first_bad_one_stops_in_pieces_of_any_size() {
        let long = format!("a\n{}\nb\n", "x".repeat(LINE_BYTES_MAX + 1));
        let fits = format!("a\n{}\nb\n", "x".repeat(LINE_BYTES_MAX));
        for piece in [1, 2, 3, 7, 64, 5000, 70_000] {
            assert_eq!(passed(fits.as_bytes(), piece, 9999), (fits.clone().into_bytes(), None));
            for (text, good, why) in [
                (long.as_str(), "a\n", "f, line 2: longer than 4096 bytes"),
                ("a\n\nb\n", "a\n", "f, line 2: blank; expected a record"),
                ("a\r\n\r\nb\n", "a\r\n", "f, line 2: blank; expected a record"),
                ("a\nb\n\"c\nd\"\n", "a\nb\n", "f, line 3: a quotation mark is not closed on its line"),
                ("a\n\"b", "a\n", "f, line 2: a quotation mark is not closed on its line"),
            ] {
                let (passed, reason) = passed(text.as_bytes(), piece, 9999);
                assert_eq!(reason.as_deref(), Some(why), "pieces of {piece}");
                // Of the bad line a piece may have gone before it was known to be bad, never its end.
                assert!(passed.starts_with(good.as_bytes()), "pieces of {piece}");
                assert_eq!(passed[good.len()..].iter().filter(|b| **b == b'\n').count(), 0);
            }
        }
    }

    #[test]
    fn a_file_may_be_as_long_as_its_bound_and_no_longer() {
        assert_eq!(passed(b"ab\ncd\n", 4, 6), (b"ab\ncd\n".to_vec(), None));
        let (_, why) = passed(b"ab\ncd\n", 4, 5);
        assert_eq!(why.as_deref(), Some("f is more than 5 bytes when unpacked"));
    }
}
