//! The transfers that `pabal bench ledger` makes, made by PostgreSQL: a row per transfer with both balances after it.
//!
//! A batch is one statement and one transaction, sent as four arrays. Nothing is decided by the client: the statement
//! adds up what each account goes through within the batch, in the batch's order, updates each account once, and
//! writes the rows. A duplicate id, an account that is not there or a balance below zero fails the batch whole (the
//! bank refuses the one transfer and makes the others). [`TRANSFER`] is the fastest of the forms that were tried;
//! `docs/performance.md` names the others.

use anyhow::{Context as _, ensure};
use postgres::types::private::BytesMut;
use postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use postgres::{Client, Statement};
use serde_json::{Map, Value, json};
use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::cluster::{Cluster, TUNING};
use super::plots::{at_share, percentiles};
use super::{Interrupted, median};

/// What every account begins with: as much as no run can move.
const OPENING_BALANCE: i64 = 1 << 50;

/// The tables. Pages of accounts are half empty, so that a changed row finds room on its page and no index changes.
const TABLES: &str = "\
DROP TABLE IF EXISTS transfers, accounts;
CREATE TABLE accounts (
    id bigint PRIMARY KEY,
    balance bigint NOT NULL CHECK (balance >= 0)
) WITH (fillfactor = 50);
CREATE TABLE transfers (
    id uuid PRIMARY KEY,
    debit bigint NOT NULL,
    credit bigint NOT NULL,
    amount bigint NOT NULL CHECK (amount > 0),
    debit_balance_after bigint NOT NULL CHECK (debit_balance_after >= 0),
    credit_balance_after bigint NOT NULL
);";

/// One batch: ids, debit accounts, credit accounts, amounts.
///
/// Each transfer is two legs; a leg's balance is what its account had before the batch and all the batch's legs so far.
/// Accounts are changed in their order: at a million of them that takes a third off. (`int4` since its sums are
/// `bigint`, while those of `bigint` are `numeric`, which is slow.)
const TRANSFER: &str = "\
WITH batch AS MATERIALIZED (
    SELECT * FROM unnest($1, $2, $3, $4) WITH ORDINALITY AS b (id, debit, credit, amount, n)
), leg AS MATERIALIZED (
    SELECT n, account, change,
           sum(change) OVER (PARTITION BY account ORDER BY n ROWS UNBOUNDED PRECEDING) AS so_far
    FROM (SELECT n, debit AS account, (-amount)::int4 AS change FROM batch
          UNION ALL
          SELECT n, credit, amount::int4 FROM batch) AS both_legs
), moved AS (
    UPDATE accounts SET balance = balance + whole.change
    FROM (SELECT account, sum(change) AS change FROM leg GROUP BY account ORDER BY account) AS whole
    WHERE id = account
    RETURNING id, balance - whole.change AS before
), after AS (
    SELECT n, max(before + so_far) FILTER (WHERE change < 0) AS debit,
              max(before + so_far) FILTER (WHERE change > 0) AS credit
    FROM leg JOIN moved ON moved.id = account
    GROUP BY n
)
INSERT INTO transfers
SELECT batch.id, batch.debit, batch.credit, batch.amount, after.debit, after.credit
FROM batch JOIN after USING (n)";

/// With several clients, whoever changes the accounts is alone until he has committed: batches touch the same
/// accounts in different orders, and would otherwise wait for one another in a circle.
const ALONE: &str = "SELECT pg_advisory_xact_lock(1)";

/// What to do.
#[derive(Clone, Copy)]
pub struct Load {
    pub accounts: u64,
    pub transfers: u64,
    pub batch: usize,
    pub clients: usize,
}

/// What one run gave.
pub struct Run {
    pub seconds: f64,
    pub batches: Vec<Batched>,
}

/// A batch that was made.
pub struct Batched {
    /// Seconds from the beginning of the run.
    ended: f64,
    took_ms: f64,
    transfers: u64,
}

impl Run {
    pub fn per_second(&self, load: Load) -> f64 {
        load.transfers as f64 / self.seconds
    }
}

