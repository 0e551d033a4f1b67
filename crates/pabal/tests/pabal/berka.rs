//! The real bank's books, through the real binary.

use crate::{pabal, walk};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn books() -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/berka");
    if dir.is_dir() {
        return Some(dir);
    }
    println!("skipped: {} is not there", dir.display());
    None
}

fn import(dir: &Path, data: &Path) -> (Value, i32, String) {
    let (dir, data) = (dir.display().to_string(), data.display().to_string());
    pabal(&["import", "berka", &dir, "--data", &data])
}

/// The rows of both transaction files: account, date, seq, balance in hellers.
fn printed(dir: &Path) -> BTreeMap<u64, Vec<(String, u64, i64)>> {
    let mut rows: BTreeMap<u64, Vec<_>> = BTreeMap::new();
    for name in ["trans_bank_1993_94.csv.gz", "trans_loan_accounts_1995_98.csv.gz"] {
        let mut text = String::new();
        let file = std::fs::File::open(dir.join(name)).expect("a file");
        flate2::read::GzDecoder::new(file).read_to_string(&mut text).expect("text");
        for line in text.lines().skip(1) {
            let f: Vec<_> = line.split(',').collect();
            let balance = f[7].replace('.', "").parse().expect("two decimals");
            let row = (f[2].to_string(), f[3].parse().expect("a number"), balance);
            rows.entry(f[1].parse().expect("a number")).or_default().push(row);
        }
    }
    rows.values_mut().for_each(|rows| rows.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1))));
    rows
}

#[test]
fn every_printed_balance_is_matched_and_can_be_read_again() {
    let Some(dir) = books() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("d");
    let (first, code, errors) = import(&dir, &data);
    assert_eq!(code, 0, "{errors}");
    assert_eq!(first["rows_mismatched"], 0);
    assert_eq!(first["rows"], first["rows_matched"]);
    assert_eq!(first["already"], false);
    let size = |p: &Path| walk(p).iter().map(|f| std::fs::read(f).expect("read")).collect::<Vec<_>>();
    let before = size(&data);
    let (second, code, _) = import(&dir, &data);
    assert_eq!(code, 0);
    assert_eq!(second["already"], true);
    for field in ["accounts", "clients", "orders", "rows", "rows_matched", "histories_matched", "postings"] {
        assert_eq!(first[field], second[field], "{field}");
    }
    assert!(before == size(&data), "the second import appended something");
    let text = data.display().to_string();
    let (verified, code, _) = pabal(&["verify", "--data", &text]);
    assert_eq!((code, &verified["chain"]), (0, &Value::from("ok")));
    assert_eq!(verified["postings"], first["postings"]);

    let rows = printed(&dir);
    for (account, rows) in rows.iter().step_by(rows.len() / 12) {
        let number = account.to_string();
        let (date, _, _) = &rows[rows.len() / 3];
        let wanted = rows.iter().rfind(|r| r.0 == *date).expect("that day's last row").2;
        let (balance, code, _) = pabal(&["balance", &number, "--data", &text, "--as-of", date]);
        assert_eq!((code, balance["balance"].as_i64()), (0, Some(wanted)), "account {account} as of {date}");
        let (statement, code, _) = pabal(&["statement", &number, "--data", &text]);
        assert_eq!(code, 0);
        let entries = statement["entries"].as_array().expect("entries");
        let last = entries.last().expect("an entry");
        assert_eq!(last["balance"].as_i64(), rows.last().map(|r| r.2), "account {account}");
        let of_day = entries.iter().rfind(|e| e["date"] == date.as_str()).expect("that day");
        assert_eq!(of_day["balance"].as_i64(), Some(wanted));
        let arguments = ["statement", &number, "--data", &text, "--from", date, "--to", date];
        let (day, _, _) = pabal(&arguments);
        let some = day["entries"].as_array().expect("entries");
        assert!(!some.is_empty() && some.iter().all(|e| e["date"] == date.as_str()));
    }
    let numbers: Vec<String> = rows.keys().step_by(rows.len() / 3).map(u64::to_string).collect();
    let asked = |number| {
        let as_of = vec!["balance", number, "--as-of", "1994-06-30"];
        [vec!["statement", number, "--last", "9"], vec!["statement", number], vec!["balance", number], as_of]
    };
    let questions: Vec<_> = numbers.iter().flat_map(|number| asked(number.as_str())).collect();
    crate::snapshots::is_the_same_from_a_snapshot(&data, &questions);
}

