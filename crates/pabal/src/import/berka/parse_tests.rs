//! Good books are read to the last heller; bad ones are refused with the very words that are expected.

use super::super::tables::{CodeWord, Date, Record, Side, Symbol};
use super::*;
use cases::REFUSED;
use flate2::{Compression, write::GzEncoder};
use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use tempfile::TempDir;

#[path = "parse_cases.rs"]
mod cases;

/// Tiny books: two districts, accounts and clients, and rows of each kind.
const SAMPLE: &[(&str, &str)] = &[
    (
        "district",
        "A1,A2,A3,A4,A5,A6,A7,A8,A9,A10,A11,A12,A13,A14,A15,A16\n\
         1,Praha,Prague,1204953,0,0,0,1,1,100.0,12541,0.29,0.43,167,85677,99107\n\
         2,Jesenik,north Moravia,42821,4,13,5,1,3,48.4,8173,?,7.01,124,?,1358\n",
    ),
    ("client", "client_id,birth_number,district_id\n11,706213,1\n12,450204,2\n"),
    (
        "account",
        "account_id,district_id,frequency,date\n\
         21,1,POPLATEK MESICNE,1993-01-01\n22,2,POPLATEK TYDNE,1993-01-02\n",
    ),
    ("disp", "disp_id,client_id,account_id,type\n31,11,21,OWNER\n32,12,22,DISPONENT\n"),
    ("card", "card_id,disp_id,type,issued\n41,31,gold,1993-11-07\n"),
    (
        "loan",
        "loan_id,account_id,date,amount,duration,payments,status\n51,21,1993-07-05,96396,12,8033.00,B\n",
    ),
    (
        "order",
        "order_id,account_id,bank_to,account_to,amount,k_symbol\n\
         61,21,YZ,87144583,2452.00,SIPO\n62,22,AB,7,10.5, \n",
    ),
    (
        "trans_bank_x",
        "trans_id,account_id,date,seq,type,operation,amount,balance,k_symbol,bank,account,resid\n\
         71,21,1993-01-01,1,PRIJEM,VKLAD,900.00,900.00,,,,0.00\n\
         72,22,1993-01-02,1,PRIJEM,PREVOD Z UCTU,50.00,50.00,DUCHOD,AB,123,0.00\n\
         73,21,1993-01-31,2,PRIJEM,,3.10,903.00,UROK,,,-0.10\n\
         74,21,1993-01-31,3,VYDAJ,VYBER,14.60,888.40,SLUZBY,,,0.00\n",
    ),
    (
        "trans_loan_y",
        "trans_id,account_id,date,seq,type,operation,amount,balance,k_symbol,bank,account,resid\n\
         75,22,1993-01-01,1,VYBER,VYBER,60.00,-60.00,,,0,0.00\n",
    ),
];

#[test]
fn the_sample_is_read() {
    let folder = written(|_, text| text);
    let mut said = Vec::new();
    let books = read(folder.path(), &mut |done, all| said.push((done, all))).unwrap();
    assert_eq!(said.len(), 9);
    assert!(said.is_sorted() && said[0].0 > 0 && said[8].0 == said[8].1, "{said:?}");
    assert_eq!(books.files[7].records, 4);
    assert_eq!(books.rows.iter().map(|r| r.trans_id).collect::<Vec<_>>(), [71, 75, 72, 73, 74]);
    let row = &books.rows[3];
    assert_eq!((row.amount, row.balance, row.residual, row.date.days()), (310, 90_300, -10, 8431));
    let file = books.files[usize::from(row.file)].name.as_str();
    assert_eq!((row.side, row.symbol, file, row.line), INTEREST);
    assert_eq!(books.rows[1].balance, -6000);
    assert_eq!(books.rows[2].bank.unwrap().as_str(), "AB");
    assert_eq!(books.districts[1].unemployment, [None, Some(701)]);
    assert_eq!((books.districts[1].crimes_1995, books.districts[0].urban_share), (None, 10_000));
    assert_eq!((books.orders[1].symbol, books.orders[1].amount), (Symbol::None, 1050));
    assert_eq!(books.orders[1].record_bytes(), b"62,22,AB,7,10.5, ");
    assert_eq!(books.loans[0].key(), 51);
}

const INTEREST: (Side, Symbol, &str, u32) = (Side::Credit, Symbol::Interest, "trans_bank_x.csv.gz", 4);

#[test]
fn bad_books_are_refused_in_these_words() {
    for (file, from, to, expected) in REFUSED {
        let to = to.replace("LONG", &"x".repeat(5000)).replace("WIDE", &"x".repeat(502));
        let folder = written(|name, text| {
            if name != *file {
                return text;
            }
            assert!(text.contains(from), "{file}: no {from:?} in the sample");
            text.replacen(from, &to, 1)
        });
        assert_eq!(refusal(&folder), *expected, "{file}: {from:?} became {to:?}");
    }
}

#[test]
fn the_first_bad_line_is_reported_though_a_later_one_cannot_be_read_at_all() {
    let folder = written(|name, text| match name {
        "client" => text.replace("706213", "x") + "\n" + &"y".repeat(5000),
        _ => text,
    });
    assert!(refusal(&folder).starts_with("client.csv.gz, line 2, column birth_number"));
}