/// Medians of the runs; the samples are those of the median run.
pub fn report(version: &str, load: Load, mut runs: Vec<Run>) -> Value {
    let each: Vec<Value> = runs
        .iter()
        .map(|run| json!({ "transfers_per_second": run.per_second(load).round() as u64 }))
        .collect();
    runs.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    let thousandths = |value: f64| (value * 1000.0).round() / 1000.0;
    let batch_ms = |share: f64| {
        let of_run = |run: &Run| {
            let mut taken: Vec<f64> = run.batches.iter().map(|batch| batch.took_ms).collect();
            taken.sort_by(f64::total_cmp);
            at_share(&taken, share)
        };
        thousandths(median(runs.iter().map(of_run).collect()))
    };
    let rate = median(runs.iter().map(|run| run.per_second(load)).collect());
    let middle = &runs[(runs.len() - 1) / 2];
    let tuning: Map<String, Value> =
        TUNING.iter().map(|(name, value, _)| ((*name).to_string(), json!(value))).collect();
    json!({
        "version": version,
        "accounts": load.accounts,
        "transfers": load.transfers,
        "batch": load.batch,
        "clients": load.clients,
        "transfers_per_second": rate.round() as u64,
        "batch_ms": { "p50": batch_ms(0.5), "p99": batch_ms(0.99), "max": batch_ms(1.0) },
        "each_run": each,
        "tuning": tuning,
        "throughput_samples": a_second(&middle.batches),
        "latency_quantiles_ms": percentiles(middle.batches.iter().map(|batch| thousandths(batch.took_ms)).collect()),
    })
}

/// Transfers made in each whole second; the last one, which is not whole, is left out. A batch that reaches over the
/// end of a second counts in both for its part of each: else the rate would jump by whole batches.
fn a_second(batches: &[Batched]) -> Vec<(f64, f64)> {
    let seconds = batches.iter().map(|batch| batch.ended).fold(0.0, f64::max) as usize;
    let mut sums = vec![0.0; seconds];
    for batch in batches {
        let took = (batch.took_ms / 1000.0).max(f64::MIN_POSITIVE);
        let begun = batch.ended - took;
        for (second, sum) in sums.iter_mut().enumerate().skip(begun as usize) {
            let (from, to) = (second as f64, second as f64 + 1.0);
            if from >= batch.ended {
                break;
            }
            *sum += batch.transfers as f64 * (batch.ended.min(to) - begun.max(from)) / took;
        }
    }
    (1..).map(f64::from).zip(sums.into_iter().map(f64::round)).collect()
}

/// Makes the tables anew and all the transfers; then looks whether they are there.
pub fn run(cluster: &Cluster, load: Load, interrupted: &Interrupted) -> anyhow::Result<Run> {
    let mut client = cluster.connect()?;
    set_up(&mut client, load.accounts)?;
    interrupted.check()?;

    let left = AtomicU64::new(load.transfers);
    let batches = Mutex::new(Vec::new());
    let mut connections = Vec::new();
    for _ in 0..load.clients {
        connections.push(Connection::open(cluster, load.clients > 1)?);
    }
    let begun = Instant::now();
    let serve = |mut connection: Connection| {
        let mut batch = Batch::default();
        loop {
            interrupted.check()?;
            let n = take(&left, load.batch as u64);
            if n == 0 {
                return anyhow::Ok(());
            }
            batch.fill(n as usize, load.accounts, &mut connection.random);
            let sent = Instant::now();
            connection.send(&batch)?;
            let (took_ms, ended) = (sent.elapsed().as_secs_f64() * 1000.0, begun.elapsed().as_secs_f64());
            let batched = Batched { ended, took_ms, transfers: n };
            batches.lock().unwrap_or_else(PoisonError::into_inner).push(batched);
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = connections.into_iter().map(|c| scope.spawn(|| serve(c))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("a client does not panic"))
    })?;
    let seconds = begun.elapsed().as_secs_f64();
    check(&mut client, load)?;
    Ok(Run { seconds, batches: batches.into_inner().unwrap_or_else(PoisonError::into_inner) })
}

/// Takes a batch's worth of what is left.
fn take(left: &AtomicU64, batch: u64) -> u64 {
    let rest = |left: u64| Some(left.saturating_sub(batch));
    match left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, rest) {
        Ok(before) | Err(before) => before.min(batch),
    }
}

