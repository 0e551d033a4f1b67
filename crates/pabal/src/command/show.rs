//! How reports are printed: as one JSON object, or as text for people.

use anyhow::Context as _;
use iso_currency::Currency;
use pabal_bank::ledger::account::UNLIMITED;
use serde_json::Value;
use std::io::{ErrorKind, Write};

/// Prints a report on standard output: as JSON, or as `text` makes it.
pub fn report(report: &Value, json: bool, text: impl FnOnce(&Value) -> String) -> anyhow::Result<()> {
    let said = if json { format!("{report}\n") } else { text(report) };
    let mut out = std::io::stdout().lock();
    match out.write_all(said.as_bytes()).and_then(|()| out.flush()) {
        // Nobody listens any more, as with `| head`: no reason to fail.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("standard output"),
    }
}

/// A number with its thousands apart.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Money as its own currency writes it.
fn money(minor: i64, code: &str) -> String {
    let decimals = Currency::from_code(code).and_then(Currency::exponent).unwrap_or(0);
    let (sign, digits) = (if minor < 0 { "-" } else { "" }, minor.unsigned_abs());
    let unit = 10u64.pow(decimals as u32);
    let whole = grouped(digits / unit);
    if decimals == 0 {
        return format!("{sign}{whole}");
    }
    format!("{sign}{whole}.{:0width$}", digits % unit, width = decimals as usize)
}

/// A value as people read it; nothing for what is unknown or empty.
fn value(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Bool(yes) => Some(if *yes { "yes" } else { "no" }.to_string()),
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(match (number.as_u64(), number.as_f64()) {
            (Some(whole), _) => grouped(whole),
            (None, Some(parts)) => ((parts * 1000.0).round() / 1000.0).to_string(),
            (None, None) => number.to_string(),
        }),
        other => Some(other.to_string()),
    }
}

/// Lines of a name and what it is, those that are known; numbers end in one column.
fn lines(pairs: &[(&str, Option<String>)]) -> String {
    let known: Vec<_> = pairs.iter().filter_map(|(name, is)| Some((*name, is.as_ref()?))).collect();
    let names = known.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let is_number = |is: &str| is.starts_with(|c: char| c.is_ascii_digit() || c == '-') && is.len() < 25;
    let numbers = known.iter().filter(|(_, is)| is_number(is)).map(|(_, is)| is.len()).max().unwrap_or(0);
    let line = |(name, is): &(&str, &String)| {
        let width = if is_number(is) { numbers } else { 0 };
        format!(" {name:names$}   {is:>width$}\n")
    };
    known.iter().map(line).collect()
}

/// Any report: its fields, those within fields and lists too, by name.
pub fn fields(report: &Value) -> String {
    fn collect(report: &Value, before: &str, into: &mut Vec<(String, Option<String>)>) {
        for (name, field) in report.as_object().into_iter().flatten() {
            let name = format!("{before}{}", name.replace('_', " "));
            match field {
                Value::Object(_) => collect(field, &format!("{name} "), into),
                Value::Array(list) => list
                    .iter()
                    .enumerate()
                    .for_each(|(i, one)| collect(one, &format!("{name} {} ", i + 1), into)),
                _ => into.push((name, value(field))),
            }
        }
    }
    let mut found = Vec::new();
    collect(report, "", &mut found);
    lines(&found.iter().map(|(name, is)| (name.as_str(), is.clone())).collect::<Vec<_>>())
}

/// The report of crash enumeration: its fields, and then each failure.
pub fn crashes(report: &Value) -> String {
    let failures = report["failures"].as_array().into_iter().flatten().filter_map(Value::as_str);
    failures.fold(fields(report), |text, failure| text + "\n" + failure)
}

/// The report of the simulator: the story of a seed that failed, what was wrong and how to see it again, the sums.
pub fn simulated(report: &Value) -> String {
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(String::from).collect()
    };
    let mut said = texts(&report["story"]);
    for failed in report["failed"].as_array().into_iter().flatten() {
        let text = |field: &str| failed[field].as_str().unwrap_or_default();
        let seed = failed["seed"].as_u64().map(|seed| format!("seed {seed}, step {}: ", failed["tick"]));
        said.push(format!("{}{}: {}", seed.unwrap_or_default(), text("check"), text("what")));
        if let Some(replay) = failed["replay"].as_str() {
            said.push(format!("    {replay}"));
        }
    }
    // The list of them all is in the JSON: here those that were reached least.
    let mut points: Vec<(&String, u64)> = report["points"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(n, c)| (n, c.as_u64().unwrap_or(0)))
        .collect();
    points.sort_by_key(|(_, count)| *count);
    said.extend(points.iter().take(5).map(|(name, count)| format!("reached {count:>3} times: {name}")));
    let names = [
        "seeds",
        "ticks",
        "crashes",
        "refused",
        "decided",
        "states",
        "attacks",
        "failpoints",
        "trace",
        "failures",
        "seconds",
    ];
    let sums: Vec<_> = names.into_iter().map(|name| (name, value(&report[name]))).collect();
    said.push(lines(&sums));
    said.join("\n")
}

