//! Any bytes as the state that a snapshot keeps.
//!
//! Its pieces are checked and its digest is compared before anyone believes it; here it comes past both. What is let in
//! is saved as the same bytes again: no two of them are one state, and nothing is let in that is not kept.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pabal_bank::Bank;
use pabal_core::BankMachine;
use pabal_engine::Machine;
use pabal_fuzz::input::Input;
use pabal_fuzz::seeds;

fuzz_target!(init: seeds::plant("snapshots"), |data: &[u8]| {
    let mut input = Input(data);
    let machine = BankMachine(Bank::knowing(1 + u32::from(input.u8() % 3)));
    let state = input.0;
    let mut left = state;
    let loaded = machine.load(&mut |into| {
        let Some((taken, rest)) = left.split_at_checked(into.len()) else { return false };
        into.copy_from_slice(taken);
        left = rest;
        true
    });
    let Some(mut machine) = loaded else { return };
    let mut saved = Vec::new();
    machine.save(&mut |bytes| saved.extend_from_slice(bytes));
    assert!(saved == state[..state.len() - left.len()], "a state is saved as it was read");
    let again = machine.load(&mut |into| {
        let (taken, rest) = saved.split_at(into.len());
        into.copy_from_slice(taken);
        saved = rest.to_vec();
        true
    });
    assert_eq!(again.expect("it was let in").digest(), machine.digest());
});
