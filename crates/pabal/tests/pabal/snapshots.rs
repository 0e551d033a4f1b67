//! Statements and balances that begin from a snapshot say what those say that decide the whole journal again.

use crate::cli::flip;
use crate::{pabal, text, walk};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// What one of the two commands says, without where it began; and where that was.
fn said(data: &Path, arguments: &[&str]) -> (Value, Value, String) {
    let (mut report, code, errors) = pabal(&[arguments, &["--data", &text(data)]].concat());
    assert_eq!(code, 0, "{arguments:?}: {errors}");
    let from = report.as_object_mut().and_then(|fields| fields.remove("from_snapshot"));
    (report, from.expect("it says where it began"), errors)
}

/// Makes a snapshot: its file, and its record.
fn snapshot(data: &Path) -> (PathBuf, Value) {
    let (made, code, errors) = pabal(&["snapshot", "--data", &text(data)]);
    assert_eq!((code, &made["made"]), (0, &true.into()), "{errors}{made}");
    (made["file"].as_str().expect("a file").into(), made["sequence"].clone())
}

/// Each question is answered as without any snapshot, from the one of this record.
pub fn is_the_same_from_a_snapshot(data: &Path, questions: &[Vec<&str>]) {
    let whole: Vec<_> = questions.iter().map(|asked| said(data, asked)).collect();
    let (_, sequence) = snapshot(data);
    for (asked, (was, from, _)) in questions.iter().zip(&whole) {
        assert_eq!(from, &Value::Null, "none was made yet");
        let (is, from, errors) = said(data, asked);
        assert_eq!((&is, &from, errors.as_str()), (was, &sequence, ""), "{asked:?}");
    }
}

/// A bank with a load on it; each call adds to it.
fn load(data: &Path, aside: &TempDir, requests: &str) {
    let file = |name| text(&aside.path().join(name));
    let status = Command::new(env!("CARGO_BIN_EXE_pabal"))
        .args(["drill", "load", "--requests", requests, "--data", &text(data)])
        .args(["--sent", &file("sent"), "--acked", &file("acked")])
        .stdout(Stdio::null())
        .status();
    assert!(status.expect("run").success());
}

const ACCOUNT: &str = "100000000";

#[test]
fn a_bad_snapshot_is_passed_over_for_an_older_one_and_that_is_said() {
    let (data, aside) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let data = data.path();
    load(data, &aside, "200");
    is_the_same_from_a_snapshot(data, &[vec!["statement", ACCOUNT], vec!["balance", ACCOUNT]]);
    let first = said(data, &["balance", ACCOUNT]).1;
    load(data, &aside, "200");
    let questions = [vec!["statement", ACCOUNT], vec!["balance", ACCOUNT], vec!["balance", "100000007"]];
    let answers: Vec<_> = questions.iter().map(|asked| said(data, asked)).collect();
    assert!(answers.iter().all(|(_, from, errors)| from == &first && errors.is_empty()));
    let (file, second) = snapshot(data);
    assert!(second.as_u64() > first.as_u64());
    let again = |from: &Value, told: bool| {
        for (asked, (was, ..)) in questions.iter().zip(&answers) {
            let (is, its, errors) = said(data, asked);
            assert_eq!((&is, &its), (was, from), "{asked:?}");
            let named = errors.contains(&format!("snapshot {} is passed over", file.display()));
            assert_eq!(named, told, "{errors}");
        }
    };
    again(&second, false);
    flip(&file, 4096 + 100);
    again(&first, true);
    // With none left that is good, the whole journal.
    for other in walk(&data.join("snapshots")).iter().filter(|other| **other != file) {
        flip(other, 4096 + 100);
    }
    again(&Value::Null, true);
}

/// It is not only said: what lies before the snapshot is not read, and what comes after it is.
#[test]
fn rot_before_the_snapshot_is_left_to_verify_and_rot_after_it_is_found() {
    let (data, aside) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let data = data.path();
    load(data, &aside, "200");
    let was = said(data, &["balance", ACCOUNT]).0;
    snapshot(data);
    let segment = crate::segment_of(data, 0);
    let place = 30 * 4096 + 1000;
    flip(&segment, place);
    assert_eq!(said(data, &["balance", ACCOUNT]).0, was);
    let (report, code, _) = pabal(&["verify", "--data", &text(data)]);
    assert_eq!(code, 1, "{report}");
    flip(&segment, place);
    let blocks = |bytes: &[u8]| bytes.chunks(4096).take_while(|block| block.iter().any(|b| *b != 0)).count();
    let before = blocks(&std::fs::read(&segment).expect("read"));
    load(data, &aside, "20");
    flip(&segment, (before as u64 + 5) * 4096 + 1000);
    for asked in ["balance", "statement"] {
        let (out, code, errors) = pabal(&[asked, ACCOUNT, "--data", &text(data)]);
        assert_eq!((out, code), (Value::Null, 1), "{errors}");
    }
}