/// The report of `verify`: the last line says it all.
pub fn verified(report: &Value) -> String {
    let yes = |field: &str, yes: &str, no: &str| {
        report[field].as_bool().map(|is| if is { yes } else { no }.to_string())
    };
    let torn = report["torn_tail"]["blocks"].as_u64().map(|blocks| {
        let sequence = report["torn_tail"]["sequence"].as_u64().unwrap_or(0);
        format!(
            "record {}, {} blocks; never acknowledged, the next start cuts it",
            grouped(sequence),
            grouped(blocks)
        )
    });
    let chain = if report["chain"] == "ok" { "ok" } else { "broken" };
    let up_to = report["up_to_record"].as_u64().filter(|_| !report["wrong"].is_null());
    let mut said = lines(&[
        ("records", value(&report["records"])),
        ("postings", value(&report["postings"])),
        ("accounts", value(&report["accounts"])),
        ("chain", Some(chain.to_string())),
        ("outcomes", yes("outcomes_match", "the same when decided again", "others when decided again")),
        ("debits", yes("debits_equal_credits", "equal credits", "do not equal credits")),
        ("digest", value(&report["digest"])),
        ("right up to", up_to.map(|record| format!("record {}", grouped(record)))),
        ("torn", torn),
        ("last stop", yes("orderly_stop", "in order", "not in order").filter(|_| running(report).is_none())),
        ("seconds", value(&report["seconds"])),
    ]);
    said += &running(report).unwrap_or_default();
    match report["wrong"].as_str() {
        None => said + "good\n",
        Some(wrong) => format!("{said}WRONG: {wrong}\n"),
    }
}

/// What is said of a bank that is running while its journal is read.
fn running(report: &Value) -> Option<String> {
    let record = report["up_to_record"].as_u64()?;
    let record = grouped(record);
    (report["being_written"] == true)
        .then(|| format!("The bank is running; read up to record {record}, the last one confirmed.\n"))
}

/// A balance, in the account's own currency.
pub fn balance(report: &Value) -> String {
    let text = |field: &str| report[field].as_str().unwrap_or("").to_string();
    let (code, as_of, opened, today) =
        (text("currency"), text("as_of"), text("opened"), text("business_date"));
    let amount = |field: &str| Some(money(report[field].as_i64().unwrap_or(0), &code));
    let unlimited = report["available"] == UNLIMITED;
    let mut said = format!("Account {} ({code}) as of {as_of}\n", report["account"]);
    said += &lines(&[
        ("balance", amount("balance")),
        ("held", amount("held")),
        ("available", if unlimited { Some("no limit".to_string()) } else { amount("available") }),
    ]);
    // Dates written this way are in order as text.
    if as_of < opened {
        said += &format!("It was opened later, on {opened}.\n");
    } else if as_of > today {
        said += &format!("The business date is {today}: what comes after it is not known.\n");
    }
    said + &running(report).unwrap_or_default()
}

/// A statement as a table, money in the account's own currency.
pub fn statement(report: &Value) -> String {
    use comfy_table::{CellAlignment, Table, presets};
    let code = report["currency"].as_str().unwrap_or("");
    let mut said = format!("Account {} ({code})\n", report["account"]);
    let entries = report["entries"].as_array().map_or(&[][..], Vec::as_slice);
    if entries.is_empty() {
        said += "No entries.\n";
    } else {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        table.set_header(["date", "kind", "amount", "balance", "position"]);
        for entry in entries {
            let money = |name: &str| money(entry[name].as_i64().unwrap_or(0), code);
            table.add_row([
                entry["date"].as_str().unwrap_or("").to_string(),
                entry["kind"].as_str().unwrap_or("").replace('_', " "),
                money("amount"),
                money("balance"),
                entry["position"].to_string(),
            ]);
        }
        for column in 2..5 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        for line in table.lines() {
            said += line.trim_end();
            said.push('\n');
        }
    }
    said + &running(report).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_seed_that_failed_is_told_with_the_command_that_repeats_it() {
        let failed = json!([{
            "seed": 7, "tick": 12, "check": "acknowledged and lost", "what": "5 were shown, 4 are there",
            "replay": "cargo xtask simulate --seed 7",
        }]);
        let points = json!({ "seldom": 1, "often": 100 });
        let report = json!({ "seeds": 10, "failed": failed, "points": points, "failures": 1 });
        let said: Vec<String> = simulated(&report).lines().map(String::from).collect();
        assert_eq!(said[0], "seed 7, step 12: acknowledged and lost: 5 were shown, 4 are there");
        assert_eq!(said[1], "    cargo xtask simulate --seed 7");
        assert_eq!(said[2], "reached   1 times: seldom");
    }

    #[test]
    fn a_report_has_a_line_for_each_field_however_deep() {
        let report = json!({
            "runs": 2,
            "batch_ms": { "p50": 1.5 },
            "each_run": [{ "transfers_per_second": 1234567 }, { "transfers_per_second": 7 }],
            "unknown": null,
        });
        // In the order of their names, as JSON objects are here.
        let expected = [
            " batch ms p50                           1.5",
            " each run 1 transfers per second   1,234,567",
            " each run 2 transfers per second           7",
            " runs                                    2",
        ];
        let said = fields(&report);
        let mut lines: Vec<&str> = said.lines().collect();
        lines.sort_unstable();
        let words = |line: &str| line.split_whitespace().map(str::to_string).collect::<Vec<_>>();
        let expected: Vec<_> = expected.iter().map(|line| words(line)).collect();
        assert_eq!(lines.iter().map(|line| words(line)).collect::<Vec<_>>(), expected);
        assert!(lines.iter().all(|line| line.len() == lines[0].len()), "numbers end in one column: {said}");
    }
}