fn set_up(client: &mut Client, accounts: u64) -> anyhow::Result<()> {
    client.batch_execute(TABLES)?;
    let open =
        "INSERT INTO accounts SELECT number, $2::bigint FROM generate_series(0, $1::bigint - 1) number";
    client.execute(open, &[&i64::try_from(accounts)?, &OPENING_BALANCE])?;
    // Each by itself: neither may stand in a transaction with another.
    client.batch_execute("VACUUM (ANALYZE) accounts")?;
    client.batch_execute("CHECKPOINT")?;
    Ok(())
}

/// What was measured is only a figure if every transfer is there, and no won was made or lost.
fn check(client: &mut Client, load: Load) -> anyhow::Result<()> {
    let rows: i64 = client.query_one("SELECT count(*) FROM transfers", &[])?.get(0);
    ensure!(rows as u64 == load.transfers, "{rows} transfers are there, not {}", load.transfers);
    let sum = "SELECT sum(balance) = $1::bigint::numeric * $2::bigint FROM accounts";
    let kept: bool = client.query_one(sum, &[&(load.accounts as i64), &OPENING_BALANCE])?.get(0);
    ensure!(kept, "the sum of all balances has changed");
    Ok(())
}

struct Connection {
    client: Client,
    transfer: Statement,
    alone: Option<Statement>,
    random: u64,
}

impl Connection {
    fn open(cluster: &Cluster, among_others: bool) -> anyhow::Result<Connection> {
        let mut client = cluster.connect()?;
        let numbers = Type::INT8_ARRAY;
        let types = [Type::UUID_ARRAY, numbers.clone(), numbers.clone(), numbers];
        let transfer = client.prepare_typed(TRANSFER, &types)?;
        let alone = among_others.then(|| client.prepare(ALONE)).transpose()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock stands before 1970")?;
        Ok(Connection { client, transfer, alone, random: now.as_nanos() as u64 | 1 })
    }

    /// Sends a batch and waits for its commit.
    fn send(&mut self, batch: &Batch) -> anyhow::Result<()> {
        let values: [&(dyn ToSql + Sync); 4] = [&batch.ids, &batch.debits, &batch.credits, &batch.amounts];
        let written = if let Some(alone) = &self.alone {
            let mut transaction = self.client.transaction()?;
            transaction.query_one(alone, &[])?;
            let written = transaction.execute(&self.transfer, &values)?;
            transaction.commit()?;
            written
        } else {
            self.client.execute(&self.transfer, &values)?
        };
        ensure!(written == batch.ids.len() as u64, "{written} of {} transfers were made", batch.ids.len());
        Ok(())
    }
}

/// A batch as the statement takes it.
#[derive(Default)]
struct Batch {
    ids: Vec<Uuid>,
    debits: Vec<i64>,
    credits: Vec<i64>,
    amounts: Vec<i64>,
}

impl Batch {
    /// The load of `pabal bench ledger`: uniform pairs of accounts, 1 to 65,536 won.
    fn fill(&mut self, n: usize, accounts: u64, random: &mut u64) {
        *self = Batch::default();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
        for _ in 0..n {
            let (a, b) = (next(random), next(random));
            let from = below(a, accounts);
            let to = below(b, accounts - 1);
            self.ids.push(Uuid::v7(now, a, b));
            self.debits.push(from as i64);
            self.credits.push((to + u64::from(to >= from)) as i64);
            self.amounts.push(1 + (a & 0xffff) as i64);
        }
    }
}

/// Ids grow with time, as the bank's do, so that the end of the index is the only part that changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Uuid([u8; 16]);

impl Uuid {
    fn v7(now_ms: u64, a: u64, b: u64) -> Uuid {
        let high = (now_ms << 16) | 0x7000 | (a >> 52);
        let low = (1 << 63) | (b >> 2);
        Uuid(((u128::from(high) << 64) | u128::from(low)).to_be_bytes())
    }
}

impl ToSql for Uuid {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::UUID
    }

    to_sql_checked!();
}