#[test]
fn line_ends_of_two_bytes_quotation_marks_and_split_gzip_are_read_as_well() {
    let plain = read(written(|_, text| text).path(), &mut |_, _| {}).unwrap();
    let folder = written(|_, text| text.replace("\n", "\r\n").replace("Praha", "\"Praha, \"\"hl.\"\"\""));
    let crlf = read(folder.path(), &mut |_, _| {}).unwrap();
    assert_eq!((&plain.rows, &plain.loans), (&crlf.rows, &crlf.loans));
    assert_ne!(plain.digest, crlf.digest);
    assert!(crlf.districts[0].record_bytes().starts_with(b"1,\"Praha, \"\"hl.\"\"\",Prague,"));
    let folder = written(|_, text| text);
    let halves = SAMPLE[1].1.split_at(40);
    let members = [packed(halves.0.as_bytes()), packed(halves.1.as_bytes())].concat();
    fs::write(folder.path().join("client.csv.gz"), members).unwrap();
    assert_eq!(read(folder.path(), &mut |_, _| {}).unwrap().digest, plain.digest);
}

#[test]
fn damaged_files_are_named() {
    type Damage = fn(Vec<u8>) -> Vec<u8>;
    let cases: &[(Damage, &str)] = &[
        (|b| b[..b.len() - 4].to_vec(), "client.csv.gz is not a whole gzip file: it ends too early"),
        (|b| b[..25].to_vec(), "client.csv.gz is not a whole gzip file: it ends too early"),
        (|_| Vec::new(), "client.csv.gz is not a whole gzip file: it ends too early"),
        (|_| b"client_id,birth".to_vec(), "client.csv.gz is not a whole gzip file: invalid gzip header"),
        (|b| [b, vec![7; 20]].concat(), "client.csv.gz is not a whole gzip file: invalid gzip header"),
        (
            |mut b| {
                let crc = b.len() - 8;
                b[crc] ^= 1;
                b
            },
            "client.csv.gz is not a whole gzip file: corrupt gzip stream does not have a matching checksum",
        ),
        (
            |_| packed(b"client_id,birth_number,district_id\n\xff1,706213,1\n"),
            "client.csv.gz, line 2, column client_id: \"\u{fffd}1\" is not UTF-8",
        ),
    ];
    for (damage, expected) in cases {
        let folder = written(|_, text| text);
        let path = folder.path().join("client.csv.gz");
        fs::write(&path, damage(fs::read(&path).unwrap())).unwrap();
        assert_eq!(refusal(&folder), *expected);
    }
}

#[test]
fn missing_and_surplus_files_are_named() {
    for (name, _) in SAMPLE {
        let folder = written(|_, text| text);
        fs::remove_file(folder.path().join(format!("{name}.csv.gz"))).unwrap();
        let shown = name.replace("_x", "*").replace("_y", "*");
        assert_eq!(refusal(&folder), format!("{shown}.csv.gz is missing in {}", folder.path().display()));
    }
    let folder = written(|_, text| text);
    let copy = |to: &str| fs::copy(folder.path().join("card.csv.gz"), folder.path().join(to)).unwrap();
    copy("trans_card.csv.gz");
    let expected =
        "trans_card.csv.gz is not expected; transaction files are trans_bank*.csv.gz and trans_loan*.csv.gz";
    assert_eq!(refusal(&folder), expected);
    copy("trans_bank.csv.gz");
    let expected =
        "trans_bank.csv.gz and trans_bank_x.csv.gz both match trans_bank*.csv.gz; expected one such file";
    assert_eq!(refusal(&folder), expected);
}

#[test]
fn days_are_counted_from_1970() {
    for ((year, month, day), days) in [
        ((1970, 1, 1), 0),
        ((1969, 12, 31), -1),
        ((2000, 2, 29), 11016),
        ((2000, 3, 1), 11017),
        ((1, 1, 1), -719_162),
    ] {
        assert_eq!(Date::new(year, month, day).unwrap().days(), days);
    }
    assert!(Date::new(1900, 2, 29).is_none() && Date::new(1993, 13, 1).is_none());
}

#[test]
fn the_real_books_are_read() {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/berka");
    if !dir.is_dir() {
        println!("skipped: no {}", dir.display());
        return;
    }
    let books = read(&dir, &mut |_, _| {}).unwrap();
    let counts = [
        books.accounts.len(),
        books.clients.len(),
        books.dispositions.len(),
        books.orders.len(),
        books.loans.len(),
        books.cards.len(),
        books.districts.len(),
        books.rows.len(),
    ];
    assert_eq!(counts, [3602, 4307, 4307, 5204, 542, 710, 77, 61_586]);
    assert_eq!(books.digest, read(&dir, &mut |_, _| {}).unwrap().digest);
    // Every row gives the very line it was read from.
    let mut rows: Vec<&Row> = books.rows.iter().collect();
    rows.sort_by_key(|row| (row.file, row.line));
    for (number, file) in books.files.iter().enumerate().skip(7) {
        let mut text = String::new();
        let packed = fs::File::open(dir.join(&file.name)).unwrap();
        flate2::read::GzDecoder::new(packed).read_to_string(&mut text).unwrap();
        let of_file = rows.iter().filter(|row| usize::from(row.file) == number);
        for (i, (row, line)) in of_file.zip(text.lines().skip(1)).enumerate() {
            assert_eq!(String::from_utf8(row.record_bytes()).unwrap(), line);
            assert_eq!(row.line as usize, i + 2);
        }
    }
    assert!(books.rows.iter().all(|row| (row.side == Side::Credit) == (row.kind_in.text() == "PRIJEM")));
}

fn written(change: impl Fn(&str, String) -> String) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, text) in SAMPLE {
        let text = change(name, (*text).to_string());
        fs::write(folder.path().join(format!("{name}.csv.gz")), packed(text.as_bytes())).unwrap();
    }
    folder
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn refusal(folder: &TempDir) -> String {
    read(folder.path(), &mut |_, _| {}).unwrap_err().to_string()
}
