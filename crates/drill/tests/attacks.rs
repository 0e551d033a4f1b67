//! Directed attacks, and with them and a few seeds of the simulator every failpoint.

use pabal_drill::{attacks, sim};
use pabal_fault::Point;

const SEEDS: u64 = 60;
const TICKS: u64 = 400;

/// One test, as the counts belong to the whole process.
#[test]
fn every_attack_is_withstood_and_every_error_branch_is_taken() {
    let attacked = attacks::run(&mut |_| {});
    for attacked in attacked.iter().filter(|attacked| !attacked.is_right()) {
        println!("{}: missed {:?}, {:?}", attacked.attack.name, attacked.missed, attacked.wrong);
    }
    assert!(attacked.iter().all(attacks::Attacked::is_right), "some attacks were not withstood");

    let directed: Vec<u64> = Point::ALL.iter().map(|point| point.count()).collect();
    let found = sim::campaign(0..SEEDS, TICKS, 2, 4, &mut |_| {});
    assert!(found.failures.is_empty(), "{:#?}", found.failures);
    println!("directed  with {SEEDS} seeds");
    for (point, directed) in Point::ALL.iter().zip(&directed) {
        println!("{directed:>8} {:>8}  {}", point.count(), point.name());
    }
    let never: Vec<&str> =
        Point::ALL.iter().filter(|point| point.count() == 0).map(|point| point.name()).collect();
    assert!(never.is_empty(), "never taken: {never:#?}");
}