/// A fast generator for the load (xorshift, then a multiplication); nothing depends on its quality.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    state.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn below(random: u64, bound: u64) -> u64 {
    ((u128::from(random) * u128::from(bound)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::sync::Arc;

    const LOAD: Load = Load { accounts: 4, transfers: 900, batch: 200, clients: 1 };

    #[test]
    fn batches_take_all_and_no_more() {
        let left = AtomicU64::new(450);
        assert_eq!([0; 4].map(|_| take(&left, 200)), [200, 200, 50, 0]);
    }

    #[test]
    fn pairs_are_two_accounts_and_ids_are_version_7() {
        let (mut batch, mut random, mut seen) = (Batch::default(), 7, [0u32; 3]);
        batch.fill(3_000, 3, &mut random);
        for (at, (from, to)) in batch.debits.iter().zip(&batch.credits).enumerate() {
            assert!(from != to && (0..3).contains(to) && batch.amounts[at] > 0);
            seen[*from as usize] += 1;
        }
        assert!(seen.iter().all(|count| *count > 900), "uniform: {seen:?}");
        let Uuid(bytes) = Uuid::v7(0x0123_4567_89ab, u64::MAX, u64::MAX);
        assert_eq!(bytes[..9], [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0x7f, 0xff, 0xbf]);
        assert_ne!(batch.ids[0], batch.ids[1]);
    }

    #[test]
    fn a_second_is_whole() {
        let batched =
            |begun: f64, ended, transfers| Batched { ended, took_ms: (ended - begun) * 1000.0, transfers };
        let batches = [batched(0.0, 0.9, 4), batched(0.75, 1.25, 8), batched(1.25, 3.25, 80)];
        assert_eq!(a_second(&batches), [(1.0, 8.0), (2.0, 34.0), (3.0, 40.0)]);
        assert_eq!(a_second(&[batched(0.0, 0.3, 1)]), []);
    }

    /// The statement against transfers made one by one: every balance after every transfer, several legs of one account
    /// in a batch included; and what it has to refuse.
    #[test]
    fn the_statement_gives_every_balance() {
        if !Path::new(crate::need::POSTGRESQL_PROGRAMS).join("postgres").exists() {
            println!("skipped: there is no PostgreSQL 15 here; `cargo xtask bench` installs it");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let cluster = Cluster::start(folder.path()).unwrap();
        let interrupted = Interrupted(Arc::default());
        for clients in [1, 3] {
            run(&cluster, Load { clients, ..LOAD }, &interrupted).unwrap();
        }

        let mut client = cluster.connect().unwrap();
        set_up(&mut client, LOAD.accounts).unwrap();
        let mut connection = Connection::open(&cluster, false).unwrap();
        let mut balances = [OPENING_BALANCE; LOAD.accounts as usize];
        let mut batch = Batch::default();
        for _ in 0..3 {
            batch.fill(LOAD.batch, LOAD.accounts, &mut connection.random);
            connection.send(&batch).unwrap();
            for at in 0..LOAD.batch {
                let [from, to] = [batch.debits[at], batch.credits[at]].map(|account| account as usize);
                balances[from] -= batch.amounts[at];
                balances[to] += batch.amounts[at];
                let row = "SELECT debit_balance_after, credit_balance_after FROM transfers WHERE id = $1";
                let row = client.query_one(row, &[&batch.ids[at]]).unwrap();
                assert_eq!((row.get(0), row.get(1)), (balances[from], balances[to]), "transfer {at}");
            }
        }

        let all = "SELECT balance FROM accounts ORDER BY id";
        let mut stand = || client.query(all, &[]).unwrap().iter().map(|row| row.get(0)).collect::<Vec<i64>>();
        assert_eq!(stand(), balances);
        assert!(connection.send(&batch).is_err(), "the same ids again");
        batch.fill(2, LOAD.accounts, &mut connection.random);
        batch.credits[1] = LOAD.accounts as i64;
        assert!(connection.send(&batch).is_err(), "an account that is not there");
        assert_eq!(stand(), balances, "what was refused moved nothing");
        connection.client.execute("UPDATE accounts SET balance = 0 WHERE id = 1", &[]).unwrap();
        batch.fill(1, LOAD.accounts, &mut connection.random);
        (batch.debits[0], batch.credits[0]) = (1, 2);
        assert!(connection.send(&batch).is_err(), "more than there is");
    }
}