#[test]
fn a_killed_import_goes_on_where_it_stopped() {
    let Some(dir) = books() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("d");
    for bytes in [1u64, 400_000, 3_000_000] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_pabal"))
            .args(["import", "berka"])
            .arg(&dir)
            .arg("--data")
            .arg(&data)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("run");
        // Killed once so much of the first segment is written, or as it ends.
        let segment = data.join("journal/000000000000.seg");
        let written = |at: u64| {
            use std::os::unix::fs::FileExt;
            let mut block = [0; 4096];
            std::fs::File::open(&segment).is_ok_and(|f| {
                f.read_exact_at(&mut block, at / 4096 * 4096).is_ok() && block.iter().any(|b| *b != 0)
            })
        };
        while !written(bytes) && child.try_wait().expect("a child").is_none() {
            std::thread::yield_now();
        }
        child.kill().expect("killed");
        child.wait().expect("ended");
    }
    let (report, code, errors) = import(&dir, &data);
    assert_eq!(code, 0, "{errors}");
    assert_eq!(report["rows_mismatched"], 0);
    assert_eq!(report["rows"], report["rows_matched"]);
}

#[test]
fn wrong_files_are_named_by_line_and_column_and_nothing_is_imported() {
    let Some(dir) = books() else { return };
    let cases: &[(&str, &str, &str, &str)] = &[
        (
            "account",
            "576,55,POPLATEK MESICNE,1993-01-01",
            "576,55,POPLATEK ROCNE,1993-01-01",
            "line 2, column frequency",
        ),
        ("account", "576,55,", "576,5500,", "line 2, column district_id"),
        ("disp", "2,2,2,OWNER", "2,2,2,OWNER,x", "line 3: 5 fields; expected 4"),
        ("loan", "1993-07-05", "1993-02-30", "line 2, column date"),
        ("order", "2452.00", "2452.005", "line 2, column amount"),
        ("client", "450204", "451304", "line 3, column birth_number"),
        ("trans_bank_1993_94", "PRIJEM,VKLAD", "PRIJEM,VYBER", "line 2, column operation"),
        ("trans_bank_1993_94", "900.00,900.00", "-900.00,900.00", "line 2, column amount"),
        ("trans_bank_1993_94", "trans_id,account_id", "trans,account_id", "line 1, column trans_id"),
        ("trans_bank_1993_94", "207264,704", "171812,704", "line 3, column trans_id"),
        ("account", "1993-01-01", "2149-06-07", "line 2, column date"),
        // The first two rows are cash paid in: each fits, the bank's own cash has no room for both.
        (
            "trans_bank_1993_94",
            "900.00,900.00,,,,0.00\n207264,704,1993-01-01,1,PRIJEM,VKLAD,1000.00",
            "50000000000000000.00,900.00,,,,0.00\n207264,704,1993-01-01,1,PRIJEM,VKLAD,50000000000000000.00",
            "line 3, column amount: \"50000000000000000.00\" takes the balance of the bank's own cash",
        ),
        ("card", "", "", "card.csv.gz"),
    ];
    for (file, from, to, wanted) in cases {
        let folder = tempfile::tempdir().expect("a folder");
        let (copy, data) = (folder.path().join("in"), folder.path().join("d"));
        std::fs::create_dir(&copy).expect("a folder");
        for path in walk(&dir).into_iter().filter(|p| p.extension().is_some_and(|e| e == "gz")) {
            std::fs::copy(&path, copy.join(path.file_name().expect("a name"))).expect("copied");
        }
        let path = copy.join(format!("{file}.csv.gz"));
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .expect("writable");
        if from.is_empty() {
            std::fs::remove_file(&path).expect("removed");
        } else {
            let mut text = String::new();
            flate2::read::GzDecoder::new(std::fs::File::open(&path).expect("a file"))
                .read_to_string(&mut text)
                .expect("text");
            assert!(text.contains(from), "{file} has no {from:?}");
            let out = std::fs::File::create(&path).expect("a file");
            let mut out = flate2::write::GzEncoder::new(out, flate2::Compression::fast());
            std::io::Write::write_all(&mut out, text.replacen(from, to, 1).as_bytes()).expect("written");
            out.finish().expect("written");
        }
        let (_, code, errors) = import(&copy, &data);
        assert_eq!(code, 2, "{file}: {from} → {to}");
        assert!(errors.contains(wanted) && errors.contains(file), "{errors}");
        assert!(!data.exists(), "something was imported");
    }
}
